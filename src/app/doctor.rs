//! What a gateway stands on, looked at beside it: nothing is locked, changed or sent, and nothing secret is said.
//!
//! Every check stands for itself: when the database cannot be opened, the disk is still looked at.

use std::{error::Error, fmt, fs, io, path::Path};

use serde::Serialize;

use super::{Foundation, MasterKeys, egress_policy, foundation};
use crate::{
    config::Config,
    control::{Control, InstanceState, Notify},
    domain::{Actor, Clock},
    ledger::instance_in,
    store::{Options, Schema, Store},
    vault::Vault,
};

/// Audit entries that are checked; `keystile audit verify` checks all.
const AUDITED: u32 = 1_000;
const MIB: u64 = 1024 * 1024;
/// Less free disk than that is a failure: SQLite's log and the journal soon find no room.
const LITTLE_DISK: u64 = 128 * MIB;
/// Less than that is worth a warning.
const SOME_DISK: u64 = 1024 * MIB;

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Somebody should look.
    Warn,
    /// A gateway does not run so, or not for long.
    Fail,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What.
    pub check: &'static str,
    /// How it came out.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do; `None` when there is nothing.
    #[serde(rename = "do")]
    pub advice: Option<String>,
}

impl Check {
    /// As it should be.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Ok, found: found.into(), advice: None }
    }

    /// Somebody should look.
    pub fn warn(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, state: State::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    /// A gateway does not run so.
    pub fn fail(check: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, state: State::Fail, found: found.into(), advice: Some(advice.into()) }
    }
}

/// Looks at everything that can be seen from the data directory and the database.
pub async fn examine(config: &Config) -> Vec<Check> {
    let dir = &config.server.data_dir;
    let mut checks = vec![data_dir(dir), disk(dir)];
    let (database, store) = database(config).await;
    checks.push(database);
    if let Some(store) = store {
        let sealed = sealed(config, &store).await;
        let opens = sealed.state == State::Ok;
        checks.push(sealed);
        // A second look is only of use when the house's own secrets open.
        if opens {
            match control(config).await {
                Ok(control) => {
                    checks.push(prices(&control).await);
                    checks.push(audit(&control).await);
                    checks.push(instances(&control).await);
                }
                Err(found) => checks.push(Check::fail(
                    "secrets",
                    found,
                    "see what the message names; `keystile serve` says the same",
                )),
            }
        }
        // What is open is closed by the process's end; SQLite's log stays with the gateway.
        store.close().await.ok();
    }
    checks.push(journal(config));
    checks
}

fn data_dir(dir: &Path) -> Check {
    const NAME: &str = "data directory";
    let shown = dir.display();
    let meta = match fs::metadata(dir) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => return Check::fail(NAME, format!("`{shown}` is no directory"), "name another `--data-dir`"),
        Err(error) => {
            let advice = "give the gateway's `--data-dir`; `keystile serve` makes a new one";
            return Check::fail(NAME, format!("`{shown}`: {error}"), advice);
        }
    };
    use rustix::fs::{Access, access};
    if let Err(error) = access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        let advice = "change its owner or mode, so that the gateway's user may write it";
        return Check::fail(
            NAME,
            format!("`{shown}` may not be written: {}", io::Error::from(error)),
            advice,
        );
    }
    let mode = mode(&meta);
    if mode & 0o077 != 0 {
        let advice = format!("`chmod 700 {shown}`: it holds the master key and the database");
        return Check::warn(NAME, format!("`{shown}` is open to others, mode {mode:04o}"), advice);
    }
    Check::ok(NAME, format!("`{shown}` can be written, mode {mode:04o}"))
}

fn mode(meta: &fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777
}

fn disk(dir: &Path) -> Check {
    const NAME: &str = "disk";
    let free = match rustix::fs::statvfs(dir) {
        Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
        Err(error) => {
            let found = format!("its space cannot be read: {}", io::Error::from(error));
            return Check::warn(NAME, found, "see `data directory`");
        }
    };
    let found = format!("{} MiB are free in `{}`", free / MIB, dir.display());
    let advice = "make room: without it neither the journal nor the database takes anything";
    match free {
        _ if free < LITTLE_DISK => Check::fail(NAME, found, advice),
        _ if free < SOME_DISK => Check::warn(NAME, found, advice),
        _ => Check::ok(NAME, found),
    }
}

async fn database(config: &Config) -> (Check, Option<Store>) {
    const NAME: &str = "database";
    let file = config.database_file();
    // Opening would make it.
    if let Some(file) = &file
        && !file.exists()
    {
        let advice = "give the gateway's `--data-dir`, or run `keystile serve` once";
        return (Check::fail(NAME, format!("there is none at `{}`", file.display()), advice), None);
    }
    let options = Options { schema: Schema::Require, ..Options::default() };
    match Store::open_with(&config.database().0, options).await {
        Ok(store) => {
            let place =
                file.map_or_else(|| "Postgres".to_owned(), |file| format!("SQLite at `{}`", file.display()));
            (Check::ok(NAME, format!("{place} answers, its schema is current")), Some(store))
        }
        Err(error) => {
            let advice = "is it running, and is `database.url` right? `keystile serve` brings an old schema up to date";
            (Check::fail(NAME, chain(&error), advice), None)
        }
    }
}

