//! What the handle and the task share: who belongs here, who is connected, and the blocks that wait for each.

use crate::network::ConnectedPeer;
use crate::{Membership, PeerBinding, PeerName, Role};
use bytes::Bytes;
use kaldrix_types::{KeyId, ValidatorIndex};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Pushes that wait per peer.
const QUEUE_MAX: usize = 64;

/// A connected peer that has shown its binding.
#[derive(Default)]
struct Lane {
    dialed: bool,
    queue: VecDeque<Bytes>,
}

struct State {
    membership: Arc<Membership>,
    binding: Arc<PeerBinding>,
    lanes: BTreeMap<KeyId, Lane>,
}

/// See the module's text.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) wake: Notify,
    dropped: AtomicU64,
}

impl Shared {
    pub(crate) fn new(membership: Arc<Membership>, binding: PeerBinding) -> Self {
        let state = State { membership, binding: Arc::new(binding), lanes: BTreeMap::new() };
        Self { state: Mutex::new(state), wake: Notify::new(), dropped: AtomicU64::new(0) }
    }

    /// No code panics while it holds this lock, so a poisoned one is as good as any.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn membership(&self) -> Arc<Membership> {
        Arc::clone(&self.state().membership)
    }

    pub(crate) fn binding(&self) -> Arc<PeerBinding> {
        Arc::clone(&self.state().binding)
    }

    /// Indices mean the new committee when this returns; connections to those who have no place in it are closed soon after.
    pub(crate) fn set_membership(&self, membership: Arc<Membership>) {
        let mut state = self.state();
        state.lanes.retain(|key, lane| {
            let role = membership.role(*key);
            if !matches!(role, Some(Role::Member(_))) {
                lane.queue.clear();
            }
            role.is_some()
        });
        state.membership = membership;
        drop(state);
        self.wake.notify_one();
    }

    pub(crate) fn set_binding(&self, binding: PeerBinding) {
        self.state().binding = Arc::new(binding);
        self.wake.notify_one();
    }

    pub(crate) fn bound(&self, key: KeyId, dialed: bool) {
        self.state().lanes.entry(key).or_default().dialed |= dialed;
    }

    pub(crate) fn unbound(&self, key: KeyId) {
        self.state().lanes.remove(&key);
    }

    pub(crate) fn push(&self, block: &Bytes) {
        let mut state = self.state();
        let State { membership, lanes, .. } = &mut *state;
        for (_, lane) in lanes.iter_mut().filter(|(key, _)| matches!(membership.role(**key), Some(Role::Member(_)))) {
            if lane.queue.len() >= QUEUE_MAX {
                lane.queue.pop_front();
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            lane.queue.push_back(block.clone());
        }
        drop(state);
        self.wake.notify_one();
    }

    /// The block that has waited longest for the peer with this key.
    pub(crate) fn next_push(&self, key: KeyId) -> Option<Bytes> {
        self.state().lanes.get_mut(&key)?.queue.pop_front()
    }

    /// The session key of a peer, connected or not.
    pub(crate) fn key_of(&self, peer: PeerName) -> Option<KeyId> {
        match peer {
            PeerName::Key(key) => Some(key),
            PeerName::Validator(index) => self.state().membership.key_of(index),
        }
    }

    pub(crate) fn connected(&self) -> Vec<ValidatorIndex> {
        let state = self.state();
        let index = |key: &KeyId| match state.membership.role(*key) {
            Some(Role::Member(index)) => Some(index),
            Some(Role::Candidate | Role::Guest) | None => None,
        };
        let mut connected: Vec<_> = state.lanes.keys().filter_map(index).collect();
        connected.sort_unstable();
        connected
    }

    pub(crate) fn connected_peers(&self) -> Vec<ConnectedPeer> {
        let state = self.state();
        let peer = |(key, lane): (&KeyId, &Lane)| {
            let role = state.membership.role(*key)?;
            let name = state.membership.name(*key).map(str::to_owned);
            Some(ConnectedPeer { key: *key, name, role, dialed: lane.dialed })
        };
        state.lanes.iter().filter_map(peer).collect()
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
