//! Recorded answers of every provider, told in every client's words: what a strict client makes of them is what a plain
//! reading of the recording finds.

pub(super) mod clients;
mod plain;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::{
    clients::{Heard, heard, heard_stream},
    plain::Recorded,
};
use super::{
    Asked, Call, Talk, Translation, chat, gemini, messages,
    testing::{self, CHATS, Exchange, Told, asked, recorded, tell, tell_pieces},
};
use crate::{
    catalogue::{Capabilities, Quirks},
    domain::ModelName,
    wire::{Endpoint, ErrorObject},
};

/// Clients' words.
const CLIENTS: [Endpoint; 3] = [Endpoint::ChatCompletions, Endpoint::Messages, Endpoint::Responses];

/// Several answers, one behind the other: only the first counts.
const GLUED: &str = "cerebras/chat/ai--cererebras-structured-output-tools-1";

/// Whose words an answer was recorded in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Tongue {
    Anthropic,
    Gemini,
    Chat,
}

impl Tongue {
    pub(super) const ALL: [Self; 3] = [Self::Anthropic, Self::Gemini, Self::Chat];

    /// Recorded ones that came with a success status.
    pub(super) fn answers(self) -> Vec<Exchange> {
        let mut found = match self {
            Self::Anthropic => recorded(&[("anthropic", "messages")]),
            Self::Gemini => recorded(&[("gemini", "generateContent"), ("vertex", "generateContent")]),
            Self::Chat => recorded(&CHATS),
        };
        found.retain(|exchange| exchange.status < 400 && exchange.id != GLUED);
        found
    }

    fn read(self, exchange: &Exchange) -> Recorded {
        match self {
            Self::Anthropic => plain::anthropic(&exchange.body),
            Self::Gemini => plain::gemini(&exchange.body),
            Self::Chat => plain::chat(&exchange.body),
        }
    }

    /// To whom such answers are told in other words: OpenAI's own pass to a client who chats.
    fn clients(self) -> &'static [Endpoint] {
        match self {
            Self::Anthropic | Self::Gemini => &CLIENTS,
            Self::Chat => &CLIENTS[1..],
        }
    }

    fn talk(self, exchange: &Exchange, client: Endpoint) -> Box<dyn Translation> {
        let quirks = Quirks { reasoning_apart: exchange.id.starts_with("xai/"), ..Quirks::default() };
        self.talk_to(client, &quirks)
    }

    /// From this tongue to a client who asked for a stream.
    pub(super) fn talk_to(self, client: Endpoint, quirks: &Quirks) -> Box<dyn Translation> {
        let body = match client {
            Endpoint::Responses => json!({"model": "m", "input": "x", "stream": true}),
            Endpoint::Messages => {
                json!({"model": "m", "max_tokens": 9, "stream": true, "messages": [{"role": "user", "content": "x"}]})
            }
            _ => json!({"model": "m", "stream": true, "stream_options": {"include_usage": true},
                "messages": [{"role": "user", "content": "x"}]}),
        };
        with_call(&asked(client, &body), quirks, |call| match self {
            Self::Anthropic => Talk::between(messages::Decoder::default(), call),
            Self::Gemini => Talk::between(gemini::Decoder::default(), call),
            Self::Chat => Talk::between(chat::Decoder::default(), call),
        })
    }
}

