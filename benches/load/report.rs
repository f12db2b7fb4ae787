//! Rounds into medians, medians into a table for people or JSON for programs.

use std::{fmt::Write, time::Duration};

use serde_json::{Value, json};

use super::{
    client::Tally,
    payload::{EVENTS, Kind},
};

/// What was measured: one kind of answer at a number of connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// The kind of answer.
    pub kind: Kind,
    /// Connections that ask at the same time.
    pub connections: usize,
}

impl Scenario {
    /// Its name, also on the command line.
    pub fn name(self) -> String {
        format!("{}/{}", self.kind.model(), self.connections)
    }
}

/// One round of one scenario against one target.
pub struct Round {
    /// The scenario's name.
    pub scenario: Scenario,
    /// The target's name.
    pub target: &'static str,
    /// How long it was measured.
    pub took: Duration,
    /// Processor time of the target meanwhile; of the mock itself, where nothing stands in between.
    pub cpu: Duration,
    /// What the loader saw.
    pub tally: Tally,
}

/// Figures of one target in one scenario, the median of all rounds each.
struct Line {
    target: &'static str,
    per_second: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    first_p50_us: f64,
    cpu_us_per_request: f64,
    cpu_us_per_event: f64,
    answers: u64,
}

/// Memory of the gateway, in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Before the first request under load.
    pub idle_kib: u64,
    /// After the last.
    pub loaded_kib: u64,
    /// At its highest.
    pub highest_kib: u64,
}

/// All that was found.
pub struct Report {
    /// Every round.
    pub rounds: Vec<Round>,
    /// The gateway's, if it was measured.
    pub memory: Option<Memory>,
    /// Requests that the gateway answered, and those that are in its ledger.
    pub ledger: Option<(u64, u64)>,
    /// What deserves to be known about the run.
    pub notes: Vec<String>,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[length / 2],
        length => f64::midpoint(values[length / 2 - 1], values[length / 2]),
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn per(whole: f64, parts: f64) -> f64 {
    if parts > 0.0 { whole / parts } else { 0.0 }
}

impl Report {
    fn scenarios(&self) -> Vec<Scenario> {
        let mut found = Vec::new();
        for round in &self.rounds {
            if !found.contains(&round.scenario) {
                found.push(round.scenario);
            }
        }
        found
    }

