//! The optional Redis: one connection for all, behind a circuit.
//!
//! Redis holds rate counters and nothing else: neither money nor who may do what depends on it. So every call is
//! bounded, and the first that fails takes the connection away from everybody: until the owned
//! [`Redis::keep`] has a new one that works, callers are told at once and do without.
//!
//! The connection is kept here and not by the crate's own manager: that one makes callers wait while it reconnects,
//! for as long as its backoff says, and goes on using a connection that has gone silent.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script, aio::MultiplexedConnection,
};
use arc_swap::ArcSwapOption;
use tokio::{sync::Notify, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long connecting may take, TLS and login included.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// How long until the next try to connect.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// What a new connection has to do before anybody uses it: a server that is a replica, is loading, or is full does not
/// answer a `PING` any differently.
const PROBE: &str = "return redis.call('SET', KEYS[1], '1', 'PX', 1000)";
const TOO_LONG: &str = "it took too long";
const PROBE_KEY: &str = "keystile:probe";

/// The URL is none that can be used.
#[derive(Debug, thiserror::Error)]
#[error("`KEYSTILE_REDIS_URL` is not usable; write `redis://:password@host:6379/0`, or `rediss://` for TLS")]
pub struct RedisUrlError;

/// Redis does not answer, or not now. The reason is in the log, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// Nothing was sent.
    #[error("Redis is not connected")]
    NotSent,
    /// It may or may not have done what it was asked.
    #[error("Redis did not answer")]
    Unknown,
}

/// A Redis server. Clones are the same one.
#[derive(Clone)]
pub struct Redis(Arc<Inner>);

struct Inner {
    client: Client,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// How long a call may take.
    patience: Duration,
    lost: Notify,
    failures: AtomicU64,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows the password.
        f.debug_struct("Redis").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Redis {
    /// The server at `url`, which has `patience` for each answer; not connected before [`Redis::keep`] runs.
    ///
    /// # Errors
    /// When it is no URL of a Redis server.
    pub fn at(url: &str, patience: Duration) -> Result<Self, RedisUrlError> {
        // The crate's error may repeat the URL, and with it the password.
        let client = Client::open(url).map_err(|_| RedisUrlError)?;
        Ok(Self(Arc::new(Inner {
            client,
            connection: ArcSwapOption::empty(),
            patience,
            lost: Notify::new(),
            failures: AtomicU64::new(0),
        })))
    }

    /// Whether there is a connection that has not failed yet.
    pub fn is_up(&self) -> bool {
        self.0.connection.load().is_some()
    }

    /// Calls that failed or took too long, and connections that could not be made, since the start.
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }

    /// Runs `script`; never longer than its patience.
    ///
    /// # Errors
    /// When there is no connection, or the call fails; the latter ends the connection.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[impl AsRef<str>],
        arguments: &[impl AsRef<str>],
    ) -> Result<T, Unavailable> {
        let used = self.0.connection.load_full().ok_or(Unavailable::NotSent)?;
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key.as_ref());
        }
        for argument in arguments {
            call.arg(argument.as_ref());
        }
        let mut connection = MultiplexedConnection::clone(&used);
        let answer = timeout(self.0.patience, call.invoke_async(&mut connection)).await;
        let reason = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        self.lose(&used, reason.as_ref());
        Err(Unavailable::Unknown)
    }

    /// Ends the use of a connection, unless there is a newer one already.
    fn lose(&self, used: &Arc<MultiplexedConnection>, reason: Option<&RedisError>) {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        let before = self.0.connection.compare_and_swap(used, None);
        if before.as_ref().is_some_and(|before| Arc::ptr_eq(before, used)) {
            let reason = reason.map_or_else(|| TOO_LONG.to_owned(), told);
            tracing::warn!(reason, "redis.lost");
            self.0.lost.notify_one();
        }
    }

    /// Keeps the connection until `stop`: makes it, and makes it anew when it was lost.
    pub async fn keep(self, stop: CancellationToken) {
        let keep = async {
            loop {
                self.reconnect().await;
                self.0.lost.notified().await;
            }
        };
        stop.run_until_cancelled(keep).await;
    }

    async fn reconnect(&self) {
        let mut logged = false;
        loop {
            let connected = timeout(CONNECT_WITHIN, self.connect()).await;
            let reason = match connected {
                Ok(Ok(connection)) => {
                    self.0.connection.store(Some(Arc::new(connection)));
                    tracing::info!("redis.connected");
                    return;
                }
                Ok(Err(error)) => told(&error),
                Err(_) => TOO_LONG.to_owned(),
            };
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            if !logged {
                tracing::warn!(reason, "redis.unreachable");
                logged = true;
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        // Each call has its own deadline.
        let settings = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = self.0.client.get_multiplexed_async_connection_with_config(&settings).await?;
        let probe = Script::new(PROBE);
        probe.key(PROBE_KEY).invoke_async::<()>(&mut connection).await?;
        Ok(connection)
    }
}

/// What the log may say of an error. A server's own words may repeat what it was sent, such as a password.
fn told(error: &RedisError) -> String {
    if error.is_io_error() { error.to_string() } else { error.category().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    #[test]
    fn a_url_that_is_none_is_refused_without_repeating_it() {
        for url in ["", "canary", "http://:canary@host", "redis://:canary@host:port"] {
            let error = Redis::at(url, PATIENCE).expect_err(url);
            assert!(!format!("{error} {error:?}").contains("canary"));
        }
        let redis = Redis::at("rediss://:canary@host:6380/1", PATIENCE).expect("a URL");
        assert!(!format!("{redis:?}").contains("canary"));
    }

    #[tokio::test]
    async fn without_a_connection_callers_are_told_at_once() {
        let redis = Redis::at("redis://127.0.0.1:1", PATIENCE).expect("a URL");
        let none: [&str; 0] = [];
        let answer = redis.run::<()>(&Script::new("return 1"), &none, &none).await;
        assert_eq!((answer, redis.is_up()), (Err(Unavailable::NotSent), false));
    }
}
