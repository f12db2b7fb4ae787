//! Rotation of a provider key without a pause: a new secret is laid beside the present one, tried at the provider, and
//! takes its place. Requests under way end with the secret they began with.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ProviderKeyView, StagedKey, Verdict, key_id,
    place::{Keyed, Place},
    unmanaged,
};
use crate::{
    control::{Control, ControlError, KeySource, Patch, act::Act, clouds::Stored, error::OrMissing},
    domain::{Actor, AuditAction, AuditEvent, Permission, Timestamp},
    store::{ProviderKey, StagedSecret, provider_key_find, provider_key_update},
};

/// A secret to be laid beside the present one.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StageKey {
    /// The new secret.
    #[schema(value_type = KeySource)]
    #[serde(default)]
    pub api_key: Patch<KeySource>,
}

/// How a staged secret takes the present one's place.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteKey {
    /// Also when the provider did not take it, or was not asked.
    #[serde(default)]
    pub unverified: bool,
    /// Only if this is the staged secret's fingerprint; whichever is staged when left out.
    pub fingerprint: Option<String>,
}

/// What came of trying a staged secret.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VerifiedView {
    /// Whether the provider took it.
    pub ok: bool,
    /// The HTTP status it answered with; `null` when it did not answer.
    pub status: Option<u16>,
    /// Why not, in words; `null` when it took it.
    pub reason: Option<&'static str>,
}

impl Control {
    /// Lays a new secret beside the present one; an earlier one that waits there goes.
    pub async fn provider_key_stage(
        &self,
        actor: &Actor,
        id: &str,
        asked: StageKey,
    ) -> Result<ProviderKeyView, ControlError> {
        let (act, mut key) = self.begin_on(actor, id).await?;
        let place = self.present_place(&key)?;
        let source = match asked.api_key {
            Patch::Set(KeySource::Store(_)) => {
                return Err(ControlError::bad(
                    "`api_key` of a staged secret is the key itself; a key that follows a config variable changes with it",
                ));
            }
            Patch::Keep => {
                return Err(ControlError::invalid("secret_required", "`api_key` is missing"));
            }
            source => source,
        };
        let Keyed { secret, .. } = self.key_secret(act.tx(), key.tenant_id, source, &place).await?;
        if secret.is_empty() {
            return Err(ControlError::invalid("secret_required", "`api_key` is empty; send the new key"));
        }
        let fingerprint = self.fingerprints.of(&secret);
        if fingerprint == key.fingerprint {
            return Err(ControlError::Conflict("this is the secret that the key has already".into()));
        }
        let sealed =
            self.vault.seal_provider_key(key.tenant_id, key.id, key.provider.as_str(), &key.origin, &secret);
        act.may_store(&sealed).await?;
        key.staged = Some(StagedSecret { sealed, fingerprint, at: act.at(), verified_at: None });
        provider_key_update(act.tx(), &key).await?;
        let mut event = act
            .event(AuditAction::ProviderKeyStaged, Some(key.tenant_id), key.id)
            .with("origin", &key.origin);
        if let Some(staged) = &key.staged {
            event = event.with("fingerprint", &staged.fingerprint);
        }
        act.commit(event).await?;
        self.viewed(key).await
    }

    /// Throws the staged secret away.
    pub async fn provider_key_unstage(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let (act, mut key) = self.begin_on(actor, id).await?;
        let staged = key.staged.take().ok_or(ControlError::NotFound("staged secret"))?;
        provider_key_update(act.tx(), &key).await?;
        let event = act
            .event(AuditAction::ProviderKeyUnstaged, Some(key.tenant_id), key.id)
            .with("fingerprint", staged.fingerprint);
        act.commit(event).await
    }

    /// Tries the staged secret with one call at the key's own provider and address, and notes what came of it. That it is
    /// tried is on record before the secret is opened. Nothing is held while the provider thinks; a secret that was staged
    /// meanwhile is not the one that was tried.
    pub async fn provider_key_verify(&self, actor: &Actor, id: &str) -> Result<VerifiedView, ControlError> {
        let (act, key) = self.begin_on(actor, id).await?;
        let (Some(staged), Some(tried)) = (StagedKey::of(&key), Tried::of(&key)) else {
            return Err(nothing_staged());
        };
        let event = tried.event(&act, &key).with("phase", "started");
        act.commit(event).await?;

        let verdict = match key.cloud {
            Some(_) => Verdict::NotAsked("this version does not speak to the key's cloud yet"),
            None => self.prober.probe(staged).await,
        };
        let said = VerifiedView::from(verdict);

        let (mut act, mut key) = self.begin_on(actor, id).await?;
        if let Verdict::Unsealable(reason) = verdict {
            let event = act
                .event(AuditAction::ProviderKeyUnsealable, Some(key.tenant_id), key.id)
                .failed()
                .with("provider", &key.provider)
                .with("fingerprint", &tried.fingerprint)
                .with("reason", reason);
            act.record(event).await?;
        }
        let mut event = tried.event(&act, &key).with("phase", "done");
        if let Some(status) = said.status {
            event = event.with("status", status);
        }
        if Tried::of(&key).as_ref() != Some(&tried) {
            act.commit(event.with("reason", "another secret waits now, or at another address").failed())
                .await?;
            return Err(ControlError::Conflict(
                "the staged secret or the key's address was changed while this one was tried; verify again"
                    .into(),
            ));
        }
        let at = act.at();
        if let Some(staged) = &mut key.staged {
            staged.verified_at = said.ok.then_some(at);
        }
        provider_key_update(act.tx(), &key).await?;
        if let Some(reason) = said.reason {
            event = event.with("reason", reason);
        }
        if !said.ok {
            event = event.failed();
        }
        act.commit(event).await?;
        Ok(said)
    }

