//! A new master key for everything that is sealed, while gateways run.
//!
//! First the gateway's own key file gets a new first key; when the operator gives the keys, he has done that. Then every
//! live gateway must have said that it seals with it: from there on all of them can read what this command writes. Then
//! everything is sealed anew; and when nothing is left under another key, the old ones may be retired.
//!
//! It may be killed at any point and run again: what is in the file, and what stands under which key, says where it was.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{Foundation, MasterKeys, StartError, egress_policy, foundation::own_key_file, keys::VARIABLES};
use crate::{
    config::{Config, MasterKeyText},
    control::{
        Closed, Control, ControlError, InstanceState, MasterKeysView, Notify, Rotated, Rotation, StoreError,
    },
    domain::{Actor, Clock},
    server::InstanceLock,
    vault::{KeyFileError, KeyRing, KeyRingError, load_key_file, replace_key_file},
};

/// Between two lots, so that live requests get at the database.
const PAUSE: Duration = Duration::from_millis(10);
/// Between two looks at the gateways.
const LOOK: Duration = Duration::from_millis(100);
/// How often a database that does not answer is asked again, and how long after.
const TRIES: u32 = 20;
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Most walks over everything, before whoever keeps sealing with an old key is named.
const WALKS: u32 = 20;

/// Why a rotation is not over. All may be repeated.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The data cannot be opened.
    #[error("the gateway's data cannot be opened")]
    Start(#[from] StartError),
    /// The key file cannot be written.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// The key file is unusable.
    #[error(transparent)]
    KeyRing(#[from] KeyRingError),
    /// An act failed.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Two at once would each make a key.
    #[error("another rotation is under way on this data directory; wait for its end")]
    Busy,
    /// The file that keeps two commands apart cannot be used.
    #[error("cannot lock `{}`", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The operator gives the keys and has given no new one.
    #[error(
        "everything is sealed with `{kid}` already, the first of the master keys that are given; to rotate, make a new one \
         with `keystile master-key generate`, put it before `{kid}` in `PROVIDER_KEY_ENCRYPTION_KEY` (or in the file that \
         holds it) of every gateway and of this command, reload (SIGHUP) or restart them, and run this again"
    )]
    NothingNew {
        /// The key that seals.
        kid: String,
    },
    /// A gateway does not seal with the new key yet.
    #[error("nothing was sealed anew: {}", lagging.join("; "))]
    Lagging {
        /// Which, and what is to be done about each.
        lagging: Vec<String>,
    },
    /// Some sealed rows do not open.
    #[error(
        "{} sealed rows do not open and stay as they are, first `{}`: {}; restore them from a backup, or store their secrets \
         anew or delete them, and run this again",
        closed.len(),
        closed[0].what,
        closed[0].why
    )]
    Closed {
        /// Which.
        closed: Vec<Closed>,
    },
    /// Somebody goes on sealing with another key.
    #[error(
        "{left} rows were sealed with another key than `{kid}` while this ran, again and again; see `keystile master-key status` \
         for who does it"
    )]
    Overtaken {
        /// The new key.
        kid: String,
        /// How many there are now.
        left: u64,
    },
}

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RotationOptions {
    /// Drops the old keys when nothing is left under them.
    pub retire: bool,
    /// How long gateways have to take up the new key.
    pub patience: Duration,
}

/// How a rotation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The key under which everything stands; `None` when only an unfinished retirement was brought to its end.
    pub rotated: Option<Rotated>,
    /// The keys that nothing is sealed with any more.
    pub retired: Vec<String>,
    /// The gateway's own key file, when the keys come from there.
    pub file: Option<PathBuf>,
    /// Keys that are loaded beside the one that seals, and are not needed any more.
    pub kept: Vec<String>,
}

