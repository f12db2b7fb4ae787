//! Admin sessions as signed tokens: JWT, HS256, keys by `kid`.
//!
//! The library checks signature, issuer and audience; the header and the times are checked here: it would let a header
//! carry members that point elsewhere (`jku`, `jwk`, `x5u`, `crit`), has `nbf` off and a minute of leeway, and asks the
//! system for the time instead of our clock. What a verified token cannot say is whether the session is still wanted;
//! look for its row, and compare
//! its `session_version` with the user's.

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{entropy, house::HouseSecret, keyring::hex};
use crate::{
    config::JwtKey,
    domain::{Role, SessionId, TenantId, Timestamp, UserId},
};

const ISSUER: &str = "keystile";
const AUDIENCE: &str = "keystile-admin";
const TYPE: &str = "JWT";
const ALGORITHM: &str = "HS256";
const LEEWAY_SECONDS: i64 = 5;
const MIN_SECRET_BYTES: usize = 32;
const MAX_KID_BYTES: usize = 32;
/// Ours are about 500 bytes; a longer text is not even decoded.
const MAX_TOKEN_BYTES: usize = 4096;
/// The gateway's own keys are called so, and by 8 hex digits of a labelled hash: each has an id of its own.
const HOUSE_KID: &str = "house_";
const KID_LABEL: &[u8] = b"keystile session key";

/// Why keys for sessions cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionKeyError {
    /// There is no key at all.
    #[error("no key for admin sessions is given; set `KEYSTILE_JWT_KEYS`")]
    Empty,
    /// The id has a forbidden character or length.
    #[error(
        "key number {place} in `KEYSTILE_JWT_KEYS` needs a key id of 1 to 32 of `A-Z a-z 0-9 _ -` before its colon"
    )]
    BadKid {
        /// Its place in the list, from 1.
        place: usize,
    },
    /// Two keys have one id.
    #[error("the key id `{kid}` stands twice in `KEYSTILE_JWT_KEYS`; rename or remove one")]
    Duplicate {
        /// Which id.
        kid: String,
    },
    /// The secret can be searched for.
    #[error(
        "the secret of key `{kid}` in `KEYSTILE_JWT_KEYS` has fewer than {MIN_SECRET_BYTES} bytes; use `openssl rand -base64 48`"
    )]
    Short {
        /// Which key.
        kid: String,
    },
}

/// Why a token is not a session. All of them mean "log in again"; the difference is for logs and tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwtError {
    /// Not three parts of base64 with JSON in them, or far too long.
    #[error("the session token is malformed; log in again")]
    Malformed,
    /// The header is not exactly `alg`, `typ`, `kid`, or not of our algorithm and type.
    #[error("the session token has a foreign header; log in again")]
    Header,
    /// Signed with a key that is not loaded.
    #[error("the session token is signed with an unknown key; log in again")]
    UnknownKey,
    /// The signature does not fit.
    #[error("the session token is not genuine; log in again")]
    Signature,
    /// A claim is missing, of the wrong type, or not for us.
    #[error("the session token lacks a claim or is not meant for this gateway; log in again")]
    Claims,
    /// Over.
    #[error("the session has expired; log in again")]
    Expired,
    /// Dated later than now.
    #[error("the session token is not valid yet; compare the clocks of your machines")]
    NotYetValid,
}

/// A key that signs or verifies sessions.
pub struct SessionKey {
    kid: String,
    signing: EncodingKey,
    verifying: DecodingKey,
    secret_bytes: usize,
    /// Signs nothing before.
    signs_from: Option<Timestamp>,
    /// Neither signs nor verifies from then on.
    until: Option<Timestamp>,
}

impl SessionKey {
    /// One the operator gave.
    pub fn from_config(key: &JwtKey) -> Self {
        Self::new(&key.kid, key.secret.0.as_bytes())
    }

    /// The gateway's own.
    pub fn from_house(secret: &HouseSecret) -> Self {
        let digest = Sha256::new().chain_update(KID_LABEL).chain_update(secret.key_bytes()).finalize();
        Self::new(&format!("{HOUSE_KID}{}", hex(&digest[..4])), secret.key_bytes())
    }

