//! What a provider key of a cloud has beside its secret: where it is, under which names the models run there, and further
//! secrets. Stored, checked and sealed here; nothing is called.
//!
//! What will stand in a host name or path is checked against one pattern each ([`parts`]), and the address that comes out
//! is judged like any `base_url`. The plain parts are JSON in the key's row, the secrets are sealed together for that row.

mod asked;
mod parts;
mod plain;
mod secrets;
mod view;

pub(super) use asked::Configs;
pub use asked::{
    AzureKeyConfig, BatchS3Config, BedrockKeyConfig, HuggingFaceKeyConfig, S3Bucket, VertexKeyConfig,
};
pub(super) use plain::{CloudKind, Stored};
pub(super) use secrets::Secrets;
pub(super) use view::CloudViews;
pub use view::{
    AzureKeyConfigView, BedrockKeyConfigView, HuggingFaceKeyConfigView, REDACTED, SecretView,
    VertexKeyConfigView,
};
