//! Epochs: indices change, validators come and go, keys rotate, and connections stay.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use common::{Node, Notes, addresses, anywhere, binding, candidate, cluster, committee, committee_of, config, eventually, identity, key};
use kaldrix_p2p::{Candidate, Membership, P2pError, PeerName, PeerRequest, PeerResponse, Role};
use kaldrix_types::{Committee, ValidatorIndex};
use std::sync::Arc;
use std::time::Duration;

const V: [ValidatorIndex; 5] = [ValidatorIndex(0), ValidatorIndex(1), ValidatorIndex(2), ValidatorIndex(3), ValidatorIndex(4)];
const WHO_AM_I: PeerRequest = PeerRequest::LastOwnBlock(ValidatorIndex(0));

fn you_are(index: ValidatorIndex) -> PeerResponse {
    PeerResponse::Refused(format!("you are {index}"))
}

fn has(node: &Node, from: ValidatorIndex, block: &'static [u8]) -> bool {
    node.notes.blocks.lock().unwrap().iter().any(|(f, b, _)| *f == from && b.as_ref() == block)
}

fn enter(node: &Node, committee: &Committee, candidates: &[u8]) {
    let candidates = candidates.iter().map(|i| candidate(*i));
    node.network.set_membership(Arc::new(Membership::new(committee, candidates)));
}

