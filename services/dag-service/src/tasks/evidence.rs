//! Reports equivocations: two signed headers become a transaction that slashes their author (PROTOCOL, "Epochs, validators, slashing").
//!
//! The transaction is signed with this validator's session key, whose account needs no funds: a report owes no fee. Every validator that
//! sees the two blocks reports them; the first report that is ordered counts, and the others find that there is nothing left to do.

use crate::core::{CoreHandle, Entry, EpochCell, HotState};
use crate::error::DagError;
use bytes::Bytes;
use kaldrix_api::clients::CryptoServiceClient;
use kaldrix_proto::crypto::SignEvidenceRequest;
use kaldrix_types::{
    Address, DecodedTransaction, EquivocationProof, KeyRef, Lane, Operation, Parameters, SignedHeader, SignedTransaction, StateKey,
    StateValue, TxBody, TxSignature, VerifiedBlock, encode,
};
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A report is given up after this much consensus time; another validator's has landed by then.
const VALID_MS: u64 = 60_000;

/// What this task needs.
pub(crate) struct Evidence {
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) crypto: CryptoServiceClient<Channel>,
    pub(crate) core: CoreHandle,
    pub(crate) hot: Arc<HotState>,
    pub(crate) parameters: Parameters,
}

impl Evidence {
    /// Runs until cancelled.
    ///
    /// # Errors
    /// Only when the core has stopped.
    pub(crate) async fn run(
        mut self,
        mut found: mpsc::Receiver<(Arc<VerifiedBlock>, Arc<VerifiedBlock>)>,
        cancel: CancellationToken,
    ) -> Result<(), DagError> {
        loop {
            let pair = tokio::select! {
                biased;
                () = cancel.cancelled() => return Ok(()),
                pair = found.recv() => pair,
            };
            let Some((first, second)) = pair else { return Ok(()) };
            if let Some(entry) = self.report(&first, &second).await {
                let id = entry.tx.id();
                let result = self.core.add_transactions(vec![entry]).await?;
                tracing::warn!(first = %first.reference(), second = %second.reference(), %id, ?result, "an equivocation was reported");
            }
        }
    }

    /// The report, ready for the mempool; `None` when there is nothing to report, or nobody to sign it.
    async fn report(&mut self, first: &VerifiedBlock, second: &VerifiedBlock) -> Option<Entry> {
        let epoch = self.epoch.get();
        let committee = &epoch.committee;
        let key = &committee.get(epoch.own)?.key;
        let accused = committee.get(first.reference().author).filter(|_| first.header().epoch == committee.epoch())?;
        let sender = Address::of_key(key);
        // A lane for each culprit, so that one report never waits for another.
        let lane = Lane::try_from(first.reference().author.0 % 255 + 1).unwrap_or(1);
        let keys = [StateKey::Account(sender), StateKey::Validator(accused.operator), StateKey::Lane(sender, lane)];
        let state = self.hot.peek(&keys).await.ok()?;
        if let Some(Some(StateValue::Validator(record))) = state.get(&keys[1])
            && record.slashed_epoch == Some(committee.epoch())
        {
            return None;
        }
        let signed = |b: &VerifiedBlock| SignedHeader { header: b.header().clone(), signature: b.block().signature.clone() };
        let proof = Box::new(EquivocationProof { first: signed(first), second: signed(second) });
        let next_sequence = if let Some(Some(StateValue::Lane(next))) = state.get(&keys[2]) { *next } else { 0 };
        let body = TxBody {
            chain_id: committee.chain(),
            sender,
            lane,
            sequence: next_sequence,
            valid_until_ms: self.hot.consensus_time_ms() + VALID_MS.min(self.parameters.validity_ms_max),
            fee: 0,
            operations: vec![Operation::ReportEquivocation { proof }],
            memo: Bytes::new(),
        };
        let request = SignEvidenceRequest { body: encode(&body).into(), key_id: Bytes::copy_from_slice(&key.id().0) };
        let answer = match self.crypto.sign_evidence(kaldrix_service_kit::telemetry::request(request)).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                tracing::warn!(reason = status.message(), "an equivocation cannot be reported: crypto-service does not sign");
                return None;
            }
        };
        let signatures = vec![TxSignature { key: KeyRef::Inline(key.clone()), signature: answer.signature }];
        let bytes = encode(&SignedTransaction { body, signatures });
        let tx = Arc::new(DecodedTransaction::decode(bytes.into(), committee.chain()).ok()?);
        Some(Entry { tx, next_sequence, traceparent: String::new() })
    }
}
