//! Keys whose secret stands in a config variable. What the variable holds is sealed once more for each key that refers
//! to it, bound to the key's row and origin like a secret that was typed in; a change of the variable changes them all in
//! the same transaction. So the data plane knows nothing of references, and a sealed key cannot be moved either.

use super::{Control, ControlError, SecretInput, act::Act, config_variables::checked_name};
use crate::{
    domain::{Actor, AuditAction, ProviderKeyId, ProviderSecret, TenantId},
    store::{
        ConfigVariable, ProviderKey, Tx, VariableValue, config_variable_named, provider_key_update,
        provider_keys_referring,
    },
    vault::VariableRow,
};

/// What could not be resolved: why, and which key's reference it was, if it came to one.
pub(super) struct Unresolved {
    pub key: Option<ProviderKeyId>,
    pub error: ControlError,
}

/// How a reference to a config variable is written in a key's row.
pub(super) fn store_reference(name: &str) -> String {
    format!("store:{name}")
}

impl Control {
    /// What the config variable `name` of `tenant` holds, if it can be a provider's key. Only a sensitive variable can: a
    /// provider key stands nowhere in the open.
    pub(crate) async fn resolve_store(
        &self,
        tx: &Tx,
        tenant: TenantId,
        name: &str,
    ) -> Result<ProviderSecret, ControlError> {
        // First of all: what is no name may be a secret in the wrong place, and goes nowhere.
        checked_name(name)?;
        let Some(variable) = config_variable_named(tx, tenant, name).await? else {
            let shown: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
            return Err(ControlError::invalid(
                "unknown_variable",
                format!("there is no config variable `{shown}` in this tenant; make it first"),
            ));
        };
        let VariableValue::Sealed(sealed) = &variable.value else {
            return Err(ControlError::invalid(
                "variable_not_sensitive",
                format!(
                    "the config variable `{name}` is not sensitive and cannot be a key; turn `sensitive` on"
                ),
            ));
        };
        let value = self.open(&variable, sealed)?;
        self.as_provider_key(name, value)
    }

    /// Opens the value of a sensitive variable.
    pub(super) fn open(
        &self,
        variable: &ConfigVariable,
        sealed: &str,
    ) -> Result<ProviderSecret, ControlError> {
        let row = VariableRow { tenant: variable.tenant_id, id: variable.id, name: &variable.name };
        self.vault.open_variable(&row, sealed).map_err(|error| {
            tracing::error!(variable = %variable.id, reason = %error, "vault.open_failed");
            ControlError::Unresolvable(format!("the config variable `{}` cannot be opened", variable.name))
        })
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the value is looked at: it must be able to stand in a header"
    )]
    fn as_provider_key(&self, name: &str, value: ProviderSecret) -> Result<ProviderSecret, ControlError> {
        let unfit = || {
            ControlError::invalid(
                "unfit_variable",
                format!(
                    "the value of the config variable `{name}` cannot be a provider's key: visible ASCII without spaces and line breaks, at most 4096 bytes"
                ),
            )
        };
        let text = std::str::from_utf8(value.expose_secret()).map_err(|_| unfit())?;
        if text.is_empty() {
            return Err(unfit());
        }
        SecretInput::new(text.to_owned()).into_provider_secret().map_err(|_| unfit())
    }

    /// Seals what a key's reference stands for into its row.
    pub(super) fn take_secret(&self, key: &mut ProviderKey, secret: &ProviderSecret) {
        key.sealed =
            self.vault.seal_provider_key(key.tenant_id, key.id, key.provider.as_str(), &key.origin, secret);
        key.fingerprint = self.fingerprints.of(secret);
    }

    /// Gives every key that refers to the variable what it holds now, in the same act.
    pub(super) async fn resolve_again(
        &self,
        act: &mut Act<'_>,
        tenant: TenantId,
        name: &str,
    ) -> Result<Vec<ProviderKeyId>, Unresolved> {
        let at = act.at();
        let mut changed = Vec::new();
        let keys = provider_keys_referring(act.tx(), tenant, &store_reference(name)).await;
        for mut key in keys.map_err(|error| Unresolved { key: None, error: error.into() })? {
            let id = key.id;
            let unresolved = |error| Unresolved { key: Some(id), error };
            let secret = self.resolve_store(act.tx(), tenant, name).await.map_err(unresolved)?;
            self.take_secret(&mut key, &secret);
            act.may_store(&key.sealed).await.map_err(unresolved)?;
            key.updated_at = at;
            provider_key_update(act.tx(), &key).await.map_err(|error| unresolved(error.into()))?;
            act.changed(Some(tenant), "provider_key");
            let event = act.event(AuditAction::ReferenceResolved, Some(tenant), id);
            let event = event.with("reference", store_reference(name)).with("fingerprint", &key.fingerprint);
            act.record(event).await.map_err(unresolved)?;
            changed.push(id);
        }
        Ok(changed)
    }

    /// Notes in the audit log that a reference could not be resolved; answers the error that says why. The act in which
    /// it was tried must be gone: it left nothing. What is the database's fault is no resolution that failed.
    pub(super) async fn unresolved(
        &self,
        actor: &Actor,
        tenant: TenantId,
        reference: &str,
        object: impl ToString,
        error: ControlError,
    ) -> ControlError {
        if matches!(error, ControlError::Store(_)) {
            return error;
        }
        let why = error.to_string();
        let noted = async {
            let act = self.begin_unasked(actor).await?;
            let event = act.event(AuditAction::ReferenceResolved, Some(tenant), object);
            act.commit(event.with("reference", reference).with("reason", why).failed()).await
        };
        match noted.await {
            Ok(()) => error,
            Err(unwritten) => unwritten,
        }
    }
}
