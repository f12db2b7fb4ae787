//! The composition root: settings in, a running gateway out. The only room that knows every other.
//!
//! Start-up order: lock, schema, master keys (every sealed row must open), house secrets, prices, spend so far, then
//! the listeners. Nothing listens before all of it is done. Shutdown is the reverse: accept nothing, let live requests
//! finish, write every usage record, close the database.

mod alarms;
mod checkpoints;
mod demo_house;
pub mod doctor;
mod error;
mod foundation;
mod housekeeping;
mod key_use;
mod keys;
mod ops;
mod prober;
mod reload;
pub mod rotation;
#[cfg(any(test, doctest))]
mod secret_types;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::service::TowerToHyperService;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    checkpoints::Checkpoints,
    housekeeping::Chores,
    keys::Keys,
    reload::{Counter, Desk, Started, State},
};
pub use self::{
    demo_house::{DEMO_ADMIN, DemoAccess},
    error::StartError,
    foundation::{Foundation, MasterKeys},
    keys::{reload_master_keys, reload_session_keys},
    reload::{ConfigSource, ReloadError, ReloadReport},
};
use crate::{
    admin::{self, AdminSettings, ClientAddress},
    catalogue::Catalogue,
    changes::Changes,
    config::{Config, Durability},
    control::{Control, GatewayHandle, Notify, Occasion},
    domain::{Actor, Clock, EgressPolicy},
    gateway::{Authenticator, Gateway, House},
    ledger::{Ledger, LedgerSettings, Recovered, Sharing, journal},
    limits::{Counters, Limiters, Share, Shared, Ticks},
    redis::Redis,
    server::{ConnectionSettings, Drained, InstanceLock, Shutdown, listen},
    store::Store,
    telemetry::{Metrics, Plane},
    upstream::{Health, KeyUses, Upstream, build_client},
};

/// How long usage records may take to reach the database at shutdown.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the admin plane's last requests may take.
const ADMIN_DRAIN: Duration = Duration::from_secs(5);

/// What is not a setting of the operator's.
pub struct StartOptions {
    /// Wall time; tests turn their own.
    pub clock: Clock,
    /// Adds the built-in provider, a virtual key for it, and an admin with a password for this run.
    pub demo: bool,
    /// Counters; made before the log begins, which counts too.
    pub metrics: Arc<Metrics>,
    /// Where the configuration is read anew; without it a reload is refused.
    pub source: Option<ConfigSource>,
}

impl Default for StartOptions {
    fn default() -> Self {
        Self { clock: Clock::system(), demo: false, metrics: metrics(), source: None }
    }
}

/// A running gateway.
pub struct App {
    /// Where applications call.
    pub address: SocketAddr,
    /// Where administrators call.
    pub admin_address: SocketAddr,
    /// What the operator may want to know, one line a fact.
    pub facts: Vec<String>,
    /// How to use the demo, if it was asked for.
    pub demo: Option<DemoAccess>,
    /// What the data plane stands on, for tests and embedding.
    pub house: Arc<House>,
    /// What an administrator can do.
    pub control: Control,
    /// For whoever knows how many instances live: each grants its part of a rate limit when they do not count together.
    pub share: Share,
    desk: Arc<Desk>,
    data_plane: Shutdown,
    admin_plane: Shutdown,
    background: CancellationToken,
    tracker: TaskTracker,
    checkpoints: Option<Arc<Checkpoints>>,
    store: Store,
    _lock: InstanceLock,
}

