//! Keys that change while the gateway runs: master keys and keys for sessions, from the same sources as at the start.
//!
//! A reload brings new settings. Between two, the settings in force are what counts: on a notice of a rotation in the
//! database, and when the gateway's own key file has changed, that file and the house's own secrets are read again. What cannot be used is refused as a whole, said once, and the keys in force stay. After each reading the
//! instance's row says which master keys are loaded: a rotation waits for that.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    StartError,
    error::chain,
    foundation::{MasterKeys, key_ring, own_key_file},
};
use crate::{
    config::Config,
    control::SETTLES_AFTER,
    domain::InstanceId,
    store::Store,
    vault::{HouseSecretName, SessionKey, Sessions, Vault, needed},
};

/// Before the id of an operator's key for config variables, among the ids that an instance says it has.
pub(super) const VARIABLES: &str = "v:";

/// How often the gateway's own key file is looked at, and a row that could not be written is tried again.
const TURN: Duration = Duration::from_secs(1);

/// The master keys as they are given now take the place of those in force. Answers whether they are others.
///
/// # Errors
/// When they are unusable, or lack one under which something is sealed; then nothing has changed.
pub async fn reload_master_keys(config: &Config, store: &Store, vault: &Vault) -> Result<bool, StartError> {
    let ring = key_ring(config, MasterKeys::MustExist, false, &mut Vec::new())?;
    let counts = store.sealed_counts().await?;
    Ok(vault.reload(ring, counts.kids())?)
}

/// The keys for sessions as they are given now take the place of those in force.
///
/// # Errors
/// When they are unusable; then nothing has changed.
pub async fn reload_session_keys(
    config: &Config,
    store: &Store,
    vault: &Vault,
    sessions: &Sessions,
) -> Result<(), StartError> {
    Ok(sessions.reload(session_keys(config, store, vault).await?, config.admin.session_ttl)?)
}

/// The operator's keys for sessions, else the house's own and the one before it.
pub(super) async fn session_keys(
    config: &Config,
    store: &Store,
    vault: &Vault,
) -> Result<Vec<SessionKey>, StartError> {
    if !config.admin.jwt_keys.is_empty() {
        return Ok(config.admin.jwt_keys.iter().map(SessionKey::from_config).collect());
    }
    let mut keys = Vec::new();
    for name in [HouseSecretName::JwtKey, HouseSecretName::JwtKeyPrevious] {
        let Some(stored) = store.house_secret(name.as_str()).await? else { continue };
        let opened = vault.open_house(name, &stored.sealed);
        let secret = opened.map_err(|source| StartError::Sealed { what: name.as_str().into(), source })?;
        let key = SessionKey::from_house(&secret);
        let settled = stored.at.plus(SETTLES_AFTER);
        keys.push(match name {
            HouseSecretName::JwtKeyPrevious => key.until(settled.plus(config.admin.session_ttl)),
            _ => key.signing_from(settled),
        });
    }
    Ok(keys)
}

/// Who looks after them while the gateway runs.
pub(super) struct Keys {
    pub(super) store: Store,
    pub(super) vault: Arc<Vault>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) instance: InstanceId,
    /// The settings as they were last read.
    pub(super) config: Mutex<Arc<Config>>,
    pub(super) wake: tokio::sync::Notify,
    pub(super) turn: tokio::sync::Mutex<Turn>,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(super) struct Turn {
    /// How the key file looked when it was last read.
    file: Option<Looks>,
    /// What the instance's row says.
    told: Option<Vec<String>>,
    /// What was last said about keys that cannot be used.
    refused: Option<String>,
    /// The last reading failed for a reason that may pass.
    again: bool,
}