    /// Puts the staged secret in the present one's place.
    pub async fn provider_key_promote(
        &self,
        actor: &Actor,
        id: &str,
        asked: PromoteKey,
    ) -> Result<ProviderKeyView, ControlError> {
        let (mut act, mut key) = self.begin_on(actor, id).await?;
        let staged = key.staged.take().ok_or_else(nothing_staged)?;
        if asked.fingerprint.is_some_and(|named| named != staged.fingerprint) {
            return Err(ControlError::InTheWay {
                code: "not_staged",
                message: "the staged secret is not the one with this `fingerprint`; look at the key again"
                    .into(),
            });
        }
        let verified = staged.verified_at.is_some();
        if !verified && !asked.unverified {
            return Err(ControlError::InTheWay {
                code: "not_verified",
                message: "the provider has not taken the staged secret yet; verify it first, or send `{\"unverified\": true}`"
                    .into(),
            });
        }
        key.sealed = staged.sealed;
        key.fingerprint = staged.fingerprint;
        key.reference = None;
        key.updated_at = act.at();
        provider_key_update(act.tx(), &key).await?;
        act.changed(Some(key.tenant_id), "provider_key");
        let event = act
            .event(AuditAction::ProviderKeyPromoted, Some(key.tenant_id), key.id)
            .with("fingerprint", &key.fingerprint)
            .with("verified", verified);
        act.commit(event).await?;
        self.viewed(key).await
    }

    /// An act on one key that is the API's own.
    async fn begin_on<'a>(
        &'a self,
        actor: &'a Actor,
        id: &str,
    ) -> Result<(Act<'a>, ProviderKey), ControlError> {
        let act = self.begin(actor, Permission::ManageKeys).await?;
        let key = provider_key_find(act.tx(), act.scope(), key_id(id)?).await.or_missing("provider key")?;
        unmanaged(&key)?;
        Ok((act, key))
    }

    /// Where a key is used, judged by the policy of today.
    fn present_place(&self, key: &ProviderKey) -> Result<Place, ControlError> {
        match key.cloud.as_deref().and_then(Stored::read) {
            Some(stored) => self.cloud_place(key.provider.clone(), &stored),
            None => self.place(key.provider.clone(), Some(&key.base_url), key.dialect.as_deref()),
        }
    }
}

/// What is tried: which secret, and where. Its sealed text is no part of that, as a rotation of master keys seals the same
/// secret anew.
#[derive(PartialEq, Eq)]
struct Tried {
    fingerprint: String,
    staged_at: Timestamp,
    base_url: String,
    origin: String,
}

impl Tried {
    /// Of a row; `None` when nothing is staged.
    fn of(key: &ProviderKey) -> Option<Self> {
        let staged = key.staged.as_ref()?;
        Some(Self {
            fingerprint: staged.fingerprint.clone(),
            staged_at: staged.at,
            base_url: key.base_url.clone(),
            origin: key.origin.clone(),
        })
    }

    fn event(&self, act: &Act<'_>, key: &ProviderKey) -> AuditEvent {
        act.event(AuditAction::ProviderKeyVerified, Some(key.tenant_id), key.id)
            .with("fingerprint", &self.fingerprint)
            .with("origin", &self.origin)
    }
}

fn nothing_staged() -> ControlError {
    ControlError::Conflict("nothing is staged for this key; stage a new secret first".into())
}

impl From<Verdict> for VerifiedView {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Answered(status @ 200..=299) => Self { ok: true, status: Some(status), reason: None },
            Verdict::Answered(status) => Self {
                ok: false,
                status: Some(status),
                reason: Some(match status {
                    401 | 403 => "the provider refuses this secret",
                    404 | 405 => "the provider has no such call; promote without it if you are sure",
                    429 => "the provider is busy or the account has a limit; try again later",
                    _ => "the provider answered with an error; try again later",
                }),
            },
            Verdict::NotAsked(why) => Self { ok: false, status: None, reason: Some(why) },
            Verdict::Unsealable(_) => Self {
                ok: false,
                status: None,
                reason: Some("the staged secret does not open, and the audit log says why; stage it anew"),
            },
        }
    }
}
