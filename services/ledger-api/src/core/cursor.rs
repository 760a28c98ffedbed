//! Text cursors of pages and event streams. Clients treat them as opaque.

use crate::error::invalid;
use kaldrix_api::ApiError;
use kaldrix_types::CommitIndex;

/// A place in the order of transactions: everything up to it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The commit.
    pub commit: CommitIndex,
    /// Last transaction seen of it; `None` when all of it has been seen.
    pub position: Option<u32>,
}

impl Cursor {
    /// All of `commit` has been seen.
    #[must_use]
    pub const fn behind(commit: CommitIndex) -> Self {
        Self { commit, position: None }
    }

    /// Whether the transaction at this place is still ahead.
    #[must_use]
    pub fn is_before(self, commit: CommitIndex, position: u32) -> bool {
        match self.position {
            Some(seen) => (commit, position) > (self.commit, seen),
            None => commit > self.commit,
        }
    }

    /// The first commit that may hold something unseen.
    #[must_use]
    pub const fn next_commit(self) -> CommitIndex {
        match self.position {
            Some(_) => self.commit,
            None => self.commit.saturating_add(1),
        }
    }

    /// Reads `12` (commit 12 done) or `12.3` (up to transaction 3 of commit 12).
    ///
    /// # Errors
    /// INVALID_ARGUMENT naming `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, ApiError> {
        let wrong = || invalid(field, "use a cursor exactly as the server gave it, such as 12 or 12.3");
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            if digits { text.parse::<u64>().map_err(|_| wrong()) } else { Err(wrong()) }
        };
        match text.split_once('.') {
            None => Ok(Self { commit: number(text)?, position: None }),
            Some((commit, position)) => {
                Ok(Self { commit: number(commit)?, position: Some(u32::try_from(number(position)?).map_err(|_| wrong())?) })
            }
        }
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.position {
            Some(position) => write!(f, "{}.{position}", self.commit),
            None => write!(f, "{}", self.commit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text_form_and_garbage_is_refused() {
        for cursor in [Cursor::behind(0), Cursor::behind(u64::MAX), Cursor { commit: 12, position: Some(3) }] {
            assert_eq!(Cursor::parse("after", &cursor.to_string()), Ok(cursor));
        }
        for garbage in ["", "-1", "1.", ".1", "1.2.3", "1.4294967296", "99999999999999999999", "+1", "a"] {
            assert!(Cursor::parse("after", garbage).is_err(), "{garbage:?}");
        }
    }

    #[test]
    fn a_cursor_inside_a_commit_leaves_the_rest_of_it_ahead() {
        let inside = Cursor { commit: 5, position: Some(2) };
        assert!(!inside.is_before(5, 2) && inside.is_before(5, 3) && inside.is_before(6, 0));
        assert_eq!(inside.next_commit(), 5);
        assert!(!Cursor::behind(5).is_before(5, 9));
        assert_eq!(Cursor::behind(5).next_commit(), 6);
    }
}
