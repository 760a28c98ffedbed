//! From the API's messages to [`crate::model`]: every text is parsed, and a field that cannot be is named.

use crate::ClientError;
use crate::model::{
    AccountInfo, AccountKeyInfo, AssetInfo, BalanceInfo, BlockInfo, CheckpointInfo, CommitInfo, LaneInfo, NetworkInfo, OperationInfo,
    ParametersInfo, TransactionInfo, TransactionStatus, ValidatorInfo, ValidatorSetInfo, WaitFor,
};
use kaldrix_checkpoint::Proof;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{BlockRef, CertifiedCheckpoint, ValidatorIndex, decode};
use std::fmt::Display;
use std::str::FromStr;

/// The votes of a thousand validators stay below this.
const CHECKPOINT_BYTES_MAX: usize = 64 << 20;

type Result<T> = std::result::Result<T, ClientError>;

fn bad(field: &'static str, reason: impl Display) -> ClientError {
    ClientError::Response { field, reason: reason.to_string() }
}

fn text<T: FromStr<Err: Display>>(field: &'static str, value: &str) -> Result<T> {
    value.parse().map_err(|e| bad(field, e))
}

/// Empty means absent.
fn optional<T: FromStr<Err: Display>>(field: &'static str, value: &str) -> Result<Option<T>> {
    if value.is_empty() { Ok(None) } else { text(field, value).map(Some) }
}

/// Empty means zero.
fn amount(field: &'static str, value: &str) -> Result<u128> {
    Ok(optional(field, value)?.unwrap_or(0))
}

fn narrow<T: TryFrom<u32, Error: Display>>(field: &'static str, value: u32) -> Result<T> {
    T::try_from(value).map_err(|e| bad(field, e))
}

fn some_text(value: String) -> Option<String> {
    Some(value).filter(|v| !v.is_empty())
}

const fn nonzero(value: u64) -> Option<u64> {
    if value == 0 { None } else { Some(value) }
}

pub(crate) const fn wait_for(level: WaitFor) -> i32 {
    (match level {
        WaitFor::Accepted => pb::TransactionStatus::Accepted,
        WaitFor::Included => pb::TransactionStatus::Included,
        WaitFor::Final => pb::TransactionStatus::Final,
        WaitFor::Checkpointed => pb::TransactionStatus::Checkpointed,
    }) as i32
}

fn status(value: i32) -> Result<TransactionStatus> {
    use pb::TransactionStatus as P;
    Ok(match P::try_from(value) {
        Ok(P::Accepted) => TransactionStatus::Accepted,
        Ok(P::Included) => TransactionStatus::Included,
        Ok(P::Final) => TransactionStatus::Final,
        Ok(P::Checkpointed) => TransactionStatus::Checkpointed,
        Ok(P::Rejected) => TransactionStatus::Rejected,
        Ok(P::Expired) => TransactionStatus::Expired,
        Ok(P::Unspecified) | Err(_) => return Err(bad("status", format_args!("unknown status {value}"))),
    })
}

pub(crate) fn transaction(m: pb::Transaction) -> Result<TransactionInfo> {
    Ok(TransactionInfo {
        id: text("id", &m.id)?,
        status: status(m.status)?,
        success: m.success,
        code: some_text(m.code),
        detail: some_text(m.detail),
        commit: nonzero(m.commit_index),
        block: optional("block", &m.block)?,
        position: m.position,
        timestamp_ms: nonzero(m.timestamp_ms),
        checkpoint: nonzero(m.checkpoint_index),
        sender: optional("sender", &m.sender)?,
        lane: narrow("lane", m.lane)?,
        sequence: m.sequence,
        fee: amount("fee", &m.fee)?,
        valid_until_ms: m.valid_until_ms,
        operations: m.operations.into_iter().map(operation).collect::<Result<_>>()?,
        memo: m.memo,
    })
}

