//! The comparison: what the provider saw, what clients saw, and what the ledger says.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::{
    admin::Admin,
    clients::{Seen, nano},
    keys::Account,
    plan::{self, Plan},
};

/// Rows of one page.
const PAGE: usize = 500;

/// One usage row.
struct Row {
    n: u64,
    key: String,
    outcome: String,
    source: String,
    /// In nano-USD; 0 when no price is known, which is a failure of its own.
    cost: u64,
    input: u64,
    output: u64,
    clamped: bool,
}

/// One kind of failure and who is concerned.
pub struct Failures {
    /// In words.
    pub what: &'static str,
    /// Requests or accounts, with what is wrong.
    pub who: Vec<String>,
}

/// What the comparison found.
pub struct Verdict {
    /// Requests in the provider's log.
    pub logged: usize,
    /// Usage rows.
    pub rows: usize,
    /// Rows by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Recovered rows with a cost, of requests that never arrived at the provider in full.
    pub recovered_unlogged: u64,
    /// Caps that were checked.
    pub caps: usize,
    /// Of these: caps with less left than the cheapest request could need.
    pub used_up: usize,
    /// All that must be empty.
    pub failures: Vec<Failures>,
}

/// Compares.
///
/// # Errors
/// The admin API does not answer, or with something that is not understood.
pub async fn compare(
    admin: &Admin,
    seed: u64,
    log: &BTreeMap<u64, u64>,
    seen: &Seen,
    accounts: &[Account],
) -> Result<Verdict, String> {
    let rows = read_rows(admin).await?;
    let mut by_n: HashMap<u64, Vec<&Row>> = HashMap::with_capacity(rows.len());
    let mut outcomes = BTreeMap::new();
    for row in &rows {
        by_n.entry(row.n).or_default().push(row);
        *outcomes.entry(row.outcome.clone()).or_default() += 1;
    }
    let mut verdict = Verdict {
        logged: log.len(),
        rows: rows.len(),
        outcomes,
        recovered_unlogged: 0,
        caps: accounts.iter().filter(|account| account.cap.is_some()).count(),
        used_up: 0,
        failures: Vec::new(),
    };

    let lost = log.keys().filter(|n| !by_n.contains_key(n));
    verdict.fail("lost: in the provider's log, no usage row", lost.map(u64::to_string).collect());
    let double = by_n.iter().filter(|(_, rows)| rows.len() > 1);
    verdict.fail("double: two usage rows", double.map(|(n, _)| n.to_string()).collect());
    let again = log.iter().filter(|(_, times)| **times > 1);
    verdict.fail("sent twice: two lines in the provider's log", again.map(|(n, _)| n.to_string()).collect());
    let unpaid = rows.iter().filter(|row| row.cost == 0 && log.contains_key(&row.n));
    verdict.fail("unpaid: in the provider's log, charged nothing", unpaid.map(Row::shown).collect());
    verdict.unlogged(seed, &rows, log);
    // A recovered charge is what was reserved at most; the others are their tokens' price exactly.
    let mispriced =
        rows.iter().filter(|row| row.cost > 0 && row.outcome != "recovered" && row.cost != row.price());
    verdict.fail("cost is not that of the row's tokens", mispriced.map(Row::shown).collect());
    let clamped = rows.iter().filter(|row| row.clamped);
    verdict.fail("clamped, although the provider kept to what was asked", clamped.map(Row::shown).collect());
    verdict.seen(seed, &by_n, log, seen);
    verdict.balances(admin, &rows, accounts).await?;
    Ok(verdict)
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.failures.iter().all(|failures| failures.who.is_empty())
    }

    fn fail(&mut self, what: &'static str, who: Vec<String>) {
        self.failures.push(Failures { what, who });
    }

    /// A request that did not arrive in full may have a cost only where a crash left it open that bytes of it had gone
    /// out, and then no more than its input.
    fn unlogged(&mut self, seed: u64, rows: &[Row], log: &BTreeMap<u64, u64>) {
        let mut phantoms = Vec::new();
        for row in rows.iter().filter(|row| row.cost > 0 && !log.contains_key(&row.n)) {
            if row.outcome == "recovered" && row.cost <= Plan::of(seed, row.n).input_estimate() {
                self.recovered_unlogged += 1;
            } else {
                phantoms.push(row.shown());
            }
        }
        self.fail("phantom: charged, not in the provider's log", phantoms);
    }

    fn seen(&mut self, seed: u64, by_n: &HashMap<u64, Vec<&Row>>, log: &BTreeMap<u64, u64>, seen: &Seen) {
        let mut wrong = Vec::new();
        for finished in &seen.finished {
            let n = finished.n;
            let Some(row) = by_n.get(&n).and_then(|rows| rows.first()) else {
                wrong.push(format!("{n}: no row"));
                continue;
            };
            let plan = Plan::of(seed, n);
            let told = plan::cost(plan.prompt_tokens, plan.completion_tokens);
            let right = row.outcome == "ok"
                && row.key == finished.key
                && row.cost > 0
                && (plan.stream || finished.cost == Some(row.cost))
                && match plan.usage {
                    true => row.source == "provider" && row.cost == told,
                    false => row.source == "estimated",
                };
            if !right {
                wrong.push(format!(
                    "{} but its client read {:?}, planned {told}",
                    row.shown(),
                    finished.cost
                ));
            }
        }
        self.fail("answered to the end, but recorded otherwise", wrong);
        // These are said before anything is sent.
        let early = seen.refused.iter().filter(|(_, status)| matches!(status, 401..=403));
        let sent = early.filter(|(n, _)| log.contains_key(n));
        let sent = sent.map(|(n, status)| format!("{n}: {status}")).collect();
        self.fail("refused with 401, 402 or 403, but sent to the provider", sent);
    }

    async fn balances(&mut self, admin: &Admin, rows: &[Row], accounts: &[Account]) -> Result<(), String> {
        let mut sums: HashMap<&str, u64> = HashMap::new();
        for row in rows {
            *sums.entry(&row.key).or_default() += row.cost;
        }
        let (mut over, mut unequal, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for account in accounts {
            let list = if account.id.starts_with("bud_") { "budgets" } else { "virtual-keys" };
            let view = admin.call("GET", &format!("/api/{list}/{}", account.id), &Value::Null).await?;
            let figure = |name: &str| {
                view[name].as_u64().ok_or_else(|| format!("{} has no `{name}`: {view}", account.id))
            };
            let (spent, reserved) = (figure("spent_micro_usd")?, figure("reserved_micro_usd")?);
            let nano: u64 = account.keys.iter().filter_map(|key| sums.get(key.as_str())).sum();
            let shown = || format!("{}: spent {spent}, rows {nano} nano, cap {:?}", account.id, account.cap);
            if let Some(cap) = account.cap {
                if spent > cap || nano > cap * 1_000 {
                    over.push(shown());
                }
                self.used_up += usize::from(cap - spent.min(cap) < plan::cost(512, 64) / 1_000);
            }
            if nano.div_ceil(1_000) != spent {
                unequal.push(shown());
            }
            if reserved != 0 {
                held.push(format!("{}: {reserved} micro-USD", account.id));
            }
        }
        let known: BTreeSet<&str> = accounts.iter().flat_map(|each| &each.keys).map(String::as_str).collect();
        let strange = rows.iter().filter(|row| !known.contains(row.key.as_str()));
        unequal.extend(strange.map(|row| format!("{} is of a key that nobody asked with", row.shown())));
        self.fail("over its cap", over);
        self.fail("spent is not the sum of the rows", unequal);
        self.fail("reserved although nothing is under way", held);
        Ok(())
    }
}

