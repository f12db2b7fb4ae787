//! What every command stands on: the database, the master keys, the house's own secrets. `serve` builds the house on
//! it; other commands open it beside a running gateway and touch neither its lock nor its listeners.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{StartError, keys};
use crate::{
    catalogue::Catalogue,
    config::{Config, Durability},
    control::{AuditKey, Control, Notify, Parts, Prober, Settings, Sight},
    domain::{Clock, EgressPolicy},
    ledger::{Ledger, instance_in},
    limits::Ticks,
    store::{Options, Schema, SealedText, Store},
    vault::{
        Fingerprinter, HouseSecret, HouseSecretName, KeyRing, OpenError, Passwords, Pepper, Sessions,
        VariableRow, Vault, create_key_file, load_key_file,
    },
};

/// The master key's file in the data directory.
const KEY_FILE: &str = "master.key";

/// The file of master keys that is the gateway's own, to be read again and to be replaced; `None` when the operator gives
/// the keys.
pub(super) fn own_key_file(config: &Config) -> Option<PathBuf> {
    let own = config.vault.master_keys.is_empty() && config.database_file().is_some();
    own.then(|| config.server.data_dir.join(KEY_FILE))
}

/// Where the journal is, below the data directory.
const JOURNAL: &str = "journal";

/// Where the journal is.
pub(super) fn journal_dir(config: &Config) -> PathBuf {
    config.server.data_dir.join(JOURNAL)
}

/// What to do when no master key is given. Whoever may make one is the gateway itself, which also brings the schema up to
/// date; the others refuse one that is not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MasterKeys {
    /// On a new local database, make one.
    MadeWhenMissing,
    /// They must be there.
    MustExist,
}

/// The opened foundation.
pub struct Foundation {
    /// The database.
    pub store: Store,
    /// Opens and seals provider keys.
    pub vault: Arc<Vault>,
    /// Digests virtual keys.
    pub pepper: Arc<Pepper>,
    /// Providers and prices.
    pub catalogue: Arc<Catalogue>,
    /// What the operator may want to know.
    pub facts: Vec<String>,
    /// Signs and verifies sessions.
    pub sessions: Arc<Sessions>,
    /// Who tries staged secrets; nobody, until somebody who calls providers is put here.
    pub prober: Prober,
    clock: Clock,
    audit_key: AuditKey,
    fingerprints: Arc<Fingerprinter>,
}

impl Foundation {
    /// Opens it.
    ///
    /// # Errors
    /// When the database or any sealed row in it cannot be opened.
    pub async fn open(config: &Config, clock: &Clock, missing: MasterKeys) -> Result<Self, StartError> {
        match Self::open_once(config, clock, missing).await {
            // A rotation may have changed the file between our look at it and at the rows.
            Err(StartError::Sealed { source: OpenError::UnknownMasterKey { .. }, .. })
                if own_key_file(config).is_some() =>
            {
                Self::open_once(config, clock, missing).await
            }
            opened => opened,
        }
    }

    async fn open_once(config: &Config, clock: &Clock, missing: MasterKeys) -> Result<Self, StartError> {
        let mut facts = Vec::new();
        let schema = match missing {
            MasterKeys::MadeWhenMissing => Schema::Migrate,
            MasterKeys::MustExist => Schema::Require,
        };
        // The journal drops what the database has: with `power` that must be on the disk.
        let durable_commits = config.ledger.durability == Durability::Power;
        let options = Options { schema, durable_commits, ..Options::default() };
        let store = Store::open_with(&config.database().0, options).await?;
        match config.database_file() {
            Some(file) => facts.push(format!("database: SQLite at {}", file.display())),
            None => facts.push("database: Postgres".into()),
        }
        let sealed = store.sealed_rows().await?;
        let ring = key_ring(config, missing, sealed.is_empty(), &mut facts)?;
        facts.push(format!("master keys: {} (the first seals)", ring.kids().collect::<Vec<_>>().join(", ")));
        let vault = Arc::new(Vault::new(ring, clock.clone()));
        for row in &sealed {
            opens(&vault, row).map_err(|source| StartError::Sealed { what: row.what(), source })?;
        }
        let house = |name| house_secret(&store, &vault, clock, name);
        let pepper_secret = house(HouseSecretName::Pepper).await?;
        let fingerprints = Arc::new(Fingerprinter::new(&pepper_secret));
        if config.admin.jwt_keys.is_empty() {
            house(HouseSecretName::JwtKey).await?;
        }
        let session_keys = keys::session_keys(config, &store, &vault).await?;
        let sessions = Arc::new(Sessions::new(session_keys, config.admin.session_ttl)?);
        let audit_key = AuditKey::new(house(HouseSecretName::AuditKey).await?);
        Ok(Self {
            vault,
            pepper: Arc::new(Pepper::new(pepper_secret)),
            catalogue: Arc::new(Catalogue::bundled()),
            facts,
            prober: Prober::nobody(),
            clock: clock.clone(),
            sessions,
            audit_key,
            fingerprints,
            store,
        })
    }

