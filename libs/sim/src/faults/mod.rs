//! What goes wrong in a run: a small text, one fault per line.
//!
//! ```text
//! # a comment
//! at 2s crash 3 for 5s                      back after five seconds with what was durable; without "for": never again
//! at 2s crash 3 for 5s losing disk          back with an empty store; the double-sign guard is still there
//! at 2s crash 3 for 5s losing disk and keys the guard is lost as well
//! at 2s pause 0,1 for 3s                    the process stands still (SIGSTOP) and then handles all that has queued up
//! from 1s to 4s partition 0,1 | 2,3         nothing passes between the groups; who is in no group reaches nobody
//! from 1s to 4s cut 0 -> 1,2                one direction only
//! from 1s to 4s loss 10%                    of all messages; "between 0 and 2,3" limits it to these pairs
//! from 1s to 4s loss 10% as delay           as TCP shows loss: the message comes 200 ms later
//! from 1s to 4s duplicate 5%
//! from 1s to 4s reorder 20% by 300ms        so many messages come up to so much later
//! from 1s to 4s delay 80ms on region eu-west-1    added to every message from or to these
//! from 1s to 4s jitter 50ms on all
//! from 1s to 4s bandwidth 2 at 10mbit       what it can send
//! from 1s to 4s slow 2 by 100ms             handles each message so much later
//! from 1s to 4s disk 2 by 300ms             each write takes so much longer
//! at 3s clock 2 by -5s                      the wall clock jumps (and jumps back at the end, if there is one)
//! byzantine 3 equivocate-halves             from the start; any line may begin with "at" or "from"
//! from 2s byzantine 3 late 400ms
//! at 2s miscommit 1                         its next commit lacks a block, as a wrong commit rule would have it: the run must say Diverged
//! at 2s corrupt 1                           a record of its state changes by itself: the run must say Diverged
//! ```
//!
//! ```text
//! line  = [ "at" TIME | "from" TIME [ "to" TIME ] ] action [ "for" TIME ]
//! TIME  = NUMBER ( "ms" | "s" | "m" )
//! WHO   = "all" | "region" NAME | NUMBERS           NUMBERS = ( N | N "-" N ) { "," ( N | N "-" N ) }
//! ```

mod parse;
mod random;

use std::fmt;

pub use parse::FaultsError;
pub use random::random_faults;

/// A set of validators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Everybody.
    All,
    /// By number, ascending.
    These(Vec<u16>),
    /// All of a region.
    Region(String),
}

/// What a crash takes with it besides everything that was not durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lost {
    /// Nothing more.
    #[default]
    Memory,
    /// The store: blocks, commits, state.
    Disk,
    /// The store and the record of what was signed.
    DiskAndKeys,
}

/// How a validator breaks the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Proposes nothing.
    Silent,
    /// Two blocks per round, each to half of the others.
    EquivocateHalves,
    /// A different block for each of the others.
    EquivocateEach,
    /// Keeps its blocks from these, also when they ask.
    Withhold(Who),
    /// Sends these its headers with an empty body, also when they ask.
    WithholdBody(Who),
    /// Blocks whose parents break a rule or do not exist.
    InvalidParents,
    /// Blocks that are not signed by their author.
    InvalidSignatures,
    /// Blocks from the future, from before their parents, and from the past.
    InvalidTimestamps,
    /// Sends its blocks so many milliseconds late.
    Late(u64),
    /// Answers requests with nothing, with other blocks, with far too many, or with garbage.
    LieInSync,
    /// Many variants of its blocks, old blocks again, blocks far ahead, and a request at every turn.
    Flood,
    /// Puts transactions into its blocks that are unsigned, used up, or invented.
    BadTransactions,
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The process ends; see [`Lost`]. It starts again at the fault's end.
    Crash {
        /// Whose.
        who: Who,
        /// What it takes along.
        lost: Lost,
    },
    /// The process stands still.
    Pause {
        /// Whose.
        who: Who,
    },
    /// Messages pass within a group only.
    Partition {
        /// The groups.
        groups: Vec<Who>,
    },
    /// Messages from one set to the other are lost.
    Cut {
        /// From these.
        from: Who,
        /// To these.
        to: Who,
    },
    /// A share of the messages is lost, or comes late as TCP would have it.
    Loss {
        /// In 1,000.
        per_mille: u32,
        /// Between these and those, both directions.
        between: (Who, Who),
        /// A retransmission's delay instead of loss.
        as_delay: bool,
    },
    /// A share of the messages comes twice.
    Duplicate {
        /// In 1,000.
        per_mille: u32,
    },
    /// A share of the messages comes up to `by_ms` later.
    Reorder {
        /// In 1,000.
        per_mille: u32,
        /// At most so much later, in milliseconds.
        by_ms: u64,
    },
    /// Every message from or to these takes longer.
    Delay {
        /// By so many milliseconds.
        ms: u64,
        /// For these.
        on: Who,
    },
    /// Every message from or to these takes up to so much longer, at random.
    Jitter {
        /// At most, in milliseconds.
        ms: u64,
        /// For these.
        on: Who,
    },
    /// A bound on what one can send.
    Bandwidth {
        /// Whose.
        who: Who,
        /// In 1,000 bits per second.
        kbit: u64,
    },
    /// Each message is handled later.
    Slow {
        /// By whom.
        who: Who,
        /// In milliseconds.
        ms: u64,
    },
    /// Each write takes longer.
    SlowDisk {
        /// Whose.
        who: Who,
        /// In milliseconds.
        ms: u64,
    },
    /// The wall clock is off.
    Clock {
        /// Whose.
        who: Who,
        /// By so many milliseconds.
        ms: i64,
    },
    /// The validator breaks the protocol.
    Byzantine {
        /// Who.
        who: Who,
        /// How.
        behaviour: Behaviour,
    },
    /// The validator's commit rule goes wrong once: its next commit of several blocks lacks one.
    Miscommit {
        /// Whose.
        who: Who,
    },
    /// A record of the validator's state changes by itself, as faulty memory would have it.
    Corrupt {
        /// Whose.
        who: Who,
    },
}

