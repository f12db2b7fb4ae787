//! The provider over its real socket, as the gateway will meet it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{CHAT_MODEL, DemoProvider, EMBEDDING_MODEL, start};
use crate::domain::Clock;

struct Setting {
    provider: DemoProvider,
    client: reqwest::Client,
    tracker: TaskTracker,
    shutdown: CancellationToken,
}

async fn setting() -> Setting {
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let provider = start(&tracker, shutdown.clone(), Clock::system()).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test stands outside the gateway")]
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    Setting { provider, client, tracker, shutdown }
}

impl Setting {
    async fn post(&self, path: &str, body: Value) -> reqwest::Response {
        self.client
            .post(format!("{}{path}", self.provider.base_url()))
            .bearer_auth(self.provider.api_key.as_str())
            .json(&body)
            .send()
            .await
            .unwrap()
    }

    async fn get(&self, path: &str) -> reqwest::Response {
        let request = self.client.get(format!("{}{path}", self.provider.base_url()));
        request.bearer_auth(self.provider.api_key.as_str()).send().await.unwrap()
    }
}

fn chat(prompt: &str) -> Value {
    json!({"model": CHAT_MODEL, "messages": [{"role": "user", "content": prompt}]})
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The data of each event; the framing must be exactly OpenAI's.
fn events(text: &str) -> Vec<&str> {
    let text = text.strip_suffix("\n\n").unwrap();
    text.split("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect()
}

#[tokio::test]
async fn a_chat_is_answered_without_repeating_the_prompt() {
    let setting = setting().await;
    let answer = setting.post("/chat/completions", chat("zebra-canary")).await;
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(!text.contains("canary"));
    let answer: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer["object"], "chat.completion");
    assert!(answer["id"].as_str().unwrap().starts_with("chatcmpl-demo-"));
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().contains("Keystile"));
    // Twelve bytes are three tokens, and a message's framing six.
    assert_eq!(answer["usage"]["prompt_tokens"], 9);
    let total = answer["usage"]["completion_tokens"].as_u64().unwrap() + 9;
    assert_eq!(answer["usage"]["total_tokens"], total);
}

#[tokio::test]
async fn a_stream_has_the_events_of_openai_and_the_same_text() {
    let setting = setting().await;
    let limit = json!({"max_completion_tokens": 5});
    let whole: Value =
        setting.post("/chat/completions", with(chat("hi"), limit.clone())).await.json().await.unwrap();
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 5);

    let ask = json!({"stream": true, "stream_options": {"include_usage": true}});
    let start = Instant::now();
    let answer = setting.post("/chat/completions", with(with(chat("hi"), limit), ask)).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
    let text = answer.text().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(140), "tokens should take their time");
    let events = events(&text);
    assert_eq!(events.len(), 1 + 5 + 1 + 1 + 1);
    assert_eq!(events.last(), Some(&"[DONE]"));
    let chunks: Vec<Value> = events[..8].iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": "", "refusal": null})
    );
    let said: String =
        chunks[..7].iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(said, whole["choices"][0]["message"]["content"].as_str().unwrap());
    assert_eq!(chunks[6]["choices"][0]["finish_reason"], "length");
    assert!(chunks[..7].iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
    assert_eq!((&chunks[7]["choices"], &chunks[7]["usage"]), (&json!([]), &whole["usage"]));
}

#[tokio::test]
async fn a_stream_that_did_not_ask_has_no_usage() {
    let setting = setting().await;
    let body = with(chat("hi"), json!({"stream": true, "max_tokens": 1}));
    let text = setting.post("/chat/completions", body).await.text().await.unwrap();
    assert!(!text.contains("usage"));
    assert_eq!(events(&text).len(), 4);
}

#[tokio::test]
async fn legacy_completions_stop_after_sixteen_tokens() {
    let setting = setting().await;
    let body = json!({"model": CHAT_MODEL, "prompt": "Say something"});
    let answer: Value = setting.post("/completions", body.clone()).await.json().await.unwrap();
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["completion_tokens"], 16);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    let text = setting.post("/completions", with(body, json!({"stream": true}))).await.text().await.unwrap();
    let events = events(&text);
    let said: String = events[..events.len() - 1]
        .iter()
        .map(|data| {
            serde_json::from_str::<Value>(data).unwrap()["choices"][0]["text"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(said, answer["choices"][0]["text"].as_str().unwrap());
}

#[tokio::test]
async fn models_and_embeddings_are_served() {
    let setting = setting().await;
    let models: Value = setting.get("/models").await.json().await.unwrap();
    assert_eq!(models["data"].as_array().unwrap().len(), 2);
    assert_eq!(setting.get(&format!("/models/{CHAT_MODEL}")).await.status(), 200);
    assert_eq!(setting.get("/models/gpt-9").await.status(), 404);
    let body = json!({"model": EMBEDDING_MODEL, "input": ["a", "b"], "dimensions": 8});
    let answer: Value = setting.post("/embeddings", body).await.json().await.unwrap();
    assert_eq!(answer["data"][1]["embedding"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn what_it_refuses_it_refuses_as_openai_does() {
    let setting = setting().await;
    let request =
        setting.client.get(format!("{}/models", setting.provider.base_url())).bearer_auth("demo-wrong");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert_eq!(answer.json::<Value>().await.unwrap()["error"]["code"], "invalid_api_key");

    for (more, status, param) in [
        (json!({"model": "gpt-9"}), 404, json!("model")),
        (json!({"n": 2}), 400, json!("n")),
        (json!({"max_tokens": 0}), 400, json!("max_tokens")),
        (json!({"messages": []}), 400, json!("messages")),
        (json!({"stream_options": {}}), 400, json!("stream_options")),
        (json!({"messages": "zebra-canary"}), 400, Value::Null),
    ] {
        let answer = setting.post("/chat/completions", with(chat("hi"), more.clone())).await;
        assert_eq!(answer.status(), status, "{more}");
        let error: Value = answer.json().await.unwrap();
        assert_eq!(error["error"]["param"], param, "{more}");
        assert_eq!(error["error"]["type"], "invalid_request_error");
        assert!(!error.to_string().contains("canary"));
    }
    assert_eq!(setting.post("/images/generations", json!({})).await.status(), 404);
}

#[tokio::test]
async fn it_stops_when_it_is_told_to() {
    let setting = setting().await;
    let body = with(chat("a long stream"), json!({"stream": true}));
    let answer = setting.post("/chat/completions", body).await;
    setting.shutdown.cancel();
    setting.tracker.close();
    tokio::time::timeout(Duration::from_secs(5), setting.tracker.wait()).await.unwrap();
    assert!(answer.text().await.is_err(), "the stream should have been dropped");
    assert!(!format!("{:?}", setting.provider).contains("demo-"));
}
