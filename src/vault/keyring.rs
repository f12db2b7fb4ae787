//! The master keys: the first seals, all open. They come from the operator, or from a file in the data directory.
//!
//! Our own copies are wiped. The Fernet crate wipes the halves it keeps, but not the buffer it decodes a key into; it
//! does so once per key, at start-up.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE};
use fernet::Fernet;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    entropy,
    siv::{SecretKeyError, VariableKey},
};
use crate::config::{MasterKeyText, SecretText};

const KEY_BYTES: usize = 32;
const KID_LABEL: &[u8] = b"keystile master key";
/// Longest key file that is read: room for hundreds of keys, and no surprise when the path names something else.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Why a list of master keys cannot be used. Keys are named by their place in the list, never by their text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// There is no key at all.
    #[error("no master key is given; make one with `keystile master-key generate`")]
    Empty,
    /// Not 32 bytes in url-safe base64.
    #[error(
        "master key number {place} is not 32 bytes in url-safe base64 (44 characters); make one with `keystile master-key generate`"
    )]
    NotAKey {
        /// Its place in the list, from 1.
        place: usize,
    },
    /// All zeros, as in an example.
    #[error(
        "master key number {place} is all zeros, which anybody can guess; make one with `keystile master-key generate`"
    )]
    Weak {
        /// Its place in the list, from 1.
        place: usize,
    },
    /// The same key stands in the list twice.
    #[error("master key number {place} (`{kid}`) is given twice; remove one of them")]
    Duplicate {
        /// Its place in the list, from 1.
        place: usize,
        /// Its id.
        kid: String,
    },
}

/// Why a key file cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("cannot {act} the master key file `{}`", path.display())]
    Io {
        /// `read` or `create`.
        act: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no key, as after a crash while it was made.
    #[error(
        "the master key file `{}` holds no key; restore it, or delete it if nothing was ever sealed with it",
        path.display()
    )]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// It is far too long to be a key file.
    #[error("`{}` is too long for a master key file; check the path", path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// It is not text.
    #[error("the master key file `{}` is not text; check the path", path.display())]
    NotText {
        /// Which file.
        path: PathBuf,
    },
}

struct MasterKey {
    kid: String,
    fernet: Fernet,
    /// Derived from it, for config variables.
    variables: VariableKey,
}

/// Master keys by order, never empty: the first seals, all open. Beside them the operator's keys for config variables,
/// if there are any; without them, keys derived from the master keys do that work.
pub struct KeyRing(Vec<MasterKey>, Vec<VariableKey>);

impl KeyRing {
    /// Checks and takes the keys. Whitespace around a key is ignored.
    ///
    /// # Errors
    /// Without a key, and for a key that is malformed, weak or given twice.
    pub fn from_texts(texts: &[MasterKeyText]) -> Result<Self, KeyRingError> {
        let mut keys: Vec<MasterKey> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let place = index + 1;
            let key = MasterKey::parse(text.0.trim(), place)?;
            if keys.iter().any(|known| known.kid == key.kid) {
                return Err(KeyRingError::Duplicate { place, kid: key.kid });
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyRingError::Empty) } else { Ok(Self(keys, Vec::new())) }
    }

    /// Adds the operator's keys for config variables: the first seals them, all open.
    ///
    /// # Errors
    /// For a key that is malformed, weak or given twice.
    pub fn with_secret_keys(self, texts: &[SecretText]) -> Result<Self, SecretKeyError> {
        Ok(Self(self.0, VariableKey::parse_all(texts)?))
    }

    /// A new random key in its usual spelling.
    pub fn generate() -> MasterKeyText {
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES]);
        entropy::fill(&mut bytes[..]);
        let mut text = Zeroizing::new(String::with_capacity(48));
        URL_SAFE.encode_string(&bytes[..], &mut text);
        SecretText(text)
    }

    /// The id of the key that seals.
    pub fn primary(&self) -> &str {
        &self.first().kid
    }

    /// The ids of all keys; the one that seals comes first.
    pub fn kids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|key| key.kid.as_str())
    }

    pub(super) fn sealing(&self) -> (&str, &Fernet) {
        let key = self.first();
        (&key.kid, &key.fernet)
    }

    pub(super) fn opening(&self, kid: &str) -> Option<&Fernet> {
        self.0.iter().find(|key| key.kid == kid).map(|key| &key.fernet)
    }

    /// The key that seals config variables now.
    pub(super) fn variable_sealing(&self) -> &VariableKey {
        self.1.first().unwrap_or_else(|| &self.first().variables)
    }

    /// The key that opens what was sealed under `kid`, whether it is the operator's or derived from a master key.
    pub(super) fn variable_opening(&self, kid: &str) -> Option<&VariableKey> {
        let derived = self.0.iter().map(|key| &key.variables);
        self.1.iter().chain(derived).find(|key| key.kid() == kid)
    }

    fn first(&self) -> &MasterKey {
        self.0.first().expect("`from_texts` makes no empty ring")
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyRing(…)")
    }
}

