//! How long the last minute's payments took to become final: a bounded window, for the status page and `kaldrix dev`.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(60);
const SAMPLES_MAX: usize = 8_192;

/// See the module's text. Cloning shares the window.
#[derive(Clone, Debug, Default)]
pub struct RecentFinality {
    samples: Arc<Mutex<VecDeque<(Instant, u32)>>>,
}

impl RecentFinality {
    /// Adds what was measured now; beyond the bound the oldest give way.
    pub fn add(&self, took: &[Duration], now: Instant) {
        let mut samples = self.samples.lock();
        for duration in took {
            if samples.len() >= SAMPLES_MAX {
                samples.pop_front();
            }
            samples.push_back((now, u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)));
        }
    }

    /// Median and 99th percentile (nearest rank) in ms; zeroes without samples.
    #[must_use]
    pub fn p50_p99_ms(&self, now: Instant) -> (u32, u32) {
        let mut samples = self.samples.lock();
        while samples.front().is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            samples.pop_front();
        }
        let mut values: Vec<u32> = samples.iter().map(|(_, ms)| *ms).collect();
        drop(samples);
        values.sort_unstable();
        let rank = |percent: usize| values.get((values.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        (rank(50), rank(99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_forget_what_is_older_than_a_minute() {
        let recent = RecentFinality::default();
        let start = Instant::now();
        assert_eq!(recent.p50_p99_ms(start), (0, 0));
        recent.add(&[Duration::from_secs(9)], start);
        let later = start + Duration::from_secs(61);
        recent.add(&(1..=100).map(Duration::from_millis).collect::<Vec<_>>(), later);
        assert_eq!(recent.p50_p99_ms(later), (50, 99));
    }
}
