//! Streams: nothing missing, nothing twice, whoever is slow is cut.

use super::fixture::{Api, Options, address};
use futures::StreamExt as _;
use kaldrix_api::ApiError;
use kaldrix_proto::ledger as pb;
use kaldrix_types::{OutcomeStatus, RejectCode};
use std::time::Duration;

/// A reader of server-sent events.
struct Events {
    body: futures::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    text: String,
}

#[derive(Debug, PartialEq, Eq)]
struct Event {
    name: String,
    id: String,
    data: serde_json::Value,
}

impl Events {
    async fn open(api: &Api, query: &str, last: Option<&str>) -> Self {
        let mut request = api.http.get(api.url(&format!("/v1/events{query}")));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut events = Self { body: response.bytes_stream().boxed(), text: String::new() };
        // The greeting: from here on the subscription stands.
        events.fill_until("\n\n").await;
        events
    }

    async fn fill_until(&mut self, end: &str) -> bool {
        while !self.text.contains(end) {
            match tokio::time::timeout(Duration::from_secs(10), self.body.next()).await.expect("something within 10 s") {
                Some(Ok(bytes)) => self.text.push_str(std::str::from_utf8(&bytes).expect("UTF-8")),
                _ => return false,
            }
        }
        true
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if !self.fill_until("\n\n").await {
                return None;
            }
            let (block, rest) = self.text.split_once("\n\n").expect("just found");
            let field = |name: &str| {
                let prefix = format!("{name}: ");
                block.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
            };
            let event = Event { name: field("event"), id: field("id"), data: serde_json::from_str(&field("data")).unwrap_or_default() };
            let rest = rest.to_owned();
            self.text = rest;
            if !event.name.is_empty() {
                return Some(event);
            }
        }
    }

    async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.next().await.expect("an event").id);
        }
        ids
    }
}

#[tokio::test]
async fn a_stream_shows_new_commits_as_they_become_readable() {
    let api = Api::start().await;
    let mut events = Events::open(&api, "", None).await;
    api.commit_all(&[&api.payment(0)]).await;
    let event = events.next().await.expect("an event");
    assert_eq!((event.name.as_str(), event.id.as_str()), ("commit", "1"));
    assert_eq!(event.data["transaction_count"], 1);
}

#[tokio::test]
async fn a_stream_resumed_by_last_event_id_has_no_gap_and_no_repeat() {
    let api = Api::start().await;
    for _ in 0..5 {
        api.commit_all(&[]).await;
    }
    let mut events = Events::open(&api, "?from=1", None).await;
    assert_eq!(events.ids(3).await, ["1", "2", "3"]);
    drop(events);
    for _ in 0..3 {
        api.commit_all(&[]).await;
    }
    let mut events = Events::open(&api, "", Some("3")).await;
    assert_eq!(events.ids(5).await, ["4", "5", "6", "7", "8"]);
    api.commit_all(&[]).await;
    assert_eq!(events.ids(1).await, ["9"], "and live from there");
}

#[tokio::test]
async fn a_long_absence_is_caught_up_from_the_store() {
    let api = Api::start().await;
    let (mine, count) = (api.payment(0), 700u64);
    api.commit_all(&[&mine]).await;
    for _ in 1..count {
        api.commit_all(&[]).await;
    }
    let mut grpc = api.grpc().await;
    let mut stream = grpc.subscribe_commits(pb::SubscribeCommitsRequest { from_index: 1 }).await.expect("open").into_inner();
    for expected in 1..=count {
        assert_eq!(stream.message().await.expect("a commit").expect("one").index, expected);
    }
    let query = format!("?account={}&commits=false", address(2));
    let mut events = Events::open(&api, &query, Some("0")).await;
    let event = events.next().await.expect("an event");
    assert_eq!((event.id.as_str(), event.data["id"].as_str()), ("1.0", Some(mine.id().to_string().as_str())));
}

