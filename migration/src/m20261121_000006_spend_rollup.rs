//! Sums by UTC day and month beside the usage rows, and how far those rows were pruned.

use sea_orm_migration::{prelude::*, schema::*, sea_orm::DbBackend};

pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        "m20261121_000006_spend_rollup"
    }
}

const TABLE: &str = "spend_rollup";
const DAY_MILLIS: i64 = 86_400_000;

/// What tells two rows apart.
const KEY: [&str; 8] =
    ["grain", "day", "tenant_id", "virtual_key_id", "provider", "requested_model", "served_model", "tags"];

const KEY_MODEL: &[&str] = &["virtual_key_id", "provider", "requested_model", "served_model"];
const ALL: &[&str] = &["virtual_key_id", "provider", "requested_model", "served_model", "tags"];

/// Each grain with the columns that it looks at, besides tenant and day.
const BY_DAY: [(&str, &[&str]); 5] = [
    ("key", &["virtual_key_id"]),
    ("model", &["provider", "requested_model", "served_model"]),
    ("tags", &["tags"]),
    ("key_model", KEY_MODEL),
    ("all", ALL),
];
/// Each grain with the columns that it looks at, besides tenant and month.
const BY_MONTH: [(&str, &[&str]); 2] = [("key_model_month", KEY_MODEL), ("all_month", ALL)];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        let mut table = Table::create()
            .table(TABLE)
            .col(string("grain"))
            .col(big_integer("day"))
            .col(string("tenant_id"))
            .col(string("virtual_key_id"))
            .col(string("provider"))
            .col(string("requested_model"))
            .col(string("served_model"))
            .col(text("tags"))
            .col(big_integer("requests"))
            .col(big_integer("input_tokens"))
            .col(big_integer("output_tokens"))
            .col(big_integer("cost_usd"))
            .col(big_integer("cost_nano_usd"))
            .to_owned();
        if manager.get_database_backend() == DbBackend::Postgres {
            manager.create_table(table).await?;
            // An entry of a Postgres index has at most 2 704 bytes, and tags may have more: a digest stands for them. The
            // cast reads backslashes as escapes, so they are doubled.
            db.execute_unprepared(
                r"CREATE UNIQUE INDEX uniq_spend_rollup ON spend_rollup (grain, day, tenant_id, virtual_key_id, provider,
                    requested_model, served_model, sha256(replace(tags, '\', '\\')::bytea))",
            )
            .await?;
            for column in ["tenant_id", "virtual_key_id"] {
                let index = Index::create()
                    .name(format!("idx_spend_rollup_{column}_grain_day"))
                    .table(TABLE)
                    .col(column)
                    .col("grain")
                    .col("day")
                    .to_owned();
                manager.create_index(index).await?;
            }
        } else {
            let mut key = Index::create();
            for column in KEY {
                key.col(column);
            }
            // The key is nearly all of a row: kept once and in its order, the table has less than half the size, and an
            // addition finds one place and not four. Reports of one tenant or key find theirs by the key as well.
            manager.create_table(table.primary_key(&mut key).extra("WITHOUT ROWID").to_owned()).await?;
        }
        manager
            .create_table(
                Table::create()
                    .table("usage_pruned")
                    .col(integer("id").primary_key())
                    .col(big_integer("before"))
                    .to_owned(),
            )
            .await?;
        let day = format!("started_at / {DAY_MILLIS}");
        let month = match manager.get_database_backend() {
            DbBackend::Postgres => {
                "CAST(CAST(date_trunc('month', to_timestamp(started_at / 1000) AT TIME ZONE 'UTC') AS DATE)
                    - DATE '1970-01-01' AS BIGINT)"
            }
            _ => "unixepoch(started_at / 1000, 'unixepoch', 'start of month') / 86400",
        };
        for (grain, looks_at) in BY_DAY {
            db.execute_unprepared(&fill(grain, &day, looks_at)).await?;
        }
        for (grain, looks_at) in BY_MONTH {
            db.execute_unprepared(&fill(grain, month, looks_at)).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["usage_pruned", TABLE] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Fills one grain from the usage rows that are there.
fn fill(grain: &str, day: &str, looks_at: &[&str]) -> String {
    let values: Vec<String> = KEY[2..]
        .iter()
        .map(|column| match *column {
            "tenant_id" => "tenant_id".to_owned(),
            column if looks_at.contains(&column) => column.to_owned(),
            _ => "''".to_owned(),
        })
        .collect();
    format!(
        "INSERT INTO {TABLE} ({key}, requests, input_tokens, output_tokens, cost_usd, cost_nano_usd)
        SELECT '{grain}', {day}, {values}, COUNT(*), {input}, {output},
            CAST(SUM(COALESCE(cost_nano_usd, 0) / 1000000000) AS BIGINT),
            CAST(SUM(COALESCE(cost_nano_usd, 0) % 1000000000) AS BIGINT)
        FROM usage_record GROUP BY {day}, tenant_id, {looks_at}",
        key = KEY.join(", "),
        values = values.join(", "),
        input = saturated("input_tokens"),
        output = saturated("output_tokens"),
        looks_at = looks_at.join(", "),
    )
}

/// A sum that stops where it would not fit; taken in two halves, each of which fits.
fn saturated(column: &str) -> String {
    let (high, low) = (format!("SUM({column} / 1000000000)"), format!("SUM({column} % 1000000000)"));
    format!(
        "CASE WHEN {high} + {low} / 1000000000 >= 9223372036 THEN {max}
            ELSE CAST({high} * 1000000000 + {low} AS BIGINT) END",
        max = i64::MAX,
    )
}
