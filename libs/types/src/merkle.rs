//! Merkle root over leaves that are already hashed: an odd node is carried up, never duplicated (CVE-2012-2459 is what duplication costs).

use crate::hash::{Context, Digest};

/// Root over `leaves`; [`Digest::ZERO`] for none. Leaf and node contexts differ, so a node can never pass for a leaf.
#[must_use]
pub fn merkle_root(leaves: &[Digest]) -> Digest {
    if leaves.is_empty() {
        return Digest::ZERO;
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => Context::MerkleNode.hash(&[left.as_bytes(), right.as_bytes()]),
                odd => odd[0],
            })
            .collect();
    }
    level[0]
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
}