    /// The same, and until `moment` the next one in the list signs: so that all instances know this one before the first
    /// session is signed with it.
    #[must_use]
    pub fn signing_from(self, moment: Timestamp) -> Self {
        Self { signs_from: Some(moment), ..self }
    }

    /// The same, and from `moment` on it is as if it were not loaded.
    #[must_use]
    pub fn until(self, moment: Timestamp) -> Self {
        Self { until: Some(moment), ..self }
    }

    /// Its id, which stands in every token that it signs.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    fn lives(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    fn signs(&self, now: Timestamp) -> bool {
        self.lives(now) && self.signs_from.is_none_or(|from| from <= now)
    }

    // The library wipes both keys when they are dropped.
    fn new(kid: &str, secret: &[u8]) -> Self {
        Self {
            kid: kid.to_owned(),
            signing: EncodingKey::from_secret(secret),
            verifying: DecodingKey::from_secret(secret),
            secret_bytes: secret.len(),
            signs_from: None,
            until: None,
        }
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// Whose session is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSubject {
    /// Which session: its row says whether it is still wanted.
    pub session: SessionId,
    /// Who.
    pub user: UserId,
    /// With which rights.
    pub role: Role,
    /// In which tenant.
    pub tenant: TenantId,
    /// The user's session version; raising it ends all sessions.
    pub session_version: i32,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Whose session.
    pub subject: SessionSubject,
    /// When it was issued, in seconds since the epoch.
    pub issued_at: i64,
    /// When it ends, in seconds since the epoch.
    pub expires_at: i64,
    /// The token's own id.
    pub id: String,
}

/// The claims as they are written; every one is required.
#[derive(Serialize, Deserialize)]
struct WrittenClaims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    role: Role,
    tenant: TenantId,
    sv: i32,
    iat: i64,
    nbf: i64,
    exp: i64,
    jti: String,
}

/// The header as it must be: these members and no others. Unknown ones are refused and not skipped, which takes care of
/// `crit`, `jku`, `jwk`, `x5u`, `x5c` and whatever is thought of next.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHeader {
    alg: String,
    typ: String,
    kid: String,
}

/// Issues and verifies sessions, with keys that may be replaced while it is in use.
#[derive(Debug)]
pub struct Sessions {
    loaded: ArcSwap<Loaded>,
    validation: Validation,
}

#[derive(Debug)]
struct Loaded {
    /// Never empty; the first that may signs.
    keys: Vec<SessionKey>,
    ttl: Duration,
}

impl Loaded {
    fn new(keys: Vec<SessionKey>, ttl: Duration) -> Result<Self, SessionKeyError> {
        let mut kids = HashSet::new();
        for (index, key) in keys.iter().enumerate() {
            if !is_kid(&key.kid) {
                return Err(SessionKeyError::BadKid { place: index + 1 });
            }
            if !kids.insert(key.kid.as_str()) {
                return Err(SessionKeyError::Duplicate { kid: key.kid.clone() });
            }
            if key.secret_bytes < MIN_SECRET_BYTES {
                return Err(SessionKeyError::Short { kid: key.kid.clone() });
            }
        }
        if keys.is_empty() { Err(SessionKeyError::Empty) } else { Ok(Self { keys, ttl }) }
    }
}

impl Sessions {
    /// Takes the keys, the one that signs first. A retired key stays in the list for as long as `ttl`.
    ///
    /// # Errors
    /// Without a key, for a bad or repeated id, and for a short secret.
    pub fn new(keys: Vec<SessionKey>, ttl: Duration) -> Result<Self, SessionKeyError> {
        let loaded = ArcSwap::from_pointee(Loaded::new(keys, ttl)?);
        Ok(Self { loaded, validation: validation() })
    }

    /// Puts `keys` in the place of the present ones. A session whose key is not among them is over at once.
    ///
    /// # Errors
    /// As [`Sessions::new`]; then the present keys stay.
    pub fn reload(&self, keys: Vec<SessionKey>, ttl: Duration) -> Result<(), SessionKeyError> {
        self.loaded.store(Arc::new(Loaded::new(keys, ttl)?));
        Ok(())
    }