#[tokio::test]
async fn an_account_s_stream_carries_its_transactions_and_resumes_inside_a_commit() {
    let api = Api::start().await;
    let (one, two, three) = (api.payment(0), api.payment(1), api.payment(2));
    let discarded = api.payment(9);
    let query = format!("?account={}&commits=false", address(2));
    let mut live = Events::open(&api, &query, None).await;
    api.commit(&[
        (&one, OutcomeStatus::Success),
        (&discarded, OutcomeStatus::Discarded(RejectCode::SequenceGap)),
        (&two, OutcomeStatus::Success),
    ])
    .await;
    api.commit_all(&[]).await;
    api.commit_all(&[&three]).await;
    assert_eq!(live.ids(3).await, ["1.0", "1.2", "3.0"]);
    let mut resumed = Events::open(&api, &query, Some("1.0")).await;
    assert_eq!(resumed.ids(2).await, ["1.2", "3.0"]);
    let mut both = Events::open(&api, &format!("?account={}&from=1", address(2)), None).await;
    assert_eq!(both.ids(6).await, ["1.0", "1.2", "1", "2", "3.0", "3"]);
    let mut other = Events::open(&api, &format!("?account={}&from=1", address(7)), None).await;
    assert_eq!(other.ids(3).await, ["1", "2", "3"]);
}

#[tokio::test]
async fn subscribe_commits_goes_on_without_gap_when_region_sync_breaks_off() {
    let api = Api::start().await;
    let mut grpc = api.grpc().await;
    let mut stream = grpc.subscribe_commits(pb::SubscribeCommitsRequest { from_index: 1 }).await.expect("open").into_inner();
    api.commit_all(&[]).await;
    assert_eq!(stream.message().await.expect("a commit").expect("one").index, 1);
    api.region.cut_streams();
    for _ in 0..3 {
        api.commit_all(&[]).await;
    }
    for expected in 2..=4 {
        assert_eq!(stream.message().await.expect("a commit").expect("one").index, expected);
    }
}

#[tokio::test]
async fn only_new_commits_come_when_no_index_is_named() {
    let api = Api::start().await;
    api.commit_all(&[]).await;
    let mut events = Events::open(&api, "?from=1", None).await;
    assert_eq!(events.ids(1).await, ["1"]);
    let mut grpc = api.grpc().await;
    let mut stream = grpc.subscribe_commits(pb::SubscribeCommitsRequest { from_index: 0 }).await.expect("open").into_inner();
    api.commit_all(&[]).await;
    assert_eq!(stream.message().await.expect("a commit").expect("one").index, 2);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_can_resume() {
    let mut options = Options::default();
    options.settings.core.stream_stall = Duration::from_millis(200);
    let api = Api::start_with(options).await;
    // Large histories fill the sockets' buffers; then nobody reads.
    let memo = vec![7; 256];
    let transactions: Vec<_> = (0..1_500u64)
        .map(|sequence| {
            let payment = api.payment(sequence).body().clone();
            api.signed(kaldrix_types::TxBody { memo: memo.clone().into(), operations: vec![payment.operations[0].clone(); 40], ..payment })
        })
        .collect();
    for chunk in transactions.chunks(100) {
        api.commit_all(&chunk.iter().collect::<Vec<_>>()).await;
    }
    let mut events = Events::open(&api, &format!("?account={}&from=1", address(2)), None).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let (mut last, mut cut) = (String::new(), false);
    while let Some(event) = events.next().await {
        if event.name == "problem" {
            assert_eq!(event.data["code"], "STREAM_BEHIND");
            cut = true;
        } else {
            last = event.id;
        }
    }
    assert!(cut, "told why, then cut");
    let mut resumed = Events::open(&api, &format!("?account={}", address(2)), Some(&last)).await;
    let next = resumed.next().await.expect("the stream goes on").id;
    assert_ne!(next, last);
}

#[tokio::test]
async fn streams_are_counted_and_their_number_is_limited() {
    let mut options = Options::default();
    options.settings.core.streams_max = 2;
    let api = Api::start_with(options).await;
    let (first, _second) = (Events::open(&api, "", None).await, Events::open(&api, "", None).await);
    api.get("/v1/events").await.is_problem(503, "OVERLOADED");
    let mut grpc = api.grpc().await;
    let error = grpc.subscribe_commits(pb::SubscribeCommitsRequest { from_index: 1 }).await.expect_err("full");
    assert_eq!(ApiError::from_status(&error).code.as_str(), "OVERLOADED");
    drop(first);
    let mut open = false;
    for _ in 0..100 {
        open = grpc.subscribe_commits(pb::SubscribeCommitsRequest { from_index: 1 }).await.is_ok();
        if open {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(open, "a closed stream makes room");
}
