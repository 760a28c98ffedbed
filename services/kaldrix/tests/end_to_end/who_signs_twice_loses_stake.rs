//! Two headers that one validator signed for one round, handed in by anybody: stake is slashed and the validator jailed, once, on the real
//! network. (Validators that see two such blocks report them by themselves: the simulator's runs with equivocating validators.)

use crate::common::DevNetwork;
use kaldrix_client::{AccountSession, Client, ClientError, ExecuteOptions, WaitFor};
use kaldrix_crypto::{KeyFile, SecretKey, Signer};
use kaldrix_types::{
    ChainId, Digest, EquivocationProof, Header, Operation, Purpose, SignedHeader, ValidatorIndex, merkle_root, signing_message,
};
use serde_json::Value;
use std::sync::Arc;

fn header(chain: ChainId, author: u16, timestamp_ms: u64) -> Header {
    Header {
        version: Header::VERSION,
        chain_id: chain,
        epoch: 0,
        round: 3,
        author: ValidatorIndex(author),
        timestamp_ms,
        parents: vec![],
        transactions_root: merkle_root(&[]),
        transaction_count: 0,
        body_bytes: 1,
        commit_votes: vec![],
        checkpoint_votes: vec![],
    }
}

fn signed(key: &SecretKey, header: Header) -> SignedHeader {
    let message = signing_message(Purpose::Block, header.chain_id, header.digest());
    SignedHeader { signature: key.sign(&message).unwrap(), header }
}

fn report(first: SignedHeader, second: SignedHeader) -> Vec<Operation> {
    vec![Operation::ReportEquivocation { proof: Box::new(EquivocationProof { first, second }) }]
}

fn validator(network: &DevNetwork, name: &str) -> Value {
    let list = network.cli(&["validator", "list"]);
    list["validators"].as_array().unwrap().iter().find(|v| v["name"] == name).unwrap().clone()
}

fn code(result: Result<kaldrix_client::Receipt, ClientError>) -> String {
    match result {
        Err(ClientError::Api(error)) => error.code.to_string(),
        // Not even sent.
        Err(ClientError::Invalid(code)) => code.to_string(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signed_headers_for_one_round_cost_stake_and_the_seats_owner_goes_to_jail_once() {
    // Long epochs: the culprit is of epoch 0.
    let network = tokio::task::block_in_place(|| DevNetwork::start(&["--epoch-seconds", "600"]));
    let chain: ChainId = network.ready["chain_id"].as_str().unwrap().parse().unwrap();
    let (before, path) = tokio::task::block_in_place(|| (validator(&network, "v3"), network.funded_key("alice", "10").0));
    let author = u16::try_from(before["index"].as_u64().unwrap()).unwrap();
    let culprit = KeyFile::open(&network.dir.join("validators/v3/key.json")).unwrap().unlock(None).unwrap();
    let alice: Arc<dyn Signer> = Arc::new(KeyFile::open(&path).unwrap().unlock(None).unwrap());
    let session = AccountSession::open(Client::connect(&network.apis[0]).await.unwrap(), alice).await.unwrap();
    let options = ExecuteOptions { wait_for: WaitFor::Final, ..ExecuteOptions::default() };

    // What proves nothing: one header twice, another's signature, a forged second header.
    let [one, two] = [1, 2].map(|time| signed(&culprit, header(chain, author, time)));
    let mut forged = two.clone();
    forged.header.transactions_root = Digest([7; 32]);
    for nothing in [report(one.clone(), one.clone()), report(one.clone(), forged)] {
        assert_eq!(code(session.execute(nothing, &options).await), "BAD_EVIDENCE");
    }
    assert_eq!(tokio::task::block_in_place(|| validator(&network, "v3"))["status"], before["status"]);

    let receipt = session.execute(report(one.clone(), two.clone()), &options).await.unwrap();
    assert!(receipt.is_final_success(), "{receipt:?}");
    let after = tokio::task::block_in_place(|| validator(&network, "v3"));
    assert!(after["status"].as_str().unwrap().contains("jail"), "{after}");
    let stake = |v: &Value| v["bonded"].as_str().unwrap().parse::<u128>().unwrap();
    assert_eq!(stake(&after), stake(&before) - stake(&before) / 20, "a twentieth is gone");
    assert_eq!(code(session.execute(report(two, one), &options).await), "ALREADY_REPORTED");
    network.assert_validators_agree().await;
    tokio::task::block_in_place(|| network.stop());
}