/// Four members, and v4 that waits for a seat and dials all of them.
async fn four_and_a_candidate() -> (Vec<Node>, Node) {
    let first = committee(4);
    let (nodes, book) = cluster(&first, None).await;
    nodes.iter().for_each(|node| enter(node, &first, &[4]));
    let fifth = common::node_at(&first, 4, anywhere(), &book, Notes::default()).await;
    eventually("the candidate reaches all", || fifth.network.connected().len() == 4).await;
    let knows_it = |node: &Node| node.network.connected_peers().iter().any(|p| p.key == key(4).id() && p.role == Role::Candidate);
    eventually("all know the candidate", || nodes.iter().all(knows_it)).await;
    (nodes, fifth)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_epoch_renumbers_validators_without_a_new_connection() {
    let (nodes, _) = cluster(&committee(4), None).await;
    // v3 leads the list now, and what was 0 is 1.
    let next = committee_of(1, &[3, 0, 1, 2]);
    let keys: Vec<_> = nodes[0].network.connected_peers().into_iter().map(|p| p.key).collect();
    nodes.iter().for_each(|node| enter(node, &next, &[]));
    for (node, own) in nodes.iter().zip([1, 2, 3, 0]) {
        let others: Vec<_> = next.indices().filter(|i| i.0 != own).collect();
        assert_eq!(node.network.connected(), others, "at once");
    }
    nodes[0].network.push(Bytes::from_static(b"of the new epoch"));
    for node in &nodes[1..] {
        eventually("the block arrives", || has(node, V[1], b"of the new epoch")).await;
    }
    let answer = nodes[0].network.request(V[0], WHO_AM_I).await.unwrap();
    assert_eq!(answer, you_are(V[1]));
    assert_eq!(nodes[0].network.connected_peers().into_iter().map(|p| p.key).collect::<Vec<_>>(), keys);
    assert!(nodes.iter().all(|n| n.notes.garbage.lock().unwrap().is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_waits_for_a_seat_may_ask_and_its_pushes_count_from_its_first_epoch_on() {
    let (nodes, fifth) = four_and_a_candidate().await;
    assert_eq!(fifth.network.request(V[2], WHO_AM_I).await.unwrap(), you_are(ValidatorIndex::OBSERVER));
    assert_eq!(nodes[0].network.connected(), [V[1], V[2], V[3]]);
    assert_eq!(nodes[0].network.request(V[4], WHO_AM_I).await, Err(P2pError::NotConnected(V[4].into())));
    let by_key = nodes[0].network.ask(PeerName::Key(key(4).id()), WHO_AM_I).await.unwrap();
    assert_eq!(by_key, you_are(V[0]));
    fifth.network.push(Bytes::from_static(b"too early"));
    nodes[0].network.push(Bytes::from_static(b"for members"));
    eventually("members have the block", || nodes[1..].iter().all(|n| has(n, V[0], b"for members"))).await;

    let next = committee_of(1, &[0, 1, 2, 3, 4]);
    nodes.iter().chain([&fifth]).for_each(|node| enter(node, &next, &[]));
    fifth.network.push(Bytes::from_static(b"mine"));
    nodes[0].network.push(Bytes::from_static(b"for all"));
    eventually("its blocks count", || nodes.iter().all(|n| has(n, V[4], b"mine"))).await;
    eventually("it gets blocks", || has(&fifth, V[0], b"for all")).await;
    assert!(nodes.iter().all(|n| n.notes.blocks.lock().unwrap().iter().all(|(_, b, _)| b.as_ref() != b"too early")));
    assert!(fifth.notes.blocks.lock().unwrap().iter().all(|(_, b, _)| b.as_ref() != b"for members"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_without_a_place_is_disconnected_and_stays_out() {
    let (nodes, fifth) = four_and_a_candidate().await;
    let next = committee_of(1, &[1, 2, 3, 4]);
    nodes.iter().skip(1).chain([&fifth]).for_each(|node| enter(node, &next, &[]));
    eventually("v0 is alone", || nodes[0].network.connected_peers().is_empty()).await;
    // It dials on, as it knows no better.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for node in &nodes[1..] {
        assert_eq!(node.network.connected().len(), 3);
        assert!(node.network.connected_peers().iter().all(|p| p.key != key(0).id()));
    }
    fifth.network.push(Bytes::from_static(b"among members"));
    eventually("the others go on", || nodes[1..].iter().all(|n| has(n, V[3], b"among members"))).await;
    assert!(nodes[0].notes.blocks.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_knows_none_of_todays_keys_asks_whoever_answers_and_serves_nobody() {
    // v4 was away while everybody else changed keys: what it knows is a committee of v10 to v13, at the addresses of v0 to v3.
    let today = committee(4);
    let (nodes, book) = cluster(&today, None).await;
    nodes.iter().for_each(|node| enter(node, &today, &[4]));
    let outdated = committee_of(0, &[10, 11, 12, 13]);
    let mut closed = config(&outdated, 4, anywhere(), &book);
    closed.membership = Arc::new(Membership::new(&outdated, [candidate(4)]));
    let away = common::node_with(closed, 4).await;
    eventually("strangers are refused", || !away.notes.garbage.lock().unwrap().is_empty()).await;
    assert!(away.network.connected_peers().is_empty());

    away.network.set_membership(Arc::new(Membership::new(&outdated, [candidate(4)]).open()));
    eventually("all answer", || away.network.connected_peers().len() == 4).await;
    let guests = away.network.connected_peers();
    assert!(guests.iter().all(|p| p.role == Role::Guest && p.dialed && p.name.is_none()), "{guests:?}");
    assert!(away.network.connected().is_empty());
    let asked = away.network.ask(PeerName::Key(guests[0].key), WHO_AM_I).await.unwrap();
    assert_eq!(asked, you_are(ValidatorIndex::OBSERVER));
    eventually("v0 knows it too", || nodes[0].network.connected_peers().iter().any(|p| p.key == key(4).id())).await;
    let asking = nodes[0].network.ask(PeerName::Key(key(4).id()), WHO_AM_I).await.unwrap();
    assert!(matches!(&asking, PeerResponse::Refused(why) if why.contains("catching up")), "{asking:?}");

    enter(&away, &today, &[4]);
    assert_eq!(away.network.connected(), V[..4]);
    nodes[0].network.push(Bytes::from_static(b"to members"));
    let asking = nodes[0].network.ask(PeerName::Key(key(4).id()), WHO_AM_I).await.unwrap();
    assert_eq!(asking, you_are(V[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_rotates_its_session_key_keeps_its_connections() {
    let (nodes, _) = cluster(&committee(4), None).await;
    let rotated = key(30);
    let next_key = || Candidate { name: "v1".to_owned(), key: rotated.clone() };
    // Everybody knows from the chain that v1 will sign with another key from the next epoch on.
    nodes.iter().for_each(|n| n.network.set_membership(Arc::new(Membership::new(&committee(4), [next_key()]))));
    let parts = committee(4).parts();
    let mut validators = parts.validators;
    validators[1].key = rotated.clone();
    let next = Committee::new(parts.chain, 1, validators).unwrap();
    let previous_key = candidate(1);

    // v1 is the first to enter the epoch, v0 the last.
    let enter = |node: &Node| node.network.set_membership(Arc::new(Membership::new(&next, [previous_key.clone()])));
    enter(&nodes[1]);
    nodes[1].network.set_binding(binding(parts.chain, rotated.clone(), &identity(2)));
    let waits = |node: &Node| node.network.connected_peers().iter().any(|p| p.key == rotated.id() && p.role == Role::Candidate);
    eventually("the others see the new key", || [0, 2, 3].into_iter().all(|i| waits(&nodes[i]))).await;
    assert!(nodes[0].network.connected_peers().iter().all(|p| p.key != key(1).id()), "the old key has gone");
    enter(&nodes[3]);
    enter(&nodes[2]);
    enter(&nodes[0]);
    for i in [0, 2, 3] {
        assert!(nodes[i].network.connected().contains(&V[1]), "at once");
    }
    nodes[1].network.push(Bytes::from_static(b"signed with the new key"));
    eventually("its blocks count", || [0, 2, 3].into_iter().all(|i| has(&nodes[i], V[1], b"signed with the new key"))).await;
    assert!(nodes.iter().all(|n| n.notes.garbage.lock().unwrap().is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_validator_that_nobody_has_in_his_configuration_is_found_by_dialling_itself() {
    let first = committee(5);
    let addresses = addresses(1);
    let zero = common::node_at(&first, 0, addresses[0].clone(), &[], Notes::default()).await;
    let late = common::node_at(&first, 4, anywhere(), &[(0, addresses[0].clone())], Notes::default()).await;
    eventually("connected", || zero.network.connected() == [V[4]] && late.network.connected() == [V[0]]).await;
    let seen = &zero.network.connected_peers()[0];
    assert_eq!((seen.name.as_deref(), seen.dialed), (Some("v4"), false));
    assert!(late.network.connected_peers()[0].dialed);
}
