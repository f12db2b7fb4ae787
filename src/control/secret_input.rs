//! A secret as somebody typed it: checked, wiped on drop, never shown.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Schema},
};
use zeroize::Zeroizing;

use super::ControlError;
use crate::domain::ProviderSecret;

const MAX_BYTES: usize = 4 * 1024;
const MAX_DOCUMENT_BYTES: usize = 16 * 1024;
/// What other gateways resolve from the environment or a file. Here such a reference comes only from the operator's own
/// file, and stored as it is it would only ever be a key that does not work.
const REFERENCES: [&str; 6] = ["env:", "file:", "os.environ/", "${", "vault:", "secret://"];

/// A secret as somebody typed it.
#[derive(Clone)]
pub struct SecretInput(Zeroizing<String>);

impl SecretInput {
    /// Takes it over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Whether nothing was typed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, to hash it as a password.
    pub(super) fn into_text(self) -> Zeroizing<String> {
        self.0
    }

    /// Checks that it can be a provider's key: it will stand in a header.
    pub(super) fn into_provider_secret(self) -> Result<ProviderSecret, ControlError> {
        let text = self.into_plain("api_key")?;
        Ok(ProviderSecret::new(Zeroizing::new(text.as_bytes().to_vec())))
    }

    /// Checks that it can be one word of a credential, such as a key or a token; `field` is where it stood.
    pub(super) fn into_plain(self, field: &str) -> Result<Zeroizing<String>, ControlError> {
        let text = self.0.as_str();
        if text.len() > MAX_BYTES {
            return Err(ControlError::bad(format!("`{field}` must not be longer than {MAX_BYTES} bytes")));
        }
        not_a_mask(field, text)?;
        if text.bytes().any(|b| !b.is_ascii_graphic()) {
            return Err(ControlError::bad(format!(
                "`{field}` must be visible ASCII without spaces and line breaks; copy it again"
            )));
        }
        not_a_reference(field, text)?;
        Ok(self.0)
    }

    /// Checks that it can be a credential that is a JSON object, such as a service account's file.
    pub(super) fn into_document(self, field: &str) -> Result<Zeroizing<String>, ControlError> {
        let text = self.0.as_str();
        if text.len() > MAX_DOCUMENT_BYTES {
            return Err(ControlError::bad(format!(
                "`{field}` must not be longer than {MAX_DOCUMENT_BYTES} bytes"
            )));
        }
        not_a_mask(field, text)?;
        not_a_reference(field, text)?;
        // Only looked through: nothing of it is kept or quoted.
        if !text.trim_start().starts_with('{') || serde_json::from_str::<serde::de::IgnoredAny>(text).is_err()
        {
            return Err(ControlError::bad(format!(
                "`{field}` must be the text of a JSON object, as the provider's console gives it out"
            )));
        }
        Ok(self.0)
    }
}

fn not_a_mask(field: &str, text: &str) -> Result<(), ControlError> {
    if is_mask(text) {
        return Err(ControlError::invalid(
            "masked_secret",
            format!(
                "`{field}` is a masked preview and not a key; send the whole key, or leave it out to keep the stored one"
            ),
        ));
    }
    Ok(())
}

fn not_a_reference(field: &str, text: &str) -> Result<(), ControlError> {
    if REFERENCES.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(ControlError::invalid(
            "reference_not_allowed",
            format!(
                "`{field}` must be the key itself; references to the environment or to files are not resolved here"
            ),
        ));
    }
    Ok(())
}

/// Whether somebody sent back what a screen showed instead of a key.
pub(super) fn is_mask(text: &str) -> bool {
    let filler = |c: char| matches!(c, '*' | '·');
    ["***", "…", "...", "•", "●", "█"].iter().any(|mask| text.contains(mask))
        || (!text.is_empty() && text.chars().all(filler))
}

impl fmt::Debug for SecretInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretInput(…)")
    }
}

impl<'de> Deserialize<'de> for SecretInput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl PartialSchema for SecretInput {
    fn schema() -> RefOr<Schema> {
        String::schema()
    }
}

impl ToSchema for SecretInput {}

/// Where a provider key's secret comes from: typed in, as a text or as other gateways' `{"value", "env_var",
/// "from_env"}`, or a variable of the tenant's.
#[derive(Clone, Debug)]
pub enum KeySource {
    /// Typed in.
    Secret(SecretInput),
    /// The config variable of this name.
    Store(String),
}

/// A secret as a text or as other gateways' `{"value", "env_var", "from_env"}`.
#[derive(Clone, Debug)]
pub struct SecretMember(pub SecretInput);

/// Reads both spellings. The environment is named to be refused with a reason, where the secret is checked.
struct Spellings {
    store: bool,
}

const SECRET: [&str; 3] = ["value", "env_var", "from_env"];
const SECRET_OR_STORE: [&str; 4] = ["value", "env_var", "from_env", "store"];

