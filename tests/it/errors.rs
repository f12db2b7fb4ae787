//! Bad input gets a clear error in the shape its SDK understands, and nothing is done.

use std::time::Duration;

use keystile::vault::token;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{
    Answer, Gateway, Reply, Setup, Upstream, VirtualKey, chat_ok, error, eventually, gateway::chat_request,
    raw, usage,
};

const CHAT: &str = "/v1/chat/completions";

async fn house() -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    (upstream, gateway, key)
}

fn chat_with(member: &str) -> String {
    format!(r#"{{"model":"openai/gpt-4o-mini","messages":[{{"role":"user","content":"x"}}],{member}}}"#)
}

fn nested(depth: usize) -> String {
    chat_with(&format!("\"deep\":{}1{}", "[".repeat(depth), "]".repeat(depth)))
}

#[tokio::test]
async fn what_is_not_json_is_refused() {
    let (upstream, gateway, key) = house().await;
    let good = chat_request(json!({}));
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let not_utf8 = [
        b"{\"model\":\"openai/gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"".as_slice(),
        b"\xff\xfe\xc3(",
        b"\"}]}",
    ]
    .concat();
    let cases: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"hello".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        b"null".to_vec(),
        b"5".to_vec(),
        format!("{good} x").into_bytes(),
        format!("{good}{good}").into_bytes(),
        format!("\u{feff}{good}").into_bytes(),
        good.replace('"', "'").into_bytes(),
        chat_with("\"a\":1,").into_bytes(),
        chat_with("\"a\":/* no */1").into_bytes(),
        chat_with("\"temperature\":NaN").into_bytes(),
        chat_with("\"temperature\":Infinity").into_bytes(),
        chat_with("\"temperature\":1e999").into_bytes(),
        chat_with("\"temperature\":01").into_bytes(),
        chat_with("\"a\":\"\u{1}\"").into_bytes(),
        chat_with("\"a\":\"\\ud800\"x").into_bytes(),
        nested(64).into_bytes(),
        nested(50_000).into_bytes(),
        utf16,
        not_utf8,
        good.as_bytes()[..good.len() - 1].to_vec(),
    ];
    for case in cases {
        let shown = String::from_utf8_lossy(&case[..case.len().min(120)]).into_owned();
        let reply = gateway.post(CHAT, &key, case).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "invalid_json"), "{shown}");
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    gateway.post(CHAT, &key, nested(60)).await.expect(200);
    assert_eq!(upstream.count(), 1, "nothing else was sent");
}

