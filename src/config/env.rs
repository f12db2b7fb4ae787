//! The environment, as it was handed in. Each variable may be given as itself or, by the path of a file that holds the
//! value, as `…_FILE`. An empty variable counts as not given: compose files write `${X:-}`.

use std::{collections::BTreeMap, fmt, fs, path::PathBuf};

use zeroize::Zeroizing;

use super::{
    error::{ConfigError, Origin},
    near::nearest,
    table,
};

/// The one variable whose name does not begin with `KEYSTILE_`.
const MASTER_KEY: &str = "PROVIDER_KEY_ENCRYPTION_KEY";

/// What applications call their virtual key and its address, as the examples do: no settings of the gateway.
const CLIENTS: [&str; 2] = ["KEYSTILE_KEY", "KEYSTILE_BASE_URL"];

/// The variables that concern Keystile; everything else is left out, but for those that a policy pack names. Its `Debug`
/// shows names only.
#[derive(Default)]
pub struct Environment {
    ours: BTreeMap<String, Zeroizing<String>>,
    others: Others,
}

/// Variables that are none of Keystile's. Nobody looks at one that the operator's policy pack does not name.
#[derive(Default)]
enum Others {
    /// None, as in a test that gives none.
    #[default]
    Absent,
    /// The process's, each read when it is named.
    Process,
    /// Handed in.
    Given(BTreeMap<String, Zeroizing<String>>),
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        let wrap = |(name, value): (K, V)| (name.into(), Zeroizing::new(value.into()));
        let (ours, others) = variables
            .into_iter()
            .map(wrap)
            .filter(|(_, value)| !value.is_empty())
            .partition(|(name, _)| concerns_us(name));
        Self { ours, others: Others::Given(others) }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ours.keys()).finish()
    }
}

/// The process's environment. Nothing else in the house reads it.
pub fn environment() -> Result<Environment, ConfigError> {
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| concerns_us(name)) else { continue };
        let value = value.into_string().map_err(|_| ConfigError::NotText { variable: name.to_owned() })?;
        variables.insert(name.to_owned(), value);
    }
    let ours = variables.into_iter().collect::<Environment>().ours;
    Ok(Environment { ours, others: Others::Process })
}

impl Environment {
    /// The value of `variable`, directly or from its file.
    pub(super) fn value(
        &self,
        variable: &'static str,
    ) -> Result<Option<(Origin, Zeroizing<String>)>, ConfigError> {
        let twin = format!("{variable}_FILE");
        let (direct, by_file) = (self.ours.get(variable), self.ours.get(&twin));
        let path = match (direct, by_file) {
            (Some(_), Some(_)) => return Err(ConfigError::Both { variable }),
            (Some(value), None) => return Ok(Some((Origin::Variable(variable.to_owned()), value.clone()))),
            (None, None) => return Ok(None),
            (None, Some(path)) => PathBuf::from(path.as_str()),
        };
        let origin = Origin::Variable(twin);
        match fs::read_to_string(&path).map(Zeroizing::new) {
            Ok(text) => Ok(Some((origin, Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())))),
            Err(source) => Err(ConfigError::Unreadable { origin, path, source }),
        }
    }

    /// The variable of exactly this name, which the operator's policy pack names as a provider's secret. `None` when it
    /// is not set, or empty. The gateway's own variables are not to be had in this way.
    pub(super) fn named(&self, name: &str) -> Result<Option<Zeroizing<String>>, ConfigError> {
        if concerns_us(name) {
            return Ok(None);
        }
        match &self.others {
            Others::Absent => Ok(None),
            Others::Given(given) => Ok(given.get(name).cloned()),
            Others::Process => match std::env::var_os(name).filter(|value| !value.is_empty()) {
                None => Ok(None),
                Some(value) => match value.into_string() {
                    Ok(value) => Ok(Some(Zeroizing::new(value))),
                    Err(_) => Err(ConfigError::NotText { variable: name.to_owned() }),
                },
            },
        }
    }

    /// Refuses variables that are no setting.
    pub(super) fn check_names(&self) -> Result<(), ConfigError> {
        for (name, value) in &self.ours {
            let bare = name.strip_suffix("_FILE").unwrap_or(name);
            if table::variables().any(|known| known == name || known == bare) || is_service_link(name, value)
            {
                continue;
            }
            let near = nearest(name, table::variables());
            return Err(ConfigError::Unknown {
                origin: Origin::Variable(name.clone()),
                name: name.clone(),
                near,
            });
        }
        Ok(())
    }
}

/// Whether a variable is one of the gateway's own.
pub(super) fn concerns_us(name: &str) -> bool {
    (name.starts_with("KEYSTILE_") && !CLIENTS.contains(&name))
        || name.strip_suffix("_FILE").unwrap_or(name) == MASTER_KEY
}

