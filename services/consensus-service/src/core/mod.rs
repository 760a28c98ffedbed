//! The session: messages in, messages out, one owner of the pure core.

mod session;

pub(crate) use session::{Chain, Session, SessionError};