impl MasterKey {
    fn parse(text: &str, place: usize) -> Result<Self, KeyRingError> {
        // One byte more than a key has: a longer text must not fit by accident.
        let mut bytes = Zeroizing::new([0_u8; KEY_BYTES + 1]);
        let length =
            URL_SAFE.decode_slice(text, &mut bytes[..]).map_err(|_| KeyRingError::NotAKey { place })?;
        if length != KEY_BYTES {
            return Err(KeyRingError::NotAKey { place });
        }
        let key = &bytes[..KEY_BYTES];
        if key.iter().all(|byte| *byte == 0) {
            return Err(KeyRingError::Weak { place });
        }
        let fernet = Fernet::new(text).ok_or(KeyRingError::NotAKey { place })?;
        let kid = kid(key);
        Ok(Self { variables: VariableKey::derive(kid.clone(), key), kid, fernet })
    }
}

/// The first 8 hex digits of a labelled SHA-256: names a key without saying anything about it.
fn kid(key: &[u8]) -> String {
    hex(&Sha256::new().chain_update(KID_LABEL).chain_update(key).finalize()[..4])
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

/// Reads the master keys of a key file: one a line, or separated by commas. `None` when there is no such file.
///
/// # Errors
/// When the file cannot be read, is not a key file by its size, or holds no key.
pub fn load_key_file(path: &Path) -> Result<Option<Vec<MasterKeyText>>, KeyFileError> {
    let refused = |source| KeyFileError::Io { act: "read", path: path.to_owned(), source };
    let length = match fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(error)),
    };
    if length > MAX_FILE_BYTES {
        return Err(KeyFileError::TooLong { path: path.to_owned() });
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(refused)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| KeyFileError::NotText { path: path.to_owned() })?;
    let keys: Vec<_> = text
        .split(|c: char| c == ',' || c.is_whitespace())
        .filter(|key| !key.is_empty())
        .map(|key| SecretText(Zeroizing::new(key.to_owned())))
        .collect();
    if keys.is_empty() { Err(KeyFileError::Empty { path: path.to_owned() }) } else { Ok(Some(keys)) }
}

/// Makes a new master key and a file of it that only its owner can read, and puts both on the disk before it returns:
/// a key that seals something must not be lost with the machine's power.
///
/// # Errors
/// When the file exists already, or cannot be written.
pub fn create_key_file(path: &Path) -> Result<MasterKeyText, KeyFileError> {
    let refused = |source| KeyFileError::Io { act: "create", path: path.to_owned(), source };
    let key = KeyRing::generate();
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(refused)?;
    let written = file
        .write_all(key.0.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.sync_all())
        .and_then(|()| sync_directory(path));
    if let Err(error) = written {
        // Half a key would stop the next start; this file is ours and nothing was sealed with it yet.
        let _ = fs::remove_file(path);
        return Err(refused(error));
    }
    Ok(key)
}

