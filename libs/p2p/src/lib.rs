//! Blocks between validators: libp2p (TCP, TLS 1.3 with X25519MLKEM768, yamux) behind one small trait.
//!
//! ```text
//!   BlockNetwork::push ─▶ [one bounded queue per peer] ─▶ request-response ─▶ PeerHandler::on_block ─▶ ack (flow control)
//!   BlockNetwork::request ──────────────────────────────▶ request-response ─▶ PeerHandler::on_request ─▶ answer
//! ```
//!
//! A libp2p peer id is an Ed25519 key. What counts is the validator's own post-quantum key: each side first shows a [`PeerBinding`], the
//! validator's signature over its peer id, and nothing else is sent to or taken from a peer that has not. TLS proves the peer id, the
//! binding proves whose it is.
//!
//! This crate never looks into a block, never decides who is honest, and never buffers without a bound: a peer that does not keep up
//! loses the oldest pushes and fetches them later.

mod binding;
mod codec;
mod hybrid_tls;
mod message;
mod network;
mod peers;
mod swarm;

pub use binding::{PeerBinding, binding_digest};
pub use message::{FLOORS_MAX, PeerRequest, PeerResponse, REQUESTED_BLOCKS_MAX, RESPONSE_BYTES_MAX};
pub use network::{BlockNetwork, P2pConfig, P2pError, PeerHandler, start};
