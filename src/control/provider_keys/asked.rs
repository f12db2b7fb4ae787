//! What is sent to store or change a provider key. Some members have two spellings: the gateway's own, and the one that
//! teams bring from other gateways. One body uses one of them.

use serde::{Deserialize, de::IgnoredAny};
use utoipa::ToSchema;

use crate::control::{
    AzureKeyConfig, BedrockKeyConfig, ControlError, HuggingFaceKeyConfig, KeySource, Patch, VertexKeyConfig,
};

/// A provider key to be stored.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProviderKey {
    /// Provider slug; one of the catalogue, a cloud together with its configuration, or any other together with
    /// `base_url`.
    pub provider: String,
    /// Name for people.
    pub key_name: Option<String>,
    /// The same as `key_name`.
    pub name: Option<String>,
    /// The secret, or `{"store": NAME}` for a config variable; may be empty where the provider wants none.
    #[schema(value_type = KeySource)]
    #[serde(default)]
    pub api_key: Patch<KeySource>,
    /// The same as `api_key`.
    #[schema(value_type = KeySource)]
    #[serde(default)]
    pub value: Patch<KeySource>,
    /// Where it is used, if not at the provider's own address.
    pub base_url: Option<String>,
    /// Dialect of a custom provider; `openai` when left out.
    pub dialect: Option<String>,
    /// Upstream models it serves; all when left out.
    pub models: Option<Vec<String>>,
    /// Share of the traffic, 1 when left out; 0 serves only when all others are down.
    pub weight: Option<i64>,
    /// May be used; true when left out.
    pub is_active: Option<bool>,
    /// The same as `is_active`.
    pub enabled: Option<bool>,
    /// May be fetched by a service token, where the operator allows that; fixed at upload.
    pub retrievable: Option<bool>,
    /// May be used by batch jobs; false when left out.
    pub use_for_batch_api: Option<bool>,
    /// For `azure`.
    pub azure_key_config: Option<AzureKeyConfig>,
    /// For `vertex`.
    pub vertex_key_config: Option<VertexKeyConfig>,
    /// For `bedrock`.
    pub bedrock_key_config: Option<BedrockKeyConfig>,
    /// For `huggingface`.
    pub huggingface_key_config: Option<HuggingFaceKeyConfig>,
    /// For which tenant; one's own, or `default`, when left out.
    pub tenant_id: Option<String>,
}

/// What is to change in a provider key: what is left out stays, `null` goes back to what a create without it says.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderKeyChange {
    /// New name.
    #[schema(value_type = String)]
    #[serde(default)]
    pub key_name: Patch<String>,
    /// The same as `key_name`.
    #[schema(value_type = String)]
    #[serde(default)]
    pub name: Patch<String>,
    /// New secret, in place of the old one.
    #[schema(value_type = KeySource)]
    #[serde(default)]
    pub api_key: Patch<KeySource>,
    /// The same as `api_key`.
    #[schema(value_type = KeySource)]
    #[serde(default)]
    pub value: Patch<KeySource>,
    /// New address; only together with `api_key`. `null` is the provider's own.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub base_url: Patch<String>,
    /// Upstream models it serves; `null` serves all.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    pub models: Patch<Vec<String>>,
    /// Share of the traffic; `null` is 1.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 1_000_000)]
    #[serde(default)]
    pub weight: Patch<i64>,
    /// May be used; `null` is true.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    pub is_active: Patch<bool>,
    /// The same as `is_active`.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    pub enabled: Patch<bool>,
    /// May be used by batch jobs; `null` is false.
    #[schema(value_type = Option<bool>)]
    #[serde(default)]
    pub use_for_batch_api: Patch<bool>,
    /// What is to change in the configuration of an `azure` key.
    #[schema(value_type = Option<AzureKeyConfig>)]
    #[serde(default)]
    pub azure_key_config: Patch<AzureKeyConfig>,
    /// What is to change in the configuration of a `vertex` key.
    #[schema(value_type = Option<VertexKeyConfig>)]
    #[serde(default)]
    pub vertex_key_config: Patch<VertexKeyConfig>,
    /// What is to change in the configuration of a `bedrock` key.
    #[schema(value_type = Option<BedrockKeyConfig>)]
    #[serde(default)]
    pub bedrock_key_config: Patch<BedrockKeyConfig>,
    /// What is to change in the configuration of a `huggingface` key.
    #[schema(value_type = Option<HuggingFaceKeyConfig>)]
    #[serde(default)]
    pub huggingface_key_config: Patch<HuggingFaceKeyConfig>,
    /// Read only to say why it is refused.
    #[schema(ignore)]
    #[serde(default)]
    pub retrievable: Patch<IgnoredAny>,
}

/// The one of two spellings that was used.
pub(super) fn one_of<T>(
    names: [&str; 2],
    first: Patch<T>,
    second: Patch<T>,
) -> Result<Patch<T>, ControlError> {
    match (first, second) {
        (Patch::Keep, other) | (other, Patch::Keep) => Ok(other),
        _ => Err(ControlError::bad(format!(
            "`{}` and `{}` are two names of one member; send one of them",
            names[0], names[1]
        ))),
    }
}

/// The same for members that a create leaves out or names.
pub(super) fn either<T>(
    names: [&str; 2],
    first: Option<T>,
    second: Option<T>,
) -> Result<Option<T>, ControlError> {
    let patch = |value: Option<T>| value.map_or(Patch::Keep, Patch::Set);
    one_of(names, patch(first), patch(second)).map(Patch::value)
}

pub(super) const NAME: [&str; 2] = ["key_name", "name"];
pub(super) const ACTIVE: [&str; 2] = ["is_active", "enabled"];
pub(super) const SECRET: [&str; 2] = ["api_key", "value"];
