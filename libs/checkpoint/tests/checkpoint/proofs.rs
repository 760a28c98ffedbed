use crate::world::{World, address, equal, one_of_each, verifier};
use kaldrix_checkpoint::{EpochChain, Item, Proof, ProofError, verify_proof, verify_proof_in};
use kaldrix_types::{AssetId, CertifiedCheckpoint, CheckpointError, OutcomeStatus, RejectCode, StateKey, StateValue, TxId};

/// Three validator sets, two changes, and everything a record can be.
pub(crate) fn world() -> World {
    let mut world = World::new(10);
    world.commit(2, one_of_each(), None);
    world.end_epoch(equal(1..5));
    world.step(3);
    world.end_epoch(equal(2..7));
    for _ in 0..5 {
        world.step(3);
    }
    assert_eq!(world.committee.epoch(), 2);
    world
}

pub(crate) fn proof_of(world: &World, certified: &CertifiedCheckpoint, item: Item) -> Proof {
    Proof::new(world.ends_before(certified.checkpoint.index), certified.clone(), item)
}

pub(crate) fn transaction_proof(world: &World) -> Proof {
    let certified = world.checkpoints.last().unwrap();
    let outcome = world.outcomes_of(&certified.checkpoint).nth(4).unwrap();
    proof_of(world, certified, Item::transaction(world.outcomes_of(&certified.checkpoint), outcome.id).unwrap())
}

pub(crate) fn account_proof(world: &World, n: u64) -> Proof {
    let [account, balance] = Item::account_keys(address(n), AssetId::NATIVE);
    let prove = |key: StateKey| world.builder.prove(&key, world.state.get(&key).cloned()).unwrap();
    let item = Item::account(address(n), AssetId::NATIVE, prove(account), prove(balance)).unwrap();
    proof_of(world, world.checkpoints.last().unwrap(), item)
}

pub(crate) fn record_proof(world: &World, key: StateKey) -> Proof {
    let proven = world.builder.prove(&key, world.state.get(&key).cloned()).unwrap();
    proof_of(world, world.checkpoints.last().unwrap(), Item::record(key, proven))
}

#[test]
fn a_transaction_is_proven_from_genesis_through_two_changes_of_validators() {
    let world = world();
    for certified in &world.checkpoints {
        for outcome in world.outcomes_of(&certified.checkpoint) {
            let item = Item::transaction(world.outcomes_of(&certified.checkpoint), outcome.id).unwrap();
            let proof = proof_of(&world, certified, item);
            let proof = Proof::from_json(&proof.to_json()).unwrap();
            let verified = verify_proof(&world.genesis, &proof, &verifier()).unwrap();
            assert_eq!(verified.checkpoint, &certified.checkpoint);
            assert!(matches!(verified.item, Item::Transaction(item) if item.outcome == *outcome));
        }
    }
    let last = &world.checkpoints.last().unwrap().checkpoint;
    assert!(Item::transaction(world.outcomes_of(last), TxId::default()).is_none());
}

#[test]
fn accounts_and_all_kinds_of_records_are_proven_and_survive_json() {
    let world = world();
    for n in [0, 7, 12_345] {
        let proof = account_proof(&world, n);
        let read = Proof::from_json(&proof.to_json()).unwrap();
        assert_eq!(read, proof);
        verify_proof(&world.genesis, &read, &verifier()).unwrap();
    }
    let absent = StateKey::Lane(address(99), 9);
    let chain = EpochChain::after(world.epoch_ends().last().unwrap().checkpoint.clone()).unwrap();
    for key in world.state.keys().chain([&absent]) {
        let proof = record_proof(&world, *key);
        let read = Proof::from_json(&proof.to_json()).unwrap();
        assert_eq!(read, proof);
        let verified = verify_proof_in(&chain, &read, &verifier()).unwrap();
        assert!(matches!(verified.item, Item::Record(item) if item.value == world.state.get(key).cloned()));
    }
}

