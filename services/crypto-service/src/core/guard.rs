//! Double-sign protection: the last block this key signed, durable before any signature leaves.
//!
//! ```text
//!   offset 0      slot 0 ─┐  each: magic, generation, key, chain, epoch, round, digest, checksum
//!   offset 4096   slot 1 ─┘  the newer generation with a right checksum counts; the older one is overwritten next
//! ```
//!
//! A crash can tear the slot being written and no other, and the signature that the record was for has not left then. So the remaining slot holds
//! the last signature that can exist. With both slots unreadable nobody knows what was signed: that is an error for a person, never a fresh start.

use kaldrix_types::{ChainId, Digest, Epoch, KeyId, Round};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"KXGUARD1";
/// Slots lie in different pages, hence in different sectors of any disk: one torn write cannot reach both.
const SLOT_DISTANCE: u64 = 4096;
const FILE_BYTES: u64 = 2 * SLOT_DISTANCE;
const RECORD_BYTES: usize = 8 + 8 + 32 + 32 + 8 + 8 + 32;
const SLOT_BYTES: usize = RECORD_BYTES + 32;

/// What the first record of a guard says when its key may have signed before.
const UNKNOWN_PAST: Digest = Digest([0xff; 32]);

/// Where a guard's key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was made just now: it has signed nothing.
    NewKey,
    /// It existed before, and what it signed is not known here.
    ExistingKey,
}

