//! Recorded traffic of real providers, replayed through the gateway: the client gets the recording byte for byte, and
//! what is metered is what the recording says. Where the gateway edits, the edit is declared here.

use std::{collections::BTreeMap, path::PathBuf};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, Setup, Stream, Upstream, VirtualKey};

/// Recordings that are not replayed, and why.
const SKIPPED: &[(&str, &str)] = &[
    (
        "bedrock/count_tokens/pydantic-ai--test-anthropic-bedrock-count-tokens-rejects-server-tools",
        "Bedrock's own shape, not Anthropic's",
    ),
    ("ollama/embeddings/openllmetry--test-ollama-embeddings-legacy", "Ollama's own shape, not OpenAI's"),
    ("openai/chat/ai-gateway--chat-no-messages", "the gateway itself refuses a request without messages"),
    (
        "openai/responses/pydantic-ai--test-background-mode-reasoning-vcr",
        "the gateway refuses `background`: it would not see the end",
    ),
    (
        "openai/completions/ai-gateway--completion-bad-request",
        "the gateway itself refuses a negative `max_tokens`",
    ),
];

/// Streams that fail before they say anything: the gateway answers with the status that the error stands for.
const FAILS_AT_ONCE: &[(&str, u16)] = &[("openai/responses/ai--openai-error-1", 429)];

struct Exchange {
    id: String,
    provider: String,
    path: &'static str,
    model: String,
    stream: bool,
    request: Value,
    status: u16,
    content_type: Option<String>,
    body: String,
}

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus"))
}

/// What the index says is in this dialect.
fn eligible(index: &Value) -> Vec<&Value> {
    let exchanges = index["exchanges"].as_array().expect("exchanges");
    exchanges.iter().filter(|entry| path_of(entry["api"].as_str().expect("an api")).is_some()).collect()
}

fn path_of(api: &str) -> Option<&'static str> {
    match api {
        "chat" => Some("/v1/chat/completions"),
        "completions" => Some("/v1/completions"),
        "embeddings" => Some("/v1/embeddings"),
        "messages" => Some("/v1/messages"),
        "count_tokens" => Some("/v1/messages/count_tokens"),
        "responses" => Some("/v1/responses"),
        _ => None,
    }
}

/// The slug under which the recording's provider is known here: one that speaks these words.
fn slug_of(provider: &str, path: &str) -> String {
    match (provider, path) {
        // Google's own endpoint in OpenAI's words is not the dialect of `gemini`.
        ("gemini", _) => "gemini-compatible".into(),
        ("azure" | "bedrock-mantle" | "lmstudio", "/v1/responses") => "openai".into(),
        _ => provider.into(),
    }
}

