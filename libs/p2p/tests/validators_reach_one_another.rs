//! Correct validators on loopback.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and shows what it measured")]

mod common;

use bytes::Bytes;
use common::{Notes, addresses, anywhere, cluster, committee, config, eventually, identity, node_at};
use kaldrix_p2p::{CATCH_UP_BYTES_MAX, P2pError, PeerRequest, PeerResponse, RESPONSE_BYTES_MAX, STATE_PAGE_RECORDS_MAX};
use kaldrix_types::{BlockRef, Digest, ValidatorIndex};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn four_validators_connect_and_a_pushed_block_reaches_all_others() {
    let committee = committee(4);
    let (nodes, _) = cluster(&committee, None).await;
    for node in &nodes {
        let others: Vec<_> = committee.indices().filter(|i| *i != node.index).collect();
        assert_eq!(node.network.connected(), others);
    }
    let large = Bytes::from(vec![5; 4 * 1024 * 1024]);
    for block in [Bytes::from_static(b"small"), large] {
        let begun = Instant::now();
        nodes[0].network.push(block.clone());
        for node in &nodes[1..] {
            eventually("the block arrives", || node.notes.blocks.lock().unwrap().iter().any(|(_, b, _)| *b == block)).await;
            let blocks = node.notes.blocks.lock().unwrap();
            let (from, _, at) = blocks.last().unwrap();
            println!("{} bytes reached validator {} after {:?}", block.len(), node.index, *at - begun);
            assert_eq!(*from, ValidatorIndex(0));
        }
    }
    assert!(nodes[0].notes.blocks.lock().unwrap().is_empty());
    assert!(nodes.iter().all(|n| n.notes.garbage.lock().unwrap().is_empty()));
    assert_eq!(nodes[0].network.dropped(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_answered_and_their_limits_hold() {
    let (nodes, _) = cluster(&committee(4), None).await;
    let network = &nodes[0].network;
    let reference = |round| BlockRef { round, author: ValidatorIndex(1), digest: Digest::ZERO };
    let answer = network.request(ValidatorIndex(2), PeerRequest::Blocks((0..128).map(reference).collect())).await.unwrap();
    let PeerResponse::Blocks(blocks) = answer else { panic!("refused") };
    assert_eq!(blocks.len(), 128);
    assert_eq!(blocks[127].as_ref(), 127u64.to_be_bytes());
    let who = network.request(ValidatorIndex(3), PeerRequest::LastOwnBlock(ValidatorIndex(0))).await.unwrap();
    assert_eq!(who, PeerResponse::Refused("you are 0".into()));

    let too_many = PeerRequest::Blocks((0..129).map(reference).collect());
    assert_eq!(network.request(ValidatorIndex(1), too_many).await, Err(P2pError::TooMuch));
    let above = |limit_bytes| PeerRequest::BlocksAbove { floors: vec![0; 4], limit_bytes };
    let full = network.request(ValidatorIndex(1), above(u32::try_from(RESPONSE_BYTES_MAX).unwrap())).await.unwrap();
    assert!(matches!(full, PeerResponse::Blocks(blocks) if blocks[0].len() == RESPONSE_BYTES_MAX));
    let more = network.request(ValidatorIndex(1), above(u32::try_from(RESPONSE_BYTES_MAX).unwrap() + 1)).await.unwrap();
    assert!(matches!(more, PeerResponse::Refused(_)));
    let nobody = network.request(ValidatorIndex(9), PeerRequest::LastOwnBlock(ValidatorIndex(0))).await;
    assert_eq!(nobody, Err(P2pError::NotConnected(ValidatorIndex(9).into())));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_catches_up_gets_checkpoints_state_and_commits_in_bounded_answers() {
    let (nodes, _) = cluster(&committee(4), None).await;
    let ask = |request| nodes[0].network.request(ValidatorIndex(1), request);
    let checkpoints = ask(PeerRequest::Checkpoints { from_index: 1, epoch_ends_only: true, limit: 2 }).await.unwrap();
    assert_eq!(checkpoints, PeerResponse::Checkpoints(vec![Bytes::from_static(b"checkpoint"); 2]));
    let page = |limit| PeerRequest::StatePage { after: Some(kaldrix_types::StateKey::Epoch), limit };
    let records = Bytes::from(vec![2; 100]);
    assert_eq!(ask(page(100)).await.unwrap(), PeerResponse::StatePage { at: 7, records, is_last: true });
    assert_eq!(ask(page(STATE_PAGE_RECORDS_MAX + 1)).await, Err(P2pError::TooMuch));
    let executed = |bytes: usize| PeerRequest::Executed { from: 1, limit_bytes: u32::try_from(bytes).unwrap() };
    let full = ask(executed(CATCH_UP_BYTES_MAX)).await.unwrap();
    assert!(matches!(full, PeerResponse::Executed(commits) if commits[0].len() == CATCH_UP_BYTES_MAX));
    assert!(matches!(ask(executed(CATCH_UP_BYTES_MAX + 1)).await.unwrap(), PeerResponse::Refused(_)));
    let part = ask(PeerRequest::ExecutedPart { index: 1, offset: 1 << 40 }).await.unwrap();
    assert_eq!(part, PeerResponse::Part { total_bytes: 1 << 40, bytes: Bytes::new() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_validator_is_connected_again_within_three_seconds() {
    let committee = committee(4);
    // The highest index is courteous when it dials, the lowest is not: both must be quick.
    for restarted in [0, 3] {
        let (mut nodes, book) = cluster(&committee, None).await;
        nodes.remove(restarted).stop().await;
        for node in &nodes {
            eventually("the loss is noticed", || node.network.connected().len() == 2).await;
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (index, address) = book[restarted].clone();
        let node = node_at(&committee, index, address, &book, Notes::default()).await;
        let begun = Instant::now();
        eventually("the restarted one sees all", || node.network.connected().len() == 3).await;
        for other in &nodes {
            eventually("all see the restarted one", || other.network.connected().len() == 3).await;
        }
        println!("validator {index} was connected again after {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let block = Bytes::from_static(b"welcome back");
        nodes[0].network.push(block);
        eventually("it gets blocks", || !node.notes.blocks.lock().unwrap().is_empty()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_validator_delays_nobody_and_loses_the_oldest() {
    let (nodes, _) = cluster(&committee(4), Some((3, Duration::from_millis(200)))).await;
    let begun = Instant::now();
    for i in 0..200u64 {
        nodes[0].network.push(Bytes::copy_from_slice(&i.to_be_bytes()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for node in &nodes[1..3] {
        eventually("the quick ones have all", || node.notes.blocks.lock().unwrap().len() == 200).await;
    }
    println!("the quick ones had 200 blocks after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(3));
    let dropped = usize::try_from(nodes[0].network.dropped()).unwrap();
    assert!(dropped >= 50, "{dropped}");
    let newest = 199u64.to_be_bytes();
    eventually("the slow one gets the newest", || nodes[3].notes.blocks.lock().unwrap().iter().any(|(_, b, _)| b.as_ref() == newest)).await;
    assert_eq!(nodes[3].notes.blocks.lock().unwrap().len() + dropped, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_may_come_back_with_another_peer_id() {
    let committee = committee(4);
    let book: Vec<_> = (0..2).zip(addresses(2)).collect();
    let first = node_at(&committee, 0, book[0].1.clone(), &book, Notes::default()).await;
    let former = node_at(&committee, 1, book[1].1.clone(), &book, Notes::default()).await;
    eventually("connected", || first.network.connected().len() == 1).await;
    // The new process runs while the former one is still there.
    let mut new = config(&committee, 1, anywhere(), &book[..1]);
    new.identity = identity(77);
    new.binding = common::binding(committee.chain(), common::key(1), &new.identity);
    let notes = Arc::new(Notes::default());
    let (network, ..) = kaldrix_p2p::start(new, notes.clone(), CancellationToken::new()).await.unwrap();
    eventually("the new one is connected", || network.connected().len() == 1).await;
    former.stop().await;
    eventually("blocks reach the new one", || {
        first.network.push(Bytes::from_static(b"block"));
        !notes.blocks.lock().unwrap().is_empty()
    })
    .await;
    assert_eq!(first.network.connected(), [ValidatorIndex(1)]);
}

#[tokio::test]
async fn a_taken_address_is_a_clear_error() {
    let committee = committee(4);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", taken.local_addr().unwrap().port());
    let here = config(&committee, 0, address.parse().unwrap(), &[]);
    let error = kaldrix_p2p::start(here, Arc::new(Notes::default()), CancellationToken::new()).await.err().unwrap();
    assert!(matches!(&error, P2pError::Listen { .. }) && error.to_string().contains(&address), "{error}");
}
