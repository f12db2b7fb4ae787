//! Reading the configuration anew in a running gateway, and saying what is in force.
//!
//! A reload has four steps, and only the second can fail once the new configuration was read and found valid:
//! 1. *widen*: what the new configuration allows to be called is allowed beside the old;
//! 2. *commit*: the provider keys of the policy pack and every reference, in one transaction;
//! 3. *swap*: what lives in memory: allowed addresses, what is counted, the settings in force;
//! 4. *tell*: everything that was cached of a tenant is stale.
//!
//! Keys are checked before the first step, and taken into use in the third.
//!
//! If the second fails, the first is undone and the old configuration goes on. A reload runs as a task of its own: a
//! client that hangs up does not leave it half-done.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{StartError, error::chain, keys::Keys};
use crate::{
    changes::Changes,
    config::{Config, ConfigError, EgressAllow},
    control::{
        Control, ControlError, GatewayStatus, LastReload, Later, Occasion, Operated, PackView, Reconciled,
        ReloadView, SettingView,
    },
    domain::{Actor, Clock, EgressPolicy, InstanceId, Timestamp},
    gateway::Underway,
    upstream::{Opened, Openings},
};

/// How often the use of provider keys is written to the audit log.
const USES_EVERY: Duration = Duration::from_secs(60);

/// How long a reload that takes addresses away waits for requests that may still be about to connect to one. What takes
/// longer has mostly connected and waits for its provider's answer; a client that is still sending its body then is refused
/// what was taken away.
const UNDERWAY: Duration = Duration::from_secs(2);

/// Reads the configuration anew, from wherever it came.
pub type ConfigSource = Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// What a reload changed.
#[derive(Clone, Debug)]
pub struct ReloadReport {
    /// Provider keys that were brought in line.
    pub keys: Reconciled,
    /// Settings that were changed since the start and wait for a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Why the old configuration stays in force.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Nobody said where the configuration comes from.
    #[error("this gateway was started by a program that does not say where its configuration comes from")]
    NoSource,
    /// The policy pack is named and was not read: without it, its keys would go.
    #[error("a policy pack is configured and was not read; call `Config::read_policy` first")]
    PolicyNotRead,
    /// Its keys cannot be used.
    #[error(transparent)]
    Keys(StartError),
    /// It is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A target or a reference cannot be used, or the database failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The task ended before its work was done.
    #[error("the gateway is stopping")]
    Stopping,
}

impl ReloadError {
    /// The error and its causes, one line.
    fn chain(&self) -> String {
        chain(self)
    }
}

/// What a running gateway needs in order to be operated.
pub(super) struct Desk {
    pub(super) control: Control,
    pub(super) changes: Arc<Changes>,
    pub(super) egress: EgressPolicy,
    pub(super) underway: Arc<Underway>,
    pub(super) keys: Arc<Keys>,
    pub(super) openings: Arc<Openings>,
    pub(super) clock: Clock,
    pub(super) instance: InstanceId,
    pub(super) source: Option<ConfigSource>,
    /// Addresses that are allowed beside the operator's: the built-in provider's.
    pub(super) built_in: Vec<EgressAllow>,
    pub(super) tracker: TaskTracker,
    pub(super) started: Started,
    pub(super) state: Mutex<State>,
    /// One reload at a time.
    pub(super) reloading: tokio::sync::Mutex<()>,
}

/// When it was.
pub(super) struct Started {
    pub(super) at: Timestamp,
    pub(super) since: Instant,
}

/// What changes with a reload.
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) waiting: Vec<&'static str>,
    pub(super) last: Option<LastReload>,
    /// Until when the use of keys was written.
    pub(super) uses_since: Timestamp,
}

impl Desk {
    /// Reads the configuration anew from its source and puts it in force.
    pub(super) async fn reload_from_source(
        self: &Arc<Self>,
        actor: &Actor,
    ) -> Result<ReloadReport, ReloadError> {
        let (desk, actor) = (Arc::clone(self), actor.clone());
        let task = self.tracker.spawn(async move {
            let _one = desk.reloading.lock().await;
            let read = match desk.source.clone() {
                None => Err(ReloadError::NoSource),
                // Files are read; the runtime must not wait for them.
                Some(source) => match tokio::task::spawn_blocking(move || source()).await {
                    Ok(read) => read.map_err(ReloadError::from),
                    Err(_) => Err(ReloadError::Stopping),
                },
            };
            let done = match read {
                Ok(config) => desk.put_in_force(&actor, config).await,
                Err(error) => Err(error),
            };
            desk.note(&actor, done).await
        });
        task.await.unwrap_or(Err(ReloadError::Stopping))
    }

    /// Puts `config` in force.
    pub(super) async fn reload(
        self: &Arc<Self>,
        actor: &Actor,
        config: Config,
    ) -> Result<ReloadReport, ReloadError> {
        let (desk, actor) = (Arc::clone(self), actor.clone());
        let task = self.tracker.spawn(async move {
            let _one = desk.reloading.lock().await;
            let done = desk.put_in_force(&actor, config).await;
            desk.note(&actor, done).await
        });
        task.await.unwrap_or(Err(ReloadError::Stopping))
    }

