//! One liar of each kind, whom the honest peers come after.

use crate::catch_up::{assert_exact, grown, honest, installed, run, start};
use crate::world::World;
use bytes::Bytes;
use kaldrix_checkpoint::{CatchUpAnswer, CatchUpAsk, CatchUpOutcome, CatchUpRequest, PeerFault};
use kaldrix_types::{CertifiedCheckpoint, Digest, ExecutedCommit, OutcomeStatus, RejectCode, StateKey, StateValue, decode, encode};
use std::sync::Arc;

/// Peer 0 answers as `lie` says, given the honest answer; peers 1 and 2 are honest. The state must come out right; peer 0's fault.
///
/// The chain moves on once state is asked for: when the first checkpoints are compared, peer 0's is as new as the others', and it becomes
/// the source.
fn against(mut lie: impl FnMut(&mut World, &CatchUpRequest, CatchUpAnswer) -> Option<CatchUpAnswer>) -> (Option<PeerFault>, u64) {
    let (mut world, mut is_moving) = (grown(), false);
    let (outcome, given_up, took_ms) = run(&mut start(&world, 0..3), &mut |ask: &CatchUpAsk<u8>| {
        let answer = honest(&world, &ask.request);
        is_moving |= matches!(ask.request, CatchUpRequest::StatePage { .. });
        if ask.peer == 0 {
            return lie(&mut world, &ask.request, answer);
        }
        if is_moving {
            world.step(1);
        }
        Some(answer)
    });
    assert_exact(&installed(outcome), &world);
    assert!(given_up.iter().all(|(peer, _)| *peer == 0), "an honest peer was given up: {given_up:?}");
    (given_up.first().map(|(_, fault)| *fault), took_ms)
}

/// Changes the records of pages.
fn with_pages(mut change: impl FnMut(&mut Vec<(StateKey, StateValue)>)) -> Option<PeerFault> {
    against(|_, _, answer| {
        let CatchUpAnswer::StatePage { at, records, is_last } = answer else { return Some(answer) };
        let mut records = decode(&records, usize::MAX).unwrap();
        change(&mut records);
        Some(CatchUpAnswer::StatePage { at, records: encode(&records).into(), is_last })
    })
    .0
}

/// Changes executed commits, and sends them whole.
fn with_commits(mut change: impl FnMut(&mut ExecutedCommit)) -> Option<PeerFault> {
    against(|world, request, answer| {
        let CatchUpRequest::Executed { from, .. } = request else { return Some(answer) };
        let mut executed = ExecutedCommit::clone(&world.commits[usize::try_from(*from).unwrap() - 1]);
        change(&mut executed);
        Some(CatchUpAnswer::Executed(vec![encode(&executed).into()]))
    })
    .0
}

/// Changes checkpoints, those that the request is about.
fn with_checkpoints(is_it: fn(&CatchUpRequest) -> bool, mut change: impl FnMut(&mut CertifiedCheckpoint)) -> Option<PeerFault> {
    against(|_, request, answer| {
        let CatchUpAnswer::Checkpoints(items) = answer else { return Some(answer) };
        let lie = |bytes: Bytes| {
            let mut certified: CertifiedCheckpoint = decode(&bytes, usize::MAX).unwrap();
            change(&mut certified);
            encode(&certified).into()
        };
        Some(CatchUpAnswer::Checkpoints(if is_it(request) { items.into_iter().map(lie).collect() } else { items }))
    })
    .0
}

fn is_newest(request: &CatchUpRequest) -> bool {
    matches!(request, CatchUpRequest::Checkpoints { from_index: 0, .. })
}

fn is_ends(request: &CatchUpRequest) -> bool {
    matches!(request, CatchUpRequest::Checkpoints { epoch_ends_only: true, .. })
}

fn is_links(request: &CatchUpRequest) -> bool {
    matches!(request, CatchUpRequest::Checkpoints { epoch_ends_only: false, from_index: 1.., .. })
}

