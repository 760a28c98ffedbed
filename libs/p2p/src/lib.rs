//! Blocks between validators: libp2p (TCP, TLS 1.3 with X25519MLKEM768, yamux) behind one small trait.
//!
//! ```text
//!   BlockNetwork::push ─▶ [one bounded queue per member] ─▶ request-response ─▶ PeerHandler::on_block ─▶ ack (flow control)
//!   BlockNetwork::ask ────────────────────────────────────▶ request-response ─▶ PeerHandler::on_request ─▶ answer
//!   BlockNetwork::set_membership ─▶ [Membership: session key ─▶ member, candidate, or nobody]   (each new epoch)
//! ```
//!
//! A libp2p peer id is an Ed25519 key. What counts is the validator's own post-quantum session key: each side first shows a [`PeerBinding`],
//! that key's signature over the peer id, and nothing else is sent to or taken from a peer that has not. TLS proves the peer id, the
//! binding proves whose it is, and the [`Membership`] of the running epoch says what that one may do. Connections outlive epochs.
//!
//! This crate never looks into a block, never decides who is honest, and never buffers without a bound: a peer that does not keep up
//! loses the oldest pushes and fetches them later.

mod binding;
mod codec;
mod hybrid_tls;
mod membership;
mod message;
mod network;
mod peers;
mod shared;
mod swarm;

pub use binding::{PeerBinding, binding_digest};
pub use membership::{Candidate, Membership, Role};
pub use message::{
    CATCH_UP_BYTES_MAX, CHECKPOINTS_MAX, FLOORS_MAX, PeerRequest, PeerResponse, REQUESTED_BLOCKS_MAX, RESPONSE_BYTES_MAX,
    STATE_PAGE_RECORDS_MAX,
};
pub use network::{BlockNetwork, ConnectedPeer, P2pConfig, P2pError, PeerHandler, PeerName, start};
