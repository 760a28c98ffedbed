//! REST: decode → call the handler → serialise its message.

use super::problem::{JsonBody, Params, Refusal, Segment};
use super::views;
use crate::core::{Ledger, Level, Submit};
use crate::error::invalid;
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kaldrix_api::ApiError;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{CommitIndex, IdError};
use serde::Deserialize;
use std::str::FromStr;
use std::sync::Arc;
use utoipa::IntoParams;

type Api = State<Arc<Ledger>>;
type Answer<T> = Result<Json<T>, Refusal>;

fn parse<T: FromStr<Err = IdError>>(field: &str, text: &str) -> Result<T, ApiError> {
    text.parse().map_err(|error| invalid(field, error))
}

/// A page of a list.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Page {
    /// 1 to 200; 50 by default.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<u32>,
    /// `next` of the page before.
    after: Option<String>,
}

impl Page {
    fn limit(&self) -> Result<u32, ApiError> {
        match self.limit {
            Some(0) => Err(invalid("limit", "use 1 to 200")),
            Some(limit) => Ok(limit),
            None => Ok(0),
        }
    }

    fn after(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }
}

/// Hands a signed transaction in.
///
/// Waits for the level asked for. Submitting the same bytes again, to any region, returns the first outcome.
#[utoipa::path(
    post, path = "/v1/transactions", tag = "transactions", request_body = views::SubmitTransactionRequest,
    responses(
        (status = 200, description = "It is final; `success` and `code` say how it went.", body = views::Transaction),
        (status = 202, description = "It is accepted or included, not final yet.", body = views::Transaction),
    )
)]
pub(super) async fn submit_transaction(
    State(ledger): Api,
    JsonBody(body): JsonBody<views::SubmitTransactionRequest>,
) -> Result<Response, Refusal> {
    let level = body.wait_for.as_deref().map(|text| Level::parse(&text.to_ascii_uppercase())).transpose()?.unwrap_or_default();
    let transaction =
        STANDARD.decode(body.transaction.as_bytes()).map_err(|error| invalid("transaction", format!("not base64: {error}")))?;
    let submit = Submit { transaction: transaction.into(), level, timeout_ms: body.timeout_ms.unwrap_or(0) };
    let transaction = ledger.submit(submit).await?;
    let waiting = matches!(transaction.status(), pb::TransactionStatus::Accepted | pb::TransactionStatus::Included);
    let status = if waiting { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(views::Transaction::from(transaction))).into_response())
}

/// A transaction, wherever it is.
#[utoipa::path(
    get, path = "/v1/transactions/{id}", tag = "transactions", params(("id" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, description = "As far as it has come.", body = views::Transaction))
)]
pub(super) async fn get_transaction(State(ledger): Api, Segment(id): Segment) -> Answer<views::Transaction> {
    Ok(Json(ledger.transaction(parse("id", &id)?).await?.into()))
}

/// An account.
#[utoipa::path(
    get, path = "/v1/accounts/{address}", tag = "accounts", params(("address" = String, Path, description = "kx1…")),
    responses((status = 200, description = "The account.", body = views::Account))
)]
pub(super) async fn get_account(State(ledger): Api, Segment(address): Segment) -> Answer<views::Account> {
    Ok(Json(ledger.account(parse("address", &address)?).await?.into()))
}

/// An account's history, newest first.
#[utoipa::path(
    get, path = "/v1/accounts/{address}/transactions", tag = "accounts", params(("address" = String, Path, description = "kx1…"), Page),
    responses((status = 200, description = "A page.", body = views::TransactionPage))
)]
pub(super) async fn list_account_transactions(
    State(ledger): Api,
    Segment(address): Segment,
    Params(page): Params<Page>,
) -> Answer<views::TransactionPage> {
    Ok(Json(ledger.account_transactions(parse("address", &address)?, page.limit()?, page.after()).await?.into()))
}

/// Commits, newest first.
#[utoipa::path(get, path = "/v1/commits", tag = "commits", params(Page), responses((status = 200, description = "A page.", body = views::CommitPage)))]
pub(super) async fn list_commits(State(ledger): Api, Params(page): Params<Page>) -> Answer<views::CommitPage> {
    Ok(Json(ledger.commits(page.limit()?, page.after()).await?.into()))
}

/// A commit with the ids of its first 1,000 transactions.
#[utoipa::path(
    get, path = "/v1/commits/{index}", tag = "commits", params(("index" = u64, Path, description = "From 1")),
    responses((status = 200, description = "The commit.", body = views::Commit))
)]
pub(super) async fn get_commit(State(ledger): Api, Segment(index): Segment) -> Answer<views::Commit> {
    let index: CommitIndex = index.parse().map_err(|_| invalid("index", "use a number from 1"))?;
    Ok(Json(views::Commit::with_transactions(ledger.commit(index).await?)))
}

