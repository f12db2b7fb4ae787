//! The limits of one scope, and the checks of one request against all of its scopes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use smallvec::SmallVec;

use super::{
    Counters, Share, Ticks,
    concurrency::{Entered, Running},
    rate::{Level, RequestRate},
    shared::{Held, Left, Names, Shared},
    tokens::TokenRate,
};
use crate::domain::{Limits, Scope};

/// Scopes of one request that need no memory from the heap.
pub(super) const FEW: usize = 2;
/// What a client is told when all it can do is wait for another request of its own to end.
pub(super) const PARALLEL_RETRY: Duration = Duration::from_secs(1);

/// The limits of one scope, and how much of them is used. From [`super::Limiters::get`].
#[derive(Debug)]
pub struct Limiter {
    scope: Scope,
    requests: Option<Arc<RequestRate>>,
    tokens: Option<Arc<TokenRate>>,
    max_parallel: Option<u32>,
    running: Running,
    /// Where it is counted together with other instances, and under which names.
    shared: Option<(Shared, Names)>,
    share: Share,
    ticks: Ticks,
    used: AtomicU64,
}

/// What all limiters of a process have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Common {
    pub(super) ticks: Ticks,
    pub(super) share: Share,
    pub(super) counters: Counters,
}

impl Limiter {
    /// With the settings of `limits`; what `old` has counted goes on where the setting is the same.
    pub(super) fn build(scope: Scope, limits: &Limits, common: &Common, old: Option<&Self>) -> Self {
        let Common { ticks, share, counters } = common;
        let requests = limits.rpm.map(|rpm| {
            let kept = old.and_then(|old| old.requests.clone()).filter(|old| old.per_minute() == rpm);
            kept.unwrap_or_else(|| Arc::new(RequestRate::new(rpm, share, ticks)))
        });
        let tokens = limits.tpm.map(|tpm| {
            let kept = old.and_then(|old| old.tokens.clone()).filter(|old| old.per_minute() == tpm);
            kept.unwrap_or_else(|| Arc::new(TokenRate::new(tpm, share, ticks)))
        });
        Self {
            scope,
            requests,
            tokens,
            max_parallel: limits.max_parallel,
            running: old.map(|old| old.running.clone()).unwrap_or_default(),
            shared: match counters {
                Counters::Local => None,
                Counters::Redis(shared) => Some((shared.clone(), Names::of(scope, limits))),
            },
            share: share.clone(),
            ticks: ticks.clone(),
            used: AtomicU64::new(ticks.nanos()),
        }
    }

    /// Whose limits these are.
    pub const fn scope(&self) -> Scope {
        self.scope
    }

    /// Requests under way now.
    pub fn running(&self) -> u32 {
        self.running.count()
    }

    pub(super) fn rpm(&self) -> Option<u32> {
        self.requests.as_ref().map(|rate| rate.per_minute())
    }

    pub(super) fn tpm(&self) -> Option<u32> {
        self.tokens.as_ref().map(|rate| rate.per_minute())
    }

    pub(super) const fn max_parallel(&self) -> Option<u32> {
        self.max_parallel
    }

    pub(super) const fn places(&self) -> &Running {
        &self.running
    }

    /// Its names where it is counted together; `None` where it never is.
    pub(super) fn names(&self) -> Option<&Names> {
        self.shared.as_ref().map(|(_, names)| names)
    }

    pub(super) fn is_built_from(&self, limits: &Limits) -> bool {
        self.rpm() == limits.rpm && self.tpm() == limits.tpm && self.max_parallel == limits.max_parallel
    }

    pub(super) fn touch(&self) {
        self.used.store(self.ticks.nanos(), Ordering::Relaxed);
    }

    /// Whether nobody has used it for `idle`, and a new one would stand where it stands.
    pub(super) fn is_idle_for(&self, idle: Duration) -> bool {
        let unused = self.ticks.nanos().saturating_sub(self.used.load(Ordering::Relaxed));
        u128::from(unused) >= idle.as_nanos()
            && self.running() == 0
            && self.tokens.as_ref().is_none_or(|tokens| tokens.is_full())
    }

