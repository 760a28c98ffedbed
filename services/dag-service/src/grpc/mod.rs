//! One file per RPC group: decode → check → call → encode.

mod dag;
mod submit;

pub(crate) use dag::DagGrpc;
