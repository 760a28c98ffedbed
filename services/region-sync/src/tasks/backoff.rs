//! How long to wait before another try.

use std::time::Duration;

/// Doubles from `first` to `most`; each wait is 50 to 100 % of that, so that many who fail together do not come back together.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// A backoff that has not waited yet.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The next wait.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.most);
        wait
    }

    /// Something worked: begin anew.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<Duration> = (0..8).map(|_| backoff.wait()).collect();
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100), "{waits:?}");
        assert!(waits[7] >= Duration::from_millis(500) && waits[7] <= Duration::from_secs(1), "{waits:?}");
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_millis(100));
    }
}
