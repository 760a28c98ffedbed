//! Commits, blocks, assets and the network as JSON.

use super::some;
use kaldrix_proto::ledger as pb;
use serde::Serialize;
use utoipa::ToSchema;

/// A reference to a block.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct BlockRef {
    /// Its round.
    pub round: u64,
    /// Index of its author.
    pub author: u32,
    /// Its digest.
    pub digest: String,
}

impl From<pb::BlockRef> for BlockRef {
    fn from(b: pb::BlockRef) -> Self {
        Self { round: b.round, author: b.author, digest: b.digest }
    }
}

/// A commit: one leader with everything it brings.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Commit {
    /// Position in the order, from 1.
    pub index: u64,
    /// Its digest.
    pub digest: String,
    /// Digest of the commit before.
    pub previous: String,
    /// The epoch.
    pub epoch: u64,
    /// Consensus time, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The leader.
    pub leader: Option<BlockRef>,
    /// All blocks, by (round, author, digest).
    pub blocks: Vec<BlockRef>,
    /// How many transactions they hold.
    pub transaction_count: u32,
    /// Ids of the first 1,000; only when one commit is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transactions: Option<Vec<String>>,
}

impl Commit {
    /// With its transactions' ids.
    #[must_use]
    pub fn with_transactions(mut commit: pb::Commit) -> Self {
        let transactions = Some(std::mem::take(&mut commit.transactions));
        Self { transactions, ..Self::from(commit) }
    }
}

impl From<pb::Commit> for Commit {
    fn from(c: pb::Commit) -> Self {
        Self {
            index: c.index,
            digest: c.digest,
            previous: c.previous,
            epoch: c.epoch,
            timestamp_ms: c.timestamp_ms,
            leader: c.leader.map(BlockRef::from),
            blocks: c.blocks.into_iter().map(BlockRef::from).collect(),
            transaction_count: c.transaction_count,
            transactions: None,
        }
    }
}

/// A page of commits, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CommitPage {
    /// The commits.
    pub commits: Vec<Commit>,
    /// Give it as `after` for the next page; null at the end.
    pub next: Option<String>,
}

impl From<pb::ListCommitsResponse> for CommitPage {
    fn from(page: pb::ListCommitsResponse) -> Self {
        Self { commits: page.commits.into_iter().map(Commit::from).collect(), next: some(page.next) }
    }
}

/// A committed block.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Block {
    /// Round, author and digest.
    pub reference: Option<BlockRef>,
    /// Name of its author.
    pub author_name: String,
    /// Its author's clock, milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Blocks it refers to.
    pub parents: Vec<BlockRef>,
    /// The commit it is part of.
    pub commit_index: u64,
    /// How many transactions it holds.
    pub transaction_count: u32,
    /// Merkle root over them.
    pub transactions_root: String,
    /// Ids of those whose outcome it brought.
    pub transactions: Vec<String>,
}

impl From<pb::Block> for Block {
    fn from(b: pb::Block) -> Self {
        Self {
            reference: b.reference.map(BlockRef::from),
            author_name: b.author_name,
            timestamp_ms: b.timestamp_ms,
            parents: b.parents.into_iter().map(BlockRef::from).collect(),
            commit_index: b.commit_index,
            transaction_count: b.transaction_count,
            transactions_root: b.transactions_root,
            transactions: b.transactions,
        }
    }
}

/// An asset.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Asset {
    /// Its id.
    pub id: String,
    /// Its symbol.
    pub symbol: String,
    /// Its decimals.
    pub decimals: u32,
    /// Who may mint; null for KDX.
    pub issuer: Option<String>,
    /// Smallest units that exist.
    pub supply: String,
    /// Upper bound of the supply; null for KDX.
    pub maximum_supply: Option<String>,
}

impl From<pb::Asset> for Asset {
    fn from(a: pb::Asset) -> Self {
        let (issuer, maximum_supply) = (some(a.issuer), some(a.maximum_supply));
        Self { id: a.id, symbol: a.symbol, decimals: a.decimals, issuer, supply: a.supply, maximum_supply }
    }
}

/// The network, as this region sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Hash of its genesis; every signature carries it.
    pub chain_id: String,
    /// Region that answers.
    pub region: String,
    /// The epoch.
    pub epoch: u64,
    /// Newest commit readable here.
    pub commit_index: u64,
    /// Its digest; null before the first.
    pub commit_digest: Option<String>,
    /// Its consensus time, milliseconds since 1970.
    pub commit_timestamp_ms: u64,
    /// Round of its leader.
    pub round: u64,
    /// Transactions that took effect or failed.
    pub transaction_count: u64,
    /// Validators of the epoch.
    pub validator_count: u32,
    /// Version of this server.
    pub version: String,
    /// Total supply of KDX in smallest units.
    pub supply: String,
    /// Whether the faucet is on.
    pub faucet: bool,
    /// Median time from hand-over to readable commit of the last minute's payments here, milliseconds; 0 without any.
    pub finality_p50_ms: u32,
    /// Its 99th percentile.
    pub finality_p99_ms: u32,
    /// Newest checkpoint that a quorum vouches for; null before the first.
    pub checkpoint_index: Option<u64>,
}

impl From<pb::Network> for Network {
    fn from(n: pb::Network) -> Self {
        Self {
            name: n.name,
            chain_id: n.chain_id,
            region: n.region,
            epoch: n.epoch,
            commit_index: n.commit_index,
            commit_digest: some(n.commit_digest),
            commit_timestamp_ms: n.commit_timestamp_ms,
            round: n.round,
            transaction_count: n.transaction_count,
            validator_count: n.validator_count,
            version: n.version,
            supply: n.supply,
            faucet: n.faucet,
            finality_p50_ms: n.finality_p50_ms,
            finality_p99_ms: n.finality_p99_ms,
            checkpoint_index: (n.checkpoint_index > 0).then_some(n.checkpoint_index),
        }
    }
}

