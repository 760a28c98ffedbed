use crate::world::{World, equal, verifier};
use kaldrix_checkpoint::{Certifier, CertifierEvent, WINDOW};
use kaldrix_types::{Checkpoint, CheckpointVote, Digest, Parameters, Validator};

/// A world whose first checkpoint is computed, and a certifier that knows nothing yet.
fn setup(validators: Vec<Validator>) -> (World, Checkpoint, Certifier) {
    let mut world = World::with(Parameters { checkpoint_commits: 1, ..Parameters::default() }, validators, 3);
    let certifier = Certifier::new(world.committee.clone());
    let checkpoint = world.commit(1, Vec::new(), None).unwrap();
    (world, checkpoint, certifier)
}

fn other(checkpoint: &Checkpoint, n: u8) -> CheckpointVote {
    CheckpointVote { index: checkpoint.index, digest: Digest([n; 32]) }
}

#[test]
fn a_quorum_of_votes_certifies_once_and_the_certificate_holds() {
    let (world, checkpoint, mut certifier) = setup(equal(0..4));
    assert_eq!(certifier.note_own(&checkpoint), []);
    assert_eq!(certifier.waiting().count(), 1);
    let mut events = Vec::new();
    for author in 0..4 {
        events.extend(certifier.on_block(&world.block(author, vec![checkpoint.vote()])));
    }
    let [CertifierEvent::Certified(certified)] = &events[..] else { panic!("{events:?}") };
    certified.verify(&world.committee, &verifier()).unwrap();
    assert_eq!(certified.votes.len(), 3);
    assert_eq!(certifier.waiting().count(), 0);
    assert_eq!(certifier.note_own(&checkpoint), [], "known already");
}

#[test]
fn votes_that_come_before_the_own_checkpoint_are_held() {
    let (world, checkpoint, mut certifier) = setup(equal(0..4));
    for author in [2, 0, 3] {
        assert_eq!(certifier.on_block(&world.block(author, vec![checkpoint.vote()])), []);
    }
    let events = certifier.note_own(&checkpoint);
    assert!(matches!(&events[..], [CertifierEvent::Certified(c)] if c.checkpoint == checkpoint));
}

#[test]
fn stake_counts_once_per_validator_and_only_its_first_vote() {
    let (world, checkpoint, mut certifier) = setup(equal(0..4));
    certifier.note_own(&checkpoint);
    for _ in 0..5 {
        assert_eq!(certifier.on_block(&world.block(1, vec![checkpoint.vote()])), []);
    }
    assert_eq!(certifier.on_block(&world.block(2, vec![other(&checkpoint, 1), checkpoint.vote()])), []);
    assert_eq!(certifier.on_block(&world.block(2, vec![checkpoint.vote()])), []);
    assert_eq!(certifier.on_block(&world.block(0, vec![checkpoint.vote()])), []);
    assert_eq!(certifier.on_block(&world.block(3, vec![checkpoint.vote()])).len(), 1);
}

#[test]
fn a_certificate_holds_no_vote_that_it_could_do_without() {
    let mut validators = equal(0..6);
    for (validator, stake) in validators.iter_mut().zip([1, 2, 50, 3, 40, 4]) {
        validator.stake = stake;
    }
    let (world, checkpoint, mut certifier) = setup(validators);
    for author in 0..6 {
        certifier.on_block(&world.block(author, vec![checkpoint.vote()]));
    }
    let events = certifier.note_own(&checkpoint);
    let [CertifierEvent::Certified(certified)] = &events[..] else { panic!("{events:?}") };
    let authors: Vec<u16> = certified.votes.iter().map(|vote| vote.header.author.0).collect();
    assert_eq!(authors, [2, 4], "90 of 100 stake");
    certified.verify(&world.committee, &verifier()).unwrap();
}

