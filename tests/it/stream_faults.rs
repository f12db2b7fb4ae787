//! What a client sees of a stream that goes wrong, and that cutting the bytes anywhere changes nothing.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{
    Answer, Gate, Gateway, Upstream, VirtualKey, chat_events, chat_stream, client::last_error, done, event,
    usage, usage_chunk,
};

async fn streaming(answer: Answer) -> (Upstream, Gateway, VirtualKey) {
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple(&upstream).await;
    (upstream, gateway, key)
}

/// Role and two tokens: begun, not finished.
fn begun() -> Vec<String> {
    let mut events = chat_events(&["one", "two"]);
    events.pop();
    events
}

#[tokio::test]
async fn a_stream_that_dies_ends_with_one_error_event_and_no_done() {
    let half = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"half\u{e9}";
    let deaths = [
        ("closed", Answer::stream().send_all(begun()).close()),
        ("reset", Answer::stream().send_all(begun()).reset()),
        ("ended without a finish reason", Answer::stream().send_all(begun()).end()),
        ("half an event", Answer::stream().send_all(begun()).send(half).end()),
        (
            "half a character",
            Answer::stream().send_all(begun()).send(&half.as_bytes()[..half.len() - 1]).close(),
        ),
        (
            "an event that is too large",
            Answer::stream().send_all(begun()).send(format!("data: {}", "x".repeat(1_100_000))).stall(),
        ),
    ];
    for (what, answer) in deaths {
        let (upstream, gateway, key) = streaming(answer).await;
        let stream = gateway.stream(&key, json!({})).await;
        assert_eq!(stream.status, 200);
        let text = stream.text().await;
        let tail = text.strip_prefix(&begun().concat()).unwrap_or_else(|| panic!("{what}: {text}"));
        let error = last_error(&text).unwrap_or_else(|| panic!("{what}: {text}"));
        assert_eq!(error["code"], "upstream_error", "{what}");
        assert_eq!(tail.matches("data:").count(), 1, "{what}: {tail}");
        assert!(!text.contains("[DONE]"), "{what}");
        let row = gateway.only_usage().await;
        assert_eq!((&row["outcome"], &row["status"]), (&json!("upstream_error"), &json!(200)), "{what}");
        assert_eq!((&row["usage_source"], &row["output_tokens"]), (&json!("estimated"), &json!(2)), "{what}");
        assert_eq!(upstream.count(), 1, "{what}: never replayed");
        gateway.nothing_reserved().await;
    }
}

#[tokio::test]
async fn p24_a_stream_that_goes_silent_or_takes_too_long_ends_with_a_timeout() {
    for (idle, total) in [(200, 60_000), (60_000, 500)] {
        for end in [Answer::stream().send_all(begun()), Answer::stream().send_all(chat_events(&["one"]))] {
            let upstream = Upstream::always(end.stall()).await;
            let (gateway, key) = Gateway::simple_with(&upstream, |config| {
                config.upstream.idle_timeout = Duration::from_millis(idle);
                config.upstream.total_timeout = Duration::from_millis(total);
            })
            .await;
            let text = gateway.stream(&key, json!({})).await.text().await;
            assert_eq!(last_error(&text).expect("an error")["code"], "upstream_timeout");
            assert!(!text.contains("[DONE]"));
            upstream.only().disconnected().await;
            assert_eq!(gateway.only_usage().await["outcome"], "cut_deadline");
        }
    }
}

#[tokio::test]
async fn p24_comments_keep_a_stream_alive_but_not_for_ever() {
    let idle = Duration::from_millis(300);
    for beginning in [Vec::new(), begun()] {
        let gate = Gate::new();
        let comments = ": still here\n\n".to_owned();
        let answer = Answer::stream().send_all(&beginning);
        let answer = (0..1_000).fold(answer, |answer, _| answer.send(&comments).wait(&gate));
        let upstream = Upstream::always(answer).await;
        let (gateway, key) = Gateway::simple_with(&upstream, |config| {
            config.upstream.stream_first_byte_timeout = idle;
            config.upstream.idle_timeout = idle;
        })
        .await;
        // One comment well within each idle timeout.
        let release = async {
            loop {
                gate.let_one();
                tokio::time::sleep(idle / 10).await;
            }
        };
        let began = Instant::now();
        let reply = tokio::select! {
            reply = gateway.chat(&key, json!({ "stream": true })) => reply,
            () = release => unreachable!("it never ends"),
        };
        assert!(began.elapsed() > idle * 2, "{:?}", began.elapsed());
        if beginning.is_empty() {
            reply.refused(504, "upstream_timeout");
        } else {
            let text = reply.expect(200).text().to_owned();
            assert!(text.starts_with(&(beginning.concat() + &comments)), "{text}");
            assert_eq!(last_error(&text).expect("an error")["code"], "upstream_timeout");
        }
        upstream.only().disconnected().await;
    }
}

