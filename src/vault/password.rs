//! Passwords of people: argon2id behind a semaphore, on blocking threads.
//!
//! Each hash takes 19 MiB, so no more run at a time than there are processors, a short queue waits, and beyond it the
//! answer is [`PasswordError::Busy`]. An unknown user is checked against a decoy, so that the time says nothing.

use std::{alloc::System, fmt, sync::Arc, thread::available_parallelism};

use allocator_api2::vec::Vec as VecIn;
use argon2::{
    Algorithm, Argon2, Block, Params, Version,
    password_hash::phc::{Ident, Output, ParamsString, PasswordHash, Salt},
};
use subtle::ConstantTimeEq;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

use super::{entropy, keyring::hex};
use crate::config::SecretText;

/// Fewest characters of a new password.
pub const MIN_CHARACTERS: usize = 12;
/// Most characters of a password.
pub const MAX_CHARACTERS: usize = 128;

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// Bytes of a salt, and of a hash.
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;
/// Room asked for in one hash, in bytes. glibc gives back at once what is larger than 32 MiB, and keeps what is smaller
/// for the next time after it was freed once (mallopt(3), M_MMAP_THRESHOLD). Only what is used of it takes memory.
const ROOM_BYTES: usize = 33 * 1024 * 1024;
/// How many may wait for each one that runs: about a second's worth.
const WAITING_PER_LANE: usize = 16;

/// Words that make a password guessable when they and digits are all of it.
const WEAK_WORDS: [&str; 13] = [
    "administrator",
    "changeme",
    "password",
    "passwort",
    "keystile",
    "letmein",
    "welcome",
    "default",
    "secret",
    "qwerty",
    "admin",
    "passwd",
    // `passw0rd` without its digit.
    "passwrd",
];
const RUNS: [&str; 3] = ["01234567890123456789", "abcdefghijklmnopqrstuvwxyz", "qwertyuiopasdfghjklzxcvbnm"];

/// Why a password is not taken or could not be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Fewer characters than [`MIN_CHARACTERS`].
    #[error("`password` is too short; use at least {MIN_CHARACTERS} characters")]
    TooShort,
    /// More characters than [`MAX_CHARACTERS`].
    #[error("`password` is too long; use at most {MAX_CHARACTERS} characters")]
    TooLong,
    /// Everybody would try it first.
    #[error("`password` is one that everybody would try first ({why}); choose another one")]
    Weak {
        /// What is wrong with it.
        why: &'static str,
    },
    /// Too many checks wait already.
    #[error("too many passwords are being checked; try again in a second")]
    Busy,
    /// The stored hash is not one of ours.
    #[error("the stored password hash is not readable; set the password anew with `keystile admin create`")]
    Corrupt,
    /// The hash could not be computed.
    #[error("the password could not be hashed; try again")]
    Failed,
}

/// Checks a new password. `email` is its owner's, if known.
///
/// # Errors
/// Says what to change.
pub fn check_new(password: &str, email: Option<&str>) -> Result<(), PasswordError> {
    let weak = |why| Err(PasswordError::Weak { why });
    let length = password.chars().count();
    if length < MIN_CHARACTERS {
        return Err(PasswordError::TooShort);
    }
    if length > MAX_CHARACTERS {
        return Err(PasswordError::TooLong);
    }
    if password.starts_with("$argon2") {
        return weak("it is a stored hash");
    }
    let lower = Zeroizing::new(password.to_lowercase());
    let local_part =
        email.map(|email| email.rsplit_once('@').map_or(email, |(local, _)| local).to_lowercase());
    if local_part.is_some_and(|local| lower.trim() == local)
        || email.is_some_and(|email| lower.trim() == email.to_lowercase())
    {
        return weak("it is the email address");
    }
    let mut kinds: Vec<char> = lower.chars().collect();
    kinds.sort_unstable();
    kinds.dedup();
    let few = kinds.len() < 5;
    zeroize::Zeroize::zeroize(&mut kinds);
    if few {
        return weak("it repeats a few characters");
    }
    if RUNS.iter().any(|run| run.contains(lower.as_str())) {
        return weak("it is a run of neighbouring characters");
    }
    if is_weak_words(&lower) {
        return weak("it is a word such as `admin`, `password` or `changeme`");
    }
    Ok(())
}

