//! What may be known of a cloud configuration: its plain parts, and which secrets it has.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use super::{BatchS3Config, Stored, plain::Plain};

/// What stands in the place of every secret, whatever its length.
pub const REDACTED: &str = "********";

/// A secret as it is shown: that it is there, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SecretView {
    /// Always the same; `null` when the secret is empty.
    #[schema(value_type = Option<String>)]
    pub value: Option<&'static str>,
    /// The variable of the environment that the operator's configuration names; empty when it names none.
    pub env_var: String,
    /// Whether it comes from there.
    pub from_env: bool,
}

impl SecretView {
    /// One that was typed in.
    pub fn typed() -> Self {
        Self { value: Some(REDACTED), env_var: String::new(), from_env: false }
    }
}

/// An Azure OpenAI resource.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AzureKeyConfigView {
    /// The resource's address.
    pub endpoint: String,
    /// Which deployment serves which model.
    pub deployments: BTreeMap<String, String>,
    /// Version of Azure's API.
    pub api_version: Option<String>,
    /// Application.
    pub client_id: Option<SecretView>,
    /// Its secret.
    pub client_secret: Option<SecretView>,
    /// Directory of the application.
    pub tenant_id: Option<String>,
    /// What the application asks for.
    pub scopes: Vec<String>,
}

/// A Vertex AI project.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct VertexKeyConfigView {
    /// Project.
    pub project_id: String,
    /// Its number.
    pub project_number: Option<String>,
    /// Region.
    pub region: String,
    /// A service account.
    pub auth_credentials: Option<SecretView>,
}

/// AWS Bedrock in a region.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BedrockKeyConfigView {
    /// Access key id.
    pub access_key: Option<SecretView>,
    /// Secret access key.
    pub secret_key: Option<SecretView>,
    /// Of temporary access keys.
    pub session_token: Option<SecretView>,
    /// Region.
    pub region: String,
    /// Inference profile or role.
    pub arn: Option<String>,
    /// Where batch jobs find and leave their files.
    pub batch_s3_config: Option<BatchS3Config>,
    /// Which inference profile serves which model.
    pub deployments: BTreeMap<String, String>,
}

/// A Hugging Face inference endpoint.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct HuggingFaceKeyConfigView {
    /// Its address; `null` for the router's.
    pub endpoint: Option<String>,
    /// Which model there stands for which.
    pub deployments: BTreeMap<String, String>,
}

/// The configurations of one key, of which at most one is there.
#[derive(Default)]
pub(in crate::control) struct CloudViews {
    pub azure: Option<AzureKeyConfigView>,
    pub vertex: Option<VertexKeyConfigView>,
    pub bedrock: Option<BedrockKeyConfigView>,
    pub huggingface: Option<HuggingFaceKeyConfigView>,
}

impl From<Stored> for CloudViews {
    fn from(Stored { plain, secrets }: Stored) -> Self {
        let secret = |name: &str| secrets.iter().any(|known| known == name).then(SecretView::typed);
        match plain {
            Plain::Azure(azure) => Self {
                azure: Some(AzureKeyConfigView {
                    client_id: secret("client_id"),
                    client_secret: secret("client_secret"),
                    endpoint: azure.endpoint,
                    deployments: azure.deployments,
                    api_version: azure.api_version,
                    tenant_id: azure.tenant_id,
                    scopes: azure.scopes,
                }),
                ..Self::default()
            },
            Plain::Vertex(vertex) => Self {
                vertex: Some(VertexKeyConfigView {
                    auth_credentials: secret("auth_credentials"),
                    project_id: vertex.project_id,
                    project_number: vertex.project_number,
                    region: vertex.region,
                }),
                ..Self::default()
            },
            Plain::Bedrock(bedrock) => Self {
                bedrock: Some(BedrockKeyConfigView {
                    access_key: secret("access_key"),
                    secret_key: secret("secret_key"),
                    session_token: secret("session_token"),
                    region: bedrock.region,
                    arn: bedrock.arn,
                    batch_s3_config: bedrock.batch_s3_config,
                    deployments: bedrock.deployments,
                }),
                ..Self::default()
            },
            Plain::Huggingface(face) => Self {
                huggingface: Some(HuggingFaceKeyConfigView {
                    endpoint: face.endpoint,
                    deployments: face.deployments,
                }),
                ..Self::default()
            },
        }
    }
}
