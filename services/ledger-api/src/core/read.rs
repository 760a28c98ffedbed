//! Reads: from the region's read model and the genesis.

use super::cursor::Cursor;
use super::view::{block_header, block_message, stored_commit, stored_transaction};
use super::{Ledger, damaged};
use crate::error::invalid;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::ledger as pb;
use kaldrix_types::{Address, AssetId, CommitIndex, Digest, NATIVE_DECIMALS, NATIVE_SYMBOL, Scheme, StateKey, StateValue, Supply, limits};

/// Entries of a page when the client names no number.
pub const PAGE_DEFAULT: u32 = 50;
/// Entries of a page at most.
pub const PAGE_MAX: u32 = 200;
/// Holdings of an account in one answer.
pub const ACCOUNT_BALANCES_MAX: usize = 1_000;
/// Ids in GetCommit's answer.
pub const COMMIT_TRANSACTIONS_MAX: usize = 1_000;
/// The hash of everything, as `[dag] hash_algorithm` names it.
const HASH_ALGORITHM: &str = "blake3";

fn page_limit(limit: u32) -> Result<usize, ApiError> {
    match limit {
        0 => Ok(PAGE_DEFAULT as usize),
        1..=PAGE_MAX => Ok(limit as usize),
        _ => Err(invalid("limit", format!("use 1 to {PAGE_MAX}"))),
    }
}

impl Ledger {
    /// An account.
    ///
    /// # Errors
    /// ACCOUNT_NOT_FOUND, READ_MODEL_UNAVAILABLE.
    pub async fn account(&self, address: Address) -> Result<pb::Account, ApiError> {
        // The cursor first: the answer reflects at least this commit.
        let as_of_commit = self.read(self.store().cursor()).await?;
        let view = self.read(self.store().account(address, ACCOUNT_BALANCES_MAX)).await?.ok_or(ErrorCode::AccountNotFound)?;
        let account = view.account.unwrap_or_default();
        let mut balances = Vec::with_capacity(view.balances.len());
        for (asset, amount) in view.balances {
            let (symbol, decimals) = self.asset_name(asset).await?;
            balances.push(pb::Balance { asset: asset.to_string(), amount: amount.to_string(), symbol, decimals });
        }
        let keys = account.keys.iter().zip(0u32..).map(|(slot, index)| pb::AccountKey {
            index,
            scheme: slot.key.scheme().to_string(),
            key_id: slot.key.id().to_string(),
        });
        Ok(pb::Account {
            address: address.to_string(),
            balances,
            keys: keys.collect(),
            next_sequence: account.next_sequence,
            lanes: view.lanes.into_iter().map(|(lane, next_sequence)| pb::Lane { lane: lane.into(), next_sequence }).collect(),
            as_of_commit,
        })
    }

    async fn asset_name(&self, asset: AssetId) -> Result<(String, u32), ApiError> {
        if asset == AssetId::NATIVE {
            return Ok((NATIVE_SYMBOL.to_owned(), NATIVE_DECIMALS.into()));
        }
        if let Some(name) = self.asset_names.get(&asset) {
            return Ok(name);
        }
        let Some((definition, _)) = self.read(self.store().asset(asset)).await? else { return Ok(Default::default()) };
        let name = (definition.symbol, u32::from(definition.decimals));
        self.asset_names.insert(asset, name.clone());
        Ok(name)
    }

    /// An account's history, newest first.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, READ_MODEL_UNAVAILABLE.
    pub async fn account_transactions(
        &self,
        address: Address,
        limit: u32,
        after: &str,
    ) -> Result<pb::ListAccountTransactionsResponse, ApiError> {
        let limit = page_limit(limit)?;
        let after = match after {
            "" => None,
            text => {
                let cursor = Cursor::parse("after", text)?;
                let position = cursor.position.ok_or_else(|| invalid("after", "use `next` of the page before"))?;
                Some((cursor.commit, position))
            }
        };
        let rows = self.read(self.store().account_transactions(address, after, limit)).await?;
        let next = match rows.last() {
            Some((entry, _)) if rows.len() == limit => Cursor { commit: entry.commit, position: Some(entry.position) }.to_string(),
            _ => String::new(),
        };
        let mut transactions = rows.iter().map(|(_, row)| damaged(stored_transaction(row))).collect::<Result<Vec<_>, _>>()?;
        transactions.iter_mut().for_each(|transaction| self.note_checkpoint(transaction));
        Ok(pb::ListAccountTransactionsResponse { transactions, next })
    }

    /// A commit with the ids of its first 1,000 transactions.
    ///
    /// # Errors
    /// COMMIT_NOT_FOUND, READ_MODEL_UNAVAILABLE.
    pub async fn commit(&self, index: CommitIndex) -> Result<pb::Commit, ApiError> {
        let row = self.read(self.store().commit(index)).await?.ok_or(ErrorCode::CommitNotFound)?;
        let mut commit = damaged(stored_commit(&row))?;
        let rows = self.read(self.store().commit_transactions(index, None, COMMIT_TRANSACTIONS_MAX)).await?;
        commit.transactions = rows.iter().map(|row| row.id.to_string()).collect();
        Ok(commit)
    }

