use proptest::prelude::*;
use sea_orm::DbBackend;

use super::*;

fn a_pair() -> (Scope, Scope) {
    (VirtualKeyId::generate().into(), TenantId::generate().into())
}

async fn row(db: &Store, charge: &Charge) -> usage_record::Model {
    let id = charge.record.request_id.to_string();
    usage_record::Entity::find_by_id(id).one(db.reader()).await.expect("read").expect("a row")
}

#[tokio::test]
async fn p01_a_settled_request_moves_from_leased_to_settled() {
    let db = testing::store().await;
    let (one, other) = (join(&db).await, join(&db).await);
    let (key, tenant) = a_pair();
    taken(&db, one, total(key), 100, (1, 50)).await;
    taken(&db, other, total(key), 100, (1, 50)).await;
    let charges = [charge(&[key, tenant], 20, &[(key, 100)]), charge(&[key, tenant], 5, &[(key, 100)])];
    let states = db.apply(one, &charges, 1).await.expect("applied");
    assert_eq!(states.len(), 8, "every window of both");
    assert!(states.is_sorted_by_key(|state| state.counter));
    let state = states.iter().find(|state| state.counter == total(key)).expect("it");
    assert_eq!((state.settled, state.leased, state.granted), (usd(25), usd(75), usd(25)));
    assert_eq!(numbers(&db, one, total(key)).await, (25, 75, 25));
    assert_eq!(numbers(&db, one, total(tenant)).await, (25, 0, 0));
    assert_eq!(row(&db, &charges[0]).await.outcome, "ok");
}

#[tokio::test]
async fn a_batch_that_fits_costs_few_statements() {
    let db = testing::store().await;
    let one = join(&db).await;
    let (key, tenant) = a_pair();
    for scope in [key, tenant] {
        taken(&db, one, total(scope), 100, (1, 100)).await;
    }
    let charges: Vec<_> = (0..20).map(|_| charge(&[key, tenant], 2, &[(key, 100), (tenant, 100)])).collect();
    let mut again = charges.clone();
    again.iter_mut().for_each(|charge| charge.record.request_id = RequestId::generate());
    // The fence, the rows, what is leased, the counters, the leases; then the sums by day, which are read and written
    // back. Postgres, which can only lock rows that are there, looks for them first, and makes those that are not.
    let (new, old) = if db.reader().get_database_backend() == DbBackend::Postgres { (4, 3) } else { (2, 2) };
    for (charges, sums) in [(charges, new), (again, old)] {
        let before = db.statements().writes;
        db.apply(one, &charges, 1).await.expect("applied");
        assert_eq!(db.statements().writes - before, 5 + sums);
    }
}

#[tokio::test]
async fn p05_a_batch_whose_commit_was_in_doubt_is_applied_again_and_changes_nothing() {
    let db = testing::store().await;
    let one = join(&db).await;
    let (key, tenant) = a_pair();
    taken(&db, one, total(key), 100, (1, 60)).await;
    // The second does not fit, the third costs nothing.
    let charges: Vec<_> = [50, 80, 0].map(|cost| charge(&[key, tenant], cost, &[(key, 100)])).into();
    let states = db.apply(one, &charges, 3).await.expect("applied");
    let tables = dump(&db, &[key, tenant]).await;
    for _ in 0..2 {
        assert_eq!(db.apply(one, &charges, 3).await.expect("applied"), states);
        assert_eq!(dump(&db, &[key, tenant]).await, tables);
    }
    // From another instance that read the same journal, too.
    let other = join(&db).await;
    db.apply(other, &charges, 3).await.expect("applied");
    assert_eq!(numbers(&db, one, total(key)).await, (100, 0, 0));
}

