//! A selection of the decision vectors: several leaders per round, equivocations, weak links, crashed and silent validators.

use kaldrix_consensus::vectors::check_vector;

const VECTORS: &str = include_str!("data/commit-rule-vectors.jsonl");

#[test]
fn the_decisions_are_those_of_an_independent_implementation() {
    assert!(VECTORS.lines().count() >= 15);
    for (i, line) in VECTORS.lines().enumerate() {
        check_vector(line).unwrap_or_else(|e| panic!("vector {}: {e}", i + 1));
    }
}

#[test]
fn a_changed_vector_is_noticed() {
    let line = VECTORS.lines().find(|l| l.contains("\"IC\"") && l.contains("\"IS\"")).expect("one with indirect decisions");
    let (head, decisions) = line.split_once("\"checkpoints\"").expect("a vector has checkpoints");
    for (from, to) in [("\"IC\"", "\"IS\""), ("\"IS\"", "\"DS\""), ("\"DC\"", "\"IC\"")] {
        let changed = format!("{head}\"checkpoints\"{}", decisions.replacen(from, to, 1));
        assert!(check_vector(&changed).is_err_and(|e| e.contains("expected")), "{from} → {to}");
    }
    assert!(check_vector("{}").is_err_and(|e| e.contains("not a decision vector")));
    assert!(check_vector(&line.replace("\"wave\":3", "\"wave\":4")).is_err_and(|e| e.contains("waves of 4 rounds")));
}
