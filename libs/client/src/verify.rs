//! Believing the ledger without trusting whoever passes its words on: offline, from the genesis file on.
//!
//! ```no_run
//! # use kaldrix_client::verify::{Item, Proof, verifier, verify_proof};
//! # use kaldrix_types::Genesis;
//! # fn check(genesis: &str, proof: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let (genesis, proof) = (Genesis::from_json(genesis)?, Proof::from_json(proof)?);
//! let verified = verify_proof(&genesis, &proof, &verifier())?;
//! if let Item::Transaction(item) = verified.item {
//!     println!("{} was {:?} by checkpoint {}", item.outcome.id, item.outcome.status, verified.checkpoint.index);
//! }
//! # Ok(())
//! # }
//! ```

use kaldrix_crypto::Verifier;
use kaldrix_types::limits;

pub use kaldrix_checkpoint::{
    AccountItem, EpochChain, Item, Proof, ProofError, RecordItem, TransactionItem, Verified, verify_proof, verify_proof_in,
};

/// Checks real signatures, and keeps one committee's keys prepared.
#[must_use]
pub fn verifier() -> Verifier {
    Verifier::new(limits::VALIDATORS_MAX as u64)
}