impl App {
    /// Starts everything.
    ///
    /// # Errors
    /// When another instance runs on the same data, a sealed row cannot be opened, or an address is taken.
    pub async fn start(mut config: Config, options: StartOptions) -> Result<Self, StartError> {
        let StartOptions { clock, demo, metrics, source } = options;
        let started = Started { at: clock.now(), since: Instant::now() };
        let tracker = TaskTracker::new();
        let background = CancellationToken::new();
        if config.policy.file.is_some() && config.policy.pack.is_none() {
            return Err(StartError::PolicyNotRead);
        }
        let mut built_in_allow = Vec::new();
        let built_in = if demo {
            let provider = crate::demo::start(&tracker, background.clone(), clock.clone()).await?;
            built_in_allow.push(demo_house::allow(provider.address));
            config.egress_allow.extend(built_in_allow.iter().cloned());
            Some(provider)
        } else {
            None
        };
        let lock = InstanceLock::take(&config.server.data_dir, config.database_file().as_deref())?;
        let mut foundation = Foundation::open(&config, &clock, MasterKeys::MadeWhenMissing).await?;
        let (store, vault) = (foundation.store.clone(), Arc::clone(&foundation.vault));
        let (pepper, catalogue) = (Arc::clone(&foundation.pepper), Arc::clone(&foundation.catalogue));
        let mut facts = foundation.facts.clone();

        let changes = Arc::new(Changes::default());
        let seen = store.last_change().await?;
        let share = Share::default();
        let on_live = {
            let share = share.clone();
            move |live| share.set(live)
        };
        let (ledger, recovered) =
            Ledger::start(store.clone(), ledger_settings(&config), &tracker, on_live).await?;
        facts.extend(recovery_facts(&recovered));
        facts.extend((recovered.refused > 0).then(|| {
            format!(
                "the database refuses {} records, which wait in `refused` beside the journal's segments",
                recovered.refused
            )
        }));
        let given = Arc::new(config.clone());
        let keys = Arc::new(Keys {
            store: store.clone(),
            vault: Arc::clone(&vault),
            sessions: Arc::clone(&foundation.sessions),
            instance: ledger.id(),
            config: Mutex::new(Arc::clone(&given)),
            wake: tokio::sync::Notify::new(),
            turn: Default::default(),
        });
        keys.refresh().await;
        tracker.spawn(Arc::clone(&keys).run(background.clone()));
        let egress = egress_policy(&config);
        let counters = counters(&config, &tracker, &background, &mut facts)?;
        let limiters = Arc::new(Limiters::counting(Ticks::system(), share.clone(), counters.clone()));
        let notify = Notify::new({
            let changes = Arc::clone(&changes);
            move |tenant, seq| changes.publish_own(tenant, seq)
        });
        let client = build_client(&config.upstream, Arc::new(egress.clone()))?;
        let upstream = Upstream::new(client, vault, Arc::new(egress.clone()));
        foundation.prober = prober::at(upstream.clone(), Arc::clone(&catalogue));
        let control = foundation.control(&config, egress.clone(), Some(ledger.clone()), notify)?;
        prepare(&control, &config, &mut facts).await?;
        let pack = config.policy.pack.clone();
        control
            .reconcile(&Actor::System, pack.as_deref(), Occasion::Start)
            .await
            .map_err(|source| StartError::References { source })?;
        if let Some(pack) = &pack {
            facts.push(format!(
                "policy pack: {} {}, {} targets",
                pack.name,
                pack.version,
                pack.targets.len()
            ));
        }

        // Those who keep them for ever do not keep the texts of master keys: a dropped one is to leave the memory.
        let settings = Arc::new(config.without_keys());
        let uses = Arc::new(KeyUses::default());
        let (data_plane, admin_plane) = (Shutdown::new(), Shutdown::new());
        let (alarms, alarm_desk) = alarms::bell();
        tracker.spawn(alarm_desk.run(control.clone(), background.clone()));
        let house = Arc::new(House {
            authenticator: Authenticator::new(
                store.clone(),
                pepper,
                Arc::clone(&changes),
                Arc::clone(&catalogue),
                Arc::clone(&limiters),
                clock.clone(),
                Arc::clone(&uses),
            ),
            settings: Arc::clone(&settings),
            store: store.clone(),
            ledger,
            catalogue,
            upstream,
            health: Health::default(),
            counters,
            alarms,
            metrics: Arc::clone(&metrics),
            clock: clock.clone(),
            drains: Arc::new(Semaphore::new(DRAINS)),
            underway: Arc::default(),
            tasks: data_plane.tasks().clone(),
            draining: data_plane.drain_token().clone(),
            cut: data_plane.cut_token().clone(),
        });

        tracker.spawn({
            let (control, keys) = (control.clone(), Arc::clone(&keys));
            Arc::clone(&changes).follow(store.clone(), seen, background.clone(), async move || {
                keys.wake();
                if let Err(error) = control.reload_prices().await {
                    tracing::warn!(reason = %error, "prices.reload_failed");
                }
            })
        });
        let checkpoints = match &settings.audit.checkpoint {
            Some(sink) => Checkpoints::new(control.clone(), Arc::clone(&metrics), sink)?.map(Arc::new),
            None => None,
        };
        if let Some(checkpoints) = &checkpoints {
            tracker.spawn(Arc::clone(checkpoints).run(background.clone()));
        }
        tracker.spawn(key_use::keep(uses, store.clone(), background.clone()));

        let openings = Arc::clone(house.upstream.openings());
        openings.count(settings.policy.log_all_access());
        let desk = Arc::new(Desk {
            control: control.clone(),
            changes,
            egress,
            underway: Arc::clone(&house.underway),
            keys: Arc::clone(&keys),
            openings,
            clock: clock.clone(),
            instance: house.ledger.id(),
            source,
            built_in: built_in_allow,
            tracker: tracker.clone(),
            state: Mutex::new(State {
                config: given,
                waiting: Vec::new(),
                last: None,
                uses_since: started.at,
            }),
            started,
            reloading: tokio::sync::Mutex::default(),
        });
        tracker.spawn(Arc::clone(&desk).follow_uses(background.clone()));
        let chores = Chores {
            limiters,
            store: store.clone(),
            control: control.clone(),
            clock: clock.clone(),
            usage_retention: settings.usage_retention,
            desk: Arc::clone(&desk),
        };
        tracker.spawn(chores.run(background.clone()));

        let gateway = Gateway::new(Arc::clone(&house));
        let connections = ConnectionSettings::from(&*settings);
        let data = {
            let metrics = Arc::clone(&metrics);
            let serve = move |_peer| {
                let gateway = gateway.clone();
                let counted = Arc::new(metrics.connection_opened(Plane::Data));
                service_fn(move |request| {
                    let _open = Arc::clone(&counted);
                    gateway.clone().answer(request)
                })
            };
            listen(settings.server.listen, connections.clone(), serve, &data_plane).await?
        };
        let admin = {
            let admin_settings = AdminSettings {
                hosts: settings.admin.hosts.clone(),
                gateway: GatewayHandle::new(Arc::new(Counter(Arc::clone(&desk)))),
            };
            let router =
                admin::router_with(control.clone(), &admin_settings, ops::router(Arc::clone(&house)));
            let serve = move |peer: SocketAddr| {
                let counted = Arc::new(metrics.connection_opened(Plane::Admin));
                let inner = TowerToHyperService::new(router.clone());
                service_fn(move |mut request: Request<Incoming>| {
                    let _open = Arc::clone(&counted);
                    request.extensions_mut().insert(ClientAddress(peer.ip()));
                    let answer = hyper::service::Service::call(&inner, request);
                    async move { answer.await.map_err(|never: Infallible| match never {}) }
                })
            };
            listen(settings.server.admin_listen, connections, serve, &admin_plane).await?
        };
        let demo = match built_in {
            Some(provider) => {
                Some(demo_house::furnish(&control, &provider, data.address, admin.address).await?)
            }
            None => None,
        };
        Ok(Self {
            address: data.address,
            admin_address: admin.address,
            facts,
            demo,
            house,
            control,
            share,
            desk,
            data_plane,
            admin_plane,
            background,
            tracker,
            checkpoints,
            store,
            _lock: lock,
        })
    }