#[tokio::test]
async fn only_a_missing_done_is_no_fault() {
    for end in [
        Answer::stream().send_all(chat_events(&["a"])).end(),
        Answer::stream().send_all(chat_events(&["a"])).close(),
    ] {
        let clean = end.clone();
        let (_upstream, gateway, key) = streaming(clean).await;
        let text = gateway.stream(&key, json!({})).await.text().await;
        assert!(text.starts_with(&chat_events(&["a"]).concat()), "{text}");
        assert!(!text.contains("[DONE]"), "it is not invented");
    }
    let (_upstream, gateway, key) = streaming(Answer::stream().send_all(chat_events(&["a"])).end()).await;
    assert_eq!(gateway.stream(&key, json!({})).await.text().await, chat_events(&["a"]).concat());
    assert_eq!(gateway.only_usage().await["outcome"], "ok");
}

#[tokio::test]
async fn done_is_the_dialects_own_end_also_without_a_finish_reason() {
    let (_upstream, gateway, key) = streaming(Answer::stream().send_all(begun()).send(done()).end()).await;
    assert_eq!(gateway.stream(&key, json!({})).await.text().await, begun().concat() + &done());
    assert_eq!(gateway.only_usage().await["outcome"], "ok");
}

#[tokio::test]
async fn what_comes_after_done_is_dropped_and_the_connection_goes() {
    let whole = chat_events(&["a"]).concat() + &done();
    let answer = Answer::stream().send(&whole).send(event(&json!({ "late": true }))).send(done()).end();
    let (upstream, gateway, key) = streaming(answer).await;
    for _ in 0..2 {
        assert_eq!(gateway.stream(&key, json!({})).await.text().await, whole);
    }
    assert_eq!(upstream.count(), 2);
    // A provider that leaves its body open after the end does not keep the client waiting.
    upstream.answer(Answer::stream().send(&whole).stall());
    let began = Instant::now();
    assert_eq!(gateway.stream(&key, json!({})).await.text().await, whole);
    assert!(began.elapsed() < Duration::from_secs(5));
    upstream.last().disconnected().await;
}

#[tokio::test]
async fn p20_any_cut_of_the_bytes_gives_the_same_bytes_and_the_same_usage() {
    let ends = ["\n", "\r\n", "\r"];
    for end in ends {
        let stream = [
            ": comment\n\n".to_owned(),
            chat_events(&["h\u{e9}", "\u{1f600}"]).concat(),
            usage_chunk(&usage(11, 3)),
            done(),
        ]
        .concat()
        .replace('\n', end);
        let upstream = Upstream::always(Answer::stream()).await;
        let (gateway, key) = Gateway::simple(&upstream).await;
        let asked = json!({ "stream_options": { "include_usage": true } });
        let bytes = stream.as_bytes();
        for at in 1..bytes.len() {
            upstream.answer(Answer::stream().send(&bytes[..at]).send(&bytes[at..]).end());
            let got = gateway.stream(&key, asked.clone()).await.rest().await;
            assert_eq!(got, bytes, "cut at {at} with {end:?}");
        }
        upstream.answer(Answer::stream().send_all(bytes.chunks(1)).end());
        assert_eq!(gateway.stream(&key, asked.clone()).await.rest().await, bytes, "byte by byte");
        // The same with the usage taken out.
        let hidden = stream.replace(&usage_chunk(&usage(11, 3)).replace('\n', end), "");
        for size in [1, 2, 3, 7, 64] {
            upstream.answer(Answer::stream().send_all(bytes.chunks(size)).end());
            assert_eq!(gateway.stream(&key, json!({})).await.text().await, hidden, "pieces of {size}");
        }
        for row in gateway.usage().await {
            assert_eq!(
                (&row["input_tokens"], &row["output_tokens"], &row["usage_source"], &row["outcome"]),
                (&json!(11), &json!(3), &json!("provider"), &json!("ok"))
            );
        }
    }
}

#[tokio::test]
async fn an_event_reaches_the_client_while_the_next_is_still_to_come() {
    let (first, second) = (Gate::new(), Gate::new());
    let events = chat_events(&["one", "two"]);
    let answer = Answer::stream()
        .send(&events[0])
        .send(&events[1])
        .wait(&first)
        .send(&events[2])
        .wait(&second)
        .send(&events[3])
        .send(done())
        .end();
    let (_upstream, gateway, key) = streaming(answer).await;
    let mut stream = gateway.stream(&key, json!({})).await;
    assert_eq!(stream.frame().await.as_ref(), Some(&events[0]));
    assert_eq!(stream.frame().await.as_ref(), Some(&events[1]));
    first.open();
    assert_eq!(stream.frame().await.as_ref(), Some(&events[2]));
    second.open();
    assert_eq!(stream.text().await, events[3].clone() + &done());
}

