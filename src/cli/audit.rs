//! `keystile audit …` and `keystile events …`

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{
    Shared, open,
    output::{self, Table, or_dash},
};
use crate::{
    control::{AuditQuery, AuditView, Checkpoint, Control, Fit},
    domain::Actor,
    store::Page,
};

#[derive(Subcommand)]
pub(super) enum Audit {
    /// The newest entries, newest first.
    List(List),
    /// Walk the whole chain and name the first entry that does not hold.
    Verify {
        /// The head that is known from elsewhere, as `SEQ:MAC`: shows that nothing was cut off.
        #[arg(long, value_name = "SEQ:MAC")]
        expect_head: Option<String>,
        /// A file of checkpoints, one JSON line each: shows that each fits the chain.
        #[arg(long, value_name = "FILE")]
        checkpoints: Option<PathBuf>,
    },
    /// Everything that matches as JSON lines, oldest first.
    Export(Export),
    /// Where the chain ends now, signed, as a JSON line.
    Checkpoint,
}

#[derive(Subcommand)]
pub(super) enum Events {
    /// The newest entries that match, newest first.
    List(List),
}

/// By what `--filter` filters.
const FILTER: &str = "`action=…`, `category=…`, `actor=…`, `outcome=…`, `object=…`, `from=…` or `to=…`; with commas, or given more than once";

#[derive(Args)]
pub(super) struct Export {
    /// Not before: RFC 3339 or a UTC date.
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before: RFC 3339 or a UTC date.
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    #[arg(long, value_name = "NAME=VALUE", help = FILTER)]
    filter: Vec<String>,
}