    async fn put_in_force(&self, actor: &Actor, mut next: Config) -> Result<ReloadReport, ReloadError> {
        if next.policy.file.is_some() && next.policy.pack.is_none() {
            return Err(ReloadError::PolicyNotRead);
        }
        next.egress_allow.extend(self.built_in.iter().cloned());
        let running = Arc::clone(&self.state().config);
        let (after, waiting) = running.reloaded(&next);
        let pack = after.policy.pack.clone();
        self.keys.check(&after).await.map_err(ReloadError::Keys)?;

        self.egress.allow_only(entries(&running).chain(entries(&after)));
        let keys = match self.control.reconcile(actor, pack.as_deref(), Occasion::Reload).await {
            Ok(keys) => keys,
            Err(error) => {
                self.egress.allow_only(entries(&running));
                return Err(error.into());
            }
        };
        if entries(&running).any(|entry| !entries(&after).any(|allowed| allowed == entry)) {
            // Requests that began with a key of before may still have to open a connection to its address.
            self.underway.gone(UNDERWAY).await;
        }
        self.egress.allow_only(entries(&after));
        let after = Arc::new(after);
        if let Err(error) = self.keys.adopt(Arc::clone(&after)).await {
            // They were good a moment ago: the database does not answer. They are tried again until it does.
            tracing::warn!(reason = %chain(&error), "keys.reload_delayed");
        }
        self.openings.count(after.policy.log_all_access());
        {
            let mut state = self.state();
            state.config = after;
            state.waiting.clone_from(&waiting);
        }
        self.changes.publish(None);
        // Prices live in the database and are right whatever the files say; those of before serve until it answers.
        if let Err(error) = self.control.reload_prices().await {
            tracing::warn!(reason = %error, "prices.reload_failed");
        }
        Ok(ReloadReport { keys, needs_restart: waiting })
    }

    /// Remembers how it went; what failed is audited.
    async fn note(
        &self,
        actor: &Actor,
        done: Result<ReloadReport, ReloadError>,
    ) -> Result<ReloadReport, ReloadError> {
        let reason = done.as_ref().err().map(ReloadError::chain);
        let outcome = if reason.is_none() { "success" } else { "failure" };
        let last = LastReload { at: self.clock.now(), outcome: outcome.into(), reason: reason.clone() };
        self.state().last = Some(last);
        match (&done, reason) {
            (Ok(report), _) => tracing::info!(
                keys_added = report.keys.added,
                keys_changed = report.keys.changed,
                keys_removed = report.keys.removed,
                needs_restart = report.needs_restart.join(","),
                "configuration.reloaded"
            ),
            (Err(_), Some(reason)) => {
                tracing::error!(%reason, "configuration.refused: the old one stays in force");
                if let Err(error) = self.control.reload_refused(actor, &reason).await {
                    tracing::error!(reason = %error, "audit.reload_not_written");
                }
            }
            (Err(_), None) => {}
        }
        done
    }

    /// What is in force.
    async fn status(&self) -> Result<GatewayStatus, ControlError> {
        let (config, waiting, last) = {
            let state = self.state();
            (Arc::clone(&state.config), state.waiting.clone(), state.last.clone())
        };
        let pack = config.policy.pack.as_deref();
        let settings = config.values().into_iter().map(|value| SettingView {
            name: value.name.to_owned(),
            value: value.value,
            origin: value.origin,
        });
        Ok(GatewayStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            instance_id: self.instance.to_string(),
            started_at: self.started.at,
            uptime_seconds: self.started.since.elapsed().as_secs(),
            pack: pack.map(PackView::from),
            targets: self.control.targets(pack).await?,
            settings: settings.collect(),
            needs_restart: waiting.iter().map(ToString::to_string).collect(),
            last_reload: last,
        })
    }

    /// Writes the use of provider keys to the audit log, minute by minute, until told to stop.
    pub(super) async fn follow_uses(self: Arc<Self>, stop: CancellationToken) {
        let writing = async {
            loop {
                tokio::time::sleep(USES_EVERY).await;
                self.write_uses().await;
                self.control.note_refusals_unwritten(false).await;
            }
        };
        stop.run_until_cancelled(writing).await;
    }

    /// Writes what was counted so far. What cannot be written now is counted on.
    pub(super) async fn write_uses(&self) {
        let uses = self.openings.take();
        let now = self.clock.now();
        let since = std::mem::replace(&mut self.state().uses_since, now);
        let entries: Vec<_> =
            uses.iter().map(|Opened { tenant, key, openings }| (*tenant, *key, *openings)).collect();
        if let Err(error) = self.control.key_uses_record(&entries, since).await {
            self.openings.give_back(&uses);
            self.state().uses_since = since;
            tracing::warn!(reason = %error, "audit.key_uses_not_written");
        }
    }

    /// How long audit entries are kept: what the policy pack or the settings say, and the longer where both do.
    pub(super) fn audit_retention(&self) -> Option<Duration> {
        let state = self.state();
        let (pack, setting) = (state.config.policy.audit_retention(), state.config.audit.retention);
        pack.max(setting)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The desk, for the admin plane.
pub(super) struct Counter(pub(super) Arc<Desk>);

impl Operated for Counter {
    fn status<'a>(&'a self, _: &'a Actor) -> Later<'a, Result<GatewayStatus, ControlError>> {
        Box::pin(self.0.status())
    }

    fn reload<'a>(&'a self, actor: &'a Actor) -> Later<'a, Result<ReloadView, ControlError>> {
        Box::pin(async move {
            match self.0.reload_from_source(actor).await {
                Ok(report) => {
                    let config = Arc::clone(&self.0.state().config);
                    Ok(ReloadView::new(&config, report.keys, &report.needs_restart))
                }
                Err(ReloadError::Control(error @ ControlError::Store(_))) => Err(error),
                Err(error @ ReloadError::NoSource) => Err(ControlError::Conflict(error.to_string())),
                Err(error) => Err(ControlError::InvalidConfiguration(error.chain())),
            }
        })
    }
}

/// Hosts and ports that a configuration allows.
pub(super) fn entries(config: &Config) -> impl Iterator<Item = (String, u16)> {
    config.egress_allow.iter().map(|allowed| (allowed.host.clone(), allowed.port))
}
