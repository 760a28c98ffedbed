//! Who is connected, who is who, whom to dial next: the network's bookkeeping without the network.

use kaldrix_types::KeyId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// A peer must say who it is within this time.
const HELLO_MAX: Duration = Duration::from_secs(5);
const DIAL_PAUSE_MIN: Duration = Duration::from_millis(100);
const DIAL_PAUSE_MAX: Duration = Duration::from_secs(2);
/// Both sides of a pair may dial; the one with the higher name leaves the other a head start, so that there is usually one connection.
const HEAD_START: Duration = Duration::from_millis(700);

struct Peer {
    connected_at: Instant,
    dialed: bool,
    key: Option<KeyId>,
    /// Of the validator whose key it is, where that is known.
    name: Option<String>,
}

struct Target {
    name: String,
    address: Multiaddr,
    /// Who answers there.
    peer: Option<PeerId>,
    next_dial: Instant,
    pause: Duration,
}

/// What a binding replaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Replaced {
    /// An older peer id with the same key, to be disconnected.
    pub(crate) peer: Option<PeerId>,
    /// The peer's former key.
    pub(crate) key: Option<KeyId>,
}

/// See the module's text.
pub(crate) struct Peers {
    peers: HashMap<PeerId, Peer>,
    bound: HashMap<KeyId, PeerId>,
    targets: Vec<Target>,
}

impl Peers {
    pub(crate) fn new(own_name: &str, targets: Vec<(String, Multiaddr)>, now: Instant) -> Self {
        let targets = targets
            .into_iter()
            .map(|(name, address)| {
                let next_dial = if name.as_str() < own_name { now + HEAD_START } else { now };
                Target { name, address, peer: None, next_dial, pause: DIAL_PAUSE_MIN }
            })
            .collect();
        Self { peers: HashMap::new(), bound: HashMap::new(), targets }
    }

    /// `dialed` is the address when this side dialled.
    pub(crate) fn connected(&mut self, peer: PeerId, dialed: Option<&Multiaddr>, now: Instant) {
        let entry = self.peers.entry(peer).or_insert(Peer { connected_at: now, dialed: false, key: None, name: None });
        let Some(address) = dialed else { return };
        entry.dialed = true;
        // libp2p may add the peer id that answered.
        let address: Multiaddr = address.iter().filter(|part| !matches!(part, Protocol::P2p(_))).collect();
        for target in self.targets.iter_mut().filter(|t| t.address == address) {
            target.peer = Some(peer);
        }
    }

