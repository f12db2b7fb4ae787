//! References to secrets that are kept elsewhere in the house.

use super::{Control, ControlError};
use crate::{
    domain::{ProviderSecret, TenantId},
    store::Tx,
};

impl Control {
    /// The secret that the tenant's config variable `name` stands for.
    ///
    /// # Errors
    /// 400 `unknown_variable` when the tenant has none of that name.
    pub(super) async fn resolve_store(
        &self,
        _tx: &Tx,
        _tenant: TenantId,
        name: &str,
    ) -> Result<ProviderSecret, ControlError> {
        let shown: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
        Err(ControlError::invalid(
            "unknown_variable",
            format!("there is no config variable `{shown}`; make it first, or send the key itself"),
        ))
    }
}
