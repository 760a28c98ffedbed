//! The task that owns the swarm: turns its events into bindings, blocks and requests, and keeps connections up. It never waits for a peer or a handler.

use crate::PeerHandler;
use crate::binding::PeerBinding;
use crate::dialer::Dialer;
use crate::inbound::{Answer, Inbound, PUSHES_IN_FLIGHT};
use crate::message::{PeerRequest, PeerResponse, Wire};
use crate::network::{P2pConfig, P2pError};
use crate::shared::Shared;
use crate::transport::{Behaviour, BehaviourEvent};
use futures::StreamExt;
use kaldrix_types::{BlockVerifier, Committee, ValidatorIndex};
use libp2p::request_response::{Event, InboundFailure, Message, OutboundFailure, OutboundRequestId, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{PeerId, Swarm, ping};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How long a peer may stay without having shown its binding.
const UNBOUND_MAX: Duration = Duration::from_secs(5);
/// Bindings that one peer may show while it is connected.
const HELLOS_MAX: u32 = 16;
/// Pieces of garbage after which a bound peer is disconnected; an unbound one is at once.
const GARBAGE_MAX: u32 = 16;

pub(crate) enum Command {
    Request { peer: ValidatorIndex, request: PeerRequest, reply: oneshot::Sender<Result<PeerResponse, P2pError>> },
}

/// What an answer will be for.
enum Asked {
    Hello,
    Push,
    Request(ValidatorIndex, oneshot::Sender<Result<PeerResponse, P2pError>>),
}

/// A connected peer id.
struct Peer {
    /// Its binding and what serves it, once shown and verified.
    theirs: Option<(PeerBinding, Inbound)>,
    /// Whether it has accepted ours.
    has_ours: bool,
    is_open: bool,
    since: Instant,
    hellos: u32,
    garbage: u32,
    pushes_in_flight: usize,
}

impl Peer {
    fn validator(&self) -> Option<ValidatorIndex> {
        self.theirs.as_ref().map(|(binding, _)| binding.validator)
    }
}

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    own: ValidatorIndex,
    committee: Arc<Committee>,
    verifier: Arc<dyn BlockVerifier + Send + Sync>,
    binding: PeerBinding,
    handler: Arc<dyn PeerHandler>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    answers: (mpsc::Sender<Answer>, mpsc::Receiver<Answer>),
    dialer: Dialer,
    peers: HashMap<PeerId, Peer>,
    /// Which peer id speaks for a validator: the last that was bound.
    bound: HashMap<ValidatorIndex, PeerId>,
    /// The last peer id of each validator, connected or not: strangers cannot take its place among the connections.
    admitted: HashMap<ValidatorIndex, PeerId>,
    asked: HashMap<OutboundRequestId, Asked>,
}

