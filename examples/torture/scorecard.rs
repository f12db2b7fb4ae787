//! What a run came to, as a plain table.

use std::time::Duration;

use super::{clients::Seen, killer::Strikes, verdict::Verdict};

/// Failures of one kind that are named.
const NAMED: usize = 20;

/// Prints it. Answers whether nothing is wrong.
pub fn print(
    seconds: f64,
    sent: u64,
    halves: u64,
    seen: &Seen,
    strikes: &Strikes,
    verdict: &Verdict,
    ended_badly: u64,
) -> bool {
    let row = |what: &str, value: String| println!("{what:<58} {value:>12}");
    let mut recoveries = strikes.recoveries.clone();
    recoveries.sort_unstable();
    let millis =
        |time: Option<&Duration>| format!("{:.0} ms", time.map_or(0.0, |time| time.as_secs_f64() * 1e3));
    let statuses: Vec<String> =
        seen.statuses.iter().map(|(status, count)| format!("{status}: {count}")).collect();
    let outcomes: Vec<String> =
        verdict.outcomes.iter().map(|(name, count)| format!("{name}: {count}")).collect();

    println!();
    row("seconds", format!("{seconds:.0}"));
    row("requests sent by clients", sent.to_string());
    row("  answered to the end", seen.finished.len().to_string());
    row("  broken off in the middle", seen.broken.to_string());
    row("  left by the client in the middle", seen.left.to_string());
    row("  without an answer", seen.unanswered.to_string());
    row("requests in the provider's log", verdict.logged.to_string());
    row("  and of which only a part arrived", halves.to_string());
    row("usage rows", verdict.rows.to_string());
    row("  recovered with a cost, not in the provider's log", verdict.recovered_unlogged.to_string());
    row("SIGKILL under load", strikes.killed.to_string());
    row("SIGKILL while starting", strikes.killed_early.to_string());
    row("SIGTERM", strikes.terminated.to_string());
    row("SIGSTOP and SIGCONT", strikes.stopped.to_string());
    row("restarts", recoveries.len().to_string());
    row("  until ready, median", millis(recoveries.get(recoveries.len() / 2)));
    row("  until ready, 95 %", millis(recoveries.get(recoveries.len() * 95 / 100)));
    row("  until ready, longest", millis(recoveries.last()));
    row("caps", verdict.caps.to_string());
    row("  used up", verdict.used_up.to_string());
    println!("answers by status: {}", statuses.join(", "));
    println!("rows by outcome: {}", outcomes.join(", "));

    println!("\nmust be 0");
    for failures in &verdict.failures {
        row(failures.what, failures.who.len().to_string());
    }
    row("gateways that did not end well after SIGTERM", ended_badly.to_string());
    for failures in verdict.failures.iter().filter(|failures| !failures.who.is_empty()) {
        println!("\n{}:", failures.what);
        for who in failures.who.iter().take(NAMED) {
            println!("  {who}");
        }
        if failures.who.len() > NAMED {
            println!("  and {} more", failures.who.len() - NAMED);
        }
    }
    verdict.is_good() && ended_badly == 0
}