    /// Returns the key that is gone with this peer.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, now: Instant) -> Option<KeyId> {
        let gone = self.peers.remove(peer)?;
        let is_target = |t: &Target| t.peer.as_ref() == Some(peer) || gone.name.as_ref() == Some(&t.name);
        for target in self.targets.iter_mut().filter(|t| is_target(t)) {
            target.peer = None;
            // One that said who it is comes back soon. One that we or it dropped at once is dialled ever more slowly.
            if gone.key.is_some() {
                target.pause = DIAL_PAUSE_MIN;
                target.next_dial = now + DIAL_PAUSE_MIN;
            }
        }
        let key = gone.key?;
        if self.bound.get(&key) != Some(peer) {
            return None;
        }
        self.bound.remove(&key);
        Some(key)
    }

    /// The peer has shown whose it is.
    pub(crate) fn bind(&mut self, peer: PeerId, key: KeyId, name: Option<&str>, now: Instant) -> Replaced {
        let entry = self.peers.entry(peer).or_insert(Peer { connected_at: now, dialed: false, key: None, name: None });
        let former = entry.key.replace(key).filter(|former| *former != key && self.bound.get(former) == Some(&peer));
        entry.name = name.map(str::to_owned);
        if let Some(former) = former {
            self.bound.remove(&former);
        }
        Replaced { peer: self.bound.insert(key, peer).filter(|old| *old != peer), key: former }
    }

    pub(crate) fn key_of(&self, peer: &PeerId) -> Option<KeyId> {
        self.peers.get(peer)?.key
    }

    pub(crate) fn is_dialed(&self, peer: &PeerId) -> bool {
        self.peers.get(peer).is_some_and(|p| p.dialed)
    }

    pub(crate) fn peer_of(&self, key: KeyId) -> Option<PeerId> {
        self.bound.get(&key).copied()
    }

    /// Peers that have said who they are, by key.
    pub(crate) fn bound(&self) -> Vec<(KeyId, PeerId)> {
        let mut bound: Vec<_> = self.bound.iter().map(|(key, peer)| (*key, *peer)).collect();
        bound.sort_unstable();
        bound
    }

    /// Every connected peer.
    pub(crate) fn all(&self) -> Vec<PeerId> {
        self.peers.keys().copied().collect()
    }

    /// Peers that have not said who they are in time.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<PeerId> {
        let late = |p: &Peer| p.key.is_none() && now.duration_since(p.connected_at) > HELLO_MAX;
        self.peers.iter().filter(|(_, p)| late(p)).map(|(id, _)| *id).collect()
    }

    /// Addresses to dial now: those where nobody answers, of validators that are not connected otherwise. Each try doubles the pause to the
    /// next, with up to a quarter of jitter.
    pub(crate) fn due(&mut self, now: Instant, jitter: impl Fn() -> f64) -> Vec<Multiaddr> {
        let (peers, bound) = (&self.peers, &self.bound);
        let names: HashSet<&str> = bound.values().filter_map(|peer| peers.get(peer)?.name.as_deref()).collect();
        let waiting = self.targets.iter_mut().filter(|t| t.next_dial <= now && t.peer.is_none() && !names.contains(t.name.as_str()));
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
    use kaldrix_types::Digest;

    const KEY: KeyId = Digest([2; 32]);

    fn address() -> Multiaddr {
        "/ip4/127.0.0.1/tcp/1".parse().unwrap()
    }

    #[test]
    fn an_unreachable_validator_is_dialled_ever_more_slowly_and_a_lost_one_at_once_again() {
        let start = Instant::now();
        let mut peers = Peers::new("v0", vec![("v1".into(), address())], start);
        let ms = |ms: u64| start + Duration::from_millis(ms);
        assert_eq!(peers.due(ms(0), || 0.0).len(), 1);
        assert!(peers.due(ms(99), || 0.0).is_empty());
        assert_eq!(peers.due(ms(100), || 0.0).len(), 1);
        assert!(peers.due(ms(299), || 0.0).is_empty());
        assert_eq!(peers.due(ms(300), || 0.0).len(), 1);
        let peer = PeerId::random();
        peers.connected(peer, None, ms(400));
        assert_eq!(peers.bind(peer, KEY, Some("v1"), ms(400)), Replaced::default());
        assert!(peers.due(ms(60_000), || 0.0).is_empty());
        assert_eq!(peers.disconnected(&peer, ms(60_000)), Some(KEY));
        assert_eq!(peers.due(ms(60_100), || 0.0).len(), 1);
    }

    #[test]
    fn an_address_where_somebody_answers_is_not_dialled_whatever_the_name_and_one_that_is_turned_away_ever_more_slowly() {
        let start = Instant::now();
        let mut peers = Peers::new("v0", vec![("v1".into(), address())], start);
        let ms = |ms: u64| start + Duration::from_millis(ms);
        let peer = PeerId::random();
        let answered = address().with_p2p(peer).unwrap();
        peers.connected(peer, Some(&answered), ms(10));
        assert!(peers.is_dialed(&peer));
        assert!(peers.due(ms(1_000), || 0.0).is_empty());
        assert_eq!(peers.disconnected(&peer, ms(1_000)), None);
        for pause in [100, 200, 400] {
            let now = ms(2_000 + pause * 10);
            assert_eq!(peers.due(now, || 0.0).len(), 1);
            peers.connected(peer, Some(&answered), now);
            peers.disconnected(&peer, now);
            assert!(peers.due(now + Duration::from_millis(pause - 1), || 0.0).is_empty(), "{pause}");
        }
    }

    #[test]
    fn a_restarted_validator_replaces_its_old_peer_id_and_a_silent_peer_is_overdue() {
        let start = Instant::now();
        let mut peers = Peers::new("v0", Vec::new(), start);
        let (old, new, silent) = (PeerId::random(), PeerId::random(), PeerId::random());
        peers.connected(old, None, start);
        peers.connected(silent, None, start);
        assert_eq!(peers.bind(old, KEY, None, start), Replaced::default());
        assert_eq!(peers.bind(new, KEY, None, start), Replaced { peer: Some(old), key: None });
        assert_eq!(peers.disconnected(&old, start), None, "the validator is still there under its new id");
        assert_eq!(peers.bound(), vec![(KEY, new)]);
        assert_eq!(peers.overdue(start + Duration::from_secs(6)), vec![silent]);
    }

    #[test]
    fn a_peer_that_rotates_its_key_is_known_by_the_new_one_only() {
        let start = Instant::now();
        let mut peers = Peers::new("v0", Vec::new(), start);
        let (peer, rotated) = (PeerId::random(), Digest([3; 32]));
        peers.connected(peer, None, start);
        peers.bind(peer, KEY, Some("v1"), start);
        assert_eq!(peers.bind(peer, rotated, Some("v1"), start), Replaced { peer: None, key: Some(KEY) });
        assert_eq!((peers.peer_of(KEY), peers.peer_of(rotated)), (None, Some(peer)));
        assert_eq!(peers.disconnected(&peer, start), Some(rotated));
        assert!(peers.bound().is_empty());
    }
}
