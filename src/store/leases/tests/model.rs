//! Random interleavings of all operations of several instances, against arithmetic on maps.

use std::collections::BTreeSet;

use proptest::{prelude::*, sample::select};

use super::*;

const INSTANCES: usize = 3;
const KEY_CAP: i64 = 60;
const TENANT_CAP: i64 = 100;

#[derive(Clone, Debug)]
enum Step {
    Take {
        instance: usize,
        tenant: bool,
        least: i64,
        wish: i64,
    },
    Keep {
        instance: usize,
        tenant: bool,
        amount: i64,
    },
    /// New charges of these costs with this key, then charges of earlier steps again.
    Apply {
        instance: usize,
        costs: Vec<i64>,
        again: Vec<prop::sample::Index>,
    },
    Register {
        instance: usize,
    },
    Release {
        instance: usize,
    },
    Stop {
        instance: usize,
    },
}

fn a_step() -> impl Strategy<Value = Step> {
    let instance = || 0..INSTANCES;
    let indices = || proptest::collection::vec(any::<prop::sample::Index>(), 0..3);
    prop_oneof![
        6 => (instance(), any::<bool>(), -1i64..40, -1i64..50)
            .prop_map(|(instance, tenant, least, wish)| Step::Take { instance, tenant, least, wish }),
        2 => (instance(), any::<bool>(), -1i64..40)
            .prop_map(|(instance, tenant, amount)| Step::Keep { instance, tenant, amount }),
        5 => (instance(), proptest::collection::vec(0i64..30, 0..4), indices())
            .prop_map(|(instance, costs, again)| Step::Apply { instance, costs, again }),
        3 => instance().prop_map(|instance| Step::Register { instance }),
        1 => instance().prop_map(|instance| Step::Release { instance }),
        1 => select((0..INSTANCES).collect::<Vec<_>>()).prop_map(|instance| Step::Stop { instance }),
    ]
}

/// What the tables must say.
struct World {
    key: Scope,
    tenant: Scope,
    holders: Vec<Holder>,
    /// Whether the holder's epoch still runs.
    lives: Vec<bool>,
    settled: BTreeMap<Counter, i64>,
    leases: Vec<BTreeMap<Counter, i64>>,
    charges: Vec<Charge>,
    applied: BTreeSet<RequestId>,
    costs: BTreeMap<RequestId, (i64, i64)>,
}

impl World {
    async fn begin(db: &Store) -> Self {
        let mut holders = vec![];
        for _ in 0..INSTANCES {
            holders.push(join(db).await);
        }
        Self {
            key: VirtualKeyId::generate().into(),
            tenant: TenantId::generate().into(),
            holders,
            lives: vec![true; INSTANCES],
            settled: BTreeMap::new(),
            leases: vec![BTreeMap::new(); INSTANCES],
            charges: vec![],
            applied: BTreeSet::new(),
            costs: BTreeMap::new(),
        }
    }

    fn capped(&self, tenant: bool) -> (Counter, i64) {
        if tenant { (total(self.tenant), TENANT_CAP) } else { (total(self.key), KEY_CAP) }
    }

    fn settled(&self, counter: Counter) -> i64 {
        self.settled.get(&counter).copied().unwrap_or(0)
    }

    fn granted(&self, instance: usize, counter: Counter) -> i64 {
        self.leases[instance].get(&counter).copied().unwrap_or(0)
    }

    fn leased(&self, counter: Counter) -> i64 {
        (0..INSTANCES).map(|instance| self.granted(instance, counter)).sum()
    }

    fn free(&self, counter: Counter, cap: i64) -> i64 {
        (cap - self.settled(counter) - self.leased(counter)).max(0)
    }

    fn grant(&mut self, instance: usize, counter: Counter, amount: i64) {
        self.leases[instance].insert(counter, amount);
    }

    /// One request after another, as if each came alone.
    fn settle(&mut self, instance: usize, batch: &[Charge]) {
        let mut batch = batch.to_vec();
        batch.sort_by_key(|charge| charge.record.request_id);
        for charge in batch {
            if !self.applied.insert(charge.record.request_id) {
                continue;
            }
            let cost = charge.record.cost.expect("a price").nano();
            let fits = [true, false]
                .map(|tenant| self.capped(tenant))
                .map(|(counter, cap)| self.granted(instance, counter) + self.free(counter, cap))
                .into_iter()
                .fold(cost, i64::min);
            self.costs.insert(charge.record.request_id, (fits, cost - fits));
            for scope in [self.key, self.tenant] {
                let counter = total(scope);
                let granted = self.granted(instance, counter);
                self.grant(instance, counter, granted - granted.min(fits));
                *self.settled.entry(counter).or_default() += fits;
            }
        }
    }