#[derive(Args)]
pub(super) struct List {
    #[arg(long, value_name = "NAME=VALUE", help = FILTER)]
    filter: Vec<String>,
    /// How many.
    #[arg(long, default_value_t = 50)]
    limit: u64,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        match self {
            Self::List(list) => list.run(shared).await,
            Self::Verify { expect_head, checkpoints } => {
                verify(shared, expect_head.as_deref(), checkpoints).await
            }
            Self::Export(export) => export.run(shared).await,
            Self::Checkpoint => {
                let checkpoint = open::control(shared).await?.audit_checkpoint().await?;
                output::line(serde_json::to_string(&checkpoint)?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

impl Events {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let Self::List(list) = self;
        list.run(shared).await
    }
}

impl List {
    async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let query = asked(&self.filter)?;
        anyhow::ensure!(self.limit > 0, "`--limit` must be at least 1");
        let entries = newest(&open::control(shared).await?, &query, self.limit).await?;
        if self.json {
            output::json(&entries)?
        } else {
            table(&entries).print()?
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Export {
    async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let mut query = asked(&self.filter)?;
        for (name, value) in [("from", self.from), ("to", self.to)] {
            if let Some(value) = value {
                query.add(&format!("{name}={value}"))?;
            }
        }
        let mut export = open::control(shared).await?.audit_export(&Actor::Cli, &query).await?;
        loop {
            let page = export.next().await?;
            if page.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            let mut lines = String::new();
            for entry in &page {
                lines.push_str(&serde_json::to_string(entry)?);
                lines.push('\n');
            }
            output::text(&lines)?;
        }
    }
}

/// What `--filter` asks for.
fn asked(filters: &[String]) -> anyhow::Result<AuditQuery> {
    let mut query = AuditQuery::default();
    for terms in filters {
        query.add(terms)?;
    }
    Ok(query)
}

/// The newest `limit` entries, in as many pages as they take.
async fn newest(control: &Control, query: &AuditQuery, limit: u64) -> anyhow::Result<Vec<AuditView>> {
    let (mut entries, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let left = limit - entries.len() as u64;
        let page = Page::parse(Some(left), cursor.as_deref()).context("a page cannot be asked for")?;
        let mut found = control.audit_entries(&Actor::Cli, query, &page).await?;
        entries.append(&mut found.items);
        if found.next_cursor.is_none() || entries.len() as u64 >= limit {
            return Ok(entries);
        }
        cursor = found.next_cursor;
    }
}

async fn verify(
    shared: &Shared,
    expected: Option<&str>,
    checkpoints: Option<PathBuf>,
) -> anyhow::Result<ExitCode> {
    let expected = expected.map(head).transpose()?;
    let noted = match &checkpoints {
        None => None,
        Some(file) => {
            let bytes = fs::read(file).with_context(|| format!("`{}` cannot be read", file.display()))?;
            Some(readable(&bytes, file)?)
        }
    };
    let control = open::control(shared).await?;
    let verdict = control.audit_verify(expected).await?;
    if let Some(bad) = verdict.first_bad {
        // The exit code says it too, also when nobody reads.
        output::line(format_args!("broken at entry {}: {}", bad.seq, bad.why)).ok();
        return Ok(ExitCode::FAILURE);
    }
    let (mut good, mut pruned, mut unfit) = (0, 0, 0);
    for (line, checkpoint) in noted.iter().flatten() {
        match control.audit_fits(checkpoint).await? {
            Fit::Good => good += 1,
            Fit::Pruned => pruned += 1,
            Fit::Bad(why) => {
                unfit += 1;
                if unfit == 1 {
                    let seq = checkpoint.seq;
                    output::line(format_args!(
                        "the checkpoint of line {line} does not fit at entry {seq}: {why}"
                    ))
                    .ok();
                }
            }
        }
    }
    if unfit > 0 {
        output::line(format_args!("{unfit} checkpoints do not fit; {good} do")).ok();
        return Ok(ExitCode::FAILURE);
    }
    let entries = verdict.good - verdict.pruned;
    output::line(format_args!("{entries} entries hold; head {}:{}", verdict.head_seq, verdict.head_mac))?;
    if verdict.pruned > 0 {
        output::line(format_args!("the first {} were pruned", verdict.pruned))?;
    }
    if noted.is_some() {
        output::line(match pruned {
            0 => format!("{good} checkpoints fit"),
            _ => format!("{good} checkpoints fit; {pruned} are of entries that were pruned"),
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The head in `SEQ:MAC`.
fn head(text: &str) -> anyhow::Result<(i64, &str)> {
    let (seq, mac) = text.split_once(':').context("`--expect-head` is not `SEQ:MAC`")?;
    let seq = seq.parse().context("`--expect-head` begins with a number")?;
    // Every chain would have it, so that nothing would be shown.
    anyhow::ensure!(seq > 0, "`{seq}` in `--expect-head` is no head: entries are numbered from 1");
    Ok((seq, mac))
}

/// The checkpoints of a file, each with the number of its line. A line may be torn, as by a sink that was killed or a
/// full disk: that says nothing of the chain, and must not keep those around it from being looked at. How many there are
/// goes to stderr.
fn readable(bytes: &[u8], file: &Path) -> anyhow::Result<Vec<(usize, Checkpoint)>> {
    let (mut checkpoints, mut unreadable) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        match serde_json::from_slice(line) {
            _ if line.trim_ascii().is_empty() => {}
            Ok(checkpoint) => checkpoints.push((number, checkpoint)),
            Err(_) => unreadable.push(number),
        }
    }
    anyhow::ensure!(!checkpoints.is_empty(), "no line of `{}` is a checkpoint", file.display());
    if let Some(first) = unreadable.first() {
        let count = unreadable.len();
        eprintln!(
            "warning: {count} lines of `{}` are no checkpoints, the first is line {first}; all others are looked at",
            file.display()
        );
    }
    Ok(checkpoints)
}

fn table(entries: &[AuditView]) -> Table {
    let mut table = Table::new(["SEQ", "TIME", "ACTOR", "ACTION", "OBJECT", "OUTCOME", "DETAILS"]);
    for entry in entries {
        let details: Vec<String> =
            entry.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
        table.row([
            entry.seq.to_string(),
            entry.at.to_string(),
            entry.actor.clone(),
            entry.action.clone(),
            or_dash(entry.object.as_ref()),
            entry.outcome.clone(),
            details.join(" "),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_a_number_from_one_on() {
        assert_eq!(head("7:ab").expect("a head"), (7, "ab"));
        for (text, names) in
            [("0:ab", "no head"), ("-1:ab", "no head"), ("ab", "SEQ:MAC"), ("x:ab", "number")]
        {
            let refused = head(text).expect_err(text).to_string();
            assert!(refused.contains(names), "{text}: {refused}");
        }
    }
}
