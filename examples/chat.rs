//! One chat request from Rust, without an SDK: what is sent, what comes back, what it cost, and how a refusal looks.
//!
//! Start a gateway and copy the virtual key that it prints:
//!
//! ```sh
//! cargo run -- serve --demo
//! ```
//!
//! and in another terminal:
//!
//! ```sh
//! KEYSTILE_KEY=ks_… cargo run --example chat
//! KEYSTILE_KEY=ks_… cargo run --example chat -- demo/keystile-chat "What is a spend cap?"
//! ```
//!
//! `KEYSTILE_BASE_URL` is where the gateway is, `http://127.0.0.1:8080/v1` when it is not set.
//! Give both in front of the command, as above: where they are exported, the `keystile` command itself refuses to start, as
//! it knows no such settings.

use std::{env, error::Error};

use reqwest::Response;
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (key, base_url) = settings()?;
    let mut arguments = env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "demo/keystile-chat".into());
    let question = arguments.next().unwrap_or_else(|| "What is a virtual key?".into());

    #[expect(
        clippy::disallowed_methods,
        reason = "an application's client: it calls the gateway, not a provider"
    )]
    let client = reqwest::Client::new();
    let answer = client
        .post(format!("{base_url}/chat/completions"))
        .bearer_auth(key)
        .json(&json!({"model": model, "messages": [{"role": "user", "content": question}]}))
        .send()
        .await?;
    let status = answer.status();
    let headers = ["x-request-id", "x-keystile-model", "x-keystile-attempts", "x-keystile-cost-micro-usd"]
        .map(|name| format!("{name}: {}", header(&answer, name)));
    let body: Value = answer.json().await?;
    if !status.is_success() {
        // `code` is for programs, `message` says what to do. 402 is a spend cap, 429 a rate limit.
        let error = &body["error"];
        return Err(format!("{status} {}: {}", error["code"], error["message"]).into());
    }
    println!("{}", body["choices"][0]["message"]["content"].as_str().unwrap_or_default());
    eprintln!("\n{}", headers.join("\n"));
    Ok(())
}

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-")
}

#[expect(clippy::disallowed_methods, reason = "an application's settings, not the gateway's")]
fn settings() -> Result<(String, String), Box<dyn Error>> {
    let key = env::var("KEYSTILE_KEY").map_err(|_| "set `KEYSTILE_KEY` to a virtual key, `ks_…`")?;
    let base_url = env::var("KEYSTILE_BASE_URL").unwrap_or_else(|_| "http://127.0.0.1:8080/v1".into());
    Ok((key, base_url.trim_end_matches('/').to_owned()))
}
