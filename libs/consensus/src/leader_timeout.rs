//! How long to wait for a leader's block: learnt, for each leader by itself, from how long its blocks took before.
//!
//! ```text
//!   quorum of round r ──────── lateness of X ────────▶ X's block of round r        0 if it was there before the quorum
//!        mean ← 7/8 mean + 1/8 lateness      deviation ← 3/4 deviation + 1/4 |lateness − mean|      wait = mean + 4 deviation
//! ```
//! The arithmetic is that of RFC 6298 (retransmission timers). Each validator's block of each round is a sample, whoever leads, so that much is
//! known by the time one leads; a block that comes after its round was given up is a sample as well: that is how waits grow.
//!
//! A time-out doubles the wait for that leader's next turn, unless waiting longer would not help either: the least wait is enough for a leader
//! that is silent (nothing came from it since the turn it missed, or for some rounds), that missed two turns and never made up for one, or
//! that takes longer than the longest wait on average. So a leader that hangs costs one full time-out, and the least one from then on.
//!
//! None of this is a rule of the protocol: validators may wait for different times and still decide alike.

use kaldrix_types::{Round, ValidatorIndex};
use std::collections::VecDeque;

/// Rounds whose quorum times are remembered, for blocks that come late.
const QUORUMS_KEPT: usize = 32;
/// Without a block in this many rounds a validator is taken as silent.
const SILENT_ROUNDS: Round = 8;
/// Missed turns after which waiting is taken as useless, if the missing blocks never came.
const MISSED_TURNS_MAX: u32 = 2;

/// Between what to wait, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitBounds {
    /// Before anything is known.
    pub initial_ms: u64,
    /// At least.
    pub min_ms: u64,
    /// At most. Less than `min_ms` is taken as that.
    pub max_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Peer {
    mean_us: u64,
    deviation_us: u64,
    /// Highest round of a block of its.
    heard_round: Round,
    /// The last turn at which it was given up.
    missed_round: Option<Round>,
    /// Turns in a row whose block never came.
    missed_turns: u32,
}

impl Peer {
    fn sample(&mut self, late_us: u64) {
        let difference = self.mean_us.abs_diff(late_us);
        self.deviation_us = self.deviation_us - self.deviation_us / 4 + difference / 4;
        self.mean_us = self.mean_us - self.mean_us / 8 + late_us / 8;
    }

    /// Whether waiting for its block of `round` is useless.
    fn is_hopeless(&self, round: Round, max_us: u64) -> bool {
        let silent = self.missed_round.is_some_and(|missed| missed > self.heard_round) || self.heard_round + SILENT_ROUNDS < round;
        silent || self.missed_turns >= MISSED_TURNS_MAX || self.mean_us > max_us
    }
}

/// See the [module](self).
#[derive(Clone, Debug)]
pub struct LeaderTimeouts {
    bounds: WaitBounds,
    peers: Vec<Peer>,
    /// Rounds, and when their quorum was complete; oldest first.
    quorums: VecDeque<(Round, u64)>,
}

impl LeaderTimeouts {
    /// For a committee of `validators`, in an epoch of which blocks up to `round` are taken as seen.
    #[must_use]
    pub fn new(bounds: WaitBounds, validators: usize, round: Round) -> Self {
        let bounds = WaitBounds { max_ms: bounds.max_ms.max(bounds.min_ms), ..bounds };
        let deviation_us = bounds.initial_ms.saturating_mul(1000) / 4;
        let peer = Peer { mean_us: 0, deviation_us, heard_round: round, missed_round: None, missed_turns: 0 };
        Self { bounds, peers: vec![peer; validators], quorums: VecDeque::with_capacity(QUORUMS_KEPT) }
    }

    /// How long to wait for this leader's block after the quorum of `round`, in milliseconds.
    #[must_use]
    pub fn wait_ms(&self, leader: ValidatorIndex, round: Round) -> u64 {
        let WaitBounds { min_ms, max_ms, .. } = self.bounds;
        let Some(peer) = self.peers.get(leader.as_usize()) else { return min_ms };
        if peer.is_hopeless(round, max_ms.saturating_mul(1000)) {
            return min_ms;
        }
        let learnt_us = peer.mean_us.saturating_add(peer.deviation_us.saturating_mul(4));
        let wait_ms = learnt_us.div_ceil(1000).max(min_ms) << peer.missed_turns;
        wait_ms.min(max_ms)
    }

    /// A block came.
    pub fn on_block(&mut self, author: ValidatorIndex, round: Round, now_ms: u64) {
        let longest_ms = self.bounds.max_ms.saturating_mul(4);
        let Some(peer) = self.peers.get_mut(author.as_usize()) else { return };
        peer.heard_round = peer.heard_round.max(round);
        if peer.missed_round == Some(round) {
            peer.missed_turns = 0;
        }
        if let Some((_, since_ms)) = self.quorums.iter().rev().find(|(r, _)| *r == round) {
            peer.sample(now_ms.saturating_sub(*since_ms).min(longest_ms).saturating_mul(1000));
        }
    }

