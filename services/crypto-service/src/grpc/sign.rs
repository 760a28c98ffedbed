//! SignBlock and SignPeerBinding: one key, one request at a time, on a thread that may block.

use crate::core::audit::Outcome;
use crate::core::desk::{DeskError, Signed, SigningDesk};
use crate::core::policy::{PolicyError, Request};
use crate::error::{CryptoServiceError, is_refusal, status};
use crate::metrics::Metrics;
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::crypto::{SignBlockRequest, SignPeerBindingRequest, Signature};
use kaldrix_proto::{DecodeError, digest};
use kaldrix_service_kit::Caller;
use kaldrix_types::{ChainId, TimestampMs};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Response, Status};

/// When a refused caller may come back: a signature takes about a millisecond, most of it the disk's.
const RETRY_MS: u32 = 10;

/// The message as the core has it.
pub(super) fn block(message: &SignBlockRequest) -> Result<Request, DecodeError> {
    Ok(Request::Block {
        chain: ChainId(digest("chain_id", &message.chain_id)?),
        epoch: message.epoch,
        round: message.round,
        digest: digest("digest", &message.digest)?,
    })
}

/// The message as the core has it.
pub(super) fn peer_binding(message: &SignPeerBindingRequest) -> Result<Request, DecodeError> {
    Ok(Request::PeerBinding { chain: ChainId(digest("chain_id", &message.chain_id)?), digest: digest("digest", &message.digest)? })
}

/// The way from a request on the runtime to the desk on a blocking thread.
pub(crate) struct Signing {
    desk: Arc<Mutex<SigningDesk>>,
    waiting: Arc<Semaphore>,
    failures: mpsc::Sender<CryptoServiceError>,
    metrics: Arc<Metrics>,
}

impl Signing {
    /// At most `waiting_max` requests wait for `desk`; what makes signing unsafe goes to `failures`, of which the first counts.
    pub(crate) fn new(desk: SigningDesk, waiting_max: usize, failures: mpsc::Sender<CryptoServiceError>, metrics: Arc<Metrics>) -> Self {
        Self { desk: Arc::new(Mutex::new(desk)), waiting: Arc::new(Semaphore::new(waiting_max)), failures, metrics }
    }

    pub(super) async fn sign(&self, caller: &Caller, request: Request) -> Result<Response<Signature>, Status> {
        let Ok(turn) = Arc::clone(&self.waiting).try_acquire_owned() else {
            self.metrics.refused_busy.inc();
            return Err(ApiError::new(ErrorCode::Overloaded, "too many requests wait for this key").retry_after(RETRY_MS).into());
        };
        let (desk, metrics, caller) = (Arc::clone(&self.desk), Arc::clone(&self.metrics), caller.identity().to_string());
        metrics.signing.inc();
        // The turn goes with the work: a caller that hangs up does not make room for the next one while its request still runs.
        let work = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let result = match desk.lock() {
                Ok(mut desk) => {
                    let result = desk.sign(&request, &caller, now_ms());
                    metrics.signed_up_to(desk.last_signed().1);
                    Ok(result)
                }
                Err(_) => Err(CryptoServiceError::Worker("while it held the key".to_owned())),
            };
            metrics.requested(request.purpose(), result.as_ref().ok().and_then(outcome), begun.elapsed());
            metrics.signing.dec();
            drop(turn);
            result
        });
        match work.await {
            Ok(Ok(Ok(signed))) => Ok(Response::new(Signature { signature: signed.signature })),
            Ok(Ok(Err(refusal))) if is_refusal(&refusal) => {
                tracing::warn!(%refusal, ?request, "refused to sign");
                Err(status(&refusal))
            }
            Ok(Ok(Err(failure))) => {
                let answer = status(&failure);
                self.fail(CryptoServiceError::Signing(failure));
                Err(answer)
            }
            Ok(Err(failure)) => Err(self.fail(failure)),
            Err(join) => Err(self.fail(CryptoServiceError::Worker(join.to_string()))),
        }
    }

    /// Ends the service: the supervisor logs the failure where it handles it.
    fn fail(&self, failure: CryptoServiceError) -> Status {
        // Full: an earlier failure is on its way and counts.
        let _ = self.failures.try_send(failure);
        ApiError::from(ErrorCode::Internal).into()
    }
}

fn outcome(result: &Result<Signed, DeskError>) -> Option<Outcome> {
    match result {
        Ok(signed) => Some(signed.outcome),
        Err(DeskError::Policy(PolicyError::WrongChain { .. } | PolicyError::Purpose(_) | PolicyError::GenesisRound)) => {
            Some(Outcome::RefusedPolicy)
        }
        Err(DeskError::Conflict { .. }) => Some(Outcome::RefusedConflict),
        Err(DeskError::Past { .. }) => Some(Outcome::RefusedPast),
        Err(DeskError::Guard(_) | DeskError::Audit(_) | DeskError::Sign(_)) => None,
    }
}

/// This machine's clock, for the audit log only.
fn now_ms() -> TimestampMs {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
