//! A disk that is really full: a file system of a few MiB in memory, mounted for the test. Only root may mount; without it
//! the tests say that they were skipped.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use keystile::{config::SecretText, domain::NanoUsd, store::sqlite_url};
use serde_json::json;
use tempfile::TempDir;

use crate::support::{
    Answer, Gate, Gateway, Setup, Stream, Upstream, VirtualKey, chat_events, chat_ok, done, eventually,
    usage, usage_chunk,
};

/// A small disk.
struct Disk {
    dir: TempDir,
}

impl Disk {
    /// `None` where nothing can be mounted, and says so.
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let size = format!("size={mebibytes}m,mode=700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        if mounted.is_ok_and(|mounted| mounted.status.success()) {
            return Some(Self { dir });
        }
        println!("skipped: only root may mount a small disk, and not everywhere");
        None
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn ballast(&self) -> PathBuf {
        self.dir.path().join("ballast")
    }

    /// Takes all the space that is left, to the last byte.
    fn fill(&self) {
        let mut ballast = File::options().create(true).append(true).open(self.ballast()).expect("a file");
        for size in [65_536, 4_096, 1] {
            while ballast.write_all(&vec![0x2a; size]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: whatever a failed test has left open there must not keep it.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).output();
    }
}

const HELD: usize = 8;

/// A gateway with its data on `disk`, and its database at `database`, where that is another disk.
async fn gateway_on(disk: &Disk, database: Option<&Path>, upstream: &Upstream) -> (Gateway, VirtualKey) {
    let setup = Setup::new().await.allow(upstream).with(|config| {
        config.server.data_dir = disk.path().join("data");
        config.ledger.segment_bytes = 64 * 1024;
        if config.database_url.is_none() {
            config.database_url = database.map(|file| SecretText::new(sqlite_url(file)));
        }
    });
    let gateway = setup.start().await;
    gateway.provider_key("openai", upstream).await;
    let key = gateway.virtual_key(json!({ "spend_cap_micro_usd": 1_000_000 })).await;
    gateway.chat(&key, json!({ "max_tokens": 20 })).await.expect(200);
    gateway.usage_of(1).await;
    (gateway, key)
}

/// Streams that stop in the middle until the gate opens.
async fn held_streams(gateway: &Gateway, key: &VirtualKey, upstream: &Upstream, gate: &Gate) -> Vec<Stream> {
    let events = chat_events(&["one"]);
    let held = Answer::stream().send(&events[0]).send(&events[1]).wait(gate).send(&events[2]);
    upstream.answer(held.send(usage_chunk(&usage(10, 5))).send(done()).end());
    let mut streams = Vec::new();
    for _ in 0..HELD {
        let mut stream = gateway.stream(key, json!({ "max_tokens": 20 })).await;
        assert_eq!(stream.frame().await.as_ref(), Some(&events[0]));
        streams.push(stream);
    }
    upstream.answer(chat_ok("hi", &usage(10, 5)));
    streams
}

/// Asks until it is refused, at most as often as the room that was taken before can explain, and then still is. Answers
/// how many were served.
async fn until_refused(gateway: &Gateway, key: &VirtualKey, upstream: &Upstream) -> usize {
    let mut served = 0;
    loop {
        let before = upstream.count();
        let reply = gateway.chat(key, json!({ "max_tokens": 20 })).await;
        if reply.status != 200 {
            let refused = reply.refused(503, "ledger_unavailable");
            assert!(refused.header("retry-after").is_some());
            assert_eq!(upstream.count(), before, "what cannot be noted is not sent");
            return served;
        }
        served += 1;
        assert!(served < 5_000, "the room on the disk is bounded");
    }
}

/// A full disk under `disk`, from the first refusal to the last row.
async fn fills_and_is_freed(disk: &Disk, database: Option<&Path>) {
    let gate = Gate::new();
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = gateway_on(disk, database, &upstream).await;
    let streams = held_streams(&gateway, &key, &upstream, &gate).await;
    disk.fill();
    until_refused(&gateway, &key, &upstream).await;
    for _ in 0..3 {
        disk.fill();
        until_refused(&gateway, &key, &upstream).await;
    }

    // What had begun ends as if nothing were wrong: there is room for every end that was promised one.
    gate.open();
    for stream in streams {
        assert!(stream.text().await.ends_with(&done()));
    }
    assert_eq!(gateway.reserved(), NanoUsd::ZERO);
    assert!(!gateway.app.house.ledger.counts().journal.broken, "a full disk is not a broken one");

    disk.free();
    eventually("service to come back", || async {
        (gateway.chat(&key, json!({ "max_tokens": 20 })).await.status == 200).then_some(())
    })
    .await;
    let rows = gateway.usage_of(upstream.count()).await;
    assert!(rows.iter().all(|row| row["outcome"] == "ok" && row["usage_source"] == "provider"), "{rows:#?}");
    let stopped = gateway.stop(Duration::from_secs(5)).await;
    assert_eq!(stopped.lost, 0);
    let gateway = stopped.again.start().await;
    assert_eq!(gateway.usage_of(upstream.count()).await.len(), upstream.count());
    gateway.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_p24_a_journal_whose_disk_is_full_sends_nothing_new_closes_what_is_open_and_heals_fm_o09() {
    let Some(disk) = Disk::mount(8) else { return };
    let elsewhere = tempfile::tempdir().expect("a directory");
    Box::pin(fills_and_is_freed(&disk, Some(&elsewhere.path().join("keystile.db")))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_p24_a_database_and_journal_on_one_full_disk_lose_nothing_fm_o09() {
    let Some(disk) = Disk::mount(16) else { return };
    // On Postgres the database is on the server's disk, and this is the test before.
    Box::pin(fills_and_is_freed(&disk, None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p07_p24_a_start_on_a_full_disk_serves_until_its_room_is_used_and_loses_nothing_fm_o09() {
    let Some(disk) = Disk::mount(8) else { return };
    let elsewhere = tempfile::tempdir().expect("a directory");
    let upstream = Upstream::always(chat_ok("hi", &usage(10, 5))).await;
    let (gateway, key) = gateway_on(&disk, Some(&elsewhere.path().join("keystile.db")), &upstream).await;
    for _ in 0..20 {
        gateway.chat(&key, json!({ "max_tokens": 20 })).await.expect(200);
    }
    let again = gateway.stop(Duration::from_secs(5)).await.again;
    disk.fill();
    // What the run before had in reserve is enough to begin with.
    let gateway = again.start().await;
    disk.fill();
    until_refused(&gateway, &key, &upstream).await;
    let again = gateway.stop(Duration::from_secs(5)).await.again;
    disk.free();
    let gateway = again.start().await;
    gateway.chat(&key, json!({ "max_tokens": 20 })).await.expect(200);
    assert_eq!(gateway.usage_of(upstream.count()).await.len(), upstream.count());
    gateway.stop(Duration::from_secs(5)).await;
}
