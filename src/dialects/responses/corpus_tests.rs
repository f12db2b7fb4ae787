//! Recorded responses, read the way the gateway reads them, judged by a plain JSON reading of the same bytes.

use bytes::Bytes;
use serde_json::Value;

use super::{read_answer, read_event, read_request};
use crate::{
    dialects::{
        Dialect, StreamProgress,
        openai::OpenAi,
        testing::{Exchange, events, recorded},
    },
    wire::{
        Endpoint, Envelope, Event, EventReader, Figures, Framer, UsageBounds, UsageRules,
        read_request as read_view,
    },
};

const PROVIDERS: [(&str, &str); 7] = [
    ("openai", "responses"),
    ("azure", "responses"),
    ("openrouter", "responses"),
    ("xai", "responses"),
    ("deepseek", "responses"),
    ("lmstudio", "responses"),
    ("bedrock-mantle", "responses"),
];

/// What came of reading a stream.
#[derive(Debug, Default, PartialEq)]
struct Read {
    figures: Figures,
    finished: bool,
    done: bool,
    failed: bool,
    unreadable: u64,
    meaningful: u64,
    text_bytes: u64,
    model: Option<String>,
    tier: Option<String>,
}

fn read(stream: &[u8], chunk: usize) -> Read {
    read_events(events(stream, chunk))
}

fn read_events(events: Vec<Event>) -> Read {
    let mut progress = StreamProgress::default();
    let mut read = Read::default();
    for event in events {
        let facts = read_event(&mut progress, &event);
        read.figures.merge_max(&facts.figures.unwrap_or_default());
        read.done |= facts.done;
        read.failed |= facts.error.is_some();
        read.unreadable += u64::from(facts.unreadable);
        read.meaningful += u64::from(facts.meaningful);
        read.text_bytes += facts.text_bytes;
        read.model = read.model.or(facts.model);
        read.tier = read.tier.or(facts.service_tier);
    }
    read.finished = progress.finished();
    read
}

fn agrees(id: &str, figures: &Figures, usage: &Value) {
    assert_eq!(figures.prompt.count(), usage["input_tokens"].as_u64(), "{id}");
    assert_eq!(figures.completion.count(), usage["output_tokens"].as_u64(), "{id}");
    assert_eq!(figures.total.count(), usage["total_tokens"].as_u64(), "{id}");
    let (input, output) = (&usage["input_tokens_details"], &usage["output_tokens_details"]);
    assert_eq!(figures.cache_read.count(), input["cached_tokens"].as_u64(), "{id}");
    assert_eq!(figures.cache_write.count(), input["cache_write_tokens"].as_u64(), "{id}");
    assert_eq!(figures.reasoning.count(), output["reasoning_tokens"].as_u64(), "{id}");
    let found = figures.normalise(&UsageRules::default(), &UsageBounds::default());
    assert!(!found.clamped, "{id}");
    let sum = found.usage.input_total() + found.usage.output_total();
    assert_eq!(Some(sum), figures.total.count().or(Some(0)), "{id}: classes sum to the total");
}

/// The data of a stream's events, by line and by tree.
fn data(stream: &str) -> Vec<Value> {
    let lines = stream.lines().filter_map(|line| line.strip_prefix("data:"));
    lines.filter_map(|data| serde_json::from_str(data).ok()).collect()
}

fn streams() -> Vec<Exchange> {
    recorded(&PROVIDERS).into_iter().filter(|exchange| exchange.stream).collect()
}

