//! The running epoch, as everything outside the core sees it.

use kaldrix_types::{Committee, Parameters, TimestampMs, ValidatorIndex};
use parking_lot::RwLock;
use std::sync::Arc;

/// One epoch and this validator's seat in it.
#[derive(Clone, Debug)]
pub(crate) struct EpochView {
    pub(crate) committee: Arc<Committee>,
    /// [`ValidatorIndex::OBSERVER`] without a seat.
    pub(crate) own: ValidatorIndex,
    /// The first commit at or after this consensus time is the epoch's last.
    pub(crate) ends_at_ms: TimestampMs,
}

impl EpochView {
    /// The epoch of `committee`, which began at `start_ms`, for the validator called `name`.
    pub(crate) fn new(committee: Committee, name: &str, start_ms: TimestampMs, parameters: &Parameters) -> Self {
        let own = committee.index_of(name).unwrap_or(ValidatorIndex::OBSERVER);
        Self { committee: Arc::new(committee), own, ends_at_ms: start_ms.saturating_add(parameters.epoch_ms) }
    }

    pub(crate) fn has_seat(&self) -> bool {
        self.own != ValidatorIndex::OBSERVER
    }
}

/// Where the running epoch is looked up; the core thread sets it.
pub(crate) struct EpochCell(RwLock<EpochView>);

impl EpochCell {
    pub(crate) const fn new(epoch: EpochView) -> Self {
        Self(RwLock::new(epoch))
    }

    pub(crate) fn get(&self) -> EpochView {
        self.0.read().clone()
    }

    pub(super) fn set(&self, epoch: EpochView) {
        *self.0.write() = epoch;
    }
}
