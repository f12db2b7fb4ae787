//! Trail: audit chain and what guards it, change outbox, idempotency keys.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

/// The triggers that guard the audit chain, each with its table. They stop slips and whoever has the gateway's own
/// access to the database and no more; whoever may drop a trigger is found out by the chain.
pub const AUDIT_TRIGGERS: [(&str, &str); 9] = [
    ("audit_entry", "audit_entry_is_whole"),
    ("audit_entry", "audit_entry_keeps"),
    ("audit_entry", "audit_entry_stays"),
    ("audit_head", "audit_head_is_whole"),
    ("audit_head", "audit_head_goes_on"),
    ("audit_head", "audit_head_stays"),
    ("audit_anchor", "audit_anchor_is_whole"),
    ("audit_anchor", "audit_anchor_goes_on"),
    ("audit_anchor", "audit_anchor_stays"),
];

// An insert is looked at too: SQLite's `INSERT OR REPLACE` deletes without asking the triggers on deletion.
const SQLITE_GUARD: &str = "
CREATE TRIGGER audit_entry_is_whole BEFORE INSERT ON audit_entry
WHEN EXISTS (SELECT 1 FROM audit_entry WHERE seq = NEW.seq OR id = NEW.id)
BEGIN SELECT RAISE(ABORT, 'audit entries are never replaced'); END;
CREATE TRIGGER audit_entry_keeps BEFORE UPDATE ON audit_entry
BEGIN SELECT RAISE(ABORT, 'audit entries are never changed'); END;
CREATE TRIGGER audit_entry_stays BEFORE DELETE ON audit_entry
WHEN OLD.seq > COALESCE((SELECT MAX(seq) FROM audit_anchor), 0)
BEGIN SELECT RAISE(ABORT, 'audit entries are never deleted before an anchor stands for them'); END;
CREATE TRIGGER audit_head_is_whole BEFORE INSERT ON audit_head
WHEN EXISTS (SELECT 1 FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'the audit chain has one head'); END;
CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head
WHEN NOT (NEW.id = OLD.id AND (NEW.seq = OLD.seq + 1 OR (NEW.seq = OLD.seq AND NEW.mac = OLD.mac)))
BEGIN SELECT RAISE(ABORT, 'the head of the audit chain goes on by one entry at a time'); END;
CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the head of the audit chain stays'); END;
CREATE TRIGGER audit_anchor_is_whole BEFORE INSERT ON audit_anchor
WHEN EXISTS (SELECT 1 FROM audit_anchor)
BEGIN SELECT RAISE(ABORT, 'the audit chain has one anchor'); END;
CREATE TRIGGER audit_anchor_goes_on BEFORE UPDATE ON audit_anchor
WHEN NOT (NEW.id = OLD.id AND NEW.seq > OLD.seq)
BEGIN SELECT RAISE(ABORT, 'the anchor of the audit chain only goes on'); END;
CREATE TRIGGER audit_anchor_stays BEFORE DELETE ON audit_anchor
BEGIN SELECT RAISE(ABORT, 'the anchor of the audit chain stays'); END;
";

// Here a second head or anchor fails by its primary key alone, and emptying a table asks triggers of its own.
const POSTGRES_GUARD: &str = "
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION '%', TG_ARGV[0] USING ERRCODE = 'restrict_violation'; END $$;
CREATE FUNCTION audit_entry_delete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq > COALESCE((SELECT max(seq) FROM audit_anchor), 0) THEN
        RAISE EXCEPTION 'audit entries are never deleted before an anchor stands for them'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_entry_is_whole BEFORE TRUNCATE ON audit_entry FOR EACH STATEMENT
    EXECUTE FUNCTION audit_refuse('audit entries are never deleted all at once');
CREATE TRIGGER audit_entry_keeps BEFORE UPDATE ON audit_entry FOR EACH ROW
    EXECUTE FUNCTION audit_refuse('audit entries are never changed');
CREATE TRIGGER audit_entry_stays BEFORE DELETE ON audit_entry FOR EACH ROW
    EXECUTE FUNCTION audit_entry_delete();
CREATE TRIGGER audit_head_is_whole BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT
    EXECUTE FUNCTION audit_refuse('the head of the audit chain stays');
