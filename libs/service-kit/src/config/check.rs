//! What a well-formed configuration can still have wrong: ranges, contradictions, missing files.

use super::{Api, Config, Consensus, Crypto, Dag, Region};
use crate::Service;
use crate::identity::is_name;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

/// Something that is wrong, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as `section.key`.
    pub key: String,
    /// What is wrong with it and what is allowed.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

pub(super) fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  ")
}

#[derive(Default)]
struct Found(Vec<Problem>);

impl Found {
    fn unless(&mut self, fine: bool, key: &str, what: impl Into<String>) {
        if !fine {
            self.0.push(Problem { key: key.to_owned(), what: what.into() });
        }
    }

    fn file(&mut self, key: &str, path: &Path) {
        self.unless(path.is_file(), key, format!("there is no file {}", path.display()));
    }

    fn range(&mut self, key: &str, value: u64, least: u64, most: u64) {
        self.unless((least..=most).contains(&value), key, format!("{value} is outside {least} to {most}"));
    }

    fn endpoint(&mut self, key: &str, endpoint: &str) {
        let authority = endpoint.strip_prefix("https://").unwrap_or(endpoint);
        let fine = authority.parse::<http::uri::Authority>().is_ok_and(|a| a.port_u16().is_some_and(|port| port > 0));
        self.unless(fine, key, format!("{endpoint:?} is no endpoint; write host:port"));
    }

    fn name(&mut self, key: &str, name: &str) {
        self.unless(is_name(name), key, format!("{name:?} is no name; use 1 to 128 of a-z 0-9 - _ ."));
    }
}

