//! One session with a dag-service, without the socket: what comes in is a checked message, what goes out is a list of answers.

use crate::metrics::Metrics;
use kaldrix_consensus::{Action, ConsensusCore, CoreConfig, CoreStatus, Decision, Recovered, StakeSchedule};
use kaldrix_proto::consensus::{CommitDecision, DriveResponse, HeaderEntry, Hello, Propose, drive_response};
use kaldrix_proto::{DecodeError, decode_bcs, digest};
use kaldrix_types::{ChainId, Commit, Committee, CommitteeParts, Epoch, Header, ValidatorIndex, encode, limits};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

const COMMIT_BYTES_MAX: usize = 16 << 20;
/// Blocks whose traces are remembered until they are ordered.
const TRACED_BLOCKS_MAX: usize = 1_024;

/// Longest encoding of a committee: 1,000 validators with the largest keys.
const COMMITTEE_BYTES_MAX: usize = 8 << 20;

/// What does not change while the service runs.
#[derive(Clone)]
pub(crate) struct Chain {
    pub(crate) id: ChainId,
    /// This validator's name: its seat may be another in each epoch, or none.
    pub(crate) validator: String,
    pub(crate) config: CoreConfig,
}

/// Why a session is refused or ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("the session is for {what} {found}, this service is for {expected}")]
    Other { what: &'static str, found: String, expected: String },
    #[error("the headers have a hole: {0}")]
    Broken(String),
    #[error("the epoch's validators form no committee: {0}")]
    Committee(#[from] kaldrix_types::CommitteeError),
}

/// See the module's text.
pub(crate) struct Session {
    core: ConsensusCore,
    epoch: Epoch,
    started: Instant,
    metrics: Arc<Metrics>,
    traces: HashMap<kaldrix_types::BlockRef, Vec<String>>,
}

impl Session {
    pub(crate) fn begin(chain: &Chain, hello: &Hello, metrics: Arc<Metrics>) -> Result<Self, SessionError> {
        let found = ChainId(digest("chain_id", &hello.chain_id)?);
        // Committees change with the epochs; who they are is on the ledger, which this validator's dag-service executes.
        let parts: CommitteeParts = decode_bcs("committee", &hello.committee, COMMITTEE_BYTES_MAX)?;
        let committee = Arc::new(Committee::try_from(parts)?);
        for found in [found, committee.chain()] {
            if found != chain.id {
                return Err(SessionError::Other { what: "chain", found: found.to_string(), expected: chain.id.to_string() });
            }
        }
        if hello.epoch != committee.epoch() {
            return Err(SessionError::Other { what: "epoch", found: hello.epoch.to_string(), expected: committee.epoch().to_string() });
        }
        let own = committee.index_of(&chain.validator).unwrap_or(ValidatorIndex::OBSERVER);
        if hello.validator != u32::from(own.0) {
            return Err(SessionError::Other { what: "validator", found: hello.validator.to_string(), expected: own.to_string() });
        }
        let last_commit = if hello.last_commit.is_empty() {
            None
        } else {
            Some(decode_bcs::<Commit>("last_commit", &hello.last_commit, COMMIT_BYTES_MAX)?)
        };
        let recovered = Recovered { last_commit, own_last_round: hello.own_last_round };
        let leaders = StakeSchedule::new(&committee);
        let config = CoreConfig { epoch_ends_at_ms: Some(hello.epoch_ends_at_ms), ..chain.config };
        let core = ConsensusCore::new(committee, own, config, leaders, recovered, 0);
        metrics.sessions.inc();
        Ok(Self { core, epoch: hello.epoch, started: Instant::now(), metrics, traces: HashMap::new() })
    }

    pub(crate) fn headers(&mut self, entries: Vec<HeaderEntry>) -> Result<Vec<DriveResponse>, SessionError> {
        let now_ms = self.now_ms();
        let mut answers = Vec::new();
        for entry in entries {
            let header: Header = decode_bcs("header", &entry.header, limits::HEADER_BYTES_MAX)?;
            let reference = header.reference();
            if !entry.traceparents.is_empty() && self.traces.len() < TRACED_BLOCKS_MAX {
                self.traces.insert(reference, entry.traceparents);
            }
            let actions = self.core.on_header(reference, Arc::new(header), entry.committed, now_ms);
            answers.extend(self.answer(actions)?);
        }
        self.metrics.status(&self.core.status());
        Ok(answers)
    }

    pub(crate) fn replay_done(&mut self) -> Result<Vec<DriveResponse>, SessionError> {
        let actions = self.core.finish_recovery(self.now_ms());
        self.answer(actions)
    }

    pub(crate) fn pending(&mut self, transactions: bool) -> Result<Vec<DriveResponse>, SessionError> {
        let actions = self.core.on_pending(transactions, self.now_ms());
        self.answer(actions)
    }

    pub(crate) fn tick(&mut self) -> Result<Vec<DriveResponse>, SessionError> {
        let actions = self.core.on_tick(self.now_ms());
        self.answer(actions)
    }

    /// When to call [`Self::tick`] if nothing comes before.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.core.next_deadline_ms().map(|ms| self.started + std::time::Duration::from_millis(ms))
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(crate) fn status(&self) -> CoreStatus {
        self.core.status()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn answer(&mut self, actions: Vec<Action>) -> Result<Vec<DriveResponse>, SessionError> {
        let mut answers = Vec::with_capacity(actions.len());
        for action in actions {
            let message = match action {
                Action::Propose { round } => {
                    self.metrics.proposed();
                    drive_response::Message::Propose(Propose { round })
                }
                Action::Commit(decided) => {
                    self.metrics.decided(decided.decision, decided.skipped.len());
                    self.trace(&decided.commit);
                    drive_response::Message::Commit(CommitDecision {
                        commit: encode(&decided.commit).into(),
                        direct: decided.decision == Decision::DirectCommit,
                        skipped: u32::try_from(decided.skipped.len()).unwrap_or(u32::MAX),
                    })
                }
                Action::Refused { block, why } => return Err(SessionError::Broken(format!("{block}: {why}"))),
            };
            answers.push(DriveResponse { message: Some(message) });
        }
        Ok(answers)
    }

    /// One span per traced transaction's block: "ordered here".
    fn trace(&mut self, commit: &Commit) {
        if self.traces.is_empty() {
            return;
        }
        for block in &commit.blocks {
            for traceparent in self.traces.remove(block).unwrap_or_default() {
                let span = kaldrix_service_kit::telemetry::span_in_trace("order", "consensus-service", Some(&traceparent));
                span.in_scope(|| tracing::debug!(commit = commit.index, %block, "ordered"));
            }
        }
        self.traces.retain(|block, _| block.round > commit.gc_round);
    }
}
