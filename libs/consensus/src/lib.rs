//! The order of the ledger, decided from block headers alone: the Mysticeti-C commit rule (Babel et al., "Mysticeti: Reaching the
//! Limits of Latency with Uncertified DAGs", 2024) as PROTOCOL.md states it, and the rule for when this validator proposes.
//!
//! ```text
//!            headers, parents first                                      now_ms
//!                     │                                                    │
//!   ┌─────────────────▼──────────────────── ConsensusCore ─────────────────▼───────────────┐
//!   │             HeaderDag ──────▶ Committer ──────▶ Linearizer      Clock ──▶ Pacemaker  │
//!   │        (who links whom)   (leaders decided)   (what each brings)  (round)  (when)    │
//!   │                                    ▲                 │                       ▲       │
//!   │                              SwappedLeaders ◀── Reputation          LeaderTimeouts   │
//!   └──────────────────────────────────────────────────────┬──────────────────────┬────────┘
//!                                                     Action::Commit        Action::Propose
//! ```
//!
//! [`ConsensusCore`] is what a service or a simulator drives. Everything is single-threaded and deterministic: the same headers in any
//! causal order give the same commits on every validator, before and after a restart. The last commit alone says how to go on. A core is of one
//! epoch; rounds, commit indices and consensus time go on from one epoch to the next.
//!
//! This crate never does I/O, never reads a clock (time is an argument, in milliseconds), never checks a signature (headers come from
//! verified blocks) and never sees a transaction.

mod clock;
mod committer;
mod core;
mod dag;
mod leader_timeout;
mod linearizer;
mod pacemaker;
mod reputation;
mod schedule;
mod slot_votes;
mod stake;
pub mod vectors;
mod wave;

pub use clock::ThresholdClock;
pub use committer::{Committer, Decision, LeaderDecision};
pub use core::{Action, ConsensusCore, CoreConfig, CoreStatus, DecidedCommit, Recovered};
pub use dag::{HeaderDag, ROUNDS_AHEAD_MAX, Refusal};
pub use leader_timeout::{LeaderTimeouts, WaitBounds};
pub use linearizer::{CommitRules, GC_DEPTH_MIN, Linearizer};
pub use pacemaker::{Pace, Pacemaker, STALLED_ROUNDS, Situation};
pub use reputation::{SwapTable, SwappedLeaders, VOTE_ROUNDS};
pub use schedule::{Leaders, RoundRobin, StakeSchedule};
pub use stake::StakeTally;
pub use wave::{Slot, Wave};