async fn sealed(config: &Config, store: &Store) -> Check {
    const NAME: &str = "master keys";
    let advice = "set `PROVIDER_KEY_ENCRYPTION_KEY` (or `master.key`) to the keys that they were sealed with; a row that \
                  somebody changed must be stored anew";
    let rows = match store.sealed_rows().await {
        Ok(rows) => rows,
        Err(error) => return Check::fail(NAME, chain(&error), "see `database`"),
    };
    let ring = foundation::key_ring(config, MasterKeys::MustExist, rows.is_empty(), &mut Vec::new());
    let vault = match ring {
        Ok(ring) => Vault::new(ring, Clock::system()),
        Err(error) => return Check::fail(NAME, chain(&error), advice),
    };
    let closed: Vec<&str> = rows
        .iter()
        .filter(|row| foundation::opens(&vault, row).is_err())
        .map(|row| row.what.as_str())
        .collect();
    match closed.as_slice() {
        [] => Check::ok(NAME, format!("all {} sealed rows open", rows.len())),
        [first, ..] => {
            let found =
                format!("{} of {} sealed rows do not open, first `{first}`", closed.len(), rows.len());
            Check::fail(NAME, found, advice)
        }
    }
}

async fn control(config: &Config) -> Result<Control, String> {
    let foundation = Foundation::open(config, &Clock::system(), MasterKeys::MustExist).await;
    foundation
        .and_then(|foundation| foundation.control(config, egress_policy(config), None, Notify::nobody()))
        .map_err(|error| chain(&error))
}

async fn prices(control: &Control) -> Check {
    const NAME: &str = "prices";
    if let Err(error) = control.reload_prices().await {
        return Check::fail(NAME, chain(&error), "see `database`");
    }
    match control.catalogue.prices.load().models().count() {
        0 => Check::warn(NAME, "no model has a price", "set some: `keystile prices`, `PUT /api/prices`"),
        count => Check::ok(NAME, format!("{count} models have one")),
    }
}

async fn audit(control: &Control) -> Check {
    const NAME: &str = "audit log";
    match control.audit_verify_last(AUDITED).await {
        Ok(verdict) => match verdict.first_bad {
            None => {
                let checked = verdict.head_seq.min(AUDITED.into());
                Check::ok(NAME, format!("the last {checked} of {} entries hold", verdict.head_seq))
            }
            Some(bad) => Check::fail(
                NAME,
                format!("broken at entry {}: {}", bad.seq, bad.why),
                "`keystile audit verify` checks all; find out who changed the database, and compare with a backup",
            ),
        },
        Err(error) => Check::fail(NAME, chain(&error), "see `database`"),
    }
}

async fn instances(control: &Control) -> Check {
    const NAME: &str = "instances";
    let asked = async {
        let known = control.instances(&Actor::Cli).await?.items;
        Ok::<_, crate::control::ControlError>((known, control.unreconciled_total(&Actor::Cli).await?))
    };
    let (known, unreconciled) = match asked.await {
        Ok(found) => found,
        Err(error) => return Check::fail(NAME, chain(&error), "see `database`"),
    };
    let count = |state| known.iter().filter(|each| each.state == state).count();
    let (live, stopped) = (count(InstanceState::Live), count(InstanceState::Stopped));
    let holding: Vec<String> = known
        .iter()
        .filter(|each| each.state == InstanceState::Silent && each.leased_micro_usd > 0)
        .map(|each| each.id.to_string())
        .collect();
    let found = format!("{live} live, {} silent, {stopped} stopped", count(InstanceState::Silent));
    match holding.as_slice() {
        [] => Check::ok(NAME, format!("{found}; nothing is unreconciled")),
        ids => Check::warn(
            NAME,
            format!(
                "{found}; leases of {} count as spent, {} µUSD of them on virtual keys",
                ids.join(", "),
                unreconciled.micro_rounded_up()
            ),
            "start it again on its data directory, or, if that is lost, `keystile instances release ID`",
        ),
    }
}

fn journal(config: &Config) -> Check {
    const NAME: &str = "journal";
    let dir = foundation::journal_dir(config);
    let shown = dir.display();
    match instance_in(&dir) {
        Ok(Some(id)) => match size(&dir) {
            Ok(bytes) => Check::ok(NAME, format!("{id}, {} KiB in `{shown}`", bytes / 1024)),
            Err(error) => Check::fail(NAME, format!("`{shown}`: {error}"), "change its owner or mode"),
        },
        Ok(None) => Check::warn(
            NAME,
            format!("there is none in `{shown}`"),
            "nothing to do before the first `keystile serve`; after it, find out who took it away: it says what was spent",
        ),
        Err(error) => Check::fail(NAME, chain(&error), "look at the disk and at the files' owner"),
    }
}

fn size(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        match entry?.metadata() {
            Ok(meta) => bytes += meta.len(),
            // The gateway beside us removes what it no longer needs.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// An error and its causes, on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(&format!(": {source}"));
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_said_and_not_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.server.data_dir = dir.path().join("none");
        let checks = examine(&config).await;
        let state = |name| checks.iter().find(|check| check.check == name).map(|check| check.state);
        assert_eq!(state("data directory"), Some(State::Fail));
        assert_eq!(state("database"), Some(State::Fail));
        assert_eq!(state("journal"), Some(State::Warn));
        assert!(!config.server.data_dir.exists());
        assert!(
            checks.iter().all(|check| (check.state == State::Ok) == check.advice.is_none()),
            "{checks:?}"
        );
    }
}
