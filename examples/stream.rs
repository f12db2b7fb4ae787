//! One streamed chat request from Rust, without an SDK: events as they come, and what an incomplete stream looks like.
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
//! KEYSTILE_KEY=ks_… cargo run --example stream
//! KEYSTILE_KEY=ks_… cargo run --example stream -- demo/keystile-chat "What is a spend cap?"
//! ```
//!
//! `KEYSTILE_BASE_URL` is where the gateway is, `http://127.0.0.1:8080/v1` when it is not set.
//! Give both in front of the command, as above: where they are exported, the `keystile` command itself refuses to start, as
//! it knows no such settings.

use std::{
    env,
    error::Error,
    io::{self, Write},
};

use eventsource_stream::Eventsource;
use futures_util::TryStreamExt;
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
        .json(&json!({
            "model": model,
            "stream": true,
            "stream_options": {"include_usage": true},
            "messages": [{"role": "user", "content": question}],
        }))
        .send()
        .await?;
    // Until the first meaningful event the gateway answers with a status, as without streaming.
    let status = answer.status();
    if !status.is_success() {
        let body: Value = answer.json().await?;
        return Err(format!("{status} {}: {}", body["error"]["code"], body["error"]["message"]).into());
    }

    // Comments, which keep a silent stream alive, are left out by the decoder.
    let mut events = answer.bytes_stream().eventsource();
    let mut out = io::stdout();
    while let Some(event) = events.try_next().await? {
        if event.data == "[DONE]" {
            println!();
            return Ok(());
        }
        let chunk: Value = serde_json::from_str(&event.data)?;
        if let Some(error) = chunk.get("error") {
            return Err(format!("the stream broke off: {} ({})", error["message"], error["code"]).into());
        }
        if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str() {
            write!(out, "{text}")?;
            out.flush()?;
        }
        if let Some(usage) = chunk.get("usage").filter(|usage| usage.is_object()) {
            eprintln!("\n\n{} tokens in, {} out", usage["prompt_tokens"], usage["completion_tokens"]);
        }
    }
    // A stream that only lacks its `[DONE]` is passed on as it came.
    println!();
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "an application's settings, not the gateway's")]
fn settings() -> Result<(String, String), Box<dyn Error>> {
    let key = env::var("KEYSTILE_KEY").map_err(|_| "set `KEYSTILE_KEY` to a virtual key, `ks_…`")?;
    let base_url = env::var("KEYSTILE_BASE_URL").unwrap_or_else(|_| "http://127.0.0.1:8080/v1".into());
    Ok((key, base_url.trim_end_matches('/').to_owned()))
}