    async fn step(&mut self, db: &Store, step: &Step) {
        let answer = match step {
            &Step::Register { instance } => {
                let found = db
                    .instance_register(self.holders[instance].instance, a_run(), Claim::Sole)
                    .await
                    .expect("registered");
                assert!(found.holder.epoch > self.holders[instance].epoch, "a new epoch");
                let leases: BTreeMap<_, _> = found.leases.iter().map(|(c, n)| (*c, n.nano())).collect();
                let expected = self.leases[instance].iter().filter(|(_, amount)| **amount > 0);
                assert_eq!(leases, expected.map(|(c, n)| (*c, *n)).collect());
                self.holders[instance] = found.holder;
                self.lives[instance] = true;
                return;
            }
            &Step::Release { instance } => {
                let held = std::mem::take(&mut self.leases[instance]);
                let held: Vec<_> = held.into_values().filter(|amount| *amount > 0).collect();
                let expected = Released::Done { counters: held.len(), nano: usd(held.iter().sum()) };
                assert_eq!(release(db, self.holders[instance].instance, Duration::ZERO).await, expected);
                self.lives[instance] = false;
                return;
            }
            &Step::Stop { instance } => {
                let stopped = db.instance_stop(self.holders[instance]).await;
                if self.lives[instance] {
                    self.leases[instance].clear();
                }
                self.verdict(instance, stopped.map(|()| vec![]), &[]);
                self.lives[instance] = false;
                return;
            }
            &Step::Take { instance, tenant, least, wish } => {
                let (counter, cap) = self.capped(tenant);
                let taken = take(db, self.holders[instance], counter, cap, (least, wish)).await;
                let free = self.free(counter, cap);
                if self.lives[instance] && least > 0 && least <= free {
                    let amount = self.granted(instance, counter) + wish.max(least).min(free);
                    self.grant(instance, counter, amount);
                }
                (instance, taken.map(|state| vec![state]), vec![counter])
            }
            &Step::Keep { instance, tenant, amount } => {
                let (counter, _) = self.capped(tenant);
                let kept = db.leases_keep(self.holders[instance], &[(counter, usd(amount))]).await;
                if self.lives[instance] {
                    self.grant(instance, counter, self.granted(instance, counter).min(amount.max(0)));
                }
                (instance, kept, vec![counter])
            }
            Step::Apply { instance, costs, again } => {
                let mut batch: Vec<_> = match self.charges.len() {
                    0 => vec![],
                    some => again.iter().map(|index| self.charges[index.index(some)].clone()).collect(),
                };
                let caps = [(self.key, KEY_CAP), (self.tenant, TENANT_CAP)];
                for &cost in costs {
                    let new = charge(&[self.key, self.tenant], cost, &caps);
                    self.charges.push(new.clone());
                    batch.push(new);
                }
                batch.reverse();
                let applied = db.apply(self.holders[*instance], &batch, 1).await;
                if self.lives[*instance] {
                    self.settle(*instance, &batch);
                }
                (*instance, applied, vec![])
            }
        };
        let (instance, states, counters) = answer;
        self.verdict(instance, states, &counters);
    }

    /// Fenced exactly when the epoch is over; otherwise the states are those of the model.
    fn verdict(&self, instance: usize, got: Result<Vec<CounterState>, LeaseError>, counters: &[Counter]) {
        match got {
            Ok(states) => {
                assert!(self.lives[instance], "an epoch that is over");
                for counter in counters {
                    assert!(states.iter().any(|state| state.counter == *counter));
                }
                for state in states.iter().filter(|state| state.counter.window == SpendWindow::Total) {
                    let counter = state.counter;
                    let expected =
                        (self.settled(counter), self.leased(counter), self.granted(instance, counter));
                    assert_eq!((state.settled.nano(), state.leased.nano(), state.granted.nano()), expected);
                }
            }
            Err(LeaseError::Fenced) => assert!(!self.lives[instance], "an epoch that runs"),
            Err(error) => panic!("{error}"),
        }
    }

    /// The tables say what the model says.
    async fn check(&self, db: &Store) {
        for (scope, cap) in [(self.key, KEY_CAP), (self.tenant, TENANT_CAP)] {
            let counter = total(scope);
            let leases = lease::Entity::find()
                .filter(lease::Column::ScopeId.eq(scope.to_string()))
                .filter(lease::Column::Window.eq("total"))
                .all(db.reader())
                .await
                .expect("leases");
            assert!(leases.iter().all(|row| row.granted_nano_usd > 0));
            for (instance, holder) in self.holders.iter().enumerate() {
                let (settled, leased, granted) = numbers(db, *holder, counter).await;
                assert_eq!(settled, self.settled(counter));
                assert_eq!(granted, self.granted(instance, counter));
                assert_eq!(leased, leases.iter().map(|row| row.granted_nano_usd).sum::<i64>());
                assert!(settled + leased <= cap, "{settled} + {leased} > {cap}");
            }
        }
    }

    async fn check_rows(&self, db: &Store) {
        let ids: Vec<_> = self.charges.iter().map(|charge| charge.record.request_id.to_string()).collect();
        let rows = usage_record::Entity::find().filter(usage_record::Column::RequestId.is_in(ids));
        let rows = rows.all(db.reader()).await.expect("rows");
        let found: BTreeMap<String, _> = rows
            .iter()
            .map(|row| (row.request_id.clone(), (row.cost_nano_usd.expect("a cost"), row.clamped_nano_usd)))
            .collect();
        let expected: BTreeMap<_, _> =
            self.costs.iter().map(|(id, costs)| (id.to_string(), *costs)).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn p02_p03_p22_any_interleaving_stays_under_the_caps_and_agrees_with_the_model() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let db = runtime.block_on(testing::store());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(40));
    let steps = proptest::collection::vec(a_step(), 1..25);
    let outcome = runner.run(&steps, |steps| {
        runtime.block_on(async {
            let mut world = World::begin(&db).await;
            for step in &steps {
                world.step(&db, step).await;
                world.check(&db).await;
            }
            world.check_rows(&db).await;
        });
        Ok(())
    });
    outcome.expect("the model holds");
}
