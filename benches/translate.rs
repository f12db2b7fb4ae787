//! What it costs to say a stream in other words, beside reading the same events as they pass: cut into frames, decoded,
//! and then either read on the side, or taken apart and written anew. Every figure is for one event of a whole stream,
//! which has a beginning, text in small pieces, and an end with usage. A user feels it as delay of each token, and an
//! operator as processor time per stream. The goal is at most three times the reading.
//!
//! Run: `cargo bench --bench translate`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use keystile::{
    catalogue::{DialectKind, Quirks, capabilities},
    dialects::{Asked, Call, ClientHeaders, Dialect, StreamProgress, Translation, dialect},
    domain::ModelName,
    wire::{Endpoint, Envelope, EventReader, Framer, read_request},
};

/// Events of text in a stream.
const PIECES: usize = 200;

/// OpenAI's, as in `sse_tap`.
fn openai() -> Bytes {
    let chunk = |delta: &str, end: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-D8Z5oo6uDh67AD85p73ksdT1KxhE0\",\"object\":\"chat.completion.chunk\",\
             \"created\":1770933892,\"model\":\"gpt-4.1-nano-2025-04-14\",\"service_tier\":\"default\",\
             \"system_fingerprint\":\"fp_de604bd877\",\"choices\":[{{\"index\":0,\"delta\":{{{delta}}},\
             \"logprobs\":null,\"finish_reason\":{end}}}],\"usage\":null,\"obfuscation\":\"HqIZSrV\"}}\n\n"
        )
    };
    let mut stream = chunk("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null", "null");
    stream.push_str(&chunk("\"content\":\" Harmony\"", "null").repeat(PIECES));
    stream.push_str(&chunk("", "\"stop\""));
    stream.push_str(
        "data: {\"id\":\"chatcmpl-D8Z5oo6uDh67AD85p73ksdT1KxhE0\",\"object\":\"chat.completion.chunk\",\
         \"created\":1770933892,\"model\":\"gpt-4.1-nano-2025-04-14\",\"choices\":[],\"usage\":{\"prompt_tokens\":12,\
         \"completion_tokens\":200,\"total_tokens\":212,\"prompt_tokens_details\":{\"cached_tokens\":0},\
         \"completion_tokens_details\":{\"reasoning_tokens\":0}}}\n\ndata: [DONE]\n\n",
    );
    stream.into()
}

/// Anthropic's, with the spaces it fills its events with.
fn anthropic() -> Bytes {
    let mut stream = String::from(
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-20250514\",\
         \"id\":\"msg_01WUQ4q2kHhNVGdPSr4ChBMc\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\
         \"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":12,\"cache_creation_input_tokens\":0,\
         \"cache_read_input_tokens\":0,\"output_tokens\":4,\"service_tier\":\"standard\"}}           }\n\n\
         event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":\
         {\"type\":\"text\",\"text\":\"\"}   }\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\n",
    );
    let piece = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":\
                 {\"type\":\"text_delta\",\"text\":\" Harmony\"}            }\n\n";
    stream.push_str(&piece.repeat(PIECES));
    stream.push_str(
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0 }\n\n\
         event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\
         \"stop_sequence\":null},\"usage\":{\"input_tokens\":12,\"output_tokens\":200} }\n\n\
         event: message_stop\ndata: {\"type\":\"message_stop\"     }\n\n",
    );
    stream.into()
}

/// Gemini's, which tells usage in every event.
fn gemini() -> Bytes {
    let chunk = |end: &str, tokens: usize| {
        format!(
            "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \" Harmony\"}}],\"role\": \"model\"}},\
             {end}\"index\": 0}}],\"usageMetadata\": {{\"promptTokenCount\": 12,\"candidatesTokenCount\": {tokens},\
             \"totalTokenCount\": {},\"promptTokensDetails\": [{{\"modality\": \"TEXT\",\"tokenCount\": 12}}],\
             \"thoughtsTokenCount\": 0}},\"modelVersion\": \"gemini-2.5-flash\",\
             \"responseId\": \"lT2kaL7zMZ2wxN8P2q3x0Ag\"}}\r\n\r\n",
            tokens + 12
        )
    };
    let mut stream: String = (1..PIECES).map(|tokens| chunk("", tokens)).collect();
    stream.push_str(&chunk("\"finishReason\": \"STOP\",", PIECES));
    stream.into()
}

