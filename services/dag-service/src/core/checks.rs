//! Transaction signatures are checked beside the consensus path: a block is ordered while its signatures are verified, and the
//! executor waits for the result. Which key applies depends on the state, so the result names the key it holds under.

use kaldrix_types::{BlockRef, Digest, KeyId, Round};
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::SetOnce;

/// Per transaction of a block: the key under which its signature holds, if one was found.
pub(crate) type Checked = Arc<[Option<KeyId>]>;

type Pending = Arc<SetOnce<Checked>>;

/// Results by block, and by transaction for those that came in through this validator as well.
pub(crate) struct SignatureChecks {
    blocks: Mutex<HashMap<BlockRef, Pending>>,
    known: Cache<Digest, KeyId>,
}

/// Whoever holds this owes the result; dropping it unpaid says "not checked", and the executor does it itself.
pub(crate) struct Owed {
    pending: Pending,
    paid: bool,
}

impl Owed {
    pub(crate) fn pay(mut self, checked: Checked) {
        self.paid = true;
        // Set once per block: a block is added once.
        let _ = self.pending.set(checked);
    }
}

impl Owed {
    /// Somebody else owes the same result.
    pub(crate) fn forgo(mut self) {
        self.paid = true;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if !self.paid {
            let _ = self.pending.set(Arc::new([]));
        }
    }
}

impl SignatureChecks {
    pub(crate) fn new(known_max: u64) -> Self {
        Self { blocks: Mutex::new(HashMap::new()), known: Cache::new(known_max) }
    }

    /// Announces that a block's signatures are about to be checked.
    pub(crate) fn begin(&self, block: BlockRef) -> Owed {
        let pending = self.blocks.lock().entry(block).or_default().clone();
        Owed { pending, paid: false }
    }

    /// The result for a block; `None` when nobody is checking it.
    pub(crate) async fn take(&self, block: &BlockRef) -> Option<Checked> {
        let pending = self.blocks.lock().remove(block)?;
        Some(pending.wait().await.clone())
    }

    /// Forgets a block that was not taken in.
    pub(crate) fn forget(&self, block: &BlockRef) {
        self.blocks.lock().remove(block);
    }

    /// Forgets blocks that will never be executed.
    pub(crate) fn collect(&self, gc_round: Round) {
        self.blocks.lock().retain(|block, _| block.round > gc_round);
    }

    /// Remembers that the transaction with this leaf holds under `key`.
    pub(crate) fn remember(&self, leaf: Digest, key: KeyId) {
        self.known.insert(leaf, key);
    }

    /// The key under which the transaction with this leaf is known to hold.
    pub(crate) fn recall(&self, leaf: &Digest) -> Option<KeyId> {
        self.known.get(leaf)
    }
}
