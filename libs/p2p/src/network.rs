//! The trait, its libp2p implementation's handle, and how it starts.

use crate::message::{PeerRequest, PeerResponse};
use crate::peers::Peers;
use crate::shared::Shared;
use crate::swarm::{Ask, SwarmTask, build};
use crate::{Membership, PeerBinding, Role};
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_types::{BlockVerifier, KeyId, ValidatorIndex};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, Swarm};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Questions that wait, over all peers.
const ASKS_MAX: usize = 256;
const LISTEN_MAX: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerName {
    /// The member of the running committee with this index.
    Validator(ValidatorIndex),
    /// Whoever has this session key.
    Key(KeyId),
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Validator(index) => write!(f, "validator {index}"),
            Self::Key(key) => write!(f, "the peer with key {}", key.short()),
        }
    }
}

impl From<ValidatorIndex> for PeerName {
    fn from(index: ValidatorIndex) -> Self {
        Self::Validator(index)
    }
}

/// A peer that is connected and has shown its binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedPeer {
    /// Its session key.
    pub key: KeyId,
    /// The validator's name; `None` for a guest.
    pub name: Option<String>,
    /// What it may do.
    pub role: Role,
    /// Whether this node dialled it, at an address of its own configuration.
    pub dialed: bool,
}

/// What a validator sends to the others.
#[async_trait]
pub trait BlockNetwork: Send + Sync {
    /// Sends a block (BCS) to every connected member of the committee. Never blocks: to a peer whose queue is full the oldest waiting block
    /// is not sent; it will fetch it.
    fn push(&self, block: Bytes);

    /// Asks one peer.
    ///
    /// # Errors
    /// [`P2pError`] when it is not connected, does not answer in time, or too many questions wait.
    async fn ask(&self, peer: PeerName, request: PeerRequest) -> Result<PeerResponse, P2pError>;

    /// Asks one member of the committee.
    ///
    /// # Errors
    /// As [`Self::ask`].
    async fn request(&self, peer: ValidatorIndex, request: PeerRequest) -> Result<PeerResponse, P2pError> {
        self.ask(PeerName::Validator(peer), request).await
    }

    /// Members of the committee that are connected and have shown their binding, ascending.
    fn connected(&self) -> Vec<ValidatorIndex>;

    /// Everybody who is connected and has shown a binding, by session key: whom to ask when the committee is not known yet.
    fn connected_peers(&self) -> Vec<ConnectedPeer>;

    /// Changes who belongs here. Connections are kept; indices mean the new committee when this returns, in both directions. Peers with keys
    /// that the new membership does not know are disconnected.
    fn set_membership(&self, membership: Arc<Membership>);

    /// Shows another binding from now on, to the connected peers too: this validator's session key has changed.
    fn set_binding(&self, binding: PeerBinding);

    /// Pushes that were dropped because a peer did not keep up, since the start.
    fn dropped(&self) -> u64;
}

/// What a validator does with what the others send.
#[async_trait]
pub trait PeerHandler: Send + Sync {
    /// A block pushed by a member of the committee. The sender may send so many more only after this returns.
    async fn on_block(&self, from: ValidatorIndex, block: Bytes);

    /// A question; from [`ValidatorIndex::OBSERVER`] when a candidate asks.
    async fn on_request(&self, from: ValidatorIndex, request: PeerRequest) -> PeerResponse;

    /// Something no correct peer sends; [`ValidatorIndex::OBSERVER`] for one without a seat, `None` when the peer had not said who it is.
    fn on_garbage(&self, from: Option<ValidatorIndex>, what: &str);
}

/// Why something could not be sent, or the network could not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum P2pError {
    /// No connection to this peer.
    #[error("{0} is not connected")]
    NotConnected(PeerName),
    /// No answer.
    #[error("{0} did not answer: {1}")]
    NoAnswer(PeerName, String),
    /// Too many questions wait.
    #[error("too many requests wait for other validators")]
    Busy,
    /// The question is over its limits.
    #[error("the request asks for more than its limits allow")]
    TooMuch,
    /// The network has stopped.
    #[error("the peer-to-peer network has stopped")]
    Stopped,
    /// It cannot listen or be built.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
    },
}

/// How a validator takes part.
pub struct P2pConfig {
    /// Where to listen; port 0 for any.
    pub listen: Multiaddr,
    /// This validator's name; of two that dial one another, the one with the lower name goes first.
    pub own_name: String,
    /// Who belongs here, to begin with.
    pub membership: Arc<Membership>,
    /// Where the others are, by name. Who answers there is known by its binding.
    pub peers: Vec<(String, Multiaddr)>,
    /// This process's libp2p key.
    pub identity: Keypair,
    /// This validator's statement about that key.
    pub binding: PeerBinding,
    /// Checks the others' statements.
    pub verifier: Arc<dyn BlockVerifier + Send + Sync>,
}

struct Libp2pNetwork {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
}

#[async_trait]
impl BlockNetwork for Libp2pNetwork {
    fn push(&self, block: Bytes) {
        self.shared.push(&block);
    }

    async fn ask(&self, peer: PeerName, request: PeerRequest) -> Result<PeerResponse, P2pError> {
        if !request.is_within_limits() {
            return Err(P2pError::TooMuch);
        }
        // Now, while the index means what the caller knows it to mean.
        let key = self.shared.key_of(peer).ok_or(P2pError::NotConnected(peer))?;
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(Ask { peer, key, request, reply }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => P2pError::Busy,
            mpsc::error::TrySendError::Closed(_) => P2pError::Stopped,
        })?;
        answer.await.map_err(|_| P2pError::Stopped)?
    }

    fn connected(&self) -> Vec<ValidatorIndex> {
        self.shared.connected()
    }

    fn connected_peers(&self) -> Vec<ConnectedPeer> {
        self.shared.connected_peers()
    }

    fn set_membership(&self, membership: Arc<Membership>) {
        self.shared.set_membership(membership);
    }

    fn set_binding(&self, binding: PeerBinding) {
        self.shared.set_binding(binding);
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped()
    }
}

/// Starts the network. Returns its handle, where it listens, and its task, which ends when `cancel` is cancelled.
///
/// # Errors
/// [`P2pError::Listen`].
pub async fn start(
    config: P2pConfig,
    handler: Arc<dyn PeerHandler>,
    cancel: CancellationToken,
) -> Result<(Arc<dyn BlockNetwork>, Multiaddr, JoinHandle<()>), P2pError> {
    let P2pConfig { listen, own_name, membership, peers, identity, binding, verifier } = config;
    let failed = |reason: String| P2pError::Listen { address: listen.to_string(), reason };
    let mut swarm: Swarm<_> = build(identity, membership.size()).map_err(failed)?;
    swarm.listen_on(listen.clone()).map_err(|e| failed(e.to_string()))?;
    let listening = tokio::time::timeout(LISTEN_MAX, crate::swarm::wait_for_listen_address(&mut swarm)).await;
    let address = listening.map_err(|_| failed("no answer from the system".to_owned()))?.map_err(failed)?;
    let shared = Arc::new(Shared::new(membership, binding));
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let peers = Peers::new(&own_name, peers, Instant::now());
    let task = SwarmTask::new(swarm, verifier, peers, handler, Arc::clone(&shared), asked);
    let task = tokio::spawn(task.run(cancel));
    Ok((Arc::new(Libp2pNetwork { shared, asks }), address, task))
}
