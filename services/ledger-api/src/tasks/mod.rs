//! Background tasks, one per file.

pub mod batcher;
pub mod checkpoints;
pub mod faucet;
pub mod health;
pub mod pending;
pub mod projection;
