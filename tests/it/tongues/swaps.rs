//! One key, one request, three tongues: fallback from OpenAI over Anthropic to Gemini, before anything was said.

use serde_json::json;

use super::{data, generated, message_stream, said};
use crate::support::{Answer, Gateway, Setup, Upstream, VirtualKey, error, event};

struct Three {
    gateway: Gateway,
    key: VirtualKey,
    upstreams: [Upstream; 3],
}

async fn three(answers: [Answer; 3]) -> Three {
    let [first, second, third] = answers;
    let upstreams =
        [Upstream::always(first).await, Upstream::always(second).await, Upstream::always(third).await];
    let mut setup = Setup::new().await;
    for upstream in &upstreams {
        setup = setup.allow(upstream);
    }
    let gateway = setup.start().await;
    for (provider, upstream) in ["openai", "anthropic", "gemini"].into_iter().zip(&upstreams) {
        gateway.provider_key(provider, upstream).await;
    }
    let fallbacks = ["anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"];
    let key = gateway.virtual_key(json!({ "fallback_models": fallbacks })).await;
    Three { gateway, key, upstreams }
}

fn tool_call() -> Answer {
    let call = json!([{ "functionCall": { "name": "add", "args": { "a": 1 } } }]);
    Answer::stream().send(event(&generated(call, json!("STOP"), (5, 2, 0)))).end()
}

#[tokio::test]
async fn a_stream_goes_on_in_another_tongue_when_the_first_has_nothing_to_say() {
    let house = three([error(503, "down"), message_stream(&["from ", "claude"], (5, 2)), tool_call()]).await;
    let stream = house.gateway.stream(&house.key, json!({})).await;
    assert_eq!(stream.header("x-keystile-model"), Some("anthropic/claude-haiku-4-5"));
    assert_eq!(stream.header("x-keystile-attempts"), Some("2"));
    assert_eq!(said(&data(&stream.text().await)), "from claude");
    assert_eq!(house.upstreams[2].count(), 0);
}

#[tokio::test]
async fn an_error_as_the_first_event_leads_to_the_next_tongue_and_tools_go_along() {
    let overloaded =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let house = three([
        Answer::stream().send(event(&json!({ "error": { "message": "no", "code": 500 } }))).end(),
        Answer::stream().send(super::named(&overloaded)).end(),
        tool_call(),
    ])
    .await;
    let tools =
        json!([{ "type": "function", "function": { "name": "add", "parameters": { "type": "object" } } }]);
    let stream = house.gateway.stream(&house.key, json!({ "tools": tools })).await;
    assert_eq!(stream.header("x-keystile-model"), Some("gemini/gemini-2.5-flash"));
    assert_eq!(stream.header("x-keystile-attempts"), Some("3"));
    let chunks = data(&stream.text().await);
    let call =
        chunks.iter().find_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).expect("a call");
    assert_eq!((&call["index"], &call["function"]["name"]), (&json!(0), &json!("add")));
    let declared = house.upstreams[2].last().json()["tools"][0]["functionDeclarations"][0]["name"].clone();
    assert_eq!(declared, "add");
    assert_eq!(house.gateway.only_usage().await["attempts"], 3);
}

#[tokio::test]
async fn a_candidate_that_cannot_say_it_is_passed_over() {
    let house = three([
        error(503, "down"),
        message_stream(&["no"], (1, 1)),
        Answer::json(200, &generated(json!([{ "text": "yes" }]), json!("STOP"), (5, 2, 0))),
    ])
    .await;
    let reply = house.gateway.chat(&house.key, json!({ "frequency_penalty": 0.5 })).await.expect(200);
    assert_eq!(reply.header("x-keystile-model"), Some("gemini/gemini-2.5-flash"));
    assert_eq!(house.upstreams[1].count(), 0, "Anthropic knows no penalty");
}

#[tokio::test]
async fn what_is_said_beside_a_picture_is_reserved_whatever_its_data_url_pretends_to_hold() {
    let upstream = Upstream::always(message_stream(&["no"], (1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("anthropic", &upstream).await;
    // Room for a picture and 30,000 tokens of input, and not for the 100,000 that this text may be.
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 36_000 })).await;
    let url = format!("data:image/png;x={};base64,iVBORw0KGgo=", "a".repeat(200_000));
    let content = json!([
        { "type": "text", "text": "word ".repeat(20_000) },
        { "type": "image_url", "image_url": { "url": url } },
    ]);
    let asked = json!({ "model": "anthropic/claude-haiku-4-5", "max_tokens": 10,
        "messages": [{ "role": "user", "content": content }] });
    gateway.chat(&key, asked).await.refused(402, "spend_cap_reached");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn no_good_end_is_told_behind_an_error() {
    let parts = event(&generated(json!([{ "text": "all" }]), json!("STOP"), (5, 2, 0)));
    let error = event(&json!({ "error": { "code": 500, "message": "fell over", "status": "INTERNAL" } }));
    let upstream = Upstream::always(Answer::stream().send(parts).send(error).end()).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("gemini", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    let text = gateway.stream(&key, json!({ "model": "gemini/gemini-2.5-flash" })).await.text().await;
    assert!(!text.contains("[DONE]"), "{text}");
    assert!(data(&text).last().is_some_and(|last| last["error"]["message"].is_string()), "{text}");
}

#[tokio::test]
async fn a_key_cannot_name_models_behind_the_gateways_back() {
    let upstream = Upstream::always(Answer::default()).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("anthropic", &upstream).await;
    let key = gateway.virtual_key(json!({ "models_allowed": ["anthropic/claude-haiku-4-5"] })).await;
    let body = json!({ "model": "claude-haiku-4-5", "max_tokens": 5, "fallbacks": [{ "model": "claude-opus-4-8" }],
        "messages": [{ "role": "user", "content": "hello" }] });
    let reply = gateway.post("/v1/messages", &key, body.to_string()).await.expect(400);
    assert_eq!(reply.json()["error"]["param"], "fallbacks");
    assert_eq!(upstream.count(), 0);
}
