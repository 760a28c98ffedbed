//! The data plane's state of one validator: the block DAG, the transactions waiting for a block, the next block, and what to fetch.
//!
//! ```text
//!  verified block ─▶ BlockManager ──accepted, in causal order──▶ consensus (headers), execution (bodies)
//!                      │      │
//!              missing ▼      └─parents──▶ Proposer ──(header, body)──▶ sign, store, send
//!                 Synchronizer                ▲
//!                      │ FetchRequest         │ take
//!                      ▼                   Mempool ◀─add── checked transaction
//!                    peers
//! ```
//! [`Node`] puts these together.
//!
//! Everything here is pure and driven by one thread: no I/O, no clock (time is an argument), no randomness, and no outcome that depends on
//! the iteration order of a hash map. Every collection that a peer or a client can grow has a bound, and says so when it is full.
//!
//! What this crate never does: verify signatures (only [`kaldrix_types::VerifiedBlock`] enters), decide the order, hold keys, execute.

mod manager;
mod mempool;
mod node;
mod proposer;
mod suspension;
mod sync;

pub use manager::{Accepted, BlockManager, Collected, Limits, Refused};
pub use mempool::{AddError, Added, Mempool, MempoolConfig};
pub use node::{Effect, ExecutedNotice, FetchWork, Node, NodeConfig, NodeStatus, Now, Proposal, RejoinAnswer, Replay};
pub use proposer::{ProposalInput, Proposer};
pub use sync::{FetchRequest, RangeRequest, RequestId, SyncConfig, Synchronizer};
