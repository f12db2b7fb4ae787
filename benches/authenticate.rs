//! What it takes to know who asks: the shape of the presented key, its digest, and the look-up in memory. A stranger's
//! noise costs the first of them, a well-formed stranger the first two.
//!
//! Run: `cargo bench --bench authenticate`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use keystile::{
    app::{App, StartOptions},
    config::Config,
    control::{NewVirtualKey, Patch},
    domain::{Actor, VirtualKeyPlaintext},
    vault::{HouseSecret, Pepper, token},
};
use tokio::runtime::Runtime;

#[expect(clippy::disallowed_methods, reason = "the key is what is measured")]
fn text(key: &VirtualKeyPlaintext) -> &str {
    key.expose_secret()
}

fn shape(c: &mut Criterion) {
    let mut group = c.benchmark_group("virtual_key");
    let (key, _) = token::generate();
    let key = text(&key);
    group.bench_function("shape", |b| b.iter(|| token::well_formed(black_box(key))));
    // The last letter of the checksum is another one.
    let other = if key.ends_with('0') { "1" } else { "0" };
    let noise = format!("{}{other}", &key[..key.len() - 1]);
    group.bench_function("wrong_checksum", |b| b.iter(|| token::well_formed(black_box(&noise))));
    let pepper = Pepper::new(HouseSecret::generate());
    group.bench_function("digest", |b| b.iter(|| pepper.digest(black_box(key))));
    group.finish();
}

/// A running gateway's own look-up: the key is in memory, as after its first request.
fn identify(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let directory = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.server.data_dir = directory.path().to_owned();
    config.server.listen.set_port(0);
    config.server.admin_listen.set_port(0);
    let app = runtime.block_on(App::start(config, StartOptions::default())).expect("a gateway");
    let asked = NewVirtualKey {
        name: "bench".to_owned(),
        models_allowed: Patch::Set(vec!["openai/*".to_owned()]),
        ..NewVirtualKey::default()
    };
    let made = runtime.block_on(app.control.virtual_key_create(&Actor::Cli, asked, None)).expect("a key");
    let key = made.plaintext.expect("the key, shown once");
    let with = |key: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {key}")).expect("a header"));
        headers
    };
    let (known, stranger) = (with(text(&key)), with(text(&token::generate().0)));

    let authenticator = &app.house.authenticator;
    let mut group = c.benchmark_group("identify");
    for (name, headers, lives) in [("cached", &known, true), ("well_formed_stranger", &stranger, false)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let principal = runtime.block_on(authenticator.identify(black_box(headers)));
                assert_eq!(principal.is_ok(), lives);
                principal
            });
        });
    }
    group.finish();
    let patience = std::time::Duration::from_secs(1);
    runtime.block_on(app.stop(patience, std::future::pending()));
}

criterion_group!(benches, shape, identify);
criterion_main!(benches);
