//! Before the first proposal with an empty store: ask the others for this validator's own last block (PROTOCOL, "After a restart").
//!
//! A validator that lost its disk may have signed blocks it does not remember. f + 1 of stake holds at least one correct validator
//! that knows the newest of them that mattered; proposals begin above it.

use crate::core::CoreHandle;
use crate::error::DagError;
use crate::tasks::network::Intake;
use kaldrix_p2p::{BlockNetwork, PeerRequest, PeerResponse};
use kaldrix_types::{Committee, ValidatorIndex};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(50);

/// Returns once peers with f + 1 of stake have answered.
///
/// # Errors
/// Only when the core has stopped.
pub(crate) async fn ask_for_own_last_block(
    committee: &Committee,
    own: ValidatorIndex,
    network: &Arc<dyn BlockNetwork>,
    intake: &Intake,
    core: &CoreHandle,
) -> Result<(), DagError> {
    let mut answered = HashSet::new();
    let stake = |set: &HashSet<ValidatorIndex>| set.iter().map(|v| committee.stake(*v)).sum::<u64>();
    let needed = committee.validity().min(committee.total_stake() - committee.stake(own));
    while stake(&answered) < needed {
        for peer in network.connected() {
            if answered.contains(&peer) {
                continue;
            }
            if let Ok(PeerResponse::Blocks(blocks)) = network.request(peer, PeerRequest::LastOwnBlock(own)).await {
                for bytes in blocks {
                    // Its round counts even where the block itself is too far ahead to be taken in yet.
                    if let Some(reference) = intake.name(bytes.clone()).await.filter(|r| r.author == own) {
                        core.own_round(reference.round).await?;
                    }
                    intake.take(peer, bytes).await;
                }
                answered.insert(peer);
            }
        }
        if stake(&answered) < needed {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}
