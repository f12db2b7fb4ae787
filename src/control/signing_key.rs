//! The gateway's own key for admin sessions, and its rotation without anybody having to log in again.

use std::time::Duration;

use serde::Serialize;

use super::{Control, ControlError};
use crate::{
    domain::{Actor, AuditAction, Permission, Timestamp},
    store::{StoreError, house_secret_delete, house_secret_find, house_secret_set},
    vault::{HouseSecret, HouseSecretName, SessionKey},
};

/// How long after it was made a new key begins to sign: until then every gateway has it, and none refuses the session
/// that another has just begun.
pub const SETTLES_AFTER: Duration = Duration::from_secs(5);

/// A new key for sessions.
#[derive(Clone, Debug, Serialize)]
pub struct SigningKeyView {
    /// Its id.
    pub kid: String,
    /// The id of the one before it.
    pub previous: String,
    /// Until when that one verifies; `null` when its sessions are over at once.
    pub previous_until: Option<Timestamp>,
}

impl Control {
    /// Makes a new key that signs sessions. The one before it goes on verifying for as long as sessions last, unless
    /// all are to log in again `now`. Of three keys in that time the oldest is dropped.
    pub async fn signing_key_rotate(&self, actor: &Actor, now: bool) -> Result<SigningKeyView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let name = HouseSecretName::JwtKey.as_str();
        let standing = house_secret_find(act.tx(), name).await?.ok_or(StoreError::NotFound)?;
        let opened = self.vault.open_house(HouseSecretName::JwtKey, &standing.sealed);
        let old =
            opened.map_err(|why| ControlError::Conflict(format!("the present key does not open: {why}")))?;
        let new = HouseSecret::generate();
        let sealed = self.vault.seal_house(HouseSecretName::JwtKey, &new);
        act.may_store(&sealed).await?;
        house_secret_set(act.tx(), name, &sealed, act.at()).await?;
        let previous = HouseSecretName::JwtKeyPrevious;
        if now {
            house_secret_delete(act.tx(), previous.as_str()).await?;
        } else {
            let sealed = self.vault.seal_house(previous, &old);
            act.may_store(&sealed).await?;
            house_secret_set(act.tx(), previous.as_str(), &sealed, act.at()).await?;
        }
        act.changed(None, "signing_key");
        let view = SigningKeyView {
            kid: SessionKey::from_house(&new).kid().to_owned(),
            previous: SessionKey::from_house(&old).kid().to_owned(),
            previous_until: (!now).then(|| act.at().plus(SETTLES_AFTER).plus(self.sessions.ttl())),
        };
        let event = act
            .event(AuditAction::SigningKeyRotated, None, &view.kid)
            .with("previous", &view.previous)
            .with("previous_verifies", !now);
        act.commit(event).await?;
        Ok(view)
    }
}