CREATE TRIGGER audit_head_goes_on BEFORE UPDATE ON audit_head FOR EACH ROW
    WHEN (NOT (NEW.id = OLD.id AND (NEW.seq = OLD.seq + 1 OR (NEW.seq = OLD.seq AND NEW.mac = OLD.mac))))
    EXECUTE FUNCTION audit_refuse('the head of the audit chain goes on by one entry at a time');
CREATE TRIGGER audit_head_stays BEFORE DELETE ON audit_head FOR EACH ROW
    EXECUTE FUNCTION audit_refuse('the head of the audit chain stays');
CREATE TRIGGER audit_anchor_is_whole BEFORE TRUNCATE ON audit_anchor FOR EACH STATEMENT
    EXECUTE FUNCTION audit_refuse('the anchor of the audit chain stays');
CREATE TRIGGER audit_anchor_goes_on BEFORE UPDATE ON audit_anchor FOR EACH ROW
    WHEN (NOT (NEW.id = OLD.id AND NEW.seq > OLD.seq))
    EXECUTE FUNCTION audit_refuse('the anchor of the audit chain only goes on');
CREATE TRIGGER audit_anchor_stays BEFORE DELETE ON audit_anchor FOR EACH ROW
    EXECUTE FUNCTION audit_refuse('the anchor of the audit chain stays');
";

/// What entries are filtered by and then read in the order of their numbers. An outcome is not among them: nearly all
/// entries have the same.
const FILTERED: [&str; 5] = ["tenant_id", "category", "action", "actor", "object"];

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000004_audit_and_changes"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .create_table(
                Table::create()
                    .table("audit_entry")
                    .col(big_integer("seq").primary_key())
                    .col(string("id"))
                    .col(big_integer("at"))
                    .col(string("actor"))
                    .col(string_null("tenant_id"))
                    .col(string("category"))
                    .col(string("action"))
                    .col(string_null("object"))
                    .col(string("outcome"))
                    .col(string_null("request_id"))
                    .col(text("canonical"))
                    .col(string("mac"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("uniq_audit_entry_id")
                    .table("audit_entry")
                    .col("id")
                    .unique()
                    .to_owned(),
            )
            .await?;
        for column in FILTERED {
            let name = format!("idx_audit_entry_{column}");
            let index = Index::create().name(name).table("audit_entry").col(column).col("seq").to_owned();
            manager.create_index(index).await?;
        }
        manager
            .create_index(
                Index::create().name("idx_audit_entry_at").table("audit_entry").col("at").to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("audit_head")
                    .col(integer("id").primary_key())
                    .col(big_integer("seq"))
                    .col(string("mac"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("audit_anchor")
                    .col(integer("id").primary_key())
                    .col(big_integer("seq"))
                    .col(string("mac"))
                    .col(big_integer("at"))
                    .col(string("seal"))
                    .to_owned(),
            )
            .await?;
        let guard = match manager.get_database_backend() {
            DbBackend::Postgres => POSTGRES_GUARD,
            _ => SQLITE_GUARD,
        };
        manager.get_connection().execute_unprepared(guard).await?;
        manager
            .create_table(
                Table::create()
                    .table("change_log")
                    .col(big_integer("seq").auto_increment().primary_key())
                    .col(string_null("tenant_id"))
                    .col(string("subject"))
                    .col(big_integer("at"))
                    .to_owned(),
            )
            .await?;
        manager
            .create_table(
                Table::create()
                    .table("idempotency_key")
                    .col(string("actor"))
                    .col(string("key"))
                    .col(string("request_digest"))
                    .col(string("object_id"))
                    .col(big_integer("created_at"))
                    .primary_key(Index::create().col("actor").col("key"))
                    .to_owned(),
            )
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Their triggers go with them.
        for table in ["idempotency_key", "change_log", "audit_anchor", "audit_head", "audit_entry"] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        if manager.get_database_backend() == DbBackend::Postgres {
            let functions = "DROP FUNCTION audit_refuse(); DROP FUNCTION audit_entry_delete()";
            manager.get_connection().execute_unprepared(functions).await?;
        }
        Ok(())
    }
}
