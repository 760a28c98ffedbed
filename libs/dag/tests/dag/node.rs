use crate::support::{Tx, block, committee, full_dag, layer, refs};
use kaldrix_dag::{
    BlockManager, Effect, Limits, Mempool, MempoolConfig, Node, NodeConfig, Now, Proposal, Refused, RejoinAnswer, SyncConfig, Synchronizer,
};
use kaldrix_types::{
    Block, BlockVerifier, CheckpointVote, Commit, Committee, Digest, PublicKey, Reputation, ValidatorIndex, VerifiedBlock,
};
use std::sync::Arc;

const NOW: Now = Now { monotonic_ms: 0, wall_ms: 1_000 };
const OWN: ValidatorIndex = ValidatorIndex(0);

struct AcceptsEverything;

impl BlockVerifier for AcceptsEverything {
    fn verify(&self, _: &PublicKey, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

fn config() -> NodeConfig {
    NodeConfig { own: OWN, gc_depth: 60, transactions_per_block: 100, body_bytes_per_block: 1 << 20 }
}

fn manager(committee: &Arc<Committee>) -> BlockManager {
    BlockManager::new(Arc::clone(committee), Limits::default())
}

fn node(committee: &Arc<Committee>) -> Node {
    let sync = Synchronizer::new(committee, OWN, SyncConfig::default());
    Node::new(config(), manager(committee), Mempool::new(MempoolConfig::default()), sync)
}

fn proposal(node: &mut Node) -> Option<Proposal> {
    node.effects().into_iter().find_map(|e| if let Effect::Propose(proposal) = e { Some(*proposal) } else { None })
}

fn signed(committee: &Committee, proposal: Proposal) -> Arc<VerifiedBlock> {
    let block = Block { header: proposal.header, signature: vec![1; 64].into(), body: proposal.body };
    Arc::new(block.verify_own(proposal.transactions, committee, &AcceptsEverything).unwrap())
}

fn last_commit(leader: &VerifiedBlock) -> Commit {
    let leader = leader.reference();
    Commit {
        index: 1,
        epoch: 0,
        leader,
        previous: Digest::ZERO,
        timestamp_ms: 1,
        gc_round: 0,
        blocks: vec![leader],
        reputation: Reputation::default(),
        ends_epoch: true,
    }
}

#[test]
fn a_refused_proposal_gives_its_transactions_and_votes_back_and_leaves_its_round_out() {
    let committee = committee(4);
    let mut node = node(&committee);
    let vote = CheckpointVote { index: 1, digest: Digest([7; 32]) };
    node.vote(vote);
    node.add_transaction(Tx::new(1, 0, 0).build(), 0, NOW).unwrap();
    node.propose(1, NOW);
    let first = proposal(&mut node).expect("round 1 stands on genesis");
    assert_eq!((first.transactions.len(), first.header.checkpoint_votes.as_slice()), (1, &[vote][..]));
    node.proposal_refused(1, first.transactions);
    assert!(node.effects().iter().any(|e| matches!(e, Effect::EndSession)));
    node.propose(1, NOW);
    assert!(proposal(&mut node).is_none(), "a round that was given to be signed is never proposed again");
    for block in layer(&committee, 1, &[1, 2, 3], &committee.genesis_blocks()) {
        node.add_block(block.reference().author, block, NOW).unwrap();
    }
    node.propose(2, NOW);
    let second = proposal(&mut node).expect("three others are a quorum");
    assert_eq!((second.transactions.len(), second.header.checkpoint_votes.as_slice()), (1, &[vote][..]));
}

#[test]
fn a_round_without_a_quorum_below_is_proposed_as_soon_as_the_quorum_is_there() {
    let committee = committee(4);
    let mut node = node(&committee);
    node.propose(2, NOW);
    assert!(proposal(&mut node).is_none());
    for block in layer(&committee, 1, &[1, 2, 3], &committee.genesis_blocks()) {
        node.add_block(block.reference().author, block, NOW).unwrap();
    }
    assert_eq!(proposal(&mut node).map(|p| p.header.round), Some(2));
}

#[test]
fn after_the_last_commit_of_an_epoch_blocks_carry_votes_but_no_transactions_and_the_next_epoch_carries_both() {
    let committee = committee(4);
    let mut node = node(&committee);
    let layers = full_dag(&committee, 3);
    for block in layers.iter().flatten().filter(|b| b.reference().author != OWN || b.reference().round < 3) {
        node.add_block(block.reference().author, Arc::clone(block), NOW).unwrap();
    }
    node.add_transaction(Tx::new(1, 0, 0).build(), 0, NOW).unwrap();
    node.propose(3, NOW);
    let own = proposal(&mut node).unwrap();
    assert_eq!(own.transactions.len(), 1);
    node.own_block(signed(&committee, own), NOW).unwrap();
    node.committed(&last_commit(&layers[0][1])).unwrap();
    node.add_transaction(Tx::new(2, 0, 0).build(), 0, NOW).unwrap();
    node.vote(CheckpointVote { index: 1, digest: Digest([7; 32]) });
    node.propose(4, NOW);
    let empty = proposal(&mut node).unwrap();
    assert_eq!((empty.transactions.len(), empty.header.checkpoint_votes.len()), (0, 1));

    let next = Arc::new(Committee::new(committee.chain(), 1, committee.validators().to_vec()).unwrap().starting_at(1));
    let late = signed(&committee, empty);
    node.begin_epoch(config(), manager(&next), Synchronizer::new(&next, OWN, SyncConfig::default()));
    assert_eq!(node.own_block(late, NOW), Err(Refused::OtherEpoch), "a block signed while the epoch changed comes too late");
    node.propose(2, NOW);
    let first = proposal(&mut node).expect("the epoch's first blocks stand on its own genesis blocks");
    assert_eq!(first.header.parents, next.genesis_blocks());
    assert_eq!(first.transactions.len(), 2, "the uncommitted block's transaction and the one that waited");
    let other = block(&next, 2, 1, &next.genesis_blocks(), 5, 0);
    node.add_block(ValidatorIndex(1), Arc::clone(&other), NOW).unwrap();
    assert!(node.dag().contains(&refs(&[other])[0]));
}

#[test]
fn an_observer_takes_blocks_in_and_never_proposes() {
    let committee = committee(4);
    let own = ValidatorIndex::OBSERVER;
    let sync = Synchronizer::new(&committee, own, SyncConfig::default());
    let mut node = Node::new(NodeConfig { own, ..config() }, manager(&committee), Mempool::new(MempoolConfig::default()), sync);
    for block in full_dag(&committee, 3).into_iter().flatten() {
        node.add_block(block.reference().author, block, NOW).unwrap();
    }
    node.propose(4, NOW);
    assert!(proposal(&mut node).is_none());
    assert_eq!(node.status().round, 3);
}

#[test]
fn two_blocks_by_one_author_in_one_round_come_out_as_evidence() {
    let committee = committee(4);
    let mut node = node(&committee);
    let [one, two] = [0, 9].map(|salt| block(&committee, 1, 3, &committee.genesis_blocks(), 10, salt));
    node.add_block(ValidatorIndex(3), Arc::clone(&one), NOW).unwrap();
    node.add_block(ValidatorIndex(2), Arc::clone(&two), NOW).unwrap();
    let found = node.effects().into_iter().find_map(|e| if let Effect::Evidence(a, b) = e { Some((a, b)) } else { None });
    let (first, second) = found.expect("both are here");
    assert_eq!((first.reference(), second.reference()), (one.reference(), two.reference()));
}

#[test]
fn a_validator_without_memory_waits_for_a_quorum_and_proposes_above_what_it_can_have_signed() {
    let committee = committee(4);
    let mut node = node(&committee);
    let layers = full_dag(&committee, 9);
    let newest =
        |peer: u16| RejoinAnswer { peer: ValidatorIndex(peer), own_round: 4, newest: Some(layers[7][usize::from(peer)].reference()) };
    assert!(!node.rejoin(&[newest(1), newest(2)]), "claims that no accepted block backs");
    for block in layers[..8].iter().flatten() {
        node.add_block(block.reference().author, Arc::clone(block), NOW).unwrap();
    }
    assert!(!node.rejoin(&[newest(1)]), "one answer is no quorum with the asker");
    assert!(!node.rejoin(&[newest(1), newest(1), newest(0)]), "nobody answers twice, and nobody for himself");
    let mut liar = newest(3);
    liar.newest = liar.newest.map(|b| kaldrix_types::BlockRef { round: 1_000_000, ..b });
    assert!(node.rejoin(&[newest(1), newest(2), liar]), "a lie neither helps nor keeps out");
    node.propose(9, NOW);
    assert!(proposal(&mut node).is_none(), "round 9 may have been signed on top of round 8");
    for block in layers[8].iter().filter(|b| b.reference().author != OWN) {
        node.add_block(block.reference().author, Arc::clone(block), NOW).unwrap();
    }
    node.propose(10, NOW);
    assert_eq!(proposal(&mut node).map(|p| p.header.round), Some(10));
}

#[test]
fn on_a_new_network_the_first_to_propose_keeps_nobody_out() {
    let committee = committee(4);
    let mut node = node(&committee);
    let first = block(&committee, 1, 1, &committee.genesis_blocks(), 10, 0);
    node.add_block(ValidatorIndex(1), Arc::clone(&first), NOW).unwrap();
    let answers = [(1, Some(first.reference())), (2, None)];
    let answers = answers.map(|(peer, newest)| RejoinAnswer { peer: ValidatorIndex(peer), own_round: 0, newest });
    assert!(node.rejoin(&answers));
    node.propose(1, NOW);
    assert_eq!(proposal(&mut node).map(|p| p.header.round), Some(1));
}
