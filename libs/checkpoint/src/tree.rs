//! The state tree: a binary sparse Merkle tree over BLAKE3 that commits to every record of the state.
//!
//! ```text
//!   path = StatePath(key bytes)                      256 bits, from the highest bit of the first byte on
//!   leaf = StateLeaf(1, path, StateLeaf(0, value bytes))
//!   node = StateNode(left, right)                    an empty child counts as 32 zero bytes
//!   root = the leaf of a tree of one record; zeroes for none
//! ```
//!
//! A leaf sits at the shortest prefix of its path that no other leaf shares, so a tree of n records is about log2(n) deep and its shape
//! and root depend on the records alone, never on the order they came in (the same idea as in Diem's Jellyfish Merkle tree, without
//! versions and without a store). Paths are hashes, so nobody can make a tree deep on purpose.
//!
//! Nodes never change once another tree shares them: a clone is one reference count, and an update copies only what lies between the root
//! and the changed leaves.

mod node;
mod proof;

pub use proof::{OtherLeaf, StateTreeProof};

use kaldrix_types::hash::{Context, Digest};
use kaldrix_types::{StateChange, StateKey, StateValue};
use node::{Item, Link, Path};

/// A commitment to a state, in memory: about 270 bytes per record. It holds digests of values, not the values.
#[derive(Clone, Debug, Default)]
pub struct StateTree {
    root: Link,
    records: u64,
}

impl StateTree {
    /// The tree of a state's records, in any order.
    pub fn of<'a>(records: impl IntoIterator<Item = (&'a StateKey, &'a StateValue)>) -> Self {
        let mut tree = Self::default();
        tree.apply(records.into_iter().map(|(key, value)| Item { path: path_of(key), value: Some(value_digest(value)) }).collect());
        tree
    }

    /// Takes in the changes of a commit. Where a key comes twice, its last change counts.
    ///
    /// About 4 µs per change in a tree of 100,000 records (docs/adr/0009-state-tree.md).
    pub fn update(&mut self, changes: &[StateChange]) {
        let item = |change: &StateChange| Item { path: path_of(&change.key), value: change.value.as_ref().map(value_digest) };
        self.apply(changes.iter().map(item).collect());
    }

    fn apply(&mut self, mut items: Vec<Item>) {
        // Stable, so that the last of equal paths is the last change.
        items.sort_by_key(|item| item.path);
        items.dedup_by(|later, earlier| {
            let is_same = later.path == earlier.path;
            if is_same {
                earlier.value = later.value;
            }
            is_same
        });
        let mut added = 0;
        self.root = std::mem::take(&mut self.root).update(&items, 0, &mut added);
        self.records = self.records.checked_add_signed(added).expect("only leaves that were there are taken away");
    }

    /// The root: equal for equal states. Zeroes for an empty one.
    #[must_use]
    pub fn root(&self) -> Digest {
        self.root.hash()
    }

    /// How many records there are.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Whether the record of `key` has this value here; `None`: whether there is no such record.
    #[must_use]
    pub fn holds(&self, key: &StateKey, value: Option<&StateValue>) -> bool {
        let path = path_of(key);
        let found = self.root.descend(&path, |_| ()).filter(|leaf| leaf.path == path);
        found.map(|leaf| leaf.value) == value.map(value_digest)
    }

    /// Proves what the record of `key` is, or that there is none: see [`StateTreeProof::holds`].
    #[must_use]
    pub fn prove(&self, key: &StateKey) -> StateTreeProof {
        let path = path_of(key);
        let mut siblings = Vec::new();
        let leaf = self.root.descend(&path, |sibling| siblings.push(sibling));
        let other = leaf.filter(|leaf| leaf.path != path).map(|leaf| OtherLeaf { path: Digest(leaf.path), value: leaf.value });
        StateTreeProof { siblings, other }
    }
}

/// Where a record sits.
fn path_of(key: &StateKey) -> Path {
    Context::StatePath.hash(&[&key.to_bytes()]).0
}

/// What a leaf says about its value.
fn value_digest(value: &StateValue) -> Digest {
    Context::StateLeaf.hash(&[&[0], &value.to_bytes()])
}

/// A leaf's hash. The first byte keeps it apart from [`value_digest`].
fn leaf_hash(path: &Path, value: &Digest) -> Digest {
    Context::StateLeaf.hash(&[&[1], path, value.as_bytes()])
}

/// An inner node's hash.
fn node_hash(left: &Digest, right: &Digest) -> Digest {
    Context::StateNode.hash(&[left.as_bytes(), right.as_bytes()])
}

/// The turn that `path` takes at `depth`: `true` is right.
const fn is_right(path: &Path, depth: usize) -> bool {
    path[depth / 8] >> (7 - depth % 8) & 1 == 1
}

#[cfg(test)]
mod tests;
