//! From stored rows and tracked progress to the messages of the public API.

use crate::core::tracker::{Executed, Known, Progress};
use kaldrix_api::ErrorCode;
use kaldrix_proto::ledger as pb;
use kaldrix_storage::{BlockRow, CommitRow, StoreError, TransactionRow};
use kaldrix_types::{
    BlockRef, CertifiedCheckpoint, Commit, EquivocationProof, Header, Operation, OutcomeStatus, PublicKey, RejectCode, TxBody, TxId,
    Validator, ValidatorIndex, decode, encode, limits,
};

/// Bound for our own stored records when they are read back.
const RECORD_BYTES_MAX: usize = 64 << 20;

/// A stored transaction.
///
/// # Errors
/// [`StoreError::Damaged`] when its body cannot be decoded.
pub fn stored_transaction(row: &TransactionRow) -> Result<pb::Transaction, StoreError> {
    let body: TxBody = decode(&row.body, limits::TRANSACTION_BYTES_MAX)?;
    let mut message = transaction_of_body(row.id, &body);
    let executed = Executed { commit_index: row.commit, position: row.position, timestamp_ms: row.timestamp_ms, status: row.status };
    put_executed(&mut message, executed);
    message.block = row.block.to_string();
    Ok(message)
}

/// A transaction that is not in the store, as far as it has come.
#[must_use]
pub fn tracked_transaction(id: TxId, known: &Known) -> pb::Transaction {
    let mut message = match &known.body {
        Some(body) => transaction_of_body(id, body),
        None => pb::Transaction { id: id.to_string(), ..Default::default() },
    };
    match known.progress {
        Progress::Handed => {}
        Progress::Accepted => message.set_status(pb::TransactionStatus::Accepted),
        Progress::Included => message.set_status(pb::TransactionStatus::Included),
        Progress::Executed(executed) => put_executed(&mut message, executed),
        Progress::Dropped(code) => put_refusal(&mut message, code),
        Progress::Expired => put_refusal(&mut message, ErrorCode::Reject(RejectCode::Expired)),
    }
    message
}

fn put_executed(message: &mut pb::Transaction, executed: Executed) {
    message.commit_index = executed.commit_index;
    message.position = executed.position;
    message.timestamp_ms = executed.timestamp_ms;
    match executed.status {
        OutcomeStatus::Success => {
            message.set_status(pb::TransactionStatus::Final);
            message.success = true;
        }
        OutcomeStatus::Failed(code) => {
            message.set_status(pb::TransactionStatus::Final);
            message.code = code.as_str().to_owned();
            message.detail = code.help().to_owned();
        }
        OutcomeStatus::Discarded(code) => put_refusal(message, ErrorCode::Reject(code)),
    }
}

fn put_refusal(message: &mut pb::Transaction, code: ErrorCode) {
    let expired = code == ErrorCode::Reject(RejectCode::Expired);
    message.set_status(if expired { pb::TransactionStatus::Expired } else { pb::TransactionStatus::Rejected });
    message.code = code.as_str().to_owned();
    message.detail = code.help().to_owned();
}

fn transaction_of_body(id: TxId, body: &TxBody) -> pb::Transaction {
    pb::Transaction {
        id: id.to_string(),
        sender: body.sender.to_string(),
        lane: body.lane.into(),
        sequence: body.sequence,
        fee: body.fee.to_string(),
        valid_until_ms: body.valid_until_ms,
        operations: body.operations.iter().map(operation).collect(),
        memo: hex::encode(&body.memo),
        ..Default::default()
    }
}

fn operation(operation: &Operation) -> pb::Operation {
    let empty = pb::Operation::default();
    match operation {
        Operation::Transfer { to, asset, amount } => {
            pb::Operation { kind: "transfer".into(), to: to.to_string(), asset: asset.to_string(), amount: amount.to_string(), ..empty }
        }
        Operation::CreateAsset { symbol, decimals, initial_supply, maximum_supply } => pb::Operation {
            kind: "create_asset".into(),
            symbol: symbol.clone(),
            decimals: (*decimals).into(),
            amount: initial_supply.to_string(),
            maximum_supply: maximum_supply.to_string(),
            ..empty
        },
        Operation::Mint { asset, to, amount } => {
            pb::Operation { kind: "mint".into(), to: to.to_string(), asset: asset.to_string(), amount: amount.to_string(), ..empty }
        }
        Operation::Burn { asset, amount } => {
            pb::Operation { kind: "burn".into(), asset: asset.to_string(), amount: amount.to_string(), ..empty }
        }
        Operation::Anchor { document, metadata } => {
            pb::Operation { kind: "anchor".into(), document: document.to_string(), metadata: hex::encode(metadata), ..empty }
        }
        Operation::RegisterKey { key } => {
            pb::Operation { kind: "register_key".into(), key_id: key.id().to_string(), scheme: key.scheme().to_string(), ..empty }
        }
        Operation::RotateKey { index, key } => pb::Operation {
            kind: "rotate_key".into(),
            key_index: (*index).into(),
            key_id: key.id().to_string(),
            scheme: key.scheme().to_string(),
            ..empty
        },
        Operation::RegisterValidator { name, region, key, stake, proof: _ } => pb::Operation {
            validator_name: name.clone(),
            region: region.clone(),
            amount: stake.to_string(),
            ..session_key("register_validator", key)
        },
        Operation::Stake { amount } => pb::Operation { kind: "stake".into(), amount: amount.to_string(), ..empty },
        Operation::Unstake { amount } => pb::Operation { kind: "unstake".into(), amount: amount.to_string(), ..empty },
        Operation::RotateSessionKey { key, proof: _ } => session_key("rotate_session_key", key),
        Operation::LeaveValidators => pb::Operation { kind: "leave_validators".into(), ..empty },
        Operation::Unjail => pb::Operation { kind: "unjail".into(), ..empty },
        Operation::ReportEquivocation { proof } => equivocation(proof),
    }
}

