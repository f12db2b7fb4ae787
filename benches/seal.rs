//! What the vault adds to every call to a provider: the provider key is opened for it. Sealing happens only when a key
//! is stored.
//!
//! Run: `cargo bench --bench seal`

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use keystile::{
    domain::{Clock, DispatchGrant, ModelRef, ProviderKeyId, ProviderSecret, TenantId},
    vault::{KeyRing, SealedRow, Vault},
};

const ORIGIN: &str = "https://api.openai.com:443";

fn secret(bytes: usize) -> ProviderSecret {
    ProviderSecret::new(b"sk-proj-0123456789".iter().copied().cycle().take(bytes).collect::<Vec<u8>>().into())
}

#[expect(clippy::disallowed_methods, reason = "there is no policy here that could grant anything")]
fn seal(c: &mut Criterion) {
    let ring = KeyRing::from_texts(&[KeyRing::generate()]).expect("a key ring");
    let vault = Vault::new(ring, Clock::system());
    let (tenant, key) = (TenantId::generate(), ProviderKeyId::generate());
    let model = ModelRef::parse("openai/gpt-5.4-mini").expect("a model");
    let mut group = c.benchmark_group("provider_key");
    // OpenAI's project keys are about this long; Google's service accounts are whole JSON files.
    for bytes in [164, 2_400] {
        let secret = secret(bytes);
        group.bench_with_input(BenchmarkId::new("seal", bytes), &secret, |b, secret| {
            b.iter(|| vault.seal_provider_key(tenant, key, "openai", ORIGIN, black_box(secret)));
        });
        let sealed = vault.seal_provider_key(tenant, key, "openai", ORIGIN, &secret);
        let row = SealedRow { tenant, key, provider: "openai", origin: ORIGIN, sealed: &sealed };
        let grant = DispatchGrant::issue(tenant, key, model.clone());
        group.bench_with_input(BenchmarkId::new("open", bytes), &row, |b, row| {
            b.iter(|| vault.open_provider_key(&grant, black_box(row)).expect("it opens"));
        });
    }
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
