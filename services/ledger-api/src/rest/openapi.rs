//! `/openapi.json`: the routes and their schemas as utoipa collects them, with the closed list of error codes added.

use super::{events, pages, routes, views};
use kaldrix_api::ErrorCode;
use kaldrix_types::RejectCode;
use serde_json::{Value, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Kaldrix ledger API",
        description = "The public API of a Kaldrix region. Ids and digests are lower-case hex, addresses bech32m (kx1…), amounts decimal strings in smallest units. Errors are RFC 9457 problem details with a stable `code`. The same functions are gRPC on the same port: kaldrix.ledger.v1.LedgerService, with reflection.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    paths(
        routes::submit_transaction,
        routes::get_transaction,
        routes::get_transaction_proof,
        routes::get_account,
        routes::list_account_transactions,
        routes::get_account_proof,
        routes::list_commits,
        routes::get_commit,
        routes::get_block,
        routes::get_asset,
        routes::get_checkpoint,
        routes::list_validators,
        routes::get_network,
        routes::get_parameters,
        routes::request_faucet,
        events::events,
        pages::live,
        pages::ready,
        pages::metrics,
        pages::openapi_json,
        pages::docs,
        pages::status,
    ),
    components(schemas(
        views::SubmitTransactionRequest,
        views::FaucetRequest,
        views::Transaction,
        views::Operation,
        views::Account,
        views::Balance,
        views::AccountKey,
        views::Lane,
        views::TransactionPage,
        views::BlockRef,
        views::Commit,
        views::CommitPage,
        views::Block,
        views::Asset,
        views::Network,
        views::Validators,
        views::Validator,
        views::Checkpoint,
        views::NextValidator,
        views::Parameters,
        views::Readiness,
    )),
    tags(
        (name = "transactions", description = "Submit, and see what becomes of it"),
        (name = "accounts", description = "Accounts, their history, assets"),
        (name = "commits", description = "The order and the blocks behind it"),
        (name = "proofs", description = "What can be verified without trusting this server"),
        (name = "network", description = "Validators and rules"),
        (name = "streams", description = "Events as they happen"),
        (name = "operations", description = "Probes, metrics, documents"),
    )
)]
struct Document;

/// The OpenAPI document.
///
/// # Panics
/// Never: the document holds only text, numbers and lists.
#[must_use]
pub fn openapi() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).expect("the document is plain data");
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["components"]["schemas"]["ErrorCode"] = error_code_schema();
    document["components"]["schemas"]["Problem"] = problem_schema();
    let refusal = json!({
        "description": "Refused or failed: RFC 9457 problem details with a stable code.",
        "headers": { "Retry-After": { "description": "Seconds to wait, where waiting helps.", "schema": { "type": "integer" } } },
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } }
    });
    if let Some(paths) = document["paths"].as_object_mut() {
        for operations in paths.values_mut().filter_map(Value::as_object_mut) {
            for operation in operations.values_mut() {
                operation["responses"]["default"] = refusal.clone();
            }
        }
    }
    document
}

fn codes() -> impl Iterator<Item = ErrorCode> {
    ErrorCode::OWN.iter().copied().chain(RejectCode::ALL.iter().copied().map(ErrorCode::Reject))
}

fn error_code_schema() -> Value {
    let names: Vec<&str> = codes().map(ErrorCode::as_str).collect();
    let meanings: serde_json::Map<String, Value> = codes()
        .map(|code| {
            let meaning = json!({ "status": code.http(), "help": code.help(), "retryable": code.is_retryable() });
            (code.as_str().to_owned(), meaning)
        })
        .collect();
    json!({
        "type": "string",
        "description": "A stable code. A transaction that is final but failed carries one too.",
        "enum": names,
        "x-codes": meanings
    })
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457 problem details.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": { "type": "string", "description": "URN of the code." },
            "title": { "type": "string", "description": "What the code means and what to do." },
            "status": { "type": "integer", "description": "The HTTP status." },
            "detail": { "type": "string", "description": "What is wrong in this case." },
            "code": { "$ref": "#/components/schemas/ErrorCode" },
            "retry_after_ms": { "type": "integer", "description": "When to try again, where waiting helps." }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_route_and_nothing_else() {
        let document = openapi();
        let mut listed: Vec<(String, String)> = Vec::new();
        for (path, operations) in document["paths"].as_object().expect("paths") {
            for method in operations.as_object().expect("operations").keys() {
                listed.push((method.clone(), path.clone()));
            }
        }
        let mut routes: Vec<(String, String)> = crate::rest::routes().into_iter().map(|(m, p)| (m.to_owned(), p.to_owned())).collect();
        listed.sort();
        routes.sort();
        assert_eq!(listed, routes);
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_code_is_listed() {
        let document = openapi();
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        let text = document.to_string();
        for reference in text.split("#/components/schemas/").skip(1) {
            let name = reference.split('"').next().expect("a name");
            assert!(schemas.contains_key(name), "{name} is referred to but not defined");
        }
        let names = schemas["ErrorCode"]["enum"].as_array().expect("codes");
        assert_eq!(names.len(), ErrorCode::OWN.len() + RejectCode::ALL.len());
    }
}