    /// A round's quorum is complete, with blocks of `present` (each once).
    pub fn on_quorum(&mut self, round: Round, now_ms: u64, present: impl IntoIterator<Item = ValidatorIndex>) {
        if self.quorums.len() == QUORUMS_KEPT {
            self.quorums.pop_front();
        }
        self.quorums.push_back((round, now_ms));
        for author in present {
            if let Some(peer) = self.peers.get_mut(author.as_usize()) {
                peer.sample(0);
            }
        }
    }

    /// Only takes note that there is a block: it came from the own store or in a catch-up, its time says nothing.
    pub fn on_old_block(&mut self, author: ValidatorIndex, round: Round) {
        if let Some(peer) = self.peers.get_mut(author.as_usize()) {
            peer.heard_round = peer.heard_round.max(round);
        }
    }

    /// The round is left, and the block of this leader of its was there or was given up.
    pub fn on_turn(&mut self, leader: ValidatorIndex, round: Round, present: bool) {
        let Some(peer) = self.peers.get_mut(leader.as_usize()) else { return };
        if present {
            peer.missed_turns = 0;
        } else {
            peer.missed_round = Some(round);
            peer.missed_turns = (peer.missed_turns + 1).min(MISSED_TURNS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: ValidatorIndex = ValidatorIndex(0);
    const BOUNDS: WaitBounds = WaitBounds { initial_ms: 250, min_ms: 50, max_ms: 1000 };

    fn learnt(lateness_ms: &[u64]) -> LeaderTimeouts {
        let mut timeouts = LeaderTimeouts::new(BOUNDS, 1, 0);
        for (round, late_ms) in (1..).zip(lateness_ms) {
            let now_ms = round * 10_000;
            timeouts.on_quorum(round, now_ms, (*late_ms == 0).then_some(X));
            if *late_ms > 0 {
                timeouts.on_block(X, round, now_ms + late_ms);
            } else {
                timeouts.on_old_block(X, round);
            }
        }
        timeouts
    }

    #[test]
    fn a_wait_begins_with_the_initial_one_and_shrinks_to_what_a_leader_needs() {
        assert_eq!(learnt(&[]).wait_ms(X, 1), 250);
        assert!((100..250).contains(&learnt(&[0, 0]).wait_ms(X, 3)));
        assert_eq!(learnt(&[0; 20]).wait_ms(X, 21), 50);
        let steady = learnt(&[80; 60]).wait_ms(X, 61);
        assert!((80..100).contains(&steady), "{steady}");
    }

    #[test]
    fn late_blocks_make_a_wait_grow_up_to_the_longest() {
        let mut history = vec![0; 20];
        history.extend([300, 300]);
        assert!(learnt(&history).wait_ms(X, 23) > 300);
        assert_eq!(learnt(&[900, 1, 900, 1, 900]).wait_ms(X, 6), 1000);
    }

    #[test]
    fn a_leader_that_falls_silent_costs_the_full_wait_once() {
        let mut timeouts = learnt(&[80; 60]);
        timeouts.on_turn(X, 61, false);
        assert_eq!(timeouts.wait_ms(X, 64), 50);
        timeouts.on_turn(X, 64, false);
        // It is back: a block of a round after the turn it missed, and its turn.
        timeouts.on_block(X, 65, 0);
        timeouts.on_block(X, 64, 0);
        assert!(timeouts.wait_ms(X, 66) >= 80);
        assert_eq!(timeouts.wait_ms(X, 80), 50, "silent for rounds, without having missed a turn");
    }

    #[test]
    fn a_time_out_doubles_the_next_wait_for_a_leader_that_is_alive_and_two_say_that_waiting_is_useless() {
        let mut timeouts = learnt(&[80; 60]);
        let before = timeouts.wait_ms(X, 61);
        timeouts.on_turn(X, 61, false);
        timeouts.on_block(X, 62, 0);
        assert_eq!(timeouts.wait_ms(X, 65), 2 * before);
        timeouts.on_turn(X, 65, false);
        timeouts.on_block(X, 66, 0);
        assert_eq!(timeouts.wait_ms(X, 69), 50);
        timeouts.on_turn(X, 69, true);
        assert_eq!(timeouts.wait_ms(X, 70), before);
    }

    #[test]
    fn nobody_waits_for_a_leader_that_takes_longer_than_the_longest_wait() {
        assert_eq!(learnt(&[3_000; 40]).wait_ms(X, 41), 50);
    }
}
