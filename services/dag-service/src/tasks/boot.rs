//! Before the first proposal of a validator that remembers no own block: ask the others how far it may have signed.
//!
//! crypto-service's guard remembers, on a disk of its own. If it was lost as well, and made anew for the old key, the others are asked
//! (`kaldrix_dag::RejoinAnswer` says why that is enough; docs/adr/0013).

use crate::core::{CoreHandle, EpochCell};
use crate::error::DagError;
use crate::tasks::network::Intake;
use bytes::Bytes;
use kaldrix_api::clients::CryptoServiceClient;
use kaldrix_dag::RejoinAnswer;
use kaldrix_p2p::{BlockNetwork, PeerRequest, PeerResponse};
use kaldrix_proto::crypto::{GetLastSignedRequest, GetLastSignedResponse};
use kaldrix_types::{KeyId, ValidatorIndex};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const PAUSE: Duration = Duration::from_millis(50);
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What this task needs.
pub(crate) struct Boot {
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) intake: Intake,
    pub(crate) core: CoreHandle,
    pub(crate) crypto: CryptoServiceClient<Channel>,
    /// The store knows no own block of the epoch.
    pub(crate) never_signed: bool,
}

impl Boot {
    /// Returns when this validator may propose.
    ///
    /// # Errors
    /// Only when the core has stopped.
    pub(crate) async fn run(mut self) -> Result<(), DagError> {
        let epoch = self.epoch.get();
        if !self.never_signed {
            return Ok(());
        }
        let Some(seat) = epoch.committee.get(epoch.own) else { return Ok(()) };
        let last = self.last_signed(seat.key.id()).await;
        if !last.complete {
            ask_how_far_signed(&self.epoch, &self.network, &self.intake, &self.core).await?;
        } else if last.epoch == epoch.committee.epoch() {
            self.core.own_round(last.round).await?;
        }
        Ok(())
    }

    /// What crypto-service's guard remembers; asks until it answers.
    async fn last_signed(&mut self, key: KeyId) -> GetLastSignedResponse {
        let request = GetLastSignedRequest { key_id: Bytes::copy_from_slice(key.as_bytes()) };
        loop {
            match self.crypto.get_last_signed(kaldrix_service_kit::telemetry::request(request.clone())).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => tracing::info!(code = ?status.code(), reason = status.message(), "waiting for crypto-service"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Returns once the answers of a quorum, with this validator, are backed by blocks that are here.
///
/// # Errors
/// Only when the core has stopped.
async fn ask_how_far_signed(
    running: &EpochCell,
    network: &Arc<dyn BlockNetwork>,
    intake: &Intake,
    core: &CoreHandle,
) -> Result<(), DagError> {
    let mut answers: BTreeMap<ValidatorIndex, RejoinAnswer> = BTreeMap::new();
    let mut asked: Option<Instant> = None;
    let mut epoch = running.get();
    loop {
        let now = running.get();
        if now.committee.epoch() != epoch.committee.epoch() {
            // A snapshot led to another epoch: what was signed there is another question.
            (epoch, asked) = (now, None);
            answers.clear();
        }
        if epoch.committee.get(epoch.own).is_none() {
            return Ok(());
        }
        // Who answered with a block that never gets here is asked again now and then, with everybody else.
        if asked.is_none_or(|at| at.elapsed() > ASK_AGAIN) || answers.len() < network.connected().len() {
            asked = Some(Instant::now());
            let mut asking: JoinSet<Option<RejoinAnswer>> = JoinSet::new();
            for peer in network.connected() {
                let (network, intake, own) = (Arc::clone(network), intake.clone(), epoch.own);
                asking.spawn(async move { tokio::time::timeout(ANSWER_MAX, ask(&network, &intake, peer, own)).await.ok().flatten() });
            }
            while let Some(answer) = asking.join_next().await {
                answers.extend(answer.ok().flatten().map(|answer| (answer.peer, answer)));
            }
        }
        if core.rejoin(answers.values().copied().collect()).await? {
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What `peer` knows of this validator's newest block, and its own newest one; `None` when it does not answer.
async fn ask(network: &Arc<dyn BlockNetwork>, intake: &Intake, peer: ValidatorIndex, own: ValidatorIndex) -> Option<RejoinAnswer> {
    let (mut own_round, mut newest) = (0, None);
    for author in [own, peer] {
        let Ok(PeerResponse::Blocks(blocks)) = network.request(peer, PeerRequest::LastOwnBlock(author)).await else { return None };
        for bytes in blocks {
            // Its round counts even where the block itself is too far ahead to be taken in yet.
            let named = intake.name(bytes.clone()).await.filter(|r| r.author == author);
            intake.take(peer, bytes).await;
            // A peer that is in another epoch says nothing about this one.
            let reference = named?;
            if author == own {
                own_round = own_round.max(reference.round);
            } else {
                newest = Some(reference);
            }
        }
    }
    Some(RejoinAnswer { peer, own_round, newest })
}
