//! A request and its answer pass as they are.

use reqwest::Method;
use serde_json::json;

use crate::support::{
    Answer, Gateway, Upstream, chat_events, chat_ok, chat_stream, done, event, gateway::chat_request, usage,
    usage_chunk,
};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_plain_answer_passes_byte_for_byte_and_its_head_says_who_answered() {
    // Odd spacing, unknown members, an order of its own: all of it is the provider's business.
    let body = "{ \"zeta\":1,\n \"choices\" : [{\"index\":0,\"finish_reason\":\"stop\",\"message\":{\"role\":\"assistant\",\
                \"content\":\"h\\u00e9llo\",\"unknown\":[1, 2.50 ,3e2]}}],\"usage\":{\"prompt_tokens\":10,\
                \"completion_tokens\":5,\"total_tokens\":15},\"alpha\":null }\n";
    let upstream = Upstream::always(Answer::whole(200, &[("content-type", "application/json")], body)).await;
    let (gateway, key) = Gateway::simple(&upstream).await;

    let reply = gateway.chat(&key, json!({})).await.expect(200);
    assert_eq!(reply.text(), body);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-keystile-provider"), Some("openai"));
    assert_eq!(reply.header("x-keystile-model"), Some("openai/gpt-4o-mini"));
    assert_eq!(reply.header("x-keystile-attempts"), Some("1"));
    // 10 × 0.15 + 5 × 0.60 micro-USD.
    assert_eq!(reply.header("x-keystile-cost-micro-usd"), Some("4.5"));
    let row = gateway.only_usage().await;
    assert_eq!(reply.header("x-request-id"), row["request_id"].as_str());
}

