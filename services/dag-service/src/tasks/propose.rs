//! From an unsigned proposal to a block on its way: durable first, then signed, then sent.
//!
//! The unsigned block is durable before the signature is asked for. After a crash at any moment in between, the same bytes are
//! there to be signed again, so a round is neither lost nor signed twice (PROTOCOL, "Blocks": the digest covers the unsigned header).

use crate::core::{CoreHandle, EpochCell, Proposal};
use crate::error::DagError;
use crate::metrics::Metrics;
use crate::tasks::persist;
use bytes::Bytes;
use kaldrix_api::clients::CryptoServiceClient;
use kaldrix_crypto::Verifier;
use kaldrix_p2p::BlockNetwork;
use kaldrix_proto::crypto::SignBlockRequest;
use kaldrix_storage::StoredBlock;
use kaldrix_types::{Block, BlockRef, KeyId, encode};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::Instrument;

/// The last own block as it was sent, for sending it again.
pub(crate) type LastOwn = Arc<Mutex<Option<(BlockRef, Bytes)>>>;

/// What this task needs.
pub(crate) struct Propose {
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) crypto: CryptoServiceClient<Channel>,
    pub(crate) verifier: Verifier,
    pub(crate) core: CoreHandle,
    pub(crate) persist: mpsc::Sender<persist::Item>,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) last_own: LastOwn,
    pub(crate) metrics: Arc<Metrics>,
}

impl Propose {
    /// Runs until cancelled or the proposals end.
    ///
    /// # Errors
    /// Only when the core has stopped.
    pub(crate) async fn run(mut self, mut proposals: mpsc::Receiver<Proposal>, cancel: CancellationToken) -> Result<(), DagError> {
        loop {
            let proposal = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                next = proposals.recv() => next,
            };
            let Some(proposal) = proposal else { return Ok(()) };
            let span = crate::tasks::span("propose", proposal.traceparents.first().map(String::as_str));
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                result = self.propose(proposal).instrument(span) => result?,
            }
        }
    }

    async fn propose(&mut self, proposal: Proposal) -> Result<(), DagError> {
        let Proposal { proposal, is_durable, .. } = proposal;
        let reference = proposal.header.reference();
        let epoch = self.epoch.get();
        let Some(seat) = epoch.committee.get(epoch.own).filter(|_| proposal.header.epoch == epoch.committee.epoch()) else {
            // The epoch changed meanwhile: nobody waits for this block any more, and its transactions wait for another one.
            return Ok(());
        };
        let key = seat.key.id();
        let mut block = Block { header: proposal.header, signature: Bytes::new(), body: proposal.body };
        if !is_durable {
            let (reply, durable) = oneshot::channel();
            let stored = StoredBlock { reference, bytes: encode(&block).into(), own: true };
            if self.persist.send(persist::Item::Proposal(stored, reply)).await.is_err() || durable.await.is_err() {
                return Ok(());
            }
        }
        let Some(signature) = self.sign(reference, &block, key).await else {
            return self.core.proposal_refused(reference.round, proposal.transactions).await;
        };
        block.signature = signature;
        let bytes: Bytes = encode(&block).into();
        // A block that our own rules refuse must not leave this machine; it would be a defect here.
        let verified = match block.verify_own(proposal.transactions, &epoch.committee, &self.verifier) {
            Ok(verified) => Arc::new(verified),
            Err(error) => {
                tracing::error!(%error, %reference, "an own block breaks the rules and is not sent; does crypto-service hold this validator's key?");
                // Whatever is wrong with it may be in a transaction: they are not proposed again.
                return self.core.proposal_refused(reference.round, Vec::new()).await;
            }
        };
        self.network.push(bytes.clone());
        *self.last_own.lock() = Some((reference, bytes.clone()));
        self.metrics.proposed(verified.transactions().len(), bytes.len());
        // The core stores it: the signature itself may be lost, it is made again for the same digest.
        self.core.own_block(verified, bytes).await
    }

    /// Asks until crypto-service answers; `None` when it refuses for good.
    async fn sign(&mut self, reference: BlockRef, block: &Block, key: KeyId) -> Option<Bytes> {
        let mut pause_ms = 20;
        loop {
            let request = SignBlockRequest {
                chain_id: Bytes::copy_from_slice(block.header.chain_id.as_bytes()),
                epoch: block.header.epoch,
                round: reference.round,
                digest: Bytes::copy_from_slice(reference.digest.as_bytes()),
                key_id: Bytes::copy_from_slice(&key.0),
            };
            match self.crypto.sign_block(kaldrix_service_kit::telemetry::request(request)).await {
                Ok(signature) => return Some(signature.into_inner().signature),
                Err(status)
                    if matches!(
                        status.code(),
                        tonic::Code::FailedPrecondition | tonic::Code::AlreadyExists | tonic::Code::InvalidArgument
                    ) =>
                {
                    tracing::warn!(%reference, reason = status.message(), "crypto-service refuses to sign; the round is left out");
                    return None;
                }
                Err(status) => {
                    tracing::warn!(%reference, code = ?status.code(), reason = status.message(), pause_ms, "crypto-service does not answer; asking again");
                    tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    pause_ms = (pause_ms * 2).min(1_000);
                }
            }
        }
    }
}

/// Sends the last own block again while no newer one replaces it: whoever missed it, or was not there, gets it (PROTOCOL, "After a restart").
/// Soon at first: after a crash of all nobody may be able to go on without it.
pub(crate) async fn rebroadcast(last_own: LastOwn, network: Arc<dyn BlockNetwork>, cancel: CancellationToken) -> Result<(), DagError> {
    const QUIET: Duration = Duration::from_secs(1);
    const QUIET_FIRST: Duration = Duration::from_millis(100);
    let mut quiet = QUIET_FIRST;
    let mut before = last_own.lock().as_ref().map(|(reference, _)| *reference);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = tokio::time::sleep(quiet) => {}
        }
        let last = last_own.lock().clone();
        let Some((reference, bytes)) = last else { continue };
        if before == Some(reference) {
            network.push(bytes);
            quiet = (quiet * 2).min(QUIET);
        } else {
            quiet = QUIET;
        }
        before = Some(reference);
    }
}
