//! The one task that owns the libp2p swarm.

use crate::codec::{Codec, PROTOCOL};
use crate::hybrid_tls::HybridTls;
use crate::message::{Call, PeerRequest, PeerResponse, Reply};
use crate::network::{P2pError, PeerHandler, PeerName};
use crate::peers::Peers;
use crate::shared::Shared;
use crate::{Membership, PeerBinding, Role};
use futures::StreamExt;
use kaldrix_types::{BlockVerifier, KeyId, ValidatorIndex};
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::core::ConnectedPoint;
use libp2p::core::upgrade::Version;
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Message, OutboundRequestId, ProtocolSupport, ResponseChannel};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, ping, tcp, yamux};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Pushes to one peer that are not acknowledged yet.
const PUSHES_IN_FLIGHT_MAX: usize = 16;
/// Requests of one connection that are worked on at a time.
const STREAMS_MAX: usize = 64;
const TICK: Duration = Duration::from_millis(50);
const ANSWERS_MAX: usize = 256;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    ping: ping::Behaviour,
    blocks: request_response::Behaviour<Codec>,
}

/// A question on its way out.
pub(crate) struct Ask {
    /// As the caller named it, and whose key that was then.
    pub(crate) peer: PeerName,
    pub(crate) key: KeyId,
    pub(crate) request: PeerRequest,
    pub(crate) reply: oneshot::Sender<Result<PeerResponse, P2pError>>,
}

enum Sent {
    Hello,
    Push(KeyId),
    Ask(PeerName, oneshot::Sender<Result<PeerResponse, P2pError>>),
}

type Answer = (ResponseChannel<Reply>, Reply);

/// Room for everybody who belongs here, also while they restart, and for some who do not and are to be told apart.
fn limits(known_peers: usize) -> ConnectionLimits {
    let incoming = u32::try_from(4 * known_peers + 16).unwrap_or(u32::MAX);
    ConnectionLimits::default()
        .with_max_pending_incoming(Some(incoming))
        .with_max_established_incoming(Some(incoming))
        .with_max_established_per_peer(Some(4))
}

pub(crate) fn build(identity: Keypair, known_peers: usize) -> Result<Swarm<Behaviour>, String> {
    let blocks = request_response::Config::default().with_request_timeout(REQUEST_MAX).with_max_concurrent_streams(STREAMS_MAX);
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits(known_peers)),
        ping: ping::Behaviour::new(ping::Config::new().with_interval(Duration::from_secs(5)).with_timeout(Duration::from_secs(5))),
        blocks: request_response::Behaviour::with_codec(Codec, [(PROTOCOL, ProtocolSupport::Full)], blocks),
    };
    let swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), HybridTls::new, yamux::Config::default)
        .map_err(|e| e.to_string())?
        .with_behaviour(|_| behaviour)
        .map_err(|e| e.to_string())?
        .with_swarm_config(|c| {
            // One protocol: no round trip to agree on it.
            c.with_idle_connection_timeout(Duration::from_secs(86_400)).with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .build();
    Ok(swarm)
}

pub(crate) async fn wait_for_listen_address(swarm: &mut Swarm<Behaviour>) -> Result<Multiaddr, String> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => return Ok(address),
            SwarmEvent::ListenerClosed { reason, .. } => return Err(format!("{reason:?}")),
            SwarmEvent::ListenerError { error, .. } => return Err(error.to_string()),
            _ => {}
        }
    }
}