/// Whether all its letters are one weak word, once or repeated.
fn is_weak_words(lower: &str) -> bool {
    let mut letters = Zeroizing::new(String::with_capacity(lower.len()));
    letters.extend(lower.chars().filter(|c| c.is_alphabetic()));
    let mut rest = letters.as_str();
    let Some(word) = WEAK_WORDS.iter().find(|word| rest.starts_with(**word)) else { return false };
    while let Some(after) = rest.strip_prefix(word) {
        rest = after;
    }
    rest.is_empty()
}

/// Hashes and checks passwords.
pub struct Passwords {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    /// The hash of a password nobody knows, made at start-up with the parameters of all others.
    decoy: Arc<str>,
    /// How many hashes were begun.
    #[cfg(test)]
    begun: Arc<std::sync::atomic::AtomicUsize>,
}

impl Passwords {
    /// Makes the decoy, which takes as long as one login.
    ///
    /// # Errors
    /// When the decoy cannot be hashed.
    pub fn new() -> Result<Self, PasswordError> {
        let mut unknown = Zeroizing::new([0_u8; 32]);
        entropy::fill(&mut unknown[..]);
        let decoy = hash_now(Zeroizing::new(hex(&unknown[..])).as_bytes())?;
        let lanes = available_parallelism().map_or(1, usize::from);
        Ok(Self::with_lanes(lanes, lanes * WAITING_PER_LANE, decoy))
    }

    fn with_lanes(lanes: usize, waiting: usize, decoy: String) -> Self {
        Self {
            running: Arc::new(Semaphore::new(lanes)),
            waiting: Arc::new(Semaphore::new(lanes + waiting)),
            decoy: decoy.into(),
            #[cfg(test)]
            begun: Arc::default(),
        }
    }

    /// Checks a new password and answers its PHC string.
    ///
    /// # Errors
    /// When the password is refused, or too many are being checked.
    pub async fn hash(&self, password: &SecretText, email: Option<&str>) -> Result<String, PasswordError> {
        check_new(&password.0, email)?;
        let password = password.clone();
        self.run(move || hash_now(password.0.as_bytes())).await
    }

    /// Whether `password` is the one of `stored`. Without a stored hash, as for an unknown user, the answer is `false`
    /// and takes as long.
    ///
    /// # Errors
    /// When the stored hash is not readable, or too many are being checked.
    pub async fn verify(&self, password: &SecretText, stored: Option<&str>) -> Result<bool, PasswordError> {
        let known = stored.is_some();
        let stored: Arc<str> = stored.map_or_else(|| Arc::clone(&self.decoy), Arc::from);
        let password = password.clone();
        let right = self.run(move || verify_now(&password.0, &stored)).await?;
        Ok(known && right)
    }

    /// How many hashes were begun so far.
    #[cfg(test)]
    pub(crate) fn checked(&self) -> usize {
        self.begun.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Runs `work` on a blocking thread. The permits go with it: a caller who gives up does not make room for another
    /// hash while this one still runs.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let lane: OwnedSemaphorePermit =
            Arc::clone(&self.running).acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        #[cfg(test)]
        self.begun.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let task = tokio::task::spawn_blocking(move || {
            let _held = (lane, place);
            work()
        });
        task.await.map_err(|_| PasswordError::Failed)?
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(…)")
    }
}

/// Whether a stored hash was made with other parameters than today's; hash anew at the next login.
pub fn is_outdated(stored: &str) -> bool {
    let same =
        |params: Params| (params.m_cost(), params.t_cost(), params.p_cost()) == (MEMORY_KIB, PASSES, LANES);
    !readable(stored).is_ok_and(|hash| Params::try_from(&hash).is_ok_and(same))
}

fn params() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, None).expect("the constants are within argon2's bounds")
}

/// Argon2id of a password.
fn derive(params: Params, password: &[u8], salt: &[u8], hash: &mut [u8]) -> Result<(), argon2::Error> {
    let blocks = params.block_count();
    // From the system itself: an allocator that is built for speed keeps what it had once, and a process that has checked
    // two passwords would be twice as large as one that has not.
    let mut memory = VecIn::with_capacity_in(blocks.max(ROOM_BYTES / size_of::<Block>()), System);
    memory.resize(blocks, Block::default());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into_with_memory(
        password,
        salt,
        hash,
        &mut memory[..],
    )
}

