//! Chats and embeddings that Gemini answers.

use serde_json::json;

use super::{data, generated, said};
use crate::support::{Answer, Gateway, Setup, Upstream, VirtualKey, event};

const MODEL: &str = "gemini/gemini-2.5-flash";

async fn house(answer: Answer) -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(answer).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("gemini", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    (upstream, gateway, key)
}

#[tokio::test]
async fn a_chat_is_asked_in_googles_words_and_answered_in_openais() {
    let parts = json!([{ "text": "hm", "thought": true }, { "text": "Hello." }]);
    let (upstream, gateway, key) =
        house(Answer::json(200, &generated(parts, json!("STOP"), (9, 4, 20)))).await;
    let reply = gateway.chat(&key, json!({ "model": MODEL, "max_tokens": 50 })).await.expect(200);
    let answer = reply.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "Hello.");
    assert_eq!(answer["choices"][0]["message"]["reasoning_content"], "hm");
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 20);
    let seen = upstream.last();
    assert_eq!(seen.path, "/v1beta/models/gemini-2.5-flash:generateContent");
    assert_eq!(seen.header("x-goog-api-key"), Some("sk-scripted-provider-key"));
    assert_eq!(seen.json()["generationConfig"]["maxOutputTokens"], 50);
    let row = gateway.only_usage().await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(9), &json!(24)));
    // 9 × 0.3 + 24 × 2.5 micro-USD.
    assert_eq!(row["cost_micro_usd"], 62.7);
}

#[tokio::test]
async fn a_stream_without_an_end_of_its_own_is_ended_for_the_client() {
    let answer = Answer::stream()
        .send(event(&generated(json!([{ "text": "one " }]), json!(null), (9, 1, 0))).replace('\n', "\r\n"))
        .send(event(&generated(json!([{ "text": "two" }]), json!("STOP"), (9, 4, 0))).replace('\n', "\r\n"))
        .end();
    let (upstream, gateway, key) = house(answer).await;
    let text = gateway.stream(&key, json!({ "model": MODEL })).await.text().await;
    assert_eq!(upstream.last().path, "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert_eq!(said(&data(&text)), "one two");
    let row = gateway.only_usage().await;
    assert_eq!(
        (&row["input_tokens"], &row["output_tokens"], &row["outcome"]),
        (&json!(9), &json!(4), &json!("ok"))
    );
}

#[tokio::test]
async fn a_stream_that_ends_without_a_reason_is_said_to_be_broken() {
    let answer =
        Answer::stream().send(event(&generated(json!([{ "text": "half" }]), json!(null), (9, 1, 0)))).end();
    let (_upstream, gateway, key) = house(answer).await;
    let text = gateway.stream(&key, json!({ "model": MODEL })).await.text().await;
    assert!(!text.contains("[DONE]"), "{text}");
    assert!(data(&text).pop().expect("an event")["error"]["message"].is_string(), "{text}");
}

#[tokio::test]
async fn signatures_of_calls_go_round_through_an_openai_client() {
    let call =
        json!({ "functionCall": { "name": "add", "args": { "a": 1 } }, "thoughtSignature": "c2ln+/==" });
    let (upstream, gateway, key) =
        house(Answer::json(200, &generated(json!([call]), json!("STOP"), (1, 1, 0)))).await;
    let tools =
        json!([{ "type": "function", "function": { "name": "add", "parameters": { "type": "object" } } }]);
    let question = json!({ "role": "user", "content": "1+2?" });
    let model = "gemini/gemini-3-pro-preview";
    let asked = json!({ "model": model, "tools": tools, "messages": [question] });
    let answer = gateway.chat(&key, asked.clone()).await.expect(200).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    let mine = answer["choices"][0]["message"].clone();
    let mut again = asked;
    again["messages"] = json!([question, mine,
        { "role": "tool", "tool_call_id": mine["tool_calls"][0]["id"], "content": "{\"sum\":3}" }]);
    gateway.chat(&key, again).await.expect(200);
    let sent = upstream.last().json();
    assert_eq!(sent["contents"][1]["parts"][0]["thoughtSignature"], "c2ln+/==", "{sent}");
    assert_eq!(sent["contents"][2]["parts"][0]["functionResponse"]["response"], json!({ "sum": 3 }));
}

#[tokio::test]
async fn a_key_that_google_refuses_with_400_is_a_refused_key() {
    let refused = json!({ "error": { "code": 400, "message": "API key not valid. Please pass a valid API key.",
        "status": "INVALID_ARGUMENT", "details": [{ "reason": "API_KEY_INVALID" }] } });
    let (_upstream, gateway, key) = house(Answer::json(400, &refused)).await;
    gateway.chat(&key, json!({ "model": MODEL })).await.refused(502, "provider_key_rejected");
}

#[tokio::test]
async fn embeddings_are_translated() {
    let answer = json!({ "embeddings": [{ "values": [1.0, -2.5] }, { "values": [0.5, 0.25] }] });
    let (upstream, gateway, key) = house(Answer::json(200, &answer)).await;
    let asked = json!({ "model": "gemini/gemini-embedding-001", "input": ["a", "bcdef"], "dimensions": 2 });
    let reply = gateway.post("/v1/embeddings", &key, asked.to_string()).await.expect(200).json();
    assert_eq!(reply["data"][1]["embedding"], json!([0.5, 0.25]));
    assert_eq!(reply["data"][1]["index"], 1);
    assert_eq!(upstream.last().path, "/v1beta/models/gemini-embedding-001:batchEmbedContents");
    let base64 = json!({ "model": "gemini/gemini-embedding-001", "input": "a", "encoding_format": "base64" });
    let reply = gateway.post("/v1/embeddings", &key, base64.to_string()).await.expect(200).json();
    assert_eq!(reply["data"][0]["embedding"], "AACAPwAAIMA=");
    assert_eq!(gateway.usage_of(2).await[0]["usage_source"], "estimated");
}
