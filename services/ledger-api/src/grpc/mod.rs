//! gRPC: the public service, and the clients of the services behind it.

mod ledger;
mod validators;

pub use ledger::LedgerRpc;
pub use validators::{Link, ProofText, ValidatorStatus, Validators};
