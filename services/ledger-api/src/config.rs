//! What this service takes from the configuration, checked, with the limits that are not configurable beside it.

use crate::core;
use kaldrix_service_kit::Config;
use std::path::PathBuf;
use std::time::Duration;

/// Why the configuration does not do.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Nowhere to hand transactions to.
    #[error("api.dag_endpoints is empty: name at least one dag-service as host:port")]
    NoValidator,
    /// A limit of nothing.
    #[error("{0} must be above zero")]
    Zero(&'static str),
}

/// Settings of one API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the handlers need.
    pub core: core::Settings,
    /// Requests under way at most.
    pub concurrent_requests_max: usize,
    /// Requests per second and client; 0: no limit.
    pub requests_per_second: u32,
    /// Request body (and gRPC message) at most, bytes.
    pub body_bytes_max: usize,
    /// Let browsers of other origins call.
    pub cors: bool,
    /// Key of the faucet's account, if there is a faucet.
    pub faucet_key_file: Option<PathBuf>,
    /// Transactions waiting to be handed over.
    pub queue_transactions: usize,
    /// Bytes of them.
    pub queue_bytes: usize,
    /// Transactions on their way that are remembered.
    pub tracked_transactions: usize,
    /// Public keys kept prepared.
    pub verifier_keys: u64,
    /// What a request may take beyond the longest wait.
    pub request_slack: Duration,
}

impl Default for Settings {
    /// For tests and tools: no region name, no faucet.
    fn default() -> Self {
        Self {
            core: core::Settings {
                region: String::new(),
                read_timeout: Duration::from_secs(5),
                wait_max: Duration::from_secs(30),
                stream_stall: Duration::from_secs(15),
                streams_max: 4_096,
            },
            concurrent_requests_max: 4_096,
            requests_per_second: 0,
            body_bytes_max: 256 * 1024,
            cors: false,
            faucet_key_file: None,
            queue_transactions: 8_192,
            queue_bytes: 64 << 20,
            tracked_transactions: 65_536,
            verifier_keys: 4_096,
            request_slack: Duration::from_secs(20),
        }
    }
}

impl Settings {
    /// Takes what concerns this service.
    ///
    /// # Errors
    /// [`SettingsError`] naming the key.
    pub fn from_config(config: &Config) -> Result<Self, SettingsError> {
        let api = &config.api;
        if api.dag_endpoints.is_empty() {
            return Err(SettingsError::NoValidator);
        }
        for (name, zero) in [
            ("api.max_body_bytes", api.max_body_bytes == 0),
            ("api.max_concurrent_requests", api.max_concurrent_requests == 0),
            ("api.submit_timeout_ms_max", api.submit_timeout_ms_max == 0),
        ] {
            if zero {
                return Err(SettingsError::Zero(name));
            }
        }
        let defaults = Self::default();
        Ok(Self {
            core: core::Settings {
                region: api.region.clone(),
                wait_max: Duration::from_millis(api.submit_timeout_ms_max),
                ..defaults.core
            },
            concurrent_requests_max: usize::try_from(api.max_concurrent_requests).unwrap_or(usize::MAX),
            requests_per_second: api.requests_per_second,
            body_bytes_max: usize::try_from(api.max_body_bytes).unwrap_or(usize::MAX),
            cors: api.cors,
            faucet_key_file: api.faucet_key_file.clone(),
            ..defaults
        })
    }
}