fn operation(m: pb::Operation) -> Result<OperationInfo> {
    let creates = m.kind == "create_asset";
    let rotates = m.kind == "rotate_key";
    let accuses = m.kind == "report_equivocation";
    Ok(OperationInfo {
        to: optional("to", &m.to)?,
        asset: optional("asset", &m.asset)?,
        amount: optional("amount", &m.amount)?,
        symbol: some_text(m.symbol),
        decimals: creates.then_some(m.decimals),
        maximum_supply: optional("maximum_supply", &m.maximum_supply)?,
        document: optional("document", &m.document)?,
        metadata: some_text(m.metadata),
        key_id: optional("key_id", &m.key_id)?,
        scheme: optional("scheme", &m.scheme)?,
        key_index: rotates.then_some(m.key_index),
        validator_name: some_text(m.validator_name),
        region: some_text(m.region),
        accused_epoch: accuses.then_some(m.accused_epoch),
        accused_round: accuses.then_some(m.accused_round),
        accused_index: accuses.then_some(m.accused_index),
        kind: m.kind,
    })
}

pub(crate) fn account(m: pb::Account) -> Result<AccountInfo> {
    let balance = |b: pb::Balance| {
        Ok(BalanceInfo {
            asset: text("asset", &b.asset)?,
            amount: amount("amount", &b.amount)?,
            symbol: b.symbol,
            decimals: narrow("decimals", b.decimals)?,
        })
    };
    let key = |k: pb::AccountKey| {
        Ok(AccountKeyInfo { index: narrow("index", k.index)?, scheme: text("scheme", &k.scheme)?, key_id: text("key_id", &k.key_id)? })
    };
    let lane = |l: pb::Lane| Ok(LaneInfo { lane: narrow("lane", l.lane)?, next_sequence: l.next_sequence });
    Ok(AccountInfo {
        address: text("address", &m.address)?,
        balances: m.balances.into_iter().map(balance).collect::<Result<_>>()?,
        keys: m.keys.into_iter().map(key).collect::<Result<_>>()?,
        next_sequence: m.next_sequence,
        lanes: m.lanes.into_iter().map(lane).collect::<Result<_>>()?,
        as_of_commit: m.as_of_commit,
    })
}

fn block_ref(m: &pb::BlockRef) -> Result<BlockRef> {
    Ok(BlockRef { round: m.round, author: ValidatorIndex(narrow("author", m.author)?), digest: text("digest", &m.digest)? })
}

pub(crate) fn commit(m: pb::Commit) -> Result<CommitInfo> {
    Ok(CommitInfo {
        index: m.index,
        digest: text("digest", &m.digest)?,
        previous: text("previous", &m.previous)?,
        epoch: m.epoch,
        timestamp_ms: m.timestamp_ms,
        leader: m.leader.as_ref().map(block_ref).transpose()?,
        blocks: m.blocks.iter().map(block_ref).collect::<Result<_>>()?,
        transaction_count: m.transaction_count,
        transactions: m.transactions.iter().map(|t| text("transactions", t)).collect::<Result<_>>()?,
    })
}

pub(crate) fn block(m: pb::Block) -> Result<BlockInfo> {
    let reference = m.reference.as_ref().ok_or_else(|| bad("reference", "absent"))?;
    Ok(BlockInfo {
        reference: block_ref(reference)?,
        author_name: m.author_name,
        timestamp_ms: m.timestamp_ms,
        parents: m.parents.iter().map(block_ref).collect::<Result<_>>()?,
        commit_index: m.commit_index,
        transaction_count: m.transaction_count,
        transactions_root: text("transactions_root", &m.transactions_root)?,
        transactions: m.transactions.iter().map(|t| text("transactions", t)).collect::<Result<_>>()?,
    })
}

pub(crate) fn asset(m: pb::Asset) -> Result<AssetInfo> {
    Ok(AssetInfo {
        id: text("id", &m.id)?,
        symbol: m.symbol,
        decimals: narrow("decimals", m.decimals)?,
        issuer: optional("issuer", &m.issuer)?,
        supply: amount("supply", &m.supply)?,
        maximum_supply: optional("maximum_supply", &m.maximum_supply)?,
    })
}

