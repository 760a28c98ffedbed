//! What one signature costs, per scheme: with a prepared key (the hot path), through the key cache, and signing.
//!
//! `cargo bench -p kaldrix-crypto`
#![allow(missing_docs, reason = "criterion's macros generate public functions")]

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kaldrix_crypto::{SecretKey, Signer, Verifier, VerifyingKey};
use kaldrix_types::{ChainId, Digest, Purpose, Scheme, signing_message};
use std::hint::black_box;

fn benchmark(c: &mut Criterion) {
    let message = signing_message(Purpose::Transaction, ChainId::default(), Digest([3; 32]));
    let verifier = Verifier::new(1024);
    for scheme in Scheme::ALL {
        let key = SecretKey::generate(scheme).expect("the operating system has randomness");
        let signature = key.sign(&message).expect("software keys sign");
        let prepared = VerifyingKey::prepare(key.public_key()).expect("a generated key is acceptable");
        c.bench_with_input(BenchmarkId::new("verify_prepared", scheme), &scheme, |b, _| {
            b.iter(|| prepared.verify(black_box(&message), black_box(&signature)));
        });
        c.bench_with_input(BenchmarkId::new("verify_through_cache", scheme), &scheme, |b, _| {
            b.iter(|| verifier.verify_message(black_box(key.public_key()), black_box(&message), black_box(&signature)));
        });
        c.bench_with_input(BenchmarkId::new("sign", scheme), &scheme, |b, _| b.iter(|| key.sign(black_box(&message))));
    }
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