#[tokio::test]
async fn usage_is_read_wherever_it_comes_and_never_summed() {
    let with_usage = |usage: serde_json::Value| {
        event(
            &json!({ "choices": [{ "index": 0, "delta": { "content": "x" }, "finish_reason": null }], "usage": usage }),
        )
    };
    let cases = [
        ("after the finish", vec![usage_chunk(&usage(5, 4))]),
        ("twice", vec![usage_chunk(&usage(5, 4)), usage_chunk(&usage(5, 4))]),
        ("cumulative", vec![with_usage(usage(5, 1)), with_usage(usage(5, 3)), with_usage(usage(5, 4))]),
        ("falling", vec![with_usage(usage(5, 4)), with_usage(usage(5, 2))]),
        (
            "in parts",
            vec![with_usage(json!({ "prompt_tokens": 5 })), with_usage(json!({ "completion_tokens": 4 }))],
        ),
        ("beside null", vec![with_usage(json!(null)), usage_chunk(&usage(5, 4))]),
    ];
    for (what, chunks) in cases {
        let answer = Answer::stream().send_all(chat_events(&["a"])).send_all(&chunks).send(done()).end();
        let (_upstream, gateway, key) = streaming(answer).await;
        gateway.stream(&key, json!({})).await.text().await;
        let row = gateway.only_usage().await;
        assert_eq!((&row["input_tokens"], &row["output_tokens"]), (&json!(5), &json!(4)), "{what}");
        assert_eq!(row["usage_source"], "provider", "{what}");
    }
}

