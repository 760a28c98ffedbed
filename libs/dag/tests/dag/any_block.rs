//! Block acceptance against anything that can be signed: a Byzantine validator's headers are its own free choice.

use crate::support::{chain, committee, full_dag};
use kaldrix_dag::{BlockManager, Limits, Mempool, MempoolConfig, Node, NodeConfig, Now, RejoinAnswer, SyncConfig, Synchronizer};
use kaldrix_types::{
    Block, BlockRef, BlockVerifier, CheckpointVote, CommitVote, Committee, Digest, Header, PublicKey, ValidatorIndex, merkle_root,
};
use proptest::prelude::*;
use std::sync::Arc;

const NOW: Now = Now { monotonic_ms: 0, wall_ms: 1_000 };

struct AcceptsEverything;

impl BlockVerifier for AcceptsEverything {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// A reference to a block that exists, or to nothing.
fn any_parent(known: Vec<BlockRef>) -> impl Strategy<Value = BlockRef> {
    let unknown = (0u64..40, 0u16..6, any::<u8>()).prop_map(|(round, author, salt)| BlockRef {
        round,
        author: ValidatorIndex(author),
        digest: Digest([salt; 32]),
    });
    prop_oneof![6 => prop::sample::select(known), 1 => unknown]
}

/// Parents as an honest block has them, or nearly.
fn any_parents(known: Vec<BlockRef>) -> impl Strategy<Value = (u64, u16, Vec<BlockRef>)> {
    let wild = prop::collection::vec(any_parent(known.clone()), 0..7);
    let other = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any_parent(known.clone())));
    (1u64..8, 0u16..4, 0u16..5, other, prop::option::weighted(0.1, wild)).prop_map(move |(round, author, missing, other, wild)| {
        let strong = known.iter().filter(|b| b.round + 1 == round && (b.author.0 != missing || b.author.0 == author));
        let mut parents = crate::support::own_first(author, &strong.copied().collect::<Vec<_>>());
        if let Some((at, parent)) = other {
            let at = at.index(parents.len());
            parents[at] = parent;
        }
        (round, author, wild.unwrap_or(parents))
    })
}

fn any_header(known: Vec<BlockRef>) -> impl Strategy<Value = Header> {
    let numbers = (prop::option::weighted(0.1, 0u64..3), prop::option::weighted(0.1, any::<u64>()), 0u64..100);
    let claims = (prop::option::weighted(0.1, 0u32..3), 0usize..3);
    (numbers, any_parents(known), claims).prop_map(|((epoch, jump, timestamp_ms), (round, author, parents), (count, votes))| Header {
        version: 1,
        chain_id: chain(),
        epoch: epoch.unwrap_or(0),
        round: jump.unwrap_or(round),
        author: ValidatorIndex(author),
        timestamp_ms,
        parents,
        transactions_root: merkle_root(&[]),
        transaction_count: count.unwrap_or(0),
        body_bytes: 1,
        commit_votes: vec![CommitVote { index: u64::MAX, digest: Digest::ZERO }; votes],
        checkpoint_votes: vec![CheckpointVote { index: u64::MAX, digest: Digest::ZERO }; votes],
    })
}

fn node(committee: &Arc<Committee>) -> Node {
    let config = NodeConfig { own: ValidatorIndex(0), gc_depth: 60, transactions_per_block: 10, body_bytes_per_block: 1 << 20 };
    let sync = Synchronizer::new(committee, ValidatorIndex(0), SyncConfig::default());
    Node::new(config, BlockManager::new(Arc::clone(committee), Limits::default()), Mempool::new(MempoolConfig::default()), sync)
}

fn known() -> Vec<BlockRef> {
    let committee = committee(4);
    let made = full_dag(&committee, 6).into_iter().flatten().map(|b| b.reference());
    committee.genesis_blocks().into_iter().chain(made).collect()
}

proptest! {
    #[test]
    fn no_signed_header_makes_the_dag_panic_or_keep_a_block_whose_parents_are_missing(
        headers in prop::collection::vec(any_header(known()), 1..40), feed in prop::collection::vec(0usize..24, 0..24)
    ) {
        let committee = committee(4);
        let honest: Vec<_> = full_dag(&committee, 6).into_iter().flatten().collect();
        let mut node = node(&committee);
        let mut feed = feed.into_iter();
        for header in headers {
            if let Some(block) = feed.next().map(|i| Arc::clone(&honest[i])) {
                let _ = node.add_block(block.reference().author, block, NOW);
            }
            let block = Block { header, signature: vec![1; 64].into(), body: vec![0].into() };
            if let Ok(block) = block.verify(&committee, &AcceptsEverything, u64::MAX) {
                let answer = RejoinAnswer { peer: block.reference().author, own_round: 0, newest: Some(block.reference()) };
                let _ = node.rejoin(&[answer]);
                let _ = node.add_block(ValidatorIndex(1), Arc::new(block), NOW);
            }
            let _ = node.fetch(&[ValidatorIndex(1), ValidatorIndex(2)], NOW);
        }
        for block in node.dag().blocks_above(0) {
            prop_assert!(block.header().parents.iter().all(|parent| node.dag().contains(parent)));
        }
    }
}

#[test]
fn many_of_the_headers_drawn_here_are_valid_ones() {
    use proptest::strategy::ValueTree;
    let (committee, mut runner) = (committee(4), proptest::test_runner::TestRunner::deterministic());
    let strategy = any_header(known());
    let valid = (0..200).filter(|_| {
        let header = strategy.new_tree(&mut runner).unwrap().current();
        let block = Block { header, signature: vec![1; 64].into(), body: vec![0].into() };
        block.verify(&committee, &AcceptsEverything, u64::MAX).is_ok()
    });
    assert!(valid.count() > 60, "otherwise the test above looks at nothing");
}
