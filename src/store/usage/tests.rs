use std::{collections::BTreeSet, sync::Arc};

use entity::{spend_counter, spend_rollup, usage_record};
use proptest::prelude::*;
use sea_orm::{ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter};

use super::*;
use crate::{
    domain::{Scope, SpendWindow, TenantId, Timestamp, VirtualKeyId, WindowIndex, Zone},
    store::{
        GroupKey, SpendFilter, Store, TenantScope,
        day_sums::{DaySums, Sums},
        testing::{self, record},
    },
};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

async fn write(db: &Store, records: &[UsageRecord]) {
    db.write(async |tx: &Tx| write_usage(tx, records).await).await.expect("written");
}

/// All three tables, in an order of their own.
async fn tables(db: &Store) -> (Vec<String>, BTreeSet<String>, Vec<String>) {
    let rows = usage_record::Entity::find().all(db.reader()).await.expect("rows");
    let counters = spend_counter::Entity::find().all(db.reader()).await.expect("counters");
    let mut by_day = spend_rollup::Entity::find().all(db.reader()).await.expect("sums");
    // What it stands for is compared.
    by_day.iter_mut().for_each(|row| row.series.clear());
    let mut rows: Vec<_> = rows.iter().map(|row| format!("{row:?}")).collect();
    rows.sort();
    let text = |row: &dyn std::fmt::Debug| format!("{row:?}");
    let mut by_day: Vec<_> = by_day.iter().map(|row| text(row)).collect();
    by_day.sort();
    (rows, counters.iter().map(|row| text(row)).collect(), by_day)
}

/// The sums by day as they must be, of the rows that are there.
async fn sums_of_rows(db: &Store) -> Vec<String> {
    let mut sums = BTreeMap::<_, (spend_rollup::Model, DaySums)>::new();
    for row in usage_record::Entity::find().all(db.reader()).await.expect("rows") {
        let first = Timestamp::from_millis(row.started_at).utc().format("%Y-%m-01").to_string();
        let month = at(&first).millis() / 86_400_000;
        let day = u8::try_from(row.started_at / 86_400_000 - month).expect("a day of a month");
        for (grain, key, model, tags) in [
            ("key", true, false, false),
            ("model", false, true, false),
            ("tags", false, false, true),
            ("key_model", true, true, false),
            ("all", true, true, true),
        ] {
            let of = |text: &str, known: bool| if known { text.to_owned() } else { String::new() };
            let cell = spend_rollup::Model {
                grain: grain.into(),
                month,
                series: String::new(),
                tenant_id: row.tenant_id.clone(),
                virtual_key_id: of(&row.virtual_key_id, key),
                provider: of(&row.provider, model),
                requested_model: of(&row.requested_model, model),
                served_model: of(&row.served_model, model),
                tags: of(&row.tags, tags),
                days: String::new(),
            };
            let (_, days) = sums.entry(format!("{cell:?}")).or_insert_with(|| (cell, DaySums::default()));
            let one = Sums {
                requests: 1,
                input_tokens: row.input_tokens as u64,
                output_tokens: row.output_tokens as u64,
                cost_nano_usd: row.cost_nano_usd.unwrap_or_default().into(),
            };
            days.add(day, &one);
        }
    }
    let mut sums: Vec<_> = sums
        .into_values()
        .map(|(cell, days)| format!("{:?}", spend_rollup::Model { days: days.column(), ..cell }))
        .collect();
    sums.sort();
    sums
}

#[tokio::test]
async fn a_record_counts_for_its_key_and_tenant_in_the_windows_of_its_start() {
    let db = testing::store().await;
    let (tenant, key) = (TenantId::generate(), VirtualKeyId::generate());
    let started = at("2026-11-21T23:59:59.999Z");
    write(&db, &[record(tenant, key, started, Some(NanoUsd::new(250)))]).await;
    let sum = |rows: &[SpendRow], scope| -> Vec<(SpendWindow, i64)> {
        let mut found: Vec<_> = rows
            .iter()
            .filter(|row| row.scope == scope)
            .map(|row| (row.window, row.settled.nano()))
            .collect();
        found.sort();
        found
    };
    let mut all: Vec<_> = SpendWindow::ALL.map(|window| (window, 250)).into();
    all.sort();
    let rows = db.load_spend(started).await.expect("rows");
    for scope in [Scope::VirtualKey(key), Scope::Tenant(tenant)] {
        assert_eq!(sum(&rows, scope), all);
    }
    let next_day = db.load_spend(at("2026-11-22")).await.expect("rows");
    assert!(next_day.iter().all(|row| row.window != SpendWindow::Daily));
    assert_eq!(next_day.len(), 6);
}