#[test]
fn the_json_of_a_proof_is_readable() {
    let world = world();
    let text = record_proof(&world, StateKey::Balance(address(7), AssetId(kaldrix_types::Digest([5; 32])))).to_json();
    assert!(text.contains(&format!("\"balance\": \"{}\"", u128::MAX - 5)), "amounts are decimal text");
    assert!(text.contains(&address(7).to_string()), "addresses are kx1…");
    assert!(text.contains(&world.checkpoints.last().unwrap().checkpoint.state_root.to_string()), "digests are hexadecimal");
    let owner = address(7);
    let anchor = record_proof(&world, StateKey::Anchor(owner, kaldrix_types::Digest([6; 32]))).to_json();
    assert!(anchor.contains("\"metadata\": \"696e766f6963652037\""), "bytes are hexadecimal");
}

#[test]
fn the_outcome_that_counts_is_proven_when_a_transaction_was_ordered_twice() {
    let mut world = World::new(3);
    let executed = world.next_commit(3, Vec::new(), false);
    let mut outcomes = executed.outcomes.clone();
    outcomes[0].status = OutcomeStatus::Discarded(RejectCode::SequenceGap);
    outcomes[1] = kaldrix_types::TxOutcome { status: OutcomeStatus::Success, position: 1, ..outcomes[0].clone() };
    outcomes[2] = kaldrix_types::TxOutcome { position: 2, ..outcomes[0].clone() };
    let Some(Item::Transaction(item)) = Item::transaction(&outcomes, outcomes[0].id) else { panic!("no item") };
    assert_eq!((item.path.index, item.outcome.status), (1, OutcomeStatus::Success));
}

#[test]
fn a_proof_for_another_chain_is_refused() {
    let world = world();
    let proof = transaction_proof(&world);
    let mut other = world.genesis.clone();
    other.timestamp_ms += 1;
    assert!(verify_proof(&other, &proof, &verifier()).is_err());
    let mut fewer = world.genesis.clone();
    fewer.validators.pop();
    assert!(matches!(verify_proof(&fewer, &proof, &verifier()), Err(ProofError::Genesis(_))));
}

#[test]
fn a_proof_needs_every_epoch_and_only_its_last_checkpoint() {
    let world = world();
    let proof = transaction_proof(&world);
    let mut gap = proof.clone();
    gap.epochs.remove(0);
    assert!(matches!(
        verify_proof(&world.genesis, &gap, &verifier()),
        Err(ProofError::Checkpoint { reason: CheckpointError::WrongEpoch, .. })
    ));
    let mut middle = proof.clone();
    middle.epochs.push(proof.checkpoint.clone());
    assert!(matches!(verify_proof(&world.genesis, &middle, &verifier()), Err(ProofError::NotAnEpochEnd { epoch: 2, .. })));
    // An old validator set cannot vouch for later checkpoints.
    let mut early = proof;
    early.epochs.pop();
    assert!(verify_proof(&world.genesis, &early, &verifier()).is_err());
}

#[test]
fn a_certificate_with_votes_to_spare_is_refused() {
    let mut world = World::new(3);
    for _ in 0..5 {
        world.step(1);
    }
    let checkpoint = world.checkpoints[0].checkpoint.clone();
    let mut proof = transaction_proof(&world);
    let signed = |block: kaldrix_types::VerifiedBlock| kaldrix_types::SignedHeader {
        header: block.header().clone(),
        signature: block.block().signature.clone(),
    };
    proof.checkpoint.votes = (0..4).map(|author| signed(world.block(author, vec![checkpoint.vote()]))).collect();
    proof.checkpoint.verify(&world.committee, &verifier()).unwrap();
    assert_eq!(verify_proof(&world.genesis, &proof, &verifier()).unwrap_err(), ProofError::SurplusVotes(1));
    proof.checkpoint.votes.truncate(2);
    let missing = verify_proof(&world.genesis, &proof, &verifier()).unwrap_err();
    assert!(matches!(missing, ProofError::Checkpoint { reason: CheckpointError::NoQuorum { stake: 20, quorum: 27 }, .. }));
}

#[test]
fn account_parts_of_two_checkpoints_do_not_make_one_proof() {
    let world = world();
    let [account, balance] = Item::account_keys(address(7), AssetId::NATIVE);
    let prove = |key: StateKey| world.builder.prove(&key, world.state.get(&key).cloned()).unwrap();
    let mut other = prove(balance);
    other.checkpoint += 1;
    assert!(Item::account(address(7), AssetId::NATIVE, prove(account), other).is_none());
    let mut wrong = prove(balance);
    wrong.value = Some(StateValue::Lane(1));
    assert!(Item::account(address(7), AssetId::NATIVE, prove(account), wrong).is_none());
}
