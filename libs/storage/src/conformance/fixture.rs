//! A chain of made-up commits: formed as execution forms them, meaning nothing.

use bytes::Bytes;
use kaldrix_types::{
    Address, AssetId, BlockRef, CertifiedCheckpoint, ChainId, Checkpoint, Commit, CommitIndex, Digest, Epoch, ExecutedCommit, Genesis,
    GenesisAccount, Header, NextEpoch, Operation, OutcomeStatus, Parameters, PublicKey, Reputation, Scheme, SignedHeader, StateChange,
    StateKey, StateValue, TxBody, TxOutcome, Validator, ValidatorIndex, encode,
};

use crate::StoredBlock;

/// A genesis with 1,000 for address 1 and 500 for address 2.
#[must_use]
pub fn genesis(name: &str) -> Genesis {
    let account = |n, amount| GenesisAccount { address: address(n), amount };
    Genesis {
        name: name.to_owned(),
        timestamp_ms: 1,
        parameters: Parameters::default(),
        validators: vec![],
        accounts: vec![account(1, 1_000), account(2, 500)],
    }
}

/// A validator `v{n}` with a stake of `n` whole KDX, operated by address `n`.
#[must_use]
pub fn validator(n: u8) -> Validator {
    let key = PublicKey::new(Scheme::Ed25519, vec![n; 32]).expect("32 bytes are a key");
    Validator { name: format!("v{n}"), region: "eu-west-1".to_owned(), stake: n.into(), key, operator: address(n) }
}

/// An address for each `n`, ascending; the last byte keeps them apart from the reserved ones.
#[must_use]
pub const fn address(n: u8) -> Address {
    let mut bytes = [n; 32];
    bytes[31] = 0x5a;
    Address(bytes)
}

/// A name of a block; its digest is made from `salt`.
#[must_use]
pub const fn block_ref(round: u64, author: u16, salt: u8) -> BlockRef {
    BlockRef { round, author: ValidatorIndex(author), digest: Digest([salt; 32]) }
}

/// A block of `size` bytes that nobody could decode.
#[must_use]
pub fn block(reference: BlockRef, size: usize, own: bool) -> StoredBlock {
    StoredBlock { reference, bytes: vec![reference.author.0 as u8; size].into(), own }
}

/// A record that an address holds so much of the native asset.
#[must_use]
pub fn holds(of: Address, amount: u128) -> StateChange {
    holds_asset(of, AssetId::NATIVE, amount)
}

/// A record that an address holds so much of an asset; 0 removes it.
#[must_use]
pub fn holds_asset(of: Address, asset: AssetId, amount: u128) -> StateChange {
    StateChange { key: StateKey::Balance(of, asset), value: (amount > 0).then_some(StateValue::Balance(amount)) }
}

/// A transfer of 1 from `from` to `to`; different for each sequence number.
#[must_use]
pub fn transfer(from: Address, to: Address, sequence: u64) -> TxBody {
    TxBody {
        chain_id: ChainId::default(),
        sender: from,
        lane: 0,
        sequence,
        valid_until_ms: 10,
        fee: 1,
        operations: vec![Operation::Transfer { to, asset: AssetId::NATIVE, amount: 1 }],
        memo: Bytes::new(),
    }
}

/// Makes commits that follow one another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Chain {
    /// Index of the last one made.
    pub index: CommitIndex,
    /// Its digest.
    pub digest: Digest,
}

impl Chain {
    /// The next commit: two blocks of authors 0 and 1 in the round of the commit's index, the first half of the transactions in the first.
    pub fn commit(&mut self, transactions: Vec<(TxBody, OutcomeStatus)>, changes: Vec<StateChange>) -> ExecutedCommit {
        self.index += 1;
        let salt = |author: u8| Digest([self.index as u8, (self.index >> 8) as u8, author].repeat(11)[..32].try_into().expect("32 bytes"));
        let blocks: Vec<_> = [0u8, 1].map(|a| BlockRef { round: self.index, author: ValidatorIndex(a.into()), digest: salt(a) }).into();
        let half = transactions.len().div_ceil(2);
        let counts = [half, transactions.len() - half];
        let headers = blocks.iter().zip(counts).map(|(block, count)| header(block, count as u32)).collect();
        let commit = Commit {
            index: self.index,
            epoch: 0,
            leader: blocks[0],
            previous: self.digest,
            timestamp_ms: 1_000 * self.index,
            gc_round: 0,
            blocks,
            reputation: Reputation::default(),
            ends_epoch: false,
        };
        self.digest = commit.digest();
        let place = |i: usize| if i < half { (0, i as u32) } else { (1, (i - half) as u32) };
        let outcomes = transactions.iter().enumerate().map(|(i, (body, status))| TxOutcome {
            id: body.id(),
            block: place(i).0,
            position: place(i).1,
            sender: body.sender,
            lane: body.lane,
            sequence: body.sequence,
            status: *status,
        });
        let outcomes = outcomes.collect();
        let bodies = transactions.iter().map(|(body, _)| encode(body).into()).collect();
        ExecutedCommit { commit, headers, outcomes, bodies, changes }
    }