#[test]
fn recorded_streams_are_read_to_their_own_figures_and_ends() {
    let streams = streams();
    for Exchange { id, body, .. } in &streams {
        let whole = read(body.as_bytes(), usize::MAX);
        let end = data(body).into_iter().rfind(|data| data["response"].is_object()).expect("an end");
        let response = &end["response"];
        agrees(id, &whole.figures, &response["usage"]);
        let complete = matches!(end["type"].as_str(), Some("response.completed" | "response.incomplete"));
        assert_eq!((whole.finished, whole.failed), (complete, !complete), "{id}");
        assert!(whole.done == complete && whole.unreadable == 0, "{id}");
        assert!(whole.meaningful > 0 || whole.failed, "{id}");
        assert_eq!(whole.model.as_deref(), response["model"].as_str(), "{id}");
        if complete {
            assert_eq!(whole.tier.as_deref(), response["service_tier"].as_str(), "{id}");
            let facts = read_answer(response.to_string().as_bytes()).expect("a response");
            assert_eq!(whole.text_bytes, facts.text_bytes, "{id}: the pieces are the whole");
        }
        for chunk in [1, 2, 7, 1000] {
            assert_eq!(read(body.as_bytes(), chunk), whole, "{id} in chunks of {chunk}");
        }
    }
    assert!(streams.is_empty() || streams.len() == 32, "{} streams were read", streams.len());
}

#[test]
fn a_recorded_stream_is_the_same_wherever_it_is_cut_and_complete_only_with_its_end() {
    // The second is longer, and is cut at every so many bytes only.
    for (id, step) in [
        ("openai/responses/ai--openai-custom-tool-1", 1),
        ("openrouter/responses/llm-openrouter--test-tool-calls-2", 23),
    ] {
        let Some(Exchange { body, .. }) = streams().into_iter().find(|exchange| exchange.id == id) else {
            continue;
        };
        let whole = read(body.as_bytes(), usize::MAX);
        let end = body.rfind("\"type\":\"response.completed\"").expect("an end");
        let end = end + body[end..].find("\n\n").expect("it is whole") + 2;
        for cut in (0..body.len()).step_by(step) {
            let (head, tail) = body.as_bytes().split_at(cut);
            assert_eq!(cut_in_two(head, tail), whole, "{id} cut at {cut}");
        }
        for cut in (0..body.len()).filter(|cut| cut % 32 == 0 || cut.abs_diff(end) < 4) {
            let head = body.as_bytes().get(..cut).unwrap_or_default();
            assert_eq!(read(head, usize::MAX).finished, cut >= end, "{id} broken off at {cut}");
        }
    }
}

/// Reads a stream that came in two chunks.
fn cut_in_two(head: &[u8], tail: &[u8]) -> Read {
    let (mut framer, mut reader) = (Framer::new(1 << 20), EventReader::new());
    let mut events = Vec::new();
    for chunk in [head, tail] {
        framer.push(Bytes::copy_from_slice(chunk));
        while let Some(frame) = framer.next_frame().expect("within the bound") {
            events.extend(reader.read(&frame));
        }
    }
    read_events(events)
}

#[test]
fn recorded_answers_and_errors_are_read() {
    let (mut answers, mut errors) = (0, 0);
    for Exchange { id, status, body, .. } in recorded(&PROVIDERS).iter().filter(|exchange| !exchange.stream) {
        let value: Value = serde_json::from_str(body).expect("JSON");
        if *status >= 400 {
            errors += 1;
            let error = OpenAi.read_error(*status, body.as_bytes());
            let said = [&value["error"]["message"], &value["error"]].into_iter().find_map(Value::as_str);
            let code = [&value["error"]["code"], &value["code"]].into_iter().find_map(Value::as_str);
            assert!(said.is_some() && !error.message.contains("no readable message"), "{id}");
            assert_eq!(error.code.as_deref(), code, "{id}");
            continue;
        }
        answers += 1;
        let facts = read_answer(body.as_bytes()).unwrap_or_else(|unreadable| panic!("{id}: {unreadable}"));
        assert!(facts.error.is_none(), "{id}");
        if value["usage"].is_object() {
            agrees(id, &facts.figures, &value["usage"]);
        }
        assert_eq!(facts.model.as_deref(), value["model"].as_str(), "{id}");
        assert_eq!(facts.service_tier.as_deref(), value["service_tier"].as_str(), "{id}");
        assert!(facts.text_bytes > 0 || value["output"] == serde_json::json!([]), "{id}");
    }
    assert!(
        (answers, errors) == (0, 0) || (answers, errors) == (20, 10),
        "{answers} answers, {errors} errors"
    );
}