/// Why the guard cannot say whether signing is safe. Nothing may be signed then.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// No file. A key that may have signed before must not start without its guard.
    #[error(
        "the double-sign guard {path} is missing: restore it with the key it belongs to; if it is lost, --new-guard makes one, and the validator asks the others how far it may have signed"
    )]
    Missing {
        /// Where it should be.
        path: PathBuf,
    },
    /// There is a guard already, and one is never replaced.
    #[error("the double-sign guard {path} exists already and is never replaced")]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// Neither slot can be read.
    #[error(
        "the double-sign guard {path} is damaged: nobody knows what this key has signed. Restore no old copy; retire the key and rotate to a new one"
    )]
    Damaged {
        /// Where it is.
        path: PathBuf,
    },
    /// The guard was made for another key or another chain.
    #[error("the double-sign guard {path} belongs to another {what}: check the paths in [crypto]")]
    Foreign {
        /// Where it is.
        path: PathBuf,
        /// Key or chain.
        what: &'static str,
    },
    /// Another process has it open.
    #[error("the double-sign guard {path} is in use by another process: two signers for one key would defeat it; stop the other one")]
    InUse {
        /// Where it is.
        path: PathBuf,
    },
    /// An earlier write failed, so the disk's content is unknown until the file is read again.
    #[error("an earlier write of the double-sign guard failed: restart the service when the disk is healthy")]
    Poisoned,
    /// Reading or writing failed.
    #[error("the double-sign guard {path}: {source}")]
    Io {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What the guard says to one (epoch, round, digest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// New, and recorded durably: sign.
    Recorded,
    /// Exactly what was signed last, for instance before a crash: signing again is harmless.
    Repeated,
    /// A different digest for the round that was signed last: signing would be an equivocation.
    Conflict {
        /// The digest that was signed.
        signed: Digest,
    },
    /// Before the last signed (epoch, round): what was signed there is not known any more.
    Past {
        /// Last signed epoch.
        epoch: Epoch,
        /// Last signed round.
        round: Round,
    },
}

impl Decision {
    /// Whether the signature may be made.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Recorded | Self::Repeated)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Record {
    generation: u64,
    key: KeyId,
    chain: ChainId,
    epoch: Epoch,
    round: Round,
    digest: Digest,
}

impl Record {
    fn encode(&self) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        let fields: [&[u8]; 7] = [
            MAGIC,
            &self.generation.to_le_bytes(),
            self.key.as_bytes(),
            self.chain.as_bytes(),
            &self.epoch.to_le_bytes(),
            &self.round.to_le_bytes(),
            self.digest.as_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        let checksum = checksum(&bytes[..RECORD_BYTES]);
        bytes[RECORD_BYTES..].copy_from_slice(&checksum);
        bytes
    }

    /// `None` for anything but a whole record.
    fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Self> {
        let (record, expected) = bytes.split_at(RECORD_BYTES);
        if &record[..8] != MAGIC || checksum(record) != *expected {
            return None;
        }
        let number = |at: usize| record[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let digest = |at: usize| Digest::try_from(&record[at..at + 32]).ok();
        Some(Self {
            generation: number(8)?,
            key: digest(16)?,
            chain: ChainId(digest(48)?),
            epoch: number(80)?,
            round: number(88)?,
            digest: digest(96)?,
        })
    }
}

fn checksum(record: &[u8]) -> [u8; 32] {
    blake3::derive_key("kaldrix 2026 double-sign guard v1", record)
}

/// The open guard of one key. It locks its file against other processes for as long as it lives.
#[derive(Debug)]
pub struct Guard {
    path: PathBuf,
    file: File,
    last: Record,
    recovered: bool,
    poisoned: bool,
}

impl Guard {
    /// Makes a guard; `origin` says whether the key may have signed before. Durable when this returns.
    ///
    /// # Errors
    /// [`GuardError::Exists`] or [`GuardError::Io`].
    pub fn create(path: &Path, key: KeyId, chain: ChainId, origin: Origin) -> Result<Self, GuardError> {
        let io = |source| GuardError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => GuardError::Exists { path: path.to_owned() },
            _ => io(e),
        })?;
        lock(&file, path)?;
        file.set_len(FILE_BYTES).map_err(io)?;
        // Round 0 exists by definition and is never signed: it stands for "nothing yet". Both slots are whole from the start, so that an
        // unreadable one always means something.
        let digest = if origin == Origin::NewKey { Digest::ZERO } else { UNKNOWN_PAST };
        let last = Record { generation: 1, key, chain, epoch: 0, round: 0, digest };
        file.write_all_at(&Record { generation: 0, ..last }.encode(), 0).map_err(io)?;
        file.write_all_at(&last.encode(), SLOT_DISTANCE).map_err(io)?;
        file.sync_all().map_err(io)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(Self { path: path.to_owned(), file, last, recovered: false, poisoned: false })
    }

    /// Opens the guard of `key` on `chain`.
    ///
    /// # Errors
    /// Every [`GuardError`] but [`GuardError::Exists`] and [`GuardError::Poisoned`].
    pub fn open(path: &Path, key: KeyId, chain: ChainId) -> Result<Self, GuardError> {
        let io = |source| GuardError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => GuardError::Missing { path: path.to_owned() },
            _ => io(e),
        })?;
        lock(&file, path)?;
        let slots = [read_slot(&file, 0).map_err(io)?, read_slot(&file, 1).map_err(io)?];
        let recovered = slots.iter().any(Option::is_none);
        let last = slots.into_iter().flatten().max_by_key(|r| r.generation).ok_or_else(|| GuardError::Damaged { path: path.to_owned() })?;
        for (same, what) in [(last.key == key, "key"), (last.chain == chain, "chain")] {
            if !same {
                return Err(GuardError::Foreign { path: path.to_owned(), what });
            }
        }
        Ok(Self { path: path.to_owned(), file, last, recovered, poisoned: false })
    }

    /// Last signed (epoch, round); round 0 when nothing was signed yet.
    #[must_use]
    pub const fn last(&self) -> (Epoch, Round) {
        (self.last.epoch, self.last.round)
    }

    /// Whether the guard has seen everything that its key ever signed: it was made with the key, or has seen a signature since.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.last.round > 0 || self.last.digest != UNKNOWN_PAST
    }

    /// Whether one slot was unreadable when the file was opened: expected after a crash during a write, worth a warning at any rate.
    #[must_use]
    pub const fn was_recovered(&self) -> bool {
        self.recovered
    }

    /// Decides on signing `digest` at (`epoch`, `round`), compared in that order. [`Decision::Recorded`] is durable when this returns: one
    /// `fdatasync`.
    ///
    /// # Errors
    /// [`GuardError::Io`] when the record could not be made durable, and [`GuardError::Poisoned`] ever after: do not sign.
    pub fn check_and_record(&mut self, epoch: Epoch, round: Round, digest: Digest) -> Result<Decision, GuardError> {
        if self.poisoned {
            return Err(GuardError::Poisoned);
        }
        let last = self.last;
        match (epoch, round).cmp(&(last.epoch, last.round)) {
            std::cmp::Ordering::Less => return Ok(Decision::Past { epoch: last.epoch, round: last.round }),
            // Round 0 is in no slot as a signature; nobody signs a genesis block.
            std::cmp::Ordering::Equal if round == 0 => return Ok(Decision::Past { epoch: last.epoch, round: last.round }),
            std::cmp::Ordering::Equal if digest == last.digest => return Ok(Decision::Repeated),
            std::cmp::Ordering::Equal => return Ok(Decision::Conflict { signed: last.digest }),
            std::cmp::Ordering::Greater => {}
        }
        let next = Record { generation: last.generation + 1, epoch, round, digest, ..last };
        let offset = next.generation % 2 * SLOT_DISTANCE;
        if let Err(source) = self.file.write_all_at(&next.encode(), offset).and_then(|()| self.file.sync_data()) {
            // After a failed sync the kernel may have dropped the page: memory and disk can differ from now on.
            self.poisoned = true;
            return Err(GuardError::Io { path: self.path.clone(), source });
        }
        self.last = next;
        Ok(Decision::Recorded)
    }
}

