//! The trait, its libp2p implementation's handle, and how it starts.

use crate::message::{PeerRequest, PeerResponse};
use crate::swarm::{Ask, SwarmTask, build};
use crate::{PeerBinding, peers::Peers};
use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_types::{BlockVerifier, Committee, ValidatorIndex};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, Swarm};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Pushes that wait per peer.
const QUEUE_MAX: usize = 64;
/// Questions that wait, over all peers.
const ASKS_MAX: usize = 256;
const LISTEN_MAX: Duration = Duration::from_secs(5);

/// What a validator sends to the others.
#[async_trait]
pub trait BlockNetwork: Send + Sync {
    /// Sends a block (BCS) to every connected validator. Never blocks: to a peer whose queue is full the oldest waiting block is not
    /// sent; it will fetch it.
    fn push(&self, block: Bytes);

    /// Asks one validator.
    ///
    /// # Errors
    /// [`P2pError`] when it is not connected, does not answer in time, or too many questions wait.
    async fn request(&self, peer: ValidatorIndex, request: PeerRequest) -> Result<PeerResponse, P2pError>;

    /// Validators that are connected and have shown their binding, ascending.
    fn connected(&self) -> Vec<ValidatorIndex>;

    /// Pushes that were dropped because a peer did not keep up, since the start.
    fn dropped(&self) -> u64;
}

/// What a validator does with what the others send.
#[async_trait]
pub trait PeerHandler: Send + Sync {
    /// A pushed block. The sender may send so many more only after this returns.
    async fn on_block(&self, from: ValidatorIndex, block: Bytes);

    /// A question.
    async fn on_request(&self, from: ValidatorIndex, request: PeerRequest) -> PeerResponse;

    /// Something no correct peer sends; `None` when the peer had not said who it is.
    fn on_garbage(&self, from: Option<ValidatorIndex>, what: &str);
}

/// Why something could not be sent, or the network could not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum P2pError {
    /// No connection to this validator.
    #[error("validator {0} is not connected")]
    NotConnected(ValidatorIndex),
    /// No answer.
    #[error("validator {0} did not answer: {1}")]
    NoAnswer(ValidatorIndex, String),
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
    /// This validator.
    pub own: ValidatorIndex,
    /// All validators.
    pub committee: Arc<Committee>,
    /// Where the others are.
    pub peers: Vec<(ValidatorIndex, Multiaddr)>,
    /// This process's libp2p key.
    pub identity: Keypair,
    /// The validator's statement about that key.
    pub binding: PeerBinding,
    /// Checks the others' statements.
    pub verifier: Arc<dyn BlockVerifier + Send + Sync>,
}

/// Blocks that wait for one peer.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) queues: HashMap<ValidatorIndex, VecDeque<Bytes>>,
}

/// What the handle and the task share.
pub(crate) struct Shared {
    outbox: Mutex<Outbox>,
    pub(crate) wake: Notify,
    dropped: AtomicU64,
}

impl Shared {
    /// No code panics while it holds this lock, so a poisoned one is as good as any.
    pub(crate) fn outbox(&self) -> std::sync::MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Libp2pNetwork {
    shared: Arc<Shared>,
    asks: mpsc::Sender<Ask>,
}

#[async_trait]
impl BlockNetwork for Libp2pNetwork {
    fn push(&self, block: Bytes) {
        for queue in self.shared.outbox().queues.values_mut() {
            if queue.len() >= QUEUE_MAX {
                queue.pop_front();
                self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            }
            queue.push_back(block.clone());
        }
        self.shared.wake.notify_one();
    }

    async fn request(&self, peer: ValidatorIndex, request: PeerRequest) -> Result<PeerResponse, P2pError> {
        if !request.is_within_limits() {
            return Err(P2pError::TooMuch);
        }
        let (reply, answer) = oneshot::channel();
        self.asks.try_send(Ask { peer, request, reply }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => P2pError::Busy,
            mpsc::error::TrySendError::Closed(_) => P2pError::Stopped,
        })?;
        answer.await.map_err(|_| P2pError::Stopped)?
    }

    fn connected(&self) -> Vec<ValidatorIndex> {
        let mut connected: Vec<_> = self.shared.outbox().queues.keys().copied().collect();
        connected.sort_unstable();
        connected
    }

    fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
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
    let failed = |reason: String| P2pError::Listen { address: config.listen.to_string(), reason };
    let mut swarm: Swarm<_> = build(config.identity.clone(), config.committee.size()).map_err(failed)?;
    swarm.listen_on(config.listen.clone()).map_err(|e| failed(e.to_string()))?;
    let listening = tokio::time::timeout(LISTEN_MAX, crate::swarm::wait_for_listen_address(&mut swarm)).await;
    let address = listening.map_err(|_| failed("no answer from the system".to_owned()))?.map_err(failed)?;
    let shared = Arc::new(Shared { outbox: Mutex::default(), wake: Notify::new(), dropped: AtomicU64::new(0) });
    let (asks, asked) = mpsc::channel(ASKS_MAX);
    let peers = Peers::new(config.own, config.peers.clone(), Instant::now());
    let task = SwarmTask::new(swarm, config, peers, handler, Arc::clone(&shared), asked);
    let task = tokio::spawn(task.run(cancel));
    Ok((Arc::new(Libp2pNetwork { shared, asks }), address, task))
}