/// One way through the gateway.
struct Way {
    name: &'static str,
    provider: DialectKind,
    /// Whose words pass as they are.
    passing: Endpoint,
    client: Endpoint,
    stream: fn() -> Bytes,
}

const WAYS: [Way; 6] = [
    Way::new("anthropic_to_chat", DialectKind::Anthropic, Endpoint::ChatCompletions, anthropic),
    Way::new("anthropic_to_responses", DialectKind::Anthropic, Endpoint::Responses, anthropic),
    Way::new("gemini_to_chat", DialectKind::Gemini, Endpoint::ChatCompletions, gemini),
    Way::new("gemini_to_messages", DialectKind::Gemini, Endpoint::Messages, gemini),
    Way::new("chat_to_messages", DialectKind::OpenAi, Endpoint::Messages, openai),
    Way::new("chat_to_responses", DialectKind::OpenAi, Endpoint::Responses, openai),
];

impl Way {
    const fn new(name: &'static str, provider: DialectKind, client: Endpoint, stream: fn() -> Bytes) -> Self {
        let passing = match provider {
            DialectKind::Anthropic => Endpoint::Messages,
            DialectKind::OpenAi | DialectKind::Gemini => Endpoint::ChatCompletions,
        };
        Self { name, provider, passing, client, stream }
    }

    fn translation(&self) -> Box<dyn Translation> {
        let body = match self.client {
            Endpoint::Responses => r#"{"model":"m","input":"x","stream":true}"#,
            _ => r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":500,"stream":true}"#,
        };
        let envelope = Envelope::parse(Bytes::from_static(body.as_bytes()), 64).expect("an envelope");
        let view = read_request(self.client, &envelope).expect("a request");
        let asked = Asked::new(self.client, envelope, view, ClientHeaders::default());
        let model = ModelName::parse("m").expect("a name");
        let call = Call {
            asked: &asked,
            quirks: &Quirks::default(),
            capabilities: capabilities(self.provider, "m"),
            model: &model,
            output_limit: None,
            model_limit: Some(8_192),
            ask_usage: true,
            request_id: "req_1",
            created: 1_770_933_892,
        };
        let request = dialect(self.provider).request(&call).expect("it can be said");
        request.translation.expect("the words differ")
    }
}

/// Reads a stream as it passes; the sum of its text keeps the work from being left out.
fn read(provider: &dyn Dialect, endpoint: Endpoint, stream: &Bytes) -> u64 {
    let (mut framer, mut reader) = (Framer::new(1 << 20), EventReader::new());
    let (mut progress, quirks) = (StreamProgress::default(), Quirks::default());
    let mut text = 0;
    framer.push(stream.clone());
    while let Some(frame) = framer.next_frame().expect("fits") {
        if let Some(event) = reader.read(&frame) {
            text += provider.read_event(endpoint, &quirks, &mut progress, &event).text_bytes;
            black_box(frame);
        }
    }
    text
}

/// The same stream in other words.
fn tell(translation: &mut dyn Translation, stream: &Bytes) -> u64 {
    let (mut framer, mut reader) = (Framer::new(1 << 20), EventReader::new());
    let mut progress = StreamProgress::default();
    let mut text = 0;
    framer.push(stream.clone());
    while let Some(frame) = framer.next_frame().expect("fits") {
        if let Some(event) = reader.read(&frame) {
            let (facts, out) = translation.event(&mut progress, &event);
            text += facts.text_bytes;
            black_box(out);
        }
    }
    assert!(progress.finished(), "the stream is complete");
    black_box(translation.end());
    text
}

fn translate(c: &mut Criterion) {
    let mut group = c.benchmark_group("translate");
    for Way { name, provider, passing, stream, .. } in &WAYS {
        let way = WAYS.iter().find(|way| way.name == *name).expect("itself");
        let stream = stream();
        let events = stream.windows(5).filter(|window| window == b"data:").count();
        group.throughput(Throughput::Elements(events as u64));
        let provider = dialect(*provider);
        let said = (PIECES * " Harmony".len()) as u64;
        assert_eq!(read(provider, *passing, &stream), said);
        assert_eq!(tell(way.translation().as_mut(), &stream), said);
        group.bench_function(format!("{name}/passed"), |b| {
            b.iter(|| read(provider, *passing, black_box(&stream)));
        });
        group.bench_function(format!("{name}/translated"), |b| {
            b.iter_batched(
                || way.translation(),
                |mut translation| tell(translation.as_mut(), black_box(&stream)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, translate);
criterion_main!(benches);