/// Whether Kubernetes made the variable: for a service called `keystile…` every pod gets `KEYSTILE_SERVICE_HOST`,
/// `KEYSTILE_PORT=tcp://…`, `KEYSTILE_PORT_8080_TCP_ADDR` and their like, which nobody mistyped.
fn is_service_link(name: &str, value: &str) -> bool {
    let port = name.split("_PORT_").nth(1).and_then(|rest| rest.split_once('_'));
    let numbered = port.is_some_and(|(number, protocol)| {
        number.bytes().all(|b| b.is_ascii_digit()) && ["TCP", "UDP"].iter().any(|p| protocol.starts_with(p))
    });
    numbered
        || name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || (name.ends_with("_PORT") && (value.starts_with("tcp://") || value.starts_with("udp://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        variables.iter().copied().collect()
    }

    #[test]
    fn a_mistyped_variable_is_refused_with_its_neighbour() {
        let error = of(&[("KEYSTILE_LISTN", "x")]).check_names().unwrap_err();
        assert_eq!(
            error.to_string(),
            "variable `KEYSTILE_LISTN`: `KEYSTILE_LISTN` is no setting; did you mean `KEYSTILE_LISTEN`?"
        );
        assert!(of(&[("PATH", "/bin"), ("KEYSTILE_LISTEN_FILE", "/x")]).check_names().is_ok());
        assert!(of(&[("KEYSTILE_FILE", "/x")]).check_names().is_err());
    }

    #[test]
    fn kubernetes_service_links_are_not_typos() {
        let links = [
            ("KEYSTILE_SERVICE_HOST", "10.0.0.1"),
            ("KEYSTILE_SERVICE_PORT_HTTP", "8080"),
            ("KEYSTILE_PORT", "tcp://10.0.0.1:8080"),
            ("KEYSTILE_ADMIN_PORT_8081_TCP_ADDR", "10.0.0.1"),
        ];
        assert!(of(&links).check_names().is_ok());
        assert!(of(&[("KEYSTILE_PORT", "8080")]).check_names().is_err());
    }

    #[test]
    fn a_value_comes_from_the_variable_or_its_file_but_not_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "secret text\r\n").unwrap();
        let path = file.path().to_str().unwrap();
        let environment = of(&[("KEYSTILE_ADMIN_TOKEN_FILE", path)]);
        let (origin, value) = environment.value("KEYSTILE_ADMIN_TOKEN").unwrap().unwrap();
        assert_eq!(value.as_str(), "secret text");
        assert_eq!(origin, Origin::Variable("KEYSTILE_ADMIN_TOKEN_FILE".into()));

        let both = of(&[("KEYSTILE_ADMIN_TOKEN_FILE", path), ("KEYSTILE_ADMIN_TOKEN", "x")]);
        assert!(matches!(both.value("KEYSTILE_ADMIN_TOKEN"), Err(ConfigError::Both { .. })));
        let gone = of(&[("KEYSTILE_ADMIN_TOKEN_FILE", "/nowhere/at/all")]);
        assert!(matches!(gone.value("KEYSTILE_ADMIN_TOKEN"), Err(ConfigError::Unreadable { .. })));
        assert!(of(&[("KEYSTILE_ADMIN_TOKEN", "")]).value("KEYSTILE_ADMIN_TOKEN").unwrap().is_none());
    }

    #[test]
    fn at_059_only_the_named_variable_is_read_and_none_of_the_gateways_own() {
        let given = of(&[("OPENAI_API_KEY", "sk-x"), ("PROVIDER_KEY_ENCRYPTION_KEY", "canary")]);
        let named = |name: &str| given.named(name).unwrap().map(|value| value.to_string());
        assert_eq!(named("OPENAI_API_KEY").as_deref(), Some("sk-x"));
        for none in ["openai_api_key", "OPENAI_API_KEY_FILE", "PROVIDER_KEY_ENCRYPTION_KEY", "KEYSTILE_KEY"] {
            assert_eq!(named(none), None, "{none}");
        }
        // The process's own: read by name, and not kept.
        let process = environment().unwrap();
        assert!(process.named("PATH").unwrap().is_some());
        assert!(!format!("{process:?}").contains("PATH"));
        assert_eq!(process.named("KEYSTILE_NO_SUCH_VARIABLE").unwrap(), None);
    }

    #[test]
    fn the_environment_prints_names_only() {
        let environment = of(&[("PROVIDER_KEY_ENCRYPTION_KEY", "canary")]);
        assert_eq!(format!("{environment:?}"), r#"{"PROVIDER_KEY_ENCRYPTION_KEY"}"#);
    }
}
