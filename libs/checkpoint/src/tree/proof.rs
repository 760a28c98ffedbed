//! Proofs against a state root: of a record and of a record's absence.

use super::{is_right, leaf_hash, node_hash, path_of, value_digest};
use kaldrix_types::{Digest, StateKey, StateValue};
use serde::{Deserialize, Serialize};

/// More siblings than bits in a path cannot be.
const DEPTH_MAX: usize = 256;

/// What a record's path leads to, with the hashes of all it passes by. Says nothing by itself: see [`Self::holds`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateTreeProof {
    /// Hashes of the other subtrees from the root down; zeroes for an empty one.
    pub siblings: Vec<Digest>,
    /// The leaf of another record at the end of the path; `None` when it is the record's own, or when nothing is there.
    pub other: Option<OtherLeaf>,
}

/// A leaf of another record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherLeaf {
    /// Hash of its key.
    pub path: Digest,
    /// Digest of its value.
    pub value: Digest,
}

impl StateTreeProof {
    /// Whether in the state with this root the record of `key` has `value`; with `None`, whether there is no such record.
    ///
    /// Bytes from anybody: at most 256 hashes are computed.
    #[must_use]
    pub fn holds(&self, root: Digest, key: &StateKey, value: Option<&StateValue>) -> bool {
        let path = path_of(key);
        if self.siblings.len() > DEPTH_MAX {
            return false;
        }
        let end = match (value, &self.other) {
            (Some(value), None) => leaf_hash(&path, &value_digest(value)),
            (None, None) => Digest::ZERO,
            // Were it the record's own leaf, the record would be there. That the other lies on this path needs no look: hashing goes along
            // the record's path, and a leaf that were elsewhere would not lead to the root.
            (None, Some(other)) if other.path.0 != path => leaf_hash(&other.path.0, &other.value),
            _ => return false,
        };
        let fold = |below: Digest, (depth, sibling): (usize, &Digest)| {
            if is_right(&path, depth) { node_hash(sibling, &below) } else { node_hash(&below, sibling) }
        };
        self.siblings.iter().enumerate().rev().fold(end, fold) == root
    }
}
