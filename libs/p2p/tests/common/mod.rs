//! A committee with toy signatures, and nodes on loopback that note what they receive.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "each test file uses its part")]

use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_p2p::{
    BlockNetwork, Candidate, Membership, P2pConfig, P2pError, PeerBinding, PeerHandler, PeerRequest, PeerResponse, binding_digest, start,
};
use kaldrix_types::hash::Context;
use kaldrix_types::{
    Address, BlockVerifier, ChainId, Committee, Digest, PublicKey, Purpose, Scheme, Validator, ValidatorIndex, signing_message,
};
use libp2p::identity::Keypair;
use libp2p::{Multiaddr, PeerId};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A "signature" is a hash of key and message: p2p only has to ask its verifier.
pub struct ToyVerifier;

fn toy_signature(key: &PublicKey, message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(Context::KeyId.hash(&[key.bytes(), message]).as_bytes())
}

impl BlockVerifier for ToyVerifier {
    fn verify(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        toy_signature(key, message) == signature
    }
}

/// Session key of the validator "v{i}".
pub fn key(i: u8) -> PublicKey {
    PublicKey::new(Scheme::Ed25519, vec![i + 1; 32]).unwrap()
}

pub fn chain() -> ChainId {
    ChainId(Digest([9; 32]))
}

/// A committee of these validators in this order: name and key are each one's own in every epoch.
pub fn committee_of(epoch: u64, members: &[u8]) -> Arc<Committee> {
    let validator =
        |i: &u8| Validator { name: format!("v{i}"), region: "r".into(), stake: 1, key: key(*i), operator: Address([i + 10; 32]) };
    Arc::new(Committee::new(chain(), epoch, members.iter().map(validator).collect()).unwrap())
}

pub fn committee(size: u8) -> Arc<Committee> {
    committee_of(0, &(0..size).collect::<Vec<_>>())
}

pub fn candidate(i: u8) -> Candidate {
    Candidate { name: format!("v{i}"), key: key(i) }
}

