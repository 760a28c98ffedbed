//! Epochs, recovery, and what a validator that forgot everything may do.

use kaldrix_sim::{Faults, Outcome, Regions, Report, SimConfig, run};

fn go(validators: usize, seconds: u64, epoch_ms: u64, script: &str, seed: u64) -> Report {
    let faults = Faults::parse(script).expect("the scripts of these tests are right");
    let mut config = SimConfig::new(validators, Regions::Lan, seconds, 40, seed).with_faults(faults);
    config.parameters.epoch_ms = epoch_ms;
    config.check().expect("the configurations of these tests are right");
    run(&config, &mut |_| {})
}

fn passes(report: &Report) {
    assert_eq!(report.outcome, Outcome::Pass, "{:?}\n{}\n{}", report.problem, report.faults, report.replay);
}

const NO_END: u64 = 3_600_000;

#[test]
fn epochs_follow_each_other_while_validators_come_go_bond_and_rotate_their_keys() {
    for seed in 0..6 {
        let report = go(4, 8, 1_000, "", seed);
        passes(&report);
        assert!(report.epochs >= 6, "{report:?}");
        // The spare validator has no state of its own: it takes a seat by a snapshot.
        assert!(report.snapshots >= 1 && report.checkpoints >= report.epochs - 1, "{report:?}");
        assert_eq!(report.slashed, 0);
    }
}

#[test]
fn checkpoints_are_certified_without_epochs_too() {
    let report = go(4, 5, NO_END, "", 1);
    passes(&report);
    assert!(report.checkpoints >= 4, "{report:?}");
}

#[test]
fn who_equivocates_is_slashed_and_nobody_else() {
    for (seed, kind) in [(1, "equivocate-halves"), (2, "equivocate-each")] {
        let report = go(7, 5, 1_500, &format!("byzantine 2 {kind}\nbyzantine 5 late 100ms"), seed);
        passes(&report);
        assert_eq!(report.slashed, 1, "{report:?}");
    }
}

#[test]
fn a_validator_with_an_empty_disk_recovers_by_a_snapshot_whatever_one_peer_tells_it() {
    for seed in 0..10 {
        let script = "at 1s crash 3 for 5s losing disk\nbyzantine 0 lie-in-sync";
        let report = go(5, 8, if seed % 2 == 0 { NO_END } else { 2_000 }, script, seed);
        passes(&report);
        assert!(report.snapshots >= 1, "{report:?}");
    }
}

#[test]
fn a_validator_that_was_away_longer_than_peers_keep_blocks_recovers() {
    for seed in 0..3 {
        let report = go(4, 25, NO_END, "at 1s crash 3 for 19s", seed);
        passes(&report);
        assert!(report.snapshots >= 1, "{report:?}");
    }
}

#[test]
fn a_validator_that_forgot_what_it_signed_signs_nothing_twice() {
    for script in [
        "from 1s to 3s loss 40%\nat 2s crash 3 for 50ms losing disk and keys",
        "from 1s to 3s reorder 60% by 800ms\nat 2s crash 3 for 20ms losing disk and keys",
    ] {
        for seed in 0..12 {
            passes(&go(4, 4, NO_END, script, seed));
        }
    }
}

#[test]
fn a_validator_that_forgot_what_it_signed_signs_nothing_twice_at_an_epochs_end() {
    for seed in 0..24 {
        let from = 900 + seed * 17;
        passes(&go(4, 3, 1_000, &format!("from 500ms to 2s loss 20%\nat {from}ms crash 3 for 30ms losing disk and keys"), seed));
    }
}

#[test]
fn a_commit_rule_that_goes_wrong_once_is_found() {
    for seed in 0..5 {
        let report = go(4, 4, NO_END, "at 2s miscommit 1", seed);
        assert_eq!(report.outcome, Outcome::Diverged, "{report:?}");
    }
}