fn session_key(kind: &str, key: &PublicKey) -> pb::Operation {
    pb::Operation { kind: kind.to_owned(), key_id: key.id().to_string(), scheme: key.scheme().to_string(), ..Default::default() }
}

fn equivocation(proof: &EquivocationProof) -> pb::Operation {
    // Which validator that is follows from the epoch's committee.
    let accused = &proof.first.header;
    pb::Operation {
        kind: "report_equivocation".into(),
        accused_epoch: accused.epoch,
        accused_round: accused.round,
        accused_index: accused.author.0.into(),
        ..Default::default()
    }
}

/// A reference to a block.
#[must_use]
pub fn block_ref(reference: &BlockRef) -> pb::BlockRef {
    pb::BlockRef { round: reference.round, author: u32::from(reference.author.0), digest: reference.digest.to_string() }
}

/// A stored commit, without its transactions' ids.
///
/// # Errors
/// [`StoreError::Damaged`] when its bytes cannot be decoded.
pub fn stored_commit(row: &CommitRow) -> Result<pb::Commit, StoreError> {
    let commit: Commit = decode(&row.bytes, RECORD_BYTES_MAX)?;
    Ok(pb::Commit {
        index: row.index,
        digest: row.digest.to_string(),
        previous: row.previous.to_string(),
        epoch: row.epoch,
        timestamp_ms: row.timestamp_ms,
        leader: Some(block_ref(&row.leader)),
        blocks: commit.blocks.iter().map(block_ref).collect(),
        transaction_count: row.transaction_count,
        transactions: Vec::new(),
    })
}

/// A stored block's header.
///
/// # Errors
/// [`StoreError::Damaged`] when it cannot be decoded.
pub fn block_header(row: &BlockRow) -> Result<Header, StoreError> {
    Ok(decode(&row.header, limits::HEADER_BYTES_MAX)?)
}

/// A stored block.
#[must_use]
pub fn block_message(row: &BlockRow, header: &Header, transactions: &[TxId], author_name: String) -> pb::Block {
    pb::Block {
        reference: Some(block_ref(&BlockRef { round: row.round, author: row.author, digest: row.digest })),
        timestamp_ms: row.timestamp_ms,
        parents: header.parents.iter().map(block_ref).collect(),
        commit_index: row.commit,
        transaction_count: row.transaction_count,
        transactions_root: header.transactions_root.to_string(),
        transactions: transactions.iter().map(ToString::to_string).collect(),
        author_name,
    }
}

/// A checkpoint with who vouches for it.
#[must_use]
pub fn checkpoint_message(certified: &CertifiedCheckpoint) -> pb::Checkpoint {
    let checkpoint = &certified.checkpoint;
    let next = |(validator, index): (&Validator, u32)| pb::Validator {
        index,
        name: validator.name.clone(),
        region: validator.region.clone(),
        stake: validator.stake.to_string(),
        scheme: validator.key.scheme().to_string(),
        key_id: validator.key.id().to_string(),
        operator: validator.operator.to_string(),
        status: "active".into(),
        in_committee: true,
        ..Default::default()
    };
    let (next_start_round, next_validators) = match &checkpoint.next_epoch {
        Some(epoch) => (epoch.start_round, epoch.validators.iter().zip(0u32..).map(next).collect()),
        None => (0, Vec::new()),
    };
    pb::Checkpoint {
        index: checkpoint.index,
        digest: checkpoint.digest().to_string(),
        previous: checkpoint.previous.to_string(),
        epoch: checkpoint.epoch,
        first_commit: checkpoint.first_commit,
        last_commit: checkpoint.last_commit,
        last_commit_digest: checkpoint.last_commit_digest.to_string(),
        outcomes_root: checkpoint.outcomes_root.to_string(),
        outcome_count: checkpoint.outcome_count,
        state_root: checkpoint.state_root.to_string(),
        timestamp_ms: checkpoint.timestamp_ms,
        voters: certified.votes.iter().map(|vote| u32::from(vote.header.author.0)).collect(),
        ends_epoch: checkpoint.next_epoch.is_some(),
        next_start_round,
        next_validators,
        certified: encode(certified).into(),
    }
}

/// Index of an author as a position in the committee.
#[must_use]
pub fn author_position(author: u32) -> usize {
    u16::try_from(author).map_or(usize::MAX, |a| ValidatorIndex(a).as_usize())
}
