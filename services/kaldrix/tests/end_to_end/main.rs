//! The whole network, as its users see it: real processes, real sockets, real signatures. One test binary, because each link costs.

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr, reason = "tests are sentences, and a failed unwrap is a failed test")]

mod a_payment_becomes_final_in_every_region;
mod a_payment_can_be_proven_offline;
mod a_validator_that_was_away_rejoins;
mod bad_transactions_get_their_code;
mod common;
mod load;
mod one_service_can_be_killed_alone;
mod one_trace_reaches_every_service;
mod strangers_are_refused;
mod the_network_goes_on_where_it_was;
mod validators_come_and_go;
mod what_the_loss_of_a_validator_costs;
mod who_signs_twice_loses_stake;
