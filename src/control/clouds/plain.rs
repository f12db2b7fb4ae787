//! A cloud configuration as it is stored: the plain parts, and the names of the secrets that are sealed beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::BatchS3Config;
use crate::{control::ControlError, domain::ProviderSlug};

/// Which cloud a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum CloudKind {
    Azure,
    Vertex,
    Bedrock,
    HuggingFace,
}

impl CloudKind {
    const ALL: [Self; 4] = [Self::Azure, Self::Vertex, Self::Bedrock, Self::HuggingFace];

    /// The cloud that a slug stands for.
    pub fn of(slug: &ProviderSlug) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.slug() == slug.as_str())
    }

    /// Its slug.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Azure => "azure",
            Self::Vertex => "vertex",
            Self::Bedrock => "bedrock",
            Self::HuggingFace => "huggingface",
        }
    }

    /// The member that carries its configuration.
    pub const fn member(self) -> &'static str {
        match self {
            Self::Azure => "azure_key_config",
            Self::Vertex => "vertex_key_config",
            Self::Bedrock => "bedrock_key_config",
            Self::HuggingFace => "huggingface_key_config",
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::control) struct Azure {
    pub endpoint: String,
    pub deployments: BTreeMap<String, String>,
    pub api_version: Option<String>,
    pub tenant_id: Option<String>,
    pub scopes: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::control) struct Vertex {
    pub project_id: String,
    pub project_number: Option<String>,
    pub region: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::control) struct Bedrock {
    pub region: String,
    pub arn: Option<String>,
    pub batch_s3_config: Option<BatchS3Config>,
    pub deployments: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::control) struct HuggingFace {
    pub endpoint: Option<String>,
    pub deployments: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::control) enum Plain {
    Azure(Azure),
    Vertex(Vertex),
    Bedrock(Bedrock),
    Huggingface(HuggingFace),
}

/// What stands in a key's row.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::control) struct Stored {
    #[serde(flatten)]
    pub plain: Plain,
    /// Names of the sealed secrets.
    pub secrets: Vec<String>,
}

impl Stored {
    /// From a row; `None` when somebody wrote something else there.
    pub fn read(json: &str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// For a row.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("texts, lists and string-keyed maps always have a JSON form")
    }

    /// Where the cloud is called; `None` for the provider's own address. Made of checked parts, and judged by the policy on
    /// addresses before it is stored.
    pub fn address(&self) -> Option<String> {
        match &self.plain {
            Plain::Azure(azure) => Some(azure.endpoint.clone()),
            Plain::Vertex(Vertex { region, .. }) if region == "global" => {
                Some("https://aiplatform.googleapis.com".to_owned())
            }
            Plain::Vertex(Vertex { region, .. }) => {
                Some(format!("https://{region}-aiplatform.googleapis.com"))
            }
            Plain::Bedrock(Bedrock { region, .. }) => {
                let china = if region.starts_with("cn-") { ".cn" } else { "" };
                Some(format!("https://bedrock-runtime.{region}.amazonaws.com{china}"))
            }
            Plain::Huggingface(face) => face.endpoint.clone(),
        }
    }

    /// Whether what is there suffices to sign in; `has_key` says whether there is an `api_key`.
    pub fn can_sign_in(&self, has_key: bool) -> Result<(), ControlError> {
        let has = |name: &str| self.secrets.iter().any(|known| known == name);
        let missing = |what: &'static str| Err(ControlError::invalid("secret_required", what));
        match &self.plain {
            Plain::Azure(azure) => {
                match (has("client_id"), has("client_secret"), azure.tenant_id.is_some()) {
                    (true, true, true) => Ok(()),
                    (false, false, _) if has_key => Ok(()),
                    (false, false, _) => {
                        missing("`api_key`, or `client_id`, `client_secret` and `tenant_id`, are missing")
                    }
                    _ => {
                        missing("`client_id`, `client_secret` and `tenant_id` go together; send all of them")
                    }
                }
            }
            Plain::Vertex(_) if has_key || has("auth_credentials") => Ok(()),
            Plain::Vertex(_) => missing("`auth_credentials` or `api_key` is missing"),
            Plain::Bedrock(_) => match (has("access_key"), has("secret_key"), has("session_token")) {
                (true, true, _) => Ok(()),
                (false, false, false) if has_key => Ok(()),
                (false, false, false) => missing("`access_key` and `secret_key`, or `api_key`, are missing"),
                _ => {
                    missing("`access_key`, `secret_key` and, where there is one, `session_token` go together")
                }
            },
            Plain::Huggingface(_) => Ok(()),
        }
    }
}
