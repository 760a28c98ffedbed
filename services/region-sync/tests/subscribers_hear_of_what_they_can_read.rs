//! `RegionService` over its real wire: order, resumption, who may call, and what becomes of a slow reader.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::network::{ANY_PORT, FakeDag, Network, REGION, Region};
use common::{Chain, genesis};
use kaldrix_api::{ApiError, ErrorCode};
use kaldrix_proto::region::{GetStatusRequest, SubscribeProjectedRequest};
use kaldrix_region_sync::core::{Head, Hub, Notice, NoticeTransaction};
use kaldrix_region_sync::grpc::RegionGrpc;
use kaldrix_region_sync::metrics::Metrics;
use kaldrix_service_kit::{GrpcServer, Service, metrics as kit_metrics};
use kaldrix_storage::SqliteRegionStore;
use kaldrix_types::{Digest, OutcomeStatus, TxId};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn chain(commits: usize) -> Chain {
    let mut chain = Chain::new(0);
    for _ in 0..commits {
        chain.push_transfers(2);
    }
    chain
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_the_past_into_the_present_without_gap_or_repeat() {
    let network = Network::new();
    let dag = FakeDag::new(chain(100));
    let (address, _serving) = dag.serve(&network).await;
    let region = Region::start(&network.config(address)).await;
    region.reach(90).await;
    let mut client = network.client(region.running.grpc, REGION, Service::LedgerApi);
    let mut stream = client.subscribe_projected(SubscribeProjectedRequest { from_index: 3 }).await.unwrap().into_inner();
    let producer = tokio::spawn(async move {
        for _ in 0..100 {
            dag.push_transfers(2);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    for expected in 3..=200 {
        let notice = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(notice.index, expected);
        assert_eq!(notice.transactions.len(), 2);
        assert_eq!(notice.transactions[0].accounts.len(), 2);
        let id = TxId::try_from(notice.transactions[1].id.as_ref()).unwrap();
        let row = region.running.store.transaction(id).await.unwrap().expect("what was told can be read");
        assert_eq!(row.commit, expected);
        assert_eq!(notice.digest.as_ref(), region.running.store.commit(expected).await.unwrap().unwrap().digest.as_bytes());
    }
    producer.await.unwrap();
    region.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_zero_means_what_is_new_and_a_trace_is_passed_on() {
    let network = Network::new();
    let dag = FakeDag::new(chain(5));
    let (address, _serving) = dag.serve(&network).await;
    let region = Region::start(&network.config(address)).await;
    region.reach(5).await;
    let mut client = network.client(region.running.grpc, REGION, Service::LedgerApi);
    // The status comes from the head that a stream starts behind.
    while client.get_status(GetStatusRequest {}).await.unwrap().into_inner().commit_index < 5 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut stream = client.subscribe_projected(SubscribeProjectedRequest { from_index: 0 }).await.unwrap().into_inner();
    *dag.traceparent.lock().unwrap() = Some(TRACEPARENT.to_owned());
    dag.push_transfers(2);
    let notice = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(notice.index, 6);
    assert_eq!(notice.transactions[0].traceparent, TRACEPARENT);
    assert_eq!(notice.transactions[1].traceparent, "");
    let status = client.get_status(GetStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.region.as_str(), status.commit_index, status.transaction_count), (REGION, 6, 12));
    assert!(status.source_connected);
    region.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_ledger_api_of_the_region_may_subscribe_and_any_service_may_ask_for_the_status() {
    let network = Network::new();
    let (address, _serving) = FakeDag::new(Chain::new(0)).serve(&network).await;
    let region = Region::start(&network.config(address)).await;
    for (of, service) in [("eu-west-1", Service::LedgerApi), (REGION, Service::RegionSync), (REGION, Service::Operator)] {
        let mut client = network.client(region.running.grpc, of, service);
        let refused = client.subscribe_projected(SubscribeProjectedRequest { from_index: 0 }).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{of} {service}");
        client.get_status(GetStatusRequest {}).await.unwrap();
    }
    region.stop().await.unwrap();
}

/// About 100 kB on the wire.
fn large_notice(index: u64) -> Notice {
    let transaction = |n: u64| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_le_bytes());
        NoticeTransaction { id: TxId(Digest(id)), status: OutcomeStatus::Success, accounts: vec![], traceparent: String::new() }
    };
    Notice { index, timestamp_ms: index, digest: Digest([1; 32]), leader_round: index, transactions: (0..2_500).map(transaction).collect() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_subscriber_is_cut_and_told_where_to_resume() {
    let network = Network::new();
    let store = SqliteRegionStore::open(&network.folder.path().join("slow.sqlite"), &genesis()).await.unwrap();
    let hub = Arc::new(Hub::new(Head::default(), 8));
    let metrics = Metrics::register(&mut kit_metrics::registry("region-sync"));
    let token = CancellationToken::new();
    let service = RegionGrpc::new(REGION.into(), Arc::new(store), Arc::clone(&hub), metrics.clone(), token.clone()).into_server();
    let server = GrpcServer::builder(&network.region_tls(REGION, Service::RegionSync), ANY_PORT).bind().await.unwrap();
    let address = server.local_addr();
    let serving = tokio::spawn(server.serve(Routes::new(service), token.clone()));

    let mut client = network.client(address, REGION, Service::LedgerApi);
    let mut stream = client.subscribe_projected(SubscribeProjectedRequest { from_index: 0 }).await.unwrap().into_inner();
    while hub.subscriber_count() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Far more than the buffers on the way hold, and nobody reads.
    for index in 1..=400 {
        hub.publish(Head { index, ..Head::default() }, vec![large_notice(index)]);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut last = 0;
    let status = loop {
        match tokio::time::timeout(Duration::from_secs(20), stream.message()).await.unwrap() {
            Ok(Some(notice)) => {
                assert_eq!(notice.index, last + 1);
                last = notice.index;
            }
            Ok(None) => panic!("the stream must end with an error"),
            Err(status) => break status,
        }
    };
    assert!(last > 0 && last < 400, "{last}");
    let error = ApiError::from_status(&status);
    assert_eq!(error.code, ErrorCode::StreamBehind);
    assert!(error.detail.contains(&format!("from_index = {}", last + 1)), "{}", error.detail);
    assert_eq!(metrics.subscribers_cut.get(), 1);
    token.cancel();
    serving.await.unwrap().unwrap();
}
