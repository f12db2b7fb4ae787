//! The OpenAI error object, and what must never stand in one.
//!
//! Providers quote the key they refuse, echo headers, and answer with pages of HTML. [`scrub`] takes out whatever looks
//! like a credential, control characters and length; every provider text goes through it before anyone sees it.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::{Endpoint, write_frame};

/// Longest text that [`scrub`] returns, in bytes.
pub const MAX_TEXT_BYTES: usize = 2048;
const REMOVED: &str = "[removed]";

/// Beginnings of keys, ours and the providers'. Looked for at the start of a word, in lower case.
const PREFIXES: [&str; 17] = [
    "sk-", "sk_", "gsk_", "xai-", "pplx-", "csk-", "fw_", "fpk_", "hf_", "aiza", "ks_", "eyj", "akia",
    "asia", "ya29", "r8_", "nvapi-",
];
/// So many characters behind a prefix make it a key, masked or not.
const MIN_BEHIND_PREFIX: usize = 6;
/// From this length on, a run of base64 or hex that is not made of words is taken for a key.
const MIN_RUN: usize = 32;
/// How far behind a prefix a key is told from a word, in bytes.
const WINDOW: usize = 64;

/// An error as OpenAI's SDKs read it.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ErrorObject {
    /// What is wrong, and what to do.
    pub message: String,
    /// The kind of error, `type` in JSON.
    #[serde(rename = "type")]
    pub kind: String,
    /// The member at fault.
    pub param: Option<String>,
    /// A code for programs.
    pub code: Option<String>,
    /// The provider it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The status that provider answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_status: Option<u16>,
}

impl ErrorObject {
    /// An error of the gateway's own.
    pub fn new(kind: impl Into<String>, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            kind: kind.into(),
            param: None,
            code: Some(code.into()),
            provider: None,
            provider_status: None,
        }
    }

    /// `{"error":{…}}`
    pub fn to_json(&self) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a ErrorObject,
        }
        let body = serde_json::to_vec(&Body { error: self });
        Bytes::from(body.expect("strings and numbers always serialise"))
    }

    /// Anthropic's `{"type":"error","error":{"type","message"},"request_id"}`; its SDKs know an error by its `type`, which
    /// follows from `status`. What OpenAI's object has besides stands in `error` as well.
    pub fn to_anthropic_json(&self, status: u16, request_id: Option<&str>) -> Bytes {
        let body = serde_json::to_vec(&self.in_anthropics_words(status, request_id));
        Bytes::from(body.expect("strings and numbers always serialise"))
    }

    /// The same as the last event of a stream that broke.
    pub fn to_anthropic_event(&self, status: u16) -> Bytes {
        let mut frame = Vec::new();
        write_frame(Some("error"), &self.in_anthropics_words(status, None), &mut frame);
        frame.into()
    }

    fn in_anthropics_words<'a>(&'a self, status: u16, request_id: Option<&'a str>) -> AnthropicError<'a> {
        AnthropicError {
            kind: "error",
            error: AnthropicDetail {
                kind: anthropic_type(status, &self.kind),
                message: &self.message,
                param: self.param.as_deref(),
                code: self.code.as_deref(),
                provider: self.provider.as_deref(),
                provider_status: self.provider_status,
            },
            request_id,
        }
    }

    /// The last event of a stream that broke, in the words of the endpoint it came from.
    pub fn to_event_at(&self, endpoint: Endpoint, status: u16) -> Bytes {
        match endpoint {
            Endpoint::Messages | Endpoint::CountTokens => self.to_anthropic_event(status),
            Endpoint::Responses => self.to_responses_event(None),
            Endpoint::ChatCompletions | Endpoint::Completions | Endpoint::Embeddings => self.to_event(),
        }
    }

    /// The same for OpenAI's Responses. Its SDKs hand a flat `error` event on like any other; the object inside makes
    /// them raise.
    pub fn to_responses_event(&self, sequence_number: Option<u64>) -> Bytes {
        #[derive(Serialize)]
        struct Data<'a> {
            #[serde(rename = "type")]
            kind: &'static str,
            code: Option<&'a str>,
            message: &'a str,
            param: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            sequence_number: Option<u64>,
            error: &'a ErrorObject,
        }
        let data = Data {
            kind: "error",
            code: self.code.as_deref(),
            message: &self.message,
            param: self.param.as_deref(),
            sequence_number,
            error: self,
        };
        let mut frame = Vec::new();
        write_frame(Some("error"), &data, &mut frame);
        frame.into()
    }

    /// `data: {"error":{…}}` and a blank line: the last event of a stream that broke.
    pub fn to_event(&self) -> Bytes {
        Bytes::from([b"data: ", self.to_json().as_ref(), b"\n\n"].concat())
    }
}

#[derive(Serialize)]
struct AnthropicError<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: AnthropicDetail<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
struct AnthropicDetail<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    param: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider_status: Option<u16>,
}