/// One fault and when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Virtual milliseconds.
    pub from_ms: u64,
    /// Virtual milliseconds; `None` for ever.
    pub until_ms: Option<u64>,
    /// What goes wrong.
    pub what: FaultKind,
    /// Line of the text it was read from; 0 for none.
    pub line: usize,
}

/// Where a list of faults came from: part of the command that replays a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Made by hand, or there are none.
    #[default]
    Given,
    /// Read from this file.
    File(String),
    /// Made by [`random_faults`] with this seed: `--faults random:SEED`.
    Random(u64),
}

/// Everything that goes wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// In any order.
    pub list: Vec<Fault>,
    /// Where they came from.
    pub origin: Origin,
}

impl Faults {
    /// No faults.
    #[must_use]
    pub const fn none() -> Self {
        Self { list: Vec::new(), origin: Origin::Given }
    }

    /// Reads a script (see the module's text for the grammar).
    ///
    /// # Errors
    /// [`FaultsError`] with line and column.
    pub fn parse(text: &str) -> Result<Self, FaultsError> {
        let list = text.lines().zip(1..).map(|(line, number)| parse::line(line, number)).filter_map(Result::transpose);
        Ok(Self { list: list.collect::<Result<_, _>>()?, origin: Origin::Given })
    }

    /// What `--faults ARGUMENT` means: `random:SEED` makes [`random_faults`] for this run, anything else names a file, which `read` reads.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the argument, the file or the line.
    pub fn of_argument(
        argument: &str,
        validators: usize,
        seconds: u64,
        read: impl FnOnce(&str) -> std::io::Result<String>,
    ) -> Result<Self, String> {
        if let Some(seed) = argument.strip_prefix("random:") {
            let seed = seed.parse().map_err(|_| format!("--faults random:SEED needs a number, not {seed:?}"))?;
            return Ok(random_faults(seed, validators, seconds));
        }
        let text = read(argument).map_err(|error| format!("the fault script {argument} cannot be read: {error}"))?;
        let faults = Self::parse(&text).map_err(|error| format!("the fault script {argument}, {error}"))?;
        Ok(faults.with_origin(Origin::File(argument.to_owned())))
    }

    /// Says where these came from.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.origin = origin;
        self
    }

    /// Whether every validator and region named exists.
    ///
    /// # Errors
    /// [`FaultsError`] for the first line that names another one.
    pub fn check(&self, validators: usize, regions: &[String]) -> Result<(), FaultsError> {
        for fault in &self.list {
            for who in fault.what.everyone() {
                let wrong = match who {
                    Who::All => None,
                    Who::These(list) => list.iter().find(|n| usize::from(**n) >= validators).map(|n| format!("validator {n}")),
                    Who::Region(name) => (!regions.contains(name)).then(|| format!("region {name}")),
                };
                if let Some(wrong) = wrong {
                    let known = format!("validators are 0 to {}, regions {}", validators.saturating_sub(1), regions.join(", "));
                    return Err(FaultsError { line: fault.line, column: 1, message: format!("there is no {wrong}: {known}") });
                }
            }
        }
        Ok(())
    }

    /// Validators that break the protocol at some time; their own promises count for nothing.
    pub(crate) fn is_byzantine(&self, who: impl Fn(&Who) -> bool) -> bool {
        self.list.iter().any(|fault| matches!(&fault.what, FaultKind::Byzantine { who: set, .. } if who(set)))
    }
}