fn read(entry: &Value) -> Exchange {
    let file = root().join(entry["file"].as_str().expect("a file"));
    let recorded: Value = serde_json::from_slice(&std::fs::read(file).expect("a recording")).expect("JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (request, response) = (&recorded["request"]["body"], &recorded["response"]);
    let path = path_of(entry["api"].as_str().expect("an api")).expect("ours");
    let stream = entry["stream"].as_bool().expect("a flag");
    let model = text(&request["model"]).or_else(|| text(&entry["model"])).filter(|model| !model.is_empty());
    Exchange {
        id: text(&entry["id"]).expect("an id"),
        provider: slug_of(entry["provider"].as_str().expect("a provider"), path),
        path,
        model: model.unwrap_or_else(|| "unnamed".into()),
        stream,
        request: request.clone(),
        status: u16::try_from(response["status"].as_u64().expect("a status")).expect("a status"),
        content_type: text(&response["headers"]["content-type"]),
        body: text(&response["body"]).expect("a text"),
    }
}

impl Exchange {
    /// The request as a client of the gateway sends it: the model with its provider's name before it. Where no request
    /// was recorded, a plain one stands in.
    fn asked(&self) -> Value {
        let mut asked = match &self.request {
            Value::Object(_) => self.request.clone(),
            _ if self.path == "/v1/responses" => json!({ "input": "hello" }),
            _ if self.path == "/v1/messages" => {
                json!({ "messages": [{ "role": "user", "content": "hello" }], "max_tokens": 60_000 })
            }
            _ => json!({ "messages": [{ "role": "user", "content": "hello" }] }),
        };
        asked["model"] = json!(format!("{}/{}", self.provider, self.model));
        // OpenRouter's own list of fallbacks is the gateway's word for its own, which names providers.
        asked.as_object_mut().expect("an object").remove("models");
        if self.stream {
            asked["stream"] = json!(true);
        }
        asked
    }

    fn answer(&self, piece: usize) -> Answer {
        let type_header = self.content_type.as_deref().map(|value| ("content-type", value));
        let headers: Vec<(&str, &str)> = type_header.into_iter().collect();
        Answer::chunked(self.status, &headers).send_all(self.body.as_bytes().chunks(piece)).end()
    }
}

/// What a recording reports, by a plain reading of the whole of it.
#[derive(Debug, Default, PartialEq)]
struct Reported {
    prompt: Option<u64>,
    completion: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
}

impl Reported {
    fn of(exchange: &Exchange) -> Self {
        let mut reported = Self::default();
        if exchange.stream {
            for line in exchange.body.lines() {
                let Some(data) = line.strip_prefix("data:") else { continue };
                let Ok(chunk) = serde_json::from_str::<Value>(data) else { continue };
                for usage in [&chunk, &chunk["x_groq"], &chunk["message"], &chunk["response"]] {
                    reported.add(exchange.path, &usage["usage"]);
                }
            }
        } else if let Ok(answer) = serde_json::from_str::<Value>(&exchange.body) {
            reported.add(exchange.path, &answer["usage"]);
        }
        reported
    }

    fn add(&mut self, path: &str, usage: &Value) {
        let of = |member: &str| usage[member].as_u64();
        match path {
            "/v1/messages" => {
                let cached = of("cache_read_input_tokens");
                let parts = [of("input_tokens"), of("cache_creation_input_tokens"), cached];
                let input = of("input_tokens").map(|_| parts.into_iter().flatten().sum());
                // Several runs for one answer are told apart here, and all of them are charged.
                let runs = |members: &[&str]| {
                    let runs = usage["iterations"].as_array().filter(|runs| !runs.is_empty())?;
                    let tokens =
                        runs.iter().flat_map(|run| members.iter().filter_map(|name| run[*name].as_u64()));
                    Some(tokens.sum::<u64>())
                };
                let inputs = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
                self.prompt = self.prompt.max(input).max(runs(&inputs));
                self.completion = self.completion.max(of("output_tokens")).max(runs(&["output_tokens"]));
                self.cached = self.cached.max(cached);
                let thought = usage["output_tokens_details"]["thinking_tokens"].as_u64();
                self.reasoning = self.reasoning.max(thought);
                return;
            }
            "/v1/responses" => {
                self.prompt = self.prompt.max(of("input_tokens"));
                self.completion = self.completion.max(of("output_tokens"));
                self.total = self.total.max(of("total_tokens"));
                self.cached = self.cached.max(usage["input_tokens_details"]["cached_tokens"].as_u64());
                let thought = usage["output_tokens_details"]["reasoning_tokens"].as_u64();
                self.reasoning = self.reasoning.max(thought);
                return;
            }
            _ => {}
        }
        let cached = ["prompt_cache_hit_tokens", "cached_tokens", "num_cached_tokens"]
            .iter()
            .find_map(|name| usage[*name].as_u64())
            .or(usage["prompt_tokens_details"]["cached_tokens"].as_u64());
        self.prompt = self.prompt.max(usage["prompt_tokens"].as_u64());
        self.completion = self.completion.max(usage["completion_tokens"].as_u64());
        self.total = self.total.max(usage["total_tokens"].as_u64());
        self.cached = self.cached.max(cached);
        self.reasoning = self.reasoning.max(usage["completion_tokens_details"]["reasoning_tokens"].as_u64());
    }

    /// Input and output as they are charged.
    fn charged(&self, exchange: &Exchange) -> Option<(u64, u64)> {
        let prompt = self.prompt.or(self.total.filter(|_| exchange.path == "/v1/embeddings"))?;
        let completion = self.completion.unwrap_or(0);
        let reasoning = self.reasoning.unwrap_or(0);
        // xAI leaves reasoning out of its completion, and its total says so.
        let apart = exchange.provider == "xai" && self.total == Some(prompt + completion + reasoning);
        Some((prompt, completion + if apart { reasoning } else { 0 }))
    }
}

struct House {
    upstream: Upstream,
    gateway: Gateway,
    key: VirtualKey,
}

impl House {
    async fn post(&self, exchange: &Exchange, asked: &Value) -> Stream {
        let request = self
            .gateway
            .request(Method::POST, exchange.path, &self.key)
            .header("content-type", "application/json")
            .body(asked.to_string());
        self.gateway.open(request).await
    }
}

#[tokio::test]
async fn p20_recorded_traffic_passes_byte_for_byte_and_is_metered_as_it_says() {
    let Ok(index) = std::fs::read(root().join("index.json")) else {
        println!("skipped: corpus absent at {}", root().display());
        return;
    };
    let index: Value = serde_json::from_slice(&index).expect("an index");
    let eligible = eligible(&index);
    let upstream = Upstream::always(Answer::default()).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    let key = gateway.virtual_key(json!({})).await;
    let house = House { upstream, gateway, key };

    let mut keys: BTreeMap<String, String> = BTreeMap::new();
    let mut replayed = Vec::new();
    for entry in &eligible {
        let exchange = read(entry);
        if let Some((id, reason)) = SKIPPED.iter().find(|(id, _)| *id == exchange.id) {
            println!("skipped {id}: {reason}");
            continue;
        }
        if !keys.contains_key(&exchange.provider) {
            let id = house.gateway.provider_key(&exchange.provider, &house.upstream).await;
            keys.insert(exchange.provider.clone(), id);
        }
        let requests = replay(&house, &exchange).await;
        replayed.push((exchange, requests));
    }
    assert_eq!(replayed.len() + SKIPPED.len(), eligible.len());
    println!("replayed {} of {} recordings", replayed.len(), eligible.len());

    let rows = house.gateway.usage().await;
    let by_request: BTreeMap<&str, &Value> =
        rows.iter().map(|row| (row["request_id"].as_str().expect("an id"), row)).collect();
    for (exchange, requests) in &replayed {
        for request in requests {
            metered(exchange, by_request[request.as_str()]);
        }
    }
}

/// Answers the ids of the requests whose usage is to be checked.
async fn replay(house: &House, exchange: &Exchange) -> Vec<String> {
    let id = &exchange.id;
    let mut requests = Vec::new();
    if !(200..300).contains(&exchange.status) {
        replay_refusal(house, exchange).await;
        return requests;
    }
    let mut asked = exchange.asked();
    if let Some((_, status)) = FAILS_AT_ONCE.iter().find(|(failing, _)| failing == id) {
        house.upstream.answer(exchange.answer(usize::MAX));
        assert_eq!(house.post(exchange, &asked).await.status, *status, "{id}");
        return requests;
    }
    for piece in [usize::MAX, 1 + exchange.body.len() % 61] {
        if exchange.stream {
            // As the client of the recording asked: the usage-only chunk is the one thing that may be missing.
            house.upstream.answer(exchange.answer(piece));
            let got = house.post(exchange, &asked).await;
            requests.extend(got.header("x-request-id").map(str::to_owned));
            let (status, got) = (got.status, got.text().await);
            assert_eq!(status, 200, "{id}: {got}");
            let recorded = exchange.body.as_str();
            if got != recorded {
                assert!(
                    exchange.path.ends_with("completions"),
                    "{id}: only these are asked for usage: {got}"
                );
                assert_without_usage_chunk(id, &got, recorded);
                let seen = house.upstream.last().json();
                assert_eq!(seen["stream_options"]["include_usage"], true, "{id}: the gateway asked for it");
                assert_ne!(asked["stream_options"]["include_usage"], true, "{id}: and the client did not");
            }
            if matches!(exchange.path, "/v1/chat/completions" | "/v1/completions") {
                asked["stream_options"] = json!({ "include_usage": true });
            }
        }
        house.upstream.answer(exchange.answer(piece));
        let got = house.post(exchange, &asked).await;
        requests.extend(got.header("x-request-id").map(str::to_owned));
        let (status, got) = (got.status, got.text().await);
        assert_eq!(status, 200, "{id}: {got}");
        assert!(got == exchange.body, "{id}: {got}\n---\n{}", exchange.body);
        sent_as_asked(house, exchange, &asked);
    }
    requests
}

/// The recording without exactly one frame, which carries usage and no choice.
fn assert_without_usage_chunk(id: &str, got: &str, recorded: &str) {
    let frames: Vec<&str> = recorded.split_inclusive("\n\n").collect();
    let missing = (0..frames.len()).find(|missing| {
        let left: String =
            frames.iter().enumerate().filter(|(at, _)| at != missing).map(|(_, frame)| *frame).collect();
        left == got
    });
    let missing = missing.unwrap_or_else(|| panic!("{id}: more than one frame differs: {got}"));
    let data = frames[missing].trim().strip_prefix("data:").unwrap_or_else(|| panic!("{id}: not an event"));
    let chunk: Value = serde_json::from_str(data).expect("a chunk");
    assert!(chunk["usage"].is_object() && chunk["choices"] == json!([]), "{id}: {chunk}");
}

/// What reached the provider is what was asked, declared edits aside.
fn sent_as_asked(house: &House, exchange: &Exchange, asked: &Value) {
    let mut sent = house.upstream.last().json();
    let mut asked = asked.clone();
    asked["model"] = json!(exchange.model);
    // One limit under the provider's own name for it; usage asked for or, where the option is refused, taken out; and the
    // spelling of embeddings.
    for body in [&mut sent, &mut asked] {
        let body = body.as_object_mut().expect("an object");
        let limits = [body.remove("max_tokens"), body.remove("max_completion_tokens")];
        body.insert("limit".into(), limits.into_iter().flatten().next().unwrap_or_default());
        body.remove("stream_options");
        body.remove("encoding_format");
    }
    assert_eq!(sent, asked, "{}", exchange.id);
}

fn metered(exchange: &Exchange, row: &Value) {
    let id = &exchange.id;
    if exchange.path == "/v1/messages/count_tokens" {
        assert_eq!((&row["cost_micro_usd"], &row["usage_source"]), (&json!(0), &json!("none")), "{id}");
        return;
    }
    let reported = Reported::of(exchange);
    let of = |member: &str| row[member].as_u64().expect("a count");
    match reported.charged(exchange) {
        Some((input, output)) => {
            assert_eq!(row["usage_source"], "provider", "{id}");
            assert_eq!((of("input_tokens"), of("output_tokens")), (input, output), "{id}: {reported:?}");
            assert_eq!(of("cache_read_tokens"), reported.cached.unwrap_or(0), "{id}: {reported:?}");
            // Some count a token more of reasoning than of output, which it is a part of.
            let reasoning = reported.reasoning.unwrap_or(0).min(output);
            assert_eq!(of("reasoning_tokens"), reasoning, "{id}: {reported:?}");
            assert_eq!(row["clamped_micro_usd"], 0, "{id}: {reported:?}");
        }
        None => assert_eq!(row["usage_source"], "estimated", "{id}"),
    }
    assert!(matches!(row["outcome"].as_str(), Some("ok" | "upstream_error")), "{id}");
}

async fn replay_refusal(house: &House, exchange: &Exchange) {
    let id = &exchange.id;
    house.upstream.answer(exchange.answer(usize::MAX));
    let before = house.upstream.count();
    let got = house.post(exchange, &exchange.asked()).await;
    let status = got.status;
    let text = got.text().await;
    assert_eq!(house.upstream.count(), before + 1, "{id}: refused by the gateway: {text}");
    let expected = match exchange.status {
        401 | 403 => 502,
        500..=502 | 504.. => 502,
        kept => kept,
    };
    assert_eq!(status, expected, "{id}: {text}");
    let said: Value = serde_json::from_str(&text).expect("an error");
    assert_eq!(said["error"]["provider"], exchange.provider.as_str(), "{id}");
    assert_eq!(said["error"]["provider_status"], exchange.status, "{id}");
    let theirs: Value = serde_json::from_str(&exchange.body).unwrap_or_default();
    if let Some(message) = theirs["error"]["message"].as_str().filter(|_| expected == exchange.status) {
        let ours = said["error"]["message"].as_str().expect("a message");
        // Long ids look like keys and are taken out.
        let begins: String = keystile::wire::scrub(message).chars().take(20).collect();
        assert!(ours.contains(begins.trim_end()), "{id}: {ours}\n{message}");
    }
}
