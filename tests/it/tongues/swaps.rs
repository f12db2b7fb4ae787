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
