//! The open loop: every transaction at its time, each answer counted from that time.

use crate::progress::{bar, say};
use crate::report::{Outcome, Tally};
use crate::schedule::Schedule;
use kaldrix_client::{Client, ClientError, PreparedTransaction, Receipt, WaitFor};
use kaldrix_types::RejectCode;
use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// So that the first transactions are not late because the loop is only starting.
const HEAD_START: Duration = Duration::from_millis(200);
/// Between two attempts of a transaction whose predecessor is still on its way.
const GAP_PAUSE: Duration = Duration::from_millis(50);
/// On top of the longest wait, before the run is given up.
const DRAIN_GRACE: Duration = Duration::from_secs(15);

/// What is offered, and to whom.
pub(crate) struct Load {
    /// Account `a` keeps to client `a % clients`, so that its transactions arrive in order.
    pub(crate) clients: Vec<Client>,
    /// In the order of the schedule.
    pub(crate) transactions: Vec<PreparedTransaction>,
    pub(crate) schedule: Schedule,
    pub(crate) in_flight_max: u32,
    pub(crate) timeout: Duration,
}

struct Shared {
    load: Load,
    start: Instant,
    tally: Mutex<Tally>,
    /// Accounts with a transaction that did not make it: the later ones cannot either.
    stuck: Vec<AtomicBool>,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Offers everything and waits for every answer. Also the ids of what was accepted, in order.
pub(crate) async fn drive(load: Load) -> (Tally, Vec<PreparedTransaction>) {
    let stuck = (0..load.schedule.accounts).map(|_| AtomicBool::new(false)).collect();
    let permits = Arc::new(Semaphore::new(load.in_flight_max as usize));
    let in_flight_max = load.in_flight_max;
    let drain_max = load.timeout + DRAIN_GRACE;
    let shared = Arc::new(Shared { load, start: Instant::now() + HEAD_START, tally: Mutex::default(), stuck });
    let watcher = tokio::spawn(show(Arc::clone(&shared)));
    offer_all(&shared, &permits).await;
    if tokio::time::timeout(drain_max, permits.acquire_many(in_flight_max)).await.is_err() {
        say("some transactions had no answer long after their time-out; they are counted as unanswered");
    }
    watcher.abort();
    let _ = watcher.await;
    match Arc::try_unwrap(shared) {
        Ok(shared) => (shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner), shared.load.transactions),
        Err(shared) => {
            let mut tally = std::mem::take(&mut *shared.tally());
            tally.unanswered += tally.offered - tally.ended();
            (tally, shared.load.transactions.clone())
        }
    }
}

async fn offer_all(shared: &Arc<Shared>, permits: &Arc<Semaphore>) {
    let schedule = shared.load.schedule;
    let mut next = 0;
    while next < schedule.count {
        tokio::time::sleep_until(shared.start + schedule.due(next)).await;
        let due = schedule.due_count(shared.start.elapsed());
        let mut skipped = 0;
        for i in next..due {
            let (sender, _) = schedule.sender(i);
            if shared.stuck[sender].load(Ordering::Relaxed) {
                skipped += 1;
                continue;
            }
            match Arc::clone(permits).try_acquire_owned() {
                Ok(permit) => drop(tokio::spawn(submit(Arc::clone(shared), i, permit))),
                Err(_) => {
                    shared.stuck[sender].store(true, Ordering::Relaxed);
                    skipped += 1;
                }
            }
        }
        let mut tally = shared.tally();
        tally.offered += due.saturating_sub(next) - skipped;
        tally.not_offered += skipped;
        next = due.max(next);
    }
}

async fn submit(shared: Arc<Shared>, i: u64, permit: OwnedSemaphorePermit) {
    let load = &shared.load;
    let (sender, _) = load.schedule.sender(i);
    let client = &load.clients[sender % load.clients.len()];
    let outcome = Outcome::of(until_answered(client, &load.transactions[i as usize], load.timeout).await);
    if !matches!(outcome, Outcome::Final | Outcome::Failed(_)) {
        shared.stuck[sender].store(true, Ordering::Relaxed);
    }
    shared.tally().record(outcome, load.schedule.due(i), shared.start.elapsed());
    // The permit goes last: whoever holds all of them holds the only reference.
    drop(shared);
    drop(permit);
}

/// Submits; a predecessor that is still on its way is waited for.
async fn until_answered(client: &Client, transaction: &PreparedTransaction, timeout: Duration) -> Result<Receipt, ClientError> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = client.submit_prepared(transaction, WaitFor::Final, left).await;
        match &answer {
            Err(ClientError::Api(error)) if error.code == RejectCode::SequenceGap.into() && left > GAP_PAUSE => {
                tokio::time::sleep(GAP_PAUSE).await;
            }
            _ => return answer,
        }
    }
}

/// Shows how it goes until it is stopped.
async fn show(shared: Arc<Shared>) {
    let terminal = std::io::stderr().is_terminal();
    let bar = bar("offering", shared.load.schedule.count);
    let every = Duration::from_millis(if terminal { 500 } else { 5_000 });
    // A weak reference: the run ends when the last transaction does, not when the display does.
    let weak = Arc::downgrade(&shared);
    drop(shared);
    loop {
        tokio::time::sleep(every).await;
        let Some(shared) = weak.upgrade() else { break };
        let line = {
            let tally = shared.tally();
            bar.set_position(tally.ended() + tally.not_offered);
            format!(
                "final {}, in flight {}, not final {}, p50 {} ms, p99 {} ms",
                tally.finals,
                tally.offered - tally.ended(),
                tally.ended() - tally.finals,
                tally.quantile_ms(0.5),
                tally.quantile_ms(0.99)
            )
        };
        drop(shared);
        if terminal { bar.set_message(line) } else { say(&line) }
    }
    bar.finish_and_clear();
}
