//! The audit log: one JSON line for each request to sign, whatever became of it.
//!
//! Appended, never rewritten; at its size limit the file becomes `<name>.1`, replacing the one before. A line is in the kernel's hands before
//! the signature leaves; it survives a crash of the process, while the double-sign guard is what survives a crash of the machine.

use crate::core::policy::Request;
use kaldrix_types::{Digest, Epoch, KeyId, Round, TimestampMs};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Signed.
    Signed,
    /// Signed again: the same digest as last.
    SignedAgain,
    /// Refused: a second digest for the round signed last.
    RefusedConflict,
    /// Refused: below the round signed last.
    RefusedPast,
    /// Refused by the policy.
    RefusedPolicy,
    /// Refused: no such key here.
    RefusedUnknownKey,
}

impl Outcome {
    /// The name in the log and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::SignedAgain => "signed_again",
            Self::RefusedConflict => "refused_conflict",
            Self::RefusedPast => "refused_past",
            Self::RefusedPolicy => "refused_policy",
            Self::RefusedUnknownKey => "refused_unknown_key",
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time_ms: TimestampMs,
    caller: &'a str,
    purpose: &'static str,
    key: KeyId,
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<Round>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<Digest>,
    decision: Outcome,
}

/// One request, as it is written down.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// This machine's clock.
    pub time_ms: TimestampMs,
    /// Who asked.
    pub caller: &'a str,
    /// For a signature of which key.
    pub key: KeyId,
    /// For what.
    pub request: &'a Request,
    /// What would be, or was, signed over; `None` when that depends on a key that is not here.
    pub digest: Option<Digest>,
    /// What became of it.
    pub decision: Outcome,
}

/// An open audit log.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl AuditLog {
    /// Opens the log at `path`, or begins it. Together with its predecessor it takes at most about twice `bytes_max`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        let mut log = Self { path: path.to_owned(), file, bytes, bytes_max };
        let mut last = [0];
        // A crash can leave half a line: end it, so that the next one stays readable.
        if bytes > 0 && log.file.read_exact_at(&mut last, bytes - 1).is_ok() && last[0] != b'\n' {
            log.file.write_all(b"\n")?;
            log.bytes += 1;
        }
        Ok(log)
    }

    /// Appends one line.
    ///
    /// # Errors
    /// Whatever the file system says; the signature must not leave then.
    pub fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let Entry { time_ms, caller, key, request, digest, decision } = *entry;
        let (purpose, epoch, round) = match request {
            Request::Block { epoch, round, .. } => ("block", Some(*epoch), Some(*round)),
            Request::PeerBinding { .. } => ("peer_binding", None, None),
            Request::Evidence(_) => ("evidence", None, None),
            Request::KeyProof { .. } => ("key_proof", None, None),
        };
        let mut line = serde_json::to_vec(&Line { time_ms, caller, purpose, key, epoch, round, digest, decision })?;
        line.push(b'\n');
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.bytes_max {
            self.rotate()?;
        }
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        let mut predecessor = self.path.clone().into_os_string();
        predecessor.push(".1");
        fs::rename(&self.path, predecessor)?;
        self.file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::ChainId;
    use tempfile::TempDir;

    fn request(round: Round) -> Request {
        Request::Block { chain: ChainId::default(), epoch: 2, round, digest: Digest([0xab; 32]) }
    }

    fn append(log: &mut AuditLog, time_ms: TimestampMs, caller: &str, request: &Request, decision: Outcome) {
        let digest = Some(Digest([0xab; 32]));
        log.append(&Entry { time_ms, caller, key: Digest([0xcd; 32]), request, digest, decision }).unwrap();
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    #[test]
    fn each_request_is_one_line_that_says_who_asked_for_what_and_what_became_of_it() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = AuditLog::open(&path, 1 << 20).unwrap();
        append(&mut log, 17, "spiffe://x/\"quoted\"\n", &request(7), Outcome::RefusedConflict);
        let binding = Request::PeerBinding { chain: ChainId::default(), digest: Digest([1; 32]) };
        append(&mut log, 18, "b", &binding, Outcome::Signed);
        let lines = lines(&path);
        assert_eq!(lines[0]["caller"], "spiffe://x/\"quoted\"\n");
        assert_eq!((lines[0]["epoch"].as_u64(), lines[0]["round"].as_u64(), lines[0]["time_ms"].as_u64()), (Some(2), Some(7), Some(17)));
        assert_eq!(lines[0]["decision"], Outcome::RefusedConflict.as_str());
        assert_eq!(lines[0]["digest"], "ab".repeat(32));
        assert_eq!(lines[0]["key"], "cd".repeat(32));
        assert_eq!((lines[1]["purpose"].as_str(), lines[1].get("round")), (Some("peer_binding"), None));
    }

    #[test]
    fn the_log_goes_on_after_a_restart_even_in_the_middle_of_a_line() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("audit.jsonl");
        append(&mut AuditLog::open(&path, 1 << 20).unwrap(), 1, "a", &request(1), Outcome::Signed);
        let torn = [fs::read(&path).unwrap(), br#"{"time_ms":2,"cal"#.to_vec()].concat();
        fs::write(&path, torn).unwrap();
        append(&mut AuditLog::open(&path, 1 << 20).unwrap(), 3, "a", &request(3), Outcome::Signed);
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(serde_json::from_str::<serde_json::Value>(lines[2]).is_ok());
    }

    #[test]
    fn its_size_is_bounded_and_the_newest_lines_are_there() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut log = AuditLog::open(&path, 1000).unwrap();
        for round in 1..=100 {
            append(&mut log, round, "caller", &request(round), Outcome::Signed);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        for entry in fs::read_dir(folder.path()).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().len() <= 1000);
        }
        assert_eq!(lines(&path).last().unwrap()["round"], 100);
    }
}
