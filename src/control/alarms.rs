//! What the data plane tells: it goes into the audit log as an act of the gateway itself.

use super::{Control, ControlError};
use crate::domain::{Actor, AuditAction, UnsealableKey};

impl Control {
    /// Notes that a stored provider key did not open as what its row says it is.
    pub async fn note_unsealable(&self, alarm: &UnsealableKey) -> Result<(), ControlError> {
        let act = self.begin_unasked(&Actor::System).await?;
        let event = act
            .event(AuditAction::ProviderKeyUnsealable, Some(alarm.tenant), alarm.key)
            .failed()
            .with("provider", &alarm.provider)
            .with("reason", alarm.reason);
        act.commit(event).await
    }
}