#[test]
fn state_that_is_not_the_certified_one_is_found_out() {
    let richer = with_pages(|records| {
        if let Some((_, StateValue::Balance(amount))) = records.first_mut() {
            *amount += 1;
        }
    });
    assert_eq!(richer, Some(PeerFault::WrongState));
    let missing = with_pages(|records| {
        records.remove(records.len() / 2);
    });
    assert_eq!(missing, Some(PeerFault::WrongState));
    let mut is_first = true;
    let added = with_pages(|records| {
        if std::mem::take(&mut is_first) {
            records.insert(0, (StateKey::Account(kaldrix_types::Address([0; 32])), StateValue::Account(Default::default())));
        }
    });
    assert_eq!(added, Some(PeerFault::WrongState));
}

#[test]
fn pages_that_make_no_sense_are_refused_at_once() {
    let descending = with_pages(|records| records.reverse());
    assert!(matches!(descending, Some(PeerFault::Malformed(_))));
    let doubled = with_pages(|records| records.insert(0, records[0].clone()));
    assert!(matches!(doubled, Some(PeerFault::Malformed(_))));
    let (garbage, _) = against(|_, _, answer| match answer {
        CatchUpAnswer::StatePage { at, is_last, .. } => {
            Some(CatchUpAnswer::StatePage { at, records: Bytes::from_static(&[0xff; 40]), is_last })
        }
        other => Some(other),
    });
    assert!(matches!(garbage, Some(PeerFault::Malformed(_))));
    let (backwards, _) = against(|_, request, answer| match answer {
        CatchUpAnswer::StatePage { at, records, is_last } => {
            let at = if matches!(request, CatchUpRequest::StatePage { after: None, .. }) { at } else { at - 1 };
            Some(CatchUpAnswer::StatePage { at, records, is_last })
        }
        other => Some(other),
    });
    assert!(matches!(backwards, Some(PeerFault::Malformed(_))));
    let (empty, _) = against(|_, _, answer| match answer {
        CatchUpAnswer::StatePage { at, .. } => {
            Some(CatchUpAnswer::StatePage { at, records: encode(&Vec::<u8>::new()).into(), is_last: false })
        }
        other => Some(other),
    });
    assert!(matches!(empty, Some(PeerFault::Malformed(_))));
    let (another, _) = against(|_, request, answer| match request {
        CatchUpRequest::StatePage { .. } => Some(CatchUpAnswer::Executed(Vec::new())),
        _ => Some(answer),
    });
    assert!(matches!(another, Some(PeerFault::Malformed(_))));
}

#[test]
fn forged_commits_are_found_out() {
    let other_change = with_commits(|executed| {
        if let Some(change) = executed.changes.first_mut() {
            change.value = Some(StateValue::Balance(7));
        }
    });
    assert_eq!(other_change, Some(PeerFault::WrongState));
    let fewer_changes = with_commits(|executed| executed.changes.clear());
    assert_eq!(fewer_changes, Some(PeerFault::WrongState));
    let other_commit = with_commits(|executed| executed.commit.timestamp_ms += 1);
    assert!(matches!(other_commit, Some(PeerFault::WrongCommits(_))));
    let other_outcome = with_commits(|executed| {
        if let Some(outcome) = executed.outcomes.first_mut() {
            outcome.status = OutcomeStatus::Failed(RejectCode::Expired);
        }
    });
    assert!(matches!(other_outcome, Some(PeerFault::WrongCommits(_))));
    let other_body = with_commits(|executed| executed.bodies.iter_mut().for_each(|body| *body = Bytes::from_static(b"another")));
    assert!(matches!(other_body, Some(PeerFault::WrongCommits(_))));
    let fewer_bodies = with_commits(|executed| drop(executed.bodies.pop()));
    assert!(matches!(fewer_bodies, Some(PeerFault::WrongCommits(_))));
    let other_header = with_commits(|executed| executed.headers[0].timestamp_ms += 1);
    assert!(matches!(other_header, Some(PeerFault::WrongCommits(_))));
    let skipped = with_commits(|executed| executed.commit.index += 1);
    assert!(matches!(skipped, Some(PeerFault::WrongCommits(_))));
}