    /// The ids of the keys; the one that signs comes first.
    pub fn kids(&self) -> Vec<String> {
        self.loaded.load().keys.iter().map(|key| key.kid.clone()).collect()
    }

    /// How long a session lasts.
    pub fn ttl(&self) -> Duration {
        self.loaded.load().ttl
    }

    /// A new token that lasts as long as sessions do.
    pub fn issue(&self, subject: &SessionSubject, now: Timestamp) -> String {
        self.issue_for(subject, now, self.ttl())
    }

    /// A new token that lasts for `ttl`, as a command line signs for itself.
    pub fn issue_for(&self, subject: &SessionSubject, now: Timestamp, ttl: Duration) -> String {
        let loaded = self.loaded.load();
        let signer = loaded.keys.iter().find(|key| key.signs(now)).or_else(|| loaded.keys.first());
        let key = signer.expect("`Loaded::new` takes no empty list");
        let mut id = [0_u8; 22];
        entropy::fill_base62(&mut id);
        let claims = WrittenClaims {
            iss: ISSUER.into(),
            aud: AUDIENCE.into(),
            sub: subject.user,
            sid: subject.session,
            role: subject.role,
            tenant: subject.tenant,
            sv: subject.session_version,
            iat: now.seconds(),
            nbf: now.seconds(),
            exp: now.plus(ttl).seconds(),
            jti: id.map(char::from).iter().collect(),
        };
        let header = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &key.signing)
            .expect("the claims have a JSON form, and the key is of the algorithm's family")
    }

    /// Reads a token; it is valid from `nbf` until just before `exp`, with five seconds on either side.
    ///
    /// # Errors
    /// Says in which way it is none of ours; the answer to the client is the same 401.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Claims, JwtError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(JwtError::Malformed);
        }
        let kid = kid_of(token)?;
        let loaded = self.loaded.load();
        let known = loaded.keys.iter().find(|key| key.kid == kid && key.lives(now));
        let key = known.ok_or(JwtError::UnknownKey)?;
        let claims: WrittenClaims = jsonwebtoken::decode(token, &key.verifying, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::InvalidSignature => JwtError::Signature,
                ErrorKind::Base64(_) | ErrorKind::InvalidToken | ErrorKind::Utf8(_) => JwtError::Malformed,
                ErrorKind::InvalidAlgorithm => JwtError::Header,
                _ => JwtError::Claims,
            })?
            .claims;
        check_times(&claims, now.seconds())?;
        Ok(Claims {
            subject: SessionSubject {
                session: claims.sid,
                user: claims.sub,
                role: claims.role,
                tenant: claims.tenant,
                session_version: claims.sv,
            },
            issued_at: claims.iat,
            expires_at: claims.exp,
            id: claims.jti,
        })
    }
}

fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.set_required_spec_claims(&["iss", "aud", "sub", "exp", "nbf"]);
    // The library would ask the system for the time; `check_times` asks our clock.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation
}

fn check_times(claims: &WrittenClaims, now: i64) -> Result<(), JwtError> {
    let latest = now.saturating_add(LEEWAY_SECONDS);
    if claims.nbf > latest || claims.iat > latest {
        return Err(JwtError::NotYetValid);
    }
    if claims.exp.saturating_add(LEEWAY_SECONDS) <= now || claims.exp < claims.iat {
        return Err(JwtError::Expired);
    }
    Ok(())
}

/// The key id in a header that is exactly ours. The key is only looked up in memory by it.
fn kid_of(token: &str) -> Result<String, JwtError> {
    let (header, rest) = token.split_once('.').ok_or(JwtError::Malformed)?;
    if rest.matches('.').count() != 1 {
        return Err(JwtError::Malformed);
    }
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| JwtError::Malformed)?;
    let header: WrittenHeader = serde_json::from_slice(&header).map_err(|_| JwtError::Header)?;
    let ours = header.alg == ALGORITHM && header.typ == TYPE && is_kid(&header.kid);
    if ours { Ok(header.kid) } else { Err(JwtError::Header) }
}

fn is_kid(text: &str) -> bool {
    (1..=MAX_KID_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
