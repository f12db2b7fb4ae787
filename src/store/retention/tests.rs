use sea_orm::PaginatorTrait;

use super::*;
use crate::{
    domain::{NanoUsd, TenantId, UsageRecord, VirtualKeyId},
    store::{
        GroupKey, Pruned, SpendError, SpendFilter, TenantScope, change_log,
        testing::{self, TestStore, record},
        usage::write_usage,
    },
};

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

async fn write(db: &TestStore, records: &[UsageRecord]) {
    db.write(async |tx: &Tx| write_usage(tx, records).await).await.expect("written");
}

async fn rows(db: &TestStore) -> u64 {
    usage_record::Entity::find().count(db.reader()).await.expect("a count")
}

async fn prune(db: &TestStore, before: &str) -> u64 {
    let mut deleted = 0;
    loop {
        match db.prune_usage(at(before)).await.expect("pruned") {
            0 => return deleted,
            some => deleted += some,
        }
    }
}

#[tokio::test]
async fn rows_of_old_days_go_and_their_sums_stay() {
    let db = testing::store().await;
    let (tenant, key) = (TenantId::generate(), VirtualKeyId::generate());
    let days = ["2026-11-18T23:59:59.999Z", "2026-11-19T00:00:00Z", "2026-11-20T12:00:00Z"];
    let many: Vec<_> = (0..PRUNED_AT_ONCE + 7)
        .flat_map(|_| days.map(|day| record(tenant, key, at(day), Some(NanoUsd::new(3)))))
        .collect();
    write(&db, &many).await;
    let each = PRUNED_AT_ONCE + 7;
    let whole = SpendFilter { to: Some(at("2026-11-21")), ..SpendFilter::default() };
    let report = async || {
        let report = db.spend(TenantScope::house(), &whole, &[GroupKey::Day]).await.expect("a report");
        format!("{:?}", report.rows().collect::<Vec<_>>())
    };
    let (before, counters) = (report().await, db.load_spend(at("2026-11-20")).await.expect("counters"));

    assert_eq!(db.prune_usage(at("2026-11-19T13:00:00Z")).await.expect("some"), PRUNED_AT_ONCE);
    assert_eq!(rows(&db).await, 3 * each - PRUNED_AT_ONCE, "a little at a time");
    assert_eq!(prune(&db, "2026-11-19T13:00:00Z").await, 7);
    assert_eq!(rows(&db).await, 2 * each, "whole days only");
    assert_eq!(prune(&db, "2026-11-20T00:00:00Z").await, each);
    assert_eq!(report().await, before);
    assert_eq!(db.load_spend(at("2026-11-20")).await.expect("counters"), counters);
}

#[tokio::test]
async fn a_report_that_would_need_deleted_rows_is_refused() {
    let db = testing::store().await;
    let started = at("2026-11-18T12:00:00Z");
    write(&db, &[record(TenantId::generate(), VirtualKeyId::generate(), started, None)]).await;
    let report = async |from: &str, to: &str| {
        let filter = SpendFilter { from: Some(at(from)), to: Some(at(to)), ..SpendFilter::default() };
        db.spend(TenantScope::house(), &filter, &[]).await.map(|spend| spend.total.requests)
    };
    assert_eq!(prune(&db, "2026-11-18T12:00:01Z").await, 0, "its day is not over");
    assert_eq!(report("2026-11-17T06:00:00Z", "2026-11-18T13:00:00Z").await.expect("nothing is gone"), 1);
    assert_eq!(prune(&db, "2026-11-20").await, 1);
    // Less is kept for a while, then more again: what is gone is gone.
    assert_eq!(prune(&db, "2026-11-10").await, 0);
    for (from, to) in [
        ("2026-11-18T06:00:00Z", "2026-11-19"),
        ("2026-11-18", "2026-11-19T06:00:00Z"),
        ("2026-11-18T06:00:00Z", "2026-11-18T07:00:00Z"),
        ("2026-11-19T23:00:00Z", "2026-11-20T01:00:00Z"),
    ] {
        let refused = report(from, to).await.expect_err("too little is left");
        let SpendError::Pruned(Pruned { before }) = refused else { panic!("{refused}") };
        assert_eq!(before, at("2026-11-20"), "{from} {to}");
    }
    assert_eq!(report("2026-11-18", "2026-11-19").await.expect("whole days"), 1);
    assert_eq!(report("2026-11-18", "2026-11-20T06:00:00Z").await.expect("a day that is there"), 1);
}

#[tokio::test]
async fn old_changes_go_but_for_the_newest() {
    let db = testing::store().await;
    let tell = async |day: &str| {
        db.write(async |tx: &Tx| change_log::append(tx, None, "price", at(day)).await).await.expect("told");
    };
    for day in ["2026-11-01", "2026-11-02", "2026-11-09", "2026-11-10"] {
        tell(day).await;
    }
    let last = db.last_change().await.expect("a number");
    assert_eq!(db.prune_changes(at("2026-11-09")).await.expect("pruned"), 2);
    assert_eq!(db.prune_changes(at("2026-12-01")).await.expect("pruned"), 1);
    assert_eq!(db.prune_changes(at("2026-12-01")).await.expect("pruned"), 0, "the newest stays");
    assert_eq!(db.last_change().await.expect("a number"), last);
    tell("2026-12-01").await;
    assert_eq!(db.changes_after(last).await.expect("changes").len(), 1);
}
