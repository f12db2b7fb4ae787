//! Where each value came from, and what a reload would change.

use std::collections::BTreeMap;

use super::{
    error::Origin,
    settings::Config,
    table::{RELOADED, SETTINGS, Setting},
};

/// Where each value came from; what is not named here is a default.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<&'static str, Origin>);

impl Origins {
    pub(super) fn note(&mut self, setting: &'static str, origin: Origin) {
        self.0.insert(setting, origin);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Where the value of `setting` was given.
    pub fn of(&self, setting: &str) -> Option<&Origin> {
        self.0.get(setting)
    }
}

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueView {
    /// Its key in the file, or its variable where it has no place in a file.
    pub name: &'static str,
    /// The value; a secret is `(set)`.
    pub value: String,
    /// `default`, a file and line, a variable, a flag, or `program` for what an embedding program set.
    pub origin: String,
}

impl Config {
    /// Every setting with its value and where it came from.
    pub fn values(&self) -> Vec<ValueView> {
        let defaults = Self::default();
        let view = |setting: &Setting| {
            let origin = match self.origins.of(setting.name()) {
                Some(origin) => origin.to_string(),
                None if (setting.same)(self, &defaults) => "default".to_owned(),
                // Two settings may lie over one another: a list of master keys, by file and by variable.
                None if self.is_given_elsewhere(setting) => return None,
                None => "program".to_owned(),
            };
            Some(ValueView { name: setting.name(), value: (setting.show)(self), origin })
        };
        SETTINGS.iter().filter_map(view).collect()
    }

    /// What is in force after `next` was read anew: what a reload changes from `next`, the rest as it stands. Answers too
    /// which settings of `next` wait for a restart.
    pub fn reloaded(&self, next: &Self) -> (Self, Vec<&'static str>) {
        let mut after = self.clone();
        let mut waiting = Vec::new();
        for setting in SETTINGS {
            let name = setting.name();
            if RELOADED.contains(&name) {
                (setting.copy)(&mut after, next);
                match next.origins.of(name) {
                    Some(origin) => after.origins.note(name, origin.clone()),
                    None => after.origins.forget(name),
                }
            } else if !(setting.same)(self, next) && !waiting.contains(&name) {
                waiting.push(name);
            }
        }
        after.policy.pack.clone_from(&next.policy.pack);
        (after, waiting)
    }

    fn is_given_elsewhere(&self, setting: &Setting) -> bool {
        let mut probe = Self::default();
        (setting.copy)(&mut probe, self);
        SETTINGS.iter().any(|other| {
            other.name() != setting.name()
                && self.origins.of(other.name()).is_some()
                && (other.same)(&probe, self)
                && !(other.same)(&probe, &Self::default())
        })
    }
}

impl Origins {
    fn forget(&mut self, setting: &str) {
        self.0.remove(setting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn load(variables: &[(&str, &str)]) -> Config {
        let flags = Overrides { data_dir: Some("/flag".into()), ..Overrides::default() };
        Config::load(&flags, &variables.iter().copied().collect()).expect("a configuration")
    }

    fn value<'a>(values: &'a [ValueView], name: &str) -> (&'a str, &'a str) {
        let view = values.iter().find(|view| view.name == name).expect(name);
        (&view.value, &view.origin)
    }

    #[test]
    fn every_value_says_where_it_came_from_and_secrets_are_set() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "\nlog:\n  format: json\n").expect("written");
        let path = file.path().to_str().expect("text");
        let values = load(&[
            ("KEYSTILE_CONFIG", path),
            ("PROVIDER_KEY_ENCRYPTION_KEY", "canary-key"),
            ("KEYSTILE_JWT_KEYS", "k1:canary-canary-canary-canary-canary"),
            ("KEYSTILE_EGRESS_ALLOW", "10.0.0.7:8000,[::1]:1"),
        ])
        .values();
        assert_eq!(value(&values, "server.data_dir"), ("/flag", "flag `--data-dir`"));
        assert_eq!(value(&values, "server.drain_timeout"), ("30s", "default"));
        assert_eq!(value(&values, "log.format"), ("json", &*format!("`{path}` line 3")));
        let keys = value(&values, "PROVIDER_KEY_ENCRYPTION_KEY");
        assert_eq!(keys, ("(set)", "variable `PROVIDER_KEY_ENCRYPTION_KEY`"));
        assert!(
            values.iter().all(|view| view.name != "vault.master_key_file"),
            "it is not where they came from"
        );
        assert_eq!(value(&values, "KEYSTILE_JWT_KEYS").0, "k1:(set)");
        assert_eq!(value(&values, "egress.allow").0, "10.0.0.7:8000,[::1]:1");
        assert!(!format!("{values:?}").contains("canary"));
    }

    #[test]
    fn a_reload_takes_what_it_can_and_names_the_rest() {
        let (old, next) =
            (load(&[]), load(&[("KEYSTILE_POLICY_CONFIG", "/p"), ("KEYSTILE_DURABILITY", "power")]));
        let (after, waiting) = old.reloaded(&next);
        assert_eq!(waiting, ["ledger.durability"]);
        assert_eq!(after.ledger.durability, old.ledger.durability);
        assert_eq!(after.policy.file, next.policy.file);
        assert_eq!(value(&after.values(), "policy.file").1, "variable `KEYSTILE_POLICY_CONFIG`");
        let (back, waiting) = after.reloaded(&old);
        assert_eq!((back.policy.file, waiting.len()), (None, 0));
        // A secret that changed is noticed, and not shown.
        let (one, two) = (load(&[("KEYSTILE_ADMIN_PASSWORD", "correct horse battery")]), load(&[]));
        assert_eq!(one.reloaded(&two).1, ["KEYSTILE_ADMIN_PASSWORD"]);
    }
}
