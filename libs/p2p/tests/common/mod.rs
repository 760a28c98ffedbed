//! A committee with toy signatures, and nodes on loopback that note what they receive.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "each test file uses its part")]

use async_trait::async_trait;
use bytes::Bytes;
use kaldrix_p2p::{BlockNetwork, P2pConfig, P2pError, PeerBinding, PeerHandler, PeerRequest, PeerResponse, binding_digest, start};
use kaldrix_types::hash::Context;
use kaldrix_types::{BlockVerifier, ChainId, Committee, Digest, PublicKey, Purpose, Scheme, Validator, ValidatorIndex, signing_message};
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

pub fn committee(size: u8) -> Arc<Committee> {
    let validator = |i: u8| Validator {
        name: format!("v{i}"),
        region: "r".into(),
        stake: 1,
        key: PublicKey::new(Scheme::Ed25519, vec![i + 1; 32]).unwrap(),
    };
    Arc::new(Committee::new(ChainId(Digest([9; 32])), 0, (0..size).map(validator).collect()).unwrap())
}

pub fn identity(seed: u8) -> Keypair {
    Keypair::ed25519_from_bytes([seed; 32]).unwrap()
}

pub fn peer_id(identity: &Keypair) -> PeerId {
    identity.public().to_peer_id()
}

/// What `signer`'s key says, on `chain`, about `peer` being `claimed`.
pub fn signature(committee: &Committee, chain: ChainId, signer: u16, claimed: u16, peer: &PeerId) -> Bytes {
    let key = &committee.get(ValidatorIndex(signer)).unwrap().key;
    toy_signature(key, &signing_message(Purpose::PeerBinding, chain, binding_digest(peer, ValidatorIndex(claimed))))
}

/// As [`signature`], with the statement around it.
pub fn binding(committee: &Committee, chain: ChainId, signer: u16, claimed: u16, identity: &Keypair) -> PeerBinding {
    let peer = peer_id(identity);
    PeerBinding::new(ValidatorIndex(claimed), &peer, signature(committee, chain, signer, claimed, &peer))
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

pub fn config(committee: &Arc<Committee>, own: u16, listen: Multiaddr, peers: &[(u16, Multiaddr)]) -> P2pConfig {
    let identity = identity(u8::try_from(own).unwrap() + 1);
    P2pConfig {
        listen,
        own: ValidatorIndex(own),
        committee: Arc::clone(committee),
        peers: peers.iter().map(|(i, a)| (ValidatorIndex(*i), a.clone())).collect(),
        binding: binding(committee, committee.chain(), own, own, &identity),
        identity,
        verifier: Arc::new(ToyVerifier),
    }
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
