//! Every way in which a transaction can be wrong has its own stable code, on the real network. (What the bytes alone show is tested in
//! ledger-api; here is what needs a ledger.)

use crate::common::DevNetwork;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kaldrix_client::{AccountSession, Client, ClientError, ExecuteOptions, TransactionBuilder, WaitFor};
use kaldrix_crypto::{KeyFile, SecretKey, sign_transaction};
use kaldrix_types::{Address, AssetId, ChainId, Digest, KeyRef, Operation, Scheme, SignedTransaction, encode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

struct Fixture {
    network: DevNetwork,
    chain: ChainId,
    alice: SecretKey,
    http: reqwest::Client,
}

fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Fixture {
    fn new() -> Self {
        let network = DevNetwork::start(&[]);
        let (path, _) = network.funded_key("alice", "10");
        let alice = KeyFile::open(&path).unwrap().unlock(None).unwrap();
        let chain = network.ready["chain_id"].as_str().unwrap().parse().unwrap();
        Self { network, chain, alice, http: reqwest::Client::new() }
    }

    fn transfer(&self, sequence: u64, amount: u128) -> TransactionBuilder {
        TransactionBuilder::new(self.chain, Address::of_key(self.alice.public_key()))
            .sequence(sequence)
            .valid_until_ms(now_ms() + 60_000)
            .transfer(Address([9; 32]), AssetId::NATIVE, amount)
    }

    fn sign(&self, builder: TransactionBuilder) -> SignedTransaction {
        // Not the builder's own `sign`, which refuses most of what follows before it leaves.
        sign_transaction(builder.body().clone(), &self.alice, KeyRef::Inline(self.alice.public_key().clone())).unwrap()
    }

    async fn post(&self, bytes: &[u8]) -> (u16, Value) {
        let body = json!({ "transaction": STANDARD.encode(bytes), "wait_for": "FINAL", "timeout_ms": 8000 });
        let response = self.http.post(format!("{}/v1/transactions", self.network.apis[0])).json(&body).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn code(&self, transaction: &SignedTransaction) -> String {
        let (_, answer) = self.post(&encode(transaction)).await;
        answer["code"].as_str().unwrap_or_default().to_owned()
    }
}

#[tokio::test]
async fn every_way_to_be_wrong_has_its_own_code_and_changes_nothing() {
    let f = Fixture::new();
    let bytes = encode(&f.sign(f.transfer(0, 1)));
    assert_eq!(f.post(&bytes[..bytes.len() / 2]).await.1["code"], "MALFORMED_TRANSACTION");
    assert_eq!(f.post(&vec![7; 129 * 1024]).await.1["code"], "TRANSACTION_TOO_LARGE");
    let mut unknown = bytes.clone();
    // The key's scheme follows the body, the signature count and the key's variant.
    let body_len = encode(&f.sign(f.transfer(0, 1)).body).len();
    unknown[body_len + 2] = 77;
    assert_eq!(f.post(&unknown).await.1["code"], "UNKNOWN_SCHEME");
    let mut forged = bytes.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(f.post(&forged).await.1["code"], "BAD_SIGNATURE");

    let elsewhere = TransactionBuilder::new(ChainId(Digest([1; 32])), Address::of_key(f.alice.public_key()))
        .valid_until_ms(now_ms() + 60_000)
        .transfer(Address([9; 32]), AssetId::NATIVE, 1);
    assert_eq!(f.code(&f.sign(elsewhere)).await, "WRONG_CHAIN");
    assert_eq!(f.code(&f.sign(f.transfer(0, 1).valid_until_ms(1))).await, "EXPIRED");
    assert_eq!(f.code(&f.sign(f.transfer(0, u128::MAX).transfer(Address([8; 32]), AssetId::NATIVE, 1))).await, "AMOUNT_OVERFLOW");
    assert_eq!(f.code(&f.sign(f.transfer(0, 11 * 10u128.pow(18)))).await, "INSUFFICIENT_BALANCE");
    assert_eq!(f.code(&f.sign(f.transfer(5, 1))).await, "SEQUENCE_GAP");
    let twice = Operation::Anchor { document: Digest([3; 32]), metadata: Default::default() };
    assert_eq!(f.code(&f.sign(f.transfer(0, 1).operations([twice.clone(), twice]))).await, "CONTRADICTING_BATCH");

    let stranger = SecretKey::generate(Scheme::MlDsa65).unwrap();
    let from_nowhere = TransactionBuilder::new(f.chain, Address::of_key(stranger.public_key()))
        .valid_until_ms(now_ms() + 60_000)
        .transfer(Address([9; 32]), AssetId::NATIVE, 1)
        .sign(&stranger, KeyRef::Inline(stranger.public_key().clone()))
        .unwrap();
    assert_eq!(f.code(&from_nowhere).await, "UNKNOWN_ACCOUNT");
    let not_mine = f.transfer(0, 1).sign(&stranger, KeyRef::Inline(stranger.public_key().clone())).unwrap();
    assert_eq!(f.code(&not_mine).await, "WRONG_KEY");

    // None of these used the sequence number up.
    let good = f.sign(f.transfer(0, 1));
    let (status, first) = f.post(&encode(&good)).await;
    assert_eq!((status, &first["status"]), (200, &Value::from("FINAL")), "{first}");
    let unknown_asset = f.sign(f.transfer(1, 1).operation(Operation::Burn { asset: AssetId(Digest([5; 32])), amount: 1 }));
    let (_, failed) = f.post(&encode(&unknown_asset)).await;
    assert_eq!(failed["code"], "UNKNOWN_ASSET", "{failed}");

    // The same bytes again, in another region: the first outcome. Other bytes with the same sequence: refused.
    let body = json!({ "transaction": STANDARD.encode(encode(&good)), "wait_for": "FINAL" });
    let again: Value =
        f.http.post(format!("{}/v1/transactions", f.network.apis[2])).json(&body).send().await.unwrap().json().await.unwrap();
    assert_eq!((&again["status"], &again["commit_index"]), (&first["status"], &first["commit_index"]), "{again}");
    assert_eq!(f.code(&f.sign(f.transfer(0, 2))).await, "SEQUENCE_REPLAYED");
    f.network.assert_validators_agree().await;
    f.network.stop();
}

#[tokio::test]
async fn every_scheme_pays_and_a_rotated_key_stops_signing() {
    let network = DevNetwork::start(&[]);
    let client = Client::connect(&network.apis[0]).await.unwrap();
    let options = ExecuteOptions { wait_for: WaitFor::Final, ..ExecuteOptions::default() };
    for scheme in Scheme::ALL {
        let key = SecretKey::generate(scheme).unwrap();
        let address = Address::of_key(key.public_key());
        client.faucet(address, 1_000).await.unwrap();
        let session = AccountSession::open(client.clone(), Arc::new(key)).await.unwrap();
        for _ in 0..2 {
            let receipt = session.transfer(Address([9; 32]), AssetId::NATIVE, 1, &options).await.unwrap();
            assert!(receipt.is_final_success(), "{scheme}: {receipt:?}");
        }
        // On a lane of its own.
        let in_lane = ExecuteOptions { lane: 7, ..options.clone() };
        assert!(session.transfer(Address([9; 32]), AssetId::NATIVE, 1, &in_lane).await.unwrap().is_final_success());
        let fresh = SecretKey::generate(Scheme::MlDsa44).unwrap();
        let rotate = Operation::RotateKey { index: 0, key: fresh.public_key().clone() };
        assert!(session.execute(vec![rotate], &options).await.unwrap().is_final_success(), "{scheme}");
        let refused = session.transfer(Address([9; 32]), AssetId::NATIVE, 1, &options).await;
        let code = match refused {
            Err(ClientError::Api(error)) => error.code.to_string(),
            other => panic!("{scheme}: the old key still signs: {other:?}"),
        };
        assert!(["BAD_SIGNATURE", "WRONG_KEY"].contains(&code.as_str()), "{scheme}: {code}");
        let renewed = AccountSession::open_address(client.clone(), Arc::new(fresh), address).await.unwrap();
        assert!(renewed.transfer(Address([9; 32]), AssetId::NATIVE, 1, &options).await.unwrap().is_final_success(), "{scheme}");
    }
    network.assert_validators_agree().await;
    network.stop();
}