impl Row {
    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Some(Self {
            n: value["tags"]["n"].as_str()?.parse().ok()?,
            key: text("virtual_key_id")?,
            outcome: text("outcome")?,
            source: text("usage_source")?,
            cost: if value["cost_micro_usd"].is_null() {
                0
            } else {
                nano(&value["cost_micro_usd"].to_string())?
            },
            input: value["input_tokens"].as_u64()?,
            output: value["output_tokens"].as_u64()?,
            clamped: value["clamped_micro_usd"].as_f64()? != 0.0,
        })
    }

    fn price(&self) -> u64 {
        plan::cost(self.input, self.output)
    }

    fn shown(&self) -> String {
        let Self { n, outcome, source, cost, input, output, .. } = self;
        format!("{n}: {outcome}, {source}, {cost} nano-USD for {input} + {output} tokens")
    }
}

async fn read_rows(admin: &Admin) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut path = format!("/api/usage?limit={PAGE}");
    loop {
        let page = admin.call("GET", &path, &Value::Null).await?;
        let data = page["data"].as_array().ok_or("a page of usage has no rows")?;
        for value in data {
            rows.push(Row::read(value).ok_or_else(|| format!("a row is not understood: {value}"))?);
        }
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/usage?limit={PAGE}&cursor={cursor}"),
            None => return Ok(rows),
        }
    }
}