    /// Puts `config` in force, as far as that can be done without a restart, or leaves everything as it is.
    ///
    /// # Errors
    /// When a target of the policy pack cannot be used, a reference cannot be resolved, or the database does not answer.
    pub async fn reload(&self, config: Config) -> Result<ReloadReport, ReloadError> {
        self.desk.reload(&Actor::System, config).await
    }

    /// Reads the configuration anew from where it came, and puts it in force.
    ///
    /// # Errors
    /// The same, and when what was read is invalid.
    pub async fn reload_from_source(&self) -> Result<ReloadReport, ReloadError> {
        self.desk.reload_from_source(&Actor::System).await
    }

    /// Writes to the audit log now how often provider keys were used, where the policy pack asks for it.
    pub async fn write_key_uses(&self) {
        self.desk.write_uses().await;
    }

    /// Stops in good order: no new requests, live ones get `timeout` (less if `hurry` is ready before), then every
    /// usage record is written. Answers how the drain went and how many records could not be written.
    pub async fn stop(self, timeout: Duration, hurry: impl Future<Output = ()>) -> (Drained, usize) {
        let drained = self.data_plane.drain(timeout, hurry).await;
        let lost = self.house.ledger.close(Instant::now() + FLUSH_TIMEOUT).await;
        self.admin_plane.drain(ADMIN_DRAIN, std::future::pending()).await;
        self.desk.write_uses().await;
        self.control.note_refusals_unwritten(true).await;
        self.background.cancel();
        self.tracker.close();
        self.tracker.wait().await;
        if let Some(checkpoints) = self.checkpoints {
            checkpoints.last().await;
        }
        drop(self.house);
        drop(self.control);
        drop(self.desk);
        if let Err(error) = self.store.close().await {
            tracing::warn!(reason = %error, "store.close_failed");
        }
        (drained, lost)
    }
}

