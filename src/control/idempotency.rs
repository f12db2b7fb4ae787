//! `Idempotency-Key`: a create that is asked for twice is done once. Secrets are shown the first time only.

use std::time::Duration;

use super::{Control, ControlError, act::Act};
use crate::{
    domain::{Actor, Timestamp},
    store::{DoneCreate, idempotency_find, idempotency_insert},
};

/// How long a key is remembered.
const KEPT: Duration = Duration::from_secs(24 * 3600);
const MAX_BYTES: usize = 255;

/// The key of one create, and what it asks for.
#[derive(Clone, Debug)]
pub struct Idempotency {
    key: String,
    digest: String,
}

impl Control {
    /// Takes a client's key for a create by `route` with `body`. Bodies are compared as JSON, whatever their spacing
    /// and order.
    pub fn idempotency(&self, key: &str, route: &str, body: &[u8]) -> Result<Idempotency, ControlError> {
        if key.is_empty() || key.len() > MAX_BYTES || !key.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        {
            return Err(ControlError::bad("`Idempotency-Key` must have 1 to 255 visible ASCII characters"));
        }
        let canonical = serde_json::from_slice::<serde_json::Value>(body).map(|value| value.to_string());
        let body = canonical.as_ref().map_or(body, |text| text.as_bytes());
        Ok(Idempotency { key: key.to_owned(), digest: self.audit_key.request_digest(route, body) })
    }
}

impl Act<'_> {
    /// The id of what the same request made before, if it came before.
    pub(super) async fn made_before(
        &self,
        actor: &Actor,
        idempotency: Option<&Idempotency>,
    ) -> Result<Option<String>, ControlError> {
        let Some(asked) = idempotency else { return Ok(None) };
        match idempotency_find(self.tx(), &actor.label(), &asked.key, self.since()).await? {
            Some(done) if done.request_digest == asked.digest => Ok(Some(done.object_id)),
            Some(_) => Err(ControlError::IdempotencyMismatch),
            None => Ok(None),
        }
    }

    /// Remembers what was made.
    pub(super) async fn remember(
        &self,
        actor: &Actor,
        idempotency: Option<&Idempotency>,
        object: impl ToString,
    ) -> Result<(), ControlError> {
        let Some(asked) = idempotency else { return Ok(()) };
        let done = DoneCreate { request_digest: asked.digest.clone(), object_id: object.to_string() };
        idempotency_insert(self.tx(), &actor.label(), &asked.key, &done, self.at(), self.since()).await?;
        Ok(())
    }

    fn since(&self) -> Timestamp {
        self.at().minus(KEPT)
    }
}
