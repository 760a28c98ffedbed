//! Whole runs: equal seeds, faults within the bound, faults beyond it, and a defect that must be found.

use kaldrix_sim::{Faults, Outcome, Regions, Report, SimConfig, run};

fn go(config: &SimConfig) -> Report {
    config.check().expect("the configurations of these tests are right");
    run(config, &mut |_| {})
}

fn with(script: &str, seed: u64) -> Report {
    go(&SimConfig::new(4, Regions::Lan, 5, 40, seed).with_faults(Faults::parse(script).expect("the scripts of these tests are right")))
}

fn passes(report: &Report) {
    assert_eq!(report.outcome, Outcome::Pass, "{:?}\n{}\n{}", report.problem, report.faults, report.replay);
    assert!(report.commits > 10, "{report:?}");
}

#[test]
fn an_undisturbed_run_passes_and_every_transaction_is_final_at_its_first_validator() {
    let report = with("", 1);
    passes(&report);
    let transactions = report.transactions;
    assert!(transactions.submitted > 150 && transactions.succeeded > 150, "{transactions:?}");
    assert!(report.finality_ms.p50 < 400.0 && report.gap_max_ms < 1_000.0, "{report:?}");
    assert_eq!((report.new_sessions, report.refused_blocks, report.equivocations), (0, 0, 0));
}

#[test]
fn the_same_seed_gives_the_same_report_byte_for_byte_and_another_seed_another() {
    let script = "at 1s crash 3 for 1s\nfrom 1s to 3s loss 10%\nbyzantine 0 equivocate-halves";
    let [first, second, other] = [7, 7, 8].map(|seed| serde_json::to_string(&with(script, seed)).unwrap());
    assert_eq!(first, second);
    assert_ne!(first, other);
}

#[test]
fn four_validators_survive_each_fault_within_the_bound() {
    let scripts = [
        "at 1s crash 3 for 1s",
        "at 1s crash 3",
        "at 1s crash 3 for 1s losing disk",
        "at 1s crash 3 for 1s losing disk and keys",
        "at 1s crash all for 500ms",
        "at 1s pause 2 for 1500ms",
        "from 1s to 3s partition 0,1 | 2,3",
        "from 1s to 3s partition 0 | 1,2,3",
        "from 1s to 3s cut 0 -> 1,2",
        "from 1s to 3s loss 20%",
        "from 1s to 3s loss 20% as delay",
        "duplicate 30%",
        "from 500ms to 4s reorder 50% by 500ms",
        "from 1s to 3s delay 100ms on 0,1",
        "from 1s to 3s jitter 200ms",
        "from 1s to 3s bandwidth 2 at 1mbit",
        "from 1s to 3s slow 2 by 150ms",
        "from 1s to 3s disk 0 by 300ms",
        "from 1s to 3s clock 1 by -3s",
        "from 1s to 3s clock 1 by +3s",
    ];
    for (seed, script) in (100..).zip(scripts) {
        passes(&with(script, seed));
    }
}

#[test]
fn four_validators_survive_a_byzantine_one_of_every_kind() {
    let kinds = [
        "silent",
        "equivocate-halves",
        "equivocate-each",
        "withhold 0",
        "withhold 0,1",
        "withhold-body 1,2",
        "invalid-parents",
        "invalid-signatures",
        "invalid-timestamps",
        "late 400ms",
        "lie-in-sync",
        "flood",
        "bad-transactions",
    ];
    for (seed, kind) in (200..).zip(kinds) {
        passes(&with(&format!("byzantine 3 {kind}"), seed));
        passes(&with(&format!("byzantine 3 {kind}\nfrom 1s to 2s loss 10%\nfrom 1s to 2s jitter 100ms"), seed));
    }
}

#[test]
fn more_faults_than_a_third_are_reported_as_no_progress() {
    let report = with("at 1s crash 2,3", 5);
    assert_eq!(report.outcome, Outcome::NoProgress, "{report:?}");
    assert!(report.problem.unwrap().what.contains("not final"));
}

#[test]
fn a_state_that_changes_by_itself_is_found_and_the_replay_line_given() {
    let report = with("at 2s corrupt 1", 6);
    assert_eq!(report.outcome, Outcome::Diverged, "{report:?}");
    assert!(report.replay.starts_with("kaldrix sim --validators 4 --regions lan --seconds 5 --rate 40 --seed 6"));
}

#[test]
fn the_aws_regions_commit_within_what_their_distance_allows() {
    let report = go(&SimConfig::new(7, Regions::Aws, 5, 30, 3));
    passes(&report);
    assert!(report.finality_ms.p50 > 150.0 && report.finality_ms.p99 < 900.0, "{report:?}");
}