#[tokio::test]
async fn p22_what_comes_after_its_lease_was_released_takes_only_what_is_free() {
    let db = testing::store().await;
    let (away, other) = (join(&db).await, join(&db).await);
    let (key, tenant) = a_pair();
    taken(&db, away, total(key), 100, (1, 60)).await;
    release(&db, away.instance, Duration::ZERO).await;
    taken(&db, other, total(key), 100, (1, 70)).await;
    let away = db.instance_register(away.instance, a_run(), Claim::Sole).await.expect("registered").holder;
    let late: Vec<_> = [20, 20, 20].map(|cost| charge(&[key, tenant], cost, &[(key, 100)])).into();
    db.apply(away, &late, 3).await.expect("applied");
    assert_eq!(numbers(&db, other, total(key)).await, (30, 70, 70));
    assert_eq!(numbers(&db, other, total(tenant)).await, (30, 0, 0), "every counter sums the rows");
    let mut found = vec![];
    for charge in &late {
        let row = row(&db, charge).await;
        found.push((row.cost_nano_usd, row.clamped_nano_usd, row.outcome));
    }
    let expected = [(Some(20), 0, "ok"), (Some(10), 10, "recovered"), (Some(0), 20, "recovered")];
    assert_eq!(found, expected.map(|(cost, clamped, outcome)| (cost, clamped, outcome.to_owned())));
}

#[tokio::test]
async fn what_has_no_hard_cap_is_settled_in_full() {
    let db = testing::store().await;
    let one = join(&db).await;
    let (key, tenant) = a_pair();
    let elsewhere = Scope::Tenant(TenantId::generate());
    taken(&db, one, total(key), 100, (1, 10)).await;
    let soft = charge(&[key, tenant], 500, &[(elsewhere, 1)]);
    let mut unpriced = charge(&[key, tenant], 0, &[(key, 100)]);
    unpriced.record.cost = None;
    db.apply(one, &[soft.clone(), unpriced.clone()], 1).await.expect("applied");
    assert_eq!(numbers(&db, one, total(key)).await, (500, 0, 0));
    assert_eq!((row(&db, &soft).await.clamped_nano_usd, row(&db, &unpriced).await.cost_nano_usd), (0, None));
}

#[test]
fn p05_p11_any_cut_and_any_repeat_of_a_journal_gives_the_same_tables() {
    let journal = (
        proptest::collection::vec((0usize..2, 0i64..40), 1..14),
        (0i64..120, 0i64..120),
        proptest::collection::vec((1usize..6, any::<bool>()), 14),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(12));
    let outcome = runner.run(&journal, |(costs, (key_lease, tenant_lease), cuts)| {
        let keys = [VirtualKeyId::generate(), VirtualKeyId::generate()].map(Scope::from);
        let tenant = Scope::from(TenantId::generate());
        let charges: Vec<_> = costs
            .iter()
            .map(|&(key, cost)| charge(&[keys[key], tenant], cost, &[(keys[key], 150), (tenant, 200)]))
            .collect();
        let id = InstanceId::generate();
        let scopes = [keys[0], keys[1], tenant];
        let prepared = async || {
            let db = testing::store().await;
            let holder = db.instance_register(id, a_run(), Claim::Sole).await.expect("registered").holder;
            taken(&db, holder, total(keys[0]), 150, (key_lease, key_lease)).await;
            taken(&db, holder, total(tenant), 200, (tenant_lease, tenant_lease)).await;
            (db, holder)
        };
        let (whole, parts) = runtime.block_on(async {
            let ((whole, one), (parts, other)) = (prepared().await, prepared().await);
            whole.apply(one, &charges, charges.len() as u64).await.expect("applied");
            let mut done = 0;
            for (size, again) in cuts.iter().cycle() {
                let end = charges.len().min(done + size);
                // A repeat begins anywhere before.
                let begin = if *again { done / 2 } else { done };
                parts.apply(other, &charges[begin..end], end as u64).await.expect("applied");
                done = end;
                if done == charges.len() {
                    break;
                }
            }
            (dump(&whole, &scopes).await, dump(&parts, &scopes).await)
        });
        prop_assert_eq!(whole, parts);
        Ok(())
    });
    outcome.expect("the same tables");
}
