//! The handlers of the public API. gRPC and REST both call these and nothing else.

pub mod checkpoints;
mod committee;
pub mod cursor;
pub mod faucet;
pub mod feed;
mod proofs;
mod read;
pub mod recent;
pub mod stream;
mod submit;
pub mod tracker;
pub mod view;

pub use read::{ACCOUNT_BALANCES_MAX, COMMIT_TRANSACTIONS_MAX, PAGE_DEFAULT, PAGE_MAX};
pub use submit::{Level, Submit};

use crate::error::{read, store_error};
use crate::grpc::Validators;
use crate::metrics::Metrics;
use crate::tasks::batcher::Submitter;
use checkpoints::Checkpoints;
use faucet::FaucetHandle;
use feed::Feed;
use kaldrix_api::ApiError;
use kaldrix_crypto::Verifier;
use kaldrix_service_kit::metrics::{Gate, Readiness};
use kaldrix_storage::{RegionStore, TransactionRow};
use kaldrix_types::{AssetId, ChainId, Genesis, TxId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracker::Tracker;

/// Assets whose symbol and decimals, which never change, are kept at hand.
const ASSET_NAMES_MAX: u64 = 10_000;

/// Proofs and checkpoints that are fetched from validators at once: each may be megabytes.
const PROOFS_MAX: usize = 32;

/// Limits and names that handlers need.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Region that answers.
    pub region: String,
    /// How long one read of the read model may take.
    pub read_timeout: Duration,
    /// Longest wait of a submission.
    pub wait_max: Duration,
    /// A stream whose reader takes nothing for this long is cut.
    pub stream_stall: Duration,
    /// Streams open at once.
    pub streams_max: usize,
}

/// What must hold for this service to be ready.
#[derive(Clone, Debug)]
pub struct Gates {
    /// The read model can be read.
    pub store: Gate,
    /// Commit notices flow.
    pub region: Gate,
    /// A validator answers.
    pub validators: Gate,
}

impl Gates {
    /// The gates of one API, all closed.
    #[must_use]
    pub fn new(readiness: &Readiness) -> Self {
        Self { store: readiness.gate("store"), region: readiness.gate("region"), validators: readiness.gate("validators") }
    }
}

/// What a [`Ledger`] is made of.
pub struct Parts {
    /// Limits and names.
    pub settings: Settings,
    /// The chain's definition.
    pub genesis: Genesis,
    /// The region's read model.
    pub store: Arc<dyn RegionStore>,
    /// Where transactions go.
    pub validators: Arc<Validators>,
    /// The queue to them.
    pub submitter: Submitter,
    /// Newest commits.
    pub feed: Feed,
    /// Who waits for what.
    pub tracker: Tracker,
    /// Signature checks.
    pub verifier: Verifier,
    /// Where test money comes from, in development networks.
    pub faucet: Option<FaucetHandle>,
    /// Readiness.
    pub gates: Gates,
    /// Metrics.
    pub metrics: Metrics,
    /// Cancelled when the process stops: streams end then.
    pub closing: CancellationToken,
}

/// The public API's domain functions over everything they need.
pub struct Ledger {
    parts: Parts,
    asset_names: moka::sync::Cache<AssetId, (String, u32)>,
    chain: ChainId,
    streams: Arc<Semaphore>,
    proofs: Semaphore,
    checkpoints: Checkpoints,
}

impl Ledger {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let streams = Arc::new(Semaphore::new(parts.settings.streams_max));
        Self {
            chain: parts.genesis.chain_id(),
            parts,
            asset_names: moka::sync::Cache::new(ASSET_NAMES_MAX),
            streams,
            proofs: Semaphore::new(PROOFS_MAX),
            checkpoints: Checkpoints::default(),
        }
    }

    /// Limits and names.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// The chain's definition.
    #[must_use]
    pub const fn genesis(&self) -> &Genesis {
        &self.parts.genesis
    }

    /// The chain.
    #[must_use]
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// The region's read model.
    #[must_use]
    pub fn store(&self) -> &dyn RegionStore {
        &*self.parts.store
    }

    /// Where transactions go.
    #[must_use]
    pub fn validators(&self) -> &Validators {
        &self.parts.validators
    }

    /// The same, to share.
    #[must_use]
    pub fn validators_handle(&self) -> Arc<Validators> {
        Arc::clone(&self.parts.validators)
    }

    /// Cancelled when the process stops.
    #[must_use]
    pub const fn closing(&self) -> &CancellationToken {
        &self.parts.closing
    }

    /// Newest commits.
    #[must_use]
    pub const fn feed(&self) -> &Feed {
        &self.parts.feed
    }

    /// What the certified checkpoints cover.
    #[must_use]
    pub const fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Who waits for what.
    #[must_use]
    pub const fn tracker(&self) -> &Tracker {
        &self.parts.tracker
    }

    /// Readiness.
    #[must_use]
    pub const fn gates(&self) -> &Gates {
        &self.parts.gates
    }

    /// Metrics.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.parts.metrics
    }

    /// A transaction's stored outcome.
    ///
    /// # Errors
    /// READ_MODEL_UNAVAILABLE.
    pub async fn stored(&self, id: TxId) -> Result<Option<TransactionRow>, ApiError> {
        self.read(self.store().transaction(id)).await
    }

    async fn read<T>(&self, reading: impl Future<Output = Result<T, kaldrix_storage::StoreError>>) -> Result<T, ApiError> {
        read(self.parts.settings.read_timeout, reading).await
    }
}

/// Maps the failure to decode a stored record.
fn damaged<T>(result: Result<T, kaldrix_storage::StoreError>) -> Result<T, ApiError> {
    result.map_err(|e| store_error(&e))
}
