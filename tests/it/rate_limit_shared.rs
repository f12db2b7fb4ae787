//! Rate limits of several instances: together in Redis, or each its share. They need a Redis server, which
//! `TEST_REDIS_URL` names; without it they say that they were skipped. Between it and the limits lies a cable that can be
//! cut.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use keystile::{
    config::SecretText,
    domain::{Limits, Scope, TenantId, VirtualKeyId},
    limits::{
        Counters, InFlight, LimitKind, Limiter, Limiters, Share, Shared, Ticks, check_request, check_tokens,
    },
    redis::Redis,
};
use serde_json::json;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use url::Url;

use crate::support::{Setup, Upstream, chat_ok, eventually, soon, usage};

/// The server to test with.
#[expect(clippy::disallowed_methods, reason = "a test has no settings")]
fn server() -> Option<Url> {
    match std::env::var("TEST_REDIS_URL") {
        Ok(url) => Some(url.parse().expect("TEST_REDIS_URL is a URL")),
        Err(_) => {
            eprintln!("skipped: `TEST_REDIS_URL` names no Redis server");
            None
        }
    }
}

/// What the cable does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// Everything passes.
    Whole,
    /// Connections break, and new ones do.
    Cut,
    /// Connections stand, and nothing passes.
    Silent,
}

/// A way to the server that can be cut.
struct Cable {
    url: String,
    line: watch::Sender<Line>,
    _pull: tokio::task::JoinSet<()>,
}

impl Cable {
    async fn to(server: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(listener.local_addr().expect("an address").port())).expect("a port");
        let there = (server.host_str().expect("a host").to_owned(), server.port().unwrap_or(6379));
        let (line, looked_at) = watch::channel(Line::Whole);
        let mut pull = tokio::task::JoinSet::new();
        pull.spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (near, _) = listener.accept().await.expect("a connection");
                open.spawn(carry(near, there.clone(), looked_at.clone()));
            }
        });
        Self { url: url.into(), line, _pull: pull }
    }

    fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

/// Carries one connection while the line is whole, holds it while it is silent, and drops it when it is cut.
async fn carry(mut near: TcpStream, there: (String, u16), mut line: watch::Receiver<Line>) {
    let Ok(mut far) = TcpStream::connect(there).await else { return };
    loop {
        let now = *line.borrow_and_update();
        match now {
            Line::Cut => return,
            Line::Silent => line.changed().await.unwrap_or(()),
            Line::Whole => tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => return,
                changed = line.changed() => if changed.is_err() { return },
            },
        }
    }
}

