//! Cloud configurations as they are sent. In a change, what is left out stays; the secrets of a configuration are replaced
//! together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    CloudKind, Secrets, Stored, parts,
    plain::{Azure, Bedrock, HuggingFace, Plain, Vertex},
};
use crate::{
    control::{ControlError, Patch, SecretMember},
    domain::ProviderSlug,
};

/// Azure OpenAI: a resource, its deployments, and, in place of an `api_key`, an application of Entra ID.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AzureKeyConfig {
    /// The resource's address, such as `https://NAME.openai.azure.com`.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    endpoint: Patch<String>,
    /// Which deployment serves which model.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(default)]
    deployments: Patch<BTreeMap<String, String>>,
    /// Version of Azure's API.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    api_version: Patch<String>,
    /// Application; sealed.
    #[schema(value_type = Option<SecretMember>)]
    #[serde(default)]
    client_id: Patch<SecretMember>,
    /// Its secret; sealed.
    #[schema(value_type = Option<SecretMember>)]
    #[serde(default)]
    client_secret: Patch<SecretMember>,
    /// Directory of the application.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    tenant_id: Patch<String>,
    /// What the application asks for.
    #[schema(value_type = Option<Vec<String>>)]
    #[serde(default)]
    scopes: Patch<Vec<String>>,
}

/// Google Vertex AI: a project in a region, and a service account in place of an `api_key`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VertexKeyConfig {
    /// Project.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    project_id: Patch<String>,
    /// Its number.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    project_number: Patch<String>,
    /// Region, or `global`.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    region: Patch<String>,
    /// A service account's JSON file, as text; sealed.
    #[schema(value_type = Option<SecretMember>)]
    #[serde(default)]
    auth_credentials: Patch<SecretMember>,
}

/// AWS Bedrock: a region, and access keys in place of an `api_key`.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BedrockKeyConfig {
    /// Access key id; sealed.
    #[schema(value_type = Option<SecretMember>)]
    #[serde(default)]
    access_key: Patch<SecretMember>,
    /// Secret access key; sealed.
    #[schema(value_type = Option<SecretMember>)]
    #[serde(default)]
    secret_key: Patch<SecretMember>,
    /// Of temporary access keys; sealed.
    #[schema(value_type = Option<SecretMember>)]
    #[serde(default)]
    session_token: Patch<SecretMember>,
    /// Region.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    region: Patch<String>,
    /// Inference profile or role.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    arn: Patch<String>,
    /// Where batch jobs find and leave their files.
    #[schema(value_type = Option<BatchS3Config>)]
    #[serde(default)]
    batch_s3_config: Patch<BatchS3Config>,
    /// Which inference profile serves which model.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(default)]
    deployments: Patch<BTreeMap<String, String>>,
}

/// Buckets for batch jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchS3Config {
    /// At most 16.
    pub buckets: Vec<S3Bucket>,
}

/// One bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct S3Bucket {
    /// Its name.
    pub bucket_name: String,
    /// Where in it.
    #[serde(default)]
    pub prefix: Option<String>,
    /// Whether it is meant when none is named.
    #[serde(default)]
    pub is_default: bool,
}

/// Hugging Face: an inference endpoint and the models that run there.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HuggingFaceKeyConfig {
    /// An inference endpoint's address; the router's when left out.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    endpoint: Patch<String>,
    /// Which model there stands for which.
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    #[serde(default)]
    deployments: Patch<BTreeMap<String, String>>,
}

/// The configurations of one body; at most the provider's own may be there.
#[derive(Default)]
pub(in crate::control) struct Configs {
    pub azure: Patch<AzureKeyConfig>,
    pub vertex: Patch<VertexKeyConfig>,
    pub bedrock: Patch<BedrockKeyConfig>,
    pub huggingface: Patch<HuggingFaceKeyConfig>,
}

/// The one configuration that is for the key's provider.
#[derive(Debug)]
enum Asked {
    Azure(AzureKeyConfig),
    Vertex(VertexKeyConfig),
    Bedrock(BedrockKeyConfig),
    HuggingFace(HuggingFaceKeyConfig),
}

