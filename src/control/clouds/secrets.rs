//! The secrets of a cloud configuration on their way into the vault. They are replaced together: a session token belongs to
//! its access key, and nothing that is sealed is opened to mend a part of it.

use zeroize::Zeroizing;

use crate::{
    control::{ControlError, Patch, SecretInput, SecretMember},
    domain::ProviderSecret,
};

/// Secrets that were sent, by name.
#[derive(Default)]
pub(in crate::control) struct Secrets {
    given: Vec<(&'static str, Zeroizing<String>)>,
    mentioned: bool,
}

impl Secrets {
    /// Takes one that is a single word.
    pub(super) fn take(
        &mut self,
        name: &'static str,
        field: &str,
        asked: Patch<SecretMember>,
    ) -> Result<(), ControlError> {
        self.take_as(name, field, asked, SecretInput::into_plain)
    }

    /// Takes one that is a JSON object.
    pub(super) fn take_document(
        &mut self,
        name: &'static str,
        field: &str,
        asked: Patch<SecretMember>,
    ) -> Result<(), ControlError> {
        self.take_as(name, field, asked, SecretInput::into_document)
    }

    fn take_as(
        &mut self,
        name: &'static str,
        field: &str,
        asked: Patch<SecretMember>,
        check: fn(SecretInput, &str) -> Result<Zeroizing<String>, ControlError>,
    ) -> Result<(), ControlError> {
        self.mentioned |= !asked.is_keep();
        let Some(SecretMember(secret)) = asked.value() else { return Ok(()) };
        if secret.is_empty() {
            return Err(ControlError::invalid(
                "secret_required",
                format!("`{field}` is empty; send it whole, or leave it out"),
            ));
        }
        self.given.push((name, check(secret, field)?));
        Ok(())
    }

    /// Whether any was sent or taken away: then what was sent is all there is.
    pub fn mentioned(&self) -> bool {
        self.mentioned
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.given.iter().map(|(name, _)| (*name).to_owned()).collect()
    }

    /// All of them as one JSON object; `None` when there are none.
    pub fn render(&self) -> Option<ProviderSecret> {
        if self.given.is_empty() {
            return None;
        }
        // Six times a text is the most that JSON's escapes make of it, so that the buffer never grows.
        let room = 2 + self.given.iter().map(|(name, text)| name.len() + 6 * text.len() + 6).sum::<usize>();
        let mut json = Zeroizing::new(Vec::with_capacity(room));
        json.push(b'{');
        for (place, (name, text)) in self.given.iter().enumerate() {
            if place > 0 {
                json.push(b',');
            }
            json.extend_from_slice(b"\"");
            json.extend_from_slice(name.as_bytes());
            json.extend_from_slice(b"\":");
            serde_json::to_writer(&mut *json, text.as_str()).expect("a text always has a JSON form");
        }
        json.push(b'}');
        Some(ProviderSecret::new(json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test reads what will be sealed")]
    fn secrets_are_rendered_as_one_object() {
        let mut secrets = Secrets::default();
        let given = |text: &str| Patch::Set(SecretMember(SecretInput::new(text.to_owned())));
        assert!(secrets.render().is_none() && !secrets.mentioned());
        secrets.take("access_key", "x", given("AKIA")).expect("taken");
        secrets.take("session_token", "x", Patch::Keep).expect("taken");
        secrets.take_document("auth_credentials", "x", given("{\"a\":\n1}")).expect("taken");
        let rendered = secrets.render().expect("some");
        let text = std::str::from_utf8(rendered.expose_secret()).expect("UTF-8");
        assert_eq!(text, r#"{"access_key":"AKIA","auth_credentials":"{\"a\":\n1}"}"#);
        assert_eq!(secrets.names(), ["access_key", "auth_credentials"]);
        for text in ["", "********", "env:AWS", "a b"] {
            assert!(secrets.take("secret_key", "x", given(text)).is_err(), "{text:?}");
        }
    }
}
