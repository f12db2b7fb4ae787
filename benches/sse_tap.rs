//! What the gateway adds to every chunk of a stream: cut it into frames, decode them on the side, read what they say.
//! A user feels it as delay of each token, and an operator as processor time per stream.
//!
//! Run: `cargo bench --bench sse_tap`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keystile::{
    catalogue::{DialectKind, Quirks},
    dialects::{StreamProgress, dialect},
    wire::{Endpoint, EventReader, Framer},
};

/// One event as OpenAI sends it.
const EVENT: &str = "data: {\"id\":\"chatcmpl-D8Z5oo6uDh67AD85p73ksdT1KxhE0\",\"object\":\"chat.completion.chunk\",\
    \"created\":1770933892,\"model\":\"gpt-4.1-nano-2025-04-14\",\"service_tier\":\"default\",\
    \"system_fingerprint\":\"fp_de604bd877\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" Harmony\"},\
    \"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"HqIZSrV\"}\n\n";

fn sse_tap(c: &mut Criterion) {
    let chunk = Bytes::from_static(EVENT.as_bytes());
    let mut group = c.benchmark_group("sse_tap/one_event");
    group.throughput(Throughput::Bytes(chunk.len() as u64));
    let mut framer = Framer::new(1 << 20);
    group.bench_function("frame", |b| {
        b.iter(|| {
            framer.push(black_box(chunk.clone()));
            framer.next_frame().expect("fits").expect("a frame")
        });
    });
    let mut reader = EventReader::new();
    group.bench_function("decode", |b| b.iter(|| reader.read(black_box(&chunk)).expect("an event")));
    let event = EventReader::new().read(&chunk).expect("an event");
    let (openai, quirks) = (dialect(DialectKind::OpenAi), Quirks::default());
    let mut progress = StreamProgress::default();
    group.bench_function("read", |b| {
        b.iter(|| openai.read_event(Endpoint::ChatCompletions, &quirks, &mut progress, black_box(&event)));
    });
    group.bench_function("whole", |b| {
        b.iter(|| {
            framer.push(black_box(chunk.clone()));
            let frame = framer.next_frame().expect("fits").expect("a frame");
            let event = reader.read(&frame).expect("an event");
            openai.read_event(Endpoint::ChatCompletions, &quirks, &mut progress, &event)
        });
    });
    group.finish();

    let mut group = c.benchmark_group("sse_tap/cut_into_16_bytes");
    group.throughput(Throughput::Bytes(chunk.len() as u64));
    group.bench_function("frame", |b| {
        b.iter(|| {
            let mut found = None;
            for part in chunk.chunks(16) {
                framer.push(chunk.slice_ref(part));
                found = framer.next_frame().expect("fits");
            }
            found.expect("a frame")
        });
    });
    group.finish();
}

criterion_group!(benches, sse_tap);
criterion_main!(benches);