impl Configs {
    /// What becomes of the configuration `old` of a key at `slug`; `None` when nothing is asked for.
    ///
    /// # Errors
    /// When a configuration of another provider is sent, or one that makes no sense.
    pub fn onto(
        self,
        slug: &ProviderSlug,
        old: Option<Stored>,
    ) -> Result<Option<(Stored, Secrets)>, ControlError> {
        let Some(asked) = self.own(slug, old.is_some())? else { return Ok(None) };
        let (plain, known) = match old {
            Some(Stored { plain, secrets }) => (Some(plain), secrets),
            None => (None, Vec::new()),
        };
        let mut secrets = Secrets::default();
        let plain = match (asked, plain) {
            (Asked::Azure(asked), Some(Plain::Azure(old))) => asked.onto(old, &mut secrets)?,
            (Asked::Azure(asked), _) => asked.onto(Azure::default(), &mut secrets)?,
            (Asked::Vertex(asked), Some(Plain::Vertex(old))) => asked.onto(old, &mut secrets)?,
            (Asked::Vertex(asked), _) => asked.onto(Vertex::default(), &mut secrets)?,
            (Asked::Bedrock(asked), Some(Plain::Bedrock(old))) => asked.onto(old, &mut secrets)?,
            (Asked::Bedrock(asked), _) => asked.onto(Bedrock::default(), &mut secrets)?,
            (Asked::HuggingFace(asked), Some(Plain::Huggingface(old))) => asked.onto(old)?,
            (Asked::HuggingFace(asked), _) => asked.onto(HuggingFace::default())?,
        };
        let names = if secrets.mentioned() { secrets.names() } else { known };
        Ok(Some((Stored { plain, secrets: names }, secrets)))
    }

    fn own(self, slug: &ProviderSlug, has_one: bool) -> Result<Option<Asked>, ControlError> {
        let Self { azure, vertex, bedrock, huggingface } = self;
        let mut found = None;
        let mut look = |kind: CloudKind, asked: Patch<Asked>| {
            match asked {
                Patch::Keep => {}
                Patch::Clear if has_one && CloudKind::of(slug) == Some(kind) => {
                    return Err(ControlError::bad(format!(
                        "`{}` cannot be null: without it the key would be another one; store a new key",
                        kind.member()
                    )));
                }
                Patch::Clear => {}
                Patch::Set(asked) if CloudKind::of(slug) == Some(kind) => found = Some(asked),
                Patch::Set(_) => {
                    return Err(ControlError::bad(format!(
                        "`{}` is for keys of the provider `{}`, and this one is for `{slug}`",
                        kind.member(),
                        kind.slug()
                    )));
                }
            }
            Ok(())
        };
        look(CloudKind::Azure, map(azure, Asked::Azure))?;
        look(CloudKind::Vertex, map(vertex, Asked::Vertex))?;
        look(CloudKind::Bedrock, map(bedrock, Asked::Bedrock))?;
        look(CloudKind::HuggingFace, map(huggingface, Asked::HuggingFace))?;
        Ok(found)
    }
}

fn map<T, U>(asked: Patch<T>, with: impl FnOnce(T) -> U) -> Patch<U> {
    match asked {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(value) => Patch::Set(with(value)),
    }
}

impl AzureKeyConfig {
    fn onto(self, mut azure: Azure, secrets: &mut Secrets) -> Result<Plain, ControlError> {
        if let Some(endpoint) = self.endpoint.not_null("azure_key_config.endpoint")? {
            azure.endpoint = endpoint;
        }
        let named = |map| parts::deployments("azure_key_config.deployments", map, parts::name);
        self.deployments.apply(&mut azure.deployments, BTreeMap::new(), named)?;
        let some = |field: &'static str, check: fn(&str, String) -> Result<String, ControlError>| {
            move |text| check(field, text).map(Some)
        };
        self.api_version.apply(
            &mut azure.api_version,
            None,
            some("azure_key_config.api_version", parts::label),
        )?;
        self.tenant_id.apply(&mut azure.tenant_id, None, some("azure_key_config.tenant_id", parts::name))?;
        self.scopes
            .apply(&mut azure.scopes, Vec::new(), |list| parts::scopes("azure_key_config.scopes", list))?;
        secrets.take("client_id", "azure_key_config.client_id", self.client_id)?;
        secrets.take("client_secret", "azure_key_config.client_secret", self.client_secret)?;
        if azure.endpoint.is_empty() {
            return Err(ControlError::bad("`azure_key_config.endpoint` is missing: where the resource is"));
        }
        Ok(Plain::Azure(azure))
    }
}

