//! Names in Anthropic's manner: ids of messages and calls, and kinds of errors.

use std::borrow::Cow;

use bytes::Bytes;

use crate::wire::ErrorObject;

/// What an id may consist of.
const fn fits(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// The id of a message, from what the provider calls its answer or the gateway its request.
pub(super) fn message_id(id: &str) -> String {
    let id = cleaned(id);
    if id.starts_with("msg_") { id.into_owned() } else { format!("msg_{id}") }
}

/// The id of a call, which Anthropic's API takes back only if it fits. The same id always becomes the same, and two that
/// differ in what does not fit stay two.
pub(super) fn call_id(id: &str) -> Cow<'_, str> {
    match cleaned(id) {
        Cow::Borrowed(id) if !id.is_empty() => Cow::Borrowed(id),
        cleaned => Cow::Owned(format!("{cleaned}_{:08x}", hash(id))),
    }
}

fn cleaned(id: &str) -> Cow<'_, str> {
    if id.bytes().all(fits) {
        return Cow::Borrowed(id);
    }
    Cow::Owned(id.chars().map(|c| if c.is_ascii() && fits(c as u8) { c } else { '_' }).collect())
}

/// FNV-1a: it has to be the same in every process, and nothing more.
fn hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The event that ends a broken stream. The status that names its kind is the provider's; what the provider has against
/// the gateway's own key or account is no fault of the client's.
pub(super) fn error_event(error: &ErrorObject) -> Bytes {
    match (error.provider_status, error.code.as_deref()) {
        (Some(401..=403), _) => {
            ErrorObject { kind: "api_error".to_owned(), ..error.clone() }.to_anthropic_event(502)
        }
        (Some(status @ 400..), _) => error.to_anthropic_event(status),
        (_, Some("upstream_timeout")) => error.to_anthropic_event(504),
        // The kind then stays what it is, if it is one of Anthropic's.
        _ => error.to_anthropic_event(502),
    }
}
