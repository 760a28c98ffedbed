//! The whole ledger in one thread and no time: N validators' real cores under a virtual clock, network and disk. One seed gives one run,
//! bit for bit.
//!
//! ```text
//!   seed ─┬─▶ Clients ──transactions──▶ ┌─ Validator ×N ──────────────────────────────┐ ──executed commits──▶ Judge
//!         │                             │ dag::Node ⇄ consensus ─▶ execution ─▶ Store │                  (invariants)
//!         ├─▶ Network ◀───messages────▶ └─────────────────────────────────────────────┘                        │
//!         │     ▲                              ▲            ▲                                                  ▼
//!         └─▶ Faults: partitions, loss … ──────┴── crashes, Byzantine scripts                               Report
//! ```
//!
//! [`run`] takes a [`SimConfig`] and gives a [`Report`]: [`Outcome::Pass`], [`Outcome::NoProgress`] or [`Outcome::Diverged`], with the command
//! that gives the same run again. [`faults`] describes what can go wrong and how it is written down.
//!
//! What is real: everything that decides (`libs/dag`, `libs/consensus`, `libs/execution`, `libs/checkpoint`), and the order of things that the services keep: an
//! own block is durable before it is signed, a validator without a store asks what it signed last, a session of consensus begins with a
//! replay. What is a model: the network, the disk, the signatures (`keys`: one hash, real sizes), and processor time, which only signing and
//! the `slow` fault cost.
//!
//! This crate never reads a real clock, never starts a thread, never does I/O, and never lets the order of a hash map reach a result.

mod audit;
mod boot;
mod byzantine;
mod catch_up;
mod clients;
mod config;
mod duties;
pub mod faults;
mod follow;
mod inject;
mod judge;
mod keys;
mod network;
mod packet;
mod process;
mod queue;
mod random_run;
mod report;
mod rng;
mod run;
mod session;
mod state;
mod store;
mod validator;
mod world;

pub use config::{ConfigError, Regions, SimConfig};
pub use faults::{Faults, FaultsError, random_faults};
pub use random_run::{random_run, random_short_run};
pub use report::{Finality, Load, Outcome, Peaks, Problem, Progress, Report, Slowest, Transactions};
pub use run::run;
