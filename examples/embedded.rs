//! The gateway as a library: settings in, a running gateway out, one request through it, and an orderly stop.
//!
//! ```sh
//! cargo run --example embedded
//! ```
//!
//! It needs no network: the request is answered by the built-in demo provider. Its data is in a directory that is
//! removed at the end. A gateway of your own would leave `demo` out, keep its `data_dir`, and make its keys through
//! `app.control`, which can do whatever an administrator can.

use std::{error::Error, future, net::Ipv4Addr, time::Duration};

use keystile::{
    app::{App, StartOptions},
    config::Config,
    demo::CHAT_MODEL,
};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut config = Config::default();
    config.server.data_dir = dir.path().to_owned();
    // Port 0: the system chooses, `app.address` and `app.admin_address` tell.
    config.server.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.server.admin_listen = (Ipv4Addr::LOCALHOST, 0).into();

    let app = App::start(config, StartOptions { demo: true, ..StartOptions::default() }).await?;
    for fact in &app.facts {
        println!("{fact}");
    }
    let demo = app.demo.as_ref().ok_or("no demo was asked for")?;

    #[expect(
        clippy::disallowed_methods,
        reason = "an application's client: it calls the gateway, not a provider"
    )]
    let client = reqwest::Client::new();
    let answer = client
        .post(format!("http://{}/v1/chat/completions", app.address))
        .bearer_auth(&demo.key)
        .json(&json!({
            "model": format!("demo/{CHAT_MODEL}"),
            "messages": [{"role": "user", "content": "What is a virtual key?"}],
        }))
        .send()
        .await?
        .error_for_status()?;
    let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("?");
    let (model, cost) = (header("x-keystile-model"), header("x-keystile-cost-micro-usd"));
    println!("\n{model} answered for {cost} micro-USD:");
    let body: Value = answer.json().await?;
    println!("{}", body["choices"][0]["message"]["content"].as_str().ok_or("no content")?);

    // Live requests would get five seconds; a future that is never ready says that nobody is in a hurry.
    drop(client);
    let (drained, lost) = app.stop(Duration::from_secs(5), future::pending()).await;
    println!("\nstopped: {drained:?}, {lost} usage records lost");
    Ok(())
}