    pub(super) fn no_place(&self) -> LimitRefusal {
        let limit = self.max_parallel.unwrap_or(u32::MAX).into();
        let level = Level { limit, remaining: 0, reset: PARALLEL_RETRY };
        self.refusal(LimitKind::Parallel, level, PARALLEL_RETRY)
    }

    pub(super) fn refusal(&self, kind: LimitKind, level: Level, wait: Duration) -> LimitRefusal {
        LimitRefusal { kind, scope: self.scope, level, wait }
    }
}

/// Which limit was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Requests a minute.
    Requests,
    /// Tokens a minute.
    Tokens,
    /// Requests at the same time.
    Parallel,
}

impl LimitKind {
    /// For metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Parallel => "parallel",
        }
    }
}

/// A limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitRefusal {
    /// Which limit.
    pub kind: LimitKind,
    /// Whose.
    pub scope: Scope,
    /// Where it stands.
    pub level: Level,
    wait: Duration,
}

impl LimitRefusal {
    /// For `retry-after`: whole seconds, at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        (self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0)).max(1)
    }
}

impl fmt::Display for LimitRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scope, limit) = (self.scope, self.level.limit);
        match self.kind {
            LimitKind::Requests => write!(f, "`{scope}` is limited to {limit} requests a minute")?,
            LimitKind::Tokens => write!(f, "`{scope}` is limited to {limit} tokens a minute")?,
            LimitKind::Parallel => write!(f, "`{scope}` is limited to {limit} requests at the same time")?,
        }
        write!(f, "; try again in {} s", self.retry_after_seconds())
    }
}

impl std::error::Error for LimitRefusal {}

/// A request under way; dropping it gives its place back in every scope.
#[derive(Debug, Default)]
#[must_use = "dropping it gives the request's place back"]
pub struct InFlight {
    // Before `left`, which tells the other instances how many run now.
    entered: Places,
    left: Option<Left>,
    requests: Option<Level>,
}

/// Places of one request, in every scope.
pub(super) type Places = SmallVec<[Entered; FEW]>;

impl InFlight {
    pub(super) const fn new(entered: Places, left: Option<Left>, requests: Option<Level>) -> Self {
        Self { entered, left, requests }
    }

    /// It has stood the test.
    pub(super) fn at(mut self, requests: Option<Level>) -> Self {
        self.requests = requests;
        self
    }

    /// It was not let in after all.
    pub(super) fn void(mut self) {
        self.entered.clear();
        if let Some(left) = self.left.take() {
            left.void();
        }
    }

    /// Where the tightest limit on requests stands; `None` when no scope has one.
    pub const fn requests(&self) -> Option<Level> {
        self.requests
    }
}

/// Lets a request in, or refuses it: requests at the same time and requests a minute, of every scope.
///
/// Concurrency comes first, because it can be given back in full. A request a minute cannot: when a later limiter
/// refuses, the earlier ones have lost it. So they are to be given the narrowest first; a tenant at its limit then
/// costs the key that asks, never a key at its limit the tenant.
///
/// # Errors
/// The first limit that refuses; all concurrency taken is given back.
pub async fn check_request(limiters: &[Arc<Limiter>]) -> Result<InFlight, LimitRefusal> {
    if let Some(shared) = in_common(limiters)
        && let Some(answer) = shared.check_request(limiters).await
    {
        return answer;
    }
    check_request_here(limiters)
}

/// Debits `tokens` from every scope's tokens a minute, or from none.
///
/// # Errors
/// The first limit that has nothing left.
pub async fn check_tokens(limiters: &[Arc<Limiter>], tokens: u64) -> Result<TokenDebit, LimitRefusal> {
    if let Some(shared) = in_common(limiters)
        && let Some(answer) = shared.check_tokens(limiters, tokens).await
    {
        return answer;
    }
    check_tokens_here(limiters, tokens)
}

/// Where these are counted together with other instances, if that works now.
fn in_common(limiters: &[Arc<Limiter>]) -> Option<&Shared> {
    let (shared, _) = limiters.first()?.shared.as_ref()?;
    shared.is_up().then_some(shared)
}