    /// Commits, newest first.
    ///
    /// # Errors
    /// INVALID_ARGUMENT, READ_MODEL_UNAVAILABLE.
    pub async fn commits(&self, limit: u32, after: &str) -> Result<pb::ListCommitsResponse, ApiError> {
        let limit = page_limit(limit)?;
        let before = match after {
            "" => None,
            text => Some(Cursor::parse("after", text)?.commit),
        };
        let rows = self.read(self.store().commits(before, limit)).await?;
        let next = rows.last().filter(|last| rows.len() == limit && last.index > 1).map_or_else(String::new, |last| last.index.to_string());
        let commits = rows.iter().map(|row| damaged(stored_commit(row))).collect::<Result<_, _>>()?;
        Ok(pb::ListCommitsResponse { commits, next })
    }

    /// A committed block.
    ///
    /// # Errors
    /// BLOCK_NOT_FOUND, READ_MODEL_UNAVAILABLE.
    pub async fn block(&self, digest: Digest) -> Result<pb::Block, ApiError> {
        let (row, transactions) = self.read(self.store().block(digest)).await?.ok_or(ErrorCode::BlockNotFound)?;
        let header = damaged(block_header(&row))?;
        let author = self.author_name(header.epoch, row.author).await?;
        Ok(block_message(&row, &header, &transactions, author))
    }

    /// An asset.
    ///
    /// # Errors
    /// ASSET_NOT_FOUND, READ_MODEL_UNAVAILABLE.
    pub async fn asset(&self, id: AssetId) -> Result<pb::Asset, ApiError> {
        if id == AssetId::NATIVE {
            return Ok(pb::Asset {
                id: id.to_string(),
                symbol: NATIVE_SYMBOL.to_owned(),
                decimals: NATIVE_DECIMALS.into(),
                issuer: String::new(),
                supply: self.native_supply().await?.amount.to_string(),
                maximum_supply: String::new(),
            });
        }
        let (asset, supply) = self.read(self.store().asset(id)).await?.ok_or(ErrorCode::AssetNotFound)?;
        Ok(pb::Asset {
            id: id.to_string(),
            symbol: asset.symbol,
            decimals: asset.decimals.into(),
            issuer: asset.issuer.to_string(),
            supply: supply.amount.to_string(),
            maximum_supply: asset.maximum_supply.to_string(),
        })
    }

    async fn native_supply(&self) -> Result<Supply, ApiError> {
        match self.read(self.store().record(&StateKey::Supply(AssetId::NATIVE))).await? {
            Some(StateValue::Supply(supply)) => Ok(supply),
            _ => Ok(Supply::default()),
        }
    }

    /// The network, as this region sees it.
    ///
    /// # Errors
    /// READ_MODEL_UNAVAILABLE.
    pub async fn network(&self) -> Result<pb::Network, ApiError> {
        let genesis = self.genesis();
        let newest = self.read(self.store().commits(None, 1)).await?.pop();
        let totals = self.read(self.store().totals()).await?;
        let epoch = self.read(self.store().epoch()).await?.unwrap_or_default();
        let mut network = pb::Network {
            name: genesis.name.clone(),
            chain_id: self.chain().to_string(),
            region: self.settings().region.clone(),
            commit_timestamp_ms: genesis.timestamp_ms,
            transaction_count: totals.transactions,
            validator_count: u32::try_from(epoch.members.len()).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            supply: self.native_supply().await?.amount.to_string(),
            faucet: self.parts.faucet.is_some(),
            epoch: epoch.epoch,
            checkpoint_index: self.checkpoints().newest().index,
            ..Default::default()
        };
        (network.finality_p50_ms, network.finality_p99_ms) = self.metrics().recent_finality_ms();
        if let Some(row) = newest {
            network.commit_index = row.index;
            network.commit_digest = row.digest.to_string();
            network.commit_timestamp_ms = row.timestamp_ms;
            network.round = row.leader.round;
        }
        Ok(network)
    }

    /// The rules of the chain.
    #[must_use]
    pub fn parameters(&self) -> pb::Parameters {
        let parameters = &self.genesis().parameters;
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        pb::Parameters {
            minimum_fee: parameters.minimum_fee.to_string(),
            validity_ms_max: parameters.validity_ms_max,
            transaction_bytes_max: count(limits::TRANSACTION_BYTES_MAX),
            operations_max: count(limits::OPERATIONS_MAX),
            memo_bytes_max: count(limits::MEMO_BYTES_MAX),
            signature_algorithms: Scheme::ALL.iter().map(ToString::to_string).collect(),
            hash_algorithm: HASH_ALGORITHM.to_owned(),
            gc_depth: parameters.gc_depth,
            leaders_per_round: parameters.leaders_per_round,
            min_validators: parameters.min_validators,
            block_reward: parameters.block_reward.to_string(),
            native_symbol: NATIVE_SYMBOL.to_owned(),
            native_decimals: NATIVE_DECIMALS.into(),
            epoch_ms: parameters.epoch_ms,
            checkpoint_commits: parameters.checkpoint_commits,
            checkpoint_ms: parameters.checkpoint_ms,
            schedule_commits: parameters.schedule_commits,
            minimum_stake: parameters.minimum_stake.to_string(),
            slash_basis_points: parameters.slash_basis_points,
            jail_epochs: parameters.jail_epochs,
            absence_basis_points: parameters.absence_basis_points,
        }
    }
}
