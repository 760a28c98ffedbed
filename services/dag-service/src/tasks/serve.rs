//! What a validator that was away asks for: certified checkpoints, the state at the newest one, executed commits.

use crate::core::Checkpoints;
use bytes::Bytes;
use kaldrix_p2p::{CATCH_UP_BYTES_MAX, PeerRequest, PeerResponse};
use kaldrix_storage::{StoreError, StoredCheckpoint, ValidatorStore};
use kaldrix_types::{CertifiedCheckpoint, CommitIndex, StateKey, encode};
use std::sync::Arc;

/// Records read for one page: some 500 KB without large accounts.
const RECORDS_MAX: usize = 4_096;
const COMMITS_MAX: usize = 512;
/// Room for what is around the items of an answer.
const BYTES_MAX: usize = CATCH_UP_BYTES_MAX - 64 * 1024;

/// The answer to a request that is not about blocks.
pub(crate) async fn answer(
    store: &Arc<dyn ValidatorStore>,
    checkpoints: &Checkpoints,
    request: PeerRequest,
) -> Result<PeerResponse, StoreError> {
    match request {
        PeerRequest::Checkpoints { from_index, epoch_ends_only, limit } => {
            let found = certified(store, from_index, epoch_ends_only, limit as usize).await?;
            Ok(PeerResponse::Checkpoints(found.iter().map(|c| Bytes::from(encode(c))).collect()))
        }
        PeerRequest::StatePage { after, limit } => state_page(store, checkpoints, after, limit as usize).await,
        PeerRequest::Executed { from, limit_bytes } => executed(store, from, (limit_bytes as usize).min(BYTES_MAX)).await,
        PeerRequest::ExecutedPart { index, offset } => part(store, index, offset).await,
        PeerRequest::Blocks(_) | PeerRequest::BlocksAbove { .. } | PeerRequest::LastOwnBlock(_) => {
            Ok(PeerResponse::Refused("blocks are answered elsewhere".to_owned()))
        }
    }
}

async fn certified(
    store: &Arc<dyn ValidatorStore>,
    from_index: u64,
    epoch_ends_only: bool,
    limit: usize,
) -> Result<Vec<CertifiedCheckpoint>, StoreError> {
    if from_index == 0 {
        return Ok(store.last_certified().await?.into_iter().collect());
    }
    if epoch_ends_only {
        let epoch = store.checkpoint(from_index).await?.map_or(0, |stored| stored.checkpoint.epoch);
        let ends = store.epoch_ends(epoch, limit, BYTES_MAX).await?;
        return Ok(ends.into_iter().filter(|c| c.checkpoint.index >= from_index).collect());
    }
    let stored = store.checkpoints_from(from_index, limit, BYTES_MAX).await?;
    // Who follows them back from a certified one looks at their digests only, and one who was away has missed the votes for some.
    let link = |StoredCheckpoint { checkpoint, votes }| CertifiedCheckpoint { checkpoint, votes: votes.unwrap_or_default() };
    Ok(stored.into_iter().map(link).collect())
}

/// As of the newest certified checkpoint where the old values are known; else as it is now.
async fn state_page(
    store: &Arc<dyn ValidatorStore>,
    checkpoints: &Checkpoints,
    after: Option<StateKey>,
    limit: usize,
) -> Result<PeerResponse, StoreError> {
    let limit = limit.clamp(1, RECORDS_MAX);
    let (mut at, mut records, mut is_last);
    let mut from = after;
    loop {
        let page = store.state_page(from, limit).await?;
        is_last = page.records.len() < limit;
        let end = page.records.last().map(|(key, _)| *key);
        (at, records) = match checkpoints.page_at_certified(from.as_ref(), is_last, &page.records) {
            // What is stored may be behind what is executed, and so behind what is certified.
            Some((commit, records)) if commit <= page.at => (commit, records),
            _ => (page.at, page.records),
        };
        if is_last || !records.is_empty() {
            break;
        }
        // All of these records are younger than the checkpoint.
        from = end;
    }
    let mut bytes = encode(&records);
    while bytes.len() > BYTES_MAX && records.len() > 1 {
        // Accounts with many large keys: the asker goes on from where this ends.
        records.truncate(records.len() / 2);
        bytes = encode(&records);
        is_last = false;
    }
    Ok(PeerResponse::StatePage { at, records: bytes.into(), is_last })
}

async fn executed(store: &Arc<dyn ValidatorStore>, from: CommitIndex, limit_bytes: usize) -> Result<PeerResponse, StoreError> {
    let mut size = 0;
    let mut items = Vec::new();
    for commit in store.executed(from, COMMITS_MAX, limit_bytes).await? {
        let bytes = Bytes::from(encode(&commit));
        if items.is_empty() && bytes.len() > BYTES_MAX {
            return Ok(PeerResponse::Part { total_bytes: bytes.len() as u64, bytes: bytes.slice(..BYTES_MAX) });
        }
        size += bytes.len();
        if size > limit_bytes && !items.is_empty() {
            break;
        }
        items.push(bytes);
    }
    Ok(PeerResponse::Executed(items))
}

async fn part(store: &Arc<dyn ValidatorStore>, index: CommitIndex, offset: u64) -> Result<PeerResponse, StoreError> {
    let Some(commit) = store.executed(index, 1, usize::MAX).await?.pop().filter(|e| e.commit.index == index) else {
        return Ok(PeerResponse::Refused("no such commit".to_owned()));
    };
    let bytes = Bytes::from(encode(&commit));
    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
    let to = from.saturating_add(BYTES_MAX).min(bytes.len());
    Ok(PeerResponse::Part { total_bytes: bytes.len() as u64, bytes: bytes.slice(from..to) })
}
