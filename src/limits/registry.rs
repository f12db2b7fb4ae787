//! Every limiter by scope, so that what was used survives a reload of the cached policy.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use super::{Counters, Limiter, Share, Ticks, limiter::Common};
use crate::domain::{Limits, Scope};

/// How long a limiter is kept after its last use.
const KEPT: Duration = Duration::from_secs(60 * 60);

/// All limiters of this process. Bounded by the keys and tenants that were used in the last hour, if it is swept.
#[derive(Debug)]
pub struct Limiters {
    common: Common,
    limiters: RwLock<HashMap<Scope, Arc<Limiter>>>,
}

impl Limiters {
    /// None yet, on this clock; counted here alone, and all of each limit is granted.
    pub fn new(ticks: Ticks) -> Self {
        Self::counting(ticks, Share::default(), Counters::Local)
    }

    /// None yet; counted by `counters`, or here, where `share` of each limit is granted.
    pub fn counting(ticks: Ticks, share: Share, counters: Counters) -> Self {
        Self { common: Common { ticks, share, counters }, limiters: RwLock::default() }
    }

    /// The limiter of `scope` with the settings of `limits`; to be called when a policy is loaded, and held with it. A
    /// changed setting begins afresh, the others go on; requests under way stay counted.
    pub fn get(&self, scope: Scope, limits: &Limits) -> Arc<Limiter> {
        {
            let limiters = self.limiters.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(limiter) = limiters.get(&scope).filter(|limiter| limiter.is_built_from(limits)) {
                limiter.touch();
                return Arc::clone(limiter);
            }
        }
        let mut limiters = self.limiters.write().unwrap_or_else(PoisonError::into_inner);
        let old = limiters.get(&scope);
        if let Some(limiter) = old.filter(|limiter| limiter.is_built_from(limits)) {
            limiter.touch();
            return Arc::clone(limiter);
        }
        let limiter = Arc::new(Limiter::build(scope, limits, &self.common, old.map(AsRef::as_ref)));
        limiters.insert(scope, Arc::clone(&limiter));
        limiter
    }

    /// Forgets what was not used for an hour, that nobody holds, and that a new one would not differ from; answers how
    /// many. For the app's housekeeping.
    pub fn sweep(&self) -> usize {
        let mut limiters = self.limiters.write().unwrap_or_else(PoisonError::into_inner);
        let before = limiters.len();
        // Held with a cached policy it is still in force: a second one beside it would grant the limit twice.
        limiters.retain(|_, limiter| Arc::strong_count(limiter) > 1 || !limiter.is_idle_for(KEPT));
        before - limiters.len()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.limiters.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::limiter::{check_request_here, check_tokens_here},
        *,
    };
    use crate::domain::VirtualKeyId;

    fn limits(rpm: u32, tpm: u32, max_parallel: u32) -> Limits {
        Limits { rpm: Some(rpm), tpm: Some(tpm), max_parallel: Some(max_parallel), ..Limits::default() }
    }

    fn remaining(limiter: &Arc<Limiter>) -> (u64, u64) {
        let limiters = [Arc::clone(limiter)];
        let requests =
            check_request_here(&limiters).expect("lets it in").requests().expect("limited").remaining;
        let tokens =
            check_tokens_here(&limiters, 0).expect("lets it in").tokens().expect("limited").remaining;
        (requests, tokens)
    }

    #[test]
    fn what_was_used_survives_a_reload_and_only_a_changed_setting_begins_afresh() {
        let limiters = Limiters::new(Ticks::manual());
        let scope = Scope::from(VirtualKeyId::generate());
        let first = limiters.get(scope, &limits(10, 100, 5));
        let inside = check_request_here(&[Arc::clone(&first)]).expect("lets it in");
        check_tokens_here(&[Arc::clone(&first)], 40).expect("lets it in").correct(40);
        assert!(Arc::ptr_eq(&first, &limiters.get(scope, &limits(10, 100, 5))));
        assert_eq!(remaining(&first), (8, 60));

        let tokens_changed = limiters.get(scope, &limits(10, 200, 5));
        assert_eq!(remaining(&tokens_changed), (7, 200));
        let requests_changed = limiters.get(scope, &limits(20, 200, 5));
        assert_eq!(remaining(&requests_changed), (19, 200));

        let narrower = limiters.get(scope, &limits(20, 200, 1));
        assert_eq!(narrower.running(), 1, "a request under way stays counted");
        assert!(check_request_here(&[Arc::clone(&narrower)]).is_err());
        drop(inside);
        assert_eq!(narrower.running(), 0);
    }

    #[test]
    fn only_what_is_idle_unheld_and_full_is_swept() {
        let ticks = Ticks::manual();
        let limiters = Limiters::new(ticks.clone());
        let scopes: [Scope; 4] = std::array::from_fn(|_| VirtualKeyId::generate().into());
        let settings = limits(10, 60, 5);
        let held = limiters.get(scopes[0], &settings);
        let running = check_request_here(&[limiters.get(scopes[1], &settings)]).expect("lets it in");
        check_tokens_here(&[limiters.get(scopes[2], &settings)], 0).expect("full").correct(2 * 60 * 60);
        limiters.get(scopes[3], &settings);
        assert_eq!(limiters.sweep(), 0);
        ticks.advance(KEPT);
        assert_eq!((limiters.sweep(), limiters.len()), (1, 3));
        drop((held, running));
        assert_eq!((limiters.sweep(), limiters.len()), (2, 1));
        ticks.advance(2 * KEPT);
        assert_eq!(limiters.sweep(), 1);
        assert!(limiters.is_empty());
    }
}
