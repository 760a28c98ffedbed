//! Merkle root over leaves that are already hashed: an odd node is carried up, never duplicated (CVE-2012-2459 is what duplication costs).

use crate::hash::{Context, Digest};
use serde::{Deserialize, Serialize};

/// Root over `leaves`; [`Digest::ZERO`] for none. Leaf and node contexts differ, so a node can never pass for a leaf.
#[must_use]
pub fn merkle_root(leaves: &[Digest]) -> Digest {
    if leaves.is_empty() {
        return Digest::ZERO;
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = parents(&level);
    }
    level[0]
}

fn parents(level: &[Digest]) -> Vec<Digest> {
    level.chunks(2).map(|nodes| if let [left, right] = nodes { pair(left, right) } else { nodes[0] }).collect()
}

fn pair(left: &Digest, right: &Digest) -> Digest {
    Context::MerkleNode.hash(&[left.as_bytes(), right.as_bytes()])
}

/// Proves that a leaf is at a place in a tree of a known root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerklePath {
    /// The leaf's place, from 0.
    pub index: u64,
    /// How many leaves the tree has.
    pub count: u64,
    /// The other node of each pair, from the leaf up; levels at which the node is carried up have none.
    pub siblings: Vec<Digest>,
}

/// The path of the leaf at `index`; `None` when there is no such leaf.
#[must_use]
pub fn merkle_path(leaves: &[Digest], index: usize) -> Option<MerklePath> {
    if index >= leaves.len() {
        return None;
    }
    let (mut level, mut at, mut siblings) = (leaves.to_vec(), index, Vec::new());
    while level.len() > 1 {
        siblings.extend(level.get(at ^ 1).copied());
        level = parents(&level);
        at /= 2;
    }
    Some(MerklePath { index: index as u64, count: leaves.len() as u64, siblings })
}

impl MerklePath {
    /// The root of the tree in which `leaf` is at this place; `None` for a path that no tree has. Compare it, and `count`, with what is trusted.
    #[must_use]
    pub fn root(&self, leaf: Digest) -> Option<Digest> {
        if self.index >= self.count {
            return None;
        }
        let (mut at, mut width, mut node) = (self.index, self.count, leaf);
        let mut siblings = self.siblings.iter();
        while width > 1 {
            let is_carried = at == width - 1 && width % 2 == 1;
            if !is_carried {
                let sibling = siblings.next()?;
                node = if at % 2 == 0 { pair(&node, sibling) } else { pair(sibling, &node) };
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        siblings.next().is_none().then_some(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_leaf_is_carried_up_and_never_counted_twice() {
        let leaf = |n: u8| Context::BlockLeaf.hash(&[&[n]]);
        let three = merkle_root(&[leaf(1), leaf(2), leaf(3)]);
        assert_ne!(three, merkle_root(&[leaf(1), leaf(2), leaf(3), leaf(3)]));
        assert_eq!(merkle_root(&[leaf(1)]), leaf(1));
        assert_eq!(merkle_root(&[]), Digest::ZERO);
    }

    #[test]
    fn a_path_leads_to_the_root_from_its_own_place_only() {
        for count in 1..40u8 {
            let leaves: Vec<Digest> = (0..count).map(|n| Context::BlockLeaf.hash(&[&[n]])).collect();
            let root = merkle_root(&leaves);
            for (index, leaf) in leaves.iter().enumerate() {
                let path = merkle_path(&leaves, index).unwrap();
                assert_eq!(path.root(*leaf), Some(root));
                let other = (index + 1) % leaves.len();
                assert!(count == 1 || MerklePath { index: other as u64, ..path.clone() }.root(*leaf) != Some(root));
                assert_eq!(MerklePath { index: path.count, ..path }.root(*leaf), None);
            }
        }
    }
}
