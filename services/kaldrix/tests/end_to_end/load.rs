//! Payments that flow while something happens to the network: each is sent until it is final, and the instants at which they become final are
//! what a gap is measured by.

use kaldrix_client::{Client, ClientError, TransactionBuilder, TransactionStatus, WaitFor};
use kaldrix_crypto::SecretKey;
use kaldrix_types::{Address, AssetId, ChainId, KeyRef, Scheme};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long one submission waits; then the same bytes are sent again, as any careful client does.
const ATTEMPT: Duration = Duration::from_secs(3);
/// A payment that is not final by then is lost.
const LOST_AFTER: Duration = Duration::from_secs(90);
const FUNDS: u128 = 1_000_000;

/// What became of the payments.
#[derive(Debug)]
pub(crate) struct LoadReport {
    /// When payments became final, in order.
    pub(crate) finals: Vec<Instant>,
    /// From the first submission of a payment to its end, in order.
    pub(crate) latencies: Vec<Duration>,
    /// Answers that were no payment's end: it was sent again.
    pub(crate) retries: usize,
    /// Payments that did not become final, and why.
    pub(crate) lost: Vec<String>,
    began: Instant,
    ended: Instant,
}

impl LoadReport {
    /// The longest time after the first payment in which none became final, and when it began, counted from the start.
    pub(crate) fn longest_gap(&self) -> (Duration, Duration) {
        let ends = self.finals.iter().copied().skip(1).chain([self.ended]);
        let gaps = self.finals.iter().zip(ends).map(|(from, to)| (to - *from, *from - self.began));
        gaps.max().unwrap_or((self.ended - self.began, Duration::ZERO))
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.finals.len() as f64 / (self.ended - self.began).as_secs_f64()
    }

    pub(crate) fn latency(&self, share: f64) -> Duration {
        let index = (self.latencies.len() as f64 * share) as usize;
        self.latencies.get(index.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// One line for people.
    pub(crate) fn line(&self) -> String {
        let (gap, at) = self.longest_gap();
        format!(
            "{} payments final in {:.1} s ({:.0}/s), longest gap {} ms (at {:.1} s), latency p50 {} ms, p99 {} ms, longest {} ms, \
             sent again {} times, lost {}",
            self.finals.len(),
            (self.ended - self.began).as_secs_f64(),
            self.per_second(),
            gap.as_millis(),
            at.as_secs_f64(),
            self.latency(0.5).as_millis(),
            self.latency(0.99).as_millis(),
            self.latency(1.0).as_millis(),
            self.retries,
            self.lost.len()
        )
    }

    /// Every payment became final, enough of them to see a gap, and there was none above `gap`.
    pub(crate) fn assert_steady(&self, gap: Duration) {
        assert!(self.lost.is_empty(), "{} payments were lost: {:?}", self.lost.len(), self.lost.first());
        assert!(self.per_second() >= 15.0, "too few payments to see a gap: {}", self.line());
        assert!(self.longest_gap().0 <= gap, "a gap: {}", self.line());
    }
}

/// Payers at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    finals: Arc<AtomicUsize>,
    payers: Vec<JoinHandle<Paid>>,
    began: Instant,
}

#[derive(Default)]
struct Paid {
    finals: Vec<(Instant, Duration)>,
    retries: usize,
    lost: Vec<String>,
}

struct Payer {
    client: Client,
    chain: ChainId,
    key: SecretKey,
    sequence: u64,
    period: Duration,
    stop: Arc<AtomicBool>,
    finals: Arc<AtomicUsize>,
}

impl Load {
    /// `payers` accounts that each pay once a `period`, one payment after the other, through `apis` in turn (and through the others when one
    /// does not answer). Returns when all are funded and at work.
    pub(crate) async fn start(apis: &[String], payers: usize, period: Duration) -> Self {
        let (stop, finals) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let funding = (0..payers).map(|i| {
            let (stop, finals) = (Arc::clone(&stop), Arc::clone(&finals));
            async move {
                let mut endpoints = apis.to_vec();
                endpoints.rotate_left(i % apis.len());
                let key = SecretKey::generate(Scheme::MlDsa65).unwrap();
                let client = Client::connect(&endpoints.join(",")).await.unwrap();
                let receipt = client.faucet(Address::of_key(key.public_key()), FUNDS).await.unwrap();
                assert!(client.wait_definite(receipt.id, Duration::from_secs(30)).await.unwrap().success);
                let chain = client.network().await.unwrap().chain_id;
                Payer { client, chain, key, sequence: 0, period, stop, finals }
            }
        });
        let ready: Vec<Payer> = futures::future::join_all(funding).await;
        let began = Instant::now();
        let payers = ready.into_iter().enumerate().map(|(i, payer)| {
            // Spread over the period.
            let delay = period.mul_f64(i as f64 / payers as f64);
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                payer.run().await
            })
        });
        Self { stop, finals, payers: payers.collect(), began }
    }

    /// Payments that are final by now.
    pub(crate) fn final_count(&self) -> usize {
        self.finals.load(Ordering::Relaxed)
    }

    /// Lets every payment that is under way become final, then reports.
    pub(crate) async fn finish(self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        let ended = Instant::now();
        let mut all = Paid::default();
        for payer in self.payers {
            let paid = payer.await.unwrap();
            all.finals.extend(paid.finals);
            all.retries += paid.retries;
            all.lost.extend(paid.lost);
        }
        let mut latencies: Vec<Duration> = all.finals.iter().map(|(_, latency)| *latency).collect();
        latencies.sort_unstable();
        // After the stop payments end, but no new ones begin.
        let mut finals: Vec<Instant> = all.finals.iter().map(|(at, _)| *at).filter(|at| *at <= ended).collect();
        finals.sort_unstable();
        LoadReport { finals, latencies, retries: all.retries, lost: all.lost, began: self.began, ended }
    }
}

impl Payer {
    async fn run(mut self) -> Paid {
        let mut paid = Paid::default();
        while !self.stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            match self.pay(&mut paid.retries).await {
                Ok(()) => {
                    paid.finals.push((Instant::now(), began.elapsed()));
                    self.finals.fetch_add(1, Ordering::Relaxed);
                }
                Err(reason) => {
                    paid.lost.push(reason);
                    return paid;
                }
            }
            tokio::time::sleep(self.period.saturating_sub(began.elapsed())).await;
        }
        paid
    }

    /// One payment, until it is final.
    async fn pay(&mut self, retries: &mut usize) -> Result<(), String> {
        let signed = TransactionBuilder::new(self.chain, Address::of_key(self.key.public_key()))
            .sequence(self.sequence)
            .valid_for(Duration::from_secs(600))
            .transfer(Address([9; 32]), AssetId::NATIVE, 1)
            .sign(&self.key, KeyRef::Inline(self.key.public_key().clone()))
            .map_err(|e| e.to_string())?;
        let deadline = Instant::now() + LOST_AFTER;
        loop {
            let answer = self.client.submit(&signed, WaitFor::Final, ATTEMPT).await;
            match &answer {
                Ok(receipt) if receipt.is_final_success() => break,
                Ok(receipt) if matches!(receipt.status, TransactionStatus::Accepted | TransactionStatus::Included) => {}
                Err(ClientError::NoLedger { .. } | ClientError::Timeout { .. } | ClientError::Api(_)) => {}
                other => return Err(format!("{other:?}")),
            }
            if Instant::now() > deadline {
                return Err(format!("not final after {LOST_AFTER:?}: {answer:?}"));
            }
            *retries += 1;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.sequence += 1;
        Ok(())
    }
}