pub(crate) fn network(m: pb::Network) -> Result<NetworkInfo> {
    Ok(NetworkInfo {
        name: m.name,
        chain_id: text("chain_id", &m.chain_id)?,
        region: m.region,
        epoch: m.epoch,
        commit_index: m.commit_index,
        commit_digest: optional("commit_digest", &m.commit_digest)?,
        commit_timestamp_ms: m.commit_timestamp_ms,
        round: m.round,
        transaction_count: m.transaction_count,
        validator_count: m.validator_count,
        version: m.version,
        supply: amount("supply", &m.supply)?,
        faucet: m.faucet,
        finality_p50_ms: m.finality_p50_ms,
        finality_p99_ms: m.finality_p99_ms,
        checkpoint_index: nonzero(m.checkpoint_index),
    })
}

pub(crate) fn validator_set(m: pb::ListValidatorsResponse) -> Result<ValidatorSetInfo> {
    Ok(ValidatorSetInfo {
        epoch: m.epoch,
        epoch_start_ms: m.epoch_start_ms,
        epoch_start_round: m.epoch_start_round,
        next_epoch_estimate_ms: m.next_epoch_estimate_ms,
        validators: m.validators.into_iter().map(validator).collect::<Result<_>>()?,
    })
}

fn validator(m: pb::Validator) -> Result<ValidatorInfo> {
    Ok(ValidatorInfo {
        index: m.in_committee.then(|| narrow("index", m.index).map(ValidatorIndex)).transpose()?,
        in_committee: m.in_committee,
        operator: text("operator", &m.operator)?,
        status: m.status,
        jailed_until_epoch: nonzero(m.jailed_until_epoch),
        bonded: amount("bonded", &m.bonded)?,
        unbonding: amount("unbonding", &m.unbonding)?,
        name: m.name,
        region: m.region,
        stake: amount("stake", &m.stake)?,
        scheme: m.scheme,
        key_id: m.key_id,
        last_round: m.last_round,
    })
}

pub(crate) fn parameters(m: pb::Parameters) -> Result<ParametersInfo> {
    Ok(ParametersInfo {
        minimum_fee: amount("minimum_fee", &m.minimum_fee)?,
        validity_ms_max: m.validity_ms_max,
        transaction_bytes_max: m.transaction_bytes_max,
        operations_max: m.operations_max,
        memo_bytes_max: m.memo_bytes_max,
        signature_algorithms: m.signature_algorithms,
        hash_algorithm: m.hash_algorithm,
        gc_depth: m.gc_depth,
        leaders_per_round: m.leaders_per_round,
        min_validators: m.min_validators,
        block_reward: amount("block_reward", &m.block_reward)?,
        native_symbol: m.native_symbol,
        native_decimals: m.native_decimals,
        epoch_ms: m.epoch_ms,
        checkpoint_commits: m.checkpoint_commits,
        checkpoint_ms: m.checkpoint_ms,
        schedule_commits: m.schedule_commits,
        minimum_stake: amount("minimum_stake", &m.minimum_stake)?,
        slash_basis_points: m.slash_basis_points,
        jail_epochs: m.jail_epochs,
        absence_basis_points: m.absence_basis_points,
    })
}

/// Everything follows from the certified bytes: the fields beside them are for readers without BCS.
pub(crate) fn checkpoint(m: &pb::Checkpoint) -> Result<CheckpointInfo> {
    let certified: CertifiedCheckpoint = decode(&m.certified, CHECKPOINT_BYTES_MAX).map_err(|e| bad("certified", e))?;
    Ok(certified.into())
}

pub(crate) fn proof(json: &str) -> Result<Proof> {
    Proof::from_json(json).map_err(|e| bad("proof_json", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_damaged_field_names_the_field() {
        let message = pb::Transaction { id: "xyz".into(), status: 3, ..Default::default() };
        assert!(matches!(transaction(message), Err(ClientError::Response { field: "id", .. })));
        let message = pb::Transaction { id: "00".repeat(32), status: 99, ..Default::default() };
        assert!(matches!(transaction(message), Err(ClientError::Response { field: "status", .. })));
    }

    #[test]
    fn absent_fields_are_absent_and_not_zero() {
        let message = pb::Transaction { id: "00".repeat(32), status: 1, ..Default::default() };
        let info = transaction(message).unwrap();
        assert_eq!((info.commit, info.block, info.sender, info.timestamp_ms), (None, None, None, None));
    }
}