fn hash_now(password: &[u8]) -> Result<String, PasswordError> {
    let mut salt = [0; SALT_BYTES];
    entropy::fill(&mut salt);
    let mut hash = Zeroizing::new([0; HASH_BYTES]);
    derive(params(), password, &salt, &mut hash[..]).map_err(|_| PasswordError::Failed)?;
    let written = || {
        Some(PasswordHash {
            algorithm: Ident::new("argon2id").ok()?,
            version: Some(Version::V0x13.into()),
            params: ParamsString::try_from(&params()).ok()?,
            salt: Some(Salt::new(&salt).ok()?),
            hash: Some(Output::new(&hash[..]).ok()?),
        })
    };
    written().map(|hash| hash.to_string()).ok_or(PasswordError::Failed)
}

fn verify_now(password: &str, stored: &str) -> Result<bool, PasswordError> {
    let stored = readable(stored)?;
    let (Ok(params), Some(salt), Some(right)) = (Params::try_from(&stored), stored.salt, stored.hash) else {
        return Err(PasswordError::Corrupt);
    };
    let mut hash = Zeroizing::new(vec![0; right.len()]);
    derive(params, password.as_bytes(), salt.as_ref(), &mut hash).map_err(|_| PasswordError::Corrupt)?;
    // A password that could never have been set is wrong; it was hashed like any other so that time tells nothing.
    Ok(bool::from(hash.ct_eq(right.as_bytes())) && password.chars().count() <= MAX_CHARACTERS)
}