/// An instance, as far as limits go.
struct Instance {
    limiters: Limiters,
    shared: Shared,
    share: Share,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Instance {
    /// One that is connected, and so patient that a busy machine does not make it count elsewhere.
    async fn at(url: &str) -> Self {
        Self::with_patience(url, Duration::from_secs(5)).await
    }

    async fn with_patience(url: &str, patience: Duration) -> Self {
        let (tracker, stop, share) = (TaskTracker::new(), CancellationToken::new(), Share::default());
        let shared = Shared::start(Redis::at(url, patience).expect("a URL"), &tracker, &stop);
        let limiters = Limiters::counting(Ticks::system(), share.clone(), Counters::Redis(shared.clone()));
        let instance = Self { limiters, shared, share, tracker, stop };
        instance.is_up(true).await;
        instance
    }

    async fn is_up(&self, up: bool) {
        eventually("Redis to be noticed", || async { (self.shared.is_up() == up).then_some(()) }).await;
    }

    fn limiter(&self, scope: impl Into<Scope>, limits: &Limits) -> [Arc<Limiter>; 1] {
        [self.limiters.get(scope.into(), limits)]
    }

    /// Ends as a process does that is asked to.
    async fn end(self) {
        self.stop.cancel();
        self.tracker.close();
        soon("the tasks to end", self.tracker.wait()).await;
    }
}

fn rpm(rpm: u32) -> Limits {
    Limits { rpm: Some(rpm), ..Limits::default() }
}

fn tpm(tpm: u32) -> Limits {
    Limits { tpm: Some(tpm), ..Limits::default() }
}

fn parallel(most: u32) -> Limits {
    Limits { max_parallel: Some(most), ..Limits::default() }
}

/// What is left of the tokens a minute; `None` when nothing is.
async fn left(limiters: &[Arc<Limiter>]) -> Option<u64> {
    Some(check_tokens(limiters, 0).await.ok()?.tokens()?.remaining)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_grant_a_limit_on_requests_once_between_them() {
    let Some(server) = server() else { return };
    let (one, other) = (Instance::at(server.as_str()).await, Instance::at(server.as_str()).await);
    let key = VirtualKeyId::generate();
    // One a minute is refilled, so the test has a minute to ask for its burst.
    let (here, there) = (one.limiter(key, &rpm(50)), other.limiter(key, &rpm(50)));
    let asked = Instant::now();
    let answers =
        join_all((0..200).map(|turn| check_request(if turn % 2 == 0 { &here } else { &there }))).await;
    let passed = answers.iter().filter(|answer| answer.is_ok()).count();
    let refilled = asked.elapsed().as_millis() as usize * 50 / 60_000 + 1;
    assert!((50..=50 + refilled).contains(&passed), "{passed} in {:?}", asked.elapsed());
    assert_eq!((one.shared.failures(), other.shared.failures()), (0, 0), "nothing was counted elsewhere");

    let level = check_request(&one.limiter(VirtualKeyId::generate(), &rpm(60))).await.expect("another key");
    let level = level.requests().expect("limited");
    assert_eq!((level.limit, level.remaining), (60, 59));
    assert!(level.reset <= Duration::from_secs(1) && level.reset > Duration::from_millis(900), "{level:?}");
    let refused = check_request(&there).await.expect_err("used up");
    assert_eq!((refused.kind, refused.scope, refused.level.limit), (LimitKind::Requests, key.into(), 50));
    assert!((1..=2).contains(&refused.retry_after_seconds()), "one in 1.2 s");
    assert!(refused.level.reset > Duration::from_secs(50));
    let nothing = check_request(&one.limiter(VirtualKeyId::generate(), &rpm(0))).await.expect_err("zero");
    assert_eq!(nothing.retry_after_seconds(), 60);
}

#[tokio::test]
async fn a_request_takes_from_all_of_its_limits_or_from_none() {
    let Some(server) = server() else { return };
    let instance = Instance::at(server.as_str()).await;
    let (key, tenant) = (VirtualKeyId::generate(), TenantId::generate());
    let narrow = instance.limiters.get(tenant.into(), &Limits { tpm: Some(10), ..rpm(1) });
    let wide = instance.limiters.get(key.into(), &Limits { tpm: Some(1_000), ..rpm(10) });
    let both = [Arc::clone(&wide), narrow];
    let first = check_request(&both).await.expect("the first");
    assert_eq!(first.requests().map(|level| (level.limit, level.remaining)), Some((1, 0)), "the tightest");
    for _ in 0..5 {
        let refused = check_request(&both).await.expect_err("the tenant has none left");
        assert_eq!(refused.scope, tenant.into());
    }
    let level = check_request(&[Arc::clone(&wide)]).await.expect("the key has some").requests();
    assert_eq!(level.map(|level| level.remaining), Some(8), "refusals cost it nothing");

    let debit = check_tokens(&both, 100).await.expect("anything is left");
    let refused = check_tokens(&both, 100).await.expect_err("the tenant is in debt");
    assert_eq!((refused.kind, refused.scope), (LimitKind::Tokens, tenant.into()));
    // 90 below zero, at one in six seconds, and one to have.
    assert!((540..=546).contains(&refused.retry_after_seconds()), "{}", refused.retry_after_seconds());
    assert_eq!(left(&[Arc::clone(&wide)]).await, Some(900));
    drop(debit);
}

#[tokio::test]
async fn tokens_are_debited_for_all_and_corrected_for_all() {
    let Some(server) = server() else { return };
    let (one, other) = (Instance::at(server.as_str()).await, Instance::at(server.as_str()).await);
    let key = VirtualKeyId::generate();
    // Two a minute are refilled: nothing in the time of a test.
    let (here, there) = (one.limiter(key, &tpm(2)), other.limiter(key, &tpm(2)));
    let debit = check_tokens(&here, 50_000).await.expect("full");
    assert_eq!(debit.tokens().map(|level| (level.limit, level.remaining)), Some((2, 0)));
    assert_eq!(left(&there).await, None, "held by the other");
    debit.correct(1);
    eventually("the correction", || async { (left(&there).await == Some(1)).then_some(()) }).await;
    // Dropped, it gives everything back; used, it may go far below zero.
    drop(check_tokens(&there, 7).await.expect("one is left"));
    eventually("it to be given back", || async { (left(&here).await == Some(1)).then_some(()) }).await;
    check_tokens(&here, 0).await.expect("one is left").correct(u64::MAX);
    eventually("the debt", || async { left(&there).await.is_none().then_some(()) }).await;
    let refused = check_tokens(&there, 0).await.expect_err("in debt");
    assert!(refused.retry_after_seconds() > 1_000_000);
    assert_eq!((one.shared.dropped(), other.shared.dropped()), (0, 0));
}

#[tokio::test]
async fn places_are_shared_given_back_and_those_of_the_dead_are_free_again() {
    let Some(server) = server() else { return };
    let cable = Cable::to(&server).await;
    let (one, other) = (Instance::at(&cable.url).await, Instance::at(server.as_str()).await);
    let key = VirtualKeyId::generate();
    let (here, there) = (one.limiter(key, &parallel(2)), other.limiter(key, &parallel(2)));
    let first = check_request(&here).await.expect("a place");
    let second = check_request(&there).await.expect("the other place");
    for limiters in [&here, &there] {
        let refused = check_request(limiters).await.expect_err("no place");
        assert_eq!((refused.kind, refused.retry_after_seconds()), (LimitKind::Parallel, 1));
    }
    drop(first);
    let enter = || async { check_request(&there).await.ok() };
    let third: InFlight = eventually("the place that was given back", enter).await;
    assert!(check_request(&here).await.is_err());
    // The other one ends in good order, and its places are free at once.
    drop((second, third));
    other.end().await;
    let both = [check_request(&here).await.expect("a place"), check_request(&here).await.expect("a place")];

    // This one dies with both places taken.
    let other = Instance::at(server.as_str()).await;
    let there = other.limiter(key, &parallel(2));
    assert!(check_request(&there).await.is_err());
    cable.set(Line::Cut);
    one.is_up(false).await;
    let died = Instant::now();
    drop(eventually("the places of the dead", || async { check_request(&there).await.ok() }).await);
    assert!(died.elapsed() < Duration::from_secs(17), "{:?}", died.elapsed());
    drop(both);
}

#[tokio::test]
async fn a_request_that_runs_long_keeps_its_place() {
    let Some(server) = server() else { return };
    let (one, other) = (Instance::at(server.as_str()).await, Instance::at(server.as_str()).await);
    let key = VirtualKeyId::generate();
    let (here, there) = (one.limiter(key, &parallel(1)), other.limiter(key, &parallel(1)));
    let running = check_request(&here).await.expect("a place");
    let longer_than_a_count_holds = Instant::now() + Duration::from_secs(17);
    soon("the time to pass", async {
        let mut turns = tokio::time::interval(Duration::from_millis(50));
        while Instant::now() < longer_than_a_count_holds {
            turns.tick().await;
            assert!(check_request(&there).await.is_err(), "it still runs");
        }
    })
    .await;
    drop(running);
    drop(eventually("the place", || async { check_request(&there).await.ok() }).await);
}

#[tokio::test]
async fn without_redis_each_instance_grants_its_share_and_nobody_waits() {
    let Some(server) = server() else { return };
    for how in [Line::Cut, Line::Silent] {
        let cable = Cable::to(&server).await;
        let instance = Instance::with_patience(&cable.url, Duration::from_millis(200)).await;
        instance.share.set(2);
        let limits = Limits { tpm: Some(1_000), max_parallel: Some(3), ..rpm(10) };
        let limiters = instance.limiter(VirtualKeyId::generate(), &limits);
        let held = check_tokens(&limiters, 600).await.expect("full");
        let level = check_request(&limiters).await.expect("a request").requests().expect("limited");
        assert_eq!((level.limit, level.remaining), (10, 9), "together");
        cable.set(how);
        // The first may find out; then nobody asks any more.
        drop(check_request(&limiters).await.expect("it goes on"));
        instance.is_up(false).await;
        let asked = Instant::now();
        let mut taken = 0;
        while check_request(&limiters).await.is_ok() {
            taken += 1;
        }
        assert!((3..=5).contains(&taken), "half of ten, one of them asked before: {taken}");
        assert!(asked.elapsed() < Duration::from_millis(200), "{:?}", asked.elapsed());
        let tokens = check_tokens(&limiters, 100).await.expect("half of a thousand").tokens();
        assert_eq!(tokens.map(|level| (level.limit, level.remaining)), Some((1_000, 400)));
        assert!(instance.shared.failures() > 0);
        // Settled while nobody listens: told later.
        held.correct(100);

        cable.set(Line::Whole);
        let back = Instant::now();
        instance.is_up(true).await;
        assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
        eventually("the correction", || async { left(&limiters).await.filter(|left| *left >= 900) }).await;
        let level = check_request(&limiters).await.expect("together again").requests().expect("limited");
        assert!(level.remaining >= 7, "Redis knows of what it was asked: {level:?}");
        assert_eq!(instance.shared.dropped(), 0);
        instance.end().await;
    }
}

#[tokio::test]
async fn places_are_divided_while_redis_is_away() {
    let Some(server) = server() else { return };
    let cable = Cable::to(&server).await;
    let instance = Instance::at(&cable.url).await;
    instance.share.set(2);
    let limiters = instance.limiter(VirtualKeyId::generate(), &parallel(3));
    let all = [
        check_request(&limiters).await.expect("one"),
        check_request(&limiters).await.expect("two"),
        check_request(&limiters).await.expect("three"),
    ];
    cable.set(Line::Cut);
    instance.is_up(false).await;
    assert!(check_request(&limiters).await.is_err());
    let [first, second, _third] = all;
    drop(first);
    assert!(check_request(&limiters).await.is_err(), "two of three run, and two is the share");
    drop(second);
    drop(check_request(&limiters).await.expect("one of two"));
}

#[tokio::test]
async fn no_id_is_to_be_read_in_redis_and_everything_goes_by_itself() {
    let Some(server) = server() else { return };
    let instance = Instance::at(server.as_str()).await;
    let (key, limits) =
        (VirtualKeyId::generate(), Limits { tpm: Some(60), max_parallel: Some(5), ..rpm(60) });
    let limiters = instance.limiter(key, &limits);
    let running = check_request(&limiters).await.expect("in");
    let debit = check_tokens(&limiters, 30).await.expect("full");
    let client = redis::Client::open(server.as_str()).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.expect("names");
    assert!(names.len() >= 3, "{names:?}");
    for name in names {
        assert!(name.starts_with("keystile:"), "{name}");
        assert!(!name.contains(&key.to_string()), "{name}");
        let life: i64 =
            redis::cmd("PTTL").arg(&name).query_async(&mut connection).await.expect("a time to live");
        // -2: it went meanwhile.
        assert_ne!(life, -1, "{name} would stay for ever");
    }
    debit.correct(30);
    drop(running);
}

#[tokio::test]
async fn a_gateway_counts_in_redis_and_goes_on_without_it() {
    let Some(server) = server() else { return };
    let cable = Cable::to(&server).await;
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let with_redis = |config: &mut keystile::config::Config| {
        config.redis.url = Some(SecretText::new(cable.url.as_str()));
        config.redis.timeout = Duration::from_secs(5);
    };
    let gateway = Setup::new().await.allow(&upstream).with(with_redis).start().await;
    gateway.provider_key("openai", &upstream).await;
    let key = gateway.virtual_key(json!({ "rate_limit_rpm": 3, "max_parallel": 2 })).await;
    let page = || async {
        gateway.admin(reqwest::Method::GET, "/metrics", None).await.expect(200).text().to_owned()
    };
    let shows = |line: &'static str| async move {
        eventually(line, || async { page().await.lines().any(|found| found == line).then_some(()) }).await;
    };
    shows("keystile_redis_up 1").await;
    for _ in 0..3 {
        gateway.chat(&key, json!({})).await.expect(200);
    }
    let reply = gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    assert_eq!(reply.header("x-ratelimit-limit-requests"), Some("3"));
    assert_eq!(reply.header("x-ratelimit-remaining-requests"), Some("0"));
    let retry: u64 = reply.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((1..=20).contains(&retry), "{retry}");
    // Another instance, or this one after a restart, finds it used up.
    let other = Instance::at(server.as_str()).await;
    let id = key.id.parse::<VirtualKeyId>().expect("an id");
    let limits = Limits { max_parallel: Some(2), ..rpm(3) };
    assert!(check_request(&other.limiter(id, &limits)).await.is_err());

    cable.set(Line::Cut);
    gateway.chat(&key, json!({})).await.expect(200);
    shows("keystile_redis_up 0").await;
    assert!(!page().await.contains("keystile_redis_failures_total 0"));
    gateway.read("/health", &key).await.expect(200);
    cable.set(Line::Whole);
    shows("keystile_redis_up 1").await;
    gateway.chat(&key, json!({})).await.refused(429, "rate_limit_exceeded");
    assert_eq!(gateway.stop(Duration::from_secs(5)).await.lost, 0);
}
