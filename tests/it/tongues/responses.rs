//! Clients of OpenAI's `/v1/responses`.

use serde_json::{Value, json};

use super::{data, message_stream};
use crate::support::{Answer, Gateway, Reply, Setup, Upstream, VirtualKey, chat_ok, usage};

async fn house(provider: &str, answer: Answer) -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(answer).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key(provider, &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    (upstream, gateway, key)
}

async fn post(gateway: &Gateway, key: &VirtualKey, body: &Value) -> Reply {
    gateway.post("/v1/responses", key, body.to_string()).await
}

fn response(text: &str) -> Value {
    json!({ "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "gpt-up",
        "output": [{ "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
            "content": [{ "type": "output_text", "text": text, "annotations": [] }] }],
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
        "usage": { "input_tokens": 21, "input_tokens_details": { "cached_tokens": 5 }, "output_tokens": 9,
            "output_tokens_details": { "reasoning_tokens": 4 }, "total_tokens": 30 } })
}

#[tokio::test]
async fn to_providers_that_speak_it_responses_pass_as_they_are() {
    let raw = response("Hi").to_string();
    let (upstream, gateway, key) =
        house("openai", Answer::whole(200, &[("content-type", "application/json")], &raw)).await;
    let body = r#"{ "model":"openai/gpt-4o-mini", "input" : "hello", "store": true, "later_member": 1.0 }"#;
    let reply = gateway.post("/v1/responses", &key, body).await.expect(200);
    assert_eq!(reply.text(), raw);
    assert_eq!(upstream.last().path, "/v1/responses");
    assert_eq!(upstream.last().text(), body.replace("openai/gpt-4o-mini", "gpt-4o-mini"));
    let row = gateway.only_usage().await;
    let of = |member: &str| row[member].as_u64().expect("a count");
    assert_eq!(
        (of("input_tokens"), of("cache_read_tokens"), of("output_tokens"), of("reasoning_tokens")),
        (21, 5, 9, 4)
    );
}

#[tokio::test]
async fn other_providers_answer_with_a_whole_response() {
    let (upstream, gateway, key) = house("mistral", chat_ok("Hi", &usage(11, 3))).await;
    let body = json!({ "model": "mistral/mistral-small-latest", "instructions": "Be kind.", "input": [
        { "role": "user", "content": [{ "type": "input_text", "text": "hello" }] }] });
    let said = post(&gateway, &key, &body).await.expect(200).json();
    assert_eq!(
        (&said["object"], &said["status"], &said["store"]),
        (&json!("response"), &json!("completed"), &json!(false))
    );
    assert_eq!(said["output"][0]["content"][0]["text"], "Hi", "{said}");
    assert_eq!(said["usage"]["input_tokens"], 11);
    assert_eq!(upstream.last().path, "/v1/chat/completions");
    assert!(upstream.last().text().contains("Be kind."));
}

#[tokio::test]
async fn a_translated_stream_climbs_the_ladder_of_events() {
    let (_upstream, gateway, key) = house("anthropic", message_stream(&["a", "b"], (11, 3))).await;
    let body = json!({ "model": "anthropic/claude-haiku-4-5", "input": "hello", "stream": true });
    let reply = post(&gateway, &key, &body).await.expect(200);
    let events = data(reply.text());
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed"
        ],
        "{}",
        reply.text()
    );
    for (at, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], at);
    }
    let last = events.last().expect("an event");
    assert_eq!(last["response"]["usage"]["output_tokens"], 3);
}

#[tokio::test]
async fn what_would_have_to_be_stored_is_refused_by_name() {
    let (upstream, gateway, key) = house("anthropic", Answer::default()).await;
    for (member, value) in [
        ("previous_response_id", json!("resp_1")),
        ("store", json!(true)),
        ("background", json!(true)),
        ("conversation", json!("conv_1")),
    ] {
        let mut body = json!({ "model": "anthropic/claude-haiku-4-5", "input": "hello" });
        body[member] = value;
        let reply = post(&gateway, &key, &body).await.refused(400, "invalid_request");
        assert_eq!(reply.json()["error"]["param"], member, "{}", reply.text());
    }
    assert_eq!(upstream.count(), 0);
}
