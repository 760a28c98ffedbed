//! A chain of executed commits made by hand, and a dag-service that serves it.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, reason = "each test binary uses its part")]

pub mod network;

use bytes::Bytes;
use kaldrix_types::{
    Account, Address, AssetId, BlockRef, Commit, CommitIndex, Digest, ExecutedCommit, Genesis, GenesisAccount, Header, Operation,
    OutcomeStatus, Parameters, PublicKey, RejectCode, Reputation, Scheme, StateChange, StateKey, StateValue, TxBody, TxOutcome, Validator,
    ValidatorIndex, encode,
};
use std::collections::BTreeMap;

pub const START_MS: u64 = 1_800_000_000_000;

/// The last byte keeps them apart from the reserved ones.
pub fn address(n: u8) -> Address {
    let mut bytes = [n; 32];
    bytes[31] = 0x5a;
    Address(bytes)
}

pub fn genesis() -> Genesis {
    let validator = |n: u8| Validator {
        name: format!("v{n}"),
        region: "us-east-1".into(),
        stake: 1,
        key: PublicKey::new(Scheme::Ed25519, vec![n + 1; 32]).expect("32 bytes are an Ed25519 key"),
        operator: address(0x40 + n),
    };
    Genesis {
        name: "test".into(),
        timestamp_ms: START_MS,
        parameters: Parameters::default(),
        validators: (0..4).map(validator).collect(),
        accounts: (1..=5).map(|n| GenesisAccount { address: address(n), amount: 1_000_000 }).collect(),
    }
}

pub const REPLAYED: OutcomeStatus = OutcomeStatus::Discarded(RejectCode::SequenceReplayed);
pub const GAP: OutcomeStatus = OutcomeStatus::Discarded(RejectCode::SequenceGap);
pub const POOR: OutcomeStatus = OutcomeStatus::Failed(RejectCode::InsufficientBalance);

/// A transfer of 1 from account `from` to account `to`.
pub fn transfer(from: u8, to: u8, sequence: u64) -> TxBody {
    TxBody {
        chain_id: genesis().chain_id(),
        sender: address(from),
        lane: 0,
        sequence,
        valid_until_ms: START_MS + 60_000,
        fee: 0,
        operations: vec![Operation::Transfer { to: address(to), asset: AssetId::NATIVE, amount: 1 }],
        memo: Bytes::new(),
    }
}

/// Makes one commit after the other.
#[derive(Clone)]
pub struct Chain {
    pub commits: Vec<ExecutedCommit>,
    balances: BTreeMap<Address, u128>,
    /// Goes into leader digests: chains of another salt differ from the first commit on.
    salt: u8,
}

impl Chain {
    pub fn new(salt: u8) -> Self {
        let balances = genesis().accounts.into_iter().map(|a| (a.address, a.amount)).collect();
        Self { commits: Vec::new(), balances, salt }
    }

    pub fn head(&self) -> CommitIndex {
        self.commits.len() as CommitIndex
    }

    pub fn digest(&self) -> Digest {
        self.commits.last().map_or(Digest::ZERO, |c| c.commit.digest())
    }

    /// Appends a commit of one block with these transactions.
    pub fn push(&mut self, transactions: Vec<(TxBody, OutcomeStatus)>) -> ExecutedCommit {
        let index = self.head() + 1;
        let header = self.header(index, transactions.len());
        let commit = Commit {
            index,
            epoch: 0,
            leader: header.reference(),
            previous: self.digest(),
            timestamp_ms: header.timestamp_ms,
            gc_round: 0,
            blocks: vec![header.reference()],
            reputation: Reputation::default(),
            ends_epoch: false,
        };
        let outcomes = (0u32..).zip(&transactions).map(|(position, (body, status))| TxOutcome {
            id: body.id(),
            block: 0,
            position,
            sender: body.sender,
            lane: body.lane,
            sequence: body.sequence,
            status: *status,
        });
        let outcomes = outcomes.collect();
        let executed = ExecutedCommit {
            commit,
            headers: vec![header],
            outcomes,
            bodies: transactions.iter().map(|(body, _)| encode(body).into()).collect(),
            changes: self.changes(&transactions),
        };
        self.commits.push(executed.clone());
        executed
    }

    /// A commit with `n` transfers of account 1, sequences going on.
    pub fn push_transfers(&mut self, n: usize) -> ExecutedCommit {
        let done: u64 = self.commits.iter().map(|c| c.outcomes.len() as u64).sum();
        self.push((0..n as u64).map(|i| (transfer(1, 2 + (i % 4) as u8, done + i), OutcomeStatus::Success)).collect())
    }

    fn header(&self, index: CommitIndex, transactions: usize) -> Header {
        Header {
            version: Header::VERSION,
            chain_id: genesis().chain_id(),
            epoch: 0,
            round: index,
            author: ValidatorIndex((index % 4) as u16),
            timestamp_ms: START_MS + index * 50,
            parents: vec![BlockRef { round: index - 1, author: ValidatorIndex((index % 4) as u16), digest: Digest([self.salt; 32]) }],
            transactions_root: Digest::ZERO,
            transaction_count: transactions as u32,
            body_bytes: 0,
            commit_votes: vec![],
            checkpoint_votes: vec![],
        }
    }

    fn changes(&mut self, transactions: &[(TxBody, OutcomeStatus)]) -> Vec<StateChange> {
        let mut changes = BTreeMap::new();
        for (body, status) in transactions {
            if matches!(status, OutcomeStatus::Discarded(_)) {
                continue;
            }
            let account = Account { keys: vec![], next_sequence: body.sequence + 1 };
            changes.insert(StateKey::Account(body.sender), StateValue::Account(account));
            if *status == OutcomeStatus::Success {
                for operation in &body.operations {
                    let Operation::Transfer { to, asset, amount } = operation else { continue };
                    for (address, delta) in [(body.sender, -(*amount as i128)), (*to, *amount as i128)] {
                        let balance = self.balances.entry(address).or_default();
                        *balance = balance.saturating_add_signed(delta);
                        changes.insert(StateKey::Balance(address, *asset), StateValue::Balance(*balance));
                    }
                }
            }
        }
        changes.into_iter().map(|(key, value)| StateChange { key, value: Some(value) }).collect()
    }
}
