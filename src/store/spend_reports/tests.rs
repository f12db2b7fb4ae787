use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;

use super::*;
use crate::{
    domain::{ModelName, ModelRef, NanoUsd, TenantId, UsageRecord, VirtualKeyId},
    store::{
        Sums,
        testing::{self, TestStore, record},
        usage::write_usage,
    },
};

const HOUR: i64 = 3_600_000;
/// Two days before a November.
const START: &str = "2026-10-30";

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("a time")
}

fn span(from: &str, to: &str) -> SpendFilter {
    SpendFilter { from: Some(at(from)), to: Some(at(to)), ..SpendFilter::default() }
}

async fn write(db: &TestStore, records: &[UsageRecord]) {
    db.write(async |tx: &Tx| write_usage(tx, records).await).await.expect("written");
}

#[test]
fn whole_days_come_from_the_sums_and_the_rest_from_the_rows() {
    let day = |text: &str| at(text).millis() / DAY_MILLIS;
    let millis = |text: &str| at(text).millis();
    let both = |from: &str, to: &str| {
        let within = Part::of(&span(from, to), CutDay::Within);
        assert!(!within.iter().any(|part| matches!(part, Part::Take(..))), "{from} {to}");
        (Part::of(&span(from, to), CutDay::Shorter), within)
    };
    let days = |first, end| Part::Days(Some(day(first)), Some(day(end)));
    assert_eq!(Part::of(&SpendFilter::default(), CutDay::Shorter), [Part::Days(None, None)]);
    assert_eq!(
        both("2026-11-20", "2026-11-23"),
        (vec![days("2026-11-20", "2026-11-23")], vec![days("2026-11-20", "2026-11-23")])
    );
    // Half of either day or more is left out.
    let (from, to) = ("2026-11-19T12:00:00Z", "2026-11-23T12:00:00Z");
    let parts = vec![
        days("2026-11-20", "2026-11-23"),
        Part::Add(millis(from), millis("2026-11-20")),
        Part::Add(millis("2026-11-23"), millis(to)),
    ];
    assert_eq!(both(from, to), (parts.clone(), parts));
    // Less than half is.
    for (from, to) in [
        ("2026-11-19T11:59:59.999Z", "2026-11-23T12:00:00.001Z"),
        ("2026-11-19T00:00:00.001Z", "2026-11-23T23:59:59.999Z"),
    ] {
        let shorter = vec![
            days("2026-11-19", "2026-11-24"),
            Part::Take(millis("2026-11-19"), millis(from)),
            Part::Take(millis(to), millis("2026-11-24")),
        ];
        let within = vec![
            days("2026-11-20", "2026-11-23"),
            Part::Add(millis(from), millis("2026-11-20")),
            Part::Add(millis("2026-11-23"), millis(to)),
        ];
        assert_eq!(both(from, to), (shorter, within));
    }
    // No whole day lies between, or most of the one that does is left out.
    for (from, to) in [
        ("2026-11-20T08:00:00Z", "2026-11-20T13:00:00Z"),
        ("2026-11-20T08:00:00Z", "2026-11-20T09:00:00Z"),
        ("2026-11-20T13:00:00Z", "2026-11-20T14:00:00Z"),
        ("2026-11-20T00:00:00Z", "2026-11-20T07:00:00Z"),
        ("2026-11-20T13:00:00Z", "2026-11-21T00:00:00Z"),
        ("2026-11-20T13:00:00Z", "2026-11-21T11:00:00Z"),
    ] {
        let rows = vec![Part::Add(millis(from), millis(to))];
        assert_eq!(both(from, to), (rows.clone(), rows), "{from} {to}");
    }
    let (from, to) = ("2026-11-20T05:00:00Z", "2026-11-20T18:00:00Z");
    let shorter = vec![
        days("2026-11-20", "2026-11-21"),
        Part::Take(millis("2026-11-20"), millis(from)),
        Part::Take(millis(to), millis("2026-11-21")),
    ];
    assert_eq!(both(from, to), (shorter, vec![Part::Add(millis(from), millis(to))]));
    for same in ["2026-11-20", "2026-11-20T08:00:00Z", "2026-11-20T12:00:00Z"] {
        assert_eq!(both(same, same), (vec![], vec![]), "{same}");
    }
}

