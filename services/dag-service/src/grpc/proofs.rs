//! Checkpoints and proofs from the store, for ledger-api.

use super::dag::DagGrpc;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_checkpoint::{Item, Proof, ProvenRecord};
use kaldrix_proto::dag::GetStateProofResponse;
use kaldrix_storage::StoreError;
use kaldrix_types::{CertifiedCheckpoint, CommitIndex, Epoch, StateKey, TxId, TxOutcome};
use tonic::Status;

const COMMITS_PAGE: usize = 64;
const COMMITS_PAGE_BYTES: usize = 16 << 20;

impl DagGrpc {
    /// The certified checkpoint at `index`, 0 for the newest.
    pub(super) async fn certified(&self, index: u64) -> Result<CertifiedCheckpoint, Status> {
        let found = match index {
            0 => self.store.last_certified().await.map_err(failed)?,
            index => self.store.checkpoint(index).await.map_err(failed)?.and_then(kaldrix_storage::StoredCheckpoint::certified),
        };
        found.ok_or_else(|| Status::not_found("this validator has no certified checkpoint of this index"))
    }

    /// JSON of the proof, and its checkpoint's index.
    pub(super) async fn transaction_proof(&self, id: TxId, commit: CommitIndex) -> Result<(String, u64), Status> {
        let stored = self.store.checkpoint_of_commit(commit).await.map_err(failed)?;
        let Some(certified) = stored.and_then(kaldrix_storage::StoredCheckpoint::certified) else { return Err(not_yet()) };
        let outcomes = self.outcomes(certified.checkpoint.first_commit, certified.checkpoint.last_commit).await?;
        let item = Item::transaction(&outcomes, id).ok_or_else(|| Status::not_found("the commit does not have this transaction"))?;
        self.prove(certified, item).await
    }

    /// For a balance, the proof of the whole account; for any other record, the record's.
    pub(super) async fn state_proof(&self, key: StateKey) -> Result<GetStateProofResponse, Status> {
        let item = match key {
            StateKey::Balance(address, asset) => {
                let [account, balance] = Item::account_keys(address, asset);
                let (account, balance) = (self.record(account).await?, self.record(balance).await?);
                // A checkpoint may have been certified between the two.
                let checkpoint = balance.checkpoint;
                (checkpoint, balance.value.clone(), Item::account(address, asset, account, balance).ok_or_else(not_yet)?)
            }
            key => {
                let proven = self.record(key).await?;
                (proven.checkpoint, proven.value.clone(), Item::record(key, proven))
            }
        };
        let (index, value, item) = item;
        let certified = self.certified(index).await?;
        let (proof, checkpoint_index) = self.prove(certified, item).await?;
        let value = value.map(|v| v.to_bytes().into()).unwrap_or_default();
        Ok(GetStateProofResponse { proof, value, checkpoint_index })
    }

    async fn record(&self, key: StateKey) -> Result<ProvenRecord, Status> {
        let current = self.hot.peek(&[key]).await.map_err(failed)?.remove(&key).flatten();
        self.checkpoints.prove(&key, current).ok_or_else(not_yet)
    }

    async fn prove(&self, certified: CertifiedCheckpoint, item: Item) -> Result<(String, u64), Status> {
        let (index, epoch): (u64, Epoch) = (certified.checkpoint.index, certified.checkpoint.epoch);
        let mut ends = self.store.epoch_ends(0, usize::MAX, usize::MAX).await.map_err(failed)?;
        ends.retain(|end| end.checkpoint.epoch < epoch);
        let proof = Proof::new(ends, certified, item);
        let text = tokio::task::spawn_blocking(move || proof.to_json()).await.map_err(|_| Status::unavailable("stopping"))?;
        Ok((text, index))
    }

    async fn outcomes(&self, first: CommitIndex, last: CommitIndex) -> Result<Vec<TxOutcome>, Status> {
        let (mut outcomes, mut next) = (Vec::new(), first);
        while next <= last {
            let page = self.store.executed(next, COMMITS_PAGE, COMMITS_PAGE_BYTES).await.map_err(failed)?;
            if page.is_empty() {
                return Err(not_yet());
            }
            for executed in page.into_iter().filter(|e| e.commit.index <= last) {
                next = executed.commit.index + 1;
                outcomes.extend(executed.outcomes);
            }
        }
        Ok(outcomes)
    }
}

fn not_yet() -> Status {
    Status::failed_precondition("no certified checkpoint covers this yet: ask again in about a second")
}

fn failed(error: StoreError) -> Status {
    match error {
        StoreError::Pruned { first } => {
            Status::out_of_range(format!("this validator's history begins with commit {first}: ask another validator"))
        }
        error => {
            tracing::warn!(%error, "a proof cannot be made: the store does not answer");
            ApiError::from(ErrorCode::NoValidator).into()
        }
    }
}
