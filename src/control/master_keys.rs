//! The rotation of master keys: everything sealed is sealed anew under the key that seals now.
//!
//! It goes in small lots beside all other work, and each text is replaced only over the one that was read: whoever stores
//! a new secret meanwhile wins. Nothing is remembered of how far it got; what stands under another key is what is left, so
//! a rotation that was killed goes on where it was. It is over when a last look finds nothing left, under the lock that
//! every act takes, so that none is half-way through storing something.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Control, ControlError, InstanceState, act::permit};
use crate::{
    domain::{Actor, AuditAction, InstanceId, Permission, Timestamp},
    store::{
        MasterKeyState, SealedColumn, SealedCounts, SealedFor, SealedText, SealedVariable, Tx,
        master_key_set, master_key_state, master_keys, sealed_counts, sealed_replace,
    },
    vault::{HouseSecretName, OpenError, SealedRow, VariableRow},
};

/// How many texts are replaced in one transaction.
const LOT: u32 = 25;

/// A master key, and what stands under it.
#[derive(Clone, Debug, Serialize)]
pub struct MasterKeyView {
    /// Its id.
    pub kid: String,
    /// Whether this process has it.
    pub loaded: bool,
    /// Whether this process seals with it.
    pub seals: bool,
    /// How many sealed texts stand under it.
    pub rows: u64,
    /// `rotating`, `primary` or `retired`; `null` for one that was in no rotation.
    pub state: Option<&'static str>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// A gateway, and the master keys that it says it has.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceKeysView {
    /// Which.
    pub id: InstanceId,
    /// Whether it is heard of.
    pub state: InstanceState,
    /// The one that it seals with comes first; `null` until it has said so.
    pub kids: Option<Vec<String>>,
}

/// How things stand with the master keys.
#[derive(Clone, Debug, Serialize)]
pub struct MasterKeysView {
    /// All that are loaded, needed or remembered; those that are loaded first, in their order.
    pub keys: Vec<MasterKeyView>,
    /// Gateways that did not stop in good order.
    pub instances: Vec<InstanceKeysView>,
    /// Whether a rotation was begun and is not over.
    pub unfinished: bool,
    /// How many sealed texts stand under other keys than those that seal.
    pub rows_left: u64,
    /// The operator's own key that seals config variables; `null` when a key derived from the master key does.
    pub variable_key: Option<String>,
}

impl MasterKeysView {
    /// Those loaded that do not seal.
    pub fn others(&self) -> impl Iterator<Item = &MasterKeyView> {
        self.keys.iter().filter(|key| key.loaded && !key.seals)
    }

    /// Whether everything is under the key that seals, and no rotation is under way.
    pub fn is_settled(&self) -> bool {
        !self.unfinished && self.rows_left == 0
    }
}

/// A text that does not open, and so cannot be sealed anew.
#[derive(Clone, Debug)]
pub struct Closed {
    /// `provider_key pk_…`.
    pub what: String,
    /// Why.
    pub why: OpenError,
}

/// A walk over everything sealed.
#[derive(Debug)]
pub struct Rotation {
    /// The key under which it is sealed anew.
    pub kid: String,
    /// How many texts were replaced so far.
    pub resealed: u64,
    /// What did not open in this walk.
    pub closed: Vec<Closed>,
    column: usize,
    after: String,
}

/// A rotation that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The key under which everything stands.
    pub kid: String,
    /// How many texts do.
    pub rows: u64,
}

/// Keys under which nothing may be sealed any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retired {
    /// Their ids.
    pub kids: Vec<String>,
}

