//! Chats that Anthropic answers.

use serde_json::{Value, json};

use super::{data, message, message_stream, named, said};
use crate::support::{Answer, Gateway, Setup, Upstream, VirtualKey};

const MODEL: &str = "anthropic/claude-haiku-4-5";

async fn house(answer: Answer) -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(answer).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("anthropic", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    (upstream, gateway, key)
}

#[tokio::test]
async fn a_chat_is_asked_in_anthropics_words_and_answered_in_openais() {
    let usage = json!({ "input_tokens": 10, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 30,
        "cache_creation": { "ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5 }, "output_tokens": 7 });
    let answer = message(json!([{ "type": "text", "text": "Hello." }]), "end_turn", usage);
    let (upstream, gateway, key) = house(Answer::json(200, &answer)).await;
    let asked = json!({ "model": MODEL, "max_tokens": 100, "messages": [
        { "role": "system", "content": "Be kind." }, { "role": "user", "content": "hi" } ] });
    let reply = gateway.chat(&key, asked).await.expect(200);
    let said = reply.json();
    assert_eq!(said["object"], "chat.completion");
    assert_eq!(said["choices"][0]["message"]["content"], "Hello.");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");
    assert_eq!(said["usage"]["prompt_tokens"], 60);
    assert_eq!(said["usage"]["prompt_tokens_details"]["cached_tokens"], 30);
    assert_eq!(said["usage"]["completion_tokens"], 7);

    let seen = upstream.last();
    assert_eq!(seen.path, "/v1/messages");
    assert_eq!(seen.header("x-api-key"), Some("sk-scripted-provider-key"));
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    let sent = seen.json();
    assert_eq!(sent["model"], "claude-haiku-4-5");
    assert_eq!(sent["max_tokens"], 100);
    assert_eq!(sent["messages"][0]["role"], "user");

    let row = gateway.only_usage().await;
    let of = |member: &str| row[member].as_u64().expect("a count");
    assert_eq!((of("input_tokens"), of("cache_read_tokens"), of("cache_write_tokens")), (60, 30, 20));
    assert_eq!(of("output_tokens"), 7);
    assert_eq!(row["usage_source"], "provider");
    // 10 × 1 + 30 × 0.1 + 15 × 1.25 + 5 × 2 + 7 × 5 micro-USD.
    assert_eq!(row["cost_micro_usd"], 76.75);
}

#[tokio::test]
async fn a_stream_is_translated_event_by_event_and_metered() {
    let (_upstream, gateway, key) = house(message_stream(&["one ", "two"], (12, 5))).await;
    let stream =
        gateway.stream(&key, json!({ "model": MODEL, "stream_options": { "include_usage": true } })).await;
    assert_eq!(stream.status, 200);
    let text = stream.text().await;
    let first = text.lines().next().expect("a line");
    assert!(first.contains("\"role\":\"assistant\""), "{first}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    assert!(!text.contains("event:"), "{text}");
    let chunks = data(&text);
    assert_eq!(said(&chunks), "one two");
    let last = chunks.last().expect("a chunk");
    assert_eq!((&last["choices"], &last["usage"]["prompt_tokens"]), (&json!([]), &json!(12)));
    let row = gateway.only_usage().await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(12), &json!(5)));
    assert_eq!((&row["usage_source"], &row["outcome"]), (&json!("provider"), &json!("ok")));
}

#[tokio::test]
async fn a_stream_that_dies_ends_with_an_error_in_the_clients_words() {
    let full = message_stream(&["one"], (1, 1));
    let start = json!({ "type": "message_start", "message": { "id": "m", "type": "message", "role": "assistant",
        "model": "c", "content": [], "usage": { "input_tokens": 3, "output_tokens": 1 } } });
    let text = json!({ "type": "content_block_delta", "index": 0, "delta": { "type": "text_delta", "text": "half" } });
    let overloaded =
        json!({ "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" } });
    let broken = Answer::stream().send(named(&start)).send(named(&text));
    let (upstream, gateway, key) = house(full).await;
    for (answer, says) in [
        (broken.clone().send(named(&overloaded)).end(), "Overloaded"),
        (broken.clone().end(), "broke off"),
        (broken.close(), "broke off"),
    ] {
        upstream.answer(answer);
        let text = gateway.stream(&key, json!({ "model": MODEL })).await.text().await;
        assert!(!text.contains("[DONE]"), "{text}");
        let last = data(&text).pop().expect("an event");
        assert!(last["error"]["message"].as_str().expect("a message").contains(says), "{last}");
    }
    for row in gateway.usage_of(3).await {
        assert_eq!(row["outcome"], "upstream_error");
    }
}

#[tokio::test]
async fn thoughts_and_their_signatures_go_round_through_an_openai_client() {
    let thought = json!({ "type": "thinking", "thinking": "hm", "signature": "c2ln+/=" });
    let call = json!({ "type": "tool_use", "id": "toolu_1", "name": "add", "input": { "b": 2, "a": 1 } });
    let content = json!([thought, { "type": "text", "text": "Calling." }, call]);
    let answer = message(content, "tool_use", json!({ "input_tokens": 1, "output_tokens": 1 }));
    let (upstream, gateway, key) = house(Answer::json(200, &answer)).await;
    let tools =
        json!([{ "type": "function", "function": { "name": "add", "parameters": { "type": "object" } } }]);
    let question = json!({ "role": "user", "content": "1+2?" });
    let asked = json!({ "model": MODEL, "max_tokens": 4096, "tools": tools, "reasoning_effort": "low",
        "messages": [question] });
    let said = gateway.chat(&key, asked.clone()).await.expect(200).json();
    let mine = said["choices"][0]["message"].clone();
    assert_eq!(mine["reasoning_content"], "hm");
    assert_eq!(said["choices"][0]["finish_reason"], "tool_calls");

    let mut again = asked;
    again["messages"] = json!([question, mine,
        { "role": "tool", "tool_call_id": mine["tool_calls"][0]["id"], "content": "3" }]);
    gateway.chat(&key, again).await.expect(200);
    let sent = upstream.last().json();
    let turn = &sent["messages"][1]["content"];
    assert_eq!(turn[0], thought, "{sent}");
    assert_eq!(turn[2]["input"], json!({ "a": 1, "b": 2 }));
    assert_eq!(sent["messages"][2]["content"][0]["type"], "tool_result");
}

#[tokio::test]
async fn what_anthropic_cannot_do_is_refused_by_name_and_hints_are_dropped_aloud() {
    let answer = message(
        json!([{ "type": "text", "text": "x" }]),
        "end_turn",
        json!({ "input_tokens": 1, "output_tokens": 1 }),
    );
    let (upstream, gateway, key) = house(Answer::json(200, &answer)).await;
    for (more, field) in [
        (json!({ "n": 2 }), "n"),
        (json!({ "logit_bias": { "5": 1 } }), "logit_bias"),
        (json!({ "frequency_penalty": 1 }), "frequency_penalty"),
        (json!({ "no_such_member": 1 }), "no_such_member"),
    ] {
        let mut asked = json!({ "model": MODEL });
        asked.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let reply = gateway.chat(&key, asked).await.refused(400, "invalid_request");
        assert_eq!(reply.json()["error"]["param"], field, "{}", reply.text());
    }
    assert_eq!(upstream.count(), 0);
    let reply =
        gateway.chat(&key, json!({ "model": MODEL, "seed": 7, "n": 1, "logit_bias": {} })).await.expect(200);
    assert_eq!(reply.header("x-keystile-dropped"), Some("seed"));
}

#[tokio::test]
async fn anthropics_errors_keep_their_meaning() {
    let (upstream, gateway, key) = house(Answer::default()).await;
    let error =
        |kind: &str, message: &str| json!({ "type": "error", "error": { "type": kind, "message": message } });
    for (status, kind, message, ours, code) in [
        (400, "invalid_request_error", "messages: bad", 400, "invalid_request_error"),
        (401, "authentication_error", "invalid x-api-key", 502, "provider_key_rejected"),
        (429, "rate_limit_error", "slow down", 429, "upstream_rate_limited"),
        (529, "overloaded_error", "Overloaded", 502, "upstream_error"),
    ] {
        upstream.answer(Answer::json(status, &error(kind, message)));
        let reply = gateway.chat(&key, json!({ "model": MODEL })).await.refused(ours, code);
        let said: Value = reply.json();
        assert_eq!(said["error"]["provider"], "anthropic");
        assert_eq!(said["error"]["provider_status"], status);
    }
}

#[tokio::test]
async fn the_output_limit_that_anthropic_demands_is_the_models_own() {
    let answer = message(
        json!([{ "type": "text", "text": "x" }]),
        "end_turn",
        json!({ "input_tokens": 1, "output_tokens": 1 }),
    );
    let (upstream, gateway, key) = house(Answer::json(200, &answer)).await;
    let reply = gateway.chat(&key, json!({ "model": MODEL })).await.expect(200);
    assert_eq!(upstream.last().json()["max_tokens"], 64_000);
    assert_eq!(reply.header("x-keystile-max-output-tokens"), Some("64000"));
    // Half a cent: the largest answer that fits is asked for.
    let capped = gateway.virtual_key(json!({ "spend_cap_micro_usd": 5_000 })).await;
    gateway.chat(&capped, json!({ "model": MODEL })).await.expect(200);
    let limit = upstream.last().json()["max_tokens"].as_u64().expect("a limit");
    assert!((256..=1_000).contains(&limit), "{limit}");
}
