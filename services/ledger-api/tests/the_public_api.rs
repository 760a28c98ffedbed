//! The public API over real sockets: a real SQLite read model, and dag-service and region-sync played by small servers.

#[path = "the_public_api/bad_input.rs"]
mod bad_input;
#[path = "the_public_api/fakes.rs"]
mod fakes;
#[path = "the_public_api/faucet.rs"]
mod faucet;
#[path = "the_public_api/fixture.rs"]
mod fixture;
#[path = "the_public_api/handing_over.rs"]
mod handing_over;
#[path = "the_public_api/operations.rs"]
mod operations;
#[path = "the_public_api/proofs.rs"]
mod proofs;
#[path = "the_public_api/reads.rs"]
mod reads;
#[path = "the_public_api/starting.rs"]
mod starting;
#[path = "the_public_api/streams.rs"]
mod streams;
#[path = "the_public_api/validators.rs"]
mod validators;
#[path = "the_public_api/waiting.rs"]
mod waiting;
