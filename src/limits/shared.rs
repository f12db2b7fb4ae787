//! Limits that all instances count together, in Redis: one script for each step of a request.
//!
//! What comes late, the corrections of debits and the places given back, is not sent on a request's way but handed to
//! [`super::late`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::Script;
use sha2::{Digest, Sha256};
use smallvec::SmallVec;
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    InFlight, Level, LimitKind, LimitRefusal, Limiter, TokenDebit,
    concurrency::Running,
    late::{self, Late},
    limiter::{FEW, enter},
    tokens::TokenRate,
};
use crate::{
    domain::{Limits, Scope},
    redis::{Redis, Unavailable},
};

/// How long a count of requests under way holds in Redis; it is renewed long before. So long a dead instance's places
/// stay taken.
pub(super) const PLACES_HOLD: Duration = Duration::from_secs(15);
/// What may wait to be told to Redis.
const QUEUE: usize = 8_192;
/// Tokens of one debit. Beyond them the script's numbers would not be exact.
const MOST_TOKENS: u64 = u32::MAX as u64;
/// Begins every name of ours in Redis.
const PREFIX: &str = "keystile:1";

/// Where limits are counted.
#[derive(Clone, Debug, Default)]
pub enum Counters {
    /// In this process.
    #[default]
    Local,
    /// In Redis, together with the other instances.
    Redis(Shared),
}

/// Counters in Redis. Clones are the same.
#[derive(Clone, Debug)]
pub struct Shared(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    redis: Redis,
    instance: String,
    request: Script,
    tokens: Script,
    late: mpsc::Sender<Late>,
    dropped: Arc<AtomicU64>,
}

/// What a scope's counters are called. The ids are hashed: whoever reads Redis learns no key's or tenant's id.
#[derive(Debug)]
pub(super) struct Names {
    requests: String,
    tokens: Arc<str>,
    places: Arc<str>,
}

impl Names {
    /// A changed setting begins afresh, so it is part of the name.
    pub(super) fn of(scope: Scope, limits: &Limits) -> Self {
        let digest = Sha256::digest(scope.to_string());
        let scope: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            requests: format!("{PREFIX}:rpm:{scope}:{}", limits.rpm.unwrap_or_default()),
            tokens: format!("{PREFIX}:tpm:{scope}:{}", limits.tpm.unwrap_or_default()).into(),
            places: format!("{PREFIX}:run:{scope}").into(),
        }
    }
}

/// A bucket of tokens in Redis.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: Arc<str>,
    pub(super) per_minute: u32,
}

/// Where a debit was made.
#[derive(Debug)]
pub(super) enum Held {
    /// In this process.
    Here(SmallVec<[Arc<TokenRate>; FEW]>),
    /// In Redis.
    Shared(Shared, SmallVec<[Bucket; FEW]>),
}

impl Default for Held {
    fn default() -> Self {
        Self::Here(SmallVec::new())
    }
}

/// What a script answers.
struct Verdict {
    code: i64,
    /// Of which limiter; counted from 1, and 0 is none.
    index: usize,
    remaining: u64,
    reset: Duration,
    wait: Duration,
}

impl From<[i64; 5]> for Verdict {
    fn from([code, index, remaining, reset, wait]: [i64; 5]) -> Self {
        let micros = |number| Duration::from_micros(u64::try_from(number).unwrap_or(0));
        Self {
            code,
            index: usize::try_from(index).unwrap_or(0),
            remaining: u64::try_from(remaining).unwrap_or(0),
            reset: micros(reset),
            wait: micros(wait),
        }
    }
}

