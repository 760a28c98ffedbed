//! Tells the network who belongs to it: the committee of the running epoch, and everybody who is registered.

use crate::core::{EpochCell, HotState};
use crate::peers::Binder;
use kaldrix_p2p::{BlockNetwork, Candidate, Membership};
use kaldrix_types::{Committee, ExecutedCommit, PublicKey, StateKey, StateValue};
use std::sync::Arc;

/// See the module's text.
#[derive(Clone)]
pub(crate) struct Members {
    pub(crate) network: Arc<dyn BlockNetwork>,
    pub(crate) hot: Arc<HotState>,
    pub(crate) epoch: Arc<EpochCell>,
    pub(crate) binder: Arc<tokio::sync::Mutex<Binder>>,
    /// This validator's name and its first session key.
    pub(crate) own: (String, PublicKey),
}

impl Members {
    /// Whether a commit changed who belongs to the network.
    pub(crate) fn is_changed_by(executed: &ExecutedCommit) -> bool {
        executed.changes.iter().any(|change| matches!(change.key, StateKey::Validator(_)))
    }

    /// Takes over what the ledger says now.
    pub(crate) async fn refresh(&self) {
        let epoch = self.epoch.get();
        let mut candidates = vec![Candidate { name: self.own.0.clone(), key: self.own.1.clone() }];
        match self.registered().await {
            Ok(registered) => candidates.extend(registered),
            // The committee alone is enough to go on; the next change tries again.
            Err(error) => tracing::warn!(%error, "the registered validators cannot be read"),
        }
        self.network.set_membership(Arc::new(membership(&epoch.committee, epoch.has_seat(), candidates)));
    }

    /// A new epoch has begun: the seats are others, and this validator's session key may be.
    pub(crate) async fn enter(&self) {
        let epoch = self.epoch.get();
        if let Some(seat) = epoch.committee.get(epoch.own) {
            let mut binder = self.binder.lock().await;
            if *binder.key() != seat.key {
                let binding = binder.bind(&seat.key).await;
                self.network.set_binding(binding);
            }
        }
        self.refresh().await;
    }

    async fn registered(&self) -> Result<Vec<Candidate>, kaldrix_storage::StoreError> {
        let epoch = self.hot.peek(&[StateKey::Epoch]).await?;
        let Some(Some(StateValue::Epoch(epoch))) = epoch.get(&StateKey::Epoch) else { return Ok(Vec::new()) };
        let keys: Vec<StateKey> = epoch.candidates.iter().map(|operator| StateKey::Validator(*operator)).collect();
        let records = self.hot.peek(&keys).await?;
        let mut candidates = Vec::new();
        for value in keys.iter().filter_map(|key| records.get(key)) {
            let Some(StateValue::Validator(record)) = value else { continue };
            // A peer may be an epoch ahead or behind.
            for key in [Some(&record.key), record.next_key.as_ref(), record.previous_key.as_ref()].into_iter().flatten() {
                candidates.push(Candidate { name: record.name.clone(), key: key.clone() });
            }
        }
        Ok(candidates)
    }
}

/// One without a seat does not know who has one today: it hears everybody, and believes what proves itself.
pub(crate) fn membership(committee: &Committee, has_seat: bool, candidates: Vec<Candidate>) -> Membership {
    let membership = Membership::new(committee, candidates);
    if has_seat { membership } else { membership.open() }
}
