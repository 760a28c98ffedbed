//! The service's reason to exist: turning executed commits into rows, and telling who waits for them.

mod hub;
mod project;
mod replay;

pub use hub::{Hub, Notice, NoticeTransaction};
pub use project::{Head, ProjectError, Projected, Projection};
pub use replay::{drop_decided_elsewhere, head_of, notices_from};
