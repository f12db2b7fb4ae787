//! Gateways that share the database: which are heard of, what the silent ones hold, and how an operator releases it.
//!
//! What a dead instance has leased of a cap counts as spent until it is started again on its journal, or released. That
//! is `unreconciled`: at most so much may have been spent that no usage row says.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Control, ControlError,
    act::{permit, scope_of},
};
use crate::{
    domain::{Actor, AuditAction, InstanceId, NanoUsd, Permission, Scope, Timestamp, VirtualKeyId},
    store::{Dead, InstanceRow, Paged, Released, TenantScope, instance_release},
};

/// How this process tells the living from the dead.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// The instance that certainly lives: this process's own. Beside a gateway on SQLite, that of the data directory.
    pub here: Option<InstanceId>,
    /// Whether several instances can live on the database. They say that they do; one alone on SQLite does not.
    pub shared: bool,
    /// How long an instance must have been silent to count as dead, and before its leases can be released.
    pub release_after: Duration,
}

impl Sight {
    /// Who counts as dead: whoever is silent, and on SQLite everybody else.
    fn dead(self) -> Dead {
        Dead { silent_for: self.shared.then_some(self.release_after), except: self.here }
    }

    fn state(self, row: &InstanceRow) -> InstanceState {
        if row.stopped_at.is_some() {
            InstanceState::Stopped
        } else if Some(row.id) == self.here || (self.shared && row.silent_for <= self.release_after) {
            InstanceState::Live
        } else {
            InstanceState::Silent
        }
    }
}

/// Whether an instance is heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// It is running.
    Live,
    /// It did not stop in good order and is not heard of: what it has leased counts as spent.
    Silent,
    /// It stopped in good order, or its leases were released.
    Stopped,
}

/// One gateway on the database. All times are the database's.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct InstanceView {
    /// `ins_…`; it lives in the journal of its data directory.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// How often it was started or released.
    pub epoch: i64,
    /// When it was last started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// When it last wrote or said that it lives.
    #[schema(value_type = String, format = DateTime)]
    pub heartbeat_at: Timestamp,
    /// When it stopped or was released; `null` while it has not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub stopped_at: Option<Timestamp>,
    /// How long it has not been heard of; 0 for the one that answers.
    pub silent_seconds: u64,
    /// What it has leased of all caps together, rounded up. A request is under several caps: this is not a sum of spend.
    pub leased_micro_usd: i64,
    /// Whether it is heard of.
    pub state: InstanceState,
    /// The ids of the master keys that it has loaded, the one that seals first; `null` until it has said so.
    pub master_keys: Option<Vec<String>>,
}

/// What was given back to the caps.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ReleasedView {
    /// Whose leases.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// The sum over all counters, rounded up; 0 when nothing was left.
    pub released_micro_usd: i64,
    /// On how many counters.
    pub counters: usize,
}