impl<'de> Visitor<'de> for Spellings {
    type Value = KeySource;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.store {
            true => "a secret: a string, {\"value\": …} or {\"store\": NAME}",
            false => "a secret: a string or {\"value\": …}",
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<KeySource, E> {
        Ok(KeySource::Secret(SecretInput::new(text.to_owned())))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<KeySource, E> {
        Ok(KeySource::Secret(SecretInput::new(text)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<KeySource, A::Error> {
        let (mut value, mut env, mut from_env, mut store) = (None, None::<Option<String>>, None, None);
        while let Some(name) = members.next_key::<String>()? {
            let again = match name.as_str() {
                "value" => value.replace(members.next_value::<SecretInput>()?).is_some(),
                "env_var" => env.replace(members.next_value()?).is_some(),
                "from_env" => from_env.replace(members.next_value::<bool>()?).is_some(),
                "store" if self.store => store.replace(members.next_value::<String>()?).is_some(),
                other => {
                    let known: &[&str] = if self.store { &SECRET_OR_STORE } else { &SECRET };
                    return Err(A::Error::unknown_field(other, known));
                }
            };
            if again {
                return Err(A::Error::custom(format_args!("duplicate field `{name}`")));
            }
        }
        let env = env.flatten().unwrap_or_default();
        match (store, value) {
            (Some(_), Some(_)) => Err(A::Error::custom("`value` and `store` exclude one another; send one")),
            (Some(name), None) if env.is_empty() && from_env != Some(true) => Ok(KeySource::Store(name)),
            _ if !env.is_empty() || from_env == Some(true) => {
                Ok(KeySource::Secret(SecretInput::new(format!("env:{env}"))))
            }
            (_, Some(value)) => Ok(KeySource::Secret(value)),
            (_, None) => Err(A::Error::missing_field("value")),
        }
    }
}

impl<'de> Deserialize<'de> for KeySource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Spellings { store: true })
    }
}

impl<'de> Deserialize<'de> for SecretMember {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(Spellings { store: false })? {
            KeySource::Secret(secret) => Ok(Self(secret)),
            KeySource::Store(_) => Err(D::Error::custom("a variable cannot stand here")),
        }
    }
}

impl From<SecretInput> for KeySource {
    fn from(secret: SecretInput) -> Self {
        Self::Secret(secret)
    }
}

fn spelled_out() -> ObjectBuilder {
    ObjectBuilder::new()
        .property("value", String::schema())
        .required("value")
        .property("env_var", String::schema())
        .property("from_env", bool::schema())
}

impl PartialSchema for KeySource {
    fn schema() -> RefOr<Schema> {
        let store = ObjectBuilder::new().property("store", String::schema()).required("store");
        OneOfBuilder::new().item(String::schema()).item(spelled_out()).item(store).into()
    }
}

impl ToSchema for KeySource {}

impl PartialSchema for SecretMember {
    fn schema() -> RefOr<Schema> {
        OneOfBuilder::new().item(String::schema()).item(spelled_out()).into()
    }
}

impl ToSchema for SecretMember {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_in_each_of_its_spellings() {
        let read = |text: &str| serde_json::from_str::<KeySource>(text);
        let secret = |text: &str| match read(text) {
            Ok(KeySource::Secret(secret)) => secret.into_plain("api_key").map(|text| text.to_string()),
            other => panic!("{text}: {other:?}"),
        };
        for text in [
            r#""sk-a""#,
            r#"{"value": "sk-a"}"#,
            r#"{"value": "sk-a", "env_var": "", "from_env": false}"#,
            r#"{"value": "sk-a", "env_var": null}"#,
        ] {
            assert_eq!(secret(text).expect("a key"), "sk-a", "{text}");
        }
        assert!(matches!(read(r#"{"store": "OPENAI"}"#), Ok(KeySource::Store(name)) if name == "OPENAI"));
        for text in [
            r#"{"value": "sk-a", "env_var": "HOME"}"#,
            r#"{"value": "sk-a", "from_env": true}"#,
            r#"{"from_env": true}"#,
            r#"{"env_var": "HOME"}"#,
            r#"{"store": "A", "env_var": "HOME"}"#,
        ] {
            let refused = secret(text).expect_err("no reference to the environment");
            assert!(matches!(refused, ControlError::Invalid { code: "reference_not_allowed", .. }), "{text}");
        }
        for text in [
            "null",
            "1",
            "[]",
            "{}",
            r#"{"value": null}"#,
            r#"{"value": "a", "store": "b"}"#,
            r#"{"value": "a", "value": "b"}"#,
            r#"{"env": "HOME"}"#,
            r#"{"value": {"value": "a"}}"#,
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<SecretMember>(r#"{"store": "A"}"#).is_err());
        assert!(serde_json::from_str::<SecretMember>(r#"{"value": "a"}"#).is_ok());
    }

    #[test]
    fn a_credential_that_is_a_document_is_a_json_object() {
        let document = |text: &str| SecretInput::new(text.to_owned()).into_document("auth_credentials");
        assert!(document("{\n \"type\": \"service_account\"}\n").is_ok());
        for text in ["", "[]", "{", "\"x\"", "********", "env:GOOGLE", "{\"private_key\": \"****\"}"] {
            assert!(document(text).is_err(), "{text}");
        }
    }

    #[test]
    fn masks_and_unprintable_texts_are_no_keys() {
        for text in [
            "****",
            "sk-…abcd",
            "sk-...abcd",
            "••••••••",
            "**",
            "sk-***",
            "sk-a\nb",
            "sk-a\r\nx: y",
            "sk a",
            "ключ",
            "env:PATH",
            "${PATH}",
            "os.environ/PATH",
            "file:/etc/passwd",
        ] {
            assert!(SecretInput::new(text.to_owned()).into_provider_secret().is_err(), "{text:?}");
        }
        assert!(SecretInput::new("k".repeat(5000)).into_provider_secret().is_err());
        for text in ["", "x", "EMPTY", "sk-proj-Abc_123", "@/etc/passwd", "gsk_x.y-z", "token-abc123"] {
            assert!(SecretInput::new(text.to_owned()).into_provider_secret().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn it_does_not_print_itself() {
        assert_eq!(format!("{:?}", SecretInput::new("sk-canary".into())), "SecretInput(…)");
    }
}