#[tokio::test]
async fn a_month_is_read_when_one_of_its_days_is_asked_for_and_has_sums() {
    let db = testing::store().await;
    let day = |text: &str| at(text).millis() / DAY_MILLIS;
    // A request whose clock was wrong makes no months between.
    for started in ["1970-01-20", "2026-10-31", "2026-11-01", "2026-12-05"] {
        write(&db, &[record(TenantId::generate(), VirtualKeyId::generate(), at(started), None)]).await;
    }
    let moment = db.snapshot().await.expect("a snapshot");
    for (from, to, wanted) in [
        (Some("2026-10-01"), Some("2026-11-01"), vec!["2026-10-01"]),
        (Some("2026-10-31"), Some("2026-11-02"), vec!["2026-10-01", "2026-11-01"]),
        (Some("2026-12-31"), None, vec!["2026-12-01"]),
        (None, Some("2026-10-01"), vec!["1970-01-01"]),
        (None, None, vec!["1970-01-01", "2026-10-01", "2026-11-01", "2026-12-01"]),
        (Some("2026-02-01"), Some("2026-09-01"), vec![]),
        (Some("2027-02-01"), None, vec![]),
    ] {
        let found = months(&moment, from.map(day), to.map(day)).await.expect("months");
        assert_eq!(found, wanted.into_iter().map(day).collect::<Vec<_>>(), "{from:?} {to:?}");
    }
}

/// What a report must say, by adding up records one by one.
fn naive(
    records: &[UsageRecord],
    scope: TenantScope,
    filter: &SpendFilter,
    keys: &[GroupKey],
) -> (BTreeMap<Vec<Option<String>>, Sums>, Sums) {
    let mut groups = BTreeMap::<_, Sums>::new();
    let mut total = Sums::default();
    if keys.is_empty() {
        groups.insert(vec![], Sums::default());
    }
    for record in records {
        let model = |model: &String| {
            [record.served_model.to_string(), record.requested_model.to_string()].contains(model)
        };
        let wanted = scope.covers(record.tenant_id)
            && filter.from.is_none_or(|from| from <= record.started_at)
            && filter.to.is_none_or(|to| record.started_at < to)
            && filter.virtual_key.is_none_or(|key| key == record.virtual_key_id)
            && filter.model.as_ref().is_none_or(model)
            && filter.provider.as_ref().is_none_or(|one| *one == record.served_model.provider.to_string());
        if !wanted {
            continue;
        }
        let values = keys.iter().map(|key| match key {
            GroupKey::Tenant => Some(record.tenant_id.to_string()),
            GroupKey::Key => Some(record.virtual_key_id.to_string()),
            GroupKey::Provider => Some(record.served_model.provider.to_string()),
            GroupKey::Model => Some(record.served_model.to_string()),
            GroupKey::Day => Some(record.started_at.to_string()[..10].to_owned()),
            GroupKey::Tag(name) => record.tags.get(name).cloned(),
        });
        let sums = Sums {
            requests: 1,
            input_tokens: record.usage.input_total(),
            output_tokens: record.usage.output_total(),
            cost_nano_usd: i128::from(record.cost.unwrap_or_default().nano()),
        };
        groups.entry(values.collect()).or_default().add(&sums);
        total.add(&sums);
    }
    (groups, total)
}

fn keys() -> impl Strategy<Value = Vec<GroupKey>> {
    let all = vec![
        GroupKey::Tenant,
        GroupKey::Key,
        GroupKey::Provider,
        GroupKey::Model,
        GroupKey::Day,
        GroupKey::Tag("team".into()),
        GroupKey::Tag("run".into()),
        GroupKey::Tag("cost.center-1".into()),
        GroupKey::Tag("it's \"none\"".into()),
    ];
    proptest::sample::subsequence(all, 0..=7).prop_shuffle()
}