#[tokio::test]
async fn a_stream_without_usage_is_estimated_from_its_text() {
    let (_upstream, gateway, key) = streaming(chat_stream(&["12345678", "9"], None)).await;
    gateway.stream(&key, json!({})).await.text().await;
    let row = gateway.only_usage().await;
    assert_eq!((&row["usage_source"], &row["outcome"]), (&json!("estimated"), &json!("ok")));
    assert_eq!(row["output_tokens"], 3, "nine bytes");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_passes_and_the_stream_goes_on() {
    let odd = "data: {not json\n\n".to_owned()
        + "data: [1,2]\n\n"
        + "event: ping\ndata: {}\n\n"
        + "id: 5\nretry: 10\n\n";
    let answer =
        Answer::stream().send_all(begun()).send(&odd).send_all(chat_events(&["z"])).send(done()).end();
    let (_upstream, gateway, key) = streaming(answer).await;
    let text = gateway.stream(&key, json!({})).await.text().await;
    assert_eq!(text, begun().concat() + &odd + &chat_events(&["z"]).concat() + &done());
    assert_eq!(gateway.only_usage().await["outcome"], "ok");
}

#[tokio::test]
async fn bytes_that_are_no_text_pass_as_they_are() {
    let odd = [
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"".as_slice(),
        b"\xff\xfe",
        b"\"}}]}\n\n",
    ]
    .concat();
    let answer = Answer::stream().send_all(begun()).send(&odd).send_all(chat_events(&[])).send(done()).end();
    let (_upstream, gateway, key) = streaming(answer).await;
    let got = gateway.stream(&key, json!({})).await.rest().await;
    let expected =
        [begun().concat().as_bytes(), &odd, chat_events(&[]).concat().as_bytes(), done().as_bytes()].concat();
    assert_eq!(got, expected);
}

#[tokio::test]
async fn a_large_event_passes_whole() {
    let text = "x".repeat(900_000);
    let (_upstream, gateway, key) = streaming(chat_stream(&[&text], None)).await;
    let got = gateway.stream(&key, json!({})).await.text().await;
    assert!(got == chat_events(&[&text]).concat() + &done(), "{} bytes", got.len());
}

#[tokio::test]
async fn an_error_event_in_the_middle_is_cleaned_and_ends_without_done() {
    let secret = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789";
    let error = event(
        &json!({ "error": { "message": format!("bad key {secret}"), "type": "server_error", "code": "oops" } }),
    );
    for end in [
        Answer::stream().send_all(begun()).send(&error).end(),
        Answer::stream().send_all(begun()).send(&error).send(done()).end(),
    ] {
        let (_upstream, gateway, key) = streaming(end).await;
        let text = gateway.stream(&key, json!({})).await.text().await;
        assert!(text.starts_with(&begun().concat()) && !text.contains(secret), "{text}");
        let said = last_error(text.trim_end_matches(&done())).expect("an error");
        assert_eq!(said["code"], "oops");
        assert_eq!(text.matches("\"error\"").count(), 1, "one error event: {text}");
        assert_eq!(gateway.only_usage().await["outcome"], "upstream_error");
    }
}

#[tokio::test]
async fn silence_in_a_committed_stream_is_filled_with_comments() {
    let gate = Gate::new();
    let events = chat_events(&["one"]);
    let answer =
        Answer::stream().send(&events[0]).send(&events[1]).wait(&gate).send(&events[2]).send(done()).end();
    let upstream = Upstream::always(answer).await;
    let (gateway, key) = Gateway::simple_with(&upstream, |config| {
        config.upstream.heartbeat_after = Duration::from_millis(50);
    })
    .await;
    let mut stream = gateway.stream(&key, json!({})).await;
    assert_eq!(stream.frame().await.as_ref(), Some(&events[0]));
    assert_eq!(stream.frame().await.as_ref(), Some(&events[1]));
    for _ in 0..3 {
        let comment = stream.line().await;
        assert!(comment.starts_with(": ") && comment.len() > 3, "{comment}");
    }
    gate.open();
    let rest = stream.text().await;
    let comments = rest.strip_suffix(&(events[2].clone() + &done())).expect("the rest of the stream");
    assert!(comments.lines().all(|line| line.starts_with(": ")), "no blank line of ours: {rest}");
}

/// What OpenAI's Python SDK makes of a stream: it never forgets an `id`, and takes every blank line that comes after
/// one for an event.
fn as_python_reads(text: &str) -> Vec<String> {
    let (mut events, mut data, mut seen_id) = (Vec::new(), Vec::new(), false);
    for line in text.replace("\r\n", "\n").replace('\r', "\n").split('\n') {
        match line.split_once(':') {
            None if line.is_empty() && (seen_id || !data.is_empty()) => events.push(data.drain(..).collect()),
            Some(("data", value)) => data.push(value.trim_start().to_owned()),
            Some(("id", _)) => seen_id = true,
            _ => {}
        }
    }
    events
}

#[tokio::test]
async fn comments_between_events_with_ids_are_no_events_whatever_ends_their_lines() {
    for (end, split) in [("\n", 0), ("\r\n", 0), ("\r", 0), ("\r\n", 1)] {
        let gate = Gate::new();
        let events: Vec<String> = chat_events(&["one"])
            .iter()
            .enumerate()
            // Among LF lines, one blank line of CR LF whose halves come apart.
            .map(|(at, event)| match split {
                0 => format!("id: {at}\n{event}").replace('\n', end),
                _ => format!("id: {at}\n{}{end}", event.trim_end_matches('\n').to_owned() + "\n"),
            })
            .collect();
        let begun = events[0].clone() + &events[1];
        let (head, tail) = begun.split_at(begun.len() - split);
        let rest = tail.to_owned() + &events[2] + &format!("data: [DONE]{end}{end}");
        let answer = Answer::stream().send(head).wait(&gate).send(&rest).end();
        let upstream = Upstream::always(answer).await;
        let (gateway, key) = Gateway::simple_with(&upstream, |config| {
            config.upstream.heartbeat_after = Duration::from_millis(50);
        })
        .await;
        let mut stream = gateway.stream(&key, json!({})).await;
        let mut text = String::new();
        while text.matches(": keystile").count() < 2 {
            text += &stream.piece().await;
        }
        gate.open();
        text += &stream.text().await;
        let alone = format!("{begun}{}data: [DONE]{end}{end}", events[2]);
        assert_eq!(as_python_reads(&text), as_python_reads(&alone), "{end:?}: {text:?}");
        let comment = ": keystile is waiting for the provider";
        let without = text.replace(&format!("{comment}\r"), "").replace(&format!("{comment}\n"), "");
        assert_eq!(without, alone, "the provider's own bytes");
    }
}

#[tokio::test]
async fn a_stream_that_is_not_called_one_is_read_all_the_same() {
    let body = chat_events(&["a"]).concat() + &done();
    for headers in
        [&[][..], &[("content-type", "text/plain")], &[("content-type", "TEXT/EVENT-STREAM; charset=UTF-8")]]
    {
        let (_upstream, gateway, key) = streaming(Answer::whole(200, headers, &body)).await;
        let stream = gateway.stream(&key, json!({})).await;
        assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
        assert_eq!(stream.text().await, body);
    }
}

#[tokio::test]
async fn several_choices_are_all_waited_for() {
    let choice = |index: u32, finish: serde_json::Value| {
        event(
            &json!({ "choices": [{ "index": index, "delta": { "content": "x" }, "finish_reason": finish }] }),
        )
    };
    let both = [choice(0, json!(null)), choice(1, json!(null)), choice(0, json!("stop"))];
    let (_upstream, gateway, key) = streaming(Answer::stream().send_all(&both).end()).await;
    let text = gateway.stream(&key, json!({ "n": 2 })).await.text().await;
    assert_eq!(last_error(&text).expect("an error")["code"], "upstream_error", "one is not finished");
}