/// Anthropic's name of an error: the one it has already, else the one that goes with its status.
fn anthropic_type(status: u16, kind: &str) -> &str {
    const NAMES: [&str; 11] = [
        "invalid_request_error",
        "authentication_error",
        "billing_error",
        "permission_error",
        "not_found_error",
        "conflict_error",
        "request_too_large",
        "rate_limit_error",
        "timeout_error",
        "overloaded_error",
        "api_error",
    ];
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        503 | 529 => "overloaded_error",
        400..500 => "invalid_request_error",
        _ => NAMES.into_iter().find(|name| *name == kind).unwrap_or("api_error"),
    }
}

impl fmt::Debug for ErrorObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A provider's message may quote the prompt.
        f.debug_struct("ErrorObject")
            .field("kind", &self.kind)
            .field("code", &self.code)
            .field("provider", &self.provider)
            .field("provider_status", &self.provider_status)
            .finish_non_exhaustive()
    }
}

/// The text without anything like a key, without control characters, and at most [`MAX_TEXT_BYTES`] long.
/// Linear in the text.
pub fn scrub(text: &str) -> String {
    let clean = visible(text);
    let mut out = String::with_capacity(clean.len().min(MAX_TEXT_BYTES));
    let mut rest = clean.as_str();
    let mut at_word_start = true;
    while let Some(first) = rest.chars().next() {
        if out.len() > MAX_TEXT_BYTES {
            break;
        }
        if at_word_start && let Some(value) = bearer_value(rest) {
            out.push_str(&rest[..rest.len() - value.len()]);
            out.push_str(REMOVED);
            rest = &value[token_len(value)..];
            continue;
        }
        if !is_token_char(first) {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            at_word_start = true;
            continue;
        }
        let word = &rest[..word_len(rest)];
        if let Some(start) = key_start(word, rest) {
            out.push_str(&word[..start]);
            out.push_str(REMOVED);
            rest = &rest[start + token_len(&rest[start..])..];
        } else {
            out.push_str(word);
            rest = &rest[word.len()..];
        }
        at_word_start = false;
    }
    cut(out)
}

/// Without control characters and the invisible ones that could split a key or turn a line around.
fn visible(text: &str) -> String {
    let invisible = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\r' | '\t' => Some(' '),
            c if c.is_control() || invisible(c) => None,
            c => Some(c),
        })
        .collect()
}

/// Characters of a word: those of base64, hex and our prefixes.
const fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=')
}

fn word_len(text: &str) -> usize {
    text.find(|c| !is_token_char(c)).unwrap_or(text.len())
}

/// How far a key goes once one has begun: also over dots (JWTs, two-part keys) and masks, but not over the full stop
/// behind it.
fn token_len(text: &str) -> usize {
    let end = text.find(|c| !(is_token_char(c) || matches!(c, '.' | '*' | '~' | '…'))).unwrap_or(text.len());
    text[..end].trim_end_matches('.').len()
}

/// What follows `Bearer` or `Basic` at the start of `text`, if that looks like a credential.
fn bearer_value(text: &str) -> Option<&str> {
    ["bearer ", "basic "].into_iter().find_map(|scheme| {
        let (head, value) = text.split_at_checked(scheme.len())?;
        let value = value.trim_start_matches(' ');
        (head.eq_ignore_ascii_case(scheme) && token_len(value) >= 8).then_some(value)
    })
}

/// Where in a word a key begins.
///
/// `text` begins with `word` and goes on to where a key beginning in the word would end: a masked key has few
/// characters of its own.
fn key_start(word: &str, text: &str) -> Option<usize> {
    // A window behind the word is enough to tell, and keeps the whole linear.
    let near = &text[..text.floor_char_boundary(word.len() + WINDOW)];
    let bytes = &near.as_bytes()[..word.len() + token_len(&near[word.len()..])];
    let has_prefix = |at: usize| {
        let behind = PREFIXES.iter().find_map(|prefix| {
            let (head, behind) = bytes.get(at..)?.split_at_checked(prefix.len())?;
            let behind = &behind[..behind.len().min(WINDOW)];
            head.eq_ignore_ascii_case(prefix.as_bytes()).then_some(behind)
        });
        let inside = at > 0 && bytes[at - 1].is_ascii_alphanumeric();
        behind.is_some_and(|behind| match inside {
            false => behind.len() >= MIN_BEHIND_PREFIX,
            // `task-based` is a word; `\nsk-0a1b…` is a key behind an escape.
            true => {
                behind.len() >= 2 * MIN_BEHIND_PREFIX
                    && behind.iter().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase() || *b == b'*')
            }
        })
    };
    let prefixed = (0..word.len().min(bytes.len())).find(|at| has_prefix(*at));
    prefixed.or_else(|| (word.len() >= MIN_RUN && !is_made_of_words(word)).then_some(0))
}

