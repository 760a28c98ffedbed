//! The service's reason to exist: the validator's data-plane state and what reads it. No sockets in here.

mod admission;
mod checks;
mod feed;
mod handle;
mod hot_state;
mod validator;

pub(crate) use admission::{Clocks, account_of, admission_keys, admit, next_sequence, signing_key};
pub(crate) use checks::{Checked, SignatureChecks};
pub(crate) use feed::{Feed, FeedItem};
pub(crate) use handle::{CoreHandle, Entry, ExecutedNotice, PendingState, Proposal, Upward};
pub(crate) use hot_state::{HotState, Snapshot};
pub(crate) use validator::{Outputs, Validator, ValidatorConfig, wall_clock_ms};