#[tokio::test]
async fn a_row_says_what_its_record_said() {
    let db = testing::store().await;
    let given = record(TenantId::generate(), VirtualKeyId::generate(), at("2026-11-21"), None);
    write(&db, std::slice::from_ref(&given)).await;
    let row = usage_record::Entity::find().one(db.reader()).await.expect("read").expect("a row");
    assert_eq!((row.provider.as_str(), row.served_model.as_str()), ("my-vllm", "my-vllm/org/llama"));
    assert_eq!((row.input_tokens, row.cache_read_tokens, row.output_tokens), (7, 4, 5));
    assert_eq!((row.cost_nano_usd, row.time_to_first_token_ms), (None, Some(i64::MAX)));
    assert_eq!(row.tags, r#"{"team":"a"}"#);
    assert!(db.load_spend(given.started_at).await.expect("rows").is_empty(), "no cost counts nothing");
}

#[tokio::test]
async fn more_records_than_one_statement_takes_are_written_once() {
    let db = testing::store().await;
    let tenant = TenantId::generate();
    let many: Vec<_> = (0..ROWS_AT_ONCE * 2 + 5)
        .map(|_| record(tenant, VirtualKeyId::generate(), at("2026-11-21"), Some(NanoUsd::new(1))))
        .collect();
    // Some are there before, in every statement of the second round; then all are.
    write(&db, &many.iter().step_by(3).cloned().collect::<Vec<_>>()).await;
    write(&db, &many).await;
    write(&db, &many[3..]).await;
    let rows = db.load_spend(at("2026-11-21")).await.expect("rows");
    let total = rows
        .iter()
        .find(|row| row.scope == Scope::Tenant(tenant) && row.window == SpendWindow::Total)
        .expect("a counter");
    assert_eq!(total.settled.nano(), many.len() as i64);
    let written = usage_record::Entity::find().count(db.reader()).await.expect("a count");
    assert_eq!(written, many.len() as u64);
    // A row of sums for each key, and more of them than one statement takes as well.
    assert_eq!(tables(&db).await.2, sums_of_rows(&db).await);
    let report = db.spend(TenantScope::house(), &SpendFilter::default(), &[GroupKey::Key]).await;
    let report = report.expect("a report");
    assert_eq!((report.groups.len(), report.total.requests), (many.len(), many.len() as u64));
}

#[tokio::test]
async fn a_batch_that_is_partly_there_counts_what_is_new_whatever_was_deleted_before() {
    let db = testing::store().await;
    let tenant = TenantId::generate();
    let all: Vec<_> = (0..9)
        .map(|_| record(tenant, VirtualKeyId::generate(), at("2026-11-21"), Some(NanoUsd::new(1))))
        .collect();
    write(&db, &all[..6]).await;
    // The newest rows, whose numbers SQLite gives out again.
    for gone in &all[3..6] {
        let delete = usage_record::Entity::delete_by_id(gone.request_id.to_string());
        db.write(async |tx: &Tx| {
            delete.clone().exec(tx).await?;
            Ok::<_, StoreError>(())
        })
        .await
        .expect("deleted");
    }
    write(&db, &all[1..]).await;
    let rows = db.load_spend(at("2026-11-21")).await.expect("rows");
    let total = |row: &&SpendRow| row.scope == Scope::Tenant(tenant) && row.window == SpendWindow::Total;
    // Six at first, then the three deleted ones once more and the three that never were there.
    assert_eq!(rows.iter().find(total).expect("a counter").settled.nano(), 12);
}

#[test]
fn every_number_of_rows_is_cut_into_few_statements_and_hardly_any_row_is_sent_twice() {
    for count in 1..=2 * ROWS_AT_ONCE {
        let (mut left, mut statements, mut sent) = (count, 0, 0);
        while left > 0 {
            let size = piece(left);
            assert!(size.is_power_of_two() && size <= ROWS_AT_ONCE, "{count}: {size}");
            (statements, sent, left) = (statements + 1, sent + size, left.saturating_sub(size));
        }
        assert!(statements <= 6 && (count..count + FEW_ROWS / 2).contains(&sent), "{count}: {sent}");
    }
}

#[tokio::test]
async fn a_sum_stops_at_the_largest_amount() {
    let db = testing::store().await;
    let (tenant, key) = (TenantId::generate(), VirtualKeyId::generate());
    for cost in [NanoUsd::new(5), NanoUsd::MAX, NanoUsd::new(7), NanoUsd::new(-3)] {
        write(&db, &[record(tenant, key, at("2026-11-21"), Some(cost))]).await;
    }
    let rows = db.load_spend(at("2026-11-21")).await.expect("rows");
    assert!(rows.len() == 8 && rows.iter().all(|row| row.settled == NanoUsd::MAX));
}

#[tokio::test]
async fn counts_by_day_stop_at_the_largest_number_and_costs_go_on() {
    let db = testing::store().await;
    let (tenant, key) = (TenantId::generate(), VirtualKeyId::generate());
    for _ in 0..3 {
        let mut huge = record(tenant, key, at("2026-11-21"), Some(NanoUsd::MAX));
        huge.usage.input = u64::MAX / 2;
        write(&db, &[huge]).await;
    }
    let rows = spend_rollup::Entity::find().all(db.reader()).await.expect("sums");
    assert_eq!(rows.len(), 5);
    for row in rows {
        let days = DaySums::read(&row.days).expect("days");
        let (day, sums) = days.iter().next().expect("a day");
        assert_eq!((day, sums.requests, sums.input_tokens), (20, 3, u64::MAX), "{}", row.grain);
        assert_eq!(sums.cost_nano_usd, 3 * i128::from(NanoUsd::MAX.nano()));
    }
}

#[tokio::test]
async fn two_that_write_the_same_counters_and_days_wait_for_one_another() {
    let db = testing::store().await;
    let other = db.again().await;
    let (tenant, keys) = (TenantId::generate(), [(); 8].map(|()| VirtualKeyId::generate()));
    let batch = |reversed: bool| -> Vec<UsageRecord> {
        let mut keys = keys.to_vec();
        if reversed {
            keys.reverse();
        }
        let days = ["2026-11-20", "2026-11-21", "2026-11-22"];
        keys.iter()
            .flat_map(|key| days.map(|day| record(tenant, *key, at(day), Some(NanoUsd::new(1)))))
            .collect()
    };
    for _ in 0..10 {
        let (one, two) = (batch(false), batch(true));
        tokio::join!(write(&db, &one), write(&other, &two));
    }
    let (_, _, by_day) = tables(&db).await;
    assert_eq!(by_day, sums_of_rows(&db).await);
}

#[tokio::test]
async fn a_row_of_sums_that_cannot_be_read_refuses_what_it_would_count_until_it_is_mended() {
    let db = testing::store().await;
    let (tenant, key) = (TenantId::generate(), VirtualKeyId::generate());
    let one = || record(tenant, key, at("2026-11-21"), Some(NanoUsd::new(9)));
    write(&db, &[one()]).await;
    let (_, _, sound) = tables(&db).await;
    let next = one();
    let count = async || db.write(async |tx: &Tx| write_usage(tx, std::slice::from_ref(&next)).await).await;
    db.tamper("UPDATE spend_rollup SET days = '[[20,1,' || days WHERE grain = 'key'").await;
    assert!(matches!(count().await, Err(StoreError::Corrupt { table: "spend_rollup", .. })));
    db.tamper("UPDATE spend_rollup SET days = substr(days, 8) WHERE grain = 'key'").await;
    assert_eq!(tables(&db).await.2, sound, "what was refused left nothing");
    count().await.expect("written");
    assert_eq!(tables(&db).await.2, sums_of_rows(&db).await);
}

#[tokio::test]
async fn a_batch_that_is_rolled_back_leaves_no_row_and_no_sum() {
    let db = testing::store().await;
    let given =
        [record(TenantId::generate(), VirtualKeyId::generate(), at("2026-11-21"), Some(NanoUsd::new(9)))];
    let refused: Result<(), StoreError> = db
        .write(async |tx: &Tx| {
            write_usage(tx, &given).await?;
            Err(StoreError::Conflict)
        })
        .await;
    assert!(refused.is_err());
    assert_eq!(tables(&db).await, (vec![], BTreeSet::new(), vec![]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// P-05, P-11. Records with repeats, cut anywhere, every batch written once or twice: the same tables as one batch of
    /// all, and sums by day that are those of the rows.
    #[test]
    fn p05_p11_any_cut_and_any_repeat_gives_the_same_tables(
        costs in proptest::collection::vec(
            (0usize..3, 0i64..4, proptest::option::of(0i64..3_000_000_000), 0usize..3),
            1..20,
        ),
        repeats in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        cuts in proptest::collection::vec((1usize..6, any::<bool>()), 20),
    ) {
        let tenant = TenantId::generate();
        let keys: Vec<_> = (0..3).map(|_| VirtualKeyId::generate()).collect();
        // The days before and after a month's end.
        let start = at("2026-11-29").millis();
        let mut records: Vec<_> = costs
            .iter()
            .map(|(key, days, cost, kind)| {
                let started = Timestamp::from_millis(start + days * 86_400_000);
                let mut record = record(tenant, keys[*key], started, cost.map(NanoUsd::new));
                if *kind > 0 {
                    // Longer than an entry of a Postgres index, and with what JSON and `bytea` escape.
                    Arc::make_mut(&mut record.tags).insert("note".into(), format!(r#"{kind}\x"{}"#, "é\\".repeat(1_500)));
                }
                record
            })
            .collect();
        for repeat in repeats {
            records.push(records[repeat.index(records.len())].clone());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (whole, parts, sums) = runtime.block_on(async {
            let (whole, parts) = (testing::store().await, testing::store().await);
            write(&whole, &records).await;
            let mut rest = records.as_slice();
            for (size, again) in cuts.iter().cycle() {
                let (batch, after) = rest.split_at((*size).min(rest.len()));
                write(&parts, batch).await;
                if *again {
                    write(&parts, batch).await;
                }
                if after.is_empty() {
                    break;
                }
                rest = after;
            }
            (tables(&whole).await, tables(&parts).await, sums_of_rows(&parts).await)
        });
        prop_assert_eq!(&parts.2, &sums);
        prop_assert_eq!(whole, parts);
    }
}

/// Settled spend of one scope in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct SpendRow {
    /// Whose.
    pub scope: Scope,
    /// In which kind of window.
    pub window: SpendWindow,
    /// In which day, week or month.
    pub index: WindowIndex,
    /// How much.
    pub settled: NanoUsd,
}

impl Store {
    /// Settled spend in the windows that `now` lies in; a scope or window without a row has spent nothing.
    pub(in crate::store) async fn load_spend(&self, now: Timestamp) -> Result<Vec<SpendRow>, StoreError> {
        let running = SpendWindow::ALL.into_iter().fold(Condition::any(), |any, window| {
            any.add(
                Condition::all()
                    .add(spend_counter::Column::Window.eq(window.as_str()))
                    .add(spend_counter::Column::WindowIndex.eq(window.index(now, Zone::UTC).0)),
            )
        });
        let found = spend_counter::Entity::find().filter(running).all(self.reader()).await?;
        found.iter().map(spend_row).collect()
    }
}

fn spend_row(row: &spend_counter::Model) -> Result<SpendRow, StoreError> {
    let Counter { scope, window, index } =
        rows::counter("spend_counter", &row.scope, &row.scope_id, &row.window, row.window_index)?;
    Ok(SpendRow { scope, window, index, settled: NanoUsd::new(row.settled_nano_usd) })
}
