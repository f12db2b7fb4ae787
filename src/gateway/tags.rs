//! A request's own tags: `x-keystile-tags: team=search,run=42`.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};

use super::error::GatewayError;

const TAGS: HeaderName = HeaderName::from_static("x-keystile-tags");
/// Tags on one request.
const MOST_TAGS: usize = 16;
/// Bytes of a name or a value.
const MOST_BYTES: usize = 128;

/// Reads the header.
///
/// # Errors
/// 400 when it is not a list of `name=value` with plain names and visible values.
pub(super) fn from_headers(headers: &HeaderMap) -> Result<BTreeMap<String, String>, GatewayError> {
    let mut tags = BTreeMap::new();
    for value in headers.get_all(&TAGS) {
        let text = value.to_str().map_err(|_| refused())?;
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(refused)?;
            let (name, value) = (name.trim(), value.trim());
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
            if name.is_empty()
                || name.len() > MOST_BYTES
                || value.len() > MOST_BYTES
                || !name.chars().all(plain)
            {
                return Err(refused());
            }
            tags.insert(name.to_owned(), value.to_owned());
        }
    }
    if tags.len() > MOST_TAGS { Err(refused()) } else { Ok(tags) }
}

fn refused() -> GatewayError {
    GatewayError::InvalidRequest {
        param: Some("x-keystile-tags".into()),
        message: "`x-keystile-tags` must be up to 16 `name=value` pairs joined by commas, names of letters, digits, `_`, `-`, `.`, each up to 128 bytes".into(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(text: &'static str) -> Result<BTreeMap<String, String>, GatewayError> {
        from_headers(&HeaderMap::from_iter([(TAGS, HeaderValue::from_static(text))]))
    }

    #[test]
    fn pairs_are_read_and_trimmed() {
        let tags = read("team=search, run=42,").expect("tags");
        assert_eq!(tags, BTreeMap::from([("run".into(), "42".into()), ("team".into(), "search".into())]));
    }

    #[test]
    fn what_is_not_a_pair_is_refused() {
        for bad in ["team", "=x", "a b=c", "a=1,b"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
