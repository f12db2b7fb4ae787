//! When each provider key was last used, and last refused: noted in memory by the requests themselves, without a lock or a
//! wait, and carried to the database by somebody else now and then.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
};

use super::Failure;
use crate::domain::{ProviderKeyId, Timestamp};

/// Below the moment of a refusal stands its status, so that both change at once.
const STATUS_BITS: u32 = 16;

/// One key's use. What stands here only moves on.
#[derive(Debug, Default)]
pub struct Touched {
    /// UTC milliseconds; 0 for never.
    used: AtomicI64,
    /// UTC milliseconds, and the status in the lowest 16 bits; 0 for never.
    refused: AtomicI64,
    /// What of it the database has.
    written: (AtomicI64, AtomicI64),
}

impl Touched {
    /// A request was sent with the key.
    pub fn used(&self, at: Timestamp) {
        self.used.fetch_max(at.millis(), Relaxed);
    }

    /// An attempt with the key failed; kept when the provider refused the key or the account behind it.
    pub fn failed(&self, at: Timestamp, failure: &Failure) {
        if let Failure::Rejected { status, error, .. } = failure
            && (matches!(status, 401 | 403) || error.billing)
        {
            self.refused.fetch_max((at.millis() << STATUS_BITS) | i64::from(*status), Relaxed);
        }
    }

    fn is_written(&self) -> bool {
        let (used, refused) = &self.written;
        used.load(Relaxed) == self.used.load(Relaxed) && refused.load(Relaxed) == self.refused.load(Relaxed)
    }
}

/// What is to be written of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noted {
    /// Which.
    pub key: ProviderKeyId,
    used: i64,
    refused: i64,
}

impl Noted {
    /// When it was last used.
    pub fn used_at(&self) -> Option<Timestamp> {
        (self.used > 0).then(|| Timestamp::from_millis(self.used))
    }

    /// When it was last refused, and with which status.
    pub fn refused(&self) -> Option<(Timestamp, u16)> {
        let status = u16::try_from(self.refused & 0xffff).unwrap_or_default();
        (self.refused > 0).then(|| (Timestamp::from_millis(self.refused >> STATUS_BITS), status))
    }
}

/// The use of every key that is loaded.
#[derive(Debug, Default)]
pub struct KeyUses(Mutex<HashMap<ProviderKeyId, Arc<Touched>>>);

impl KeyUses {
    fn lock(&self) -> MutexGuard<'_, HashMap<ProviderKeyId, Arc<Touched>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the use of `key` is noted; asked for when the key is loaded, not for each request.
    pub fn of(&self, key: ProviderKeyId) -> Arc<Touched> {
        Arc::clone(self.lock().entry(key).or_default())
    }

    /// What the database does not have yet. Keys that nobody holds and that have no news are forgotten.
    pub fn unwritten(&self) -> Vec<Noted> {
        let mut keys = self.lock();
        keys.retain(|_, touched| Arc::strong_count(touched) > 1 || !touched.is_written());
        keys.iter()
            .filter(|(_, touched)| !touched.is_written())
            .map(|(key, touched)| Noted {
                key: *key,
                used: touched.used.load(Relaxed),
                refused: touched.refused.load(Relaxed),
            })
            .collect()
    }

    /// The database has these now.
    pub fn written(&self, noted: &[Noted]) {
        let keys = self.lock();
        for Noted { key, used, refused } in noted {
            if let Some(touched) = keys.get(key) {
                touched.written.0.store(*used, Relaxed);
                touched.written.1.store(*refused, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::ProviderError;

    fn rejected(status: u16, billing: bool) -> Failure {
        let error = Box::new(ProviderError { billing, ..ProviderError::default() });
        Failure::Rejected { status, error, retry_after: None }
    }

    #[test]
    fn only_news_are_to_be_written_and_only_once() {
        let (uses, key, idle) = (KeyUses::default(), ProviderKeyId::generate(), ProviderKeyId::generate());
        let (touched, _idle) = (uses.of(key), uses.of(idle));
        assert!(uses.unwritten().is_empty());
        let at = Timestamp::from_millis;
        touched.used(at(5));
        touched.used(at(3));
        touched.failed(at(6), &rejected(401, false));
        touched.failed(at(7), &rejected(429, false));
        touched.failed(at(8), &rejected(500, false));
        touched.failed(at(9), &Failure::TimedOut);
        let noted = uses.unwritten();
        assert_eq!(noted.len(), 1);
        assert_eq!((noted[0].used_at(), noted[0].refused()), (Some(at(5)), Some((at(6), 401))));
        touched.failed(at(10), &rejected(429, true));
        uses.written(&noted);
        assert_eq!(
            uses.unwritten()[0].refused(),
            Some((at(10), 429)),
            "what came meanwhile is still to be written"
        );
        uses.written(&uses.unwritten());
        assert!(uses.unwritten().is_empty());
    }

    #[test]
    fn keys_that_nobody_holds_are_forgotten_when_they_are_written() {
        let (uses, key) = (KeyUses::default(), ProviderKeyId::generate());
        uses.of(key).used(Timestamp::from_millis(1));
        let noted = uses.unwritten();
        assert_eq!(noted.len(), 1, "not before");
        uses.written(&noted);
        assert!(uses.unwritten().is_empty() && uses.lock().is_empty());
    }
}
