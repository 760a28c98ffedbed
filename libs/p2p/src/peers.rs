//! Who is connected, who is who, whom to dial next: the network's bookkeeping without the network.

use kaldrix_types::ValidatorIndex;
use libp2p::{Multiaddr, PeerId};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A peer must say who it is within this time.
const HELLO_MAX: Duration = Duration::from_secs(5);
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(100);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Both sides of a pair may dial; the one with the higher index leaves the other a head start, so that there is usually one connection.
const HEAD_START: Duration = Duration::from_millis(700);

struct Peer {
    connected_at: Instant,
    validator: Option<ValidatorIndex>,
}

struct Target {
    validator: ValidatorIndex,
    address: Multiaddr,
    next_dial: Instant,
    pause: Duration,
}

/// See the module's text.
pub(crate) struct Peers {
    peers: HashMap<PeerId, Peer>,
    bound: HashMap<ValidatorIndex, PeerId>,
    targets: Vec<Target>,
}

impl Peers {
    pub(crate) fn new(own: ValidatorIndex, targets: Vec<(ValidatorIndex, Multiaddr)>, now: Instant) -> Self {
        let targets = targets
            .into_iter()
            .map(|(validator, address)| {
                let next_dial = if validator < own { now + HEAD_START } else { now };
                Target { validator, address, next_dial, pause: DIAL_PAUSE_MIN }
            })
            .collect();
        Self { peers: HashMap::new(), bound: HashMap::new(), targets }
    }

    pub(crate) fn connected(&mut self, peer: PeerId, now: Instant) {
        self.peers.entry(peer).or_insert(Peer { connected_at: now, validator: None });
    }

    /// Returns the validator that is gone with this peer.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, now: Instant) -> Option<ValidatorIndex> {
        let validator = self.peers.remove(peer)?.validator?;
        if self.bound.get(&validator) != Some(peer) {
            return None;
        }
        self.bound.remove(&validator);
        if let Some(target) = self.targets.iter_mut().find(|t| t.validator == validator) {
            target.pause = DIAL_PAUSE_MIN;
            target.next_dial = now + DIAL_PAUSE_MIN;
        }
        Some(validator)
    }

    /// The peer has shown whose it is. Returns an older peer id of the same validator, to be disconnected.
    pub(crate) fn bind(&mut self, peer: PeerId, validator: ValidatorIndex, now: Instant) -> Option<PeerId> {
        let entry = self.peers.entry(peer).or_insert(Peer { connected_at: now, validator: None });
        entry.validator = Some(validator);
        self.bound.insert(validator, peer).filter(|old| *old != peer)
    }

    pub(crate) fn validator_of(&self, peer: &PeerId) -> Option<ValidatorIndex> {
        self.peers.get(peer)?.validator
    }

    pub(crate) fn peer_of(&self, validator: ValidatorIndex) -> Option<PeerId> {
        self.bound.get(&validator).copied()
    }

    pub(crate) fn bound(&self) -> Vec<ValidatorIndex> {
        let mut bound: Vec<_> = self.bound.keys().copied().collect();
        bound.sort_unstable();
        bound
    }

    /// Peers that have not said who they are in time.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<PeerId> {
        let late = |p: &Peer| p.validator.is_none() && now.duration_since(p.connected_at) > HELLO_MAX;
        self.peers.iter().filter(|(_, p)| late(p)).map(|(id, _)| *id).collect()
    }

    /// Addresses to dial now. Each try doubles the pause to the next, with up to a quarter of jitter.
    pub(crate) fn due(&mut self, now: Instant, jitter: impl Fn() -> f64) -> Vec<Multiaddr> {
        let bound = &self.bound;
        let waiting = self.targets.iter_mut().filter(|t| !bound.contains_key(&t.validator) && t.next_dial <= now);
        waiting
            .map(|target| {
                target.next_dial = now + target.pause.mul_f64(1.0 + jitter() / 4.0);
                target.pause = (target.pause * 2).min(DIAL_PAUSE_MAX);
                target.address.clone()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    #[test]
    fn an_unreachable_validator_is_dialled_ever_more_slowly_and_a_lost_one_at_once_again() {
        let start = Instant::now();
        let mut peers = Peers::new(ValidatorIndex(0), vec![(ValidatorIndex(1), address())], start);
        let ms = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(peers.due(ms(0), || 0.0).len(), 1);
        assert!(peers.due(ms(99), || 0.0).is_empty());
        assert_eq!(peers.due(ms(100), || 0.0).len(), 1);
        assert!(peers.due(ms(299), || 0.0).is_empty());
        assert_eq!(peers.due(ms(300), || 0.0).len(), 1);
        let peer = PeerId::random();
        peers.connected(peer, ms(400));
        assert!(peers.bind(peer, ValidatorIndex(1), ms(400)).is_none());
        assert!(peers.due(ms(60_000), || 0.0).is_empty());
        assert_eq!(peers.disconnected(&peer, ms(60_000)), Some(ValidatorIndex(1)));
        assert_eq!(peers.due(ms(60_100), || 0.0).len(), 1);
    }

    #[test]
    fn a_restarted_validator_replaces_its_old_peer_id_and_a_silent_peer_is_overdue() {
        let start = Instant::now();
        let mut peers = Peers::new(ValidatorIndex(0), Vec::new(), start);
        let (old, new, silent) = (PeerId::random(), PeerId::random(), PeerId::random());
        peers.connected(old, start);
        peers.connected(silent, start);
        assert!(peers.bind(old, ValidatorIndex(2), start).is_none());
        assert_eq!(peers.bind(new, ValidatorIndex(2), start), Some(old));
        assert_eq!(peers.disconnected(&old, start), None, "the validator is still there under its new id");
        assert_eq!(peers.bound(), vec![ValidatorIndex(2)]);
        assert_eq!(peers.overdue(start + Duration::from_secs(6)), vec![silent]);
    }
}
