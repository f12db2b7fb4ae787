//! What dead instances still hold: spend that may have happened and that no row of the database says.
//!
//! A dead instance's lease counts as spent until its journal is read again or an operator releases it. Here it is only
//! summed up, whatever window it is on; who counts as dead is said by whoever asks.

use std::{collections::BTreeMap, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

use super::{
    Store, StoreError, TenantScope,
    counters::{millis, now},
    instances::{SUMS, read_sum},
};
use crate::domain::{InstanceId, NanoUsd, Scope, VirtualKeyId};

/// Scopes in one statement; a page is never longer.
const SCOPES_AT_ONCE: usize = 1_000;

/// Which instances count as dead. Those that stopped in good order hold nothing and are never meant.
#[derive(Clone, Copy, Debug)]
pub struct Dead {
    /// Silent for longer than that; `None`: however lately they were heard of, because nobody else can live on this
    /// database.
    pub silent_for: Option<Duration>,
    /// Never this one, which is known to live though it need not say so.
    pub except: Option<InstanceId>,
}

impl Dead {
    /// As a condition on `"i"`, with its values, which come before all others.
    fn condition(self, backend: DbBackend) -> (String, Vec<Value>) {
        let mut text = r#""i"."stopped_at" IS NULL"#.to_owned();
        if let Some(silent) = self.silent_for {
            text.push_str(&format!(
                r#" AND "i"."heartbeat_at" < {now} - {silent}"#,
                now = now(backend),
                silent = millis(silent)
            ));
        }
        let Some(except) = self.except else { return (text, vec![]) };
        text.push_str(r#" AND "i"."id" <> $1"#);
        (text, vec![except.to_string().into()])
    }
}

impl Store {
    /// What `dead` instances hold of each of `scopes`, all windows together; a scope of which they hold nothing is not
    /// in the answer. One query for up to 1 000 scopes.
    pub async fn unreconciled_of(
        &self,
        dead: Dead,
        scopes: impl IntoIterator<Item = Scope>,
    ) -> Result<BTreeMap<Scope, NanoUsd>, StoreError> {
        let db = self.reader();
        let backend = db.get_database_backend();
        let by_text: BTreeMap<String, Scope> =
            scopes.into_iter().map(|scope| (scope.to_string(), scope)).collect();
        let mut found = BTreeMap::new();
        let all: Vec<&String> = by_text.keys().collect();
        for chunk in all.chunks(SCOPES_AT_ONCE) {
            let (condition, mut values) = dead.condition(backend);
            let first = values.len() + 1;
            let places: Vec<String> = (first..first + chunk.len()).map(|place| format!("${place}")).collect();
            values.extend(chunk.iter().map(|text| Value::from(text.as_str())));
            let sql = format!(
                r#"SELECT "l"."scope_id", {SUMS} FROM "lease" AS "l"
                JOIN "instance" AS "i" ON "i"."id" = "l"."instance_id"
                WHERE {condition} AND "l"."scope_id" IN ({places}) GROUP BY "l"."scope_id""#,
                places = places.join(","),
            );
            for row in db.query_all_raw(Statement::from_sql_and_values(backend, sql, values)).await? {
                // An id says by its prefix what kind of scope it is.
                if let Some(&scope) = by_text.get(&row.try_get_by_index::<String>(0)?) {
                    found.insert(scope, read_sum(&row, 1)?);
                }
            }
        }
        Ok(found)
    }

    /// What `dead` instances hold of the virtual keys in `scope`, or of one of them, all windows together. What they
    /// hold of tenants and budgets is not added: the same request is set aside in all of them, and its dollars would
    /// count several times.
    pub async fn unreconciled_of_keys(
        &self,
        dead: Dead,
        scope: TenantScope,
        key: Option<VirtualKeyId>,
    ) -> Result<NanoUsd, StoreError> {
        let db = self.reader();
        let backend = db.get_database_backend();
        let (condition, mut values) = dead.condition(backend);
        let mut also = String::new();
        if let Some(key) = key {
            values.push(key.to_string().into());
            also.push_str(&format!(r#" AND "l"."scope_id" = ${}"#, values.len()));
        }
        if let Some(tenant) = scope.column() {
            values.push(tenant.into());
            also.push_str(&format!(
                r#" AND "l"."scope_id" IN (SELECT "id" FROM "virtual_key" WHERE "tenant_id" = ${})"#,
                values.len()
            ));
        }
        let sql = format!(
            r#"SELECT {SUMS} FROM "lease" AS "l" JOIN "instance" AS "i" ON "i"."id" = "l"."instance_id"
            WHERE {condition} AND "l"."scope" = 'virtual_key'{also}"#
        );
        let row = db.query_one_raw(Statement::from_sql_and_values(backend, sql, values)).await?;
        row.map_or(Ok(NanoUsd::ZERO), |row| read_sum(&row, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Counter, SpendWindow, TenantId, Timestamp, Zone},
        store::{
            Claim, LeaseAsk,
            testing::{self, a_run},
        },
    };

    fn counter(scope: impl Into<Scope>, window: SpendWindow) -> Counter {
        let at = Timestamp::parse("2026-11-21T12:00:00Z").expect("a time");
        Counter { scope: scope.into(), window, index: window.index(at, Zone::UTC) }
    }

    #[tokio::test]
    async fn what_the_dead_hold_is_summed_by_scope_over_all_windows_and_what_the_living_hold_is_not() {
        let db = testing::store().await;
        let (dead, living) = (InstanceId::generate(), InstanceId::generate());
        let (key, other, tenant) = (VirtualKeyId::generate(), VirtualKeyId::generate(), TenantId::generate());
        let asks = [
            (counter(key, SpendWindow::Total), 5),
            (counter(key, SpendWindow::Daily), 7),
            (counter(tenant, SpendWindow::Total), 11),
        ];
        for instance in [dead, living] {
            let holder =
                db.instance_register(instance, a_run(), Claim::Sole).await.expect("registered").holder;
            for (counter, amount) in asks {
                let wish = move |_: &_| (NanoUsd::new(amount), NanoUsd::new(amount));
                let ask = LeaseAsk { counter, cap: NanoUsd::new(1_000), wish: &wish };
                db.leases_take(holder, &[ask]).await.expect("taken");
            }
        }
        let meant = Dead { silent_for: None, except: Some(living) };
        let scopes = [Scope::from(key), other.into(), tenant.into()];
        let found = db.unreconciled_of(meant, scopes).await.expect("sums");
        let wanted = [(key.into(), NanoUsd::new(12)), (tenant.into(), NanoUsd::new(11))];
        assert_eq!(found, BTreeMap::from(wanted));
        assert_eq!(db.unreconciled_of(meant, []).await.expect("sums"), BTreeMap::new());

        let of_keys =
            async |dead, scope, key| db.unreconciled_of_keys(dead, scope, key).await.expect("a sum");
        let house = TenantScope::house();
        assert_eq!(of_keys(meant, house, None).await, NanoUsd::new(12), "a dollar counts once");
        assert_eq!(of_keys(meant, house, Some(key)).await, NanoUsd::new(12));
        assert_eq!(of_keys(meant, house, Some(other)).await, NanoUsd::ZERO);
        assert_eq!(of_keys(meant, TenantScope::only(tenant), None).await, NanoUsd::ZERO, "not its key");
        let hour = Dead { silent_for: Some(Duration::from_secs(3_600)), except: None };
        assert_eq!(of_keys(hour, house, None).await, NanoUsd::ZERO, "both were heard of");
    }
}