/// Milliseconds within ten weeks from [`START`], often within the first four days, often on the bound of a day or of a
/// month or beside it.
fn moments() -> impl Strategy<Value = i64> {
    let hours = prop_oneof![
        0i64..96,
        (0i64..5).prop_map(|day| day * 24),
        (0i64..70).prop_map(|day| day * 24),
        proptest::sample::select(vec![2 * 24, 32 * 24, 63 * 24]),
        0i64..70 * 24,
    ];
    (hours, -1i64..=1).prop_map(|(hours, millis)| hours * HOUR + millis)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Random requests; then random bounds, filters and groupings, each compared with what the requests add up to.
    #[test]
    fn a_report_says_what_the_requests_add_up_to(
        requests in proptest::collection::vec(
            (0usize..4, moments(), 0usize..6, proptest::option::of(0i64..5_000_000_000), 0u8..4),
            1..60,
        ),
        asked in proptest::collection::vec(
            (
                keys(),
                (proptest::option::of(moments()), proptest::option::of(moments())),
                (proptest::option::of(0usize..2), proptest::option::of(0usize..4)),
                (proptest::option::of(0usize..4), proptest::option::of(0usize..2)),
            ),
            40,
        ),
    ) {
        let tenants = [TenantId::generate(), TenantId::generate()];
        let virtual_keys: Vec<_> = (0..4).map(|_| VirtualKeyId::generate()).collect();
        let served = ["openai/a", "openai/b", "groq/a", "groq/b", "groq/org/c", "xai/d"];
        let models = ["smart", "openai/a", "groq/b", "none/x"];
        let start = at(START).millis();
        let moment = |millis: i64| Timestamp::from_millis(start + millis);
        let records: Vec<_> = requests
            .iter()
            .map(|(key, millis, model, cost, tags)| {
                let cost = cost.map(NanoUsd::new);
                let mut record = record(tenants[key % 2], virtual_keys[*key], moment(*millis), cost);
                record.served_model = ModelRef::parse(served[*model]).expect("a model");
                if model % 2 == 0 {
                    record.requested_model = ModelName::parse(served[*model]).expect("a name");
                }
                match tags {
                    0 => record.tags = Arc::default(),
                    1 => {
                        Arc::make_mut(&mut record.tags).insert("run".into(), (millis / HOUR).to_string());
                        Arc::make_mut(&mut record.tags).insert("cost.center-1".into(), "a\u{e9}'".into());
                    }
                    2 => drop(Arc::make_mut(&mut record.tags).insert("team".into(), r#"b "\"#.into())),
                    _ => {}
                }
                record
            })
            .collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let db = testing::store().await;
            for batch in records.chunks(7) {
                write(&db, batch).await;
            }
            for (keys, (from, to), (tenant, key), (model, provider)) in asked {
                let scope = tenant.map_or(TenantScope::house(), |tenant| TenantScope::only(tenants[tenant]));
                let filter = SpendFilter {
                    from: from.map(moment),
                    to: to.map(moment),
                    virtual_key: key.map(|key| virtual_keys[key]),
                    model: model.map(|model| models[model].to_owned()),
                    provider: provider.map(|provider| ["groq", "openai"][provider].to_owned()),
                };
                let report = db.spend(scope, &filter, &keys).await.expect("a report");
                let (wanted, total) = naive(&records, scope, &filter, &keys);
                prop_assert_eq!(report.total, total, "{:?} {:?}", filter, keys);
                let wanted: Vec<_> = wanted
                    .iter()
                    .map(|(values, sums)| (values.iter().map(Option::as_deref).collect(), sums))
                    .collect();
                prop_assert_eq!(report.rows().collect::<Vec<_>>(), wanted, "{:?} {:?}", filter, keys);
            }
            Ok(())
        })?;
    }
}
