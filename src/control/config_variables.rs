//! Config variables: named values of a tenant, in the open or sealed. A provider key may take its secret from a sensitive
//! one (see [`super::references`]); it then follows every change in the same act.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{
    Control, ControlError, Idempotency, Patch, REDACTED, SecretInput,
    act::{Act, permit, scope_of},
    error::OrMissing,
    references::{Unresolved, store_reference},
    secret_input::is_mask,
};
use crate::{
    domain::{Actor, AuditAction, ConfigVariableId, Permission, ProviderSecret, TenantId, Timestamp},
    store::{
        ConfigVariable, Page, Paged, Tx, VariableValue, config_variable_delete, config_variable_find,
        config_variable_insert, config_variable_named, config_variable_update, provider_keys_referring,
    },
    vault::VariableRow,
};

const MAX_NAME: usize = 128;
const MAX_VALUE: usize = 64 * 1024;
const MAX_DESCRIPTION: usize = 1024;

/// A config variable to be made.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConfigVariable {
    /// 1 to 128 ASCII letters, digits, `_`, `-` or `.`; once in a tenant.
    pub name: String,
    /// At most 64 KiB.
    #[schema(value_type = String)]
    #[serde(default)]
    pub value: Patch<SecretInput>,
    /// For people.
    pub description: Option<String>,
    /// Sealed, and never shown again; false when left out.
    pub sensitive: Option<bool>,
    /// For which tenant; one's own, or `default`, when left out.
    pub tenant_id: Option<String>,
}

/// What is to change in a config variable: what is left out stays, `null` goes back to what a create without it says.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigVariableChange {
    /// New name; not while a provider key refers to it.
    #[schema(value_type = String)]
    #[serde(default)]
    pub name: Patch<String>,
    /// New value, in force at once for every key that refers to it.
    #[schema(value_type = String)]
    #[serde(default)]
    pub value: Patch<SecretInput>,
    /// For people.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub description: Patch<String>,
    /// Turned on, the present value is sealed. Turned off, a new `value` must come with it: the sealed one stays unseen.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    pub sensitive: Patch<bool>,
}

/// A config variable.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ConfigVariableView {
    /// `cfg_…`.
    #[schema(value_type = String)]
    pub id: ConfigVariableId,
    /// Whose.
    #[schema(value_type = String)]
    pub tenant_id: TenantId,
    /// Its name.
    pub name: String,
    /// What it holds; `********` for a sensitive one.
    pub value: String,
    /// For people.
    pub description: Option<String>,
    /// Sealed, and never shown.
    pub sensitive: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

impl From<ConfigVariable> for ConfigVariableView {
    fn from(variable: ConfigVariable) -> Self {
        let (value, sensitive) = match variable.value {
            VariableValue::Open(value) => (value, false),
            VariableValue::Sealed(_) => (REDACTED.to_owned(), true),
        };
        Self {
            id: variable.id,
            tenant_id: variable.tenant_id,
            name: variable.name,
            value,
            description: variable.description,
            sensitive,
            created_at: variable.created_at,
            updated_at: variable.updated_at,
        }
    }
}