impl VertexKeyConfig {
    fn onto(self, mut vertex: Vertex, secrets: &mut Secrets) -> Result<Plain, ControlError> {
        if let Some(project) = self.project_id.not_null("vertex_key_config.project_id")? {
            vertex.project_id = parts::label("vertex_key_config.project_id", project)?;
        }
        if let Some(region) = self.region.not_null("vertex_key_config.region")? {
            vertex.region = parts::label("vertex_key_config.region", region)?;
        }
        self.project_number.apply(&mut vertex.project_number, None, |text| {
            parts::number("vertex_key_config.project_number", text).map(Some)
        })?;
        let field = "vertex_key_config.auth_credentials";
        secrets.take_document("auth_credentials", field, self.auth_credentials)?;
        if vertex.project_id.is_empty() || vertex.region.is_empty() {
            return Err(ControlError::bad("`vertex_key_config` needs `project_id` and `region`"));
        }
        Ok(Plain::Vertex(vertex))
    }
}

impl BedrockKeyConfig {
    fn onto(self, mut bedrock: Bedrock, secrets: &mut Secrets) -> Result<Plain, ControlError> {
        if let Some(region) = self.region.not_null("bedrock_key_config.region")? {
            bedrock.region = parts::label("bedrock_key_config.region", region)?;
        }
        self.arn
            .apply(&mut bedrock.arn, None, |text| parts::arn("bedrock_key_config.arn", text).map(Some))?;
        let named = |map| parts::deployments("bedrock_key_config.deployments", map, parts::deployed_path);
        self.deployments.apply(&mut bedrock.deployments, BTreeMap::new(), named)?;
        self.batch_s3_config
            .apply(&mut bedrock.batch_s3_config, None, |config| checked_buckets(config).map(Some))?;
        secrets.take("access_key", "bedrock_key_config.access_key", self.access_key)?;
        secrets.take("secret_key", "bedrock_key_config.secret_key", self.secret_key)?;
        secrets.take("session_token", "bedrock_key_config.session_token", self.session_token)?;
        if bedrock.region.is_empty() {
            return Err(ControlError::bad("`bedrock_key_config.region` is missing"));
        }
        Ok(Plain::Bedrock(bedrock))
    }
}

fn checked_buckets(config: BatchS3Config) -> Result<BatchS3Config, ControlError> {
    const FIELD: &str = "bedrock_key_config.batch_s3_config";
    parts::buckets(FIELD, config.buckets.len())?;
    let buckets = config.buckets.into_iter().map(|bucket| {
        Ok(S3Bucket {
            bucket_name: parts::bucket("bedrock_key_config.batch_s3_config.bucket_name", bucket.bucket_name)?,
            prefix: bucket
                .prefix
                .map(|prefix| parts::prefix("bedrock_key_config.batch_s3_config.prefix", prefix))
                .transpose()?,
            is_default: bucket.is_default,
        })
    });
    Ok(BatchS3Config { buckets: buckets.collect::<Result<_, ControlError>>()? })
}

impl HuggingFaceKeyConfig {
    fn onto(self, mut face: HuggingFace) -> Result<Plain, ControlError> {
        self.endpoint.apply(&mut face.endpoint, None, |text| Ok(Some(text)))?;
        let named = |map| parts::deployments("huggingface_key_config.deployments", map, parts::deployed_path);
        self.deployments.apply(&mut face.deployments, BTreeMap::new(), named)?;
        Ok(Plain::Huggingface(face))
    }
}