impl Control {
    /// The instances that hold leases or were heard of in the last week, those heard of last first.
    pub async fn instances(&self, actor: &Actor) -> Result<Paged<InstanceView>, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        let sight = self.settings.sight;
        let view = |row: InstanceRow| InstanceView {
            id: row.id,
            epoch: row.epoch,
            started_at: row.started_at,
            heartbeat_at: row.heartbeat_at,
            stopped_at: row.stopped_at,
            silent_seconds: if Some(row.id) == sight.here { 0 } else { row.silent_for.as_secs() },
            leased_micro_usd: row.leased.micro_rounded_up(),
            state: sight.state(&row),
            master_keys: row.kids,
        };
        let items = self.store.instances().await?.into_iter().map(view).collect();
        Ok(Paged { items, next_cursor: None })
    }

    /// Ends a silent instance and gives its leases back to the caps. What it spent and did not write is then not counted
    /// until it is started on its journal again, and takes only what is free at that time. Doing it again changes nothing.
    pub async fn instance_release(&self, actor: &Actor, id: &str) -> Result<ReleasedView, ControlError> {
        let act = self.begin(actor, Permission::ManageHouse).await?;
        let id: InstanceId = id.parse().map_err(|_| ControlError::NotFound("instance"))?;
        let Sight { here, release_after, .. } = self.settings.sight;
        if here == Some(id) {
            return Err(ControlError::InstanceAlive(
                "this is the instance of the running gateway; it gives its leases back when it is stopped"
                    .into(),
            ));
        }
        let (counters, nano) = match instance_release(act.tx(), id, release_after).await? {
            Released::Done { counters, nano } => (counters, nano),
            Released::StillAlive { silent_for } => {
                return Err(ControlError::InstanceAlive(still_alive(silent_for, release_after)));
            }
            Released::Unknown => return Err(ControlError::NotFound("instance")),
        };
        let event = act
            .event(AuditAction::LeasesReleased, None, id)
            .with("released_nano_usd", nano.nano())
            .with("counters", counters);
        act.commit(event).await?;
        Ok(ReleasedView { id, released_micro_usd: nano.micro_rounded_up(), counters })
    }

    /// What dead instances hold of each scope; those of which they hold nothing are missing. One query for a page.
    pub(super) async fn unreconciled(
        &self,
        scopes: impl IntoIterator<Item = Scope>,
    ) -> Result<BTreeMap<Scope, NanoUsd>, ControlError> {
        Ok(self.store.unreconciled_of(self.settings.sight.dead(), scopes).await?)
    }

    /// What dead instances hold of the virtual keys in `scope`, or of one of them.
    pub(super) async fn unreconciled_of_keys(
        &self,
        scope: TenantScope,
        key: Option<VirtualKeyId>,
    ) -> Result<NanoUsd, ControlError> {
        Ok(self.store.unreconciled_of_keys(self.settings.sight.dead(), scope, key).await?)
    }

    /// What dead instances hold of all virtual keys that the actor may see.
    pub async fn unreconciled_total(&self, actor: &Actor) -> Result<NanoUsd, ControlError> {
        permit(actor, Permission::ReadSpend)?;
        self.unreconciled_of_keys(scope_of(actor), None).await
    }
}

fn still_alive(silent_for: Duration, release_after: Duration) -> String {
    // Rounded up: whoever waits so long has waited long enough.
    let seconds = |span: Duration| span.as_secs() + u64::from(span.subsec_nanos() > 0);
    format!(
        "this instance was heard of {} seconds ago, and may be using its leases; they can be released when it has been \
         silent for {} seconds (`ledger.release_after`), in {} seconds at the earliest",
        silent_for.as_secs(),
        seconds(release_after),
        seconds(release_after.saturating_sub(silent_for)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(silent: u64) -> InstanceRow {
        let at = Timestamp::from_millis(0);
        let (id, silent_for) = (InstanceId::generate(), Duration::from_secs(silent));
        InstanceRow {
            id,
            epoch: 1,
            started_at: at,
            heartbeat_at: at,
            stopped_at: None,
            silent_for,
            leased: NanoUsd::ZERO,
            kids: None,
        }
    }

    #[test]
    fn an_instance_is_live_when_it_is_ones_own_or_was_heard_of_on_a_shared_database() {
        let (young, old) = (row(90), row(91));
        let sight = |here, shared| Sight { here, shared, release_after: Duration::from_secs(90) };
        for (sight, row, state) in [
            (sight(None, true), &young, InstanceState::Live),
            (sight(None, true), &old, InstanceState::Silent),
            (sight(Some(old.id), true), &old, InstanceState::Live),
            (sight(Some(old.id), false), &old, InstanceState::Live),
            (sight(Some(old.id), false), &young, InstanceState::Silent),
        ] {
            assert_eq!(sight.state(row), state, "{sight:?} {row:?}");
        }
        let stopped = InstanceRow { stopped_at: Some(Timestamp::from_millis(1)), ..young };
        assert_eq!(sight(Some(stopped.id), true).state(&stopped), InstanceState::Stopped);
    }

    #[test]
    fn a_refusal_says_how_long_to_wait() {
        let said = still_alive(Duration::from_millis(29_600), Duration::from_secs(90));
        assert!(said.contains("29 seconds ago") && said.contains("in 61 seconds"), "{said}");
    }
}