impl Config {
    /// Everything that is wrong for the services whose sections differ from the defaults, plus the shared sections. Empty: it can work.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        // Loading makes default paths absolute; file names alone tell whether a section was written.
        let mut written = self.clone();
        for path in written.paths_mut() {
            *path = path.file_name().map(Into::into).unwrap_or_default();
        }
        let mut services = Vec::new();
        if written.dag != Dag::default() {
            services.push(Service::DagService);
        }
        if written.consensus != Consensus::default() {
            services.push(Service::ConsensusService);
        }
        if written.crypto != Crypto::default() {
            services.push(Service::CryptoService);
        }
        if written.api != Api::default() {
            services.push(Service::LedgerApi);
        }
        if written.region != Region::default() {
            services.push(Service::RegionSync);
        }
        self.check_for(&services)
    }

    /// Everything that is wrong for these services and the shared sections.
    #[must_use]
    pub fn check_for(&self, services: &[Service]) -> Vec<Problem> {
        let mut found = Found::default();
        for service in services {
            match service {
                Service::DagService => self.check_dag(&mut found),
                Service::ConsensusService => self.check_consensus(&mut found),
                Service::CryptoService => self.check_crypto(&mut found),
                Service::LedgerApi => self.check_api(&mut found),
                Service::RegionSync => self.check_region(&mut found),
                Service::Operator => {}
            }
        }
        self.check_shared(&mut found);
        self.check_ports(services, &mut found);
        found.0
    }

    fn check_dag(&self, found: &mut Found) {
        let dag = &self.dag;
        found.name("dag.validator", &dag.validator);
        found.file("dag.genesis", &dag.genesis);
        found.range("dag.max_transactions_per_block", dag.max_transactions_per_block.into(), 1, 10_000);
        found.range("dag.max_block_bytes", dag.max_block_bytes.into(), 128 * 1024, 8 * 1024 * 1024);
        found.range("dag.sequence_gap_hold_ms", dag.sequence_gap_hold_ms, 0, 600_000);
        found.unless(
            dag.mempool_transactions >= dag.max_transactions_per_block,
            "dag.mempool_transactions",
            format!(
                "{} is less than one block takes (max_transactions_per_block = {})",
                dag.mempool_transactions, dag.max_transactions_per_block
            ),
        );
        found.unless(
            dag.mempool_bytes >= dag.max_block_bytes.into(),
            "dag.mempool_bytes",
            format!("{} is less than one block takes (max_block_bytes = {})", dag.mempool_bytes, dag.max_block_bytes),
        );
        found.unless(dag.p2p_listen.starts_with('/'), "dag.p2p_listen", "write a multiaddress such as \"/ip4/127.0.0.1/tcp/7200\"");
        for (i, peer) in dag.peers.iter().enumerate() {
            found.name(&format!("dag.peers[{i}].name"), &peer.name);
            let key = format!("dag.peers[{i}].address");
            found.unless(peer.address.starts_with('/'), &key, "write a multiaddress such as \"/ip4/127.0.0.1/tcp/7200\"");
            let twice = dag.peers[..i].iter().any(|other| other.name == peer.name);
            found.unless(!twice, &format!("dag.peers[{i}].name"), format!("{} is listed twice", peer.name));
        }
        found.endpoint("dag.consensus_endpoint", &dag.consensus_endpoint);
        found.endpoint("dag.crypto_endpoint", &dag.crypto_endpoint);
    }

    fn check_consensus(&self, found: &mut Found) {
        let consensus = &self.consensus;
        found.name("dag.validator", &self.dag.validator);
        found.file("dag.genesis", &self.dag.genesis);
        found.range("consensus.block_time_target_ms", consensus.block_time_target_ms, 0, 60_000);
        found.range("consensus.leader_timeout_ms", consensus.leader_timeout_ms, 1, 60_000);
        found.unless(
            consensus.idle_block_time_ms >= consensus.block_time_target_ms,
            "consensus.idle_block_time_ms",
            format!("{} is less than block_time_target_ms = {}", consensus.idle_block_time_ms, consensus.block_time_target_ms),
        );
        found.unless(
            consensus.leader_timeout_ms > consensus.block_time_target_ms,
            "consensus.leader_timeout_ms",
            format!(
                "{} must be more than block_time_target_ms = {}, or every leader is skipped",
                consensus.leader_timeout_ms, consensus.block_time_target_ms
            ),
        );
        found.range("consensus.min_validators", consensus.min_validators.into(), 1, 1_000);
        found.unless(
            consensus.num_validators == 0 || consensus.num_validators >= consensus.min_validators,
            "consensus.num_validators",
            format!("{} is less than min_validators = {}", consensus.num_validators, consensus.min_validators),
        );
        let reward = consensus.block_reward.parse::<u128>();
        found.unless(
            reward.is_ok(),
            "consensus.block_reward",
            format!("{:?} is no whole number of 0 to 2^128 − 1", consensus.block_reward),
        );
    }

    fn check_crypto(&self, found: &mut Found) {
        let crypto = &self.crypto;
        found.name("dag.validator", &self.dag.validator);
        found.file("crypto.key_file", &crypto.key_file);
        if let Some(path) = &crypto.passphrase_file {
            found.file("crypto.passphrase_file", path);
        }
        // A setting that silently did nothing would be worse than none: session keys change at an epoch's end, and there are no epochs yet.
        found.unless(!crypto.enable_key_rotation, "crypto.enable_key_rotation", "is not available in this version; set it to false");
        found.range("crypto.key_rotation_interval_secs", crypto.key_rotation_interval_secs, 3_600, u64::MAX);
    }

    fn check_api(&self, found: &mut Found) {
        let api = &self.api;
        found.name("api.region", &api.region);
        found.unless(!api.dag_endpoints.is_empty(), "api.dag_endpoints", "is empty; name at least one dag-service as host:port");
        for (i, endpoint) in api.dag_endpoints.iter().enumerate() {
            found.endpoint(&format!("api.dag_endpoints[{i}]"), endpoint);
        }
        found.endpoint("api.region_endpoint", &api.region_endpoint);
        found.file("api.genesis", &api.genesis);
        if let Some(path) = &api.faucet_key_file {
            found.file("api.faucet_key_file", path);
        }
        found.range("api.max_body_bytes", api.max_body_bytes, 1024, 64 * 1024 * 1024);
        found.range("api.max_concurrent_requests", api.max_concurrent_requests.into(), 1, 1_000_000);
        found.range("api.submit_timeout_ms_max", api.submit_timeout_ms_max, 1, 600_000);
        if let Some(path) = &api.client_ca {
            found.file("api.client_ca", path);
            found.unless(api.tls, "api.client_ca", "needs api.tls = true");
        }
    }

    fn check_region(&self, found: &mut Found) {
        found.name("region.name", &self.region.name);
        found.unless(!self.region.dag_endpoints.is_empty(), "region.dag_endpoints", "is empty; name at least one dag-service as host:port");
        for (i, endpoint) in self.region.dag_endpoints.iter().enumerate() {
            found.endpoint(&format!("region.dag_endpoints[{i}]"), endpoint);
        }
        found.file("region.genesis", &self.region.genesis);
    }

    fn check_shared(&self, found: &mut Found) {
        let storage = &self.storage.path;
        found.unless(!storage.exists() || storage.is_dir(), "storage.path", format!("{} is not a folder", storage.display()));
        found.range("cache.capacity", self.cache.capacity, 1, 1 << 32);
        found.file("tls.ca", &self.tls.ca);
        found.file("tls.certificate", &self.tls.certificate);
        found.file("tls.key", &self.tls.key);
        found.name("tls.trust_domain", &self.tls.trust_domain);
        let telemetry = &self.telemetry;
        found.unless(
            (0.0..=1.0).contains(&telemetry.sample_ratio),
            "telemetry.sample_ratio",
            format!("{} is outside 0 to 1", telemetry.sample_ratio),
        );
        if let Err(reason) = tracing_subscriber::EnvFilter::try_new(&telemetry.log) {
            found.unless(false, "telemetry.log", format!("{:?} is no log filter: {reason}", telemetry.log));
        }
        if let Some(endpoint) = &telemetry.otlp_endpoint {
            let fine = endpoint.expose().parse::<http::Uri>().is_ok_and(|uri| uri.host().is_some() && uri.scheme_str() == Some("http"));
            found.unless(fine, "telemetry.otlp_endpoint", format!("{endpoint:?} is no collector; write http://host:4317"));
        }
    }

    /// Two servers of one file on one address.
    fn check_ports(&self, services: &[Service], found: &mut Found) {
        let mut taken: Vec<(&str, SocketAddr)> = Vec::new();
        let listen = services.iter().filter_map(|service| match service {
            Service::DagService => Some(("dag.listen", self.dag.listen)),
            Service::ConsensusService => Some(("consensus.listen", self.consensus.listen)),
            Service::CryptoService => Some(("crypto.listen", self.crypto.listen)),
            Service::LedgerApi => Some(("api.listen", self.api.listen)),
            Service::RegionSync => Some(("region.listen", self.region.listen)),
            Service::Operator => None,
        });
        for (key, address) in listen.chain(self.telemetry.metrics_listen.map(|address| ("telemetry.metrics_listen", address))) {
            if let Some((other, _)) = taken.iter().find(|(_, a)| *a == address && address.port() != 0) {
                found.unless(false, key, format!("{address} is also {other}"));
            }
            taken.push((key, address));
        }
    }
}