impl Control {
    /// How things stand with the master keys.
    pub async fn master_keys(&self, actor: &Actor) -> Result<MasterKeysView, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        let ring = self.vault.ring();
        let counts = self.store.sealed_counts().await?;
        let known = self.store.master_keys().await?;
        let instances = self.instances(actor).await?.items;
        let mut kids: Vec<&str> = ring.kids().collect();
        let own: Vec<&str> = ring.secret_kids().collect();
        for kid in counts.kids().chain(known.iter().map(|key| key.kid.as_str())) {
            if !kids.contains(&kid) && !own.contains(&kid) {
                kids.push(kid);
            }
        }
        let keys = kids
            .into_iter()
            .map(|kid| {
                let state = known.iter().find(|key| key.kid == kid);
                MasterKeyView {
                    kid: kid.to_owned(),
                    loaded: ring.kids().any(|loaded| loaded == kid),
                    seals: ring.primary() == kid,
                    rows: [&counts.master, &counts.variables].into_iter().filter_map(|of| of.get(kid)).sum(),
                    state: state.map(|key| key.state.as_str()),
                    since: state.map(|key| key.since),
                }
            })
            .collect();
        let instances = instances
            .into_iter()
            .filter(|each| each.state != InstanceState::Stopped)
            .map(|each| InstanceKeysView { id: each.id, state: each.state, kids: each.master_keys })
            .collect();
        let unfinished = known.iter().any(|key| key.state == MasterKeyState::Rotating);
        let rows_left = self.others(&counts, ring.primary()).values().sum();
        let variable_key = ring.secret_kids().next().map(str::to_owned);
        Ok(MasterKeysView { keys, instances, unfinished, rows_left, variable_key })
    }

    /// Begins a rotation to the key that seals now, or goes on with one that was begun. All gateways are told to read
    /// their keys again.
    pub async fn rotation_begin(&self, actor: &Actor) -> Result<Rotation, ControlError> {
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let kid = self.vault.ring().primary().to_owned();
        let begun = match master_key_state(act.tx(), &kid).await? {
            Some(MasterKeyState::Retired) => {
                return Err(ControlError::Conflict(format!(
                    "master key `{kid}` was retired; make a new one with `keystile master-key generate`"
                )));
            }
            Some(MasterKeyState::Rotating) => true,
            Some(MasterKeyState::Primary) | None => false,
        };
        act.changed(None, "master_key");
        if begun {
            act.commit_unaudited().await?;
        } else {
            master_key_set(act.tx(), &kid, MasterKeyState::Rotating, act.at()).await?;
            let left = self.others(&sealed_counts(act.tx()).await?, &kid);
            let event = act
                .event(AuditAction::MasterKeyRotationStarted, None, &kid)
                .with("from", names(&left))
                .with("rows", left.values().sum::<u64>());
            act.commit(event).await?;
        }
        Ok(Rotation { kid, resealed: 0, closed: Vec::new(), column: 0, after: String::new() })
    }

    /// Seals the next lot anew. Answers whether there may be more in this walk.
    pub async fn rotation_step(&self, actor: &Actor, rotation: &mut Rotation) -> Result<bool, ControlError> {
        permit(actor, Permission::ManageHouse)?;
        let Some(&column) = SealedColumn::ALL.get(rotation.column) else { return Ok(false) };
        let lot = self
            .store
            .sealed_elsewhere(column, self.sealing_kid(column, rotation).as_str(), &rotation.after, LOT)
            .await?;
        let Some(last) = lot.last() else {
            rotation.column += 1;
            rotation.after.clear();
            return Ok(rotation.column < SealedColumn::ALL.len());
        };
        let after = last.id.clone();
        let mut closed = Vec::new();
        let mut anew = Vec::with_capacity(lot.len());
        for text in &lot {
            match self.resealed(text) {
                Ok(sealed) => anew.push((text, sealed)),
                Err(why) => closed.push(Closed { what: text.what(), why }),
            }
        }
        let kid = &rotation.kid;
        let replaced = self
            .store
            .write(async |tx: &Tx| {
                // Another command may have begun a rotation to another key: two would undo each other's work.
                if master_key_state(tx, kid).await? != Some(MasterKeyState::Rotating) {
                    return Err(ControlError::Conflict(format!(
                        "the rotation to master key `{kid}` was ended or replaced by another command; see `keystile master-key status`"
                    )));
                }
                let mut replaced = 0;
                for (text, sealed) in &anew {
                    let done = sealed_replace(tx, text.column, &text.id, &text.sealed, sealed).await?;
                    replaced += u64::from(done);
                }
                Ok(replaced)
            })
            .await?;
        rotation.resealed += replaced;
        rotation.closed.extend(closed);
        rotation.after = after;
        Ok(true)
    }

    /// Walks from the beginning again, for what was stored behind the walk.
    pub fn rotation_again(&self, rotation: &mut Rotation) {
        rotation.column = 0;
        rotation.after.clear();
        rotation.closed.clear();
    }

    /// Ends the rotation if nothing is left under another key; else answers `None`, and another walk is due.
    pub async fn rotation_finish(
        &self,
        actor: &Actor,
        rotation: &Rotation,
    ) -> Result<Option<Rotated>, ControlError> {
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let kid = &rotation.kid;
        let counts = sealed_counts(act.tx()).await?;
        if !self.others(&counts, kid).is_empty() {
            return Ok(None);
        }
        let rows = [&counts.master, &counts.variables].into_iter().filter_map(|of| of.get(kid)).sum::<u64>();
        master_key_set(act.tx(), kid, MasterKeyState::Primary, act.at()).await?;
        // Whoever cached a text under another key forgets it.
        act.changed(None, "master_key");
        let event = act
            .event(AuditAction::MasterKeyRotated, None, kid)
            .with("rows", rows)
            .with("resealed", rotation.resealed);
        act.commit(event).await?;
        Ok(Some(Rotated { kid: kid.clone(), rows }))
    }

    /// Lets nothing be sealed any more under the keys that are loaded beside the one that seals. Refused while anything
    /// stands under one of them or a rotation is under way.
    pub async fn master_keys_retire(&self, actor: &Actor) -> Result<Retired, ControlError> {
        let mut act = self.begin(actor, Permission::ManageHouse).await?;
        let ring = self.vault.ring();
        let counts = sealed_counts(act.tx()).await?;
        let known = master_keys(act.tx()).await?;
        let left = self.others(&counts, ring.primary());
        if !left.is_empty() || known.iter().any(|key| key.state == MasterKeyState::Rotating) {
            return Err(ControlError::Conflict(format!(
                "{} sealed rows stand under other master keys, or a rotation is not over; run `keystile master-key rotate` first",
                left.values().sum::<u64>()
            )));
        }
        let retired =
            |kid: &str| known.iter().any(|key| key.kid == kid && key.state == MasterKeyState::Retired);
        let kids: Vec<String> = ring.kids().skip(1).map(str::to_owned).collect();
        let fresh: Vec<String> = kids.iter().filter(|kid| !retired(kid)).cloned().collect();
        if !fresh.is_empty() {
            for kid in &fresh {
                master_key_set(act.tx(), kid, MasterKeyState::Retired, act.at()).await?;
            }
            act.changed(None, "master_key");
            let event = act
                .event(AuditAction::MasterKeyRetired, None, ring.primary())
                .with("retired", fresh.join(","));
            act.commit(event).await?;
        }
        Ok(Retired { kids })
    }

    /// What stands under other keys than the master key `kid`, or, of config variables, than the key that seals those.
    fn others(&self, counts: &SealedCounts, kid: &str) -> BTreeMap<String, u64> {
        let ring = self.vault.ring();
        // The rotation's own master key, if no key of the operator's seals variables.
        let variables = ring.secret_kids().next().unwrap_or(kid);
        let mut others = BTreeMap::<String, u64>::new();
        for (of, right) in [(&counts.master, kid), (&counts.variables, variables)] {
            for (each, count) in of.iter().filter(|(each, _)| *each != right) {
                *others.entry(each.clone()).or_default() += count;
            }
        }
        others
    }

    /// Under which key the texts of a column are to stand.
    fn sealing_kid(&self, column: SealedColumn, rotation: &Rotation) -> String {
        match column {
            SealedColumn::ConfigVariable => self.vault.ring().variable_kid().to_owned(),
            _ => rotation.kid.clone(),
        }
    }

    /// The same secret under the key that seals.
    fn resealed(&self, text: &SealedText) -> Result<String, OpenError> {
        match (text.column, &text.bound) {
            (SealedColumn::HouseSecret, _) => {
                let name = HouseSecretName::named(&text.id).ok_or(OpenError::Mismatch { field: "name" })?;
                self.vault.reseal_house(name, &text.sealed)
            }
            (SealedColumn::ConfigVariable, _) => {
                let SealedVariable { tenant, id, name } =
                    text.variable.as_ref().ok_or(OpenError::Malformed)?;
                let row = VariableRow { tenant: *tenant, id: *id, name };
                self.vault.reseal_variable(&row, &text.sealed)
            }
            (SealedColumn::CloudSecrets, Some(bound)) => {
                self.vault.reseal_cloud(&row_of(bound, &text.sealed))
            }
            (SealedColumn::ProviderKey | SealedColumn::StagedProviderKey, Some(bound)) => {
                self.vault.reseal_provider_key(&row_of(bound, &text.sealed))
            }
            (_, None) => Err(OpenError::Malformed),
        }
    }
}

fn row_of<'a>(bound: &'a SealedFor, sealed: &'a str) -> SealedRow<'a> {
    SealedRow {
        tenant: bound.tenant,
        key: bound.key,
        provider: &bound.provider,
        origin: &bound.origin,
        sealed,
    }
}

fn names(counts: &BTreeMap<String, u64>) -> String {
    counts.keys().map(String::as_str).collect::<Vec<_>>().join(",")
}