    fn lines(&self, scenario: Scenario) -> Vec<Line> {
        let rounds = |target: &str| {
            let target = target.to_owned();
            self.rounds.iter().filter(move |round| round.scenario == scenario && round.target == target)
        };
        let mut targets: Vec<&'static str> = Vec::new();
        for round in self.rounds.iter().filter(|round| round.scenario == scenario) {
            if !targets.contains(&round.target) {
                targets.push(round.target);
            }
        }
        let line = |target: &'static str| {
            let figure = |of: &dyn Fn(&Round) -> f64| median(rounds(target).map(of).collect());
            let quantile = |of: f64| figure(&|round| micros(round.tally.latency.quantile(of)));
            // A stream that lasts longer than a second is not cut at the edges: its events are counted instead.
            let answers = |round: &Round| match scenario.kind {
                Kind::Plain => round.tally.answers as f64,
                Kind::Burst | Kind::Paced => round.tally.events as f64 / EVENTS as f64,
            };
            Line {
                target,
                per_second: figure(&|round| per(answers(round), round.took.as_secs_f64())),
                p50_us: quantile(0.5),
                p90_us: quantile(0.9),
                p99_us: quantile(0.99),
                first_p50_us: figure(&|round| micros(round.tally.first.quantile(0.5))),
                cpu_us_per_request: figure(&|round| per(micros(round.cpu), answers(round))),
                cpu_us_per_event: figure(&|round| per(micros(round.cpu), round.tally.events as f64)),
                answers: rounds(target).map(|round| round.tally.answers).sum(),
            }
        };
        targets.into_iter().map(line).collect()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for scenario in self.scenarios() {
            let lines = self.lines(scenario);
            let direct = lines.iter().find(|line| line.target == DIRECT);
            let bare = lines.iter().find(|line| line.target == BARE);
            let streams = scenario.kind != Kind::Plain;
            let what = match scenario.kind {
                Kind::Plain => "complete answers",
                Kind::Burst => "streams, all events at once",
                Kind::Paced => "streams, one event every 4 ms",
            };
            writeln!(text, "\n{}: {what}, {} connections", scenario.name(), scenario.connections).ok();
            write!(text, "{:<10}{:>10}{:>11}{:>11}{:>11}", "", "req/s", "p50 µs", "p90 µs", "p99 µs").ok();
            write!(text, "{:>11}{:>13}{:>10}{:>10}", "+p50 µs", "CPU µs/req", "÷ bare", "req/s ÷").ok();
            writeln!(text, "{}", if streams { "  CPU µs/event  first p50 µs" } else { "" }).ok();
            for line in &lines {
                let added = direct.map_or(0.0, |direct| line.p50_us - direct.p50_us);
                let cpu = bare.map_or(0.0, |bare| per(line.cpu_us_per_request, bare.cpu_us_per_request));
                let speed = bare.map_or(0.0, |bare| per(line.per_second, bare.per_second));
                write!(text, "{:<10}{:>10.0}{:>11.0}", line.target, line.per_second, line.p50_us).ok();
                write!(text, "{:>11.0}{:>11.0}{added:>11.0}", line.p90_us, line.p99_us).ok();
                write!(text, "{:>13.1}{cpu:>10.2}{speed:>10.2}", line.cpu_us_per_request).ok();
                if streams {
                    write!(text, "{:>14.2}{:>14.0}", line.cpu_us_per_event, line.first_p50_us).ok();
                }
                text.push('\n');
            }
        }
        text.push('\n');
        if let Some(Memory { idle_kib, loaded_kib, highest_kib }) = self.memory {
            let mib = |kib: u64| kib as f64 / 1024.0;
            writeln!(
                text,
                "gateway memory: {:.1} MiB idle, {:.1} MiB after the load, {:.1} MiB at most",
                mib(idle_kib),
                mib(loaded_kib),
                mib(highest_kib)
            )
            .ok();
        }
        if let Some((answered, recorded)) = self.ledger {
            writeln!(text, "ledger: {answered} requests answered, {recorded} recorded").ok();
        }
        for note in &self.notes {
            writeln!(text, "note: {note}").ok();
        }
        text
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let scenario = |scenario: Scenario| {
            let line = |line: &Line| {
                json!({
                    "target": line.target, "requests_per_second": line.per_second, "p50_us": line.p50_us,
                    "p90_us": line.p90_us, "p99_us": line.p99_us, "first_p50_us": line.first_p50_us,
                    "cpu_us_per_request": line.cpu_us_per_request, "cpu_us_per_event": line.cpu_us_per_event,
                    "answers": line.answers,
                })
            };
            let lines: Vec<Value> = self.lines(scenario).iter().map(line).collect();
            json!({ "name": scenario.name(), "connections": scenario.connections, "targets": lines })
        };
        json!({
            "scenarios": self.scenarios().into_iter().map(scenario).collect::<Vec<_>>(),
            "gateway_memory_kib": self.memory.map(|memory| json!({
                "idle": memory.idle_kib, "loaded": memory.loaded_kib, "highest": memory.highest_kib,
            })),
            "ledger": self.ledger.map(|(answered, recorded)| json!({ "answered": answered, "recorded": recorded })),
            "notes": self.notes,
        })
    }
}

/// The loader straight to the mock.
pub const DIRECT: &str = "direct";
/// The bare pass-through.
pub const BARE: &str = "bare";
/// nginx.
pub const NGINX: &str = "nginx";
/// The gateway.
pub const GATEWAY: &str = "keystile";
/// The gateway with a key that has no cap: what is left is what the cap costs.
pub const UNCAPPED: &str = "uncapped";