/// Rotates to a new master key, or goes on with a rotation that was interrupted. `say` hears how far it is.
///
/// # Errors
/// When it is not over; running it again goes on.
pub async fn rotate(
    config: &Config,
    options: RotationOptions,
    mut say: impl FnMut(String),
) -> Result<Done, RotationError> {
    let file = own_key_file(config);
    let _alone = file.as_deref().map(alone).transpose()?;
    let mut control = open(config).await?;
    let mut stand = control.master_keys(&Actor::Cli).await?;
    if stand.is_settled() && half_retired(&stand) && options.retire {
        say("going on with the retirement of old master keys".into());
        return retire(config, &control, file, None, options.patience).await;
    }
    match &file {
        Some(path) if stand.is_settled() => {
            let retired: Vec<&str> =
                stand.keys.iter().filter(|key| key.state == Some("retired")).map(|key| &*key.kid).collect();
            let mut keys = own_keys(path, &retired)?;
            keys.insert(0, KeyRing::generate());
            replace_key_file(path, &keys)?;
            drop(keys);
            control = open(config).await?;
            stand = control.master_keys(&Actor::Cli).await?;
            say(format!("made master key `{}`, now the first in {}", sealing(&stand), path.display()));
        }
        Some(_) => say(format!("going on with the rotation to master key `{}`", sealing(&stand))),
        None if stand.is_settled() && options.retire && stand.others().next().is_some() => {
            return retire(config, &control, None, None, options.patience).await;
        }
        None if stand.is_settled() => {
            return Err(RotationError::NothingNew { kid: sealing(&stand).to_owned() });
        }
        None => {}
    }
    let mut rotation = control.rotation_begin(&Actor::Cli).await?;
    ready(config, &control, options.patience, &mut say).await?;
    let rotated = reseal(&control, &mut rotation, stand.rows_left, &mut say).await?;
    if options.retire {
        return retire(config, &control, file, Some(rotated), options.patience).await;
    }
    let kept = control.master_keys(&Actor::Cli).await?.others().map(|key| key.kid.clone()).collect();
    Ok(Done { rotated: Some(rotated), retired: Vec::new(), file, kept })
}

/// How things stand with the master keys.
///
/// # Errors
/// When the data cannot be opened.
pub async fn status(config: &Config) -> Result<MasterKeysView, RotationError> {
    let stand = open(config).await?.master_keys(&Actor::Cli).await?;
    Ok(MasterKeysView { instances: running(config, &stand), ..stand })
}

/// Drops the keys that nothing is sealed with any more.
///
/// # Errors
/// When something is, or a gateway does not seal with the new one.
pub async fn retire_old(config: &Config, patience: Duration) -> Result<Done, RotationError> {
    let file = own_key_file(config);
    let _alone = file.as_deref().map(alone).transpose()?;
    let control = open(config).await?;
    retire(config, &control, file, None, patience).await
}

async fn retire(
    config: &Config,
    control: &Control,
    file: Option<PathBuf>,
    rotated: Option<Rotated>,
    patience: Duration,
) -> Result<Done, RotationError> {
    ready(config, control, patience, &mut |_| {}).await?;
    let retired = control.master_keys_retire(&Actor::Cli).await?.kids;
    if let Some(path) = &file
        && !retired.is_empty()
    {
        let retired: Vec<&str> = retired.iter().map(String::as_str).collect();
        replace_key_file(path, &own_keys(path, &retired)?)?;
    }
    Ok(Done { rotated, retired, file, kept: Vec::new() })
}