#[test]
fn more_stake_than_can_be_faulty_against_the_own_checkpoint_is_divergence_and_less_is_not() {
    let (world, checkpoint, mut certifier) = setup(equal(0..4));
    assert_eq!(certifier.on_block(&world.block(1, vec![other(&checkpoint, 1)])), []);
    assert_eq!(certifier.note_own(&checkpoint), [], "one of four may lie");
    let events = certifier.on_block(&world.block(2, vec![other(&checkpoint, 2)]));
    let own = checkpoint.digest();
    assert!(matches!(&events[..], [CertifierEvent::Diverged { index: 1, own: o, stake: 20, .. }] if *o == own), "{events:?}");
    assert_eq!(certifier.on_block(&world.block(3, vec![other(&checkpoint, 2)])), [], "said once");

    // Before the own checkpoint is there, others' votes say nothing; then they do at once, with the digest most of them have.
    let (world, checkpoint, mut certifier) = setup(equal(0..4));
    for (author, digest) in [(0, 7), (1, 8), (3, 8)] {
        assert_eq!(certifier.on_block(&world.block(author, vec![other(&checkpoint, digest)])), []);
    }
    let events = certifier.note_own(&checkpoint);
    assert!(matches!(&events[..], [CertifierEvent::Diverged { other: Digest(o), stake: 30, .. }] if o[0] == 8), "{events:?}");
}

#[test]
fn votes_far_ahead_displace_nobody_elses() {
    let (mut world, first, mut certifier) = setup(equal(0..4));
    let checkpoints: Vec<Checkpoint> = std::iter::once(first).chain((0..9).map(|_| world.commit(1, Vec::new(), None).unwrap())).collect();
    // A liar votes for thousands of indices that nobody has, before and between the others.
    for batch in 0..20u64 {
        let lies = (0..250).map(|i| CheckpointVote { index: 1 + i * 7 + batch * 5_000, digest: Digest([9; 32]) }).collect();
        assert_eq!(certifier.on_block(&world.block(0, lies)), []);
    }
    for author in 1..4 {
        certifier.on_block(&world.block(author, checkpoints.iter().map(Checkpoint::vote).collect()));
    }
    for checkpoint in &checkpoints {
        let events = certifier.note_own(checkpoint);
        assert!(matches!(&events[..], [CertifierEvent::Certified(c)] if c.checkpoint == *checkpoint), "{events:?}");
    }
}

#[test]
fn of_each_validator_only_the_newest_votes_are_kept() {
    let (mut world, first, mut certifier) = setup(equal(0..4));
    let mut checkpoints = vec![first];
    checkpoints.extend((0..WINDOW + 3).map(|_| world.commit(1, Vec::new(), None).unwrap()));
    for checkpoint in &checkpoints {
        for author in 0..3 {
            certifier.on_block(&world.block(author, vec![checkpoint.vote()]));
        }
    }
    let certified = checkpoints.iter().filter(|c| !certifier.note_own(c).is_empty()).count() as u64;
    assert_eq!(certified, WINDOW);
    assert_eq!(certifier.waiting().count(), 0, "the oldest lost their votes, and nobody waits for them any more");
    let from_peer = &world.checkpoints[3];
    assert_eq!(from_peer.checkpoint.index, 4);
    assert_eq!(certifier.on_certificate(from_peer), [], "so far behind the newest, a certificate is of no use to the certifier");
}

#[test]
fn a_peers_certificate_stands_for_missing_votes_and_shows_divergence() {
    let (world, checkpoint, mut certifier) = setup(equal(0..4));
    certifier.note_own(&checkpoint);
    let certified = &world.checkpoints[0];
    let events = certifier.on_certificate(certified);
    assert!(matches!(&events[..], [CertifierEvent::Certified(c)] if c == certified));
    assert_eq!(certifier.on_certificate(certified), []);

    let wrong = Checkpoint { state_root: Digest([3; 32]), ..checkpoint };
    let mut first_certified = Certifier::new(world.committee.clone());
    assert_eq!(first_certified.on_certificate(certified).len(), 1, "also when the own checkpoint is not there yet");
    assert!(matches!(&first_certified.note_own(&wrong)[..], [CertifierEvent::Diverged { .. }]));
    let mut first_own = Certifier::new(world.committee.clone());
    first_own.note_own(&wrong);
    assert!(matches!(&first_own.on_certificate(certified)[..], [CertifierEvent::Diverged { stake: 30, .. }]));
}

#[test]
fn checkpoints_and_votes_of_another_epoch_are_not_counted() {
    let (mut world, _, _) = setup(equal(0..4));
    let mut old = Certifier::new(world.committee.clone());
    world.end_epoch(equal(1..5));
    let checkpoint = world.commit(1, Vec::new(), None).unwrap();
    assert_eq!(old.note_own(&checkpoint), []);
    for author in 0..4 {
        assert_eq!(old.on_block(&world.block(author, vec![checkpoint.vote()])), []);
    }
    assert_eq!(old.waiting().count(), 0);
}
