//! `--demo`: furnishes the house with the built-in provider, prices for it, a virtual key and an admin, and tells how
//! to use them.

use std::{fmt::Write, net::SocketAddr, path::Path};

use super::StartError;
use crate::{
    config::{EgressAllow, reachable},
    control::{
        Control, MadeKey, NewPrice, NewPrices, NewProviderKey, NewUser, NewVirtualKey, Patch, SecretInput,
        UserChange,
    },
    demo::{CHAT_MODEL, DemoProvider, EMBEDDING_MODEL},
    domain::{Actor, Role},
    store::Page,
};

/// The built-in provider's slug.
const PROVIDER: &str = "demo";
const KEY_NAME: &str = "demo";
/// One dollar: enough for an afternoon, and a cap to run into.
const CAP_MICRO_USD: i64 = 1_000_000;

/// Who the demo's administrator is.
pub const DEMO_ADMIN: &str = "demo@keystile.invalid";

/// How to use a demo.
pub struct DemoAccess {
    /// Where applications call.
    pub address: SocketAddr,
    /// Where administrators call.
    pub admin_address: SocketAddr,
    /// The virtual key, new at each start.
    pub key: String,
    /// The administrator's password, new at each start.
    pub admin_password: String,
}

/// The built-in provider listens on loopback, which only the operator may allow; `--demo` is their word for it.
pub(super) fn allow(address: SocketAddr) -> EgressAllow {
    EgressAllow { host: address.ip().to_string(), port: address.port() }
}

/// Replaces what an earlier demo left and makes it anew, by the same acts as an administrator's.
pub(super) async fn furnish(
    control: &Control,
    provider: &DemoProvider,
    address: SocketAddr,
    admin_address: SocketAddr,
) -> Result<DemoAccess, StartError> {
    let actor = Actor::System;
    // Only what the demo itself could have made is replaced: in the default tenant.
    let tenant = control.ensure_default_tenant().await?.to_string();
    for old in control.provider_keys(&actor, Some(&tenant)).await? {
        if old.provider.as_str() == PROVIDER {
            control.provider_key_delete(&actor, &old.id.to_string()).await?;
        }
    }
    let upload = NewProviderKey {
        provider: PROVIDER.into(),
        key_name: Some("built-in provider".into()),
        api_key: Patch::Set(SecretInput::new(provider.api_key.to_string()).into()),
        base_url: Some(provider.base_url()),
        models: Some(vec![CHAT_MODEL.into(), EMBEDDING_MODEL.into()]),
        ..NewProviderKey::default()
    };
    control.provider_key_create(&actor, upload, None).await?;
    let price = |model: &str, input, output, max_output_tokens| NewPrice {
        model: format!("{PROVIDER}/{model}"),
        input,
        output,
        context_window: Some(128_000),
        max_output_tokens,
        ..NewPrice::default()
    };
    let prices =
        vec![price(CHAT_MODEL, 1_000_000, 4_000_000, Some(4_096)), price(EMBEDDING_MODEL, 20_000, 0, None)];
    control.prices_set(&actor, NewPrices { prices }).await?;

    let mut page = Page::first(500);
    loop {
        let keys = control.virtual_keys(&actor, Some(&tenant), &page).await?;
        for old in keys.items.iter().filter(|key| key.name == KEY_NAME) {
            control.virtual_key_delete(&actor, &old.id.to_string()).await?;
        }
        match keys.next_cursor {
            Some(cursor) => page = next(&cursor),
            None => break,
        }
    }
    let new = NewVirtualKey {
        name: KEY_NAME.into(),
        spend_cap_micro_usd: Patch::Set(CAP_MICRO_USD),
        ..NewVirtualKey::default()
    };
    let made = control.virtual_key_create(&actor, new, None).await?;
    let admin_password = renew_admin(control, &actor).await?;
    Ok(DemoAccess { address, admin_address, key: shown_once(made), admin_password })
}

