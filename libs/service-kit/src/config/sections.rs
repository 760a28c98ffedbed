//! The sections, their keys, and their defaults. One macro makes the struct, its documentation, its defaults and the commented TOML, so that they
//! cannot differ.

use super::values::{CacheBackend, HashAlgorithm, LogFormat, PeerEntry, Propagation, SecretUrl, SignatureAlgorithm, StorageBackend};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A section as [`super::Config::documented_toml`] writes it.
pub(super) struct SectionDoc {
    pub(super) name: &'static str,
    pub(super) doc: &'static [&'static str],
    pub(super) keys: &'static [(&'static str, &'static [&'static str])],
}

macro_rules! sections {
    ($( $(#[doc = $doc:literal])+ $name:ident, $key:literal { $( $(#[doc = $field_doc:literal])+ $field:ident: $ty:ty = $default:expr, )+ } )+) => {
        $(
            $(#[doc = $doc])+
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub struct $name {
                $( $(#[doc = $field_doc])+ #[doc = concat!("\n\nDefault: `", stringify!($default), "`.")] pub $field: $ty, )+
            }

            impl Default for $name {
                fn default() -> Self {
                    Self { $( $field: $default, )+ }
                }
            }
        )+

        /// All sections in the order of the file.
        pub(super) const SECTIONS: &[SectionDoc] = &[
            $( SectionDoc { name: $key, doc: &[$($doc),+], keys: &[$( (stringify!($field), &[$($field_doc),+]) ),+] } ),+
        ];
    };
}

const fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), port)
}

sections! {
    /// The data plane of one validator: mempool, blocks, peers, execution.
    Dag, "dag" {
        /// The validator's name, as in the genesis and in SPIFFE ids. consensus-service and crypto-service read it here too.
        validator: String = String::new(),
        /// Address of dag-service's gRPC server.
        listen: SocketAddr = loopback(7100),
        /// Genesis file (JSON). consensus-service reads it here too.
        genesis: PathBuf = "genesis.json".into(),
        /// libp2p address to listen on for other validators; TCP.
        p2p_listen: String = "/ip4/127.0.0.1/tcp/7200".to_owned(),
        /// The other validators: a list of { name, address }.
        peers: Vec<PeerEntry> = Vec::new(),
        /// consensus-service of this validator, host:port.
        consensus_endpoint: String = "127.0.0.1:7110".to_owned(),
        /// crypto-service of this validator, host:port.
        crypto_endpoint: String = "127.0.0.1:7120".to_owned(),
        /// Transactions of one block at most; 1 to 10000.
        max_transactions_per_block: u32 = 2_000,
        /// Body of one block at most, bytes; 128 KiB to 8 MiB.
        max_block_bytes: u32 = 4 * 1024 * 1024,
        /// Transactions that may wait in the mempool; more are refused with RESOURCE_EXHAUSTED.
        mempool_transactions: u32 = 50_000,
        /// Bytes that may wait in the mempool.
        mempool_bytes: u64 = 256 * 1024 * 1024,
        /// Prefer transactions with a higher fee when a block cannot hold all; false: first come, first served.
        enable_prioritization: bool = true,
        /// Apply transactions of one commit that touch different accounts in parallel. Only batches from which that was measured to pay; the result is the same bytes either way.
        enable_parallel_execution: bool = true,
        /// How long a transaction waits for the missing ones before it in its lane, milliseconds.
        sequence_gap_hold_ms: u64 = 2_000,
    }
    /// The control plane of one validator: rounds, leaders, commits.
    Consensus, "consensus" {
        /// Address of consensus-service's gRPC server.
        listen: SocketAddr = loopback(7110),
        /// Least time between two own proposals while there are transactions, milliseconds.
        block_time_target_ms: u64 = 50,
        /// The same while there are none, milliseconds.
        idle_block_time_ms: u64 = 500,
        /// How long a round waits for its leader's block, milliseconds.
        leader_timeout_ms: u64 = 250,
        /// Number of validators; 0: as the genesis says. Another number must match the genesis.
        num_validators: u32 = 0,
        /// Least number of validators this validator takes part with; 4 tolerate one fault.
        min_validators: u32 = 4,
        /// Reward per epoch in the smallest unit of KDX, decimal text. A rule of the chain: it must match the genesis.
        block_reward: String = "0".to_owned(),
    }
    /// Keys and signatures of one validator.
    Crypto, "crypto" {
        /// Address of crypto-service's gRPC server.
        listen: SocketAddr = loopback(7120),
        /// Encrypted keystore with the validator's signing key.
        key_file: PathBuf = "validator-key.json".into(),
        /// File with the keystore's passphrase; unset: the keystore is not encrypted (development only).
        passphrase_file: Option<PathBuf> = None,
        /// What was signed last, against double signing. Never delete it while the validator is in use.
        guard_file: PathBuf = "sign-guard".into(),
        /// Every signature that was asked for, one JSON object a line.
        audit_log: PathBuf = "audit.jsonl".into(),
        /// Scheme of the validator's key: "ml-dsa-44", "ml-dsa-65" or "ml-dsa-87" (FIPS 204).
        signature_algorithm: SignatureAlgorithm = SignatureAlgorithm::MlDsa65,
        /// The ledger's hash; "blake3" is the only one.
        hash_algorithm: HashAlgorithm = HashAlgorithm::Blake3,
        /// Replace the session key from time to time. Not available yet: must be false.
        enable_key_rotation: bool = false,
        /// How often, seconds (7776000 are 90 days).
        key_rotation_interval_secs: u64 = 7_776_000,
    }
    /// The public API of one region: gRPC and REST on one port.
    Api, "api" {
        /// Public address.
        listen: SocketAddr = loopback(8080),
        /// The region this API stands in.
        region: String = String::new(),
        /// dag-services that transactions are handed to, host:port; the first that answers takes one.
        dag_endpoints: Vec<String> = Vec::new(),
        /// region-sync of this region, host:port: reads and streams.
        region_endpoint: String = "127.0.0.1:7130".to_owned(),
        /// Genesis file (JSON).
        genesis: PathBuf = "genesis.json".into(),
        /// Key of the faucet's account; unset: no faucet. For development networks.
        faucet_key_file: Option<PathBuf> = None,
        /// Let browsers of other origins call the API.
        cors: bool = false,
        /// Request body at most, bytes.
        max_body_bytes: u64 = 256 * 1024,
        /// Requests under way at most; more are refused with RESOURCE_EXHAUSTED.
        max_concurrent_requests: u32 = 4_096,
        /// Requests per second and client; 0: no limit.
        requests_per_second: u32 = 0,
        /// Longest time that a submission may wait for its outcome, milliseconds.
        submit_timeout_ms_max: u64 = 30_000,
        /// Serve TLS 1.3 with the certificate of [tls]; false only behind a proxy that does, or on loopback.
        tls: bool = false,
        /// CA that clients' certificates must come from; unset: clients need none. Needs tls = true.
        client_ca: Option<PathBuf> = None,
    }
    /// What keeps a region's read model in step.
    Region, "region" {
        /// The region's name, such as "us-east-1".
        name: String = String::new(),
        /// Address of region-sync's gRPC server.
        listen: SocketAddr = loopback(7130),
        /// dag-services that commits are read from, host:port; the first that answers is used, so put the region's own first.
        dag_endpoints: Vec<String> = vec!["127.0.0.1:7100".to_owned()],
        /// Genesis file (JSON).
        genesis: PathBuf = "genesis.json".into(),
    }
    /// Where services keep their state.
    Storage, "storage" {
        /// "sqlite": one file per service.
        backend: StorageBackend = StorageBackend::Sqlite,
        /// Folder for it.
        path: PathBuf = "data".into(),
    }
    /// The read path's cache.
    Cache, "cache" {
        /// "memory": in the process.
        backend: CacheBackend = CacheBackend::Memory,
        /// Entries at most.
        capacity: u64 = 100_000,
    }
    /// Mutual TLS between services.
    Tls, "tls" {
        /// CA certificates, PEM.
        ca: PathBuf = "tls/ca.pem".into(),
        /// This service's certificate chain, PEM, leaf first, with one SPIFFE id.
        certificate: PathBuf = "tls/service.pem".into(),
        /// Its private key, PEM (PKCS#8).
        key: PathBuf = "tls/service-key.pem".into(),
        /// Trust domain of the SPIFFE ids; others are refused.
        trust_domain: String = "kaldrix.local".to_owned(),
    }
    /// Logs, traces and metrics.
    Telemetry, "telemetry" {
        /// OTLP collector (gRPC), such as "http://127.0.0.1:4317"; unset: no traces leave the process.
        otlp_endpoint: Option<SecretUrl> = None,
        /// How a trace travels: "w3c" or "xray".
        propagation: Propagation = Propagation::W3c,
        /// Log filter: a level, or "info,kaldrix_dag_service=debug".
        log: String = "info".to_owned(),
        /// "text" or "json".
        log_format: LogFormat = LogFormat::Text,
        /// Address for /metrics, /livez and /readyz; unset: none (ledger-api has them on its own port).
        metrics_listen: Option<SocketAddr> = None,
        /// Share of traces that are exported, 0 to 1, decided where a trace begins.
        sample_ratio: f64 = 1.0,
        /// Region named in traces.
        region: String = String::new(),
        /// Validator named in traces.
        validator: String = String::new(),
    }
}
