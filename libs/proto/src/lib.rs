//! Generated Protobuf code and the conversions that are the validation boundary: bytes → message → checked domain type.
//!
//! ```text
//!   wire ──prost──▶ message ──decode_*()──▶ kaldrix_types value     (fails with [`DecodeError`], never panics)
//! ```
//!
//! Only this crate, `libs/api` and the services' `grpc` folders see these types.

mod convert;

pub use convert::{DecodeError, decode_bcs, digest, transaction_id};

/// File descriptors of every service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

macro_rules! generated {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        #[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

generated!(
    /// The public API.
    ledger,
    "kaldrix.ledger.v1"
);
generated!(
    /// The data plane of a validator.
    dag,
    "kaldrix.dag.v1"
);
generated!(
    /// The control plane of a validator.
    consensus,
    "kaldrix.consensus.v1"
);
generated!(
    /// The keys of a validator.
    crypto,
    "kaldrix.crypto.v1"
);
generated!(
    /// The read model of a region.
    region,
    "kaldrix.region.v1"
);
