//! Background tasks: one takes commits in, one writes them down.
//!
//! ```text
//!   dag-service ──stream──▶ source ──bounded by commits and bytes──▶ project ──▶ store, then Hub ──▶ subscribers
//! ```

mod backoff;
mod project;
mod source;

pub use backoff::Backoff;
pub use project::{BatchLimits, Projector};
pub use source::{Buffered, Inlet, Source, buffer};