#[test]
fn commits_that_are_not_there_or_never_end_are_no_way_to_hold_anybody_up() {
    let (pruned, _) = against(|_, request, answer| match request {
        CatchUpRequest::Executed { .. } => Some(CatchUpAnswer::Executed(Vec::new())),
        _ => Some(answer),
    });
    assert!(matches!(pruned, Some(PeerFault::Missing(_))));
    let piece = |total_bytes| CatchUpAnswer::Part { total_bytes, bytes: vec![1; 60_000].into() };
    let is_commit = |r: &CatchUpRequest| matches!(r, CatchUpRequest::Executed { .. } | CatchUpRequest::ExecutedPart { .. });
    let (endless, _) = against(|_, request, answer| Some(if is_commit(request) { piece(u64::MAX) } else { answer }));
    assert!(matches!(endless, Some(PeerFault::TooLarge(_))), "{endless:?}");
    let (too_much, _) = against(|_, request, answer| Some(if is_commit(request) { piece(100_000) } else { answer }));
    assert!(matches!(too_much, Some(PeerFault::Malformed(_))), "{too_much:?}");
}

#[test]
fn endless_and_oversized_pages_are_cut_off() {
    let mut n = 0u64;
    let mut world = grown();
    let mut config = crate::catch_up::config(&world);
    config.state_bytes_max = 300_000;
    let chain = kaldrix_checkpoint::EpochChain::from_genesis(&world.genesis).unwrap();
    let mut catch_up = kaldrix_checkpoint::CatchUp::new(config, chain, 0, 0..3, 0);
    let (outcome, given_up, _) = run(&mut catch_up, &mut |ask: &CatchUpAsk<u8>| match &ask.request {
        CatchUpRequest::StatePage { .. } if ask.peer == 0 => {
            let mut key = || {
                n += 1;
                let mut address = [0; 32];
                address[..8].copy_from_slice(&n.to_be_bytes());
                (StateKey::Balance(kaldrix_types::Address(address), kaldrix_types::AssetId::NATIVE), StateValue::Balance(1))
            };
            let records: Vec<_> = (0..40).map(|_| key()).collect();
            Some(CatchUpAnswer::StatePage { at: world.commits.len() as u64, records: encode(&records).into(), is_last: false })
        }
        request => {
            let answer = honest(&world, request);
            if n > 0 {
                world.step(1);
            }
            Some(answer)
        }
    });
    assert_exact(&installed(outcome), &world);
    assert_eq!(given_up, [(0, PeerFault::TooLarge("state"))]);
    assert!(n < 4_000, "{n} records were taken");

    let (large, _) = against(|_, request, answer| match request {
        CatchUpRequest::StatePage { .. } => {
            Some(CatchUpAnswer::StatePage { at: 1, records: vec![0; (64 << 10) + 1].into(), is_last: true })
        }
        _ => Some(answer),
    });
    assert_eq!(large, Some(PeerFault::TooLarge("answer")));
}

#[test]
fn a_state_that_no_checkpoint_ever_covers_costs_a_bounded_time() {
    let (ahead, took_ms) = against(|_, _, answer| match answer {
        CatchUpAnswer::StatePage { records, is_last, .. } => Some(CatchUpAnswer::StatePage { at: u64::MAX, records, is_last }),
        other => Some(other),
    });
    assert!(matches!(ahead, Some(PeerFault::Missing(_))));
    assert!((120_000..150_000).contains(&took_ms), "{took_ms} ms");
}

#[test]
fn checkpoints_without_a_quorum_are_refused() {
    let forged = with_checkpoints(is_newest, |certified| certified.checkpoint.state_root = Digest([1; 32]));
    assert_eq!(forged, Some(PeerFault::NotCertified));
    let thin = with_checkpoints(is_newest, |certified| drop(certified.votes.pop()));
    // Before the epochs are known, a newest checkpoint only says which epoch it is of; its turn comes again.
    assert_eq!(thin, Some(PeerFault::NotCertified));
    let future = with_checkpoints(is_newest, |certified| certified.checkpoint.epoch = 99);
    assert_eq!(future, Some(PeerFault::NotCertified), "an epoch that it cannot show the way to");
    let ends = with_checkpoints(is_ends, |certified| {
        certified.checkpoint.next_epoch.as_mut().unwrap().validators.pop();
    });
    assert_eq!(ends, Some(PeerFault::NotCertified));
    let no_ends = with_checkpoints(is_ends, |certified| certified.checkpoint.next_epoch = None);
    assert!(matches!(no_ends, Some(PeerFault::Malformed(_))));
    let links = with_checkpoints(is_links, |certified| certified.checkpoint.outcome_count += 1);
    assert!(matches!(links, Some(PeerFault::WrongCommits(_))));
    let (none, _) = against(|_, request, answer| Some(if is_links(request) { CatchUpAnswer::Checkpoints(Vec::new()) } else { answer }));
    assert!(matches!(none, Some(PeerFault::Missing(_))));
    let (many, _) = against(|_, request, answer| match answer {
        CatchUpAnswer::Checkpoints(items) if is_newest(request) => Some(CatchUpAnswer::Checkpoints(vec![items[0].clone(); 2])),
        other => Some(other),
    });
    assert!(matches!(many, Some(PeerFault::Malformed(_))));
}

