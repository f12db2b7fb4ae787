//! Tenants: made, changed and deleted by owners, seen by their own administrators.

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Control, ControlError, DEFAULT_TENANT, Idempotency, LimitsView, Patch,
    act::{permit, scope_of},
    checks,
    error::OrMissing,
    limits::request_with_limits,
};
use crate::{
    domain::{Actor, AuditAction, NanoUsd, Permission, TenantId, Timestamp, Zone},
    store::{
        Page, Paged, StoredLimits, Tenant, TenantScope, config_variables_delete, provider_keys_delete,
        service_tokens_delete, tenant_delete, tenant_find, tenant_find_named, tenant_insert, tenant_update,
        user_count_active_owners, users_delete, virtual_keys_revoke,
    },
};

request_with_limits! {
    /// A tenant to be made.
    pub struct NewTenant {
        /// Unique name.
        pub name: String,
        /// IANA name of the zone in which its days, weeks and months begin; `UTC` when left out.
        pub time_zone: Option<String>,
    }
}

request_with_limits! {
    /// What is to change in a tenant: what is left out stays, `null` clears.
    pub struct TenantChange {
        /// New name.
        #[schema(value_type = String)]
        #[serde(default)]
        pub name: Patch<String>,
        /// IANA name of the zone in which its days, weeks and months begin; `null` is `UTC`. It holds from the next
        /// request on: what was spent on a local date stays spent on it, and only the next window begins elsewhere.
        #[schema(value_type = Option<String>)]
        #[serde(default)]
        pub time_zone: Patch<String>,
    }
}

