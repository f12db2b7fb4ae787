//! A service fetches a key: the one way in which a plaintext leaves the vault.
//!
//! Off unless the operator allows it; then only a key that was uploaded as retrievable, of the token's own tenant. What
//! becomes of a request is written to the audit log before it is answered: when that cannot be done, nothing is given. So
//! that strangers cannot flood the log, an address that has shown no live token five times in a minute is told to wait,
//! and no more is written of it until then.

use std::cmp::Reverse;

use super::{Control, ControlError, LoginOrigin, service_rate::TooOften, throttle::Subjects};
use crate::{
    domain::{
        Actor, AuditAction, AuditEvent, ProviderKeyId, ProviderSecret, ProviderSlug, RetrievalGrant,
        ServiceTokenId, ServiceTokenPlaintext, TenantId,
    },
    store::{
        PresentedToken, ProviderKey, ServiceToken, StoreError, TenantScope, Tx, provider_keys_of,
        service_token_find, service_token_update,
    },
    vault::{SealedRow, service_token},
};

/// What a request presents in order to fetch a key. It has no `Debug`: it may hold a token.
pub enum ServiceCredential {
    /// Nothing.
    Missing,
    /// More than one credential.
    Several,
    /// One text, whatever it is.
    One(ServiceTokenPlaintext),
}

/// A key on its way to a service. It has no `Debug`.
pub struct RetrievedKey {
    /// At which provider.
    pub provider: ProviderSlug,
    /// Its name.
    pub key_name: String,
    /// The key itself.
    pub secret: ProviderSecret,
}

/// Why somebody is no service.
enum Stranger {
    Missing,
    Several,
    Malformed,
    Unknown,
    Deactivated(PresentedToken),
    Expired(PresentedToken),
}

impl Stranger {
    fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Several => "several_credentials",
            Self::Malformed => "malformed_token",
            Self::Unknown => "unknown_token",
            Self::Deactivated(_) => "deactivated_token",
            Self::Expired(_) => "expired_token",
        }
    }
}

/// Why a service gets no key.
enum Refusal {
    /// Its token ended between the look at it and the act.
    TokenEnded,
    TooOften(TooOften),
    Off,
    UnknownProvider,
    NoKey,
    NoneRetrievable,
    NoneActive,
}

impl Refusal {
    fn reason(&self) -> &'static str {
        match self {
            Self::TokenEnded => "deactivated_token",
            Self::TooOften(_) => "rate_limited",
            Self::Off => "retrieval_disabled",
            Self::UnknownProvider => "unknown_provider",
            Self::NoKey => "no_key",
            Self::NoneRetrievable => "not_retrievable",
            Self::NoneActive => "not_active",
        }
    }
}

impl From<Refusal> for ControlError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::TokenEnded => Self::NoServiceToken,
            Refusal::TooOften(TooOften { retry_after, .. }) => Self::ServiceTooOften { retry_after },
            Refusal::Off => Self::RetrievalOff,
            Refusal::UnknownProvider => Self::NothingToRetrieve(
                "there is no such provider: it is none of the catalogue, and this tenant has no key for it",
            ),
            Refusal::NoKey => Self::NothingToRetrieve("this tenant has no key for this provider"),
            Refusal::NoneRetrievable => Self::NothingToRetrieve(
                "no key of this tenant for this provider was uploaded with `\"retrievable\": true`; that is fixed at upload, so upload one anew",
            ),
            Refusal::NoneActive => Self::NothingToRetrieve(
                "no retrievable key of this tenant for this provider is active; activate one",
            ),
        }
    }
}