/// Requests whose words no other provider has, and the member that says so.
const REFUSED: [(&str, &str); 14] = [
    ("fantasy--testopenaiwebsearch-stream", "tools[0].type"),
    ("pydantic-ai--test-background-mode-reasoning-vcr", "background"),
    ("pydantic-ai--test-openai-include-raw-annotations-streaming-1", "tools[0].type"),
    ("pydantic-ai--test-openai-instructions-with-responses-logprobs-streaming", "include[0]"),
    ("pydantic-ai--test-openai-native-tool-search-streaming", "tools[0].type"),
    ("pydantic-ai--test-openai-responses-code-execution-return-image-stream", "tools[0].type"),
    ("pydantic-ai--test-openai-responses-compact-stateful-mode-2", "context_management"),
    ("pydantic-ai--test-openai-responses-model-file-search-tool-stream-3", "tools[0].type"),
    ("pydantic-ai--test-openai-responses-model-mcp-server-tool-stream", "tools[0].type"),
    ("pydantic-ai--test-openai-responses-model-web-search-tool-stream", "tools[0].type"),
    ("pydantic-ai--test-openai-responses-model-web-search-tool-without-external-access", "tools[0].type"),
    ("pydantic-ai--test-openai-responses-reasoning-generate-summary", "truncation"),
    ("pydantic-ai--test-openai-responses-thinking-with-code-execution-tool-stream", "tools[0].type"),
    ("rig--nonexistent-previous-response-reference-carries-identity", "previous_response_id"),
];
/// One of OpenRouter's own members.
const ROUTED: &str = "openrouter/responses/pydantic-ai--test-openrouter-responses-prompt-cache-e2e";

#[test]
fn recorded_requests_are_viewed_and_read_or_refused_for_a_reason() {
    let mut refused = 0;
    let requests = recorded(&PROVIDERS).into_iter().filter(|exchange| exchange.request.is_object());
    for Exchange { id, request, .. } in requests {
        let envelope = Envelope::parse(Bytes::from(request.to_string()), 64).expect("an envelope");
        let view = read_view(Endpoint::Responses, &envelope).unwrap_or_else(|error| panic!("{id}: {error}"));
        assert_eq!(view.model.as_deref(), request["model"].as_str(), "{id}");
        assert_eq!(view.stream, request["stream"].as_bool().unwrap_or(false), "{id}");
        assert_eq!(view.output_limit, request["max_output_tokens"].as_u64(), "{id}");
        let items = request["input"].as_array().map_or(1, Vec::len)
            + usize::from(request["instructions"].is_string());
        assert_eq!(view.messages, items as u64, "{id}");
        let tools = request["tools"].as_array().cloned().unwrap_or_default();
        let own = tools.iter().all(|tool| tool["type"] == "function");
        if !own {
            assert_eq!(view.unpriceable, Some("tools"), "{id}");
        }
        let scenario = id.rsplit('/').next().unwrap_or_default();
        let reason = match REFUSED.iter().find(|(name, _)| *name == scenario) {
            Some((_, field)) => Some(*field),
            None => id.starts_with(ROUTED).then_some("provider"),
        };
        let read = read_request(&envelope, &view);
        refused += usize::from(read.is_err());
        match (read, reason) {
            (Err(error), Some(reason)) => assert_eq!(error.field(), Some(reason), "{id}: {error}"),
            (Err(error), None) => panic!("{id}: {error}"),
            (Ok(_), Some(reason)) => panic!("{id} was to be refused for {reason}"),
            (Ok(conversation), None) => {
                assert_eq!(conversation.tools.len(), tools.len(), "{id}");
                assert_eq!(conversation.output_limit, view.output_limit, "{id}");
                assert!(conversation.turns.iter().all(|turn| !turn.blocks.is_empty()), "{id}");
            }
        }
    }
    assert!(refused == 0 || refused == REFUSED.len() + 2, "{refused} were refused");
}
