//! Prepared keys, kept as long as they are in use.

use crate::{UnacceptableKey, VerifyingKey};
use kaldrix_types::{KeyId, PublicKey};
use moka::sync::Cache;
use std::fmt;
use std::sync::Arc;

/// A bounded cache from public keys to their prepared form. Cloning shares it.
///
/// Entries are derived here from the encoded key, never received, so an entry cannot be poisoned. The name is [`PublicKey::id`], a
/// collision-resistant hash of scheme and key. Unacceptable keys are not remembered: refusing one again is cheaper than a signature check.
#[derive(Clone)]
pub struct KeyCache {
    keys: Cache<KeyId, Arc<VerifyingKey>>,
}

impl KeyCache {
    /// A cache of at most about `capacity` keys (a few kilobytes each); the least valuable ones are dropped beyond that (W-TinyLFU).
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        Self { keys: Cache::new(capacity) }
    }

    /// The prepared form of `key`, from the cache or made now.
    ///
    /// # Errors
    /// [`UnacceptableKey`] as [`VerifyingKey::prepare`] has it.
    pub fn get(&self, key: &PublicKey) -> Result<Arc<VerifyingKey>, UnacceptableKey> {
        let id = key.id();
        if let Some(prepared) = self.keys.get(&id) {
            return Ok(prepared);
        }
        // Two threads may prepare one key at once: cheaper than a lock around every miss.
        let prepared = Arc::new(VerifyingKey::prepare(key)?);
        self.keys.insert(id, Arc::clone(&prepared));
        Ok(prepared)
    }

    /// About how many keys are kept now, for a gauge.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.keys.entry_count()
    }

    /// Whether no keys are kept, as far as the last maintenance knows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").field("len", &self.len()).field("capacity", &self.keys.policy().max_capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SecretKey;
    use kaldrix_types::Scheme;

    fn key(seed: u8) -> PublicKey {
        SecretKey::from_seed(Scheme::Ed25519, &[seed; 32]).unwrap().public_key().clone()
    }

    #[test]
    fn a_key_is_prepared_once_and_the_cache_stays_bounded() {
        let cache = KeyCache::new(8);
        let first = cache.get(&key(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.get(&key(0)).unwrap()));
        for seed in 0..100 {
            cache.get(&key(seed)).unwrap();
        }
        cache.keys.run_pending_tasks();
        assert!((1..=8).contains(&cache.len()), "{cache:?}");
    }

    #[test]
    fn an_unacceptable_key_is_refused_every_time() {
        let cache = KeyCache::new(8);
        let weak = PublicKey::new(Scheme::Ed25519, vec![0; 32]).unwrap();
        assert!(cache.get(&weak).is_err());
        assert!(cache.get(&weak).is_err());
        cache.keys.run_pending_tasks();
        assert!(cache.is_empty());
    }
}
