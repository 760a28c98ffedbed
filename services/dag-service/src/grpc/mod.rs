//! One file per RPC group: decode → check → call → encode.

mod dag;
mod proofs;
mod submit;

pub(crate) use dag::DagGrpc;
