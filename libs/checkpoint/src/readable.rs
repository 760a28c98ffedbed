//! State values as people and other languages read them: amounts as decimal text (JSON numbers are exact up to 2^53 only), bytes as
//! hexadecimal. Only for JSON: what is hashed is BCS.

use kaldrix_types::{
    Account, Address, Anchor, Asset, Epoch, EpochRecord, PublicKey, Sequence, StateValue, Supply, TimestampMs, Unbonding, ValidatorRecord,
    ValidatorStatus,
};
use serde::{Deserialize, Serialize};

/// Mirrors [`StateValue`].
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Value {
    Account(Account),
    Lane(Sequence),
    Balance(#[serde(with = "decimal")] u128),
    Asset(AssetText),
    Anchor(AnchorText),
    Supply(#[serde(with = "decimal")] u128),
    Validator(Box<ValidatorText>),
    ValidatorName(Address),
    Epoch(EpochRecord),
    Participation(Vec<u64>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssetText {
    issuer: Address,
    symbol: String,
    decimals: u8,
    #[serde(with = "decimal")]
    maximum_supply: u128,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AnchorText {
    timestamp_ms: TimestampMs,
    #[serde(with = "hexadecimal")]
    metadata: bytes::Bytes,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnbondingText {
    #[serde(with = "decimal")]
    amount: u128,
    release_epoch: Epoch,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidatorText {
    name: String,
    region: String,
    key: PublicKey,
    next_key: Option<PublicKey>,
    previous_key: Option<PublicKey>,
    #[serde(with = "decimal")]
    stake: u128,
    unbonding: Vec<UnbondingText>,
    status: ValidatorStatus,
    slashed_epoch: Option<Epoch>,
}

impl From<&StateValue> for Value {
    fn from(value: &StateValue) -> Self {
        match value.clone() {
            StateValue::Account(account) => Self::Account(account),
            StateValue::Lane(next) => Self::Lane(next),
            StateValue::Balance(amount) => Self::Balance(amount),
            StateValue::Asset(Asset { issuer, symbol, decimals, maximum_supply }) => {
                Self::Asset(AssetText { issuer, symbol, decimals, maximum_supply })
            }
            StateValue::Anchor(Anchor { timestamp_ms, metadata }) => Self::Anchor(AnchorText { timestamp_ms, metadata }),
            StateValue::Supply(supply) => Self::Supply(supply.amount),
            StateValue::Validator(record) => Self::Validator(Box::new((*record).into())),
            StateValue::ValidatorName(operator) => Self::ValidatorName(operator),
            StateValue::Epoch(record) => Self::Epoch(record),
            StateValue::Participation(counts) => Self::Participation(counts),
        }
    }
}

impl From<Value> for StateValue {
    fn from(value: Value) -> Self {
        match value {
            Value::Account(account) => Self::Account(account),
            Value::Lane(next) => Self::Lane(next),
            Value::Balance(amount) => Self::Balance(amount),
            Value::Asset(AssetText { issuer, symbol, decimals, maximum_supply }) => {
                Self::Asset(Asset { issuer, symbol, decimals, maximum_supply })
            }
            Value::Anchor(AnchorText { timestamp_ms, metadata }) => Self::Anchor(Anchor { timestamp_ms, metadata }),
            Value::Supply(amount) => Self::Supply(Supply { amount }),
            Value::Validator(record) => Self::Validator(Box::new((*record).into())),
            Value::ValidatorName(operator) => Self::ValidatorName(operator),
            Value::Epoch(record) => Self::Epoch(record),
            Value::Participation(counts) => Self::Participation(counts),
        }
    }
}

impl From<ValidatorRecord> for ValidatorText {
    fn from(record: ValidatorRecord) -> Self {
        let ValidatorRecord { name, region, key, next_key, previous_key, stake, unbonding, status, slashed_epoch } = record;
        let text = |Unbonding { amount, release_epoch }| UnbondingText { amount, release_epoch };
        let unbonding = unbonding.into_iter().map(text).collect();
        Self { name, region, key, next_key, previous_key, stake, unbonding, status, slashed_epoch }
    }
}

impl From<ValidatorText> for ValidatorRecord {
    fn from(record: ValidatorText) -> Self {
        let ValidatorText { name, region, key, next_key, previous_key, stake, unbonding, status, slashed_epoch } = record;
        let plain = |UnbondingText { amount, release_epoch }| Unbonding { amount, release_epoch };
        let unbonding = unbonding.into_iter().map(plain).collect();
        Self { name, region, key, next_key, previous_key, stake, unbonding, status, slashed_epoch }
    }
}

/// A record's value, `null` for none.
pub(crate) mod value_option {
    use super::{StateValue, Value};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Option<StateValue>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(Value::from).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<StateValue>, D::Error> {
        Ok(Option::<Value>::deserialize(deserializer)?.map(StateValue::from))
    }
}

/// Digits, and only one way to write a number: no sign, no leading zero.
fn parse_decimal(text: &str) -> Option<u128> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

mod decimal {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        super::parse_decimal(&String::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("expected an amount in decimal digits"))
    }
}

/// An amount as decimal text, `null` for none.
pub(crate) mod decimal_option {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(value: &Option<u128>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(amount) => serializer.collect_str(amount),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u128>, D::Error> {
        let parse = |text: String| super::parse_decimal(&text).ok_or_else(|| D::Error::custom("expected an amount in decimal digits"));
        Option::<String>::deserialize(deserializer)?.map(parse).transpose()
    }
}

mod hexadecimal {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&hex::encode(value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map(Bytes::from).map_err(D::Error::custom)
    }
}