impl Control {
    /// Makes a config variable.
    pub async fn config_variable_create(
        &self,
        actor: &Actor,
        asked: NewConfigVariable,
        idempotency: Option<&Idempotency>,
    ) -> Result<ConfigVariableView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let name = checked_name(&asked.name)?;
        let description = asked.description.map(|text| checked_description(&text)).transpose()?;
        let value = asked.value.not_null("value")?;
        let value = value.ok_or_else(|| ControlError::bad("`value` is missing"))?;
        let value = Value::read(value, asked.sensitive.unwrap_or(false))?;
        let act = self.begin(actor, Permission::ManageKeys).await?;
        if let Some(made) = act.made_before(actor, idempotency).await? {
            drop(act);
            return self.config_variable(actor, &made).await;
        }
        let tenant_id = act.tenant(asked.tenant_id.as_deref()).await?;
        refuse_taken(act.tx(), tenant_id, &name).await?;
        let id = ConfigVariableId::generate();
        let row = VariableRow { tenant: tenant_id, id, name: &name };
        let variable = ConfigVariable {
            id,
            tenant_id,
            value: value.stored(self, &row),
            name,
            description,
            created_at: act.at(),
            updated_at: act.at(),
        };
        may_store(&act, &variable).await?;
        config_variable_insert(act.tx(), &variable).await?;
        act.remember(actor, idempotency, id).await?;
        let event = act
            .event(AuditAction::ConfigVariableCreated, Some(tenant_id), id)
            .with("name", &variable.name)
            .with("sensitive", is_sealed(&variable));
        act.commit(event).await?;
        Ok(variable.into())
    }

    /// Config variables that the actor may see, oldest first.
    pub async fn config_variables(
        &self,
        actor: &Actor,
        tenant: Option<&str>,
        page: &Page,
    ) -> Result<Paged<ConfigVariableView>, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let scope = self.scope(actor, tenant).await?;
        Ok(self.store.config_variables(scope, page).await.or_bad_cursor()?.map(ConfigVariableView::from))
    }

    /// One config variable.
    pub async fn config_variable(&self, actor: &Actor, id: &str) -> Result<ConfigVariableView, ControlError> {
        permit(actor, Permission::ManageKeys)?;
        let found = self.store.config_variable(scope_of(actor), variable_id(id)?).await;
        Ok(found.or_missing("config variable")?.into())
    }

    /// Changes a config variable, and with it every provider key that refers to it.
    pub async fn config_variable_change(
        &self,
        actor: &Actor,
        id: &str,
        asked: ConfigVariableChange,
    ) -> Result<ConfigVariableView, ControlError> {
        let mut act = self.begin(actor, Permission::ManageKeys).await?;
        let mut variable = config_variable_find(act.tx(), act.scope(), variable_id(id)?)
            .await
            .or_missing("config variable")?;
        let tenant = variable.tenant_id;
        let mut names = Vec::new();
        if !asked.description.is_keep() {
            asked
                .description
                .apply(&mut variable.description, None, |text| checked_description(&text).map(Some))?;
            names.push("description");
        }
        // Read before the name changes: the sealed text is bound to the name.
        let was_sealed = is_sealed(&variable);
        let sensitive = match asked.sensitive {
            Patch::Keep => was_sealed,
            Patch::Clear => false,
            Patch::Set(sensitive) => sensitive,
        };
        let name = match asked.name.not_null("name")? {
            Some(name) if name != variable.name => Some(checked_name(&name)?),
            _ => None,
        };
        let given = asked.value.not_null("value")?;
        if sensitive != was_sealed {
            names.push("sensitive");
        }
        let value = match given {
            Some(given) => {
                names.push("value");
                Some(Value::read(given, sensitive)?)
            }
            None if was_sealed && !sensitive => {
                return Err(ControlError::invalid(
                    "secret_required",
                    "turning `sensitive` off does not show what is sealed; send the new `value` with it",
                ));
            }
            None if sensitive != was_sealed || name.is_some() => {
                match self.present_value(&variable, sensitive) {
                    Ok(value) => Some(value),
                    Err(error) if was_sealed => {
                        drop(act);
                        let reference = store_reference(&variable.name);
                        return Err(self.unresolved(actor, tenant, &reference, variable.id, error).await);
                    }
                    Err(error) => return Err(error),
                }
            }
            None => None,
        };
        if name.is_some() || !sensitive {
            refuse_referred(&act, &variable).await?;
        }
        if let Some(name) = name {
            refuse_taken(act.tx(), tenant, &name).await?;
            variable.name = name;
            names.push("name");
        }
        if let Some(value) = value {
            let row = VariableRow { tenant, id: variable.id, name: &variable.name };
            variable.value = value.stored(self, &row);
        }
        variable.updated_at = act.at();
        may_store(&act, &variable).await?;
        config_variable_update(act.tx(), &variable).await?;
        let mut followers = 0;
        if names.contains(&"value") && sensitive {
            match self.resolve_again(&mut act, tenant, &variable.name).await {
                Ok(keys) => followers = keys.len(),
                Err(Unresolved { key, error }) => {
                    drop(act);
                    let object = key.map_or_else(|| variable.id.to_string(), |key| key.to_string());
                    let reference = store_reference(&variable.name);
                    return Err(self.unresolved(actor, tenant, &reference, object, error).await);
                }
            }
        }
        let event = act
            .event(AuditAction::ConfigVariableUpdated, Some(tenant), variable.id)
            .with("name", &variable.name)
            .with("changed", names.join(","))
            .with("sensitive", sensitive)
            .with("keys", followers);
        act.commit(event).await?;
        Ok(variable.into())
    }

    /// Deletes a config variable that no provider key refers to.
    pub async fn config_variable_delete(&self, actor: &Actor, id: &str) -> Result<(), ControlError> {
        let act = self.begin(actor, Permission::ManageKeys).await?;
        let variable = config_variable_find(act.tx(), act.scope(), variable_id(id)?)
            .await
            .or_missing("config variable")?;
        refuse_referred(&act, &variable).await?;
        config_variable_delete(act.tx(), variable.id).await?;
        let event = act
            .event(AuditAction::ConfigVariableDeleted, Some(variable.tenant_id), variable.id)
            .with("name", &variable.name);
        act.commit(event).await
    }

    /// What a variable holds now, to be stored in another way. Nothing of it is shown.
    fn present_value(&self, variable: &ConfigVariable, sensitive: bool) -> Result<Value, ControlError> {
        match &variable.value {
            VariableValue::Open(value) => Value::read(SecretInput::new(value.clone()), sensitive),
            VariableValue::Sealed(sealed) => Ok(Value::Sensitive(self.open(variable, sealed)?)),
        }
    }
}

