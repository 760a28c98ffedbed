//! A region-sync with its real store and wire, against a dag-service that serves a chain made by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::network::{FakeDag, Network, Region, database};
use common::{Chain, address, genesis};
use kaldrix_storage::{RegionStore, SqliteRegionStore};
use kaldrix_types::{AssetId, StateKey, StateValue};
use std::time::Duration;

fn chain(commits: usize) -> Chain {
    let mut chain = Chain::new(0);
    for _ in 0..commits {
        chain.push_transfers(3);
    }
    chain
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn genesis_balances_can_be_read_before_the_first_commit() {
    let network = Network::new();
    let (dag, _serving) = FakeDag::new(Chain::new(0)).serve(&network).await;
    let region = Region::start(&network.config(dag)).await;
    let balance = region.running.store.record(&StateKey::Balance(address(3), AssetId::NATIVE)).await.unwrap();
    assert_eq!(balance, Some(StateValue::Balance(1_000_000)));
    assert_eq!(region.running.store.cursor().await, Ok(0));
    region.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_it_asks_for_the_commit_behind_its_cursor() {
    let network = Network::new();
    let dag = FakeDag::new(chain(7));
    let (address_of_dag, _serving) = dag.serve(&network).await;
    let config = network.config(address_of_dag);
    let first = Region::start(&config).await;
    first.reach(7).await;
    first.stop().await.unwrap();
    for _ in 0..5 {
        dag.push_transfers(3);
    }
    let second = Region::start(&config).await;
    second.reach(12).await;
    dag.push_transfers(3);
    second.reach(13).await;
    second.stop().await.unwrap();
    assert_eq!(*dag.asked_from.lock().unwrap(), [1, 8]);

    let store = SqliteRegionStore::open(&database(network.folder.path()), &genesis()).await.unwrap();
    assert_eq!(store.totals().await.unwrap().transactions, 39);
    for executed in dag.chain().commits {
        let row = store.commit(executed.commit.index).await.unwrap().unwrap();
        assert_eq!(row.digest, executed.commit.digest());
    }
    let sum = (1..=5).map(|n| StateKey::Balance(address(n), AssetId::NATIVE));
    let mut supply = 0;
    for key in sum {
        let Some(StateValue::Balance(amount)) = store.record(&key).await.unwrap() else { panic!("{key:?} is missing") };
        supply += amount;
    }
    assert_eq!(supply, 5_000_000);
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_is_resumed_where_it_broke() {
    let network = Network::new();
    let dag = FakeDag::new(chain(10));
    *dag.break_after.lock().unwrap() = Some(4);
    let (address_of_dag, _serving) = dag.serve(&network).await;
    let region = Region::start(&network.config(address_of_dag)).await;
    region.reach(10).await;
    region.stop().await.unwrap();
    assert_eq!(*dag.asked_from.lock().unwrap(), [1, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dag_service_that_is_gone_is_replaced_by_the_next() {
    let network = Network::new();
    let (first, second) = (FakeDag::new(chain(4)), FakeDag::new(chain(9)));
    let (first_address, serving_first) = first.serve(&network).await;
    let (second_address, _serving_second) = second.serve(&network).await;
    let mut config = network.config(first_address);
    config.region.dag_endpoints.push(second_address.to_string());
    let region = Region::start(&config).await;
    region.reach(4).await;
    serving_first.cancel();
    region.reach(9).await;
    region.stop().await.unwrap();
    assert_eq!((first.asked_from.lock().unwrap()[0], second.asked_from.lock().unwrap()[0]), (1, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dag_service_whose_history_begins_later_gives_way_to_the_next() {
    let network = Network::new();
    let (recovered, whole) = (FakeDag::new(chain(9)), FakeDag::new(chain(9)));
    *recovered.first.lock().unwrap() = 5;
    let (recovered_address, _serving) = recovered.serve(&network).await;
    let (whole_address, serving_whole) = whole.serve(&network).await;
    let mut config = network.config(recovered_address);
    config.region.dag_endpoints.push(whole_address.to_string());
    let region = Region::start(&config).await;
    region.reach(9).await;
    assert_eq!((recovered.asked_from.lock().unwrap().clone(), whole.asked_from.lock().unwrap().clone()), (vec![1], vec![1]));
    // What came since, the first one has too.
    recovered.push_transfers(3);
    serving_whole.cancel();
    region.reach(10).await;
    assert_eq!(recovered.asked_from.lock().unwrap()[1], 10);
    region.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_that_nobody_has_the_history_for_keeps_trying_until_somebody_has() {
    let network = Network::new();
    let (one, two) = (FakeDag::new(chain(6)), FakeDag::new(chain(6)));
    let ((one_address, _serving_one), (two_address, _serving_two)) = (one.serve(&network).await, two.serve(&network).await);
    for dag in [&one, &two] {
        *dag.first.lock().unwrap() = 4;
    }
    let mut config = network.config(one_address);
    config.region.dag_endpoints.push(two_address.to_string());
    let region = Region::start(&config).await;
    let asked = async {
        while two.asked_from.lock().unwrap().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await.expect("it asks again and again");
    assert_eq!(region.running.store.cursor().await, Ok(0));
    assert!(one.asked_from.lock().unwrap().len() < 10, "it waits between its rounds");
    *two.first.lock().unwrap() = 1;
    region.reach(6).await;
    region.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dag_service_that_comes_back_with_another_history_stops_the_region_loudly() {
    let network = Network::new();
    let (honest, serving) = FakeDag::new(chain(5)).serve(&network).await;
    let region = Region::start(&network.config(honest)).await;
    region.reach(5).await;
    region.stop().await.unwrap();
    serving.cancel();

    let mut other = Chain::new(1);
    for _ in 0..8 {
        other.push_transfers(3);
    }
    let (other, _serving) = FakeDag::new(other).serve(&network).await;
    let region = Region::start(&network.config(other)).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), region.ended()).await.expect("it stops by itself");
    let reason = ended.unwrap_err();
    assert!(reason.contains("us-east-1/region-sync/project") && reason.contains("DIVERGENCE at commit 6"), "{reason}");

    let store = SqliteRegionStore::open(&database(network.folder.path()), &genesis()).await.unwrap();
    assert_eq!(store.cursor().await, Ok(5), "nothing of the other history was written");
    store.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_chain_is_refused_at_the_start() {
    let network = Network::new();
    let (dag, _serving) = FakeDag::new(Chain::new(0)).serve(&network).await;
    let config = network.config(dag);
    Region::start(&config).await.stop().await.unwrap();
    let mut other = genesis();
    other.name = "another chain".into();
    std::fs::write(&config.region.genesis, other.to_json()).unwrap();
    let supervisor = kaldrix_service_kit::Supervisor::default();
    let error = kaldrix_region_sync::wiring::start(&config, &supervisor).await.err().expect("it must not start");
    assert!(format!("{error:#}").contains("belongs to chain"), "{error:#}");
    supervisor.token().cancel();
}