/// What changes when a file is replaced or written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Looks {
    node: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Keys {
    /// Somebody rotates keys: they are read again soon.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether the keys of these settings could be taken into use.
    ///
    /// # Errors
    /// When they cannot; nothing has changed.
    pub(super) async fn check(&self, config: &Config) -> Result<(), StartError> {
        let ring = key_ring(config, MasterKeys::MustExist, false, &mut Vec::new())?;
        needed(&ring, self.store.sealed_counts().await?.kids())?;
        let sessions = session_keys(config, &self.store, &self.vault).await?;
        Sessions::new(sessions, config.admin.session_ttl)?;
        Ok(())
    }

    /// Takes these settings for the present ones, and their keys into use.
    ///
    /// # Errors
    /// When the keys cannot be used; then those in force stay, and these are tried again every second.
    pub(super) async fn adopt(&self, config: Arc<Config>) -> Result<(), StartError> {
        let mut turn = self.turn.lock().await;
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&config);
        let taken = self.take(&mut turn, &config).await;
        turn.again |= taken.is_err();
        taken
    }

    /// Reads everything again and says what is loaded. At the start this comes after the instance's row was made: a
    /// rotation that did not find it yet has changed the keys before, and they are found here.
    pub(super) async fn refresh(&self) {
        let mut turn = self.turn.lock().await;
        let taken = self.take(&mut turn, &self.present()).await;
        match taken {
            Ok(()) => turn.refused = None,
            Err(error) => {
                turn.again = matches!(error, StartError::Store(_));
                self.say(&mut turn, &chain(&error));
            }
        }
    }

    /// Looks after them until told to stop.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let work = async {
            loop {
                let woken = tokio::select! {
                    () = self.wake.notified() => true,
                    () = tokio::time::sleep(TURN) => false,
                };
                self.look(woken, Instant::now()).await;
            }
        };
        stop.run_until_cancelled(work).await;
    }

    /// One turn: keys whose time is over are forgotten, and what may have changed is read again.
    async fn look(&self, woken: bool, now: Instant) {
        // First, and waiting for nothing: the database or the disk may not answer.
        self.vault.forget_expired(now);
        if woken || self.is_stale().await {
            self.refresh().await;
        }
    }

    async fn is_stale(&self) -> bool {
        let looks = self.looks().await;
        let turn = self.turn.lock().await;
        turn.again || turn.told.is_none() || looks != turn.file
    }

    /// One reading of the keys that `config` names.
    async fn take(&self, turn: &mut Turn, config: &Config) -> Result<(), StartError> {
        turn.again = false;
        // Before the file is read: what is written between the two is read once more.
        turn.file = self.looks().await;
        let changed = reload_master_keys(config, &self.store, &self.vault).await;
        if let Ok(true) = changed {
            let ring = self.vault.ring();
            tracing::info!(kids = %ring.kids().collect::<Vec<_>>().join(","), "master_keys.reloaded");
        }
        // Also when the others are refused: the one has nothing to do with the other.
        let sessions = reload_session_keys(config, &self.store, &self.vault, &self.sessions).await;
        self.tell(turn).await;
        changed.map(drop).and(sessions)
    }

    /// Writes into the instance's row which master keys are loaded.
    async fn tell(&self, turn: &mut Turn) {
        let ring = self.vault.ring();
        let own = ring.secret_kids().map(|kid| format!("{VARIABLES}{kid}"));
        let kids: Vec<String> = ring.kids().map(str::to_owned).chain(own).collect();
        let kids: Vec<&str> = kids.iter().map(String::as_str).collect();
        match self.store.instance_kids(self.instance, &kids).await {
            Ok(()) => turn.told = Some(kids.into_iter().map(str::to_owned).collect()),
            Err(error) => {
                tracing::warn!(reason = %error, "master_keys.not_told");
                turn.told = None;
            }
        }
    }

    /// Says why keys cannot be used, once for each reason.
    fn say(&self, turn: &mut Turn, why: &str) {
        if turn.refused.as_deref() != Some(why) {
            tracing::error!(reason = %why, "keys.reload_refused");
            turn.refused = Some(why.to_owned());
        }
    }

    fn present(&self) -> Arc<Config> {
        Arc::clone(&self.config.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn looks(&self) -> Option<Looks> {
        let path: PathBuf = own_key_file(&self.present())?;
        let meta = tokio::fs::metadata(path).await.ok()?;
        use std::os::unix::fs::MetadataExt;
        Some(Looks { node: meta.ino(), bytes: meta.len(), changed: (meta.ctime(), meta.ctime_nsec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Clock,
        store::testing,
        vault::{HouseSecret, KeyRing, LEAVES_AFTER, OpenError},
    };

    #[tokio::test]
    async fn a_dropped_master_key_is_forgotten_when_its_time_is_over() {
        let store = testing::sqlite().await;
        let [old, new] = [KeyRing::generate(), KeyRing::generate()];
        let ring = |key| KeyRing::from_texts(std::slice::from_ref(key)).expect("a ring");
        let vault = Arc::new(Vault::new(ring(&old), Clock::system()));
        let sealed = vault.seal_house(HouseSecretName::Pepper, &HouseSecret::generate());
        vault.reload(ring(&new), [""; 0]).expect("nothing needs the old one");
        let mut config = Config::default();
        config.vault.master_keys = vec![new];
        let session = SessionKey::from_house(&HouseSecret::generate());
        let keys = Keys {
            store: store.clone(),
            vault: Arc::clone(&vault),
            sessions: Arc::new(Sessions::new(vec![session], Duration::from_secs(60)).expect("a key")),
            instance: InstanceId::generate(),
            config: Mutex::new(Arc::new(config)),
            wake: tokio::sync::Notify::new(),
            turn: Default::default(),
        };
        let opened = || vault.open_house(HouseSecretName::Pepper, &sealed).map(drop);
        keys.look(true, Instant::now()).await;
        assert_eq!(opened(), Ok(()), "its time is not over");
        keys.look(false, Instant::now() + LEAVES_AFTER).await;
        assert!(matches!(opened(), Err(OpenError::UnknownMasterKey { .. })));
    }
}