impl FaultKind {
    fn everyone(&self) -> Vec<&Who> {
        match self {
            Self::Partition { groups } => groups.iter().collect(),
            Self::Cut { from, to } => vec![from, to],
            Self::Loss { between, .. } => vec![&between.0, &between.1],
            Self::Duplicate { .. } | Self::Reorder { .. } => Vec::new(),
            Self::Delay { on, .. } | Self::Jitter { on, .. } => vec![on],
            Self::Byzantine { who, behaviour: Behaviour::Withhold(from) | Behaviour::WithholdBody(from) } => vec![who, from],
            Self::Crash { who, .. }
            | Self::Pause { who }
            | Self::Bandwidth { who, .. }
            | Self::Slow { who, .. }
            | Self::SlowDisk { who, .. }
            | Self::Clock { who, .. }
            | Self::Byzantine { who, .. }
            | Self::Miscommit { who }
            | Self::Corrupt { who } => vec![who],
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Region(name) => write!(f, "region {name}"),
            Self::These(list) => f.write_str(&list.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
        }
    }
}

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("silent"),
            Self::EquivocateHalves => f.write_str("equivocate-halves"),
            Self::EquivocateEach => f.write_str("equivocate-each"),
            Self::Withhold(from) => write!(f, "withhold {from}"),
            Self::WithholdBody(from) => write!(f, "withhold-body {from}"),
            Self::InvalidParents => f.write_str("invalid-parents"),
            Self::InvalidSignatures => f.write_str("invalid-signatures"),
            Self::InvalidTimestamps => f.write_str("invalid-timestamps"),
            Self::Late(ms) => write!(f, "late {ms}ms"),
            Self::LieInSync => f.write_str("lie-in-sync"),
            Self::Flood => f.write_str("flood"),
            Self::BadTransactions => f.write_str("bad-transactions"),
        }
    }
}

/// Parts of 1,000 as a percentage with at most one decimal.
fn percent(per_mille: u32) -> String {
    if per_mille.is_multiple_of(10) { format!("{}%", per_mille / 10) } else { format!("{}.{}%", per_mille / 10, per_mille % 10) }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { who, lost } => {
                let lost = match lost {
                    Lost::Memory => "",
                    Lost::Disk => " losing disk",
                    Lost::DiskAndKeys => " losing disk and keys",
                };
                write!(f, "crash {who}{lost}")
            }
            Self::Pause { who } => write!(f, "pause {who}"),
            Self::Partition { groups } => {
                write!(f, "partition {}", groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
            }
            Self::Cut { from, to } => write!(f, "cut {from} -> {to}"),
            Self::Loss { per_mille, between, as_delay } => {
                write!(f, "loss {}", percent(*per_mille))?;
                if *between != (Who::All, Who::All) {
                    write!(f, " between {} and {}", between.0, between.1)?;
                }
                f.write_str(if *as_delay { " as delay" } else { "" })
            }
            Self::Duplicate { per_mille } => write!(f, "duplicate {}", percent(*per_mille)),
            Self::Reorder { per_mille, by_ms } => write!(f, "reorder {} by {by_ms}ms", percent(*per_mille)),
            Self::Delay { ms, on } => write!(f, "delay {ms}ms on {on}"),
            Self::Jitter { ms, on } => write!(f, "jitter {ms}ms on {on}"),
            Self::Bandwidth { who, kbit } => write!(f, "bandwidth {who} at {kbit}kbit"),
            Self::Slow { who, ms } => write!(f, "slow {who} by {ms}ms"),
            Self::SlowDisk { who, ms } => write!(f, "disk {who} by {ms}ms"),
            Self::Clock { who, ms } => write!(f, "clock {who} by {ms:+}ms"),
            Self::Byzantine { who, behaviour } => write!(f, "byzantine {who} {behaviour}"),
            Self::Miscommit { who } => write!(f, "miscommit {who}"),
            Self::Corrupt { who } => write!(f, "corrupt {who}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.from_ms, self.until_ms) {
            (0, None) => {}
            (from, None) => write!(f, "from {from}ms ")?,
            (from, Some(until)) => write!(f, "from {from}ms to {until}ms ")?,
        }
        self.what.fmt(f)
    }
}

impl fmt::Display for Faults {
    /// The script that [`Faults::parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.list.iter().try_for_each(|fault| writeln!(f, "{fault}"))
    }
}