    /// A commit without transactions and changes.
    pub fn empty(&mut self) -> ExecutedCommit {
        self.commit(vec![], vec![])
    }

    /// Successful transfers from address 1 to address 3.
    pub fn transfers(&mut self, sequences: std::ops::Range<u64>) -> ExecutedCommit {
        let transactions = sequences.map(|sequence| (transfer(address(1), address(3), sequence), OutcomeStatus::Success)).collect();
        self.commit(transactions, vec![holds(address(3), 1 + u128::from(self.index))])
    }
}

/// Makes checkpoints that follow one another.
#[derive(Clone, Debug, Default)]
pub struct Checkpoints {
    /// The last one made.
    pub last: Option<Checkpoint>,
}

impl Checkpoints {
    /// The next checkpoint, over these commits, which begin behind the last one's.
    ///
    /// # Panics
    /// Without commits.
    pub fn over(&mut self, commits: &[ExecutedCommit]) -> Checkpoint {
        let (first, last) = (&commits[0], &commits[commits.len() - 1]);
        let before = self.last.as_ref();
        let checkpoint = Checkpoint {
            version: Checkpoint::VERSION,
            chain_id: ChainId::default(),
            epoch: before.map_or(0, |c| c.epoch + Epoch::from(c.next_epoch.is_some())),
            index: before.map_or(1, |c| c.index + 1),
            previous: before.map_or(Digest::ZERO, Checkpoint::digest),
            first_commit: first.commit.index,
            last_commit: last.commit.index,
            last_commit_digest: last.commit.digest(),
            outcomes_root: Digest::ZERO,
            outcome_count: commits.iter().map(|c| c.outcomes.len() as u64).sum(),
            state_root: Digest([last.commit.index as u8; 32]),
            timestamp_ms: last.commit.timestamp_ms,
            next_epoch: None,
        };
        self.last.insert(checkpoint).clone()
    }

    /// The next checkpoint, which ends an epoch: validators 1 to 4 are of the next one.
    ///
    /// # Panics
    /// Without commits.
    pub fn ending_an_epoch(&mut self, commits: &[ExecutedCommit]) -> Checkpoint {
        let mut checkpoint = self.over(commits);
        let start_round = commits[commits.len() - 1].commit.leader.round;
        checkpoint.next_epoch = Some(NextEpoch { start_round, validators: (1..=4).map(validator).collect() });
        self.last.insert(checkpoint).clone()
    }
}

/// A checkpoint with the votes of authors 0 to 2.
#[must_use]
pub fn certified(checkpoint: &Checkpoint) -> CertifiedCheckpoint {
    let vote = |author| {
        let mut header = header(&block_ref(checkpoint.last_commit + 2, author, 0), 0);
        header.epoch = checkpoint.epoch;
        header.checkpoint_votes = vec![checkpoint.vote()];
        SignedHeader { header, signature: vec![author as u8; 64].into() }
    };
    CertifiedCheckpoint { checkpoint: checkpoint.clone(), votes: (0..3).map(vote).collect() }
}

fn header(block: &BlockRef, transaction_count: u32) -> Header {
    Header {
        version: Header::VERSION,
        chain_id: ChainId::default(),
        epoch: 0,
        round: block.round,
        author: block.author,
        timestamp_ms: block.round,
        parents: vec![],
        transactions_root: Digest::ZERO,
        transaction_count,
        body_bytes: 0,
        commit_votes: vec![],
        checkpoint_votes: vec![],
    }
}
