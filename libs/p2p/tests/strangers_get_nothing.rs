//! Impostors, garbage and silence.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

mod common;

use bytes::Bytes;
use common::{Node, Notes, addresses, anywhere, binding, committee, eventually, identity, key, node_at, peer_id, signature};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt};
use kaldrix_p2p::{PeerBinding, PeerRequest, PeerResponse};
use kaldrix_types::{ChainId, Digest, ValidatorIndex, encode};
use libp2p::identity::Keypair;
use libp2p::request_response::{self, Event, Message, ProtocolSupport};
use libp2p::swarm::SwarmEvent;
use libp2p::{StreamProtocol, SwarmBuilder, tcp, tls, yamux};
use std::io;
use std::time::Duration;

/// Writes bytes as they are.
#[derive(Clone, Default)]
struct Raw;

impl request_response::Codec for Raw {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;
    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        io.take(100_000).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, p: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>> {
        self.read_request(p, io).await
    }
    async fn write_request<T: AsyncWrite + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()> {
        io.write_all(&bytes).await?;
        io.close().await
    }
    async fn write_response<T: AsyncWrite + Unpin + Send>(&mut self, p: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()> {
        self.write_request(p, io, bytes).await
    }
}

/// A frame as the wire has it: length, then the BCS of an enum's variant.
fn frame(variant: u8, payload: &[u8]) -> Vec<u8> {
    [u32::try_from(payload.len() + 1).unwrap().to_be_bytes().as_slice(), &[variant], payload].concat()
}

const HELLO: u8 = 0;
const PUSH: u8 = 1;
const ASK: u8 = 2;
/// The answer that only says "Hello first".
const UNBOUND: u8 = 3;

/// What a stranger saw: the answers to its questions, and whether it was disconnected within `patience`.
struct Saw {
    answers: Vec<Vec<u8>>,
    was_disconnected: bool,
}

/// Connects, sends `questions`, answers the other's questions with `reply`, and watches.
async fn stranger(node: &Node, identity: Keypair, questions: Vec<Vec<u8>>, reply: Vec<u8>, patience: Duration) -> Saw {
    let protocol = [(StreamProtocol::new("/kaldrix/blocks/2"), ProtocolSupport::Full)];
    let mut swarm = SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| request_response::Behaviour::with_codec(Raw, protocol, request_response::Config::default()))
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    swarm.dial(node.address.clone()).unwrap();
    let mut saw = Saw { answers: Vec::new(), was_disconnected: false };
    let watching = async {
        loop {
            match swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    for question in &questions {
                        swarm.behaviour_mut().send_request(&peer_id, question.clone());
                    }
                }
                SwarmEvent::ConnectionClosed { .. } => {
                    saw.was_disconnected = true;
                    return;
                }
                SwarmEvent::Behaviour(Event::Message { message: Message::Request { channel, .. }, .. }) => {
                    let _ = swarm.behaviour_mut().send_response(channel, reply.clone());
                }
                SwarmEvent::Behaviour(Event::Message { message: Message::Response { response, .. }, .. }) => saw.answers.push(response),
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(patience, watching).await;
    saw
}

async fn lonely_node() -> Node {
    node_at(&committee(4), 0, anywhere(), &[], Notes::default()).await
}

/// Questions of each kind that an attacker would like to see answered.
fn greedy() -> Vec<Vec<u8>> {
    vec![frame(PUSH, &encode(&Bytes::from_static(b"a block"))), frame(ASK, &encode(&PeerRequest::LastOwnBlock(ValidatorIndex(0))))]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impostor_with_a_forged_binding_gets_nothing_and_is_disconnected() {
    let committee = committee(4);
    let me = identity(50);
    let other_chain = ChainId(Digest([1; 32]));
    let chain = committee.chain();
    let (my_id, real_id) = (peer_id(&me), peer_id(&identity(2)));
    let forged = [
        ("validator 2's signature for validator 1", PeerBinding::new(key(1), &my_id, signature(chain, &key(2), &key(1), &my_id))),
        ("another chain", binding(other_chain, key(1), &me)),
        ("another peer id's binding", binding(chain, key(1), &identity(2))),
        ("another peer id's signature", PeerBinding::new(key(1), &my_id, signature(chain, &key(1), &key(1), &real_id))),
        ("another key", PeerBinding::new(key(2), &my_id, signature(chain, &key(1), &key(1), &my_id))),
        ("an unknown validator", binding(chain, key(40), &me)),
        ("the node's own key", binding(chain, key(0), &me)),
    ];
    for (how, forged) in forged {
        let node = lonely_node().await;
        let hello = frame(HELLO, &encode(&forged));
        let questions = [greedy(), vec![hello.clone()], greedy()].concat();
        let saw = stranger(&node, me.clone(), questions, hello, Duration::from_secs(3)).await;
        assert!(saw.was_disconnected, "{how}");
        assert!(saw.answers.iter().all(|a| a.is_empty() || a == &frame(UNBOUND, b"")), "{how}: {:?}", saw.answers);
        assert!(node.notes.blocks.lock().unwrap().is_empty(), "{how}");
        assert!(node.network.connected().is_empty(), "{how}");
        assert!(!node.notes.garbage.lock().unwrap().is_empty(), "{how}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_dropped_after_five_seconds() {
    let node = lonely_node().await;
    let begun = tokio::time::Instant::now();
    // It asks, but never says Hello, and answers the node's own Hello with an empty stream.
    let saw = stranger(&node, identity(60), greedy(), Vec::new(), Duration::from_secs(8)).await;
    assert!(saw.was_disconnected);
    assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
    assert!(node.notes.blocks.lock().unwrap().is_empty());
    assert_eq!(node.network.connected(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_oversized_frames_are_reported_and_hurt_nobody() {
    let node = lonely_node().await;
    let oversized = [u32::MAX.to_be_bytes().as_slice(), &[0; 1000]].concat();
    for bytes in [vec![0xff; 5000], oversized, frame(HELLO, b"no binding"), frame(9, b""), frame(ASK, &[7; 40]), Vec::new(), vec![2, 0]] {
        let before = node.notes.garbage.lock().unwrap().len();
        let is_short = bytes.len() < 5;
        // The node's own Hello gets an empty answer, so that what is reported is the question.
        let saw = stranger(&node, identity(61), vec![bytes], Vec::new(), Duration::from_millis(if is_short { 500 } else { 3000 })).await;
        assert!(saw.answers.iter().all(Vec::is_empty), "{:?}", saw.answers);
        assert!(node.notes.garbage.lock().unwrap().len() > before || is_short);
    }
    assert!(!node.task.is_finished());
    // A correct validator connects as if nothing had been.
    let committee = committee(4);
    let other = node_at(&committee, 1, anywhere(), &[(0, node.address.clone())], Notes::default()).await;
    eventually("connected", || other.network.connected() == [ValidatorIndex(0)]).await;
    other.network.push(Bytes::from_static(b"block"));
    eventually("served", || node.notes.blocks.lock().unwrap().len() == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_validator_that_sends_garbage_is_named() {
    let node = lonely_node().await;
    let committee = committee(4);
    let identity = identity(2);
    let hello = frame(HELLO, &encode(&binding(committee.chain(), key(1), &identity)));
    let garbage = vec![vec![0xff; 100]; 40];
    let questions = [vec![hello.clone()], garbage].concat();
    let saw = stranger(&node, identity, questions, hello, Duration::from_secs(3)).await;
    let reports = node.notes.garbage.lock().unwrap().clone();
    assert!(reports.iter().any(|(from, _)| *from == Some(ValidatorIndex(1))), "{reports:?}");
    assert!(saw.was_disconnected, "after so much garbage");
    assert!(!node.task.is_finished());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_at_a_wrong_address_is_still_itself() {
    // The book of node 1 says "v2" where node 0 listens: bindings decide, not addresses.
    let committee = committee(4);
    let zero = node_at(&committee, 0, anywhere(), &[], Notes::default()).await;
    let one = node_at(&committee, 1, anywhere(), &[(2, zero.address.clone()), (3, addresses(1)[0].clone())], Notes::default()).await;
    eventually("connected as 0", || one.network.connected() == [ValidatorIndex(0)]).await;
    let answer = one.network.request(ValidatorIndex(0), PeerRequest::LastOwnBlock(ValidatorIndex(0))).await.unwrap();
    assert_eq!(answer, PeerResponse::Refused("you are 1".into()));
}