fn with_call<T>(asked: &Asked, quirks: &Quirks, then: impl FnOnce(&Call<'_>) -> T) -> T {
    then(&Call {
        asked,
        quirks,
        capabilities: &Capabilities::default(),
        model: &ModelName::parse("up").expect("a name"),
        output_limit: None,
        model_limit: None,
        ask_usage: true,
        request_id: "req_1",
        created: 1_700_000_000,
    })
}

fn is_events(exchange: &Exchange) -> bool {
    exchange.body.lines().any(|line| line.starts_with("data:"))
}

/// What was told is what was recorded.
fn agree(place: &str, heard: &Heard, recorded: &Recorded) {
    assert_eq!(heard.text, recorded.text, "{place}: text");
    assert_eq!(heard.thoughts, recorded.thoughts, "{place}: thoughts");
    assert_eq!(heard.calls, recorded.calls, "{place}: calls");
    assert_eq!(heard.usage.0.unwrap_or(0), recorded.prompt.unwrap_or(0), "{place}: input");
    let output = recorded.completion.unwrap_or(0) + recorded.reasoning_apart;
    assert_eq!(heard.usage.1.unwrap_or(0), output, "{place}: output");
}

#[test]
fn every_recorded_stream_is_told_to_every_client_as_it_was_said() {
    for tongue in Tongue::ALL {
        let mut streams = 0;
        for exchange in tongue.answers().iter().filter(|exchange| is_events(exchange)) {
            let recorded = tongue.read(exchange);
            for &client in tongue.clients() {
                let place = format!("{} to {client:?}", exchange.id);
                let mut translation = tongue.talk(exchange, client);
                let told = tell(translation.as_mut(), exchange.body.as_bytes(), usize::MAX);
                assert_eq!(told.unreadable, 0, "{place}");
                assert_eq!(told.failed, recorded.failed, "{place}");
                if recorded.failed {
                    broken(&place, client, translation.as_mut(), &told);
                    continue;
                }
                assert_eq!(told.finished, recorded.finished, "{place}");
                let figures = (told.figures.prompt.count(), told.figures.completion.count());
                assert_eq!(figures, (recorded.prompt, recorded.completion), "{place}");
                assert!(told.text_bytes >= (recorded.text.len() + recorded.thoughts.len()) as u64, "{place}");
                if told.finished {
                    agree(&place, &heard_stream(client, &told.text), &recorded);
                }
            }
            streams += 1;
        }
        assert!(streams == 0 || streams >= 10, "only {streams} of {tongue:?}");
    }
}

/// A stream in which the provider gave up ends, in the client's words, with one error and no other end.
fn broken(place: &str, client: Endpoint, translation: &mut dyn Translation, told: &Told) {
    let error = ErrorObject::new("upstream_error", "upstream_failed", "it gave up");
    let end = translation.error(&error);
    let text = format!("{}{}", told.text, String::from_utf8_lossy(&end));
    let events = testing::events(text.as_bytes(), usize::MAX);
    let last = events.last().expect("an event");
    let data: Value = serde_json::from_str(&last.data).expect("an error is JSON");
    assert!(data["error"].is_object(), "{place}: {data}");
    assert!(client == Endpoint::ChatCompletions || last.name == "error", "{place}: {}", last.name);
    let ends = ["message_stop", "response.completed", "response.incomplete"];
    assert!(events.iter().all(|event| !ends.contains(&event.name.as_str()) && event.data != "[DONE]"));
    assert!(translation.error(&error).is_empty() || client != Endpoint::Messages, "{place}: one error");
}

#[test]
fn every_recorded_answer_is_told_to_every_client_as_it_was_said() {
    for tongue in Tongue::ALL {
        let mut answers = 0;
        for exchange in tongue.answers().iter().filter(|exchange| !is_events(exchange)) {
            let recorded = tongue.read(exchange);
            for &client in tongue.clients() {
                let place = format!("{} to {client:?}", exchange.id);
                let body = exchange.body.as_bytes();
                let (facts, said) = tongue
                    .talk(exchange, client)
                    .answer(body)
                    .unwrap_or_else(|error| panic!("{place}: {error}"));
                assert_eq!(facts.error.is_some(), recorded.failed, "{place}");
                if recorded.failed {
                    assert!(said.is_empty(), "{place}");
                    continue;
                }
                let figures = (facts.figures.prompt.count(), facts.figures.completion.count());
                assert_eq!(figures, (recorded.prompt, recorded.completion), "{place}");
                let whole: Value = serde_json::from_slice(&said).expect("an answer is JSON");
                let whole = heard(client, &whole);
                agree(&place, &whole, &recorded);
                let (again, stream) =
                    tongue.talk(exchange, client).answer_as_stream(body).expect("it was read before");
                assert_eq!(again, facts, "{place}");
                let stream = std::str::from_utf8(&stream).expect("UTF-8");
                assert_eq!(heard_stream(client, stream), whole, "{place}: as a stream");
            }
            answers += 1;
        }
        assert!(answers == 0 || answers >= 10, "only {answers} of {tongue:?}");
    }
}

#[test]
fn how_a_recorded_stream_is_cut_changes_no_byte_of_what_a_client_is_sent() {
    for tongue in Tongue::ALL {
        for exchange in tongue.answers().iter().filter(|exchange| is_events(exchange)) {
            let body = exchange.body.as_bytes();
            for &client in tongue.clients() {
                let whole = tell(tongue.talk(exchange, client).as_mut(), body, usize::MAX);
                // Single bytes of the longest take long and show nothing new.
                for size in [1, 2, 7, 1000].into_iter().filter(|size| *size > 2 || body.len() < 12_000) {
                    let told = tell(tongue.talk(exchange, client).as_mut(), body, size);
                    assert_eq!(told, whole, "{} to {client:?} in chunks of {size}", exchange.id);
                }
            }
        }
    }
}

#[test]
fn a_recorded_stream_cut_in_two_at_any_byte_is_told_the_same() {
    for tongue in Tongue::ALL {
        // The shortest that call a tool and that do not: every byte of them is tried.
        let mut shortest: BTreeMap<bool, Exchange> = BTreeMap::new();
        for exchange in tongue.answers().into_iter().filter(is_events) {
            let recorded = tongue.read(&exchange);
            if recorded.failed || !recorded.finished {
                continue;
            }
            let known = shortest.get(&recorded.calls.is_empty());
            if known.is_none_or(|known| known.body.len() > exchange.body.len()) {
                shortest.insert(recorded.calls.is_empty(), exchange);
            }
        }
        for exchange in shortest.values() {
            let body = exchange.body.as_bytes();
            let whole =
                |&client: &Endpoint| (client, tell(tongue.talk(exchange, client).as_mut(), body, usize::MAX));
            let wholes: Vec<(Endpoint, Told)> = tongue.clients().iter().map(whole).collect();
            // What is cut is put together before anybody is told: the clients take turns.
            for (at, (client, whole)) in (0..=body.len()).zip(wholes.iter().cycle()) {
                let (head, tail) = body.split_at(at);
                let told = tell_pieces(tongue.talk(exchange, *client).as_mut(), &[head, tail]);
                assert_eq!(told, *whole, "{} to {client:?} cut at {at}", exchange.id);
            }
        }
    }
}
