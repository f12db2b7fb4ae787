//! Where secrets are sealed, opened, hashed and signed.
//!
//! A provider key is stored as `v1.<kid>.<fernet token>`; the token carries the row it belongs to, and it opens only
//! for that row and against a [`DispatchGrant`](crate::domain::DispatchGrant) or a
//! [`RetrievalGrant`](crate::domain::RetrievalGrant) for it. A config variable is stored as
//! `v2.<kid>.<AES-256-GCM-SIV>`, with its row as associated data. Nothing is cached, nothing here
//! touches the database or the network, and no clock can lock a key out. What cannot be opened is an error that names
//! the reason and never the content.

mod entropy;
pub mod fingerprint;
pub mod house;
pub mod jwt;
pub mod keyring;
pub mod password;
mod record;
pub mod seal;
pub mod service_token;
pub mod siv;
pub mod token;
mod token_text;

pub use fingerprint::Fingerprinter;
pub use house::{HouseSecret, HouseSecretName};
pub use jwt::{Claims, JwtError, SessionKey, SessionKeyError, SessionSubject, Sessions};
pub use keyring::{
    KeyFileError, KeyRing, KeyRingError, LEAVES_AFTER, create_key_file, load_key_file, replace_key_file,
};
pub use password::{PasswordError, Passwords};
pub use seal::{OpenError, SealedRow, Vault, needed};
pub use siv::{SecretKeyError, VariableRow};
pub use token::Pepper;
