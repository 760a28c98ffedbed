//! Project Wycheproof's vectors through our own `VerifyingKey`, never through the library directly.
#![allow(clippy::unwrap_used, reason = "clippy knows test functions, not the helpers of a test file")]

use kaldrix_crypto::{SecretKey, VerifyingKey};
use kaldrix_types::{PublicKey, Scheme};
use wycheproof::{TestResult, eddsa, mldsa_sign, mldsa_verify};

const ML_DSA: [(Scheme, mldsa_verify::TestName, mldsa_sign::TestName); 3] = [
    (Scheme::MlDsa44, mldsa_verify::TestName::MlDsa44Verify, mldsa_sign::TestName::MlDsa44SignSeed),
    (Scheme::MlDsa65, mldsa_verify::TestName::MlDsa65Verify, mldsa_sign::TestName::MlDsa65SignSeed),
    (Scheme::MlDsa87, mldsa_verify::TestName::MlDsa87Verify, mldsa_sign::TestName::MlDsa87SignSeed),
];

/// Our whole verdict: key length, key, signature.
fn accepts(scheme: Scheme, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    PublicKey::new(scheme, key.to_vec())
        .is_ok_and(|key| VerifyingKey::prepare(&key).is_ok_and(|key| key.verify(message, signature).is_ok()))
}

#[test]
fn ml_dsa_verification_decides_every_vector_rightly() {
    for (scheme, name, _) in ML_DSA {
        let set = mldsa_verify::TestSet::load(name).unwrap();
        let (mut valid, mut invalid, mut with_context) = (0, 0, 0);
        for group in &set.test_groups {
            for test in &group.tests {
                // We sign with an empty context only: the separation is inside the message.
                if test.ctx.as_ref().is_some_and(|c| !c.is_empty()) {
                    with_context += 1;
                    assert!(!accepts(scheme, &group.pubkey, &test.msg, &test.sig), "{scheme} {}: a context was ignored", test.tc_id);
                    continue;
                }
                let expected = test.result == TestResult::Valid;
                assert_eq!(accepts(scheme, &group.pubkey, &test.msg, &test.sig), expected, "{scheme} {} {}", test.tc_id, test.comment);
                *(if expected { &mut valid } else { &mut invalid }) += 1;
            }
        }
        assert!(valid > 50 && invalid > 30 && with_context > 0, "{scheme}: {valid} valid, {invalid} invalid, {with_context} with context");
    }
}

#[test]
fn ml_dsa_seeds_give_the_published_keys_under_which_the_published_signatures_hold() {
    for (scheme, _, name) in ML_DSA {
        let set = mldsa_sign::TestSet::load(name).unwrap();
        let (mut keys, mut signatures) = (0, 0);
        for group in &set.test_groups {
            let Some(seed) = group.privseed.as_ref() else { continue };
            let Ok(key) = SecretKey::from_seed(scheme, seed) else {
                assert_ne!(seed.len(), 32, "{scheme}: a seed of the right length was refused");
                continue;
            };
            if let Some(published) = &group.pubkey {
                assert_eq!(key.public_key().bytes(), published.as_slice(), "{scheme}");
                keys += 1;
            }
            for test in &group.tests {
                let (Some(message), true) = (&test.msg, test.result == TestResult::Valid) else { continue };
                if test.ctx.as_ref().is_some_and(|c| !c.is_empty()) {
                    continue;
                }
                assert!(accepts(scheme, key.public_key().bytes(), message, &test.sig), "{scheme} {} {}", test.tc_id, test.comment);
                signatures += 1;
            }
        }
        assert!(keys > 0 && signatures > 10, "{scheme}: {keys} keys, {signatures} signatures");
    }
}

#[test]
fn ed25519_verification_decides_every_vector_rightly() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    for group in &set.test_groups {
        for test in &group.tests {
            let expected = test.result == TestResult::Valid;
            let found = accepts(Scheme::Ed25519, &group.key.pk, &test.msg, &test.sig);
            assert_eq!(found, expected, "{} {}", test.tc_id, test.comment);
            *(if expected { &mut valid } else { &mut invalid }) += 1;
        }
    }
    assert!(valid > 50 && invalid > 40, "{valid} valid, {invalid} invalid");
}
