//! The master keys: the first seals, all open. They come from the operator, or from a file in the data directory.
//!
//! A key that is dropped while the process runs goes on opening for [`LEAVES_AFTER`]: a request that is under way may hold
//! a text that it read before everything was sealed anew. Then it is forgotten.
//!
//! Our own copies are wiped. The Fernet crate wipes the halves it keeps, but not the buffer it decodes a key into; it
//! does so once per key, at start-up.

use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
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
/// How long a dropped key goes on opening: longer than a request with its fallbacks takes (`upstream.total_timeout`).
pub const LEAVES_AFTER: Duration = Duration::from_secs(3_900);

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
    /// A list that is to replace another one lacks a key that is needed.
    #[error(
        "the new master keys lack `{kid}`, under which something is still sealed; put it back behind the first, and run \
         `keystile master-key rotate`"
    )]
    StillNeeded {
        /// Which key.
        kid: String,
    },
}

/// Why a key file cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The system refused.
    #[error("cannot {act} the master key file `{}`", path.display())]
    Io {
        /// `read`, `create` or `replace`.
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

/// A key that was dropped, and until when it opens.
struct Leaving {
    key: Arc<MasterKey>,
    until: Instant,
}

/// Master keys by order, never empty: the first seals, all open. Beside them the operator's keys for config variables,
/// if there are any; without them, keys derived from the master keys do that work.
pub struct KeyRing {
    keys: Vec<Arc<MasterKey>>,
    leaving: Vec<Leaving>,
    /// Never copied: what a copy leaves behind is not wiped.
    secret_keys: Arc<Vec<VariableKey>>,
}

impl KeyRing {
    /// Checks and takes the keys. Whitespace around a key is ignored.
    ///
    /// # Errors
    /// Without a key, and for a key that is malformed, weak or given twice.
    pub fn from_texts(texts: &[MasterKeyText]) -> Result<Self, KeyRingError> {
        let mut keys: Vec<Arc<MasterKey>> = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let place = index + 1;
            let key = MasterKey::parse(text.0.trim(), place)?;
            if keys.iter().any(|known| known.kid == key.kid) {
                return Err(KeyRingError::Duplicate { place, kid: key.kid });
            }
            keys.push(Arc::new(key));
        }
        if keys.is_empty() {
            Err(KeyRingError::Empty)
        } else {
            Ok(Self { keys, leaving: Vec::new(), secret_keys: Arc::default() })
        }
    }

    /// Adds the operator's keys for config variables: the first seals them, all open.
    ///
    /// # Errors
    /// For a key that is malformed, weak or given twice.
    pub fn with_secret_keys(self, texts: &[SecretText]) -> Result<Self, SecretKeyError> {
        Ok(Self { secret_keys: Arc::new(VariableKey::parse_all(texts)?), ..self })
    }

    /// This ring as the successor of `before`: what it lacks of that one opens for a while longer, and nothing is sealed
    /// with it.
    pub(super) fn after(mut self, before: &Self, now: Instant) -> Self {
        let dropped =
            before.keys.iter().map(|key| Leaving { key: Arc::clone(key), until: now + LEAVES_AFTER });
        let earlier =
            before.leaving.iter().map(|left| Leaving { key: Arc::clone(&left.key), until: left.until });
        let stays = |kid: &str, keys: &[Arc<MasterKey>]| keys.iter().any(|key| key.kid == kid);
        self.leaving = dropped
            .chain(earlier)
            .filter(|left| left.until > now && !stays(&left.key.kid, &self.keys))
            .collect();
        self
    }

    /// This ring without the dropped keys whose time is over; `None` when there is none.
    pub(super) fn without_expired(&self, now: Instant) -> Option<Self> {
        let stays = |left: &Leaving| left.until > now;
        if self.leaving.iter().all(stays) {
            return None;
        }
        let leaving = self.leaving.iter().filter(|left| stays(left));
        Some(Self {
            keys: self.keys.clone(),
            leaving: leaving.map(|left| Leaving { key: Arc::clone(&left.key), until: left.until }).collect(),
            secret_keys: Arc::clone(&self.secret_keys),
        })
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
        self.keys.iter().map(|key| key.kid.as_str())
    }

    pub(super) fn sealing(&self) -> (&str, &Fernet) {
        let key = self.first();
        (&key.kid, &key.fernet)
    }

    pub(super) fn opening(&self, kid: &str) -> Option<&Fernet> {
        self.master(kid).map(|key| &key.fernet)
    }

    fn master(&self, kid: &str) -> Option<&MasterKey> {
        let loaded = self.keys.iter().find(|key| key.kid == kid);
        // Only for a key that is not loaded, which is next to never: the clock is not asked otherwise.
        let leaving = || {
            let left = self.leaving.iter().find(|left| left.key.kid == kid)?;
            (left.until > Instant::now()).then_some(&left.key)
        };
        loaded.or_else(leaving).map(Arc::as_ref)
    }

    /// The id of the key that seals config variables.
    pub fn variable_kid(&self) -> &str {
        self.variable_sealing().kid()
    }

    /// The ids of the operator's keys for config variables; the one that seals comes first.
    pub fn secret_kids(&self) -> impl Iterator<Item = &str> {
        self.secret_keys.iter().map(VariableKey::kid)
    }

    /// The key that seals config variables now.
    pub(super) fn variable_sealing(&self) -> &VariableKey {
        self.secret_keys.first().unwrap_or_else(|| &self.first().variables)
    }

    /// The key that opens what was sealed under `kid`, whether it is the operator's or derived from a master key.
    pub(super) fn variable_opening(&self, kid: &str) -> Option<&VariableKey> {
        let own = self.secret_keys.iter().find(|key| key.kid() == kid);
        own.or_else(|| self.master(kid).map(|key| &key.variables))
    }

    fn first(&self) -> &MasterKey {
        self.keys.first().expect("`from_texts` makes no empty ring")
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

/// Replaces the key file by one with `keys`, in this order and one a line. At every moment the whole old file or the
/// whole new one stands under the name, and the new one is on the disk when this returns.
///
/// # Errors
/// When the directory cannot be written; then the old file stands.
pub fn replace_key_file(path: &Path, keys: &[MasterKeyText]) -> Result<(), KeyFileError> {
    let refused = |source| KeyFileError::Io { act: "replace", path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    // What a killed command left there was never the key file; and made anew the file has its mode for certain.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    let mut file = options.open(&beside).map_err(refused)?;
    let written = keys
        .iter()
        .try_for_each(|key| file.write_all(key.0.trim().as_bytes()).and_then(|()| file.write_all(b"\n")))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path))
        .and_then(|()| sync_directory(path));
    written.map_err(|error| {
        let _ = fs::remove_file(&beside);
        refused(error)
    })
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
    fn a_key_file_is_replaced_whole_and_stays_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let old = create_key_file(&path).unwrap();
        // As a killed command leaves it: half a key, readable by all.
        fs::write(directory.path().join("master.key.new"), "half").unwrap();
        let new = KeyRing::generate();
        replace_key_file(&path, &[new.clone(), old.clone()]).unwrap();
        let read = load_key_file(&path).unwrap().unwrap();
        assert_eq!(read.iter().map(|key| &**key.0).collect::<Vec<_>>(), [&**new.0, &**old.0]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left beside it");
        let nowhere = directory.path().join("none/master.key");
        assert!(matches!(replace_key_file(&nowhere, &[new]), Err(KeyFileError::Io { act: "replace", .. })));
    }

    #[test]
    fn a_dropped_key_opens_for_a_while_and_seals_nothing() {
        let keys = [KeyRing::generate(), KeyRing::generate()];
        let ring = |keys: &[MasterKeyText]| KeyRing::from_texts(keys).unwrap();
        let now = Instant::now();
        let (old, new) = (ring(&keys[..1]), ring(&keys[1..]));
        let (gone, stays) = (old.primary().to_owned(), new.primary().to_owned());
        let new = new.after(&old, now);
        assert!(new.opening(&gone).is_some() && new.opening(&stays).is_some());
        assert_eq!((new.kids().collect::<Vec<_>>(), new.sealing().0), (vec![stays.as_str()], stays.as_str()));
        // Another reload does not make it stay longer, and after its time it is gone.
        let again = ring(&keys[1..]).after(&new, now + LEAVES_AFTER - Duration::from_secs(1));
        assert!(again.opening(&gone).is_some());
        assert!(ring(&keys[1..]).after(&again, now + LEAVES_AFTER).opening(&gone).is_none());
        assert!(again.without_expired(now).is_none(), "its time is not over");
        let dropped = Arc::downgrade(&again.leaving[0].key);
        let left = again.without_expired(now + LEAVES_AFTER).expect("its time is over");
        assert!(left.opening(&gone).is_none() && left.opening(&stays).is_some());
        let back = ring(&keys).after(&again, now);
        drop((old, new, again));
        assert!(back.leaving.is_empty() && back.opening(&gone).is_some(), "one that comes back is loaded");
        assert!(dropped.upgrade().is_none(), "nobody holds it any more");
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