#[tokio::test]
async fn what_policy_reads_must_be_of_the_right_type_and_there_once() {
    let (upstream, gateway, key) = house().await;
    let cases = [
        ("\"model\":\"openai/gpt-4o\"", "model"),
        ("\"mod\\u0065l\":\"openai/gpt-4o\"", "model"),
        ("\"stream\":\"yes\"", "stream"),
        ("\"stream\":1", "stream"),
        ("\"stream\":false,\"stream\":true", "stream"),
        ("\"max_tokens\":-1", "max_tokens"),
        ("\"max_tokens\":1.5", "max_tokens"),
        ("\"max_tokens\":\"10\"", "max_tokens"),
        ("\"max_tokens\":1e308", "max_tokens"),
        ("\"max_tokens\":18446744073709551616", "max_tokens"),
        ("\"max_tokens\":5,\"max_tokens\":6", "max_tokens"),
        ("\"max_completion_tokens\":[]", "max_completion_tokens"),
        ("\"n\":0", "n"),
        ("\"n\":129", "n"),
        ("\"n\":true", "n"),
        ("\"models\":\"openai/gpt-4o\"", "models"),
        ("\"models\":[1]", "models"),
        ("\"service_tier\":5", "service_tier"),
        ("\"tools\":{}", "tools"),
        ("\"stream_options\":{\"include_usage\":true,\"include_usage\":false}", "stream_options"),
        ("\"stream_options\":[]", "stream_options"),
    ];
    for (member, param) in cases {
        let reply = gateway.post(CHAT, &key, chat_with(member)).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "invalid_request"),
            "{member}: {}",
            reply.text()
        );
        assert_eq!(reply.json()["error"]["param"], param, "{member}");
    }
    let first = format!(r#"{{"model":"openai/gpt-4o",{}"#, &chat_request(json!({}))[1..]);
    gateway.post(CHAT, &key, first).await.refused(400, "invalid_request");
    for messages in ["5", "\"x\"", "[]", "{}", "[1]"] {
        let body = format!(r#"{{"model":"openai/gpt-4o-mini","messages":{messages}}}"#);
        let reply = gateway.post(CHAT, &key, body).await.refused(400, "invalid_request");
        assert_eq!(reply.json()["error"]["param"], "messages");
    }
    let many = json!({ "models": vec!["openai/gpt-4o-mini"; 17] });
    gateway.chat(&key, many).await.refused(400, "invalid_request");
    assert_eq!(upstream.count(), 0, "nothing was sent");
}

#[tokio::test]
async fn a_model_must_be_named() {
    let (upstream, gateway, key) = house().await;
    for model in [Value::Null, json!("")] {
        gateway.chat(&key, json!({ "model": model })).await.refused(400, "missing_model");
    }
    let reply = gateway.post(CHAT, &key, r#"{"messages":[{"role":"user","content":"x"}]}"#).await;
    assert_eq!(reply.refused(400, "missing_model").json()["error"]["param"], "model");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_says_neither_where_it_goes_nor_with_which_key() {
    let (upstream, gateway, key) = house().await;
    for name in ["api_base", "base_url", "api_key", "extra_headers", "extra_query", "extra_body", "proxy"] {
        let reply = gateway.chat(&key, json!({ name: "x" })).await.refused(400, "forbidden_parameter");
        assert_eq!(reply.json()["error"]["param"], name);
        gateway.chat(&key, json!({ name: null })).await.refused(400, "forbidden_parameter");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn whoever_has_no_live_key_gets_the_same_answer() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).at("2026-11-21").start().await;
    gateway.provider_key("openai", &upstream).await;
    let live = gateway.virtual_key(json!({})).await;
    let revoked = gateway.virtual_key(json!({})).await;
    let expired = gateway.virtual_key(json!({ "expires_in_days": 1 })).await;
    gateway.chat(&revoked, json!({})).await.expect(200);
    gateway.chat(&expired, json!({})).await.expect(200);
    gateway.admin(Method::POST, &format!("/api/virtual-keys/{}/revoke", revoked.id), None).await.expect(200);
    gateway.turn_clock("2026-11-22");

    let mut wrong_checksum = live.key.clone();
    wrong_checksum.pop();
    wrong_checksum.push(if live.key.ends_with('0') { '1' } else { '0' });
    let (stranger, _) = token::generate();
    let keys = [
        revoked.key.clone(),
        expired.key.clone(),
        wrong_checksum,
        reveal(&stranger),
        "ks_".into(),
        "sk-proj-1234".into(),
        live.key[..live.key.len() - 1].to_owned(),
        format!("{}x", live.key),
        live.key.to_uppercase(),
        live.id.clone(),
        "x".repeat(10_000),
    ];
    let mut answers: Vec<Reply> = Vec::new();
    for key in keys {
        let key = VirtualKey { id: String::new(), key };
        answers.push(gateway.chat(&key, json!({})).await.refused(401, "invalid_api_key"));
    }
    let mut client = gateway.raw().await;
    client.send(format!("POST {CHAT} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{{}}")).await;
    answers.push(client.reply().await.refused(401, "invalid_api_key"));
    for scheme in ["Basic ", "", "Token "] {
        let mut client = gateway.raw().await;
        let head = format!("GET /v1/key HTTP/1.1\r\nhost: a\r\nauthorization: {scheme}{}\r\n\r\n", live.key);
        client.send(head).await;
        answers.push(client.reply().await.refused(401, "invalid_api_key"));
    }
    assert!(answers.iter().all(|answer| answer.body == answers[0].body), "byte for byte");
    assert_eq!(answers[0].json()["error"]["type"], "authentication_error");
    gateway.chat(&live, json!({})).await.expect(200);
}

#[expect(clippy::disallowed_methods, reason = "a key that nobody has")]
fn reveal(key: &keystile::domain::VirtualKeyPlaintext) -> String {
    key.expose_secret().to_owned()
}

#[tokio::test]
async fn keys_of_strangers_never_ask_the_database_when_their_checksum_is_wrong() {
    let (_upstream, gateway, key) = house().await;
    let (before, began) = (gateway.app.house.store.statements(), std::time::Instant::now());
    let alphabet: Vec<char> = ('0'..='9').chain('A'..='Z').chain('a'..='z').chain(['-', '_', ' ']).collect();
    for at in 3..key.key.len() {
        let other = *alphabet.iter().find(|c| !key.key[at..].starts_with(**c)).expect("another character");
        let mut wrong = key.key.clone();
        wrong.replace_range(at..=at, &other.to_string());
        let wrong = VirtualKey { id: String::new(), key: wrong };
        gateway.read("/v1/key", &wrong).await.refused(401, "invalid_api_key");
    }
    // The follower of changes asks on its own, every half second.
    let polls = 1 + began.elapsed().as_millis() as u64 / 400;
    let after = gateway.app.house.store.statements();
    assert_eq!(after.writes, before.writes);
    assert!(
        after.reads <= before.reads + polls,
        "{} more reads for {polls} polls",
        after.reads - before.reads
    );
}

#[tokio::test]
async fn two_credentials_are_refused() {
    let (upstream, gateway, key) = house().await;
    let other = gateway.virtual_key(json!({})).await;
    let (mine, other) = (format!("Bearer {}", key.key), other.key);
    let cases = [
        vec![("authorization", mine.clone()), ("x-api-key", other.clone())],
        vec![("authorization", mine.clone()), ("api-key", other.clone())],
        vec![("x-api-key", key.key.clone()), ("api-key", other.clone())],
        vec![("authorization", mine.clone()), ("authorization", format!("Bearer {other}"))],
        vec![("authorization", mine.clone()), ("authorization", mine.clone())],
        vec![("x-api-key", key.key.clone()), ("x-api-key", other)],
    ];
    for case in cases {
        let mut head = "GET /v1/key HTTP/1.1\r\nhost: a\r\n".to_owned();
        for (name, value) in &case {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut client = gateway.raw().await;
        client.send(head + "\r\n").await;
        client.reply().await.refused(400, "invalid_request");
    }
    // A key in the query is none.
    let mut client = gateway.raw().await;
    client.send(format!("GET /v1/key?api_key={0}&key={0} HTTP/1.1\r\nhost: a\r\n\r\n", key.key)).await;
    client.reply().await.refused(401, "invalid_api_key");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn paths_that_are_not_ours_say_which_are() {
    let (_upstream, gateway, key) = house().await;
    for path in ["/chat/completions", "/completions", "/embeddings", "/models"] {
        let method = if path == "/models" { Method::GET } else { Method::POST };
        let reply = gateway.send(gateway.request(method, path, &key)).await.refused(404, "unknown_path");
        assert!(reply.text().contains("/v1"), "{}", reply.text());
    }
    for path in
        ["/", "/v1", "/v1/", "/v2/chat/completions", "/v1/chat/completions/", "//v1/models", "/api/keys"]
    {
        gateway.read(path, &key).await.refused(404, "unknown_path");
    }
}

#[tokio::test]
async fn another_method_is_405_and_names_the_right_one() {
    let (_upstream, gateway, key) = house().await;
    for (method, path, allow) in [
        (Method::GET, CHAT, "POST"),
        (Method::PUT, "/v1/embeddings", "POST"),
        (Method::DELETE, "/v1/models", "GET"),
        (Method::POST, "/v1/key", "GET"),
    ] {
        let reply = gateway.send(gateway.request(method, path, &key)).await.expect(405);
        assert_eq!(reply.header("allow"), Some(allow), "{path}");
        reply.code();
    }
}

#[tokio::test]
async fn only_plain_json_is_taken() {
    let (upstream, gateway, key) = house().await;
    let cases: [&[(&str, &str)]; 5] = [
        &[("content-type", "text/plain")],
        &[("content-type", "multipart/form-data; boundary=x")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
    ];
    for headers in cases {
        let mut request = gateway.request(Method::POST, CHAT, &key).body(chat_request(json!({})));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gateway.send(request).await.refused(415, "unsupported_media_type");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_or_while_it_comes() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) =
        Gateway::simple_with(&upstream, |config| config.limits.max_body_bytes = 10_000).await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n",
        key.key
    );
    let mut client = gateway.raw().await;
    client.send(format!("{head}content-length: 10001\r\n\r\n")).await;
    client.reply().await.refused(413, "request_too_large");

    let mut client = gateway.raw().await;
    client.send(format!("{head}transfer-encoding: chunked\r\n\r\n")).await;
    for _ in 0..11 {
        client.send(format!("3e8\r\n{}\r\n", "x".repeat(1_000))).await;
    }
    client.reply().await.refused(413, "request_too_large");

    let exact = chat_request(json!({ "padding": "" }));
    let exact = chat_request(json!({ "padding": "x".repeat(10_000 - exact.len()) }));
    gateway.post(CHAT, &key, exact.clone()).await.expect(200);
    gateway.post(CHAT, &key, format!("{exact} ")).await.refused(413, "request_too_large");
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_chunked_body_is_as_good_as_any() {
    let (upstream, gateway, key) = house().await;
    let body = chat_request(json!({}));
    let mut client = gateway.raw().await;
    client
        .send(format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             transfer-encoding: chunked\r\n\r\n",
            key.key
        ))
        .await;
    for byte in body.as_bytes() {
        client.send([b"1\r\n", [*byte].as_slice(), b"\r\n"].concat()).await;
    }
    client.send("0\r\n\r\n").await;
    client.reply().await.expect(200);
    assert_eq!(upstream.only().text(), body.replace("openai/gpt-4o-mini", "gpt-4o-mini"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408_and_one_that_breaks_off_sends_nothing() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| {
        config.server.body_idle_timeout = Duration::from_millis(150);
    })
    .await;
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{\"model\"",
        key.key
    );
    let mut client = gateway.raw().await;
    client.send(&head).await;
    client.reply().await.refused(408, "request_timeout");
    drop(client);

    let mut client = gateway.raw().await;
    client.send(&head).await;
    drop(client);
    let running = || gateway.app.house.metrics.encode();
    eventually("both connections to end", || async {
        running().contains("connections{plane=\"data\"} 0").then_some(())
    })
    .await;
    assert_eq!(upstream.count(), 0);
    assert!(gateway.usage().await.is_empty());
}

#[tokio::test]
async fn a_stranger_is_refused_on_the_head_alone_and_not_told_to_continue() {
    let (_upstream, gateway, key) = house().await;
    let head = |key: &str| {
        format!(
            "POST {CHAT} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\nexpect: 100-continue\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            chat_request(json!({})).len()
        )
    };
    let mut client = gateway.raw().await;
    client.send(head("ks_nobody")).await;
    client.reply().await.refused(401, "invalid_api_key");

    let mut client = gateway.raw().await;
    client.send(head(&key.key)).await;
    assert_eq!(client.reply().await.status, 100);
    client.send(chat_request(json!({}))).await;
    client.reply().await.expect(200);
}

#[tokio::test]
async fn unknown_models_are_404_and_names_that_cannot_be_models_too() {
    let (upstream, gateway, key) = house().await;
    for model in ["nope", "openai-2/gpt-4o", "anthropic/opus", "a b", "*", "openai/*", "gpt-4o-mini ", "é"] {
        let reply = gateway.chat(&key, json!({ "model": model })).await.refused(404, "model_not_found");
        assert_eq!(reply.json()["error"]["param"], "model");
    }
    gateway.chat(&key, json!({ "model": "m".repeat(5_000) })).await.refused(404, "model_not_found");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_providers_own_refusal_keeps_status_and_message_and_loses_its_keys() {
    let upstream = Upstream::always(error(500, "unscripted")).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    for status in [400, 402, 404, 405, 413, 415, 418, 422, 451] {
        upstream.answer(Answer::json(
            status,
            &json!({ "error": { "message": "no: Bearer sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 is odd",
                "type": "their_type", "param": "their_param", "code": "their_code" } }),
        ));
        let reply = gateway.chat(&key, json!({})).await.refused(status, "their_code");
        let error = &reply.json()["error"];
        assert_eq!((&error["type"], &error["param"]), (&json!("their_type"), &json!("their_param")));
        assert_eq!(error["provider"], "openai");
        let message = error["message"].as_str().expect("a message");
        assert!(message.starts_with("no: ") && message.ends_with(" is odd"), "{message}");
        assert!(!message.contains("abcdefghij"), "{message}");
    }
    // The SDKs fall back on these members, so they are never missing.
    upstream.answer(Answer::whole(422, &[("content-type", "text/html")], "<html>no</html>"));
    let reply = gateway.chat(&key, json!({})).await.expect(422);
    assert!(!reply.text().contains("<html>"));
    reply.code();
    let rows = gateway.usage().await;
    assert!(rows.iter().all(|row| row["outcome"] == "rejected" && row["cost_micro_usd"] == 0), "{rows:?}");
}

#[tokio::test]
async fn a_provider_that_answers_nonsense_is_502() {
    let upstream = Upstream::always(error(500, "unscripted")).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({})).await;
    let json = [("content-type", "application/json")];
    let answers = [
        raw("ICY 200 OK\r\n\r\n"),
        raw("\x16\x03\x01\x02\x00"),
        raw(""),
        raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"choices\":["),
        raw(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}   ",
        ),
        raw(format!("HTTP/1.1 200 OK\r\n{}\r\n{{}}", "x-flood: 1\r\n".repeat(5_000))),
        Answer::whole(200, &json, ""),
        Answer::whole(200, &json, "{}"),
        Answer::whole(200, &json, "[1]"),
        Answer::whole(200, &json, "\u{feff}nope"),
        Answer::whole(200, &json, b"\xff\xff"),
        Answer::whole(200, &[("content-type", "text/html")], "<html>sign in</html>"),
        Answer::whole(
            200,
            &[("content-type", "application/json"), ("content-encoding", "gzip")],
            "\x1f\u{8b}",
        ),
        Answer::whole(301, &[("location", "http://169.254.169.254/")], ""),
        Answer::whole(304, &[], ""),
    ];
    for (nth, answer) in answers.into_iter().enumerate() {
        upstream.answer(answer);
        let reply = gateway.chat(&key, json!({})).await;
        assert_eq!((reply.status, reply.code().as_str()), (502, "upstream_error"), "answer {nth}");
        assert_eq!(reply.json()["error"]["provider"], "openai");
    }
    upstream.answer(chat_ok("hi", &usage(1, 1)));
    gateway.chat(&key, json!({})).await.expect(200);
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_502_and_costs_nothing() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    drop(upstream);
    eventually("the provider to be gone", || async {
        let reply = gateway.chat(&key, json!({})).await;
        (reply.status == 502).then(|| reply.refused(502, "upstream_error"))
    })
    .await;
    let row = gateway.usage().await.pop().expect("a row");
    assert_eq!((&row["outcome"], &row["cost_micro_usd"]), (&json!("upstream_error"), &json!(0)));
    assert_eq!(row["usage_source"], "none");
}

#[tokio::test]
async fn a_provider_that_says_nothing_is_504() {
    let upstream = Upstream::always(Answer::default().stall()).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| {
        config.upstream.first_byte_timeout = Duration::from_millis(100);
        config.upstream.stream_first_byte_timeout = Duration::from_millis(100);
    })
    .await;
    gateway.chat(&key, json!({})).await.refused(504, "upstream_timeout");
    gateway.chat(&key, json!({ "stream": true })).await.refused(504, "upstream_timeout");
    // A head and then nothing is no better.
    upstream.answer(Answer::stream().stall());
    gateway.chat(&key, json!({ "stream": true })).await.refused(504, "upstream_timeout");
    for seen in upstream.seen() {
        seen.disconnected().await;
    }
}

#[tokio::test]
async fn a_provider_that_may_not_be_called_any_more_is_503() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let stopped = gateway.stop(Duration::from_secs(5)).await;
    let gateway = stopped.again.with(|config| config.egress_allow.clear()).start().await;
    gateway.chat(&key, json!({})).await.refused(503, "no_provider_available");
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_broken_is_refused_by_the_connection() {
    let (_upstream, gateway, key) = house().await;
    let cases = [
        "GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n".to_owned(),
        "GARBAGE\r\n\r\n".to_owned(),
        format!("GET /v1/key HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(100_000)),
        format!("GET /v1/key HTTP/1.1\r\nhost: a\r\n{}\r\n", "x-many: 1\r\n".repeat(500)),
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
    ];
    for case in cases {
        let mut client = gateway.raw().await;
        client.send(case).await;
        let answer = client.closed_or_answered().await;
        assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&answer));
    }
    gateway.read("/v1/key", &key).await.expect(200);
}
