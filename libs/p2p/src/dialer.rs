//! When to dial whom: each configured peer that is not connected, again and again, with a pause that grows and is never the same for two.

use kaldrix_types::ValidatorIndex;
use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;
use std::time::Duration;
use tokio::time::Instant;

const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// The validator with the higher index lets the other dial first, so that pairs seldom connect twice.
const COURTESY: Duration = Duration::from_millis(300);

#[derive(Debug)]
enum State {
    Due(Instant),
    /// Dialled; the connection is being made, or is open and not yet bound.
    Trying(ConnectionId),
    Connected,
}

#[derive(Debug)]
struct Target {
    validator: ValidatorIndex,
    address: Multiaddr,
    state: State,
    pause: Duration,
}

#[derive(Debug)]
pub(crate) struct Dialer {
    own: ValidatorIndex,
    targets: Vec<Target>,
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..1.0))
}

impl Dialer {
    pub(crate) fn new(own: ValidatorIndex, peers: Vec<(ValidatorIndex, Multiaddr)>) -> Self {
        let now = Instant::now();
        let targets = peers
            .into_iter()
            .filter(|(validator, _)| *validator != own)
            .map(|(validator, address)| Target { validator, address, state: State::Due(now + courtesy(own, validator)), pause: PAUSE_FIRST })
            .collect();
        Self { own, targets }
    }

    /// A peer that is due, if there is one. [`Dialer::trying`] or [`Dialer::failed_at_once`] must follow.
    pub(crate) fn next_due(&self, now: Instant) -> Option<(ValidatorIndex, Multiaddr)> {
        self.targets.iter().find(|t| matches!(t.state, State::Due(at) if at <= now)).map(|t| (t.validator, t.address.clone()))
    }

    pub(crate) fn trying(&mut self, validator: ValidatorIndex, connection: ConnectionId) {
        if let Some(target) = self.targets.iter_mut().find(|t| t.validator == validator) {
            target.state = State::Trying(connection);
        }
    }

    pub(crate) fn failed_at_once(&mut self, validator: ValidatorIndex) {
        if let Some(target) = self.targets.iter_mut().find(|t| t.validator == validator) {
            target.retry();
        }
    }

    /// A connection of ours failed or was closed before the peer was bound.
    pub(crate) fn ended(&mut self, connection: ConnectionId) {
        if let Some(target) = self.targets.iter_mut().find(|t| matches!(t.state, State::Trying(id) if id == connection)) {
            target.retry();
        }
    }

    /// The peer is connected and bound, whoever dialled.
    pub(crate) fn connected(&mut self, validator: ValidatorIndex) {
        if let Some(target) = self.targets.iter_mut().find(|t| t.validator == validator) {
            target.state = State::Connected;
            target.pause = PAUSE_FIRST;
        }
    }

    /// The last connection to a bound peer is gone.
    pub(crate) fn disconnected(&mut self, validator: ValidatorIndex) {
        let own = self.own;
        if let Some(target) = self.targets.iter_mut().find(|t| t.validator == validator) {
            target.state = State::Due(Instant::now() + jittered(PAUSE_FIRST) + courtesy(own, validator));
        }
    }
}

impl Target {
    fn retry(&mut self) {
        self.state = State::Due(Instant::now() + jittered(self.pause));
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

fn courtesy(own: ValidatorIndex, other: ValidatorIndex) -> Duration {
    if own > other { COURTESY } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_two_seconds_and_begin_again_after_a_success() {
        let mut dialer = Dialer::new(ValidatorIndex(0), vec![(ValidatorIndex(1), Multiaddr::empty())]);
        let mut waited = Vec::new();
        for _ in 0..10 {
            let begun = Instant::now();
            while dialer.next_due(Instant::now()).is_none() {
                tokio::time::advance(Duration::from_millis(10)).await;
            }
            waited.push(begun.elapsed());
            dialer.failed_at_once(ValidatorIndex(1));
        }
        assert_eq!(waited[0], Duration::ZERO);
        assert!(waited[1] <= Duration::from_millis(110), "{waited:?}");
        assert!(waited.iter().all(|w| *w <= Duration::from_millis(2_010)), "{waited:?}");
        assert!(waited[9] >= Duration::from_secs(1), "{waited:?}");
        dialer.connected(ValidatorIndex(1));
        assert!(dialer.next_due(Instant::now() + Duration::from_secs(60)).is_none());
        dialer.disconnected(ValidatorIndex(1));
        assert!(dialer.next_due(Instant::now() + Duration::from_millis(100)).is_some());
    }
}
