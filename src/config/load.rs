//! The layers, from the defaults to the flags.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    check,
    env::Environment,
    error::{ConfigError, Origin},
    file,
    settings::Config,
    table::{self, SETTINGS},
    value::Value,
};

/// The reference, and the first layer.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.yaml");

/// What the flags say, as it was written.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config`: the YAML file.
    pub config: Option<PathBuf>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--admin-listen`.
    pub admin_listen: Option<String>,
    /// `--data-dir`.
    pub data_dir: Option<String>,
    /// `--policy-config`: the policy pack's file.
    pub policy_config: Option<String>,
    /// `--drain-timeout`.
    pub drain_timeout: Option<String>,
    /// `--log`: a filter.
    pub log: Option<String>,
    /// `--log-format`.
    pub log_format: Option<String>,
}

impl Overrides {
    /// Flag, key and value of each one that was given.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        [
            ("--listen", "server.listen", &self.listen),
            ("--admin-listen", "server.admin_listen", &self.admin_listen),
            ("--data-dir", "server.data_dir", &self.data_dir),
            ("--policy-config", "policy.file", &self.policy_config),
            ("--drain-timeout", "server.drain_timeout", &self.drain_timeout),
            ("--log", "log.filter", &self.log),
            ("--log-format", "log.format", &self.log_format),
        ]
        .into_iter()
        .filter_map(|(flag, key, value)| Some((flag, key, value.as_deref()?)))
    }
}

impl Config {
    /// Defaults, then the file (`--config` or `KEYSTILE_CONFIG`), then the environment, then the flags; then the checks
    /// of the whole. Reads files, so call it before the runtime is busy.
    pub fn load(flags: &Overrides, environment: &Environment) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.apply_file(Path::new("config/default.yaml"), DEFAULTS)?;
        // What nobody changes has no origin but the default.
        config.origins.clear();

        let file = match &flags.config {
            Some(path) => Some((Origin::Flag("--config"), path.clone())),
            None => environment
                .value("KEYSTILE_CONFIG")?
                .map(|(origin, path)| (origin, PathBuf::from(path.as_str()))),
        };
        if let Some((origin, path)) = file {
            let text = match fs::read_to_string(&path) {
                Ok(text) => zeroize::Zeroizing::new(text),
                Err(source) => return Err(ConfigError::Unreadable { origin, path, source }),
            };
            config.apply_file(&path, &text)?;
        }

        environment.check_names()?;
        for setting in SETTINGS {
            let Some(variable) = setting.variable else { continue };
            if let Some((origin, text)) = environment.value(variable)? {
                config.apply(setting, Value::Text(text), origin)?;
            }
        }

        for (flag, key, value) in flags.given() {
            if let Some(setting) = table::by_key(key) {
                config.apply(setting, Value::of(value), Origin::Flag(flag))?;
            }
        }
        check::check(&config)?;
        Ok(config)
    }

    fn apply_file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        for entry in file::entries(path, text)? {
            self.apply(entry.setting, entry.value, entry.origin)?;
        }
        Ok(())
    }

    fn apply(&mut self, setting: &table::Setting, value: Value, origin: Origin) -> Result<(), ConfigError> {
        if let Err(problem) = (setting.set)(self, value) {
            return Err(ConfigError::Invalid { origin, name: setting.name(), problem });
        }
        self.origins.note(setting.name(), origin);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, time::Duration};

    use super::*;

    fn load(flags: &Overrides, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::load(flags, &variables.iter().copied().collect())
    }

    fn problem(variables: &[(&str, &str)]) -> String {
        load(&Overrides::default(), variables).unwrap_err().to_string()
    }

    fn yaml(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn the_reference_names_every_setting_and_says_the_defaults() {
        for key in table::keys() {
            let (section, name) = key.split_once('.').unwrap();
            let (_, rest) = DEFAULTS.split_once(&format!("\n{section}:\n")).unwrap();
            let body = rest.split("\n\n").next().unwrap();
            assert!(body.lines().any(|line| line.starts_with(&format!("  {name}: "))), "{key} is missing");
        }
        let loaded = load(&Overrides::default(), &[]).unwrap();
        assert_eq!(format!("{loaded:#?}"), format!("{:#?}", Config::default()));
    }

    #[test]
    fn the_documentation_lists_every_setting_and_no_other() {
        let page = include_str!("../../docs/configuration.md");
        let listed: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| ")).collect();
        for setting in SETTINGS {
            let cell = |name: Option<&str>| name.map_or("–".to_owned(), |name| format!("`{name}`"));
            let row = format!("{} | {} | ", cell(setting.key), cell(setting.variable));
            assert!(listed.iter().any(|line| line.starts_with(&row)), "no row begins with `| {row}`");
        }
        for variable in table::OTHER_VARIABLES {
            assert!(
                listed.iter().any(|line| line.starts_with(&format!("– | `{variable}` | "))),
                "{variable}"
            );
        }
        let rows = listed.iter().filter(|line| line.starts_with('`') || line.starts_with('–')).count();
        assert_eq!(rows, SETTINGS.len() + table::OTHER_VARIABLES.len());
    }

    #[test]
    fn each_layer_lies_over_the_one_before() {
        let file = yaml(
            "server:\n  data_dir: /file\n  listen: 127.0.0.1:1\n  drain_timeout: 1s\n  header_timeout: 2s\n",
        );
        let flags = Overrides {
            config: Some(file.path().to_owned()),
            data_dir: Some("/flag".into()),
            ..Overrides::default()
        };
        let config =
            load(&flags, &[("KEYSTILE_DATA_DIR", "/env"), ("KEYSTILE_LISTEN", "127.0.0.1:2")]).unwrap();
        assert_eq!(config.server.data_dir, Path::new("/flag"));
        assert_eq!(config.server.listen.port(), 2);
        assert_eq!(config.server.drain_timeout, Duration::from_secs(1));
        assert_eq!(config.server.header_timeout, Duration::from_secs(2));
        assert_eq!(config.server.admin_listen.port(), 8081);
    }

    #[test]
    fn the_file_can_be_named_by_the_environment() {
        let file = yaml("egress:\n  allow: ['10.0.0.7:8000', \"[::1]:11434\"]\nlog:\n  format: json\n");
        let config =
            load(&Overrides::default(), &[("KEYSTILE_CONFIG", file.path().to_str().unwrap())]).unwrap();
        assert_eq!(config.egress_allow.len(), 2);
        assert_eq!(config.egress_allow[1].host, "[::1]");
        assert!(
            problem(&[("KEYSTILE_CONFIG", "/nowhere.yaml")])
                .starts_with("variable `KEYSTILE_CONFIG`: cannot read")
        );
    }

    #[test]
    fn an_error_names_its_source_and_the_remedy() {
        assert_eq!(
            problem(&[("KEYSTILE_UPSTREAM_IDLE_TIMEOUT", "120")]),
            "variable `KEYSTILE_UPSTREAM_IDLE_TIMEOUT`: `upstream.idle_timeout` cannot be `120`; write a duration such \
             as `250ms`, `30s`, `5m`, `1h` or `7d`"
        );
        let flags = Overrides { listen: Some("localhost".into()), ..Overrides::default() };
        let error = load(&flags, &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("flag `--listen`: `server.listen` cannot be `localhost`; write"),
            "{error}"
        );
        let file = yaml("server:\n  max_connections: 0\n");
        let flags = Overrides { config: Some(file.path().to_owned()), ..Overrides::default() };
        assert!(load(&flags, &[]).unwrap_err().to_string().contains("line 2: `server.max_connections`"));
    }

    #[test]
    fn the_two_planes_need_two_ports() {
        assert!(problem(&[("KEYSTILE_LISTEN", "127.0.0.1:8081")]).contains("share a port"));
        assert!(problem(&[("KEYSTILE_LISTEN", "0.0.0.0:8081")]).contains("share a port"));
        let free = [("KEYSTILE_LISTEN", "127.0.0.1:0"), ("KEYSTILE_ADMIN_LISTEN", "127.0.0.1:0")];
        assert!(load(&Overrides::default(), &free).is_ok());
    }

    #[test]
    fn a_timeout_of_zero_is_refused_except_for_draining() {
        assert!(load(&Overrides::default(), &[("KEYSTILE_DRAIN_TIMEOUT", "0s")]).is_ok());
        assert!(problem(&[("KEYSTILE_UPSTREAM_CONNECT_TIMEOUT", "0s")]).contains("cannot be zero"));
    }

    #[test]
    fn secrets_reach_neither_errors_nor_debug() {
        let long = "canary-canary-canary-canary-canary";
        let config = load(
            &Overrides::default(),
            &[
                ("KEYSTILE_JWT_KEYS", &format!("k1:{long}")),
                ("KEYSTILE_ADMIN_PASSWORD", long),
                ("PROVIDER_KEY_ENCRYPTION_KEY", long),
                ("KEYSTILE_SECRET_ENCRYPTION_KEY", long),
                ("KEYSTILE_DATABASE_URL", &format!("postgres://u:{long}@h/d")),
                ("KEYSTILE_REDIS_URL", &format!("rediss://:{long}@h:6380/1")),
            ],
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("canary"));
        assert!(!format!("{:?}", config.values()).contains("canary"));
        for (name, value) in [
            ("KEYSTILE_JWT_KEYS", "k1:canary"),
            ("KEYSTILE_ADMIN_PASSWORD", "canary"),
            ("KEYSTILE_DATABASE_URL", "mysql://u:canary@h/d"),
            ("KEYSTILE_REDIS_URL", "http://:canary@h"),
            ("KEYSTILE_REDIS_URL", "redis:canary"),
            ("PROVIDER_KEY_ENCRYPTION_KEY", "changeme-canary"),
        ] {
            let error = problem(&[(name, value)]);
            assert!(error.contains(name) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn master_keys_come_from_a_file_or_the_environment() {
        let keys = yaml("first-key-abcdef\nsecond-key-abcdef\n");
        let file = yaml(&format!("vault:\n  master_key_file: {}\n", keys.path().display()));
        let flags = Overrides { config: Some(file.path().to_owned()), ..Overrides::default() };
        assert_eq!(load(&flags, &[]).unwrap().vault.master_keys.len(), 2);
        let config = load(&flags, &[("PROVIDER_KEY_ENCRYPTION_KEY", "another-key")]).unwrap();
        assert_eq!(config.vault.master_keys[0].0.as_str(), "another-key");
    }

    #[test]
    fn the_database_is_a_file_in_the_data_directory_unless_said_otherwise() {
        let config = load(&Overrides::default(), &[("KEYSTILE_DATA_DIR", "/d")]).unwrap();
        assert_eq!(config.database_file(), Some(PathBuf::from("/d/keystile.db")));
        let config =
            load(&Overrides::default(), &[("KEYSTILE_DATABASE_URL", "sqlite:///x/y.db?mode=rwc")]).unwrap();
        assert_eq!(config.database_file(), Some(PathBuf::from("/x/y.db")));
        let config = load(&Overrides::default(), &[("KEYSTILE_DATA_DIR", "/d?/50%25")]).unwrap();
        assert_eq!(config.database_file(), Some(PathBuf::from("/d?/50%25/keystile.db")));
        let config =
            load(&Overrides::default(), &[("KEYSTILE_DATABASE_URL", "sqlite:////x/50%25.db")]).unwrap();
        assert_eq!(config.database_file(), Some(PathBuf::from("//x/50%.db")));
        assert!(problem(&[("KEYSTILE_DATABASE_URL", "sqlite:x.db?mode=ro")]).contains("not supported"));
        let config = load(&Overrides::default(), &[("KEYSTILE_DATABASE_URL", "postgres://h/d")]).unwrap();
        assert_eq!(config.database_file(), None);
        assert!(problem(&[("KEYSTILE_DATABASE_URL", "sqlite::memory:")]).contains("lose all spend"));
    }
}