/// A PHC string of argon2id whose cost is in reason: whoever writes to the database must not get to choose how much
/// memory a login takes.
fn readable(stored: &str) -> Result<PasswordHash, PasswordError> {
    let hash = PasswordHash::new(stored).map_err(|_| PasswordError::Corrupt)?;
    let params = Params::try_from(&hash).map_err(|_| PasswordError::Corrupt)?;
    let sane = hash.algorithm.as_str() == "argon2id"
        && hash.version == Some(Version::V0x13.into())
        && hash.salt.is_some()
        && hash.hash.is_some()
        && params.m_cost() <= 4 * MEMORY_KIB
        && params.t_cost() <= 8
        && params.p_cost() <= 4;
    if sane { Ok(hash) } else { Err(PasswordError::Corrupt) }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use futures_util::FutureExt;

    use super::*;

    const GOOD: &str = "correct horse battery staple";

    fn secret(text: &str) -> SecretText {
        SecretText(Zeroizing::new(text.into()))
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash(&secret(GOOD), None).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(passwords.verify(&secret(GOOD), Some(&stored)).await.unwrap());
        for wrong in ["", "correct horse battery stapl", "Correct horse battery staple", &format!("{GOOD} ")]
        {
            assert!(!passwords.verify(&secret(wrong), Some(&stored)).await.unwrap());
        }
        assert_ne!(stored, passwords.hash(&secret(GOOD), None).await.unwrap(), "each hash has its own salt");
        assert!(!is_outdated(&stored));
    }

    #[tokio::test]
    async fn at_087_a_stored_hash_is_never_a_password() {
        let passwords = Passwords::new().unwrap();
        let stored = passwords.hash(&secret(GOOD), None).await.unwrap();
        assert!(!passwords.verify(&secret(&stored), Some(&stored)).await.unwrap());
        let refused = passwords.hash(&secret(&stored), None).await.unwrap_err();
        assert_eq!(refused, PasswordError::Weak { why: "it is a stored hash" });
    }

    #[tokio::test]
    async fn at_087_an_unknown_user_costs_a_real_check_and_is_wrong() {
        let decoy = hash_now(GOOD.as_bytes()).unwrap();
        let passwords = Passwords::with_lanes(1, 1, decoy.clone());
        assert!(verify_now(GOOD, &decoy).unwrap(), "the decoy is a hash like any other");
        assert!(!passwords.verify(&secret(GOOD), None).await.unwrap(), "and never lets anybody in");
        assert!(!is_outdated(&decoy), "with the same cost");
    }

    #[tokio::test]
    async fn beyond_the_queue_the_answer_is_busy_and_a_given_up_check_keeps_its_lane() {
        let passwords = Passwords::with_lanes(1, 1, String::new());
        let (release, held) = mpsc::channel::<()>();
        let first = passwords.run(move || held.recv().map_err(|_| PasswordError::Failed));
        // Dropped by the timeout; its thread goes on.
        assert!(tokio::time::timeout(Duration::from_millis(50), first).await.is_err());
        assert_eq!(passwords.running.available_permits(), 0);
        let second = passwords.run(|| Ok(2));
        tokio::pin!(second);
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut second).await.is_err(), "it waits");
        assert_eq!(passwords.run(|| Ok(3)).await, Err(PasswordError::Busy));
        release.send(()).unwrap();
        assert_eq!(second.await, Ok(2));
    }

    /// A hash takes its memory where it runs, so no more than lanes × 19 MiB are ever in use.
    #[tokio::test]
    async fn at_084_of_five_hundred_logins_at_once_few_run_some_wait_and_the_rest_are_refused() {
        let (lanes, waiting) = (2, 2 * WAITING_PER_LANE);
        let passwords = Passwords::with_lanes(lanes, waiting, String::new());
        let (open, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let login = |_| {
            let (gate, running, most) = (Arc::clone(&gate), Arc::clone(&running), Arc::clone(&most));
            passwords.run(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                // Stands until the sender is gone.
                let _ = gate.lock().map(|gate| gate.recv());
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(())
            })
        };
        let mut logins: Vec<_> = (0..500).map(|number| Box::pin(login(number))).collect();
        // Each asks for its place in turn, while none of those that run can end.
        let answers: Vec<_> = logins.iter_mut().map(|login| login.as_mut().now_or_never()).collect();
        assert_eq!(
            answers.iter().flatten().filter(|answer| **answer == Err(PasswordError::Busy)).count(),
            466
        );
        assert_eq!(passwords.waiting.available_permits(), 0);
        drop(open);
        for (login, answer) in logins.into_iter().zip(answers) {
            if answer.is_none() {
                assert_eq!(login.await, Ok(()));
            }
        }
        assert!(most.load(Ordering::SeqCst) <= lanes, "{most:?} at once");
        assert_eq!(passwords.waiting.available_permits(), lanes + waiting, "every place is free again");
    }

    #[test]
    fn length_is_counted_in_characters() {
        assert_eq!(check_new("Wx7-qPz!m2k", None), Err(PasswordError::TooShort));
        assert_eq!(check_new("Wx7-qPz!m2kü", None), Ok(()));
        let long: String = "äöüßéèêëçñ".chars().cycle().take(128).collect();
        assert_eq!(check_new(&long, None), Ok(()));
        assert_eq!(check_new(&format!("{long}x"), None), Err(PasswordError::TooLong));
    }

    #[test]
    fn what_everybody_tries_first_is_refused() {
        for weak in [
            "changemechangeme",
            "ChangeMe-2026!!",
            "password1234",
            "PASSWORD_PASSWORD",
            "admin1234567",
            "administrator",
            "aaaaaaaaaaaa",
            "121212121212",
            "123456789012",
            "abcdefghijkl",
            "qwertyuiopas",
            "letmein12345",
            "Mr.Longmailbox",
            "mr.longmailbox@example.com",
        ] {
            let refused = check_new(weak, Some("mr.longmailbox@example.com"));
            assert!(matches!(refused, Err(PasswordError::Weak { .. })), "{weak}");
        }
        for good in [
            GOOD,
            "my admin is a giraffe",
            "Tr0ub4dor&3-and-more",
            "password of the purple gnu",
            "8172635409182",
        ] {
            assert_eq!(check_new(good, Some("mr.longmailbox@example.com")), Ok(()), "{good}");
        }
    }

    #[test]
    fn strange_stored_hashes_are_corrupt() {
        let good = hash_now(GOOD.as_bytes()).unwrap();
        for stored in [
            String::new(),
            GOOD.to_owned(),
            good.replace("argon2id", "argon2i"),
            good.replace("m=19456", "m=4194304"),
            good.replace("t=2", "t=1000000"),
            good.rsplit_once('$').unwrap().0.to_owned(),
            "$2b$12$EixZaYVK1fsbw1ZfbX3OXePaWxn96p36WQoeG6Lruj3vjPGga31lW".to_owned(),
        ] {
            assert_eq!(verify_now(GOOD, &stored), Err(PasswordError::Corrupt), "{stored}");
            assert!(is_outdated(&stored));
        }
        assert!(is_outdated(&good.replace("t=2", "t=3")));
    }

    #[test]
    fn errors_do_not_say_the_password() {
        let error = check_new("password1234", None).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("1234"));
    }
}
