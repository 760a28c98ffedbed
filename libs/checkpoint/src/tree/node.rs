//! Nodes and how a sorted batch of changes goes through them.

use super::{is_right, leaf_hash, node_hash};
use kaldrix_types::Digest;
use std::sync::Arc;

/// Hash of a key.
pub(super) type Path = [u8; 32];

/// What a leaf is to become; `None`: it is to go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    pub(super) path: Path,
    pub(super) value: Option<Digest>,
}

/// A record.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) path: Path,
    pub(super) value: Digest,
    hash: Digest,
}

impl Leaf {
    fn link(path: Path, value: Digest) -> Link {
        Link::Leaf(Arc::new(Self { path, value, hash: leaf_hash(&path, &value) }))
    }
}

/// Two subtrees that together hold at least two leaves.
#[derive(Debug)]
pub(super) struct Inner {
    hash: Digest,
    left: Link,
    right: Link,
}

/// A subtree.
#[derive(Clone, Debug, Default)]
pub(super) enum Link {
    #[default]
    Empty,
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

impl Link {
    pub(super) fn hash(&self) -> Digest {
        match self {
            Self::Empty => Digest::ZERO,
            Self::Leaf(leaf) => leaf.hash,
            Self::Inner(inner) => inner.hash,
        }
    }

    /// Follows `path` to its end: a leaf, or nothing. Shows the hash of each subtree it passes by, from the root down.
    pub(super) fn descend(&self, path: &Path, mut passed: impl FnMut(Digest)) -> Option<&Leaf> {
        let (mut at, mut depth) = (self, 0);
        loop {
            match at {
                Self::Empty => return None,
                Self::Leaf(leaf) => return Some(leaf),
                Self::Inner(inner) => {
                    let (next, sibling) = if is_right(path, depth) { (&inner.right, &inner.left) } else { (&inner.left, &inner.right) };
                    passed(sibling.hash());
                    (at, depth) = (next, depth + 1);
                }
            }
        }
    }

    /// This subtree at `depth` with `items`, which are sorted, distinct and belong into it. `added` counts leaves that came, less those
    /// that went.
    pub(super) fn update(self, items: &[Item], depth: usize, added: &mut i64) -> Self {
        if items.is_empty() {
            return self;
        }
        match self {
            Self::Empty => Self::build_counted(&kept(items), depth, added),
            Self::Leaf(leaf) => {
                let mut leaves = kept(items);
                if let Err(at) = items.binary_search_by_key(&leaf.path, |item| item.path) {
                    // Its place among those that stay: as many as are before it among all, less those that go.
                    let at = items[..at].iter().filter(|item| item.value.is_some()).count();
                    leaves.insert(at, (leaf.path, leaf.value));
                }
                *added -= 1;
                Self::build_counted(&leaves, depth, added)
            }
            Self::Inner(inner) => Self::update_inner(inner, items, depth, added),
        }
    }

    fn update_inner(mut inner: Arc<Inner>, items: &[Item], depth: usize, added: &mut i64) -> Self {
        let (to_left, to_right) = items.split_at(items.partition_point(|item| !is_right(&item.path, depth)));
        // A node that no other tree shares is changed in place.
        let (left, right) = match Arc::get_mut(&mut inner) {
            Some(own) => (std::mem::take(&mut own.left), std::mem::take(&mut own.right)),
            None => (inner.left.clone(), inner.right.clone()),
        };
        let (left, right) = (left.update(to_left, depth + 1, added), right.update(to_right, depth + 1, added));
        match (left, right) {
            (Self::Empty, only @ (Self::Empty | Self::Leaf(_))) | (only @ Self::Leaf(_), Self::Empty) => only,
            (left, right) => {
                let hash = node_hash(&left.hash(), &right.hash());
                let node = Inner { hash, left, right };
                if let Some(own) = Arc::get_mut(&mut inner) {
                    *own = node;
                    Self::Inner(inner)
                } else {
                    Self::Inner(Arc::new(node))
                }
            }
        }
    }

    fn build_counted(leaves: &[(Path, Digest)], depth: usize, added: &mut i64) -> Self {
        *added += i64::try_from(leaves.len()).expect("more leaves than memory could hold");
        Self::build(leaves, depth)
    }

    /// The subtree of `leaves`, sorted and distinct.
    fn build(leaves: &[(Path, Digest)], depth: usize) -> Self {
        match leaves {
            [] => Self::Empty,
            [(path, value)] => Leaf::link(*path, *value),
            _ => {
                let (left, right) = leaves.split_at(leaves.partition_point(|(path, _)| !is_right(path, depth)));
                let (left, right) = (Self::build(left, depth + 1), Self::build(right, depth + 1));
                Self::Inner(Arc::new(Inner { hash: node_hash(&left.hash(), &right.hash()), left, right }))
            }
        }
    }
}

fn kept(items: &[Item]) -> Vec<(Path, Digest)> {
    items.iter().filter_map(|item| Some((item.path, item.value?))).collect()
}
