//! The DAG crate from outside: pictures, sentences, and random histories.

// Clippy's allowance for tests covers test functions only, not the helpers around them.
#![allow(clippy::unwrap_used)]

mod any_block;
mod manager;
mod mempool;
mod node;
mod proposer;
mod random_dags;
mod support;
mod sync;