/// Puts the file's name on the disk, not only its content.
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if cfg!(unix) { fs::File::open(directory)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str) -> MasterKeyText {
        SecretText(Zeroizing::new(key.into()))
    }

    #[test]
    fn the_first_key_seals_and_all_are_known_by_their_id() {
        let keys = [KeyRing::generate(), KeyRing::generate()];
        let ring = KeyRing::from_texts(&keys).unwrap();
        let kids: Vec<_> = ring.kids().collect();
        assert_eq!(kids.len(), 2);
        assert_eq!(ring.primary(), kids[0]);
        assert!(kids.iter().all(|kid| kid.len() == 8 && kid.bytes().all(|b| b.is_ascii_hexdigit())));
        assert!(ring.opening(kids[1]).is_some());
        assert!(ring.opening("00000000").is_none());
    }

    #[test]
    fn the_id_of_a_key_never_changes() {
        let ring =
            KeyRing::from_texts(&[text("  cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=\r\n")]).unwrap();
        let bytes = URL_SAFE.decode("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=").unwrap();
        let digest = Sha256::digest([KID_LABEL, &bytes].concat());
        assert_eq!(ring.primary(), hex(&digest[..4]));
    }

    #[test]
    fn a_text_that_is_no_key_is_refused_by_its_place() {
        let good = KeyRing::generate();
        for (bad, length) in [
            ("", 0),
            ("changeme", 8),
            (&*URL_SAFE.encode([7; 31]), 31),
            (&*URL_SAFE.encode([7; 33]), 33),
            (&*URL_SAFE.encode([7; 64]), 64),
            ("cw/0x689RpI+jtRR7oE8h/eQsKImvJapLeSbXpwF4e4=", 32),
            ("cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e5=", 32),
            ("cw_0x689RpI-jtRR 7oE8h_eQsKImvJapLeSbXpwF4e4=", 32),
        ] {
            let refused = KeyRing::from_texts(&[good.clone(), text(bad)]).unwrap_err();
            assert_eq!(refused, KeyRingError::NotAKey { place: 2 }, "{length} bytes");
        }
        assert_eq!(KeyRing::from_texts(&[]).unwrap_err(), KeyRingError::Empty);
    }

    #[test]
    fn weak_and_repeated_keys_are_refused() {
        let weak = text(&URL_SAFE.encode([0; 32]));
        assert_eq!(KeyRing::from_texts(&[weak]).unwrap_err(), KeyRingError::Weak { place: 1 });
        let key = KeyRing::generate();
        let again = text(&format!(" {}", *key.0));
        assert!(matches!(
            KeyRing::from_texts(&[key, again]).unwrap_err(),
            KeyRingError::Duplicate { place: 2, .. }
        ));
    }

    #[test]
    fn neither_a_ring_nor_its_errors_print_a_key() {
        let key = KeyRing::generate();
        let ring = KeyRing::from_texts(std::slice::from_ref(&key)).unwrap();
        assert_eq!(format!("{ring:?}"), "KeyRing(…)");
        let error = KeyRing::from_texts(&[key.clone(), key.clone()]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(&**key.0));
    }

    #[test]
    fn a_key_file_is_made_once_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        assert!(load_key_file(&path).unwrap().is_none());
        let key = create_key_file(&path).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let read = load_key_file(&path).unwrap().unwrap();
        assert_eq!(read.len(), 1);
        assert_eq!(*read[0].0, *key.0);
        assert!(matches!(create_key_file(&path), Err(KeyFileError::Io { act: "create", .. })));
        assert_eq!(*load_key_file(&path).unwrap().unwrap()[0].0, *key.0, "the first key is still there");
    }

    #[test]
    fn a_key_file_may_hold_several_keys_and_an_empty_one_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let keys = [KeyRing::generate(), KeyRing::generate(), KeyRing::generate()];
        fs::write(&path, format!("{}\n{},{}\n\n", *keys[0].0, *keys[1].0, *keys[2].0)).unwrap();
        let read = load_key_file(&path).unwrap().unwrap();
        assert_eq!(
            KeyRing::from_texts(&read).unwrap().primary(),
            KeyRing::from_texts(&keys).unwrap().primary()
        );
        assert_eq!(read.len(), 3);
        fs::write(&path, " \n").unwrap();
        assert!(matches!(load_key_file(&path), Err(KeyFileError::Empty { .. })));
        fs::write(&path, vec![b'a'; 65 * 1024]).unwrap();
        assert!(matches!(load_key_file(&path), Err(KeyFileError::TooLong { .. })));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(matches!(load_key_file(&path), Err(KeyFileError::NotText { .. })));
    }
}