/// Seals everything anew, walk after walk, until nothing is left.
async fn reseal(
    control: &Control,
    rotation: &mut Rotation,
    rows: u64,
    say: &mut impl FnMut(String),
) -> Result<Rotated, RotationError> {
    let mut said = Instant::now();
    for _ in 0..WALKS {
        let mut tries = 0;
        loop {
            match control.rotation_step(&Actor::Cli, rotation).await {
                Ok(false) => break,
                Ok(true) => tries = 0,
                // Nothing is lost by asking again: each text is replaced only over the one that was read.
                Err(ControlError::Store(StoreError::Unavailable)) if tries < TRIES => {
                    tries += 1;
                    sleep(TRY_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
            if said.elapsed() > Duration::from_secs(1) {
                said = Instant::now();
                say(format!("{} of {rows} sealed rows are under `{}`", rotation.resealed, rotation.kid));
            }
            sleep(PAUSE).await;
        }
        if !rotation.closed.is_empty() {
            return Err(RotationError::Closed { closed: std::mem::take(&mut rotation.closed) });
        }
        if let Some(rotated) = control.rotation_finish(&Actor::Cli, rotation).await? {
            say(format!("{} sealed rows are under `{}`, none under another key", rotated.rows, rotated.kid));
            return Ok(rotated);
        }
        control.rotation_again(rotation);
    }
    let left = control.master_keys(&Actor::Cli).await?.rows_left;
    Err(RotationError::Overtaken { kid: rotation.kid.clone(), left })
}

/// Waits until every live gateway seals with the key that seals here.
async fn ready(
    config: &Config,
    control: &Control,
    patience: Duration,
    say: &mut impl FnMut(String),
) -> Result<(), RotationError> {
    let deadline = Instant::now() + patience;
    let own_file = own_key_file(config).is_some();
    let mut said = false;
    loop {
        let stand = control.master_keys(&Actor::Cli).await?;
        let kid = sealing(&stand).to_owned();
        let lagging: Vec<String> = running(config, &stand)
            .into_iter()
            .filter(|each| each.state == InstanceState::Live)
            .filter_map(|each| {
                let kids = each.kids.unwrap_or_default();
                let variables = kids.iter().find_map(|kid| kid.strip_prefix(VARIABLES));
                if kids.first() != Some(&kid) {
                    Some(lags(&each.id.to_string(), &kids, &kid, own_file))
                } else if variables != stand.variable_key.as_deref() {
                    Some(variables_lag(&each.id.to_string(), variables, stand.variable_key.as_deref()))
                } else {
                    None
                }
            })
            .collect();
        if lagging.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(RotationError::Lagging { lagging });
        }
        if !said {
            said = true;
            say(format!("waiting until {} running gateways seal with `{kid}`", lagging.len()));
        }
        sleep(LOOK).await;
    }
}

/// What a gateway lacks, and what to do.
fn lags(id: &str, kids: &[String], kid: &str, own_file: bool) -> String {
    let has = match kids.split_first() {
        None => "has not said which master keys it has".to_owned(),
        Some((first, _)) if kids.iter().any(|each| each == kid) => {
            format!("has `{kid}` and seals with `{first}`")
        }
        Some(_) => {
            let kids: Vec<&str> =
                kids.iter().map(String::as_str).filter(|kid| !kid.starts_with(VARIABLES)).collect();
            format!("has only {}", kids.join(", "))
        }
    };
    let what = if own_file {
        "look at its log for why it does not take up its key file, or restart it".to_owned()
    } else {
        format!(
            "put `{kid}` first in its `PROVIDER_KEY_ENCRYPTION_KEY` (or the file that holds it), and reload or restart it"
        )
    };
    format!("gateway `{id}` {has}: {what}, and run this again")
}

/// The same of the key that seals config variables.
fn variables_lag(id: &str, has: Option<&str>, wanted: Option<&str>) -> String {
    let told =
        |kid: Option<&str>| kid.map_or("a key derived from its master key".into(), |kid| format!("`{kid}`"));
    format!(
        "gateway `{id}` seals config variables with {}, and this command with {}: give both the same \
         `KEYSTILE_SECRET_ENCRYPTION_KEY`, reload or restart the gateway, and run this again",
        told(has),
        told(wanted)
    )
}

/// Gateways that may be running. On SQLite there is one at most, and it holds the lock.
fn running(config: &Config, stand: &MasterKeysView) -> Vec<crate::control::InstanceKeysView> {
    let file = config.database_file();
    if file.is_some() && !InstanceLock::is_held(&config.server.data_dir, file.as_deref()) {
        return Vec::new();
    }
    stand.instances.clone()
}

/// Whether the file still has keys that were retired.
fn half_retired(stand: &MasterKeysView) -> bool {
    stand.others().any(|key| key.state == Some("retired"))
}

fn sealing(stand: &MasterKeysView) -> &str {
    stand.keys.first().map_or("", |key| &key.kid)
}

/// The keys in the file but those `without`.
fn own_keys(path: &Path, without: &[&str]) -> Result<Vec<MasterKeyText>, RotationError> {
    let keys = load_key_file(path)?.ok_or(StartError::NoMasterKey)?;
    // Also because what is written back must be usable.
    let ring = KeyRing::from_texts(&keys)?;
    let stays: Vec<bool> = ring.kids().map(|kid| !without.contains(&kid)).collect();
    Ok(keys.into_iter().zip(stays).filter_map(|(key, stays)| stays.then_some(key)).collect())
}

/// Keeps a second command from making a key of its own. The kernel lets go of it however this one ends.
fn alone(key_file: &Path) -> Result<File, RotationError> {
    let path = key_file.with_extension("lock");
    let refused = |source| RotationError::Lock { path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(RotationError::Busy),
        Err(TryLockError::Error(source)) => Err(refused(source)),
    }
}

async fn open(config: &Config) -> Result<Control, RotationError> {
    let foundation = Foundation::open(config, &Clock::system(), MasterKeys::MustExist).await?;
    Ok(foundation.control(config, egress_policy(config), None, Notify::nobody())?)
}
