//! Which entries of the audit log are asked for.

use serde::Deserialize;

use super::{ControlError, spend::span};
use crate::{
    domain::{AuditAction, AuditCategory, AuditOutcome},
    store::AuditFilter,
};

/// Which entries are asked for, as texts; `None` members do not filter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// One act.
    pub action: Option<String>,
    /// One family of acts.
    pub category: Option<String>,
    /// One actor: an id, `cli` or `system`.
    pub actor: Option<String>,
    /// `success`, `refused` or `failure`.
    pub outcome: Option<String>,
    /// Id of what was acted on.
    pub object: Option<String>,
    /// Inclusive; RFC 3339 or a UTC date.
    pub from: Option<String>,
    /// Exclusive; RFC 3339 or a UTC date.
    pub to: Option<String>,
}

impl AuditQuery {
    /// What can be filtered by.
    pub const NAMES: [&str; 7] = ["action", "category", "actor", "outcome", "object", "from", "to"];

    /// Takes `name=value` terms with commas between them into the query.
    pub fn add(&mut self, terms: &str) -> Result<(), ControlError> {
        for term in terms.split(',').map(str::trim) {
            let (name, value) = term
                .split_once('=')
                .ok_or_else(|| ControlError::bad(format!("`{term}` is not `name=value`")))?;
            let place = match name.trim() {
                "action" => &mut self.action,
                "category" => &mut self.category,
                "actor" => &mut self.actor,
                "outcome" => &mut self.outcome,
                "object" => &mut self.object,
                "from" => &mut self.from,
                "to" => &mut self.to,
                other => {
                    let known = listed(Self::NAMES.into_iter());
                    return Err(ControlError::bad(format!("there is no filter `{other}`; use {known}")));
                }
            };
            if place.replace(value.trim().to_owned()).is_some() {
                return Err(ControlError::bad(format!("the filter `{name}` is given twice; give it once")));
            }
        }
        Ok(())
    }

    /// Reads the texts. A word that no entry can have is an error that names those that they have.
    pub(super) fn filter(&self) -> Result<AuditFilter, ControlError> {
        known("action", self.action.as_deref(), AuditAction::ALL.iter().map(|action| action.as_str()))?;
        known("category", self.category.as_deref(), AuditCategory::ALL.iter().map(|family| family.as_str()))?;
        known("outcome", self.outcome.as_deref(), AuditOutcome::ALL.iter().map(|outcome| outcome.as_str()))?;
        let (from, to) = span(self.from.as_deref(), self.to.as_deref())?;
        let Self { action, category, actor, outcome, object, .. } = self.clone();
        Ok(AuditFilter { action, category, actor, outcome, object, from, to })
    }
}

fn known(
    name: &str,
    value: Option<&str>,
    mut words: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), ControlError> {
    match value {
        Some(value) if !words.clone().any(|word| word == value) => {
            Err(ControlError::bad(format!("`{name}` cannot be `{value}`; use {}", listed(words.by_ref()))))
        }
        _ => Ok(()),
    }
}

fn listed(words: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<String> = words.map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
        _ => words.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_come_one_by_one_or_with_commas() {
        let mut query = AuditQuery::default();
        query.add("category=secret_management").expect("a term");
        query.add("from=2026-11-01, to=2026-12-01,outcome=failure").expect("terms");
        let filter = query.filter().expect("a filter");
        assert_eq!(filter.category.as_deref(), Some("secret_management"));
        assert_eq!(filter.outcome.as_deref(), Some("failure"));
        assert!(filter.from < filter.to);
        assert!(query.add("category=identity").is_err(), "twice");
    }

    #[test]
    fn unknown_words_name_the_known_ones() {
        let said = |terms: &str| {
            let mut query = AuditQuery::default();
            query.add(terms).and_then(|()| query.filter().map(drop)).expect_err(terms).to_string()
        };
        assert_eq!(
            said("catgory=identity"),
            "there is no filter `catgory`; use `action`, `category`, `actor`, `outcome`, `object`, `from` or `to`"
        );
        assert!(said("category=secrets").contains("`secret_management`"));
        assert!(said("action=key.made").contains("`virtual_key.created`"));
        assert!(said("outcome=ok").ends_with("use `success`, `refused` or `failure`"));
        assert!(said("from=yesterday").contains("RFC 3339"));
        assert!(said("from=2026-12-01,to=2026-11-01").contains("`from`"));
        assert!(said("identity").contains("name=value"));
    }
}