/// Gives the demo's administrator a new password, and makes them first if they are not there.
async fn renew_admin(control: &Control, actor: &Actor) -> Result<String, StartError> {
    let mut random = [0; 12];
    getrandom::fill(&mut random).map_err(std::io::Error::from)?;
    let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut page = Page::first(500);
    loop {
        let users = control.users(actor, None, &page).await?;
        if let Some(admin) = users.items.iter().find(|user| user.email == DEMO_ADMIN) {
            let new = UserChange {
                password: Patch::Set(SecretInput::new(password.clone())),
                is_active: Patch::Set(true),
                ..UserChange::default()
            };
            control.user_change(actor, &admin.id.to_string(), new).await?;
            return Ok(password);
        }
        match users.next_cursor {
            Some(cursor) => page = next(&cursor),
            None => break,
        }
    }
    let new = NewUser {
        email: DEMO_ADMIN.into(),
        password: SecretInput::new(password.clone()),
        role: Role::Owner,
        tenant_id: None,
    };
    control.user_create(actor, new, None).await?;
    Ok(password)
}

fn next(cursor: &str) -> Page {
    Page::parse(Some(500), Some(cursor)).unwrap_or_else(|| Page::first(500))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the demo's key is shown once, on the terminal of whoever started it"
)]
fn shown_once(made: MadeKey) -> String {
    made.plaintext.map(|key| key.expose_secret().to_owned()).unwrap_or_default()
}

/// A word as a shell takes it.
fn shell(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | ':');
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

impl DemoAccess {
    /// What is printed: lines that work as they stand.
    pub fn introduction(&self, data_dir: &Path) -> String {
        let Self { key, admin_password, .. } = self;
        let model = format!("demo/{CHAT_MODEL}");
        let directory = shell(&data_dir.display().to_string());
        let (base, admin) = (reachable(self.address), reachable(self.admin_address));
        let (base, admin) = (format!("http://{base}/v1"), format!("http://{admin}"));
        let (chat, login) =
            (shell(&format!("{base}/chat/completions")), shell(&format!("{admin}/api/auth/login")));
        let mut text = String::new();
        let _ = write!(
            text,
            r#"
Keystile is up, with a built-in provider that answers offline.

Ask it, streamed:

curl -N {chat} \
  -H "Authorization: Bearer {key}" \
  -H "Content-Type: application/json" \
  -d '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"What is a virtual key?"}}]}}'

The same in one piece: leave out `"stream":true,`.

Or with the OpenAI SDK for Python (pip install openai):

from openai import OpenAI
client = OpenAI(base_url="{base}", api_key="{key}")
messages = [{{"role": "user", "content": "What is a virtual key?"}}]
print(client.chat.completions.create(model="{model}", messages=messages).choices[0].message.content)
for chunk in client.chat.completions.create(model="{model}", messages=messages, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)

See what it cost:

keystile spend --data-dir {directory}

The same from a checkout:

cargo run --release -- spend --data-dir {directory}

Administer it at {admin} as {DEMO_ADMIN}, password {admin_password} (new at each start):

curl {login} \
  -H "Content-Type: application/json" \
  -d '{{"email":"{DEMO_ADMIN}","password":"{admin_password}"}}'
"#
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(address: &str, data_dir: &str) -> String {
        let access = DemoAccess {
            address: address.parse().expect("an address"),
            admin_address: "0.0.0.0:8081".parse().expect("an address"),
            key: "ks_x".into(),
            admin_password: "secret".into(),
        };
        access.introduction(Path::new(data_dir))
    }

    #[test]
    fn commands_stand_alone_on_their_lines() {
        let text = told("127.0.0.1:8080", "data/demo");
        for line in [
            "keystile spend --data-dir data/demo",
            "cargo run --release -- spend --data-dir data/demo",
            "from openai import OpenAI",
            r#"client = OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="ks_x")"#,
            r"curl -N http://127.0.0.1:8080/v1/chat/completions \",
            r"curl http://127.0.0.1:8081/api/auth/login \",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}:\n{text}");
        }
    }

    #[test]
    fn addresses_can_be_called_and_paths_pasted() {
        let text = told("[::]:8080", "my data/o'clock");
        assert!(text.contains("curl -N 'http://[::1]:8080/v1/chat/completions' "), "{text}");
        assert!(text.contains(r#"base_url="http://[::1]:8080/v1""#), "{text}");
        assert!(text.contains(r"spend --data-dir 'my data/o'\''clock'"), "{text}");
        assert!(!text.contains("0.0.0.0"), "{text}");
    }
}