/// This instance's share, from its own memory.
pub(super) fn check_request_here(limiters: &[Arc<Limiter>]) -> Result<InFlight, LimitRefusal> {
    let entered = enter(limiters, |limiter| limiter.max_parallel.map(|most| limiter.share.of(most)))?;
    let mut requests = None;
    for limiter in limiters {
        if let Some(rate) = &limiter.requests {
            let taken = rate.take();
            let level = taken.map_err(|(level, wait)| limiter.refusal(LimitKind::Requests, level, wait))?;
            requests = tightest(requests, level);
        }
    }
    Ok(InFlight::new(entered, None, requests))
}

/// Takes a place in every scope or in none.
pub(super) fn enter(
    limiters: &[Arc<Limiter>],
    most: impl Fn(&Limiter) -> Option<u32>,
) -> Result<Places, LimitRefusal> {
    let mut entered = SmallVec::new();
    for limiter in limiters {
        limiter.touch();
        entered.push(limiter.running.enter(most(limiter)).ok_or_else(|| limiter.no_place())?);
    }
    Ok(entered)
}

pub(super) fn check_tokens_here(limiters: &[Arc<Limiter>], tokens: u64) -> Result<TokenDebit, LimitRefusal> {
    let mut rates = SmallVec::new();
    let mut level = None;
    for limiter in limiters {
        if let Some(rate) = &limiter.tokens {
            match rate.take(tokens) {
                Ok(taken) => {
                    rates.push(Arc::clone(rate));
                    level = tightest(level, taken);
                }
                Err((level, wait)) => {
                    // What the earlier ones took is given back.
                    drop(TokenDebit::new(Held::Here(rates), tokens, None));
                    return Err(limiter.refusal(LimitKind::Tokens, level, wait));
                }
            }
        }
    }
    Ok(TokenDebit::new(Held::Here(rates), tokens, level))
}

fn tightest(one: Option<Level>, other: Level) -> Option<Level> {
    Some(one.filter(|one| one.remaining <= other.remaining).unwrap_or(other))
}

/// Tokens debited beforehand. Corrected once by what was used; dropped, all of it is given back. Neither blocks.
#[derive(Debug)]
#[must_use = "dropping it gives the tokens back"]
pub struct TokenDebit {
    held: Held,
    debited: u64,
    level: Option<Level>,
}

impl TokenDebit {
    pub(super) const fn new(held: Held, debited: u64, level: Option<Level>) -> Self {
        Self { held, debited, level }
    }

    /// It has stood the test.
    pub(super) fn at(mut self, level: Option<Level>) -> Self {
        self.level = level;
        self
    }

    /// It was not debited after all.
    pub(super) fn void(mut self) {
        self.held = Held::default();
    }

    /// Replaces the debit by what was used, in every scope; that may leave a limit below zero.
    pub fn correct(mut self, actual: u64) {
        self.end(actual);
    }

    /// Where the tightest limit on tokens stands; `None` when no scope has one.
    pub const fn tokens(&self) -> Option<Level> {
        self.level
    }

    fn end(&mut self, actual: u64) {
        match std::mem::take(&mut self.held) {
            Held::Here(rates) => {
                for rate in rates {
                    rate.correct(self.debited, actual);
                }
            }
            Held::Shared(shared, buckets) => shared.correct(buckets, self.debited, actual),
        }
    }
}