impl Shared {
    /// Counters in `redis`, and the tasks that keep its connection and tell it what comes late; both end with `stop`.
    pub fn start(redis: Redis, tracker: &TaskTracker, stop: &CancellationToken) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let instance = uuid::Uuid::now_v7().simple().to_string();
        let dropped = Arc::new(AtomicU64::new(0));
        tracker.spawn(redis.clone().keep(stop.clone()));
        let teller = late::Teller::new(redis.clone(), instance.clone(), Arc::clone(&dropped));
        tracker.spawn(teller.run(receiver, stop.clone()));
        Self(Arc::new(Inner {
            redis,
            instance,
            request: Script::new(concat!(
                include_str!("lua/bucket.lua"),
                include_str!("lua/places.lua"),
                include_str!("lua/request.lua")
            )),
            tokens: Script::new(concat!(include_str!("lua/bucket.lua"), include_str!("lua/tokens.lua"))),
            late: sender,
            dropped,
        }))
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.0.redis.is_up()
    }

    /// Calls of Redis and tries to connect that failed.
    pub fn failures(&self) -> u64 {
        self.0.redis.failures()
    }

    /// Corrections that Redis was never told.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// One request in all scopes; `None` when Redis does not answer.
    pub(super) async fn check_request(
        &self,
        limiters: &[Arc<Limiter>],
    ) -> Option<Result<InFlight, LimitRefusal>> {
        let entered = match enter(limiters, Limiter::max_parallel) {
            Ok(entered) => entered,
            Err(refusal) => return Some(Err(refusal)),
        };
        let limited = |limiter: &&Arc<Limiter>| limiter.rpm().is_some() || limiter.max_parallel().is_some();
        let asked: SmallVec<[&Arc<Limiter>; FEW]> = limiters.iter().filter(limited).collect();
        if asked.is_empty() {
            return Some(Ok(InFlight::new(entered, None, None)));
        }
        let (mut keys, mut arguments) = (SmallVec::<[&str; 4]>::new(), SmallVec::<[String; 10]>::new());
        arguments.extend([self.0.instance.clone(), PLACES_HOLD.as_millis().to_string()]);
        for (limiter, place) in limiters.iter().zip(&entered).filter(|(limiter, _)| limited(limiter)) {
            let names = limiter.names()?;
            keys.extend([&*names.requests, &*names.places]);
            let or_none = |limit: Option<u32>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
            let standing = place.standing();
            arguments.extend([or_none(limiter.rpm()), or_none(limiter.max_parallel())]);
            arguments.extend([standing.count.to_string(), standing.version.to_string()]);
        }
        // Before the call: when this future is dropped or Redis answers too late, the places may have been taken.
        let flight = InFlight::new(entered, self.announce(limiters), None);
        let answer = self.0.redis.run::<[i64; 5]>(&self.0.request, &keys, &arguments).await;
        let verdict: Verdict = match answer {
            Ok(answer) => answer.into(),
            Err(Unavailable::NotSent) => {
                flight.void();
                return None;
            }
            Err(Unavailable::Unknown) => return None,
        };
        let of = verdict.index.checked_sub(1).and_then(|index| asked.get(index));
        let level = of.map(|limiter| Level {
            limit: limiter.rpm().unwrap_or_default().into(),
            remaining: verdict.remaining,
            reset: verdict.reset,
        });
        let refusal = match (verdict.code, of, level) {
            (0, ..) => return Some(Ok(flight.at(level))),
            (1, Some(limiter), Some(level)) => limiter.refusal(LimitKind::Requests, level, verdict.wait),
            (2, Some(limiter), _) => limiter.no_place(),
            _ => return None,
        };
        flight.void();
        Some(Err(refusal))
    }

    /// Sees to it that Redis hears of places that are given back.
    fn announce(&self, limiters: &[Arc<Limiter>]) -> Option<Left> {
        let mut places = SmallVec::<[Place; FEW]>::new();
        for limiter in limiters.iter().filter(|limiter| limiter.max_parallel().is_some()) {
            let place =
                Place { name: Arc::clone(&limiter.names()?.places), running: limiter.places().clone() };
            // From now on it is renewed, however long the request runs.
            if !place.running.announce(true) && self.0.late.try_send(Late::Places(place.clone())).is_err() {
                place.running.announce(false);
            }
            places.push(place);
        }
        (!places.is_empty()).then(|| Left { shared: self.clone(), places })
    }

    /// A debit in all scopes; `None` when Redis does not answer.
    pub(super) async fn check_tokens(
        &self,
        limiters: &[Arc<Limiter>],
        tokens: u64,
    ) -> Option<Result<TokenDebit, LimitRefusal>> {
        let mut asked = SmallVec::<[&Arc<Limiter>; FEW]>::new();
        let mut buckets = SmallVec::<[Bucket; FEW]>::new();
        for limiter in limiters {
            if let (Some(per_minute), Some(names)) = (limiter.tpm(), limiter.names()) {
                asked.push(limiter);
                buckets.push(Bucket { name: Arc::clone(&names.tokens), per_minute });
            }
        }
        if buckets.is_empty() {
            return Some(Ok(TokenDebit::new(Held::default(), tokens, None)));
        }
        let keys: SmallVec<[Arc<str>; FEW]> = buckets.iter().map(|bucket| Arc::clone(&bucket.name)).collect();
        let mut arguments = SmallVec::<[String; 3]>::new();
        arguments.push(tokens.min(MOST_TOKENS).to_string());
        arguments.extend(buckets.iter().map(|bucket| bucket.per_minute.to_string()));
        // Before the call: when this future is dropped or Redis answers too late, the debit may have been made.
        let debit = TokenDebit::new(Held::Shared(self.clone(), buckets), tokens, None);
        let verdict: Verdict = match self.0.redis.run::<[i64; 5]>(&self.0.tokens, &keys, &arguments).await {
            Ok(answer) => answer.into(),
            Err(Unavailable::NotSent) => {
                debit.void();
                return None;
            }
            Err(Unavailable::Unknown) => return None,
        };
        let limiter = verdict.index.checked_sub(1).and_then(|index| asked.get(index))?;
        let limit = limiter.tpm().unwrap_or_default().into();
        let level = Level { limit, remaining: verdict.remaining, reset: verdict.reset };
        if verdict.code == 0 {
            return Some(Ok(debit.at(Some(level))));
        }
        debit.void();
        Some(Err(limiter.refusal(LimitKind::Tokens, level, verdict.wait)))
    }

    /// Replaces a debit by what was used, soon.
    pub(super) fn correct(&self, buckets: impl IntoIterator<Item = Bucket>, debited: u64, actual: u64) {
        let whole = |tokens: u64| i64::try_from(tokens.min(MOST_TOKENS)).unwrap_or(i64::MAX);
        let back = whole(debited) - whole(actual);
        for bucket in buckets {
            if back != 0 && self.0.late.try_send(Late::Tokens(bucket, back)).is_err() {
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The places of one scope.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: Arc<str>,
    pub(super) running: Running,
}

/// Dropped after a request's places were given back, it has Redis told.
#[derive(Debug)]
pub(super) struct Left {
    shared: Shared,
    places: SmallVec<[Place; FEW]>,
}

impl Left {
    /// Nothing was taken: there is nothing to tell.
    pub(super) fn void(mut self) {
        self.places.clear();
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for place in self.places.drain(..) {
            // Were the queue full, the next renewal would tell it.
            let _ = self.shared.0.late.try_send(Late::Places(place));
        }
    }
}