#[tokio::test]
async fn a_request_reaches_the_provider_with_only_its_model_changed() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let sent = "{\"zeta\" : [1.0, 2e5, -0.0], \"model\":\"openai/gpt-4o-mini\",\n\"seed\":9223372036854775807,\
                \"messages\":[{\"role\":\"user\",\"content\":\"\\ud83d\\ude00 / \\/\"}],\"unknown\":{\"b\":1,\"a\":null},\
                \"temperature\":0.70}";
    gateway.post(CHAT, &key, sent).await.expect(200);

    let seen = upstream.only();
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(seen.text(), sent.replace("openai/gpt-4o-mini", "gpt-4o-mini"));
    assert_eq!(seen.header("authorization"), Some("Bearer sk-scripted-provider-key"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn at_057_headers_of_the_client_stay_here_and_those_of_the_provider_there() {
    let answer = Answer::whole(
        200,
        &[
            ("content-type", "application/json"),
            ("set-cookie", "a=b"),
            ("openai-organization", "org-secret"),
            ("x-request-id", "theirs"),
            ("connection", "keep-alive"),
        ],
        crate::support::chat_body("hi", &usage(1, 1)).to_string(),
    );
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let request = gateway
        .request(Method::POST, CHAT, &key)
        .header("content-type", "application/json; charset=utf-8")
        .header("cookie", "session=1")
        .header("openai-organization", "org-mine")
        .header("openai-project", "proj-mine")
        .header("x-api-key", &key.key)
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-forwarded-host", "evil.example")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=10.0.0.1")
        .header("proxy-authorization", "Basic eA==")
        .header("x-request-id", "mine")
        .header("x-stainless-lang", "python")
        .body(chat_request(json!({})));
    let reply = gateway.send(request).await.expect(200);

    let seen = upstream.only();
    let mut names: Vec<String> = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    let ours = [
        "accept",
        "accept-encoding",
        "authorization",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    ];
    assert_eq!(names, ours);
    assert_eq!(seen.header("authorization"), Some("Bearer sk-scripted-provider-key"));
    assert!(!seen.headers.iter().any(|(_, value)| value.contains("ks_")), "the virtual key stays here");
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(reply.header("openai-organization"), None);
    assert!(reply.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
}

#[tokio::test]
async fn a_stream_passes_byte_for_byte() {
    let upstream = Upstream::always(chat_stream(&["Hel", "lo"], Some(&usage(7, 2)))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let options = json!({ "stream_options": { "include_usage": true } });
    let stream = gateway.stream(&key, options).await;
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(stream.header("cache-control"), Some("no-cache"));
    assert_eq!(stream.header("x-keystile-attempts"), Some("1"));
    assert_eq!(stream.header("x-keystile-provider"), Some("openai"));
    assert_eq!(stream.header("x-keystile-model"), Some("openai/gpt-4o-mini"));
    assert_eq!(stream.header("x-keystile-cost-micro-usd"), None, "the cost is not known at the head");
    let expected = chat_events(&["Hel", "lo"]).concat() + &usage_chunk(&usage(7, 2)) + &done();
    assert_eq!(stream.text().await, expected);
    assert_eq!(gateway.only_usage().await["usage_source"], "provider");
}

#[tokio::test]
async fn usage_that_only_the_gateway_asked_for_is_taken_out_again_and_nothing_else() {
    let upstream = Upstream::always(chat_stream(&["a"], Some(&usage(7, 2)))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let text = gateway.stream(&key, json!({})).await.text().await;
    assert_eq!(text, chat_events(&["a"]).concat() + &done());
    assert_eq!(upstream.only().json()["stream_options"], json!({ "include_usage": true }));
    let row = gateway.only_usage().await;
    assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(7), &json!(2)));
}

#[tokio::test]
async fn other_stream_options_of_the_client_stay() {
    let upstream = Upstream::always(chat_stream(&["a"], Some(&usage(7, 2)))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let options = json!({ "stream_options": { "include_obfuscation": false, "include_usage": false } });
    let text = gateway.stream(&key, options).await.text().await;
    assert!(!text.contains("prompt_tokens"), "{text}");
    let asked = &upstream.only().json()["stream_options"];
    assert_eq!(*asked, json!({ "include_obfuscation": false, "include_usage": true }));
}

#[tokio::test]
async fn a_chunk_that_carries_more_than_usage_is_kept() {
    let chunk = event(&json!({ "choices": [], "usage": null, "prompt_filter_results": [{ "index": 0 }] }));
    let answer = Answer::stream().send(&chunk).send_all(chat_events(&["a"])).send(done()).end();
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let text = gateway.stream(&key, json!({})).await.text().await;
    assert_eq!(text, chunk + &chat_events(&["a"]).concat() + &done());
}

#[tokio::test]
async fn legacy_completions_and_embeddings_go_the_same_way() {
    let completion = json!({ "object": "text_completion", "choices": [{ "index": 0, "text": "hi", "finish_reason": "stop" }],
        "usage": usage(3, 1) });
    let embedding = json!({ "object": "list", "data": [{ "object": "embedding", "index": 0, "embedding": [0.1] }],
        "usage": { "prompt_tokens": 4, "total_tokens": 4 } });
    let answers = [Answer::json(200, &completion), Answer::json(200, &embedding)];
    let upstream = Upstream::queue(answers).await;
    let (gateway, key) = Gateway::simple(&upstream).await;

    let asked = json!({ "model": "openai/gpt-3.5-turbo-instruct", "prompt": "once" });
    let reply = gateway.post("/v1/completions", &key, asked.to_string()).await.expect(200);
    assert_eq!(reply.json(), completion);
    let asked = json!({ "model": "openai/text-embedding-3-small", "input": ["a", "b"] });
    let reply = gateway.post("/v1/embeddings", &key, asked.to_string()).await.expect(200);
    assert_eq!(reply.json(), embedding);

    let paths: Vec<String> = upstream.seen().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/v1/completions", "/v1/embeddings"]);
    let rows = gateway.usage_of(2).await;
    assert_eq!((&rows[0]["input_tokens"], &rows[0]["output_tokens"]), (&json!(3), &json!(1)));
    assert_eq!((&rows[1]["input_tokens"], &rows[1]["output_tokens"]), (&json!(4), &json!(0)));
}

#[tokio::test]
async fn a_model_may_be_named_with_its_provider_without_it_or_by_an_alias() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    gateway.provider_key("my-vllm", &upstream).await;
    let models = json!(["openai/gpt-4.1-nano"]);
    gateway.create("/api/aliases", json!({ "name": "fast", "models": models })).await;

    for (asked, served) in [
        ("openai/gpt-4o-mini", "openai/gpt-4o-mini"),
        ("gpt-4o-mini", "openai/gpt-4o-mini"),
        ("fast", "openai/gpt-4.1-nano"),
        ("my-vllm/org/llama", "my-vllm/org/llama"),
    ] {
        let reply = gateway.chat(&key, json!({ "model": asked })).await.expect(200);
        assert_eq!(reply.header("x-keystile-model"), Some(served), "{asked}");
        let (_, upstream_name) = served.split_once('/').expect("a slash");
        assert_eq!(upstream.last().json()["model"], upstream_name);
        let row = gateway.usage().await.pop().expect("a row");
        assert_eq!(
            (row["requested_model"].as_str(), row["served_model"].as_str()),
            (Some(asked), Some(served))
        );
    }
    gateway.chat(&key, json!({ "model": "GPT-4o-mini" })).await.refused(404, "model_not_found");
    gateway.chat(&key, json!({ "model": "groq/llama-3.1-8b-instant" })).await.refused(404, "model_not_found");
}

#[tokio::test]
async fn any_of_the_three_credential_headers_will_do() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    for name in ["x-api-key", "api-key", "authorization"] {
        let value = if name == "authorization" { format!("Bearer {}", key.key) } else { key.key.clone() };
        let mut client = gateway.raw().await;
        client.send(format!("GET /v1/key HTTP/1.1\r\nhost: a\r\n{name}: {value}\r\n\r\n")).await;
        let reply = client.reply().await.expect(200);
        assert_eq!(reply.json()["id"], key.id);
    }
}

#[tokio::test]
async fn health_needs_no_key_and_models_list_what_the_key_may_call() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut client = gateway.raw().await;
    client.send("GET /health HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let health = client.reply().await.expect(200).json();
    assert_eq!(health["status"], "healthy");
    assert_eq!((&health["service"], &health["database"]), (&json!("keystile"), &json!("connected")));

    let models = gateway.read("/v1/models", &key).await.expect(200).json();
    assert_eq!(models["object"], "list");
    let all = models["data"].as_array().expect("models");
    let mini = all.iter().find(|model| model["id"] == "openai/gpt-4o-mini").expect("a known model");
    assert_eq!((&mini["object"], &mini["owned_by"]), (&json!("model"), &json!("openai")));
    assert_eq!(mini["context_window"], 128_000);
    assert_eq!(mini["pricing"]["input"], 150_000);
    assert!(all.iter().all(|model| model["id"].as_str().is_some_and(|id| id.starts_with("openai/"))));
    for path in ["/v1/models/openai/gpt-4o-mini", "/v1/models/openai%2Fgpt-4o-mini", "/v1/models/gpt-4o-mini"]
    {
        assert_eq!(gateway.read(path, &key).await.expect(200).json()["pricing"]["output"], 600_000, "{path}");
    }
    gateway.read("/v1/models/openai/", &key).await.refused(404, "model_not_found");
}