/// See the module's text.
pub(crate) struct SwarmTask {
    swarm: Swarm<Behaviour>,
    verifier: Arc<dyn BlockVerifier + Send + Sync>,
    peers: Peers,
    handler: Arc<dyn PeerHandler>,
    shared: Arc<Shared>,
    /// What the connections were last brought in line with.
    membership: Arc<Membership>,
    binding: Arc<PeerBinding>,
    asked: mpsc::Receiver<Ask>,
    sent: HashMap<OutboundRequestId, Sent>,
    pushes: HashMap<KeyId, usize>,
    answers_in: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

impl SwarmTask {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        verifier: Arc<dyn BlockVerifier + Send + Sync>,
        peers: Peers,
        handler: Arc<dyn PeerHandler>,
        shared: Arc<Shared>,
        asked: mpsc::Receiver<Ask>,
    ) -> Self {
        let (answers_in, answers) = mpsc::channel(ANSWERS_MAX);
        let (membership, binding) = (shared.membership(), shared.binding());
        let (sent, pushes) = (HashMap::new(), HashMap::new());
        Self { swarm, verifier, peers, handler, shared, membership, binding, asked, sent, pushes, answers_in, answers }
    }

    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let shared = Arc::clone(&self.shared);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                event = self.swarm.select_next_some() => self.on_event(event),
                () = shared.wake.notified() => {
                    self.refresh();
                    self.send_pushes();
                }
                Some((channel, reply)) = self.answers.recv() => {
                    // The asker may be gone.
                    let _ = self.swarm.behaviour_mut().blocks.send_response(channel, reply);
                }
                Some(ask) = self.asked.recv() => self.ask(ask),
                _ = ticks.tick() => self.tick(),
            }
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        for peer in self.peers.overdue(now) {
            self.handler.on_garbage(None, "a peer that does not say who it is");
            self.drop_peer(peer);
        }
        for address in self.peers.due(now, jitter) {
            // A dial that fails at once is tried again like any other.
            let _ = self.swarm.dial(DialOpts::unknown_peer_id().address(address).build());
        }
    }

    /// Brings the connections in line with a new membership or a new own binding.
    fn refresh(&mut self) {
        let (membership, binding) = (self.shared.membership(), self.shared.binding());
        if !Arc::ptr_eq(&membership, &self.membership) {
            *self.swarm.behaviour_mut().limits.limits_mut() = limits(membership.size());
            for (key, peer) in self.peers.bound() {
                if membership.role(key).is_none() {
                    tracing::info!(key = %key.short(), "disconnecting: this validator has no place here any more");
                    self.drop_peer(peer);
                }
            }
            self.membership = membership;
        }
        if !Arc::ptr_eq(&binding, &self.binding) {
            self.binding = binding;
            for peer in self.peers.all() {
                self.say_hello(peer);
            }
        }
    }

    fn say_hello(&mut self, peer: PeerId) {
        let hello = Call::Hello(self.binding.as_ref().clone());
        let id = self.swarm.behaviour_mut().blocks.send_request(&peer, hello);
        self.sent.insert(id, Sent::Hello);
    }

    fn drop_peer(&mut self, peer: PeerId) {
        // Not being connected any more is what is wanted.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                let dialed = match &endpoint {
                    ConnectedPoint::Dialer { address, .. } => Some(address),
                    ConnectedPoint::Listener { .. } => None,
                };
                self.peers.connected(peer_id, dialed, Instant::now());
                match self.peers.key_of(&peer_id) {
                    None => self.say_hello(peer_id),
                    Some(key) => self.shared.bound(key, dialed.is_some()),
                }
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                if let Some(key) = self.peers.disconnected(&peer_id, Instant::now()) {
                    self.forget(key);
                    tracing::info!(name = self.membership.name(key), key = %key.short(), "disconnected");
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Blocks(event)) => self.on_blocks(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, result: Err(error), .. })) => {
                tracing::debug!(%peer, %error, "a peer does not answer pings");
                self.drop_peer(peer);
            }
            SwarmEvent::OutgoingConnectionError { error, .. } => tracing::debug!(%error, "a dial failed"),
            SwarmEvent::IncomingConnectionError { error, .. } => tracing::debug!(%error, "a connection was refused"),
            _ => {}
        }
    }

    fn on_blocks(&mut self, event: request_response::Event<Call, Reply>) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_call(peer, request, channel);
            }
            request_response::Event::Message { peer, message: Message::Response { request_id, response }, .. } => {
                self.on_reply(peer, request_id, response);
            }
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => self.on_failure(peer, request_id, &error),
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn on_call(&mut self, peer: PeerId, call: Call, channel: ResponseChannel<Reply>) {
        let from = self.role_of(&peer);
        match (call, from) {
            (Call::Hello(binding), _) => {
                if self.bind(peer, &binding) {
                    let reply = Reply::Hello(self.binding.as_ref().clone());
                    let _ = self.swarm.behaviour_mut().blocks.send_response(channel, reply);
                }
            }
            (Call::Garbage(what), from) => {
                self.handler.on_garbage(from.map(index), &what);
                self.drop_peer(peer);
            }
            (_, None) => {
                let _ = self.swarm.behaviour_mut().blocks.send_response(channel, Reply::Unbound);
            }
            (Call::Push(_), Some(Role::Candidate | Role::Guest)) => {
                // Whoever is an epoch ahead may be a member there already, so this is nothing to complain about.
                let _ = self.swarm.behaviour_mut().blocks.send_response(channel, Reply::Ack);
            }
            (Call::Push(block), Some(Role::Member(from))) => {
                let (handler, answers) = (Arc::clone(&self.handler), self.answers_in.clone());
                // Bounded: libp2p hands over no more than STREAMS_MAX unanswered requests per connection.
                tokio::spawn(async move {
                    handler.on_block(from, block).await;
                    let _ = answers.send((channel, Reply::Ack)).await;
                });
            }
            (Call::Ask(request), Some(from)) if !request.is_within_limits() => {
                self.handler.on_garbage(Some(index(from)), "a question over its limits");
                self.drop_peer(peer);
            }
            (Call::Ask(_), Some(Role::Guest)) => {
                let answer = PeerResponse::Refused("catching up; your key is not known here yet".to_owned());
                let _ = self.swarm.behaviour_mut().blocks.send_response(channel, Reply::Answer(answer));
            }
            (Call::Ask(request), Some(from)) => {
                let from = index(from);
                let (handler, answers) = (Arc::clone(&self.handler), self.answers_in.clone());
                tokio::spawn(async move {
                    let answer = handler.on_request(from, request).await.within_limits();
                    let _ = answers.send((channel, Reply::Answer(answer))).await;
                });
            }
        }
    }

    fn on_reply(&mut self, peer: PeerId, id: OutboundRequestId, reply: Reply) {
        match (self.sent.remove(&id), reply) {
            (Some(Sent::Hello), Reply::Hello(binding)) => {
                self.bind(peer, &binding);
            }
            (Some(Sent::Push(to)), Reply::Ack) => self.push_done(to),
            (Some(Sent::Ask(_, reply)), Reply::Answer(answer)) => {
                let _ = reply.send(Ok(answer));
            }
            (Some(sent), _) => {
                // It does not know us (yet), or answers nonsense: begin anew.
                self.give_up(sent, "the answer does not fit the question");
                self.drop_peer(peer);
            }
            (None, _) => {}
        }
    }

    fn on_failure(&mut self, peer: PeerId, id: OutboundRequestId, error: &request_response::OutboundFailure) {
        if let request_response::OutboundFailure::Io(io) = error
            && io.kind() == std::io::ErrorKind::InvalidData
        {
            self.handler.on_garbage(self.role_of(&peer).map(index), &io.to_string());
            self.drop_peer(peer);
        }
        if let Some(sent) = self.sent.remove(&id) {
            self.give_up(sent, &error.to_string());
        }
    }

    fn give_up(&mut self, sent: Sent, why: &str) {
        match sent {
            Sent::Hello => {}
            Sent::Push(to) => self.push_done(to),
            Sent::Ask(to, reply) => {
                let _ = reply.send(Err(P2pError::NoAnswer(to, why.to_owned())));
            }
        }
    }

    /// What the peer may do under the newest membership; `None` when it has not said who it is, or has no place here.
    fn role_of(&self, peer: &PeerId) -> Option<Role> {
        self.shared.membership().role(self.peers.key_of(peer)?)
    }

    /// Whether the peer is bound now; one that shows a wrong binding is dropped.
    fn bind(&mut self, peer: PeerId, binding: &PeerBinding) -> bool {
        let membership = self.shared.membership();
        let key = binding.key().id();
        let verdict = if key == self.binding.key().id() {
            Err("the binding names this validator")
        } else {
            let role = membership.role(key).ok_or("the binding names an unknown validator");
            role.and_then(|role| binding.check(&peer, membership.chain(), self.verifier.as_ref()).map(|()| role))
        };
        match verdict {
            Ok(role) => {
                let name = membership.name(key);
                if self.peers.key_of(&peer) != Some(key) {
                    tracing::info!(name, key = %key.short(), ?role, "connected");
                }
                let replaced = self.peers.bind(peer, key, name, Instant::now());
                if let Some(old) = replaced.peer {
                    self.drop_peer(old);
                    self.pushes.remove(&key);
                }
                if let Some(former) = replaced.key {
                    self.forget(former);
                }
                self.shared.bound(key, self.peers.is_dialed(&peer));
                true
            }
            Err(what) => {
                self.handler.on_garbage(None, what);
                self.drop_peer(peer);
                false
            }
        }
    }

    fn forget(&mut self, key: KeyId) {
        self.shared.unbound(key);
        self.pushes.remove(&key);
    }

    fn ask(&mut self, ask: Ask) {
        let Some(peer) = self.peers.peer_of(ask.key) else {
            let _ = ask.reply.send(Err(P2pError::NotConnected(ask.peer)));
            return;
        };
        let id = self.swarm.behaviour_mut().blocks.send_request(&peer, Call::Ask(ask.request));
        self.sent.insert(id, Sent::Ask(ask.peer, ask.reply));
    }

    fn push_done(&mut self, to: KeyId) {
        if let Some(in_flight) = self.pushes.get_mut(&to) {
            *in_flight = in_flight.saturating_sub(1);
        }
        self.send_pushes();
    }

    fn send_pushes(&mut self) {
        for (to, peer) in self.peers.bound() {
            loop {
                let in_flight = self.pushes.entry(to).or_default();
                if *in_flight >= PUSHES_IN_FLIGHT_MAX {
                    break;
                }
                let Some(block) = self.shared.next_push(to) else { break };
                *in_flight += 1;
                let id = self.swarm.behaviour_mut().blocks.send_request(&peer, Call::Push(block));
                self.sent.insert(id, Sent::Push(to));
            }
        }
    }
}

/// How the handler knows one who may do this.
fn index(role: Role) -> ValidatorIndex {
    match role {
        Role::Member(index) => index,
        Role::Candidate | Role::Guest => ValidatorIndex::OBSERVER,
    }
}

/// Between 0 and 1, different each time.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8) as f64 / u64::MAX as f64
}
