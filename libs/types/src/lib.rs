//! The words every part of Kaldrix shares: identifiers, transactions, blocks, commits, state records and their one encoding.
//!
//! ```text
//!   bytes ──decode──▶ SignedTransaction ──check──▶ DecodedTransaction ─┐
//!   bytes ──decode──▶ Block ──verify(committee, verifier, now)──▶ VerifiedBlock ──▶ DAG ──▶ Commit ──▶ ExecutedCommit
//! ```
//!
//! Everything that is signed or hashed is BCS (Binary Canonical Serialization), hashed with BLAKE3 in `derive_key` mode with one
//! context per purpose ([`hash::Context`]). Nothing here does I/O, reads a clock, or knows Protobuf.

mod amount;
mod block;
mod checkpoint;
mod codec;
mod commit;
mod committee;
mod genesis;
pub mod hash;
mod ids;
mod keys;
pub mod limits;
mod merkle;
mod reject;
mod signing;
mod state;
mod transaction;

pub use amount::{AmountError, NATIVE_DECIMALS, NATIVE_SYMBOL, format_amount, parse_amount};
pub use block::{Block, BlockError, BlockRef, BlockVerifier, CheckpointVote, CommitVote, Header, VerifiedBlock, encode_body, split_body};
pub use checkpoint::{CertifiedCheckpoint, Checkpoint, CheckpointError, Culprit, EquivocationProof, NextEpoch, SignedHeader};
pub use codec::{CodecError, decode, encode};
pub use commit::{Commit, ExecutedCommit, OutcomeStatus, Reputation, StateChange, TxOutcome};
pub use committee::{Committee, CommitteeError, CommitteeParts, Validator};
pub use genesis::{Genesis, GenesisAccount, GenesisError, Parameters, WEIGHT_UNIT, validator_name_digest};
pub use hash::Digest;
pub use ids::{Address, AssetId, ChainId, CommitIndex, Epoch, IdError, Lane, Round, Sequence, TimestampMs, TxId, ValidatorIndex};
pub use keys::{KeyError, KeyId, PublicKey, Scheme};
pub use merkle::{MerklePath, merkle_path, merkle_root};
pub use reject::RejectCode;
pub use signing::{Purpose, signing_message, validator_key_digest};
pub use state::{
    Account, Anchor, Asset, EpochRecord, KeySlot, Member, StateKey, StateValue, StateValueError, Supply, Unbonding, ValidatorRecord,
    ValidatorStatus,
};
pub use transaction::{DecodedTransaction, KeyRef, Operation, SignedTransaction, TxBody, TxSignature};
