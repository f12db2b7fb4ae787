//! Provider keys: uploaded, changed, rotated, deleted; their secrets go into the vault and do not come back.
//!
//! A key's secret is bound to its tenant, its provider and the origin it is used at; whatever changes the origin demands the
//! secrets anew. A key of the operator's configuration is shown here and changed there.

mod asked;
mod change;
mod create;
mod place;
mod prober;
mod staged;
mod view;

pub use asked::{NewProviderKey, ProviderKeyChange};
pub use prober::{Prober, StagedKey, Verdict};
pub use staged::{PromoteKey, StageKey, VerifiedView};
pub use view::{ProviderKeyView, ReferenceView, RefusalView, StagedView};

use super::{Control, ControlError, checks};
use crate::{
    domain::{ModelName, ModelRef, ProviderKeyId, ProviderSlug},
    store::ProviderKey,
};

const MAX_WEIGHT: i64 = 1_000_000;
const DEFAULT_WEIGHT: u32 = 1;

fn key_id(text: &str) -> Result<ProviderKeyId, ControlError> {
    text.parse().map_err(|_| ControlError::NotFound("provider key"))
}

/// Keys of the operator's configuration are changed there and nowhere else.
fn unmanaged(key: &ProviderKey) -> Result<(), ControlError> {
    match &key.managed_by {
        None => Ok(()),
        Some(pack) => Err(ControlError::InTheWay {
            code: "managed_by_configuration",
            message: format!(
                "this key belongs to the operator's configuration `{pack}`; change it there and reload the gateway"
            ),
        }),
    }
}

fn checked_weight(weight: i64) -> Result<u32, ControlError> {
    u32::try_from(weight)
        .ok()
        .filter(|_| weight <= MAX_WEIGHT)
        .ok_or_else(|| ControlError::bad(format!("`weight` must be 0 to {MAX_WEIGHT}")))
}

impl Control {
    /// Upstream model names. One that was written with its provider in front loses it, unless the provider itself
    /// calls the model that.
    fn upstream_models(&self, slug: &ProviderSlug, texts: &[String]) -> Result<Vec<ModelName>, ControlError> {
        let prices = self.catalogue.prices.load();
        let now = self.clock.now();
        let names = checks::models("models", texts)?;
        Ok(names
            .into_iter()
            .map(|name| {
                let whole = ModelRef { provider: slug.clone(), model: name.clone() };
                match name.as_model() {
                    Some(model) if model.provider == *slug && prices.price(&whole, now).is_none() => {
                        model.model
                    }
                    _ => name,
                }
            })
            .collect())
    }
}
