//! Service tokens: made, switched off and on, rotated, deleted. The token itself is shown once; what is kept is its
//! digest. What a token may do is in [`super::retrieval`].

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Control, ControlError, Idempotency, Patch, RotateKey,
    act::{permit, scope_of},
    checks,
    error::OrMissing,
};
use crate::{
    domain::{
        Actor, AuditAction, Permission, ServiceTokenDigest, ServiceTokenId, ServiceTokenPlaintext, TenantId,
        Timestamp,
    },
    store::{
        Page, Paged, ServiceToken, service_token_delete, service_token_find, service_token_insert,
        service_token_secret_insert, service_token_secrets_retire, service_token_update,
    },
    vault::service_token,
};

/// A service token to be made.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewServiceToken {
    /// Which service will hold it; for people.
    pub service_name: String,
    /// Whose keys it fetches; one's own tenant, or `default`, when left out.
    pub tenant_id: Option<String>,
}

/// What is to change in a service token.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceTokenChange {
    /// May be used.
    #[schema(value_type = bool)]
    #[serde(default)]
    pub is_active: Patch<bool>,
}

/// What may be known of a service token.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ServiceTokenView {
    /// `st_…`.
    #[schema(value_type = String)]
    pub id: ServiceTokenId,
    /// Whose keys it fetches.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Which service holds it.
    pub service_name: String,
    /// What the token begins with; not secret.
    pub token_prefix: Option<String>,
    /// May be used.
    pub is_active: bool,
    /// When a key was last asked for with it.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A service token that was just made or rotated.
pub struct MadeServiceToken {
    /// What may be known of it.
    pub view: ServiceTokenView,
    /// The token, to be shown once; `None` when the same create came before.
    pub plaintext: Option<ServiceTokenPlaintext>,
}

impl Control {
    /// Makes a service token.
    pub async fn service_token_create(
        &self,
        actor: &Actor,
        asked: NewServiceToken,
        idempotency: Option<&Idempotency>,
    ) -> Result<MadeServiceToken, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let service_name = checks::name("service_name", &asked.service_name)?;
        let act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return Ok(MadeServiceToken { view: self.service_token(actor, &made).await?, plaintext: None });
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        let (plaintext, token_id) = service_token::generate();
        let token = ServiceToken {
            id: ServiceTokenId::generate(),
            tenant_id,
            service_name,
            is_active: true,
            last_used_at: None,
            created_at: act.at(),
            updated_at: act.at(),
            token_id: Some(token_id.clone()),
        };
        service_token_insert(act.tx(), &token).await?;
        let digest = self.service_token_digest(&plaintext);
        service_token_secret_insert(act.tx(), token.id, &digest, &token_id, act.at()).await?;
        act.remember(actor, idempotency, token.id).await?;
        let event = act
            .event(AuditAction::ServiceTokenCreated, Some(tenant_id), token.id)
            .with("service_name", &token.service_name)
            .with("token_id", &token_id);
        act.commit(event).await?;
        Ok(MadeServiceToken { view: token.into(), plaintext: Some(plaintext) })
    }

    /// Service tokens that the actor may see, oldest first.
    pub async fn service_tokens(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Paged<ServiceTokenView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        Ok(self.store.service_tokens(scope, page).await.or_bad_cursor()?.map(ServiceTokenView::from))
    }

    /// One service token.
    pub async fn service_token(&self, actor: &Actor, id: &str) -> Result<ServiceTokenView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let token = self.store.service_token(scope_of(actor), token_id(id)?).await;
        Ok(token.or_missing("service token")?.into())
    }

    /// Switches a service token off or on; in force at the next fetch, on every instance.
    pub async fn service_token_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: ServiceTokenChange,
    ) -> Result<ServiceTokenView, ControlError> {
        let act = self.begin(actor, Permission::ManageKeys).await?;
        let mut token =
            service_token_find(act.tx(), act.scope(), token_id(id)?).await.or_missing("service token")?;
        let mut changed = "";
        if let Some(is_active) = asked.is_active.not_null("is_active")? {
            token.is_active = is_active;
            changed = "is_active";
        }
        token.updated_at = act.at();
        service_token_update(act.tx(), &token).await?;
        let event = act
            .event(AuditAction::ServiceTokenUpdated, Some(token.tenant_id), token.id)
            .with("changed", changed)
            .with("is_active", token.is_active);
        act.commit(event).await?;
        Ok(token.into())
    }

    /// Gives a service token a new secret under the same id. The old one ends at once or after a grace period.
    pub async fn service_token_rotate(
        &self,
        actor: &Actor,
        id: &str,
        asked: RotateKey,
    ) -> Result<MadeServiceToken, ControlError> {
        let grace = asked.grace()?;
        let act = self.begin(actor, Permission::ManageKeys).await?;
        let mut token =
            service_token_find(act.tx(), act.scope(), token_id(id)?).await.or_missing("service token")?;
        service_token_secrets_retire(act.tx(), token.id, act.at(), act.at().plus(grace)).await?;
        let (plaintext, token_id) = service_token::generate();
        let digest = self.service_token_digest(&plaintext);
        service_token_secret_insert(act.tx(), token.id, &digest, &token_id, act.at()).await?;
        token.updated_at = act.at();
        service_token_update(act.tx(), &token).await?;
        let event = act
            .event(AuditAction::ServiceTokenRotated, Some(token.tenant_id), token.id)
            .with("token_id", &token_id)
            .with("grace_seconds", grace.as_secs());
        token.token_id = Some(token_id);
        act.commit(event).await?;
        Ok(MadeServiceToken { view: token.into(), plaintext: Some(plaintext) })
    }

    /// Deletes a service token and its secrets.
    pub async fn service_token_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let act = self.begin(actor, Permission::ManageKeys).await?;
        let token =
            service_token_find(act.tx(), act.scope(), token_id(id)?).await.or_missing("service token")?;
        service_token_delete(act.tx(), token.id).await?;
        let event = act
            .event(AuditAction::ServiceTokenDeleted, Some(token.tenant_id), token.id)
            .with("service_name", &token.service_name);
        act.commit(event).await
    }

    #[expect(clippy::disallowed_methods, reason = "the new token is hashed; the hash is what is stored")]
    fn service_token_digest(&self, token: &ServiceTokenPlaintext) -> ServiceTokenDigest {
        self.pepper.service_token_digest(token.expose_secret())
    }
}

impl From<ServiceToken> for ServiceTokenView {
    fn from(token: ServiceToken) -> Self {
        Self {
            id: token.id,
            tenant_id: token.tenant_id,
            service_name: token.service_name,
            token_prefix: token.token_id.map(|id| service_token::beginning(&id)),
            is_active: token.is_active,
            last_used_at: token.last_used_at,
            created_at: token.created_at,
            updated_at: token.updated_at,
        }
    }
}

fn token_id(text: &str) -> Result<ServiceTokenId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("service token"))
}