/// A value that passed.
enum Value {
    Open(Zeroizing<String>),
    Sensitive(ProviderSecret),
}

impl Value {
    fn read(given: SecretInput, sensitive: bool) -> Result<Self, ControlError> {
        let text = given.into_text();
        if text.len() > MAX_VALUE {
            return Err(ControlError::bad("`value` must not be longer than 64 KiB"));
        }
        // Postgres takes no NUL in a text.
        if text.contains('\0') {
            return Err(ControlError::bad("`value` must not contain a NUL character"));
        }
        if *text == REDACTED || (sensitive && is_mask(&text)) {
            return Err(ControlError::invalid(
                "masked_secret",
                "`value` is what stands in place of a value and not one itself; send the whole value, or leave it out to keep the stored one",
            ));
        }
        if !sensitive {
            return Ok(Self::Open(text));
        }
        if text.is_empty() {
            return Err(ControlError::bad("`value` of a sensitive variable must not be empty"));
        }
        Ok(Self::Sensitive(ProviderSecret::new(Zeroizing::new(text.as_bytes().to_vec()))))
    }

    fn stored(&self, control: &Control, row: &VariableRow<'_>) -> VariableValue {
        match self {
            Self::Open(text) => VariableValue::Open(text.to_string()),
            Self::Sensitive(secret) => VariableValue::Sealed(control.vault.seal_variable(row, secret)),
        }
    }
}

/// Refuses what was sealed under a retired master key.
async fn may_store(act: &Act<'_>, variable: &ConfigVariable) -> Result<(), ControlError> {
    match &variable.value {
        VariableValue::Sealed(sealed) => act.may_store(sealed).await,
        VariableValue::Open(_) => Ok(()),
    }
}

fn is_sealed(variable: &ConfigVariable) -> bool {
    matches!(variable.value, VariableValue::Sealed(_))
}

fn variable_id(text: &str) -> Result<ConfigVariableId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("config variable"))
}

pub(super) fn checked_name(text: &str) -> Result<String, ControlError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(plain) {
        return Err(ControlError::invalid(
            "invalid_name",
            format!(
                "`name` must have 1 to {MAX_NAME} ASCII letters, digits, `_`, `-` or `.`, and nothing else"
            ),
        ));
    }
    Ok(text.to_owned())
}

fn checked_description(text: &str) -> Result<String, ControlError> {
    let strange = |c: char| c.is_control() && c != '\n';
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(strange) {
        return Err(ControlError::bad(format!(
            "`description` must have at most {MAX_DESCRIPTION} characters and no control characters"
        )));
    }
    Ok(text.to_owned())
}

async fn refuse_taken(tx: &Tx, tenant: TenantId, name: &str) -> Result<(), ControlError> {
    match config_variable_named(tx, tenant, name).await? {
        Some(_) => Err(ControlError::Conflict(format!("a config variable named `{name}` exists already"))),
        None => Ok(()),
    }
}

/// Refuses what would leave a provider key without its secret.
async fn refuse_referred(act: &Act<'_>, variable: &ConfigVariable) -> Result<(), ControlError> {
    const SHOWN: usize = 5;
    let reference = store_reference(&variable.name);
    let keys = provider_keys_referring(act.tx(), variable.tenant_id, &reference).await?;
    if keys.is_empty() {
        return Ok(());
    }
    let mut named: Vec<String> =
        keys.iter().take(SHOWN).map(|key| format!("`{}` ({})", key.key_name, key.id)).collect();
    if keys.len() > SHOWN {
        named.push(format!("{} more", keys.len() - SHOWN));
    }
    Err(ControlError::Conflict(format!(
        "`{}` is the secret of {}; as long as it is, it stays sensitive and keeps its name",
        variable.name,
        named.join(", ")
    )))
}