impl Driver {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        config: P2pConfig,
        handler: Arc<dyn PeerHandler>,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        Self {
            swarm,
            own: config.own,
            committee: config.committee,
            verifier: config.verifier,
            binding: config.binding,
            handler,
            shared,
            commands,
            answers: mpsc::channel(256),
            dialer: Dialer::new(config.own, config.peers),
            peers: HashMap::new(),
            bound: HashMap::new(),
            admitted: HashMap::new(),
            asked: HashMap::new(),
        }
    }

    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut tick = interval(Duration::from_millis(50));
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                event = self.swarm.select_next_some() => self.on_event(event),
                Some((channel, answer)) = self.answers.1.recv() => self.answer(channel, answer),
                () = self.shared.wake.notified() => self.send_to_all(),
                Some(command) = self.commands.recv() => self.on_command(command),
                _ = tick.tick() => self.on_tick(),
            }
        }
        for validator in self.shared.connected() {
            self.shared.close(validator);
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        while let Some((validator, address)) = self.dialer.next_due(now) {
            let opts = DialOpts::from(address);
            let connection = opts.connection_id();
            match self.swarm.dial(opts) {
                Ok(()) => self.dialer.trying(validator, connection),
                Err(error) => {
                    tracing::debug!(%validator, %error, "cannot dial");
                    self.dialer.failed_at_once(validator);
                }
            }
        }
        let late: Vec<PeerId> =
            self.peers.iter().filter(|(_, peer)| !peer.is_open && now - peer.since > UNBOUND_MAX).map(|(id, _)| *id).collect();
        for id in late {
            let validator = self.peers.get(&id).and_then(Peer::validator);
            self.handler.on_garbage(validator, "a connection without an exchange of bindings within five seconds");
            self.disconnect(id);
        }
    }

    fn on_command(&mut self, command: Command) {
        let Command::Request { peer, request, reply } = command;
        match self.bound.get(&peer).filter(|id| self.swarm.is_connected(id)) {
            Some(id) => {
                let request = self.swarm.behaviour_mut().messages.send_request(id, Wire::Request(request));
                self.asked.insert(request, Asked::Request(peer, reply));
            }
            None => drop(reply.send(Err(P2pError::NotConnected(peer)))),
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => self.on_connection(peer_id),
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_closed(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "a dial failed");
                self.dialer.ended(connection_id);
            }
            SwarmEvent::IncomingConnectionError { error, .. } => tracing::debug!(%error, "an incoming connection failed"),
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listening for validators"),
            SwarmEvent::ListenerClosed { reason, .. } => tracing::error!(?reason, "no longer listening for validators"),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { connection, result: Err(failure), .. })) => {
                if !matches!(failure, ping::Failure::Unsupported) {
                    tracing::debug!(%failure, "a connection is dead");
                    self.swarm.close_connection(connection);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Messages(event)) => self.on_message(event),
            _ => {}
        }
    }

    fn on_connection(&mut self, id: PeerId) {
        if id == *self.swarm.local_peer_id() {
            self.disconnect(id);
            return;
        }
        self.peers.entry(id).or_insert_with(|| Peer {
            theirs: None,
            has_ours: false,
            is_open: false,
            since: Instant::now(),
            hellos: 0,
            garbage: 0,
            pushes_in_flight: 0,
        });
        // On every connection anew: the other process may have been restarted behind a connection that we still believe in.
        let hello = Wire::Hello(self.binding.clone());
        let request = self.swarm.behaviour_mut().messages.send_request(&id, hello);
        self.asked.insert(request, Asked::Hello);
    }

    fn on_closed(&mut self, id: PeerId, connection: ConnectionId, left: u32) {
        self.dialer.ended(connection);
        if left == 0 && let Some(peer) = self.peers.remove(&id) {
            self.unbind(id, &peer);
        }
    }

    fn unbind(&mut self, id: PeerId, peer: &Peer) {
        let Some(validator) = peer.validator() else { return };
        if self.bound.get(&validator) == Some(&id) {
            self.bound.remove(&validator);
            self.shared.close(validator);
            self.dialer.disconnected(validator);
            tracing::info!(%validator, "a validator is disconnected");
        }
    }

    /// Forgets the peer at once; its closing connections say nothing more.
    fn disconnect(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.unbind(id, &peer);
        }
        let _ = self.swarm.disconnect_peer_id(id);
    }

    fn on_message(&mut self, event: Event<Wire, Wire>) {
        match event {
            Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => self.on_question(peer, request, channel),
            Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.on_answer(peer, asked, response);
                }
            }
            Event::OutboundFailure { peer, request_id, error, .. } => {
                if let Some(asked) = self.asked.remove(&request_id) {
                    self.on_lost(peer, asked, &error);
                }
            }
            Event::InboundFailure { peer, error: InboundFailure::Io(error), .. } if is_garbage(&error) => self.on_garbage(peer, &error.to_string()),
            Event::InboundFailure { .. } | Event::ResponseSent { .. } => {}
        }
    }

    fn on_question(&mut self, id: PeerId, question: Wire, channel: ResponseChannel<Wire>) {
        if let Wire::Hello(binding) = question {
            if self.on_binding(id, binding) {
                let ours = Wire::Hello(self.binding.clone());
                self.answer(channel, ours);
            }
            return;
        }
        let Some((_, inbound)) = self.peers.get(&id).and_then(|peer| peer.theirs.as_ref()) else {
            return self.answer(channel, Wire::Unbound);
        };
        match question {
            Wire::Push(block) => {
                if !inbound.block(block, channel) {
                    self.on_garbage(id, "more blocks at a time than allowed");
                }
            }
            Wire::Request(request) => {
                if let Err((channel, refusal)) = inbound.request(request, channel) {
                    self.answer(channel, refusal);
                }
            }
            Wire::Hello(_) | Wire::Ack | Wire::Unbound | Wire::Response(_) => self.on_garbage(id, "an answer in place of a question"),
        }
    }

    /// Takes note of who a peer is; false and a disconnect when it is not who it says.
    fn on_binding(&mut self, id: PeerId, binding: PeerBinding) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        if peer.theirs.as_ref().is_some_and(|(known, _)| *known == binding) {
            return true;
        }
        // Signatures are randomised, so that one peer may show several bindings; checking them must not become our work.
        peer.hellos += 1;
        if peer.hellos > HELLOS_MAX {
            self.on_garbage(id, "a new binding again and again");
            self.disconnect(id);
            return false;
        }
        let verified = binding.verify(&id.to_bytes(), self.own, &self.committee, self.verifier.as_ref());
        match verified {
            Ok(validator) if peer.validator().is_none_or(|known| known == validator) => {
                let inbound = Inbound::new(validator, Arc::clone(&self.handler), self.answers.0.clone());
                peer.theirs = Some((binding, inbound));
                self.open_if_both_know(id);
                true
            }
            Ok(_) => {
                self.on_garbage(id, "one peer id for two validators");
                self.disconnect(id);
                false
            }
            Err(error) => {
                tracing::warn!(peer = %id, %error, "a peer is not the validator it claims to be");
                self.on_garbage(id, &error.to_string());
                self.disconnect(id);
                false
            }
        }
    }

    /// Both bindings are known on both sides: from here on the peer counts as connected.
    fn open_if_both_know(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (Some(validator), true, false) = (peer.validator(), peer.has_ours, peer.is_open) else { return };
        peer.is_open = true;
        let limits = &mut self.swarm.behaviour_mut().limits;
        limits.bypass_peer_id(&id);
        if let Some(former) = self.admitted.insert(validator, id).filter(|former| *former != id) {
            limits.remove_peer_id(&former);
        }
        if let Some(former) = self.bound.insert(validator, id).filter(|former| *former != id) {
            // The same validator with a new peer id: it was restarted with another key. The newest speaks for it.
            self.peers.remove(&former);
            let _ = self.swarm.disconnect_peer_id(former);
            self.shared.close(validator);
        }
        self.shared.open(validator);
        self.dialer.connected(validator);
        tracing::info!(%validator, "a validator is connected");
    }

    fn on_answer(&mut self, id: PeerId, asked: Asked, answer: Wire) {
        match (asked, answer) {
            (Asked::Hello, Wire::Hello(binding)) => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.has_ours = true;
                }
                if self.on_binding(id, binding) {
                    self.open_if_both_know(id);
                }
            }
            (Asked::Push, Wire::Ack) => self.pushed(id, 0),
            (Asked::Push, Wire::Unbound) => self.pushed(id, 1),
            (Asked::Request(_, reply), Wire::Response(response)) => drop(reply.send(Ok(response))),
            (Asked::Request(peer, reply), Wire::Unbound) => drop(reply.send(Err(P2pError::NotConnected(peer)))),
            (asked, _) => {
                self.on_lost(id, asked, &OutboundFailure::Io(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question")));
            }
        }
    }

    fn on_lost(&mut self, id: PeerId, asked: Asked, error: &OutboundFailure) {
        if let OutboundFailure::Io(io) = error && is_garbage(io) {
            self.on_garbage(id, &io.to_string());
        }
        match asked {
            Asked::Hello => tracing::debug!(peer = %id, %error, "a Hello was not answered"),
            Asked::Push => self.pushed(id, 1),
            Asked::Request(peer, reply) => {
                let error = match error {
                    OutboundFailure::Timeout => P2pError::TimedOut(peer),
                    other => P2pError::Lost { peer, reason: other.to_string() },
                };
                let _ = reply.send(Err(error));
            }
        }
    }

    fn on_garbage(&mut self, id: PeerId, what: &str) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.garbage += 1;
        let (validator, is_too_much) = (peer.validator(), peer.theirs.is_none() || peer.garbage > GARBAGE_MAX);
        self.handler.on_garbage(validator, what);
        if is_too_much {
            self.disconnect(id);
        }
    }

    fn answer(&mut self, channel: ResponseChannel<Wire>, answer: Wire) {
        // The asker may be gone or may have waited long enough.
        let _ = self.swarm.behaviour_mut().messages.send_response(channel, answer);
    }

    fn pushed(&mut self, id: PeerId, lost: usize) {
        self.shared.lost(lost);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.pushes_in_flight = peer.pushes_in_flight.saturating_sub(1);
            if let Some(validator) = peer.validator() {
                self.send(validator, id);
            }
        }
    }

    fn send_to_all(&mut self) {
        let bound: Vec<_> = self.bound.iter().map(|(validator, id)| (*validator, *id)).collect();
        for (validator, id) in bound {
            self.send(validator, id);
        }
    }

    /// Fills a peer's window from its outbox.
    fn send(&mut self, validator: ValidatorIndex, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_open) else { return };
        while peer.pushes_in_flight < PUSHES_IN_FLIGHT && self.swarm.is_connected(&id) {
            let Some(block) = self.shared.take(validator) else { return };
            let request = self.swarm.behaviour_mut().messages.send_request(&id, Wire::Push(block));
            self.asked.insert(request, Asked::Push);
            peer.pushes_in_flight += 1;
        }
    }
}

/// Whether a read failed because of what was sent. A message that only stops in the middle may be the connection's fault.
fn is_garbage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}
