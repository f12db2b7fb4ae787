//! Where a request goes: models stand in the path.

use bytes::Bytes;
use serde::Serialize;

use crate::{dialects::DialectError, domain::ModelName};

/// The path for `verb` of a model.
///
/// # Errors
/// The name has characters that would make another path of it. None of Google's has, so none is escaped.
pub(super) fn path(model: &ModelName, verb: &str) -> Result<String, DialectError> {
    Ok(format!("/{}:{verb}", resource(model)?))
}

/// The model's name as Google has it.
///
/// # Errors
/// As with [`path`].
pub(super) fn resource(model: &ModelName) -> Result<String, DialectError> {
    let name = model.as_str();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.bytes().all(plain) && name.bytes().any(|b| b != b'.') {
        return Ok(format!("models/{name}"));
    }
    let why = if name.starts_with("models/") {
        "is to be given without `models/`"
    } else {
        "is no name of a Gemini model: those have only letters, digits, `-`, `_` and `.`"
    };
    Err(DialectError::unsupported("model", why))
}

/// A body as JSON.
pub(super) fn json(body: &impl Serialize) -> Bytes {
    serde_json::to_vec(body).expect("what is written here has string keys and finite numbers").into()
}
