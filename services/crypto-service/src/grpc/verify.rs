//! VerifyBatch: as many batches at once as there are cores, some more in line, the rest refused.

use crate::core::verify::{BATCH_ITEMS_MAX, Item, MESSAGE_BYTES_MAX, verify_batch};
use crate::metrics::Metrics;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_crypto::Verifier;
use kaldrix_proto::crypto::{VerifyBatchRequest, VerifyBatchResponse, VerifyItem};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tonic::{Response, Status};

/// When a refused caller may come back: a full batch takes about 40 ms of one core.
const RETRY_MS: u32 = 50;

pub(crate) struct Verification {
    verifier: Verifier,
    /// Batches that run or wait.
    admitted: Arc<Semaphore>,
    /// Batches that run.
    threads: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Verification {
    /// `threads` batches run at once and `waiting_max` more wait.
    pub(crate) fn new(verifier: Verifier, threads: usize, waiting_max: usize, metrics: Arc<Metrics>) -> Self {
        let (admitted, threads) = (Arc::new(Semaphore::new(threads + waiting_max)), Arc::new(Semaphore::new(threads)));
        Self { verifier, admitted, threads, metrics }
    }

    pub(super) async fn verify(&self, request: VerifyBatchRequest) -> Result<Response<VerifyBatchResponse>, Status> {
        if request.items.len() > BATCH_ITEMS_MAX {
            return Err(invalid(format!("items: {} are more than the limit of {BATCH_ITEMS_MAX}", request.items.len())));
        }
        if request.items.iter().any(|item| item.message.len() > MESSAGE_BYTES_MAX) {
            return Err(invalid(format!("items: a message has more than {MESSAGE_BYTES_MAX} bytes; sign a hash of it")));
        }
        let Ok(admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            self.metrics.refused_busy.inc();
            return Err(ApiError::new(ErrorCode::Overloaded, "too many batches wait").retry_after(RETRY_MS).into());
        };
        let thread = Arc::clone(&self.threads).acquire_owned().await.map_err(|_| Status::unavailable("stopping"))?;
        let (verifier, metrics) = (self.verifier.clone(), Arc::clone(&self.metrics));
        metrics.batches.inc();
        let work = tokio::task::spawn_blocking(move || {
            let items: Vec<Item> = request.items.into_iter().map(item).collect();
            let valid = verify_batch(&verifier, &items);
            metrics.verdicts(&valid);
            metrics.cached_keys.set(i64::try_from(verifier.keys().len()).unwrap_or(i64::MAX));
            metrics.batches.dec();
            drop((thread, admitted));
            valid
        });
        match work.await {
            Ok(valid) => Ok(Response::new(VerifyBatchResponse { valid })),
            Err(error) => {
                tracing::error!(%error, "a verification thread panicked");
                Err(ApiError::from(ErrorCode::Internal).into())
            }
        }
    }
}

/// A text that is no key is no reason to refuse the other items: nothing holds under it.
fn item(message: VerifyItem) -> Item {
    Item { key: message.key.parse().ok(), message: message.message, signature: message.signature }
}

fn invalid(detail: String) -> Status {
    ApiError::new(ErrorCode::InvalidArgument, detail).into()
}