impl Control {
    /// Which service presents this, as of now.
    ///
    /// # Errors
    /// All that are no live token are refused alike.
    pub async fn authenticate_service(
        &self,
        presented: ServiceCredential,
        origin: LoginOrigin,
    ) -> Result<Actor, ControlError> {
        let stranger = match presented {
            ServiceCredential::Missing => Stranger::Missing,
            ServiceCredential::Several => Stranger::Several,
            ServiceCredential::One(token) => match self.service(&token).await? {
                Ok(actor) => return Ok(actor.in_request(origin.request)),
                Err(stranger) => stranger,
            },
        };
        let (subjects, now) = (Subjects::service(origin.address), self.clock.now());
        if let Some(retry_after) = self.0.throttle.wait(subjects, now) {
            return Err(ControlError::ServicesThrottled { retry_after });
        }
        self.0.throttle.failed(subjects, now);
        self.note_stranger(&stranger, origin).await?;
        Err(match stranger {
            Stranger::Several => ControlError::SeveralCredentials,
            _ => ControlError::NoServiceToken,
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the presented token is checked for its shape and turned into its digest"
    )]
    async fn service(
        &self,
        presented: &ServiceTokenPlaintext,
    ) -> Result<Result<Actor, Stranger>, ControlError> {
        let text = presented.expose_secret();
        if !service_token::well_formed(text) {
            return Ok(Err(Stranger::Malformed));
        }
        let digest = self.pepper.service_token_digest(text);
        Ok(match self.store.service_token_presented(&digest).await? {
            None => Err(Stranger::Unknown),
            Some(token) if !token.is_active => Err(Stranger::Deactivated(token)),
            Some(token) if token.secret_expires_at.is_some_and(|end| end <= self.clock.now()) => {
                Err(Stranger::Expired(token))
            }
            Some(token) => Ok(Actor::Service { id: token.id, tenant: token.tenant, request: None }),
        })
    }

    /// What was typed is not kept: it may be another secret in the wrong place.
    async fn note_stranger(&self, stranger: &Stranger, origin: LoginOrigin) -> Result<(), ControlError> {
        let known = match stranger {
            Stranger::Deactivated(token) | Stranger::Expired(token) => Some(token),
            Stranger::Missing | Stranger::Several | Stranger::Malformed | Stranger::Unknown => None,
        };
        let actor = known.map_or(Actor::System, |token| Actor::Service {
            id: token.id,
            tenant: token.tenant,
            request: origin.request,
        });
        let act = self.begin_unasked(&actor).await.map_err(unrecorded)?;
        let event = act.event(AuditAction::ProviderKeyRetrieved, known.map(|token| token.tenant), "");
        let event = AuditEvent { object: None, ..event.in_request(origin.request).refused() }
            .with("reason", stranger.reason());
        act.commit(event).await.map_err(unrecorded)
    }

    /// Gives a service the key of its tenant at `provider`: the active retrievable one of the highest weight, then the
    /// newest. A key that does not open is an incident, and no other takes its place.
    pub async fn retrieve_key(&self, actor: &Actor, provider: &str) -> Result<RetrievedKey, ControlError> {
        let Actor::Service { id, tenant, .. } = *actor else {
            return Err(ControlError::Forbidden("keys are fetched with a service token"));
        };
        let rate = self.0.service_rate.take(id);
        if let Err(late) = rate
            && !late.note
        {
            return Err(Refusal::TooOften(late).into());
        }
        let act = self.begin_unasked(actor).await.map_err(unrecorded)?;
        let token = live_token(act.tx(), tenant, id).await.map_err(|error| unrecorded(error.into()))?;
        let event = |action, key: Option<ProviderKeyId>| {
            let event = act.event(action, Some(tenant), "");
            let event = AuditEvent { object: key.map(|key| key.to_string()), ..event };
            match &token {
                Some(token) => event.with("service_name", &token.service_name),
                None => event,
            }
        };
        if let Some(mut used) = token.clone() {
            used.last_used_at = Some(act.at());
            service_token_update(act.tx(), &used).await.map_err(|error| unrecorded(error.into()))?;
        }
        let (known, chosen) = match (&token, rate) {
            (None, _) => (None, Err(Refusal::TokenEnded)),
            (_, Err(late)) => (None, Err(Refusal::TooOften(late))),
            (Some(_), Ok(())) => {
                let found = self.choose(act.tx(), tenant, provider).await;
                found.map_err(|error| unrecorded(error.into()))?
            }
        };
        let about = |event: AuditEvent| match &known {
            // A slug that nobody knows may be a secret in the wrong place.
            Some(slug) => event.with("provider", slug),
            None => event,
        };
        let key = match chosen {
            Ok(key) => key,
            Err(refusal) => {
                let event = event(AuditAction::ProviderKeyRetrieved, None).refused();
                let event = about(event).with("reason", refusal.reason());
                act.commit(event).await.map_err(unrecorded)?;
                return Err(refusal.into());
            }
        };
        match self.open_for(&key) {
            Ok(secret) => {
                let event = about(event(AuditAction::ProviderKeyRetrieved, Some(key.id)));
                // From here on it is on record; before, the secret has not left this function.
                act.commit(event.with("key_name", &key.key_name)).await.map_err(unrecorded)?;
                Ok(RetrievedKey { provider: key.provider, key_name: key.key_name, secret })
            }
            Err(error) => {
                tracing::error!(provider_key = %key.id, reason = %error, "vault.open_failed");
                let event = event(AuditAction::ProviderKeyUnsealable, Some(key.id)).failed();
                act.commit(about(event).with("reason", error)).await.map_err(unrecorded)?;
                Err(ControlError::KeyDoesNotOpen)
            }
        }
    }

    /// The provider, if anybody knows it, and the key that may leave.
    async fn choose(
        &self,
        tx: &Tx,
        tenant: TenantId,
        provider: &str,
    ) -> Result<(Option<ProviderSlug>, Result<ProviderKey, Refusal>), StoreError> {
        let off = !self.settings.allow_retrieval;
        let unknown = || Ok((None, Err(if off { Refusal::Off } else { Refusal::UnknownProvider })));
        let Ok(slug) = ProviderSlug::parse(provider) else { return unknown() };
        let mut keys = provider_keys_of(tx, tenant, &slug).await?;
        if keys.is_empty() && self.catalogue.providers.get(&slug).is_none() {
            return unknown();
        }
        let refused = if off {
            Refusal::Off
        } else if keys.is_empty() {
            Refusal::NoKey
        } else if !keys.iter().any(|key| key.retrievable) {
            Refusal::NoneRetrievable
        } else {
            keys.retain(|key| key.retrievable && key.is_active);
            // Ids are ordered by time.
            keys.sort_by_key(|key| Reverse((key.weight, key.created_at, key.id)));
            match keys.into_iter().next() {
                Some(key) => return Ok((Some(slug), Ok(key))),
                None => Refusal::NoneActive,
            }
        };
        Ok((Some(slug), Err(refused)))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the retrieval gate, the one place that issues these grants"
    )]
    fn open_for(&self, key: &ProviderKey) -> Result<ProviderSecret, crate::vault::OpenError> {
        let grant = RetrievalGrant::issue(key.tenant_id, key.id, key.provider.clone());
        let row = SealedRow {
            tenant: key.tenant_id,
            key: key.id,
            provider: key.provider.as_str(),
            origin: &key.origin,
            sealed: &key.sealed,
        };
        self.vault.open_for_retrieval(&grant, &row)
    }
}

/// The token, if it may still be used.
async fn live_token(
    tx: &Tx,
    tenant: TenantId,
    id: ServiceTokenId,
) -> Result<Option<ServiceToken>, StoreError> {
    match service_token_find(tx, TenantScope::only(tenant), id).await {
        Ok(token) => Ok(token.is_active.then_some(token)),
        Err(StoreError::NotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What cannot be recorded does not happen, whatever the reason.
fn unrecorded(error: ControlError) -> ControlError {
    match error {
        ControlError::Store(StoreError::Unavailable) => error,
        other => {
            tracing::error!(reason = %other, "retrieval.unrecorded");
            ControlError::Unrecorded
        }
    }
}