/// A committed block.
#[utoipa::path(
    get, path = "/v1/blocks/{digest}", tag = "commits", params(("digest" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, description = "The block.", body = views::Block))
)]
pub(super) async fn get_block(State(ledger): Api, Segment(digest): Segment) -> Answer<views::Block> {
    Ok(Json(ledger.block(parse("digest", &digest)?).await?.into()))
}

/// An asset.
#[utoipa::path(
    get, path = "/v1/assets/{id}", tag = "accounts", params(("id" = String, Path, description = "64 hexadecimal digits; 64 zeroes are KDX")),
    responses((status = 200, description = "The asset.", body = views::Asset))
)]
pub(super) async fn get_asset(State(ledger): Api, Segment(id): Segment) -> Answer<views::Asset> {
    Ok(Json(ledger.asset(parse("id", &id)?).await?.into()))
}

/// The validators of the running epoch in index order, then those that are registered without a seat.
#[utoipa::path(get, path = "/v1/validators", tag = "network", responses((status = 200, description = "Validators and epoch.", body = views::Validators)))]
pub(super) async fn list_validators(State(ledger): Api) -> Answer<views::Validators> {
    Ok(Json(ledger.validators_list().await?.into()))
}

/// A checkpoint and who vouches for it: what proofs end in.
#[utoipa::path(
    get, path = "/v1/checkpoints/{index}", tag = "proofs", params(("index" = String, Path, description = "From 1, or `latest`")),
    responses((status = 200, description = "The checkpoint.", body = views::Checkpoint))
)]
pub(super) async fn get_checkpoint(State(ledger): Api, Segment(index): Segment) -> Answer<views::Checkpoint> {
    let index = match index.as_str() {
        "latest" => 0,
        text => text.parse().ok().filter(|index| *index > 0).ok_or_else(|| invalid("index", "use a number from 1, or latest"))?,
    };
    Ok(Json(ledger.checkpoint(index).await?.into()))
}

/// The proof of a transaction's outcome, to be saved and verified offline with `kaldrix verify`.
///
/// NOT_CHECKPOINTED until the transaction is CHECKPOINTED, about a second after it is FINAL.
#[utoipa::path(
    get, path = "/v1/transactions/{id}/proof", tag = "proofs", params(("id" = String, Path, description = "64 hexadecimal digits")),
    responses((status = 200, description = "The proof, from genesis on.", content_type = "application/json", body = Object))
)]
pub(super) async fn get_transaction_proof(State(ledger): Api, Segment(id): Segment) -> Result<Response, Refusal> {
    Ok(proof(ledger.transaction_proof(parse("id", &id)?).await?.proof_json))
}

/// What an account's proof is about.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct ProofOf {
    /// Proves the balance of this asset (64 zeroes are KDX). Without it: the account's keys and sequence number.
    asset: Option<String>,
}

/// The proof of what an account holds in the newest checkpoint, or that there is nothing; for `kaldrix verify`.
#[utoipa::path(
    get, path = "/v1/accounts/{address}/proof", tag = "proofs", params(("address" = String, Path, description = "kx1…"), ProofOf),
    responses((status = 200, description = "The proof, from genesis on.", content_type = "application/json", body = Object))
)]
pub(super) async fn get_account_proof(
    State(ledger): Api,
    Segment(address): Segment,
    Params(of): Params<ProofOf>,
) -> Result<Response, Refusal> {
    let address = parse("address", &address)?;
    let asset = of.asset.as_deref().map(|asset| parse("asset", asset)).transpose()?;
    Ok(proof(ledger.account_proof(address, asset).await?.proof_json))
}

/// The text as the validator made it: parsing megabytes here would serve nobody.
fn proof(json: String) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
}

/// The network, as this region sees it.
#[utoipa::path(get, path = "/v1/network", tag = "network", responses((status = 200, description = "The network.", body = views::Network)))]
pub(super) async fn get_network(State(ledger): Api) -> Answer<views::Network> {
    Ok(Json(ledger.network().await?.into()))
}

/// The rules of the chain.
#[utoipa::path(get, path = "/v1/parameters", tag = "network", responses((status = 200, description = "The rules.", body = views::Parameters)))]
pub(super) async fn get_parameters(State(ledger): Api) -> Json<views::Parameters> {
    Json(ledger.parameters().into())
}

/// Pays test money (development networks only) and waits until it is final.
#[utoipa::path(
    post, path = "/v1/faucet", tag = "transactions", request_body = views::FaucetRequest,
    responses(
        (status = 200, description = "Paid.", body = views::Transaction),
        (status = 202, description = "On its way.", body = views::Transaction),
    )
)]
pub(super) async fn request_faucet(State(ledger): Api, JsonBody(body): JsonBody<views::FaucetRequest>) -> Result<Response, Refusal> {
    let transaction = ledger.faucet(parse("address", &body.address)?, &body.amount).await?;
    let status = if transaction.status() == pb::TransactionStatus::Final { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(views::Transaction::from(transaction))).into_response())
}

/// `Last-Event-ID`, or nothing.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get("last-event-id").and_then(|value| value.to_str().ok()).filter(|text| !text.is_empty())
}
