//! `GET /v1/events`: server-sent events (WHATWG HTML, section 9.2), resumable by `Last-Event-ID`.

use super::problem::{Params, Refusal};
use super::routes::last_event_id;
use super::views;
use crate::core::Ledger;
use crate::core::cursor::Cursor;
use crate::core::stream::{Event, Subscription};
use crate::error::invalid;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use kaldrix_api::ApiError;
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use utoipa::IntoParams;

const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What to stream.
#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct EventParams {
    /// Also (or, with `commits=false`, only) this account's transactions.
    account: Option<String>,
    /// Whether commits are streamed; true by default.
    commits: Option<bool>,
    /// First commit wanted, when there is no `Last-Event-ID`; only new ones by default.
    from: Option<u64>,
}

/// Commits, and one account's transactions, as they become final.
///
/// Events are `commit` and `transaction`; their data is the JSON of the same name, their id a cursor. A client that reconnects with
/// `Last-Event-ID` (browsers do by themselves) gets everything after it, without gaps or repeats. A reader that is too slow gets the event
/// `problem` with the code STREAM_BEHIND and is cut; it resumes in the same way.
#[utoipa::path(
    get, path = "/v1/events", tag = "streams",
    params(EventParams, ("Last-Event-ID" = Option<String>, Header, description = "Id of the last event seen")),
    responses((status = 200, description = "The stream.", content_type = "text/event-stream", body = String))
)]
pub(super) async fn events(
    State(ledger): State<Arc<Ledger>>,
    headers: HeaderMap,
    Params(params): Params<EventParams>,
) -> Result<Response, Refusal> {
    let account = params.account.as_deref().map(|text| text.parse().map_err(|e| invalid("account", e))).transpose()?;
    let after = match (last_event_id(&headers), params.from) {
        (Some(text), _) => Cursor::parse("Last-Event-ID", text)?,
        (None, Some(from)) => Cursor::behind(from.saturating_sub(1)),
        (None, None) => Cursor::behind(ledger.feed().newest()),
    };
    let subscription = Subscription { after, commits: params.commits.unwrap_or(true), account };
    let stream = ledger.subscribe(subscription)?;
    // Tells browsers how soon to come back, and makes proxies pass the head on at once.
    let greeting = futures::stream::iter([sse::Event::default().retry(Duration::from_secs(1)).comment("kaldrix")]);
    let stream = greeting.chain(stream.map(encode)).map(Ok::<_, Infallible>);
    let mut response = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive")).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

fn encode(event: Result<Event, ApiError>) -> sse::Event {
    match event {
        Ok(event) => {
            let id = event.cursor().to_string();
            match event {
                Event::Commit(published) => named("commit", &views::Commit::from(published.commit.clone())).id(id),
                Event::Transaction(transaction) => named("transaction", &views::Transaction::from(*transaction)).id(id),
            }
        }
        Err(error) => named("problem", &error.problem()),
    }
}

fn named<T: Serialize>(name: &str, value: &T) -> sse::Event {
    let data = serde_json::to_string(value).expect("views hold only text, numbers and lists");
    sse::Event::default().event(name).data(data)
}
