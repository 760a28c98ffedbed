//! Every decoder of bytes or text that somebody else sends: arbitrary input, and valid input with damage. Whatever decodes must encode to
//! the same bytes again, otherwise one thing would have two encodings and two hashes.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use kaldrix_types::{
    Address, AssetId, Block, BlockRef, CertifiedCheckpoint, ChainId, Checkpoint, CheckpointVote, Commit, CommitVote, CommitteeParts,
    DecodedTransaction, Digest, EquivocationProof, ExecutedCommit, Genesis, Header, KeyRef, MerklePath, NextEpoch, Operation, PublicKey,
    Reputation, Scheme, SignedHeader, SignedTransaction, StateKey, StateValue, TxBody, TxId, TxSignature, Validator, ValidatorIndex,
    decode, encode, parse_amount, split_body,
};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn key() -> PublicKey {
    PublicKey::new(Scheme::Ed25519, vec![3; 32]).unwrap()
}

fn header() -> Header {
    let parent = BlockRef { round: 4, author: ValidatorIndex(1), digest: Digest([5; 32]) };
    Header {
        version: 1,
        chain_id: ChainId(Digest([9; 32])),
        epoch: 2,
        round: 5,
        author: ValidatorIndex(1),
        timestamp_ms: 7,
        parents: vec![parent; 3],
        transactions_root: Digest::ZERO,
        transaction_count: 0,
        body_bytes: 1,
        commit_votes: vec![CommitVote { index: 1, digest: Digest::ZERO }],
        checkpoint_votes: vec![CheckpointVote { index: 1, digest: Digest::ZERO }],
    }
}

fn signed_header() -> SignedHeader {
    SignedHeader { header: header(), signature: Bytes::from_static(&[1; 64]) }
}

fn transaction() -> SignedTransaction {
    let proof = Box::new(EquivocationProof { first: signed_header(), second: signed_header() });
    let register =
        Operation::RegisterValidator { name: "a".into(), region: "b".into(), key: key(), stake: 5, proof: Bytes::from_static(&[1; 64]) };
    let transfer = Operation::Transfer { to: Address([2; 32]), asset: AssetId::NATIVE, amount: 1 };
    let body = TxBody {
        chain_id: ChainId(Digest([9; 32])),
        sender: Address([1; 32]),
        lane: 1,
        sequence: 0,
        valid_until_ms: 1,
        fee: 0,
        operations: vec![transfer, register, Operation::ReportEquivocation { proof }, Operation::LeaveValidators],
        memo: Bytes::new(),
    };
    SignedTransaction { body, signatures: vec![TxSignature { key: KeyRef::Inline(key()), signature: Bytes::from_static(&[0; 64]) }] }
}

fn checkpoint() -> Checkpoint {
    let validator = Validator { name: "a".into(), region: "b".into(), stake: 1, key: key(), operator: Address([4; 32]) };
    Checkpoint {
        version: 1,
        chain_id: ChainId(Digest([9; 32])),
        epoch: 2,
        index: 3,
        previous: Digest::ZERO,
        first_commit: 1,
        last_commit: 9,
        last_commit_digest: Digest::ZERO,
        outcomes_root: Digest::ZERO,
        outcome_count: 0,
        state_root: Digest::ZERO,
        timestamp_ms: 1,
        next_epoch: Some(NextEpoch { start_round: 7, validators: vec![validator] }),
    }
}

fn commit() -> Commit {
    let leader = BlockRef { round: 4, author: ValidatorIndex(1), digest: Digest([5; 32]) };
    let reputation = Reputation { commits: 1, scores: vec![1, 2], effective: vec![], ..Reputation::default() };
    Commit {
        index: 1,
        epoch: 0,
        leader,
        previous: Digest::ZERO,
        timestamp_ms: 1,
        gc_round: 0,
        blocks: vec![leader],
        reputation,
        ends_epoch: true,
    }
}

/// Decodes; whatever decodes encodes to the same bytes.
fn check<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes, usize::MAX) {
        assert_eq!(encode(&value), bytes, "one value, one encoding");
    }
}

fn check_all(bytes: &[u8]) {
    check::<Header>(bytes);
    check::<Block>(bytes);
    check::<SignedTransaction>(bytes);
    check::<SignedHeader>(bytes);
    check::<EquivocationProof>(bytes);
    check::<Checkpoint>(bytes);
    check::<CertifiedCheckpoint>(bytes);
    check::<CommitteeParts>(bytes);
    check::<Commit>(bytes);
    check::<ExecutedCommit>(bytes);
    check::<StateKey>(bytes);
    check::<StateValue>(bytes);
    check::<MerklePath>(bytes);
    check::<PublicKey>(bytes);
    let shared = Bytes::copy_from_slice(bytes);
    let _ = Block::decode(bytes);
    let _ = split_body(&shared);
    let _ = DecodedTransaction::decode(shared, ChainId(Digest([9; 32])));
}

fn samples() -> Vec<Vec<u8>> {
    let certified = CertifiedCheckpoint { checkpoint: checkpoint(), votes: vec![signed_header()] };
    let executed = ExecutedCommit { commit: commit(), headers: vec![header()], outcomes: vec![], bodies: vec![], changes: vec![] };
    let block = Block { header: header(), signature: Bytes::from_static(&[1; 64]), body: Bytes::from_static(&[0]) };
    vec![
        encode(&header()),
        encode(&block),
        encode(&transaction()),
        encode(&certified),
        encode(&commit()),
        encode(&executed),
        encode(&StateKey::Anchor(Address([1; 32]), Digest([2; 32]))),
        encode(&StateValue::Participation(vec![1, 2, 3])),
    ]
}

proptest! {
    #[test]
    fn arbitrary_bytes_decode_to_something_with_these_very_bytes_or_to_an_error(bytes: Vec<u8>) {
        check_all(&bytes);
    }

    #[test]
    fn damaged_valid_bytes_decode_to_something_with_these_very_bytes_or_to_an_error(
        which in 0usize..8, damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<Option<prop::sample::Index>>()
    ) {
        let mut bytes = samples().swap_remove(which);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        check_all(&bytes);
    }

    #[test]
    fn arbitrary_text_is_an_identifier_an_amount_a_key_a_genesis_or_an_error(text in ".{0,200}") {
        let _ = text.parse::<Address>();
        let _ = text.parse::<Digest>();
        let _ = text.parse::<TxId>();
        let _ = text.parse::<PublicKey>();
        let _ = parse_amount(&text, 18);
        let _ = Genesis::from_json(&text);
        let _ = serde_json::from_str::<CertifiedCheckpoint>(&text);
    }
}

#[test]
fn the_samples_themselves_decode() {
    for bytes in samples() {
        check_all(&bytes);
    }
    let json = serde_json::to_string(&CertifiedCheckpoint { checkpoint: checkpoint(), votes: vec![signed_header()] }).unwrap();
    assert_eq!(serde_json::from_str::<CertifiedCheckpoint>(&json).unwrap().votes[0], signed_header());
}