/// A tenant, its limits and where they stand.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TenantView {
    /// `tnt_…`.
    #[schema(value_type = String)]
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// IANA name of the zone in which its days begin.
    pub time_zone: &'static str,
    /// Limits and spend.
    #[serde(flatten)]
    pub limits: LimitsView,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl Control {
    /// Makes the tenant `default` unless it is there, and answers its id. To be called at every start.
    pub async fn ensure_default_tenant(&self) -> Result<TenantId, ControlError> {
        let act = self.begin(&Actor::System, Permission::ManageHouse).await?;
        if let Some(tenant) = tenant_find_named(act.tx(), DEFAULT_TENANT).await? {
            return Ok(tenant.id);
        }
        let tenant = new(DEFAULT_TENANT.to_owned(), StoredLimits::default(), Zone::UTC, act.at());
        tenant_insert(act.tx(), &tenant).await?;
        let event = act.event(AuditAction::TenantCreated, Some(tenant.id), tenant.id);
        act.commit(event.with("name", &tenant.name)).await?;
        Ok(tenant.id)
    }

    /// Makes a tenant.
    pub async fn tenant_create(
        &self,
        actor: &Actor,
        mut asked: NewTenant,
        idempotency: Option<&Idempotency>,
    ) -> Result<TenantView, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        let name = checks::name("name", &asked.name)?;
        let mut limits = StoredLimits::default();
        asked.take_limits().apply(&mut limits)?;
        let zone = asked.time_zone.as_deref().map(checks::zone).transpose()?.unwrap_or_default();
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.tenant(actor, &made).await;
        }
        refuse_taken(act.tx(), &name, None).await?;
        let tenant = new(name, limits, zone, act.at());
        tenant_insert(act.tx(), &tenant).await?;
        act.remember(actor, idempotency, tenant.id).await?;
        act.changed(Some(tenant.id), "tenant");
        let event = act.event(AuditAction::TenantCreated, Some(tenant.id), tenant.id);
        act.commit(event.with("name", &tenant.name)).await?;
        self.view_tenant(tenant).await
    }

    /// Tenants that the actor may see, oldest first.
    pub async fn tenants(&self, actor: &Actor, page: &Page) -> Result<Paged<TenantView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let found = self.store.tenants(scope_of(actor), page).await.or_bad_cursor()?;
        let mut items = Vec::with_capacity(found.items.len());
        let unreconciled = self.unreconciled(found.items.iter().map(|tenant| tenant.id.into())).await?;
        for tenant in found.items {
            let unreconciled = unreconciled.get(&tenant.id.into()).copied().unwrap_or_default();
            items.push(self.show_tenant(tenant, unreconciled).await?);
        }
        Ok(Paged { items, next_cursor: found.next_cursor })
    }

    /// One tenant.
    pub async fn tenant(&self, actor: &Actor, id: &str) -> Result<TenantView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let id = id.parse().map_err(|_| ControlError::NotFound("tenant"))?;
        self.view_tenant(self.store.tenant(scope_of(actor), id).await.or_missing("tenant")?).await
    }

    /// Changes a tenant. Owners only: nobody sets their own tenant's limits.
    pub async fn tenant_change(
        &self,
        actor: &Actor,
        id: &str,
        mut asked: TenantChange,
    ) -> Result<TenantView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let id: TenantId = id.parse().map_err(|_| ControlError::NotFound("tenant"))?;
        let mut tenant = tenant_find(act.tx(), act.scope(), id).await.or_missing("tenant")?;
        let changes = asked.take_limits();
        let mut names = changes.names();
        changes.apply(&mut tenant.limits)?;
        if let Some(name) = asked.name.not_null("name")? {
            let name = checks::name("name", &name)?;
            if tenant.name == DEFAULT_TENANT && name != tenant.name {
                return Err(ControlError::Conflict("the tenant `default` keeps its name".into()));
            }
            refuse_taken(act.tx(), &name, Some(tenant.id)).await?;
            tenant.name = name;
            names.push("name");
        }
        if !asked.time_zone.is_keep() {
            names.push("time_zone");
        }
        asked.time_zone.apply(&mut tenant.zone, Zone::UTC, |text| checks::zone(&text))?;
        tenant.updated_at = act.at();
        tenant_update(act.tx(), &tenant).await?;
        act.changed(Some(tenant.id), "tenant");
        let event = act.event(AuditAction::TenantUpdated, Some(tenant.id), tenant.id);
        act.commit(event.with("changed", names.join(","))).await?;
        self.view_tenant(tenant).await
    }

    /// Deletes a tenant: its keys are revoked, its provider keys, config variables, service tokens and users removed. Its
    /// usage and its audit entries stay.
    pub async fn tenant_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let id: TenantId = id.parse().map_err(|_| ControlError::NotFound("tenant"))?;
        let tenant = tenant_find(act.tx(), act.scope(), id).await.or_missing("tenant")?;
        if tenant.name == DEFAULT_TENANT {
            return Err(ControlError::Conflict("the tenant `default` cannot be deleted".into()));
        }
        if matches!(actor, Actor::User { tenant, .. } if *tenant == id) {
            return Err(ControlError::Forbidden(
                "nobody deletes the tenant they are in; ask an owner of another tenant",
            ));
        }
        let owners = user_count_active_owners(act.tx()).await?;
        virtual_keys_revoke(act.tx(), id, act.at()).await?;
        provider_keys_delete(act.tx(), id).await?;
        service_tokens_delete(act.tx(), id).await?;
        config_variables_delete(act.tx(), id).await?;
        users_delete(act.tx(), id).await?;
        if owners > 0 && user_count_active_owners(act.tx()).await? == 0 {
            return Err(ControlError::Conflict(
                "the last active owner is in this tenant; make another one elsewhere first".into(),
            ));
        }
        tenant_delete(act.tx(), id, act.at()).await?;
        act.changed(Some(id), "tenant");
        let event = act.event(AuditAction::TenantDeleted, Some(id), id);
        act.commit(event.with("name", &tenant.name)).await
    }

    /// The tenant whose rows a list or report is about: the named one, or all that the actor may see.
    pub(super) async fn scope(
        &self,
        actor: &Actor,
        named: Option<&str>,
    ) -> Result<TenantScope, ControlError> {
        let scope = scope_of(actor);
        let Some(text) = named else { return Ok(scope) };
        let id = text.parse().map_err(|_| ControlError::NotFound("tenant"))?;
        Ok(TenantScope::only(self.store.tenant(scope, id).await.or_missing("tenant")?.id))
    }

    async fn view_tenant(&self, tenant: Tenant) -> Result<TenantView, ControlError> {
        let unreconciled = self.unreconciled([tenant.id.into()]).await?.into_values().sum();
        self.show_tenant(tenant, unreconciled).await
    }

    async fn show_tenant(&self, tenant: Tenant, unreconciled: NanoUsd) -> Result<TenantView, ControlError> {
        Ok(TenantView {
            id: tenant.id,
            name: tenant.name,
            time_zone: tenant.zone.name(),
            limits: self.limits_view(tenant.id.into(), &tenant.limits, tenant.zone, unreconciled).await?,
            created_at: tenant.created_at,
            updated_at: tenant.updated_at,
        })
    }
}

fn new(name: String, limits: StoredLimits, zone: Zone, at: Timestamp) -> Tenant {
    Tenant { id: TenantId::generate(), name, limits, zone, created_at: at, updated_at: at }
}

async fn refuse_taken(
    tx: &crate::store::Tx,
    name: &str,
    except: Option<TenantId>,
) -> Result<(), ControlError> {
    match tenant_find_named(tx, name).await? {
        Some(other) if Some(other.id) != except => {
            Err(ControlError::Conflict(format!("a tenant named `{name}` exists already")))
        }
        _ => Ok(()),
    }
}