    /// What an administrator can do on it.
    ///
    /// # Errors
    /// When passwords cannot be hashed on this machine.
    pub fn control(
        self,
        config: &Config,
        egress: EgressPolicy,
        ledger: Option<Ledger>,
        notify: Notify,
    ) -> Result<Control, StartError> {
        let shared = config.database_file().is_none();
        let here = match &ledger {
            Some(ledger) => Some(ledger.id()),
            // On SQLite the gateway beside this process need not say that it lives. What cannot be read is looked at by
            // `doctor`.
            None if !shared => instance_in(&journal_dir(config)).ok().flatten(),
            None => None,
        };
        let sight = Sight { here, shared, release_after: config.ledger.release_after };
        Ok(Control::new(Parts {
            store: self.store,
            vault: self.vault,
            pepper: self.pepper,
            fingerprints: self.fingerprints,
            audit_key: self.audit_key,
            passwords: Arc::new(Passwords::new()?),
            sessions: self.sessions,
            catalogue: self.catalogue,
            ledger,
            clock: self.clock,
            ticks: Ticks::system(),
            notify,
            prober: self.prober,
            settings: Settings {
                egress,
                allow_retrieval: config.vault.allow_retrieval,
                // Keys that nobody may fetch are not marked by the way: the mark would wait for the day retrieval is allowed.
                retrievable_by_default: config.vault.allow_retrieval && config.vault.retrievable_by_default,
                sight,
            },
        }))
    }
}

/// The master keys, and the operator's keys for config variables. The master keys are the operator's, else the data directory's own, else, on a new local database, a new one.
pub(super) fn key_ring(
    config: &Config,
    missing: MasterKeys,
    nothing_sealed: bool,
    facts: &mut Vec<String>,
) -> Result<KeyRing, StartError> {
    let ring = master_keys(config, missing, nothing_sealed, facts)?;
    Ok(ring.with_secret_keys(&config.vault.secret_keys)?)
}

fn master_keys(
    config: &Config,
    missing: MasterKeys,
    nothing_sealed: bool,
    facts: &mut Vec<String>,
) -> Result<KeyRing, StartError> {
    if !config.vault.master_keys.is_empty() {
        return Ok(KeyRing::from_texts(&config.vault.master_keys)?);
    }
    let Some(path) = own_key_file(config) else { return Err(StartError::MasterKeyForPostgres) };
    if let Some(keys) = load_key_file(&path)? {
        return Ok(KeyRing::from_texts(&keys)?);
    }
    if !nothing_sealed || missing == MasterKeys::MustExist {
        return Err(StartError::NoMasterKey);
    }
    let key = create_key_file(&path)?;
    facts.push(format!(
        "made a new master key: {} (keep a copy: without it no provider key opens)",
        shown(&path)
    ));
    Ok(KeyRing::from_texts(&[key])?)
}

/// Whether a sealed row opens, as far as that can be said without a call that would need it.
pub(super) fn opens(vault: &Vault, row: &SealedText) -> Result<(), OpenError> {
    match &row.variable {
        None => vault.check(&row.sealed),
        Some(variable) => {
            let row_of = VariableRow { tenant: variable.tenant, id: variable.id, name: &variable.name };
            vault.open_variable(&row_of, &row.sealed).map(drop)
        }
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// One of the house's own secrets, made at the first start. Of two processes that make it at once one wins.
async fn house_secret(
    store: &Store,
    vault: &Vault,
    clock: &Clock,
    name: HouseSecretName,
) -> Result<HouseSecret, StartError> {
    let sealed = match store.house_secret(name.as_str()).await? {
        Some(stored) => stored.sealed,
        None => {
            let sealed = vault.seal_house(name, &HouseSecret::generate());
            store.house_secret_or_insert(name.as_str(), &sealed, clock.now()).await?
        }
    };
    vault
        .open_house(name, &sealed)
        .map_err(|source| StartError::Sealed { what: name.as_str().into(), source })
}
