//! Connections on both sides: reused when they are clean, dropped when they are not, and never mixing two requests.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    Answer, Gateway, Upstream, chat_body, chat_ok, chat_stream, gateway::chat_request, raw, usage,
};

#[tokio::test]
async fn clean_connections_to_a_provider_are_used_again() {
    let upstream = Upstream::scripted(|seen, _| {
        if seen.json()["stream"] == true {
            chat_stream(&["a"], Some(&usage(1, 1)))
        } else {
            chat_ok("hi", &usage(1, 1))
        }
    })
    .await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    for nth in 0..10 {
        let reply = gateway.chat(&key, json!({ "stream": nth % 2 == 0 })).await;
        reply.expect(200);
    }
    assert_eq!(upstream.connections(), 1);
    assert!(upstream.seen().iter().all(|seen| seen.connection == 0));
}

#[tokio::test]
async fn a_provider_that_closes_after_each_answer_is_called_anew() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1)).close()).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    for _ in 0..5 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
}

/// FM-U36
#[tokio::test]
async fn bytes_behind_an_answer_do_not_become_the_next_one() {
    let good = chat_body("mine", &usage(1, 1)).to_string();
    let poison = chat_body("poison", &usage(1, 1)).to_string();
    let whole = |body: &str| {
        let length = body.len();
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let poisoned = Answer::default().send(whole(&good) + &whole(&poison));
    let upstream = Upstream::always(poisoned).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    for _ in 0..5 {
        let reply = gateway.chat(&key, json!({})).await.expect(200);
        assert_eq!(reply.text(), good);
    }
}

/// FM-U32
#[tokio::test]
async fn interim_answers_are_passed_over() {
    let body = chat_body("hi", &usage(1, 1)).to_string();
    let answer = format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upstream = Upstream::always(raw(answer)).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    assert_eq!(gateway.chat(&key, json!({})).await.expect(200).text(), body);
}

/// FM-C08
#[tokio::test]
async fn requests_sent_ahead_are_answered_in_order_and_each_once() {
    const AHEAD: usize = 20;
    let upstream = Upstream::scripted(|seen, _| {
        let text = seen.json()["user"].as_str().expect("a number").to_owned();
        chat_ok(&text, &usage(1, 1))
    })
    .await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    let mut client = gateway.raw().await;
    let mut all = String::new();
    for nth in 0..AHEAD {
        let body = chat_request(json!({ "user": nth.to_string() }));
        all.push_str(&format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            key.key,
            body.len()
        ));
    }
    client.send(all).await;
    for nth in 0..AHEAD {
        let reply = client.reply().await.expect(200);
        assert_eq!(reply.json()["choices"][0]["message"]["content"], nth.to_string());
    }
    assert_eq!(gateway.usage_of(AHEAD).await.len(), AHEAD);
    assert_eq!(upstream.count(), AHEAD);
}

/// FM-C07
#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| {
        config.server.header_timeout = Duration::from_millis(200);
        config.server.keep_alive_timeout = Duration::from_millis(300);
    })
    .await;
    let mut client = gateway.raw().await;
    client.send("GET /v1/key HTTP/1.1\r\nhost: a\r\nx-slow: ").await;
    let answer = client.closed().await;
    assert!(!answer.starts_with(b"HTTP/1.1 2"), "{:?}", String::from_utf8_lossy(&answer));
    gateway.read("/v1/key", &key).await.expect(200);
}
