//! Model aliases: a name of the tenant's own for an ordered list of real models.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Control, ControlError, Idempotency, Patch,
    act::{permit, scope_of},
    error::OrMissing,
};
use crate::{
    domain::{Actor, AliasId, AuditAction, ModelName, ModelRef, Permission, TenantId, Timestamp},
    store::{Alias, Page, Paged, alias_delete, alias_exists, alias_find, alias_insert, alias_update},
};

const MAX_MODELS: usize = 16;

/// An alias to be made.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAlias {
    /// The name, without a slash.
    pub name: String,
    /// Real models, `provider/model`, tried in order.
    pub models: Vec<String>,
    /// For which tenant; one's own, or `default`, when left out.
    pub tenant_id: Option<String>,
}

/// What is to change in an alias: what is left out stays.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasChange {
    /// New name.
    #[schema(value_type = String)]
    #[serde(default)]
    pub name: Patch<String>,
    /// New models.
    #[schema(value_type = Vec<String>)]
    #[serde(default)]
    pub models: Patch<Vec<String>>,
}

/// An alias.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AliasView {
    /// `als_…`.
    #[schema(value_type = String)]
    pub id: AliasId,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// The name.
    #[schema(value_type = String)]
    pub name: ModelName,
    /// Real models, tried in order.
    pub models: Vec<String>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<Alias> for AliasView {
    fn from(alias: Alias) -> Self {
        Self {
            id: alias.id,
            tenant_id: alias.tenant_id,
            name: alias.name,
            models: alias.models.iter().map(ToString::to_string).collect(),
            created_at: alias.created_at,
            updated_at: alias.updated_at,
        }
    }
}

impl Control {
    /// Makes an alias.
    pub async fn alias_create(
        &self,
        actor: &Actor,
        asked: NewAlias,
        idempotency: Option<&Idempotency>,
    ) -> Result<AliasView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let (name, models) = (checked_name(&asked.name)?, checked_models(&asked.models)?);
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.alias(actor, &made).await;
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        refuse_taken(act.tx(), tenant_id, &name).await?;
        let alias = Alias {
            id: AliasId::generate(),
            tenant_id,
            name,
            models,
            created_at: act.at(),
            updated_at: act.at(),
        };
        alias_insert(act.tx(), &alias).await?;
        act.remember(actor, idempotency, alias.id).await?;
        act.changed(Some(tenant_id), "alias");
        let event = act.event(AuditAction::AliasSet, Some(tenant_id), alias.id).with("name", &alias.name);
        act.commit(event).await?;
        Ok(alias.into())
    }

    /// Aliases that the actor may see, oldest first.
    pub async fn aliases(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Paged<AliasView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        Ok(self.store.aliases(scope, page).await.or_bad_cursor()?.map(AliasView::from))
    }

    /// One alias.
    pub async fn alias(&self, actor: &Actor, id: &str) -> Result<AliasView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        Ok(self.store.alias(scope_of(actor), alias_id(id)?).await.or_missing("alias")?.into())
    }

    /// Changes an alias.
    pub async fn alias_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: AliasChange,
    ) -> Result<AliasView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut alias = alias_find(act.tx(), act.scope(), alias_id(id)?).await.or_missing("alias")?;
        if let Some(name) = asked.name.not_null("name")? {
            let name = checked_name(&name)?;
            if name != alias.name {
                refuse_taken(act.tx(), alias.tenant_id, &name).await?;
                alias.name = name;
            }
        }
        if let Some(models) = asked.models.not_null("models")? {
            alias.models = checked_models(&models)?;
        }
        alias.updated_at = act.at();
        alias_update(act.tx(), &alias).await?;
        act.changed(Some(alias.tenant_id), "alias");
        let event =
            act.event(AuditAction::AliasSet, Some(alias.tenant_id), alias.id).with("name", &alias.name);
        act.commit(event).await?;
        Ok(alias.into())
    }

    /// Deletes an alias.
    pub async fn alias_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let alias = alias_find(act.tx(), act.scope(), alias_id(id)?).await.or_missing("alias")?;
        alias_delete(act.tx(), alias.id).await?;
        act.changed(Some(alias.tenant_id), "alias");
        let event =
            act.event(AuditAction::AliasDeleted, Some(alias.tenant_id), alias.id).with("name", &alias.name);
        act.commit(event).await
    }
}

fn alias_id(text: &str) -> Result<AliasId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("alias"))
}

fn checked_name(text: &str) -> Result<ModelName, ControlError> {
    let name = ModelName::parse(text)
        .map_err(|error| ControlError::invalid("invalid_model", format!("`name`: {error}")))?;
    // What has a slash is a real model: an alias of that name would never be looked at, or hide one.
    if text.contains('/') {
        return Err(ControlError::invalid("invalid_model", "`name` of an alias must not contain `/`"));
    }
    Ok(name)
}

/// Real models only, so that there are neither chains nor loops.
fn checked_models(texts: &[String]) -> Result<Vec<ModelRef>, ControlError> {
    if texts.is_empty() || texts.len() > MAX_MODELS {
        return Err(ControlError::bad(format!("`models` must name 1 to {MAX_MODELS} models")));
    }
    texts
        .iter()
        .map(|text| ModelRef::parse(text))
        .collect::<Result<_, _>>()
        .map_err(|error| ControlError::invalid("invalid_model", format!("`models`: {error}")))
}

async fn refuse_taken(tx: &crate::store::Tx, tenant: TenantId, name: &ModelName) -> Result<(), ControlError> {
    if alias_exists(tx, tenant, name.as_str()).await? {
        return Err(ControlError::Conflict(format!("an alias named `{name}` exists already")));
    }
    Ok(())
}
