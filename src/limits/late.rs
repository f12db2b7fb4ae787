//! What Redis is told after the fact: corrections of token debits, and how many requests run now. One task, a bounded
//! queue; requests only put into it.
//!
//! Corrections that were certainly not sent wait for Redis to come back, as many as [`MOST_WAITING`]; what may have been
//! sent is not sent again, since it would count twice. Counts of requests are absolute and can be told any number of
//! times; they are renewed as long as requests run.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::Script;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::shared::{Bucket, PLACES_HOLD, Place};
use crate::redis::{Redis, Unavailable};

/// Buckets whose corrections may wait for Redis.
const MOST_WAITING: usize = 10_000;
/// Told in one call.
const AT_ONCE: usize = 64;
/// How often what waits is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// How often the counts of running requests are renewed: twice may fail.
const RENEW: Duration = Duration::from_secs(PLACES_HOLD.as_secs() / 3);

/// Something to tell.
#[derive(Debug)]
pub(super) enum Late {
    /// So many tokens go back into a bucket, or out of it.
    Tokens(Bucket, i64),
    /// The number of requests under way has changed, or is to be renewed from now on.
    Places(Place),
}

/// The one who tells.
pub(super) struct Teller {
    redis: Redis,
    instance: String,
    dropped: Arc<AtomicU64>,
    correct: Script,
    publish: Script,
    /// Tokens a minute and tokens given back, by bucket.
    tokens: HashMap<Arc<str>, (u32, i64)>,
    /// All that are renewed, and whether the present count is still to be told.
    places: HashMap<Arc<str>, (Place, bool)>,
}

impl Teller {
    pub(super) fn new(redis: Redis, instance: String, dropped: Arc<AtomicU64>) -> Self {
        let correct = concat!(include_str!("lua/bucket.lua"), include_str!("lua/correct.lua"));
        let publish = concat!(
            include_str!("lua/bucket.lua"),
            include_str!("lua/places.lua"),
            include_str!("lua/publish.lua")
        );
        Self {
            redis,
            instance,
            dropped,
            correct: Script::new(correct),
            publish: Script::new(publish),
            tokens: HashMap::new(),
            places: HashMap::new(),
        }
    }

    /// Tells what comes out of `queue` until `stop`; then what is left, once.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Late>, stop: CancellationToken) {
        let mut turns = interval(RETRY);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut batch, mut renewed) = (Vec::with_capacity(AT_ONCE), Instant::now());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // None: nobody is left who could say anything.
                taken = queue.recv_many(&mut batch, AT_ONCE) => if taken == 0 { break },
                _ = turns.tick() => {}
            }
            if renewed.elapsed() >= RENEW {
                renewed = Instant::now();
                self.places.values_mut().for_each(|(_, untold)| *untold = true);
            }
            self.take(batch.drain(..));
            self.tell().await;
        }
        queue.close();
        while let Ok(late) = queue.try_recv() {
            self.take([late]);
        }
        self.tell().await;
        self.drop_corrections(self.tokens.len());
    }

    fn take(&mut self, batch: impl IntoIterator<Item = Late>) {
        for late in batch {
            match late {
                Late::Tokens(bucket, back) => {
                    let full = self.tokens.len() >= MOST_WAITING;
                    match self.tokens.get_mut(&bucket.name) {
                        Some((_, sum)) => *sum = sum.saturating_add(back),
                        None if full => self.drop_corrections(1),
                        None => {
                            self.tokens.insert(bucket.name, (bucket.per_minute, back));
                        }
                    }
                }
                Late::Places(place) => {
                    self.places.insert(Arc::clone(&place.name), (place, true));
                }
            }
        }
    }

    async fn tell(&mut self) {
        if self.redis.is_up() {
            self.tell_tokens().await;
            self.tell_places().await;
        }
    }

    async fn tell_tokens(&mut self) {
        let mut waiting: Vec<_> = self.tokens.drain().collect();
        while !waiting.is_empty() {
            let some = &waiting[..waiting.len().min(AT_ONCE)];
            let keys: Vec<_> = some.iter().map(|(name, _)| name).collect();
            let arguments: Vec<_> =
                some.iter().flat_map(|(_, (limit, back))| [limit.to_string(), back.to_string()]).collect();
            let told = some.len();
            match self.redis.run::<i64>(&self.correct, &keys, &arguments).await {
                Ok(_) => {}
                Err(Unavailable::Unknown) => self.drop_corrections(told),
                Err(Unavailable::NotSent) => break,
            }
            waiting.drain(..told);
        }
        self.tokens.extend(waiting);
    }

    async fn tell_places(&mut self) {
        let untold: Vec<Place> =
            self.places.values().filter(|(_, untold)| *untold).map(|(place, _)| place.clone()).collect();
        for some in untold.chunks(AT_ONCE) {
            let keys: Vec<_> = some.iter().map(|place| &place.name).collect();
            let standings: Vec<_> = some.iter().map(|place| place.running.standing()).collect();
            let mut arguments = vec![self.instance.clone(), PLACES_HOLD.as_millis().to_string()];
            for standing in &standings {
                arguments.extend([standing.count.to_string(), standing.version.to_string()]);
            }
            if self.redis.run::<i64>(&self.publish, &keys, &arguments).await.is_err() {
                return;
            }
            for (place, standing) in some.iter().zip(standings) {
                if let Some((_, untold)) = self.places.get_mut(&place.name) {
                    *untold = false;
                }
                if standing.count == 0 {
                    // Whoever enters from now on has to announce it again; whoever entered before is seen here.
                    place.running.announce(false);
                    if place.running.count() == 0 || place.running.announce(true) {
                        self.places.remove(&place.name);
                    }
                }
            }
        }
    }

    fn drop_corrections(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }
}
