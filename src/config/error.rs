//! What can be wrong with a configuration: where it stands, what is wrong, what to do.

use std::{fmt, io, path::PathBuf};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line of a YAML file; 0 when the line is not known.
    File {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: u64,
    },
    /// An environment variable.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => write!(f, "`{}`", path.display()),
            Self::File { path, line } => write!(f, "`{}` line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable `{name}`"),
            Self::Flag(name) => write!(f, "flag `{name}`"),
        }
    }
}

/// Why the configuration cannot be used. No message carries a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The configuration file, or a file that a `…_FILE` variable or `vault.master_key_file` names, cannot be read.
    #[error("{origin}: cannot read `{}`; check the path and its permissions", path.display())]
    Unreadable {
        /// Who named the file.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not YAML, or not a mapping of sections.
    #[error("{origin}: {problem}")]
    Malformed {
        /// Where.
        origin: Origin,
        /// What is wrong and what to do.
        problem: String,
    },
    /// A name that is no setting.
    #[error("{origin}: `{name}` is no setting; {}", hint(near))]
    Unknown {
        /// Where.
        origin: Origin,
        /// The name as it was written.
        name: String,
        /// The nearest name there is.
        near: Option<&'static str>,
    },
    /// A value that its setting cannot take.
    #[error("{origin}: `{name}` {problem}")]
    Invalid {
        /// Where.
        origin: Origin,
        /// The setting.
        name: &'static str,
        /// What is wrong and what to do.
        problem: String,
    },
    /// The policy pack names a variable that is not set.
    #[error(
        "{origin}: target `{target}` takes its key from the variable `{variable}`, which is not set; set it, or name another"
    )]
    MissingVariable {
        /// Where.
        origin: Origin,
        /// The target that names it.
        target: String,
        /// The variable.
        variable: String,
    },
    /// A variable and its `…_FILE` at once.
    #[error("`{variable}` and `{variable}_FILE` are both set; keep one of them")]
    Both {
        /// The variable.
        variable: &'static str,
    },
    /// A variable whose value is not UTF-8.
    #[error("variable `{variable}` is not UTF-8; set it anew")]
    NotText {
        /// The variable.
        variable: String,
    },
    /// Settings that do not go together.
    #[error("{problem}")]
    Contradiction {
        /// What is wrong and what to do.
        problem: String,
    },
}

fn hint(near: &Option<&'static str>) -> String {
    match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "see docs/configuration.md for all of them, or remove it".to_owned(),
    }
}
