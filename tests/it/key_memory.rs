//! How many copies of a provider key lie in the memory of a gateway that has forwarded a lot and rests. Buffers of libraries
//! and slack of the allocator keep some; what is shown is that they do not grow with the requests.

#![cfg(target_os = "linux")]

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    time::Duration,
};

use serde_json::json;

use crate::support::{Setup, Upstream, chat_ok, process::Process, usage};

const CANARY: &str = "sk-canary-of-the-memory-7f3a9c51e2";
const FIRST: usize = 100;
const MORE: usize = 600;
/// How many copies may lie there at all: some for each of a handful of connections.
const MOST: usize = 64;
/// How many may come with more requests, where a leak of one in a hundred would show.
const GROWTH: usize = 5;

/// Bytes of a page on every machine that we build for.
const PAGE: u64 = 4096;
/// Bytes that `/proc/PID/pagemap` has for each page, and the bits of it that say that the page is in memory or swapped out
/// (proc_pid_pagemap(5)).
const PAGE_ENTRY: u64 = 8;
const IS_THERE: u64 = 0b11 << 62;

/// Copies of `needle` in the memory of a process that can be written: what it has read, and not its program.
fn copies(process: u32, needle: &[u8]) -> io::Result<usize> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
    let memory = File::open(format!("/proc/{process}/mem"))?;
    let pages = File::open(format!("/proc/{process}/pagemap"))?;
    let mut found = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (Some(range), Some(mode)) = (words.next(), words.next()) else { continue };
        let Some((from, to)) = range.split_once('-') else { continue };
        let (Ok(from), Ok(to)) = (u64::from_str_radix(from, 16), u64::from_str_radix(to, 16)) else {
            continue;
        };
        if !mode.starts_with("rw") {
            continue;
        }
        for run in runs(&pages, from, to) {
            let mut bytes = vec![0; usize::try_from(run.end - run.start).expect("an address")];
            // A part that is gone meanwhile holds nothing.
            if memory.read_exact_at(&mut bytes, run.start).is_ok() {
                let begins = bytes.iter().enumerate().filter(|(_, byte)| **byte == needle[0]);
                found += begins.filter(|(at, _)| bytes[*at..].starts_with(needle)).count();
            }
        }
    }
    Ok(found)
}

/// The parts of a mapping that are really there: an allocator reserves a gigabyte and uses little of it.
fn runs(pages: &File, from: u64, to: u64) -> Vec<Range<u64>> {
    let mut entries = vec![0; usize::try_from((to - from) / PAGE * PAGE_ENTRY).expect("an address")];
    if pages.read_exact_at(&mut entries, from / PAGE * PAGE_ENTRY).is_err() {
        return Vec::new();
    }
    let mut runs: Vec<Range<u64>> = Vec::new();
    for (page, entry) in (from..to).step_by(PAGE as usize).zip(entries.chunks_exact(PAGE_ENTRY as usize)) {
        if u64::from_ne_bytes(entry.try_into().expect("eight bytes")) & IS_THERE == 0 {
            continue;
        }
        match runs.last_mut() {
            Some(last) if last.end == page => last.end += PAGE,
            _ => runs.push(page..page + PAGE),
        }
    }
    runs
}

#[tokio::test]
async fn at_055_copies_of_a_key_do_not_grow_with_the_requests() {
    let upstream = Upstream::always(chat_ok("hi", &usage(1, 1))).await;
    let gateway = Setup::new().await.allow(&upstream).start().await;
    gateway.provider_key_with("openai", &upstream, json!({ "api_key": CANARY })).await;
    let key = gateway.virtual_key(json!({})).await;
    // Another process, which the key only comes to out of the vault; the upload stays here.
    let setup = gateway.stop(Duration::from_secs(5)).await.again;
    let process = Process::serve(&setup).await;
    let forward = async |count: usize| {
        for _ in 0..count {
            process.chat(&key, json!({})).await.expect(200);
        }
    };
    forward(FIRST).await;
    let first = match copies(process.id(), CANARY.as_bytes()) {
        Ok(first) => first,
        // Who is no superuser is kept out, and that is as it should be.
        Err(refused) => {
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{refused}");
            return;
        }
    };
    forward(MORE).await;
    let last = copies(process.id(), CANARY.as_bytes()).expect("readable a moment ago");
    println!("copies of the key: {first} after {FIRST} requests, {last} after {}", FIRST + MORE);
    let model = copies(process.id(), b"gpt-4o-mini").expect("readable a moment ago");
    assert!(model > 0, "what is there is not found");
    assert!(last <= MOST, "{last} copies");
    assert!(last <= first + GROWTH, "{first} copies became {last}");
}
