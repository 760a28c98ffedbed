//! Measures the state tree: `cargo run --release -p kaldrix-checkpoint --example state_tree [RECORDS]` (docs/adr/0009-state-tree.md).

#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use kaldrix_checkpoint::StateTree;
use kaldrix_types::{Address, AssetId, StateChange, StateKey, StateValue};
use std::time::{Duration, Instant};

const CHANGES: u64 = 1_000;
const ROUNDS: u64 = 100;

fn change(n: u64, amount: u128) -> StateChange {
    let mut address = [0; 32];
    address[..8].copy_from_slice(&n.to_le_bytes());
    StateChange { key: StateKey::Balance(Address(address), AssetId::NATIVE), value: Some(StateValue::Balance(amount)) }
}

/// Resident memory of this process in bytes; 0 where there is no /proc.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|kib| kib.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() {
    let records: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(100_000);
    let genesis: Vec<StateChange> = (0..records).map(|n| change(n, u128::from(n))).collect();

    let before = resident_bytes();
    let started = Instant::now();
    let mut tree = StateTree::default();
    for page in genesis.chunks(10_000) {
        tree.update(page);
    }
    let built = started.elapsed();
    let grown = resident_bytes().saturating_sub(before);
    println!("{records} records: built in {:.1} ms, {} bytes of memory per record", built.as_secs_f64() * 1e3, grown / records.max(1));

    // Spread over the whole tree: multiplication by an odd number permutes.
    let batch = |round: u64| -> Vec<StateChange> {
        let n = |i: u64| (round * CHANGES + i).wrapping_mul(0x9e37_79b9_7f4a_7c15) % records.max(1);
        (0..CHANGES).map(|i| change(n(i), u128::from(round) + 1)).collect()
    };
    let time = |tree: &mut StateTree, keep: bool| {
        let mut older = Vec::new();
        let run = |round| {
            let batch = batch(round);
            if keep {
                older = vec![tree.clone()];
            }
            let started = Instant::now();
            tree.update(&batch);
            started.elapsed()
        };
        median((0..ROUNDS).map(run).collect())
    };
    println!("{CHANGES} changes: {:.2} ms in place", time(&mut tree, false).as_secs_f64() * 1e3);
    println!("{CHANGES} changes: {:.2} ms while an older version is kept", time(&mut tree, true).as_secs_f64() * 1e3);

    let started = Instant::now();
    let depth: usize = (0..1_000).map(|n| tree.prove(&change(n * 97 % records.max(1), 0).key).siblings.len()).sum();
    let each_us = started.elapsed().as_secs_f64() * 1e3;
    println!("proofs: {each_us:.2} µs each, {:.1} siblings of 32 bytes on average", depth as f64 / 1e3);
}
