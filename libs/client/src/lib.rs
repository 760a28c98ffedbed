//! The Rust SDK of a Kaldrix ledger: build, sign, submit, wait, stream.
//!
//! ```text
//!   TransactionBuilder ──sign(Signer)──▶ SignedTransaction ──Client::submit──▶ Receipt { status, success, commit, latency_ms }
//!           ▲                                                    │
//!   AccountSession: key index and sequence numbers               │ gRPC, one or more endpoints, the next one when one fails
//!                                                                ▼
//!   Client::watch / subscribe_commits ◀──── streams that resume from their cursor
//! ```
//!
//! [`verify`] checks proofs offline: what a server says need not be believed.
//!
//! Submitting is idempotent: the id is the hash of the body, so the client sends the same bytes again after a broken connection, to the
//! same or another endpoint, until its deadline. A [`Receipt`] is what the ledger said; an error after an unclear failure says that the
//! transaction may still land.
//!
//! What this crate never does: hold a key (it asks a [`Signer`](kaldrix_crypto::Signer)), sign a second transaction in place of one whose
//! outcome is unknown, or show Protobuf types.
//!
//! ```no_run
//! # use kaldrix_client::{AccountSession, Client, ExecuteOptions};
//! # use kaldrix_types::{Address, AssetId};
//! # async fn pay(signer: std::sync::Arc<dyn kaldrix_crypto::Signer>, to: Address) -> Result<(), kaldrix_client::ClientError> {
//! let client = Client::connect("http://127.0.0.1:8080").await?;
//! let session = AccountSession::open(client, signer).await?;
//! let receipt = session.transfer(to, AssetId::NATIVE, 1_000_000_000_000_000_000, &ExecuteOptions::default()).await?;
//! println!("{} is {} in commit {:?}", receipt.id, receipt.status, receipt.commit);
//! # Ok(())
//! # }
//! ```

mod builder;
mod client;
mod convert;
mod endpoint;
mod error;
mod model;
mod session;
mod stream;
mod submit;
mod validator;
pub mod verify;

pub use builder::TransactionBuilder;
pub use client::Client;
pub use endpoint::{ClientOptions, Endpoints};
pub use error::ClientError;
pub use model::{
    AccountInfo, AccountKeyInfo, AssetInfo, BalanceInfo, BlockInfo, CheckpointInfo, CommitInfo, LaneInfo, NetworkInfo, NextEpochInfo,
    NextValidatorInfo, OperationInfo, Page, ParametersInfo, Receipt, TransactionInfo, TransactionStatus, ValidatorInfo, ValidatorSetInfo,
    WaitFor,
};
pub use session::{AccountSession, ExecuteOptions};
pub use submit::PreparedTransaction;
pub use validator::{prove_session_key, register_validator, rotate_session_key};

/// How to trust a server, for `https://` endpoints: a re-export of tonic's own type.
pub use tonic::transport::ClientTlsConfig;
