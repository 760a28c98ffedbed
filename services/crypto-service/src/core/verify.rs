//! Batch verification for callers that have no post-quantum library.

use bytes::Bytes;
use kaldrix_crypto::Verifier;
use kaldrix_types::PublicKey;

/// Items of one batch.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// A message to verify: our own are 77 bytes, others' may be larger.
pub const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// One signature to check.
#[derive(Clone, Debug)]
pub struct Item {
    /// By whom; `None` when the caller's text was no key, which no signature holds under.
    pub key: Option<PublicKey>,
    /// What was signed.
    pub message: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// Which of `items` hold, in order. Takes up to about 60 µs an item: not for an async task.
#[must_use]
pub fn verify_batch(verifier: &Verifier, items: &[Item]) -> Vec<bool> {
    items
        .iter()
        .map(|item| item.key.as_ref().is_some_and(|key| verifier.verify_message(key, &item.message, &item.signature).is_ok()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kaldrix_crypto::{SecretKey, Signer};
    use kaldrix_types::Scheme;

    #[test]
    fn verdicts_stand_in_the_order_of_the_items() {
        let items: Vec<Item> = Scheme::ALL
            .into_iter()
            .flat_map(|scheme| {
                let key = SecretKey::generate(scheme).unwrap();
                let signature = key.sign(b"message").unwrap();
                let item = |key, message: &'static [u8]| Item { key, message: message.into(), signature: signature.clone() };
                let public = key.public_key().clone();
                [item(Some(public.clone()), b"message"), item(Some(public), b"another"), item(None, b"message")]
            })
            .collect();
        assert_eq!(verify_batch(&Verifier::new(8), &items), [true, false, false].repeat(Scheme::ALL.len()));
    }
}