/// Counters that know the names in the catalogue; others are lumped together.
pub fn metrics() -> Arc<Metrics> {
    let catalogue = Catalogue::bundled();
    let models: Vec<String> = catalogue.prices.load().models().map(ToString::to_string).collect();
    let providers = catalogue.providers.iter().map(|provider| provider.slug.as_str());
    Arc::new(Metrics::new(providers, models.iter().map(String::as_str)))
}

/// What must be there before anybody calls: a tenant, the first admin where one is named, the owners' prices.
async fn prepare(control: &Control, config: &Config, facts: &mut Vec<String>) -> Result<(), StartError> {
    control.ensure_default_tenant().await?;
    if let (Some(email), Some(password)) = (&config.admin.email, &config.admin.password)
        && control.ensure_first_admin(email, password).await?
    {
        facts.push(format!("made the first admin: {email}"));
    }
    match (config.vault.allow_retrieval, config.vault.retrievable_by_default) {
        (true, true) => {
            facts.push("services may fetch keys; uploads are retrievable unless they say otherwise".into())
        }
        (true, false) => facts.push("services may fetch keys that were uploaded as retrievable".into()),
        (false, true) => {
            facts.push(
                "`vault.retrievable_by_default` does nothing while `vault.allow_retrieval` is off".into(),
            );
        }
        (false, false) => {}
    }
    control.reload_prices().await?;
    Ok(())
}

/// Streams that are read to their end at the same time although their clients have left.
const DRAINS: usize = 64;
/// How often an instance on a shared database says that it lives.
const BEAT: Duration = Duration::from_secs(1);
/// How long after its last word it counts as alive, when shares are measured out.
const LIVE_WITHIN: Duration = Duration::from_secs(5);

fn ledger_settings(config: &Config) -> LedgerSettings {
    LedgerSettings {
        durability: match config.ledger.durability {
            Durability::Process => journal::Durability::Process,
            Durability::Power => journal::Durability::Power,
        },
        segment_bytes: config.ledger.segment_bytes as u64,
        capacity: config.ledger.record_queue,
        // A SQLite file has one gateway, held by a lock; nobody else could give its leases away.
        sharing: config.database_file().is_none().then_some(Sharing {
            beat: BEAT,
            live_within: LIVE_WITHIN,
            grace: config.ledger.lease_grace,
        }),
        ..LedgerSettings::new(foundation::journal_dir(config))
    }
}

fn recovery_facts(recovered: &Recovered) -> Option<String> {
    let Recovered { applied, closed, cut_bytes, .. } = *recovered;
    (applied + closed + cut_bytes > 0).then(|| {
        format!(
            "recovered from the journal: {applied} records applied, {closed} requests closed that were under way, \
             {cut_bytes} bytes of a torn write cut"
        )
    })
}

/// Which upstream addresses the operator allows.
pub fn egress_policy(config: &Config) -> EgressPolicy {
    EgressPolicy::new(reload::entries(config))
}

/// Where rates are counted.
fn counters(
    config: &Config,
    tracker: &TaskTracker,
    stop: &CancellationToken,
    facts: &mut Vec<String>,
) -> Result<Counters, StartError> {
    let Some(url) = &config.redis.url else { return Ok(Counters::Local) };
    let redis = Redis::at(&url.0, config.redis.timeout)?;
    facts.push("rate limits: counted in Redis, together with other instances".into());
    Ok(Counters::Redis(Shared::start(redis, tracker, stop)))
}
