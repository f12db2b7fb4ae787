//! What is done now and then beside the requests: unused limiters are forgotten, old rows are deleted.
//!
//! Rows go a few hundred at a time, with a pause after each lot, so that on SQLite the usage of live requests never waits
//! long for the one writer. When the database does not answer, the rest waits for the next turn.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use super::reload::Desk;
use crate::{
    control::{Control, ControlError},
    domain::{Clock, Timestamp},
    limits::Limiters,
    store::Store,
};

/// Between two turns; the first is at the start.
const TURN: Duration = Duration::from_secs(600);
/// Between two lots of rows.
const PAUSE: Duration = Duration::from_millis(20);
/// How long changes are kept: far longer than a gateway that follows them can lag behind.
const CHANGES_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long sessions are kept after they have expired: longer than clocks differ.
const SESSIONS_KEPT: Duration = Duration::from_secs(24 * 3600);

/// What is done, and on what.
pub(super) struct Chores {
    pub(super) limiters: Arc<Limiters>,
    pub(super) store: Store,
    pub(super) control: Control,
    pub(super) clock: Clock,
    /// How long usage rows are kept; `None` means for ever.
    pub(super) usage_retention: Option<Duration>,
    /// Knows how long audit entries are kept.
    pub(super) desk: Arc<Desk>,
}

/// What is deleted for its age.
#[derive(Clone, Copy)]
enum Old {
    Usage,
    Changes,
    Audit,
    Sessions,
}

impl Old {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Changes => "changes",
            Self::Audit => "audit",
            Self::Sessions => "sessions",
        }
    }
}

impl Chores {
    /// Does them until told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let chores = async {
            loop {
                self.limiters.sweep();
                let now = self.clock.now();
                if let Some(kept) = self.usage_retention {
                    self.prune(Old::Usage, now.minus(kept)).await;
                }
                self.prune(Old::Changes, now.minus(CHANGES_KEPT)).await;
                if let Some(kept) = self.desk.audit_retention() {
                    match self.control.audit_prune(kept).await {
                        Ok(_) => self.prune(Old::Audit, now.minus(kept)).await,
                        Err(error) => failed(Old::Audit, &error),
                    }
                }
                self.prune(Old::Sessions, now.minus(SESSIONS_KEPT)).await;
                tokio::time::sleep(TURN).await;
            }
        };
        stop.run_until_cancelled(chores).await;
    }

    /// Deletes lot after lot of what is from before `before`.
    async fn prune(&self, old: Old, before: Timestamp) {
        let (what, mut rows) = (old.as_str(), 0);
        loop {
            let lot = match old {
                Old::Usage => self.store.prune_usage(before).await.map_err(ControlError::from),
                Old::Changes => self.store.prune_changes(before).await.map_err(ControlError::from),
                // What an anchor stands for, whatever its age.
                Old::Audit => self.control.audit_delete_pruned().await,
                Old::Sessions => self.store.prune_sessions(before).await.map_err(ControlError::from),
            };
            match lot {
                Ok(0) => break,
                Ok(more) => rows += more,
                Err(error) => {
                    failed(old, &error);
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        if rows > 0 {
            tracing::info!(what, rows, %before, "rows.pruned");
        }
    }
}

/// A database that does not answer answers later; a broken audit log waits for somebody to look at it.
fn failed(old: Old, error: &ControlError) {
    let what = old.as_str();
    match error {
        ControlError::AuditBroken { seq, .. } => {
            tracing::error!(what, first_bad = seq, reason = %error, "audit.broken");
        }
        _ => tracing::warn!(what, reason = %error, "rows.prune_failed"),
    }
}
