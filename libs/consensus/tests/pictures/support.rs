//! Decides the slots of a picture and compares.

use kaldrix_consensus::{Committer, HeaderDag, LeaderDecision, RoundRobin, Wave};
use kaldrix_testkit::dag::Picture;
use std::sync::Arc;

fn describe(picture: &Picture, decided: &LeaderDecision) -> String {
    let subject =
        decided.block.map_or_else(|| format!("{}{}", Picture::author_name(decided.author), decided.round), |b| picture.name_of(&b));
    format!("{subject} {}", decided.decision.as_str())
}

/// Checks, at each stage, the decisions after every single block (with a cursor, and idempotent) and those from scratch, and that neither says
/// more than drawn.
pub(crate) fn check_with(leaders_per_round: u32, text: &str) {
    let picture = Picture::parse(text);
    let wave = Wave::new(leaders_per_round, picture.committee.size());
    let schedule = RoundRobin::new(picture.committee.size());
    let mut dag = HeaderDag::new(Arc::clone(&picture.committee), 0);
    let mut running = Committer::new(wave, schedule);
    let mut ends: Vec<LeaderDecision> = Vec::new();
    let mut drawn = picture.blocks.iter();
    let mut count = 0;
    for stage in &picture.stages {
        for block in drawn.by_ref().take(stage.blocks - count) {
            assert_eq!(dag.insert(block.reference, Arc::clone(&block.header), false), Ok(true));
            let cursor = ends.last().map(LeaderDecision::slot);
            let new = running.try_decide(&dag, cursor);
            assert_eq!(new, running.try_decide(&dag, cursor), "idempotent");
            ends.extend(new);
        }
        count = stage.blocks;
        let decided = Committer::new(wave, schedule).try_decide(&dag, None);
        let found: Vec<String> = decided.iter().map(|d| describe(&picture, d)).collect();
        assert_eq!(found, picture.expected[..stage.expected], "with {count} blocks");
        let blocks = |decided: &[LeaderDecision]| decided.iter().map(|d| (d.slot(), d.author, d.block)).collect::<Vec<_>>();
        assert_eq!(blocks(&ends), blocks(&decided), "deciding early must not change the end");
    }
}

/// With one leader per round.
pub(crate) fn check(text: &str) {
    check_with(1, text);
}