#[test]
fn who_only_has_old_checkpoints_is_not_asked_for_state() {
    let mut old = None;
    let (fault, _) = against(|world, request, _| {
        let old: &World = old.get_or_insert_with(|| {
            let mut old = world.clone();
            old.checkpoints.truncate(3);
            old
        });
        assert!(!matches!(request, CatchUpRequest::StatePage { .. }), "an old peer was made the source");
        Some(honest(old, request))
    });
    assert_eq!(fault, None, "it may just be slow");
}

#[test]
fn a_silent_peer_costs_time_and_nothing_else() {
    let (silent, took_ms) = against(|_, request, answer| (!matches!(request, CatchUpRequest::StatePage { .. })).then_some(answer));
    assert_eq!(silent, Some(PeerFault::Silent));
    assert!(took_ms < 40_000, "{took_ms} ms");
    let (mute, took_ms) = against(|_, _, _| None);
    assert_eq!(mute, None, "it was not needed");
    assert!(took_ms < 5_000, "{took_ms} ms");
    let (refusing, took_ms) = against(|_, _, _| Some(CatchUpAnswer::Refused));
    assert!(matches!(refusing, None | Some(PeerFault::Silent)), "{refusing:?}");
    assert!(took_ms < 5_000, "{took_ms} ms");
}

#[test]
fn when_everybody_lies_or_is_silent_it_fails_and_says_so() {
    let world = grown();
    let mut peers = |ask: &CatchUpAsk<u8>| match honest(&world, &ask.request) {
        CatchUpAnswer::Executed(items) => {
            let mut executed: ExecutedCommit = decode(&items[0], usize::MAX).unwrap();
            executed.commit.timestamp_ms += 1;
            Some(CatchUpAnswer::Executed(vec![encode(&executed).into()]))
        }
        CatchUpAnswer::Part { .. } => Some(CatchUpAnswer::Refused),
        other => Some(other),
    };
    let (outcome, given_up, _) = run(&mut start(&world, 0..4), &mut peers);
    assert!(matches!(outcome, CatchUpOutcome::Failed));
    assert_eq!(given_up.len(), 4);
    let (outcome, given_up, _) = run(&mut start(&world, 0..4), &mut |_: &CatchUpAsk<u8>| None);
    assert!(matches!(outcome, CatchUpOutcome::Failed));
    assert!(given_up.iter().all(|(_, fault)| *fault == PeerFault::Silent));
}

#[test]
fn a_liar_cannot_hide_a_deletion() {
    let mut world = grown();
    let victim = *world.state.keys().next().unwrap();
    let mut deleted = false;
    let (outcome, given_up, _) = run(&mut start(&world, 0..3), &mut |ask: &CatchUpAsk<u8>| {
        let mut answer = honest(&world, &ask.request);
        if matches!(ask.request, CatchUpRequest::StatePage { .. }) && !std::mem::replace(&mut deleted, true) {
            world.commit(0, vec![kaldrix_types::StateChange { key: victim, value: None }], None);
        }
        if ask.peer == 0
            && let CatchUpRequest::Executed { from, .. } = ask.request
        {
            let mut executed = Arc::unwrap_or_clone(world.commits[usize::try_from(from).unwrap() - 1].clone());
            executed.changes.retain(|change| change.key != victim);
            answer = CatchUpAnswer::Executed(vec![encode(&executed).into()]);
        }
        if deleted {
            world.step(1);
        }
        Some(answer)
    });
    assert_exact(&installed(outcome), &world);
    assert_eq!(given_up, [(0, PeerFault::WrongState)]);
}
