//! What a gateway stands on, looked at beside it: nothing is locked, changed or sent, and nothing secret is said.
//!
//! Every check stands for itself: when the database cannot be opened, the disk is still looked at.

use std::{collections::BTreeMap, fmt, fs, io, path::Path};

use serde::Serialize;

use super::{Foundation, MasterKeys, egress_policy, error::chain, foundation};
use crate::{
    config::Config,
    control::{Control, InstanceState, Notify},
    domain::{Actor, Clock, ProviderKeyId, TenantId},
    ledger::instance_in,
    store::{Options, ProviderKey, Schema, SealedText, Store, StoreError, TenantScope},
    vault::{SealedRow, Vault},
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

/// A tenant's key at a provider, looked at without its secret.
#[derive(Clone, Debug, Serialize)]
pub struct KeyLook {
    /// Which.
    pub id: ProviderKeyId,
    /// Whose.
    pub tenant_id: TenantId,
    /// At which provider.
    pub provider: String,
    /// For people.
    pub key_name: String,
    /// Under which master key it is sealed.
    pub master_key: String,
    /// Whether it opens for its row.
    pub opens: bool,
    /// Why not.
    pub why: Option<String>,
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// One thing each.
    pub checks: Vec<Check>,
    /// Every provider key.
    pub provider_keys: Vec<KeyLook>,
}

/// Looks at everything that can be seen from the data directory and the database.
pub async fn examine(config: &Config) -> Findings {
    let dir = &config.server.data_dir;
    let mut looks = Vec::new();
    let mut checks = vec![data_dir(dir), disk(dir), swap(Path::new("/proc/swaps"))];
    let (database, store) = database(config).await;
    checks.push(database);
    if let Some(store) = store {
        let (sealed, keys, found) = sealed(config, &store).await;
        let opens = [&sealed, &keys].iter().all(|check| check.state == State::Ok);
        checks.extend([sealed, keys]);
        looks = found;
        // A second look is only of use when the house's own secrets open.
        if opens {
            match control(config).await {
                Ok(control) => {
                    checks.push(rotation(&control).await);
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
    Findings { checks, provider_keys: looks }
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

/// What the kernel writes out of memory may be a key.
fn swap(swaps: &Path) -> Check {
    const NAME: &str = "swap";
    // A heading, then one line each.
    match fs::read_to_string(swaps).map(|text| text.lines().skip(1).count()) {
        Ok(0) | Err(_) => Check::ok(NAME, "none is in use here"),
        Ok(count) => Check::warn(
            NAME,
            format!("{count} in use: keys in memory may be written to a disk"),
            "`swapoff -a`, forbid swap to the gateway (`MemorySwapMax=0`), or encrypt it",
        ),
    }
}

/// Whether everything sealed opens, and each provider key for its own row.
async fn sealed(config: &Config, store: &Store) -> (Check, Check, Vec<KeyLook>) {
    const NAME: &str = "master keys";
    const KEYS: &str = "provider keys";
    let unknown = || Check::warn(KEYS, "not looked at", format!("see `{NAME}`"));
    let advice = "set `PROVIDER_KEY_ENCRYPTION_KEY` (or `master.key`) to the keys that they were sealed with; a row that \
                  somebody changed must be stored anew";
    let read = async { Ok((store.sealed_rows().await?, store.provider_keys(TenantScope::house()).await?)) };
    let (rows, keys) = match read.await {
        Ok(read) => read,
        Err(error) => {
            let error: StoreError = error;
            return (Check::fail(NAME, chain(&error), "see `database`"), unknown(), Vec::new());
        }
    };
    let ring = foundation::key_ring(config, MasterKeys::MustExist, rows.is_empty(), &mut Vec::new());
    let vault = match ring {
        Ok(ring) => Vault::new(ring, Clock::system()),
        Err(error) => return (Check::fail(NAME, chain(&error), advice), unknown(), Vec::new()),
    };
    let closed: Vec<String> =
        rows.iter().filter(|row| foundation::opens(&vault, row).is_err()).map(SealedText::what).collect();
    let mut under: BTreeMap<&str, usize> = BTreeMap::new();
    for row in &rows {
        *under.entry(kid(&row.sealed)).or_default() += 1;
    }
    let under: Vec<String> = under.iter().map(|(kid, count)| format!("{count} under `{kid}`")).collect();
    let masters = match closed.as_slice() {
        [] => Check::ok(NAME, format!("all {} sealed rows open: {}", rows.len(), under.join(", "))),
        [first, ..] => {
            let found =
                format!("{} of {} sealed rows do not open, first `{first}`", closed.len(), rows.len());
            Check::fail(NAME, found, advice)
        }
    };
    let looks: Vec<KeyLook> = keys.iter().map(|key| look(&vault, key)).collect();
    let bad: Vec<String> = looks
        .iter()
        .filter_map(|look| Some(format!("`{}` (`{}`): {}", look.id, look.key_name, look.why.as_ref()?)))
        .collect();
    let provider_keys = match bad.as_slice() {
        [] => Check::ok(KEYS, format!("all {} open for their rows", looks.len())),
        some => Check::fail(
            KEYS,
            format!("{} of {} do not open: {}", some.len(), looks.len(), shortened(some)),
            "restore the row from a backup, or store the secret anew; find out who changed it",
        ),
    };
    (masters, provider_keys, looks)
}

fn look(vault: &Vault, key: &ProviderKey) -> KeyLook {
    let row = |sealed| SealedRow {
        tenant: key.tenant_id,
        key: key.id,
        provider: key.provider.as_str(),
        origin: &key.origin,
        sealed,
    };
    let present = vault.verify_row(&row(&key.sealed)).err().map(|why| why.to_string());
    let staged = key.staged.as_ref().and_then(|staged| vault.verify_row(&row(&staged.sealed)).err());
    let why = present.or_else(|| staged.map(|why| format!("the staged secret: {why}")));
    KeyLook {
        id: key.id,
        tenant_id: key.tenant_id,
        provider: key.provider.to_string(),
        key_name: key.key_name.clone(),
        master_key: kid(&key.sealed).to_owned(),
        opens: why.is_none(),
        why,
    }
}

/// Which master key a sealed text names.
fn kid(sealed: &str) -> &str {
    sealed.split('.').nth(1).unwrap_or("none")
}

/// The first few, and how many more.
fn shortened(all: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

/// Whether a rotation of master keys is under way or half done, and every gateway has what it needs.
async fn rotation(control: &Control) -> Check {
    const NAME: &str = "rotation";
    let stand = match control.master_keys(&Actor::Cli).await {
        Ok(stand) => stand,
        Err(error) => return Check::fail(NAME, chain(&error), "see `database`"),
    };
    if let Some(key) = stand.keys.iter().find(|key| key.seals && key.state == Some("retired")) {
        return Check::fail(
            NAME,
            format!("the first master key, `{}`, was retired: nothing can be stored with it", key.kid),
            "put the present one first in `PROVIDER_KEY_ENCRYPTION_KEY`, and reload or restart",
        );
    }
    let lacking: Vec<String> = stand
        .instances
        .iter()
        .filter(|each| each.state == InstanceState::Live)
        .filter_map(|each| {
            let has = each.kids.as_ref()?;
            let needed = stand.keys.iter().filter(|key| key.rows > 0 && !has.contains(&key.kid));
            let kids: Vec<&str> = needed.map(|key| key.kid.as_str()).collect();
            (!kids.is_empty()).then(|| format!("gateway `{}` lacks `{}`", each.id, kids.join("`, `")))
        })
        .collect();
    if !lacking.is_empty() {
        return Check::fail(
            NAME,
            shortened(&lacking),
            "give it all keys under which anything is sealed, and reload or restart it",
        );
    }
    if !stand.is_settled() {
        let found = format!("{} sealed rows stand under other keys than the first", stand.rows_left);
        return Check::warn(NAME, found, "`keystile master-key rotate` goes on with it");
    }
    let spare: Vec<&str> = stand.others().map(|key| key.kid.as_str()).collect();
    match spare.as_slice() {
        [] => Check::ok(NAME, "nothing is under way, no old key is loaded"),
        spare => Check::ok(
            NAME,
            format!(
                "nothing is under way; `{}` is loaded and not needed (`keystile master-key retire`)",
                spare.join("`, `")
            ),
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_not_there_is_said_and_not_made() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = Config::default();
        config.server.data_dir = dir.path().join("none");
        let Findings { checks, provider_keys } = examine(&config).await;
        assert!(provider_keys.is_empty());
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

    #[test]
    fn swap_in_use_is_worth_a_warning() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n";
        for (text, state) in [
            (heading.to_owned(), State::Ok),
            (format!("{heading}/dev/sda2 partition 8388604 0 -2\n"), State::Warn),
        ] {
            fs::write(file.path(), text).expect("written");
            assert_eq!(swap(file.path()).state, state);
        }
        assert_eq!(swap(Path::new("/nowhere")).state, State::Ok);
    }

    #[test]
    fn a_long_list_is_cut() {
        let all: Vec<String> = (1..=7).map(|number| number.to_string()).collect();
        assert_eq!(shortened(&all), "1; 2; 3; 4; 5; and 2 more");
        assert_eq!(shortened(&all[..2]), "1; 2");
    }
}