impl Drop for TokenDebit {
    fn drop(&mut self) {
        self.end(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{TenantId, VirtualKeyId};

    struct House {
        ticks: Ticks,
        key: Arc<Limiter>,
        tenant: Arc<Limiter>,
    }

    impl House {
        fn new(key: &Limits, tenant: &Limits) -> Self {
            let ticks = Ticks::manual();
            let common = Common { ticks: ticks.clone(), ..Common::default() };
            let build = |scope, limits| Arc::new(Limiter::build(scope, limits, &common, None));
            Self {
                key: build(VirtualKeyId::generate().into(), key),
                tenant: build(TenantId::generate().into(), tenant),
                ticks,
            }
        }

        fn both(&self) -> [Arc<Limiter>; 2] {
            [Arc::clone(&self.key), Arc::clone(&self.tenant)]
        }
    }

    #[test]
    fn no_limits_let_everything_through_and_say_nothing() {
        let house = House::new(&Limits::default(), &Limits::default());
        let inside = check_request_here(&house.both()).expect("unlimited");
        assert_eq!(inside.requests(), None);
        assert_eq!(check_tokens_here(&house.both(), u64::MAX).expect("unlimited").tokens(), None);
        assert_eq!((house.key.running(), house.tenant.running()), (1, 1));
        drop(inside);
        assert_eq!((house.key.running(), house.tenant.running()), (0, 0));
    }

    #[test]
    fn a_refusal_in_the_second_scope_gives_the_place_in_the_first_back() {
        let tenant = Limits { max_parallel: Some(1), ..Limits::default() };
        let house = House::new(&Limits { rpm: Some(10), ..Limits::default() }, &tenant);
        let inside = check_request_here(&house.both()).expect("the first");
        assert_eq!(inside.requests().map(|level| level.remaining), Some(9));
        let refused = check_request_here(&house.both()).expect_err("the second");
        assert_eq!((refused.kind, refused.scope), (LimitKind::Parallel, house.tenant.scope()));
        assert_eq!((refused.retry_after_seconds(), refused.level.limit), (1, 1));
        assert_eq!(house.key.running(), 1);
        drop(inside);
        let inside = check_request_here(&house.both()).expect("again");
        assert_eq!(inside.requests().map(|level| level.remaining), Some(8), "concurrency refused first");
    }

    #[test]
    fn the_tightest_limit_on_requests_is_shown_and_the_one_that_refuses_is_named() {
        let key = Limits { rpm: Some(3), ..Limits::default() };
        let house = House::new(&key, &Limits { rpm: Some(2), ..Limits::default() });
        let inside = check_request_here(&house.both()).expect("the first");
        assert_eq!(inside.requests().map(|level| (level.limit, level.remaining)), Some((2, 1)));
        drop(inside);
        drop(check_request_here(&house.both()).expect("the second"));
        let refused = check_request_here(&house.both()).expect_err("the third");
        assert_eq!((refused.kind, refused.scope), (LimitKind::Requests, house.tenant.scope()));
        assert_eq!(refused.retry_after_seconds(), 30);
        assert!(refused.to_string().contains("2 requests a minute; try again in 30 s"));
        assert_eq!(house.key.running(), 0);
        house.ticks.advance(Duration::from_secs(30));
        drop(check_request_here(&[Arc::clone(&house.tenant)]).expect("after waiting as told"));
    }

    #[test]
    fn tokens_are_debited_everywhere_or_nowhere_and_corrected_once() {
        let key = Limits { tpm: Some(600), ..Limits::default() };
        let house = House::new(&key, &Limits { tpm: Some(60), ..Limits::default() });
        let left = |limiter: &Arc<Limiter>| {
            let debit = check_tokens_here(&[Arc::clone(limiter)], 0);
            debit.map(|debit| debit.tokens().expect("limited").remaining)
        };
        let debit = check_tokens_here(&house.both(), 100).expect("anything is left");
        assert_eq!(debit.tokens().map(|level| level.remaining), Some(0));
        let refused = check_tokens_here(&house.both(), 50).expect_err("the tenant has nothing left");
        assert_eq!((refused.kind, refused.scope), (LimitKind::Tokens, house.tenant.scope()));
        assert_eq!(refused.retry_after_seconds(), 41);
        assert_eq!(left(&house.key), Ok(500), "nothing was taken from the key");
        debit.correct(20);
        assert_eq!((left(&house.key), left(&house.tenant)), (Ok(580), Ok(40)));
        drop(check_tokens_here(&house.both(), 30).expect("left"));
        assert_eq!((left(&house.key), left(&house.tenant)), (Ok(580), Ok(40)), "dropped, it is given back");
    }
}
