//! State records as both stores keep them.

use crate::StoreError;
use kaldrix_types::{CommitIndex, StateKey, StateValue, decode};

/// A page of the state in ascending key order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePage {
    /// The commit after which the state was so. Pages of one audit belong together when this is equal on all of them.
    pub at: CommitIndex,
    /// The records; fewer than the limit on the last page.
    pub records: Vec<(StateKey, StateValue)>,
}

/// Longest encoded key: a variant byte and two digests.
const KEY_BYTES_MAX: usize = 65;

pub(crate) fn decode_key(bytes: &[u8]) -> Result<StateKey, StoreError> {
    Ok(decode(bytes, KEY_BYTES_MAX)?)
}

/// Reads a value and checks that it is of its key's kind: execution relies on it.
pub(crate) fn decode_value(key: &StateKey, bytes: &[u8]) -> Result<StateValue, StoreError> {
    let value = StateValue::from_bytes(bytes)?;
    let fits = matches!(
        (key, &value),
        (StateKey::Account(_), StateValue::Account(_))
            | (StateKey::Lane(..), StateValue::Lane(_))
            | (StateKey::Balance(..), StateValue::Balance(_))
            | (StateKey::Asset(_), StateValue::Asset(_))
            | (StateKey::Anchor(..), StateValue::Anchor(_))
            | (StateKey::Supply(_), StateValue::Supply(_))
    );
    if fits { Ok(value) } else { Err(StoreError::Damaged(format!("the record {key:?} holds a value of another kind"))) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_types::{Address, AssetId, Digest};
    use proptest::prelude::*;

    fn any_key() -> impl Strategy<Value = StateKey> {
        (0u8..6, any::<[u8; 32]>(), any::<[u8; 32]>(), any::<u8>()).prop_map(|(kind, a, b, lane)| match kind {
            0 => StateKey::Account(Address(a)),
            1 => StateKey::Lane(Address(a), lane),
            2 => StateKey::Balance(Address(a), AssetId(Digest(b))),
            3 => StateKey::Asset(AssetId(Digest(a))),
            4 => StateKey::Anchor(Address(a), Digest(b)),
            _ => StateKey::Supply(AssetId(Digest(a))),
        })
    }

    proptest! {
        #[test]
        fn the_database_sorts_encoded_keys_as_the_protocol_sorts_keys(one in any_key(), two in any_key()) {
            prop_assert_eq!(one.cmp(&two), one.to_bytes().cmp(&two.to_bytes()));
            prop_assert_eq!(decode_key(&one.to_bytes()), Ok(one));
        }
    }

    #[test]
    fn a_value_of_another_kind_is_damage() {
        let key = StateKey::Supply(AssetId::NATIVE);
        assert!(matches!(decode_value(&key, &StateValue::Balance(1).to_bytes()), Err(StoreError::Damaged(_))));
    }
}
