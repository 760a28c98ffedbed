//! What keeps a run from eating the machine or reaching another one.

use anyhow::{Context, bail, ensure};
use kaldrix_types::Scheme;
use std::net::IpAddr;

/// Transactions of one run.
pub(crate) const TRANSACTIONS_MAX: u64 = 5_000_000;

/// Refuses endpoints that are not on this machine.
pub(crate) fn require_loopback(endpoints: &[String]) -> anyhow::Result<()> {
    for endpoint in endpoints {
        ensure!(is_loopback(endpoint), "{endpoint} is not on this machine: give --allow-remote if you may load it");
    }
    Ok(())
}

fn is_loopback(endpoint: &str) -> bool {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Refuses a run whose signed transactions would not fit into three quarters of the free memory.
pub(crate) fn require_memory(count: u64, scheme: Scheme) -> anyhow::Result<()> {
    ensure!(count <= TRANSACTIONS_MAX, "{count} transactions are more than the {TRANSACTIONS_MAX} of one run: shorten it");
    // Signature, body, identifier, and the allocator's share.
    let bytes = count * (scheme.signature_len() as u64 + 320);
    let Some(available) = memory_available() else { return Ok(()) };
    if bytes > available / 4 * 3 {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        bail!("{count} signed transactions need {} MiB and {} MiB are free: offer fewer", mib(bytes), mib(available));
    }
    Ok(())
}

fn memory_available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    kib_field(&text, "MemAvailable:").ok().map(|kib| kib * 1024)
}

/// A `Name:   123 kB` line of a /proc file.
pub(crate) fn kib_field(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)).with_context(|| format!("no {name} line"))?;
    let number = line.split_whitespace().next().context("an empty line")?;
    Ok(number.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loaded() {
        for local in ["http://127.0.0.1:8080", "http://localhost:1", "http://[::1]:8080/", "127.8.9.1:3"] {
            assert!(is_loopback(local), "{local}");
        }
        for remote in ["http://10.0.0.1:8080", "http://localhost.example.com", "http://127.0.0.1.nip.io:1", "http://127.0.0.1@evil:1", ""] {
            assert!(!is_loopback(remote), "{remote}");
        }
    }

    #[test]
    fn a_run_that_cannot_fit_is_refused_before_it_signs() {
        assert!(require_memory(10_000, Scheme::MlDsa65).is_ok());
        assert!(require_memory(TRANSACTIONS_MAX + 1, Scheme::Ed25519).is_err());
    }

    #[test]
    fn proc_lines_are_read_by_name() {
        assert_eq!(kib_field("Name:\tx\nVmHWM:\t  1234 kB\n", "VmHWM:").unwrap(), 1234);
        assert!(kib_field("Name:\tx\n", "VmHWM:").is_err());
    }
}