fn lock(file: &File, path: &Path) -> Result<(), GuardError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(GuardError::InUse { path: path.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(GuardError::Io { path: path.to_owned(), source }),
    }
}

fn read_slot(file: &File, slot: u64) -> io::Result<Option<Record>> {
    let mut bytes = [0; SLOT_BYTES];
    match file.read_exact_at(&mut bytes, slot * SLOT_DISTANCE) {
        Ok(()) => Ok(Record::decode(&bytes).filter(|r| r.generation % 2 == slot)),
        // A shortened file lacks the slot; the other one may still be there.
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    const KEY: KeyId = Digest([1; 32]);
    const CHAIN: ChainId = ChainId(Digest([2; 32]));

    fn digest(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    fn fresh() -> (TempDir, PathBuf, Guard) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("guard");
        let guard = Guard::create(&path, KEY, CHAIN, Origin::NewKey).unwrap();
        (folder, path, guard)
    }

    fn reopen(guard: Guard) -> Guard {
        let path = guard.path.clone();
        drop(guard);
        Guard::open(&path, KEY, CHAIN).unwrap()
    }

    #[test]
    fn rounds_go_up_the_same_block_may_be_signed_again_and_nothing_else() {
        let (_folder, _, mut guard) = fresh();
        for restart in [false, true] {
            let base = if restart { 10 } else { 1 };
            assert_eq!(guard.check_and_record(0, base, digest(1)).unwrap(), Decision::Recorded);
            assert_eq!(guard.check_and_record(0, base + 4, digest(2)).unwrap(), Decision::Recorded);
            guard = reopen(guard);
            assert!(!guard.was_recovered());
            assert_eq!(guard.check_and_record(0, base + 4, digest(2)).unwrap(), Decision::Repeated);
            assert_eq!(guard.check_and_record(0, base + 4, digest(3)).unwrap(), Decision::Conflict { signed: digest(2) });
            assert_eq!(guard.check_and_record(0, base, digest(1)).unwrap(), Decision::Past { epoch: 0, round: base + 4 });
            assert_eq!(guard.last(), (0, base + 4));
            assert!(guard.is_complete());
        }
    }

    #[test]
    fn a_later_epoch_counts_before_the_round_and_round_zero_is_never_signed() {
        let (_folder, _, mut guard) = fresh();
        assert!(!guard.check_and_record(0, 0, Digest::ZERO).unwrap().is_allowed());
        assert!(guard.check_and_record(0, 9, digest(1)).unwrap().is_allowed());
        assert!(guard.check_and_record(1, 1, digest(2)).unwrap().is_allowed());
        assert_eq!(guard.check_and_record(0, 10, digest(3)).unwrap(), Decision::Past { epoch: 1, round: 1 });
    }

    /// Leaves exactly the bytes of a write that stopped after `written` bytes, and reopens.
    fn tear(path: &Path, offset: u64, next: &[u8; SLOT_BYTES], written: usize) -> Guard {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.write_all_at(&next[..written], offset).unwrap();
        drop(file);
        Guard::open(path, KEY, CHAIN).unwrap()
    }

    #[test]
    fn a_write_torn_at_any_byte_in_either_slot_leaves_the_last_signature_known() {
        for rounds in [3, 4] {
            let (_folder, path, mut guard) = fresh();
            for round in 1..=rounds {
                guard.check_and_record(0, round, digest(round as u8)).unwrap();
            }
            let next = Record { generation: guard.last.generation + 1, round: rounds + 1, digest: digest(0xee), ..guard.last };
            let offset = next.generation % 2 * SLOT_DISTANCE;
            drop(guard);
            let before = fs::read(&path).unwrap();
            for written in 0..=SLOT_BYTES {
                fs::write(&path, &before).unwrap();
                let guard = tear(&path, offset, &next.encode(), written);
                // A record counts from its last byte on; what was released before stays refused in any case.
                let expected = if guard.last.digest == digest(0xee) { rounds + 1 } else { rounds };
                assert_eq!(guard.last(), (0, expected), "{written} bytes");
                drop(guard);
                let mut guard = Guard::open(&path, KEY, CHAIN).unwrap();
                assert!(!guard.check_and_record(0, rounds, digest(0xdd)).unwrap().is_allowed(), "{written} bytes");
                assert!(guard.check_and_record(0, rounds + 2, digest(0xdd)).unwrap().is_allowed());
                drop(guard);
                assert!(!Guard::open(&path, KEY, CHAIN).unwrap().was_recovered(), "the next write heals the torn slot");
            }
        }
    }

    #[test]
    fn a_lost_a_damaged_and_a_foreign_guard_are_loud_errors_and_never_a_fresh_start() {
        let (_folder, path, mut guard) = fresh();
        guard.check_and_record(0, 5, digest(1)).unwrap();
        drop(guard);
        let whole = fs::read(&path).unwrap();
        assert!(matches!(Guard::create(&path, KEY, CHAIN, Origin::NewKey), Err(GuardError::Exists { .. })));
        assert!(matches!(Guard::open(&path, digest(9), CHAIN), Err(GuardError::Foreign { what: "key", .. })));
        assert!(matches!(Guard::open(&path, KEY, ChainId(digest(9))), Err(GuardError::Foreign { what: "chain", .. })));
        for damaged in [vec![], vec![0; whole.len()], whole.iter().map(|b| b ^ 0x10).collect(), whole[..SLOT_BYTES - 1].to_vec()] {
            fs::write(&path, damaged).unwrap();
            assert!(matches!(Guard::open(&path, KEY, CHAIN), Err(GuardError::Damaged { .. })));
        }
        // One flipped bit in each slot.
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        flipped[SLOT_DISTANCE as usize + 90] ^= 1;
        fs::write(&path, flipped).unwrap();
        assert!(matches!(Guard::open(&path, KEY, CHAIN), Err(GuardError::Damaged { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(Guard::open(&path, KEY, CHAIN), Err(GuardError::Missing { .. })));
    }

    #[test]
    fn two_signers_cannot_share_one_guard() {
        let (_folder, path, guard) = fresh();
        assert!(matches!(Guard::open(&path, KEY, CHAIN), Err(GuardError::InUse { .. })));
        drop(guard);
        assert!(Guard::open(&path, KEY, CHAIN).is_ok());
    }

    #[test]
    fn after_a_failed_write_nothing_is_allowed_any_more() {
        let (_folder, path, mut guard) = fresh();
        guard.check_and_record(0, 1, digest(1)).unwrap();
        // A read-only descriptor makes the next write fail as a full or dying disk would.
        guard.file = File::open(&path).unwrap();
        assert!(matches!(guard.check_and_record(0, 2, digest(2)), Err(GuardError::Io { .. })));
        assert!(matches!(guard.check_and_record(0, 1, digest(1)), Err(GuardError::Poisoned)));
    }
}