/// The validators and the running epoch.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Validators {
    /// The running epoch.
    pub epoch: u64,
    /// Consensus time at which it began, milliseconds since 1970.
    pub epoch_start_ms: u64,
    /// Round that it began at.
    pub epoch_start_round: u64,
    /// The next epoch begins with the first commit after this consensus time, milliseconds since 1970.
    pub next_epoch_estimate_ms: u64,
    /// The running epoch's committee in index order, then the registered validators without a seat.
    pub validators: Vec<Validator>,
}

impl From<pb::ListValidatorsResponse> for Validators {
    fn from(list: pb::ListValidatorsResponse) -> Self {
        let validator = |v: pb::Validator| Validator {
            index: v.in_committee.then_some(v.index),
            in_committee: v.in_committee,
            operator: v.operator,
            status: v.status,
            jailed_until_epoch: (v.jailed_until_epoch > 0).then_some(v.jailed_until_epoch),
            bonded: v.bonded,
            unbonding: v.unbonding,
            name: v.name,
            region: v.region,
            stake: v.stake,
            scheme: v.scheme,
            key_id: v.key_id,
            last_round: v.last_round,
        };
        Self {
            epoch: list.epoch,
            epoch_start_ms: list.epoch_start_ms,
            epoch_start_round: list.epoch_start_round,
            next_epoch_estimate_ms: list.next_epoch_estimate_ms,
            validators: list.validators.into_iter().map(validator).collect(),
        }
    }
}

/// A validator.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Validator {
    /// What blocks name their author by; null without a seat in the running epoch.
    pub index: Option<u32>,
    /// Whether it has a seat in the running epoch.
    pub in_committee: bool,
    /// Its unique name.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// Account that bonds its stake, is paid and is slashed.
    pub operator: String,
    /// active, leaving or jailed.
    pub status: String,
    /// First epoch in which a jailed validator may ask to return.
    pub jailed_until_epoch: Option<u64>,
    /// Voting weight in the running epoch, decimal: whole KDX.
    pub stake: String,
    /// Bonded now, smallest units of KDX; counts from the next epoch on.
    pub bonded: String,
    /// On its way back to the operator, smallest units of KDX.
    pub unbonding: String,
    /// How it signs blocks.
    pub scheme: String,
    /// Hash of its public key.
    pub key_id: String,
    /// Round of its newest committed block that came by since this API started.
    pub last_round: u64,
}

/// The rules of the chain.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Parameters {
    /// Least fee of a transaction, smallest units of KDX.
    pub minimum_fee: String,
    /// How far ahead of consensus time `valid_until_ms` may be.
    pub validity_ms_max: u64,
    /// A signed transaction's bytes at most.
    pub transaction_bytes_max: u32,
    /// Operations of a transaction at most.
    pub operations_max: u32,
    /// A memo's bytes at most.
    pub memo_bytes_max: u32,
    /// Schemes that accounts may use.
    pub signature_algorithms: Vec<String>,
    /// The ledger's hash.
    pub hash_algorithm: String,
    /// Rounds below the last committed leader that a commit still includes.
    pub gc_depth: u64,
    /// Leader slots per round.
    pub leaders_per_round: u32,
    /// Least number of validators.
    pub min_validators: u32,
    /// Paid per epoch, smallest units of KDX.
    pub block_reward: String,
    /// Symbol of the native asset.
    pub native_symbol: String,
    /// Its decimals.
    pub native_decimals: u32,
    /// Least length of an epoch in consensus time, milliseconds.
    pub epoch_ms: u64,
    /// Most commits of one checkpoint.
    pub checkpoint_commits: u64,
    /// Longest consensus time between two checkpoints while there are transactions, milliseconds.
    pub checkpoint_ms: u64,
    /// Commits after which leaders are chosen anew by reputation; 0: never.
    pub schedule_commits: u32,
    /// Least stake of a validator, smallest units of KDX.
    pub minimum_stake: String,
    /// What an equivocation costs, in ten-thousandths of the stake.
    pub slash_basis_points: u32,
    /// Full epochs that a jailed validator sits out.
    pub jail_epochs: u64,
    /// A validator with blocks in fewer than this many ten-thousandths of an epoch's commits is jailed.
    pub absence_basis_points: u32,
}

impl From<pb::Parameters> for Parameters {
    fn from(p: pb::Parameters) -> Self {
        Self {
            minimum_fee: p.minimum_fee,
            validity_ms_max: p.validity_ms_max,
            transaction_bytes_max: p.transaction_bytes_max,
            operations_max: p.operations_max,
            memo_bytes_max: p.memo_bytes_max,
            signature_algorithms: p.signature_algorithms,
            hash_algorithm: p.hash_algorithm,
            gc_depth: p.gc_depth,
            leaders_per_round: p.leaders_per_round,
            min_validators: p.min_validators,
            block_reward: p.block_reward,
            native_symbol: p.native_symbol,
            native_decimals: p.native_decimals,
            epoch_ms: p.epoch_ms,
            checkpoint_commits: p.checkpoint_commits,
            checkpoint_ms: p.checkpoint_ms,
            schedule_commits: p.schedule_commits,
            minimum_stake: p.minimum_stake,
            slash_basis_points: p.slash_basis_points,
            jail_epochs: p.jail_epochs,
            absence_basis_points: p.absence_basis_points,
        }
    }
}

/// Whether this API can do its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not_ready`.
    pub status: &'static str,
    /// What stands in the way, as `gate: reason`.
    pub obstacles: Vec<String>,
}
