use crate::support::{committee, full_dag, refs};
use kaldrix_dag::{BlockManager, Limits, RangeRequest, SyncConfig, Synchronizer};
use kaldrix_types::{BlockRef, Digest, ValidatorIndex};

const OWN: ValidatorIndex = ValidatorIndex(0);

fn peer(index: u16) -> ValidatorIndex {
    ValidatorIndex(index)
}

fn reference(n: u64) -> BlockRef {
    BlockRef { round: 1 + n, author: ValidatorIndex((n % 4) as u16), digest: Digest([n as u8; 32]) }
}

fn scheduler(config: SyncConfig) -> Synchronizer {
    Synchronizer::new(&committee(4), OWN, config)
}

#[test]
fn the_sender_of_the_child_is_asked_first_and_then_each_other_peer_in_turn() {
    let mut sync = scheduler(SyncConfig::default());
    sync.want([reference(1), reference(2)], peer(2));
    let mut asked = Vec::new();
    for step in 0..3 {
        let now = step * 1_000;
        let requests = sync.poll(now);
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].refs, [reference(1), reference(2)]);
        asked.push(requests[0].peer);
        assert!(sync.poll(now + 999).is_empty());
    }
    assert_eq!(asked, [peer(2), peer(3), peer(1)]);
    // Everybody failed: a pause, then from the start.
    assert!(sync.poll(3_000).is_empty());
    assert_eq!(sync.poll(3_250)[0].peer, peer(2));
}

#[test]
fn what_a_response_lacks_is_asked_elsewhere_at_once() {
    let mut sync = scheduler(SyncConfig::default());
    sync.want([reference(1), reference(2), reference(3)], peer(1));
    let request = sync.poll(0).remove(0);
    sync.resolved(&reference(3));
    sync.on_response(request.id, &[reference(1)], 10);
    assert_eq!(sync.wanted_len(), 1);
    let next = sync.poll(10).remove(0);
    assert_eq!((next.peer, next.refs), (peer(2), vec![reference(2)]));
    // A late answer still counts, and a second report of the same request changes nothing.
    sync.on_response(request.id, &[reference(2)], 20);
    sync.on_failure(next.id, 20);
    assert_eq!((sync.wanted_len(), sync.requests_in_flight(), sync.poll(5_000).len()), (0, 0, 0));
}

#[test]
fn requests_and_references_per_peer_are_bounded() {
    let config = SyncConfig { requests_per_peer_max: 1, refs_per_request_max: 10, wanted_max: 100, ..SyncConfig::default() };
    let mut sync = scheduler(config);
    sync.want((0..200).map(reference), peer(1));
    assert_eq!(sync.wanted_len(), 100);
    let requests = sync.poll(0);
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|r| r.refs.len() == 10));
    assert_eq!(requests[0].refs[0], reference(0), "lowest rounds first");
    assert!(sync.poll(1).is_empty());
    sync.on_response(requests[1].id, &requests[1].refs, 2);
    assert_eq!(sync.poll(2).iter().map(|r| r.peer).collect::<Vec<_>>(), [requests[1].peer]);
}

#[test]
fn an_unreachable_peer_is_passed_over_and_its_requests_move_on() {
    let mut sync = scheduler(SyncConfig::default());
    sync.want([reference(1)], peer(1));
    assert_eq!(sync.poll(0)[0].peer, peer(1));
    sync.set_reachable(peer(1), false, 5);
    assert_eq!(sync.poll(5)[0].peer, peer(2));
    sync.want([reference(2)], peer(1));
    assert_ne!(sync.poll(6)[0].peer, peer(1));
    for other in [2, 3] {
        sync.set_reachable(peer(other), false, 7);
    }
    assert!(sync.poll(2_000).is_empty());
    sync.set_reachable(peer(3), true, 2_001);
    assert_eq!(sync.poll(2_001)[0].refs, [reference(1), reference(2)]);
}

#[test]
fn reconciling_follows_what_the_dag_misses() {
    let committee = committee(4);
    let layers = full_dag(&committee, 3);
    let mut dag = BlockManager::new(committee.clone(), Limits::default());
    let mut sync = Synchronizer::new(&committee, OWN, SyncConfig::default());
    sync.want([reference(9)], peer(1));
    dag.add(layers[2][3].clone()).unwrap();
    sync.reconcile(&dag);
    let requests = sync.poll(0);
    assert_eq!(
        (requests[0].peer, requests[0].refs.clone()),
        (peer(3), {
            let mut r = refs(&layers[1]);
            r.sort();
            r
        })
    );
    dag.collect(3);
    sync.reconcile(&dag);
    assert_eq!(sync.wanted_len(), 0);
}

#[test]
fn a_validator_that_is_far_behind_asks_one_peer_for_a_range_at_a_time() {
    let committee = committee(4);
    let layers = full_dag(&committee, 30);
    let mut dag = BlockManager::new(committee.clone(), Limits { rounds_ahead_max: 25, ..Limits::default() });
    let mut sync = Synchronizer::new(&committee, OWN, SyncConfig::default());
    layers[..2].iter().flatten().for_each(|b| drop(dag.add(b.clone()).unwrap()));
    dag.add(layers[21][1].clone()).unwrap();
    assert_eq!(sync.should_range_sync(&dag, 0), None, "20 rounds are fetched block by block");
    dag.add(layers[22][1].clone()).unwrap();
    assert_eq!(sync.should_range_sync(&dag, 0), Some(RangeRequest { peer: peer(1), above: vec![2; 4] }));
    assert_eq!(sync.should_range_sync(&dag, 999), None);
    assert_eq!(sync.should_range_sync(&dag, 1_000), None, "the time-out is followed by a pause");
    assert_eq!(sync.should_range_sync(&dag, 1_250).unwrap().peer, peer(2));
    sync.on_range_done(peer(1), true, 1_300);
    assert_eq!(sync.should_range_sync(&dag, 1_300), None, "a stale report changes nothing");
    sync.on_range_done(peer(2), true, 1_300);
    assert_eq!(sync.should_range_sync(&dag, 1_300).unwrap().peer, peer(2));
    layers[2..22].iter().flatten().for_each(|b| drop(dag.add(b.clone())));
    sync.on_range_done(peer(2), true, 1_400);
    assert_eq!(sync.should_range_sync(&dag, 1_400), None);
}

#[test]
fn a_round_that_was_refused_as_too_far_ahead_leads_to_a_range_and_a_lie_about_it_is_forgotten() {
    let committee = committee(4);
    let dag = BlockManager::new(committee.clone(), Limits::default());
    let mut sync = Synchronizer::new(&committee, OWN, SyncConfig::default());
    sync.saw_round(peer(3), 1_000_000);
    assert_eq!(sync.should_range_sync(&dag, 0).unwrap().peer, peer(3));
    sync.on_range_done(peer(3), false, 10);
    assert_eq!(sync.should_range_sync(&dag, 10_000), None);
}
