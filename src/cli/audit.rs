//! `keystile audit …` and `keystile events …`

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{
    Shared, open,
    output::{self, Table, or_dash},
};
use crate::{
    control::{AuditView, Control},
    domain::Actor,
    store::{AuditFilter, Page},
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
    },
}

#[derive(Subcommand)]
pub(super) enum Events {
    /// The newest entries that match, newest first.
    List(List),
}

#[derive(Args)]
pub(super) struct List {
    /// `category=…`, `action=…` or `actor=…`; may be given more than once.
    #[arg(long, value_name = "NAME=VALUE")]
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
            Self::Verify { expect_head } => verify(shared, expect_head.as_deref()).await,
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
    fn filter(&self) -> anyhow::Result<AuditFilter> {
        let mut filter = AuditFilter::default();
        for term in &self.filter {
            let (name, value) =
                term.split_once('=').with_context(|| format!("`{term}` is not `name=value`"))?;
            match name {
                "category" => filter.category = Some(value.into()),
                "action" => filter.action = Some(value.into()),
                "actor" => filter.actor = Some(value.into()),
                _ => anyhow::bail!("there is no filter `{name}`; use `category`, `action` or `actor`"),
            }
        }
        Ok(filter)
    }

    async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let filter = self.filter()?;
        anyhow::ensure!(self.limit > 0, "`--limit` must be at least 1");
        let entries = newest(&open::control(shared).await?, &filter, self.limit).await?;
        if self.json {
            output::json(&entries)?
        } else {
            table(&entries).print()?
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The newest `limit` entries, in as many pages as they take.
async fn newest(control: &Control, filter: &AuditFilter, limit: u64) -> anyhow::Result<Vec<AuditView>> {
    let (mut entries, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let left = limit - entries.len() as u64;
        let page = Page::parse(Some(left), cursor.as_deref()).context("a page cannot be asked for")?;
        let mut found = control.audit_entries(&Actor::Cli, filter, &page).await?;
        entries.append(&mut found.items);
        if found.next_cursor.is_none() || entries.len() as u64 >= limit {
            return Ok(entries);
        }
        cursor = found.next_cursor;
    }
}

async fn verify(shared: &Shared, expected: Option<&str>) -> anyhow::Result<ExitCode> {
    let expected = match expected {
        None => None,
        Some(text) => {
            let (seq, mac) = text.split_once(':').context("`--expect-head` is not `SEQ:MAC`")?;
            Some((seq.parse().context("`--expect-head` begins with a number")?, mac))
        }
    };
    let verdict = open::control(shared).await?.audit_verify(expected).await?;
    if let Some(bad) = verdict.first_bad {
        // The exit code says it too, also when nobody reads.
        output::line(format_args!("broken at entry {}: {}", bad.seq, bad.why)).ok();
        return Ok(ExitCode::FAILURE);
    }
    output::line(format_args!(
        "{} entries hold; head {}:{}",
        verdict.good, verdict.head_seq, verdict.head_mac
    ))?;
    Ok(ExitCode::SUCCESS)
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
