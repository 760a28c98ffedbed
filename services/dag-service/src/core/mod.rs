//! The service's reason to exist: the validator's data-plane state and what reads it. No sockets in here.

mod admission;
mod checkpoints;
mod checks;
mod epoch;
mod feed;
mod handle;
mod hot_state;
mod validator;

pub(crate) use admission::{Clocks, account_of, admission_keys, admit, next_sequence, signing_key};
pub(crate) use checkpoints::Checkpoints;
pub(crate) use checks::{Checked, SignatureChecks};
pub(crate) use epoch::{EpochCell, EpochView};
pub(crate) use feed::{Feed, FeedItem};
pub(crate) use handle::{CoreHandle, Entry, NewEpoch, PendingState, Upward};
pub(crate) use hot_state::{HotState, Snapshot};
pub(crate) use validator::{Outputs, Proposal, Validator, gc_round_after, wall_clock_ms};
