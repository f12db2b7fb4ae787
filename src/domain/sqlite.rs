//! SQLite URLs: what file one names, and how a file is written as one. Whoever needs the file asks here, so that the lock,
//! the checks and the database itself cannot mean different ones.

use std::path::{Path, PathBuf};

/// Why a `sqlite:` URL names no database that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqliteUrlError {
    /// It would be gone at the end.
    #[error(
        "is a database in memory, which would lose all spend; name a file, such as `sqlite:/tmp/keystile.db`"
    )]
    InMemory,
    /// There is no path in it.
    #[error("names no file; write `sqlite:path/to/keystile.db`")]
    NoFile,
    /// Parameters.
    #[error("has something after a `?` that is not supported; a `?` in the file's name is written `%3f`")]
    Parameters,
    /// Bytes that are no text.
    #[error("is not UTF-8 after its `%` escapes")]
    NotText,
}

/// The file that a `sqlite:` URL names: after `sqlite:` and at most one `//`, with `%` escapes, and with no parameters but
/// `mode=rwc`. A relative path begins at the working directory.
///
/// # Errors
/// When it is not a file that can be used.
pub fn sqlite_file(url: &str) -> Result<PathBuf, SqliteUrlError> {
    let path = url.strip_prefix("sqlite:").unwrap_or(url);
    let path = path.strip_prefix("//").unwrap_or(path);
    let (path, parameters) = path.split_once('?').unwrap_or((path, ""));
    if path == ":memory:" || parameters.contains("mode=memory") {
        return Err(SqliteUrlError::InMemory);
    }
    if path.trim_start_matches('/').is_empty() {
        return Err(SqliteUrlError::NoFile);
    }
    if !matches!(parameters, "" | "mode=rwc") {
        return Err(SqliteUrlError::Parameters);
    }
    unescaped(path).map(PathBuf::from)
}

/// The URL of the SQLite database at `path`.
pub fn sqlite_url(path: &Path) -> String {
    format!("sqlite:{}", path.to_string_lossy().replace('%', "%25").replace('?', "%3f"))
}

/// Resolves `%xx`; a percent sign that begins no escape stands for itself.
fn unescaped(text: &str) -> Result<String, SqliteUrlError> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut plain, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%').then(|| Some((digit(bytes.get(at + 1))?, digit(bytes.get(at + 2))?)));
        match escape.flatten().and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(escaped) => {
                plain.push(escaped);
                at += 3;
            }
            None => {
                plain.push(byte);
                at += 1;
            }
        }
    }
    match String::from_utf8(plain) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(SqliteUrlError::NotText),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_names_one_file() {
        for (url, file) in [
            ("sqlite:keystile.db", "keystile.db"),
            ("sqlite:./a/b.db", "./a/b.db"),
            ("sqlite:/x/y.db", "/x/y.db"),
            ("sqlite://rel.db", "rel.db"),
            ("sqlite:///x/y.db?mode=rwc", "/x/y.db"),
            ("sqlite:////x/y.db", "//x/y.db"),
            ("sqlite:/x/100%25.db", "/x/100%.db"),
            ("sqlite:/x/100%.db", "/x/100%.db"),
            ("sqlite:/x/what%3f.db", "/x/what?.db"),
            ("sqlite:/x/a%20b.db", "/x/a b.db"),
            ("sqlite:/x/%e4%bd%a0.db", "/x/你.db"),
        ] {
            assert_eq!(sqlite_file(url), Ok(PathBuf::from(file)), "{url}");
        }
        for (url, error) in [
            ("sqlite::memory:", SqliteUrlError::InMemory),
            ("sqlite:x?mode=memory", SqliteUrlError::InMemory),
            ("sqlite:", SqliteUrlError::NoFile),
            ("sqlite:///", SqliteUrlError::NoFile),
            ("sqlite:x?cache=shared", SqliteUrlError::Parameters),
            ("sqlite:x%ff", SqliteUrlError::NotText),
            ("sqlite:x%00", SqliteUrlError::NotText),
        ] {
            assert_eq!(sqlite_file(url), Err(error), "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_path_reads_back_from_its_url(path in "[a-z%?&#= .é/]{1,20}") {
            prop_assume!(!path.starts_with("//") && !path.trim_start_matches('/').is_empty());
            prop_assert_eq!(sqlite_file(&sqlite_url(Path::new(&path))), Ok(PathBuf::from(path)));
        }
    }
}
