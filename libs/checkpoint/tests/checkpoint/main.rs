//! Checkpoints as validators, clients and those who lost everything meet them.

#![allow(clippy::unwrap_used, reason = "tests")]

mod builder;
mod catch_up;
mod catch_up_liars;
mod certifier;
mod flips;
mod proofs;
mod world;