/// Model names, paths and identifiers are long too, but their parts are words, numbers, or short.
fn is_made_of_words(run: &str) -> bool {
    run.split(['-', '_', '/']).all(|part| {
        let capitals = part.bytes().filter(u8::is_ascii_uppercase).count();
        let letters = part.bytes().all(|b| b.is_ascii_alphabetic());
        part.len() <= 8 || (letters && part.len() <= 24 && capitals * 4 <= part.len())
    })
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES - '…'.len_utf8()));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_of_every_provider_are_removed() {
        let keys = [
            "sk-proj-abcDEF123456",
            "sk-ant-api03-aB_c-dEfGh",
            "sk-or-v1-0123456789abcdef",
            "gsk_aBcDeF123456",
            "xai-AbCdEf123456",
            "pplx-0a1b2c3d4e5f",
            "csk-abcdef123456",
            "fw_3ZabcDEF12345",
            "hf_AbCdEfGhIjKl",
            "AIzaSyA-1234567890_abc",
            "ks_abcdef012345_abcdef",
            "eyJhbGciOi.eyJzdWIiOiIx.c2lnbmF0dXJl",
            "0123456789abcdef0123456789abcdef",
            "Zm9vYmFyYmF6cXV4MTIzNDU2Nzg5MEFCQ0RFRg==",
            "sk-abc********wxyz",
        ];
        for key in keys {
            for text in [
                format!("Incorrect API key provided: {key}. See https://x.y/z."),
                format!("{{\"key\":\"{key}\"}}"),
                format!("api_key={key}&x=1"),
                format!("Authorization: Bearer {key}"),
                format!("a \u{0}{}\u{200b}{}", &key[..3], &key[3..]),
                format!("raw: {{\\\"x\\\":\\n{key}"),
            ] {
                let out = scrub(&text);
                assert!(!out.contains(key) && !out.contains(&key[key.len() - 6..]), "{key}: {out}");
                assert!(out.contains(REMOVED), "{key}: {out}");
            }
        }
        assert_eq!(scrub("Bearer abcdefgh1234"), "Bearer [removed]");
        assert_eq!(scrub("id 0123456789abcdef0123456789abcdef.AbCdEfGh12345678, done"), "id [removed], done");
    }

    #[test]
    fn what_people_need_to_read_stays() {
        for text in [
            "The model `Qwen/Qwen3-235B-A22B-Instruct-2507-tput` does not exist",
            "see https://platform.openai.com/docs/guides/error-codes/api-errors.",
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
            "code `organization_spend_limit_exceeded`, a task-based risk",
            "accounts/fireworks/models/llama-v3p1-405b-instruct",
            "größer als erlaubt – 太長",
        ] {
            assert_eq!(scrub(text), text);
        }
    }

    #[test]
    fn text_is_short_and_printable() {
        let out = scrub(&"é\u{7}\u{1b}[31m ".repeat(4_000));
        assert!(out.len() <= MAX_TEXT_BYTES && !out.chars().any(char::is_control));
        assert_eq!(scrub("a\nb\u{202e}c"), "a bc");
    }

    #[test]
    fn p21_hostile_text_is_scrubbed_in_linear_time() {
        for text in ["a.", "ask-", "x-", "Bearer a ", "é"] {
            let _ = scrub(&text.repeat(200_000));
        }
    }

    #[test]
    fn the_error_object_has_openais_shape() {
        let mut error = ErrorObject::new("invalid_request_error", "missing_model", "name a \"model\"");
        assert_eq!(
            error.to_json(),
            r#"{"error":{"message":"name a \"model\"","type":"invalid_request_error","param":null,"code":"missing_model"}}"#
        );
        error.provider = Some("openai".into());
        error.provider_status = Some(500);
        let event = String::from_utf8(error.to_event().to_vec()).expect("text");
        assert!(
            event.starts_with("data: {")
                && event.ends_with("\"provider\":\"openai\",\"provider_status\":500}}\n\n")
        );
        assert!(!format!("{error:?}").contains("name a"));
    }

    proptest! {
        #[test]
        fn no_key_survives_wherever_it_stands(
            before in "(\\PC{0,20}[ \"'=:(\\[,])?",
            prefix in proptest::sample::select(&["sk-", "sk-ant-", "sk-or-v1-", "gsk_", "xai-", "pplx-", "csk-", "fw_", "hf_", "AIza", "ks_"][..]),
            key in "[A-Za-z0-9_-]{16,60}",
            after in "([ \"',;)].{0,20})?",
        ) {
            let key = format!("{prefix}{key}");
            let out = scrub(&format!("{before}{key}{after}"));
            prop_assert!(!out.contains(&key));
        }

        #[test]
        fn no_long_hex_survives(before in "(\\PC{0,20} )?", key in "[0-9a-f]{32,64}") {
            let out = scrub(&format!("{before}{key}"));
            prop_assert!(!out.contains(&key));
        }

        #[test]
        fn p21_any_text_comes_back_bounded(text in ".{0,3000}") {
            let out = scrub(&text);
            prop_assert!(out.len() <= MAX_TEXT_BYTES && !out.chars().any(char::is_control));
        }
    }
}
