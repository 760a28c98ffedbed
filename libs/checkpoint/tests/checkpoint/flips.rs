//! Negative vectors: whatever is changed in a proof's text, it no longer holds.

use crate::proofs::{account_proof, record_proof, transaction_proof, world};
use crate::world::{World, address, verifier};
use kaldrix_checkpoint::{Proof, verify_proof};
use kaldrix_crypto::Verifier;
use kaldrix_types::{AssetId, Digest, StateKey};
use serde_json::{Value, json};

/// One changed text of a proof.
struct Mutant {
    what: String,
    /// Whether the text may still mean the same: swapping equal elements, or leaving out a field that says `null`.
    may_be_equal: bool,
    value: Value,
}

/// Every change of every place at or below `path`.
fn mutants(whole: &Value, path: &str) -> Vec<Mutant> {
    let mut found = Vec::new();
    visit(whole.pointer(path).unwrap(), path, &mut |path, what, may_be_equal, changed| {
        let mut value = whole.clone();
        *value.pointer_mut(path).unwrap() = changed;
        found.push(Mutant { what: format!("{path}: {what}"), may_be_equal, value });
    });
    found
}

fn visit(at: &Value, path: &str, change: &mut impl FnMut(&str, String, bool, Value)) {
    match at {
        Value::Null => {
            for other in [json!({}), json!(0), json!(""), json!([]), json!("00")] {
                change(path, format!("null becomes {other}"), false, other);
            }
        }
        Value::Bool(b) => change(path, "is flipped".to_owned(), false, json!(!b)),
        Value::Number(n) => {
            let n = n.as_u64().expect("proofs hold no other numbers");
            for other in [n.wrapping_add(1), n.wrapping_sub(1), n ^ 0x80, n << 8 | 1] {
                change(path, format!("{n} becomes {other}"), false, json!(other));
            }
            change(path, "becomes null".to_owned(), false, Value::Null);
        }
        Value::String(s) => {
            for position in [0, s.len() / 2, s.len().saturating_sub(1)].into_iter().filter(|p| *p < s.len()) {
                let mut text = s.clone().into_bytes();
                text[position] = match text[position] {
                    b'9' => b'0',
                    b'f' => b'a',
                    b'z' => b'b',
                    c => c + 1,
                };
                change(path, format!("character {position} changes"), false, json!(String::from_utf8(text).unwrap()));
            }
            for other in [String::new(), format!("{s}0"), s.chars().skip(2).collect()] {
                change(path, format!("becomes {} characters long", other.len()), s.is_empty(), json!(other));
            }
            change(path, "becomes null".to_owned(), false, Value::Null);
        }
        Value::Array(items) => visit_array(items, path, change),
        Value::Object(fields) => {
            change(path, "becomes null".to_owned(), false, Value::Null);
            for (name, value) in fields {
                let mut fewer = fields.clone();
                fewer.remove(name);
                change(path, format!("loses {name}"), value.is_null(), Value::Object(fewer));
                visit(value, &format!("{path}/{name}"), change);
            }
        }
    }
}

fn visit_array(items: &[Value], path: &str, change: &mut impl FnMut(&str, String, bool, Value)) {
    for i in 0..items.len() {
        let (mut dropped, mut doubled, mut swapped) = (items.to_vec(), items.to_vec(), items.to_vec());
        dropped.remove(i);
        change(path, format!("loses element {i}"), false, Value::Array(dropped));
        doubled.insert(i, items[i].clone());
        change(path, format!("has element {i} twice"), false, Value::Array(doubled));
        if i > 0 {
            swapped.swap(i - 1, i);
            change(path, format!("elements {} and {i} change places", i - 1), items[i - 1] == items[i], Value::Array(swapped));
        }
        visit(&items[i], &format!("{path}/{i}"), change);
    }
    change(path, "becomes null".to_owned(), false, Value::Null);
}

/// Asserts that no change at or below `path` goes unnoticed; how many there were.
fn assert_all_fail(world: &World, proof: &Proof, path: &str, verifier: &Verifier) -> usize {
    verify_proof(&world.genesis, proof, verifier).unwrap();
    let whole: Value = serde_json::from_str(&proof.to_json()).unwrap();
    let mutants = mutants(&whole, path);
    for mutant in &mutants {
        let Ok(read) = Proof::from_json(&mutant.value.to_string()) else { continue };
        if read == *proof {
            assert!(mutant.may_be_equal, "{} is not read at all", mutant.what);
        } else {
            assert!(verify_proof(&world.genesis, &read, verifier).is_err(), "{} and the proof still holds", mutant.what);
        }
    }
    mutants.len()
}

#[test]
fn every_field_of_a_transaction_proof_matters() {
    let world = world();
    let tried = assert_all_fail(&world, &transaction_proof(&world), "", &verifier());
    assert!(tried > 2_000, "only {tried} changes were tried");
}

#[test]
fn every_field_of_an_account_proof_matters() {
    let (world, verifier) = (world(), verifier());
    for n in [0, 7, 12_345] {
        assert!(assert_all_fail(&world, &account_proof(&world, n), "/item", &verifier) > 80);
    }
}

#[test]
fn every_field_of_a_record_proof_matters_for_every_kind_of_record() {
    let (world, verifier) = (world(), verifier());
    let owner = address(7);
    let asset = AssetId(Digest([5; 32]));
    let mut keys = vec![
        StateKey::Account(owner),
        StateKey::Lane(owner, 3),
        StateKey::Balance(owner, asset),
        StateKey::Asset(asset),
        StateKey::Anchor(owner, Digest([6; 32])),
        StateKey::Supply(AssetId::NATIVE),
        StateKey::Epoch,
        StateKey::Participation,
        StateKey::Validator(world.genesis.validators[0].operator),
    ];
    keys.extend(world.state.keys().find(|key| matches!(key, StateKey::ValidatorName(_))));
    assert!(keys.iter().all(|key| world.state.contains_key(key)));
    keys.push(StateKey::Asset(AssetId(Digest([77; 32]))));
    for key in keys {
        assert!(assert_all_fail(&world, &record_proof(&world, key), "/item", &verifier) > 40);
    }
}
