//! What every implementation of the store traits has to do, as tests. An implementation gives a [`ValidatorPlace`] and a [`RegionPlace`]
//! and calls [`validator_store_tests!`](crate::validator_store_tests) and [`region_store_tests!`](crate::region_store_tests).

pub mod checkpoints;
pub mod fixture;
pub mod region;
pub mod snapshot;
pub mod validator;

use crate::{RegionStore, StoreError, ValidatorStore};
use async_trait::async_trait;
use kaldrix_types::Genesis;

/// A place that is empty at first and keeps what a store wrote there.
#[async_trait]
pub trait ValidatorPlace: Send + Sync {
    /// The implementation under test.
    type Store: ValidatorStore;
    /// Opens the store at this place.
    async fn open(&self, genesis: &Genesis) -> Result<Self::Store, StoreError>;
}

/// A place that is empty at first and keeps what a store wrote there.
#[async_trait]
pub trait RegionPlace: Send + Sync {
    /// The implementation under test.
    type Store: RegionStore;
    /// Opens the store at this place.
    async fn open(&self, genesis: &Genesis) -> Result<Self::Store, StoreError>;
}

/// Declares a function of the suite per name as a test, each with a place of its own made by `$place`.
#[macro_export]
#[doc(hidden)]
macro_rules! store_tests {
    ($module:ident, $place:expr, $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                $crate::conformance::$module::$name(&$place).await;
            }
        )*
    };
}

/// Declares the tests of a [`ValidatorStore`]: `$place` is an expression that makes an empty [`ValidatorPlace`].
#[macro_export]
macro_rules! validator_store_tests {
    ($place:expr) => {
        $crate::store_tests! { validator, $place,
            a_new_store_holds_the_genesis_state_and_no_commit
            what_was_written_is_there_after_opening_again
            a_store_of_another_chain_is_refused
            commits_must_follow_one_another
            the_same_commit_again_changes_nothing_and_another_one_is_an_error
            a_refused_batch_leaves_no_trace
            many_writers_at_once_all_get_their_answer
            blocks_are_read_in_order_and_in_pages
            blocks_above_floors_are_found_per_author
            committed_blocks_are_told_apart
            the_last_own_block_is_found
            executed_commits_come_in_pages_within_limits
            state_is_read_by_key_and_by_page
            blocks_of_two_epochs_in_one_round_are_told_apart
            old_blocks_are_pruned_in_batches_and_history_stays
            the_last_own_block_is_never_pruned
            a_closed_store_says_so
        }
        $crate::store_tests! { checkpoints, $place,
            a_checkpoint_is_written_with_the_commit_that_closes_it
            a_certificate_comes_later_and_stays
            checkpoints_must_follow_one_another_and_their_commits
            another_checkpoint_of_the_same_index_is_an_error
            checkpoints_are_found_by_index_and_by_commit
            checkpoints_come_in_pages_within_limits
            the_ends_of_epochs_are_found_without_the_checkpoints_between
        }
        $crate::store_tests! { snapshot, $place,
            a_snapshot_replaces_everything
            a_validator_goes_on_behind_a_snapshot
            a_large_snapshot_is_installed_whole
            a_snapshot_that_contradicts_itself_changes_nothing
            a_snapshot_that_contradicts_what_is_stored_changes_nothing
            the_same_snapshot_twice_is_harmless
            history_before_a_snapshot_is_named
        }
    };
}

/// Declares the tests of a [`RegionStore`]: `$place` is an expression that makes an empty [`RegionPlace`].
#[macro_export]
macro_rules! region_store_tests {
    ($place:expr) => {
        $crate::store_tests! { region, $place,
            a_new_read_model_knows_the_genesis_accounts
            every_read_finds_what_was_applied
            a_batch_again_changes_nothing
            an_overlapping_batch_applies_only_what_is_new
            batches_must_follow_and_never_contradict
            a_malformed_batch_is_refused_whole
            the_first_final_outcome_wins_over_later_ones
            a_discarded_transaction_can_still_land
            histories_are_newest_first_and_paged
            an_account_lists_its_lanes_and_its_holdings
            assets_are_found_with_their_supply
            validators_and_the_epoch_follow_the_state
            commits_are_listed_from_both_ends
            a_large_batch_is_one_write
            a_read_model_of_another_chain_is_refused
        }
    };
}
