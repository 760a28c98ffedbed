use super::*;
use kaldrix_types::{Address, AssetId};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The definition, word by word: hashes from scratch.
fn model(records: &BTreeMap<StateKey, StateValue>) -> Digest {
    fn subtree(leaves: &[(Path, Digest)], depth: usize) -> Digest {
        match leaves {
            [] => Digest::ZERO,
            [(path, value)] => leaf_hash(path, value),
            _ => {
                let (right, left): (Vec<_>, Vec<_>) = leaves.iter().partition(|(path, _)| is_right(path, depth));
                node_hash(&subtree(&left, depth + 1), &subtree(&right, depth + 1))
            }
        }
    }
    let leaves: Vec<(Path, Digest)> = records.iter().map(|(key, value)| (path_of(key), value_digest(value))).collect();
    subtree(&leaves, 0)
}

fn key(n: u16) -> StateKey {
    let mut address = [0; 32];
    address[..2].copy_from_slice(&n.to_le_bytes());
    StateKey::Balance(Address(address), AssetId::NATIVE)
}

fn put(n: u16, amount: u128) -> StateChange {
    StateChange { key: key(n), value: Some(StateValue::Balance(amount)) }
}

proptest! {
    #[test]
    fn equal_states_have_equal_roots_whatever_led_to_them(
        batches in prop::collection::vec(prop::collection::vec((0u16..60, prop::option::weighted(0.6, 0u128..4)), 0..40), 0..12),
    ) {
        let (mut tree, mut records, mut versions) = (StateTree::default(), BTreeMap::new(), Vec::new());
        for batch in batches {
            let change = |(n, amount): (u16, Option<u128>)| StateChange { key: key(n), value: amount.map(StateValue::Balance) };
            let batch: Vec<StateChange> = batch.into_iter().map(change).collect();
            tree.update(&batch);
            for change in batch {
                match change.value {
                    Some(value) => records.insert(change.key, value),
                    None => records.remove(&change.key),
                };
            }
            prop_assert_eq!(tree.root(), model(&records));
            prop_assert_eq!(tree.records(), records.len() as u64);
            // Every other version stays alive, so that updates meet shared nodes and their own.
            if versions.len() % 2 == 0 { versions.push((tree.clone(), records.clone())); }
        }
        for (version, records) in versions {
            prop_assert_eq!(version.root(), model(&records), "a later update changed an older version");
        }
        let rebuilt = StateTree::of(&records);
        prop_assert_eq!(rebuilt.root(), tree.root());
        prop_assert_eq!(rebuilt.records(), tree.records());
    }

    #[test]
    fn a_proof_says_what_is_there_and_nothing_else(present in prop::collection::btree_set(0u16..200, 0..80), asked in 0u16..200) {
        let mut tree = StateTree::default();
        tree.update(&present.iter().map(|n| put(*n, u128::from(*n))).collect::<Vec<_>>());
        let proof = tree.prove(&key(asked));
        let (here, other) = (StateValue::Balance(u128::from(asked)), StateValue::Balance(u128::from(asked) + 1));
        let is_there = present.contains(&asked);
        prop_assert_eq!(proof.holds(tree.root(), &key(asked), Some(&here)), is_there);
        prop_assert_eq!(proof.holds(tree.root(), &key(asked), None), !is_there);
        prop_assert!(!proof.holds(tree.root(), &key(asked), Some(&other)));
        prop_assert_eq!(tree.holds(&key(asked), Some(&here)), is_there);
        prop_assert_eq!(tree.holds(&key(asked), None), !is_there);
        for bystander in 0..200 {
            // Nobody is shown to be absent who is there, whichever proof is used.
            if present.contains(&bystander) {
                prop_assert!(!proof.holds(tree.root(), &key(bystander), None));
            }
        }
    }
}

#[test]
fn an_inclusion_proof_does_not_pass_for_absence_by_naming_its_own_leaf() {
    let mut tree = StateTree::default();
    tree.update(&[put(1, 1), put(2, 2), put(3, 3)]);
    let mut proof = tree.prove(&key(1));
    proof.other = Some(OtherLeaf { path: Digest(path_of(&key(1))), value: value_digest(&StateValue::Balance(1)) });
    assert!(!proof.holds(tree.root(), &key(1), None));
    proof.siblings = vec![Digest::ZERO; 257];
    assert!(!proof.holds(tree.root(), &key(1), None), "more siblings than a path has bits");
}

#[test]
fn an_empty_tree_proves_that_nothing_is_there() {
    let tree = StateTree::default();
    assert_eq!(tree.root(), Digest::ZERO);
    assert!(tree.prove(&key(1)).holds(Digest::ZERO, &key(1), None));
    assert!(!tree.prove(&key(1)).holds(Digest::ZERO, &key(1), Some(&StateValue::Balance(0))));
}

#[test]
fn roots_stay_what_they_are() {
    // Changing this number changes the chain.
    let mut tree = StateTree::default();
    tree.update(&[put(1, 10), put(2, 20), put(3, 30)]);
    assert_eq!(tree.root().to_string(), "df05d56ad517c699bf2a075724bc9cbcb941e812856b2ebd5531f5cf449453de");
}
