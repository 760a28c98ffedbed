//! The commit rule in pictures (the drawing is explained in `kaldrix_testkit::dag`). Leaders go round: with four validators B leads round 1,
//! C round 2, D round 3, A round 4, B round 5.
//!
//! ```text
//!   direct commit, direct skip, missing leader, start of an epoch          direct
//!   indirect commit and skip through an anchor, chains of undecided slots  indirect
//!   equivocating leader, each half supported                               equivocation
//!   late blocks                                                            late
//!   several leaders per round                                              several_leaders
//!   unequal stake                                                          stake
//!   what a commit holds, change of the schedule, end of an epoch           commits
//! ```

mod commits;
mod direct;
mod equivocation;
mod indirect;
mod late;
mod several_leaders;
mod stake;
mod support;
