//! What the gateway adds to every request before it goes upstream: check the body, read what policy needs, make the
//! edits. A user feels the sum; 2 KiB is a short chat, 200 KiB a long one with tools.
//!
//! Run: `cargo bench --bench envelope`

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use keystile::wire::{Edit, Endpoint, Envelope, read_request};

/// A streamed chat of about `bytes`: prose with escapes in turns of half a KiB.
fn body(bytes: usize) -> Bytes {
    let text = "The stile turns once for every caller; \\\"no key, no way\\\" says the sign.\\n".repeat(7);
    let mut body =
        String::from("{\"model\":\"openai/gpt-5.4-mini\",\"stream\":true,\"temperature\":0.7,\"messages\":[");
    while body.len() + text.len() < bytes {
        if body.ends_with('}') {
            body.push(',');
        }
        body.push_str(&format!(
            "{{\"role\":\"user\",\"content\":[{{\"type\":\"text\",\"text\":\"{text}\"}}]}}"
        ));
    }
    body.push_str("],\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"parameters\":{}}}]}");
    Bytes::from(body)
}

fn envelope(c: &mut Criterion) {
    for (name, bytes) in [("2KiB", 2 << 10), ("200KiB", 200 << 10)] {
        let body = body(bytes);
        let mut group = c.benchmark_group(format!("envelope/{name}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("parse", |b| {
            b.iter(|| Envelope::parse(black_box(body.clone()), 128).expect("an envelope"));
        });
        let parsed = Envelope::parse(body.clone(), 128).expect("an envelope");
        group.bench_function("view", |b| {
            b.iter(|| read_request(Endpoint::ChatCompletions, black_box(&parsed)).expect("a request"));
        });
        let edits = [
            Edit::text("model", "gpt-5.4-mini"),
            Edit::Set { name: "stream_options", value: "{\"include_usage\":true}".to_owned() },
        ];
        group.bench_function("render", |b| b.iter(|| black_box(&parsed).render(&edits)));
        group.bench_function("whole", |b| {
            b.iter(|| {
                let envelope = Envelope::parse(black_box(body.clone()), 128).expect("an envelope");
                let view = read_request(Endpoint::ChatCompletions, &envelope).expect("a request");
                (envelope.render(&edits), view)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, envelope);
criterion_main!(benches);