pub fn identity(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn peer_id(identity: &Keypair) -> PeerId {
    identity.public().to_peer_id()
}

/// What `signer` says, on `chain`, about `peer` being the owner of `claimed`.
pub fn signature(chain: ChainId, signer: &PublicKey, claimed: &PublicKey, peer: &PeerId) -> Bytes {
    toy_signature(signer, &signing_message(Purpose::PeerBinding, chain, binding_digest(peer, claimed.id())))
}

/// The true statement that `identity` belongs to `key`.
pub fn binding(chain: ChainId, key: PublicKey, identity: &Keypair) -> PeerBinding {
    let peer = peer_id(identity);
    let signature = signature(chain, &key, &key, &peer);
    PeerBinding::new(key, &peer, signature)
}

#[derive(Default)]
pub struct Notes {
    pub blocks: Mutex<Vec<(ValidatorIndex, Bytes, Instant)>>,
    pub garbage: Mutex<Vec<(Option<ValidatorIndex>, String)>>,
    /// Time that the handler takes per block.
    pub slowness: Duration,
}

#[async_trait]
impl PeerHandler for Notes {
    async fn on_block(&self, from: ValidatorIndex, block: Bytes) {
        tokio::time::sleep(self.slowness).await;
        self.blocks.lock().unwrap().push((from, block, Instant::now()));
    }
    async fn on_request(&self, from: ValidatorIndex, request: PeerRequest) -> PeerResponse {
        match request {
            PeerRequest::Blocks(refs) => {
                PeerResponse::Blocks(refs.iter().map(|r| Bytes::copy_from_slice(&r.round.to_be_bytes())).collect())
            }
            PeerRequest::BlocksAbove { limit_bytes, .. } => PeerResponse::Blocks(vec![Bytes::from(vec![1; limit_bytes as usize])]),
            PeerRequest::LastOwnBlock(_) => PeerResponse::Refused(format!("you are {from}")),
            PeerRequest::Checkpoints { limit, .. } => PeerResponse::Checkpoints(vec![Bytes::from_static(b"checkpoint"); limit as usize]),
            PeerRequest::StatePage { limit, .. } => {
                PeerResponse::StatePage { at: 7, records: Bytes::from(vec![2; limit as usize]), is_last: true }
            }
            PeerRequest::Executed { limit_bytes, .. } => PeerResponse::Executed(vec![Bytes::from(vec![3; limit_bytes as usize])]),
            PeerRequest::ExecutedPart { offset, .. } => PeerResponse::Part { total_bytes: offset, bytes: Bytes::new() },
        }
    }
    fn on_garbage(&self, from: Option<ValidatorIndex>, what: &str) {
        self.garbage.lock().unwrap().push((from, what.to_owned()));
    }
}

pub struct Node {
    pub index: ValidatorIndex,
    pub network: Arc<dyn BlockNetwork>,
    pub address: Multiaddr,
    pub notes: Arc<Notes>,
    pub cancel: CancellationToken,
    pub task: JoinHandle<()>,
}

impl Node {
    pub async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

/// Validator "v{own}" as the committee knows it; peers by the numbers in their names.
pub fn config(committee: &Committee, own: u16, listen: Multiaddr, peers: &[(u16, Multiaddr)]) -> P2pConfig {
    let own_seed = u8::try_from(own).unwrap();
    let identity = identity(own_seed + 1);
    P2pConfig {
        listen,
        own_name: format!("v{own}"),
        membership: Arc::new(Membership::new(committee, [])),
        peers: peers.iter().map(|(i, a)| (format!("v{i}"), a.clone())).collect(),
        binding: binding(committee.chain(), key(own_seed), &identity),
        identity,
        verifier: Arc::new(ToyVerifier),
    }
}

/// Starts what `config` says, and keeps the notes.
pub async fn node_with(config: P2pConfig, index: u16) -> Node {
    let (notes, cancel) = (Arc::new(Notes::default()), CancellationToken::new());
    let (network, address, task) = start(config, notes.clone(), cancel.clone()).await.unwrap();
    Node { index: ValidatorIndex(index), network, address, notes, cancel, task }
}

pub async fn node_at(committee: &Arc<Committee>, own: u16, listen: Multiaddr, peers: &[(u16, Multiaddr)], notes: Notes) -> Node {
    let notes = Arc::new(notes);
    let cancel = CancellationToken::new();
    let handler = Arc::clone(&notes);
    // A port that was just given up may take a moment.
    for _ in 0..50 {
        match start(config(committee, own, listen.clone(), peers), handler.clone(), cancel.clone()).await {
            Ok((network, address, task)) => return Node { index: ValidatorIndex(own), network, address, notes, cancel, task },
            Err(P2pError::Listen { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the address stays in use");
}

pub fn anywhere() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

/// Free ports, given up again at once.
pub fn addresses(count: usize) -> Vec<Multiaddr> {
    let held: Vec<_> = (0..count).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|l| format!("/ip4/127.0.0.1/tcp/{}", l.local_addr().unwrap().port()).parse().unwrap()).collect()
}

pub async fn cluster(committee: &Arc<Committee>, slow: Option<(usize, Duration)>) -> (Vec<Node>, Vec<(u16, Multiaddr)>) {
    let book: Vec<(u16, Multiaddr)> = (0..).zip(addresses(committee.size())).collect();
    let mut nodes = Vec::new();
    for (i, address) in &book {
        let slowness = slow.filter(|(slow, _)| slow == &usize::from(*i)).map_or(Duration::ZERO, |(_, d)| d);
        nodes.push(node_at(committee, *i, address.clone(), &book, Notes { slowness, ..Notes::default() }).await);
    }
    for node in &nodes {
        eventually("all are connected", || node.network.connected().len() == committee.size() - 1).await;
    }
    (nodes, book)
}

pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}
