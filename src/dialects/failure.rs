//! Errors in all the shapes providers give them.

use serde_json::{Map, Value};

use super::ProviderError;
use crate::wire::scrub;

/// Bodies above this are pages, not errors, and are not read.
const MAX_ERROR_BYTES: usize = 256 << 10;

/// The error in a body that came with `status`.
pub(super) fn from_body(status: u16, body: &[u8]) -> ProviderError {
    let readable = if body.len() <= MAX_ERROR_BYTES { body } else { &[] };
    let value = serde_json::from_slice(readable).unwrap_or(Value::Null);
    let mut error = from_value(&value);
    error.status = Some(status);
    finish(error)
}

/// The error in an event or in an answer with a success status: `text` is the whole object.
pub(super) fn from_text(text: &str) -> ProviderError {
    let readable = if text.len() <= MAX_ERROR_BYTES { text } else { "" };
    finish(from_value(&serde_json::from_str(readable).unwrap_or(Value::Null)))
}

fn from_value(value: &Value) -> ProviderError {
    match value {
        // Google wraps the object in an array.
        Value::Array(items) => {
            items.first().filter(|item| item.is_object()).map(from_value).unwrap_or_default()
        }
        Value::Object(outer) => from_object(outer),
        _ => ProviderError::default(),
    }
}

fn from_object(outer: &Map<String, Value>) -> ProviderError {
    let inner = outer.get("error").and_then(Value::as_object);
    let at = inner.unwrap_or(outer);
    // `{"error":"text"}`, `{"error":{"message":…}}`, `{"message":…}`, `{"detail":…}`, and lists of them.
    let message = inner
        .and_then(message_in)
        .or_else(|| outer.get("error").and_then(text_of))
        .or_else(|| message_in(outer))
        .unwrap_or_default();
    let name =
        |key: &str| at.get(key).or_else(|| outer.get(key)).and_then(plain_text).map(|text| scrub(&text));
    ProviderError {
        status: ["status_code", "code", "status", "statusCode", "raw_status_code"]
            .iter()
            .find_map(|key| at.get(*key).or_else(|| outer.get(*key)).and_then(http_status)),
        message: scrub(&message),
        // `"type":"error"` outside only says that this is one.
        kind: at.get("type").and_then(plain_text).filter(|kind| kind != "error").map(|kind| scrub(&kind)),
        param: name("param"),
        // Anthropic's stands one level deeper.
        code: name("code")
            .or_else(|| at.get("details")?.get("error_code").and_then(plain_text).map(|text| scrub(&text))),
        ..ProviderError::default()
    }
}

fn message_in(object: &Map<String, Value>) -> Option<String> {
    let own =
        ["message", "detail", "msg", "errors"].iter().find_map(|key| object.get(*key).and_then(text_of));
    // OpenRouter says "Provider returned error" and keeps the provider's words apart.
    let raw = object.get("metadata").and_then(|metadata| metadata.get("raw")).and_then(Value::as_str);
    match (own, raw.filter(|raw| !raw.trim_start().starts_with(['{', '<']))) {
        (Some(own), Some(raw)) => Some(format!("{own}: {raw}")),
        (own, raw) => own.or_else(|| raw.map(str::to_owned)),
    }
}

/// The words in a value: a string, an object's message, or a list of either.
fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(object) => message_in(object)?,
        Value::Array(items) => items.iter().take(8).filter_map(text_of).collect::<Vec<_>>().join("; "),
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    (!text.trim().is_empty()).then_some(text)
}

fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn http_status(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
    number.filter(|status| (400..600).contains(status)).and_then(|status| u16::try_from(status).ok())
}

/// Adds what follows from status, codes and words.
fn finish(mut error: ProviderError) -> ProviderError {
    if error.message.is_empty() {
        error.message = match error.status {
            Some(status) => format!("the provider answered with status {status} and no readable message"),
            None => "the provider reported an error without a message".to_owned(),
        };
    }
    let words = error.message.to_ascii_lowercase();
    let names = [error.code.as_deref().unwrap_or_default(), error.kind.as_deref().unwrap_or_default()];
    error.billing = error.status == Some(402) || is_billing(&names, &words);
    error.context_length =
        !error.billing && !matches!(error.status, Some(401 | 403 | 429)) && is_context_length(&names, &words);
    error
}

fn is_billing(names: &[&str], words: &str) -> bool {
    let by_name = names.iter().any(|name| {
        matches!(
            *name,
            "insufficient_quota"
                | "credit_balance_exhausted"
                | "billing_hard_limit_reached"
                | "billing_not_active"
                | "insufficient_balance"
                | "insufficient_credits"
                | "billing_error"
        ) || name.ends_with("_spend_limit_exceeded")
            || name.ends_with("_spend_limit_reached")
            || name.ends_with("_usage_limit_exceeded")
    });
    by_name
        || [
            "exceeded your current quota",
            "credit balance is too low",
            "insufficient balance",
            "insufficient credits",
            // Anthropic, of a limit that its customer set, with status 400 and no code.
            "you have reached your specified",
        ]
        .iter()
        .any(|hint| words.contains(hint))
}

fn is_context_length(names: &[&str], words: &str) -> bool {
    let by_name = names.iter().any(|name| {
        matches!(
            *name,
            "context_length_exceeded"
                | "string_above_max_length"
                | "context_window_exceeded"
                | "exceed_context_size_error"
                | "prompt_too_long"
        )
    });
    by_name
        || [
            "maximum context length",
            "context length exceeded",
            "context_length_exceeded",
            "exceeds the context",
            "exceeds the available context",
            "exceed context limit",
            "exceed context window",
            "exceeds the model's context",
            "exceeds the maximum number of tokens",
            "longer than the model's context",
            "maximum prompt length",
            "prompt is too long",
            "too large for model with",
            "reduce the length of the messages",
        ]
        .iter()
        .any(|hint| words.contains(hint))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_shape_gives_its_message() {
        let cases = [
            (r#"{"error":{"message":"m","type":"t","param":"p","code":"c"}}"#, "m", Some("t"), Some("c")),
            (r#"{"error":"m"}"#, "m", None, None),
            (r#"{"code":"c","error":"m"}"#, "m", None, Some("c")),
            (r#"{"error":{"message":"m","code":429,"metadata":{"raw":"r"}}}"#, "m: r", None, Some("429")),
            (r#"{"detail":"m"}"#, "m", None, None),
            (r#"{"detail":[{"loc":["body"],"msg":"m","type":"x"},{"msg":"n"}]}"#, "m; n", None, None),
            (r#"{"message":"m"}"#, "m", None, None),
            (
                r#"{"object":"error","message":"m","type":"t","param":null,"code":"3051"}"#,
                "m",
                Some("t"),
                Some("3051"),
            ),
            (r#"{"object":"error","message":{"detail":[{"msg":"m"}]},"type":"t"}"#, "m", Some("t"), None),
            (r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, "m", None, Some("400")),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                "m",
                Some("overloaded_error"),
                None,
            ),
            (r#"{"statusCode":429,"message":"m"}"#, "m", None, None),
            (" \n{\"error\":\"m\"}", "m", None, None),
        ];
        for (body, message, kind, code) in cases {
            let error = from_body(418, body.as_bytes());
            assert_eq!(
                (error.message.as_str(), error.kind.as_deref(), error.code.as_deref(), error.status),
                (message, kind, code, Some(418)),
                "{body}"
            );
        }
    }

    #[test]
    fn pages_and_plain_text_get_a_message_of_our_own() {
        for body in [
            "",
            "Not Found",
            "<html>502 Bad Gateway</html>",
            "null",
            "[]",
            "{}",
            "{\"error\":{}}",
            "\u{fffd}",
        ] {
            let message = from_body(502, body.as_bytes()).message;
            assert_eq!(message, "the provider answered with status 502 and no readable message", "{body}");
        }
        assert!(from_body(502, &[0xff; 8]).message.contains("502"));
    }

    #[test]
    fn money_and_length_are_told_from_the_rest() {
        let billing = |status, body: &str| from_body(status, body.as_bytes()).billing;
        for code in [
            "insufficient_quota",
            "credit_balance_exhausted",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
        ] {
            assert!(
                billing(429, &format!("{{\"error\":{{\"message\":\"x\",\"code\":\"{code}\"}}}}")),
                "{code}"
            );
        }
        assert!(billing(402, "") && billing(429, r#"{"error":{"type":"insufficient_quota"}}"#));
        assert!(!billing(429, r#"{"error":{"code":"rate_limit_exceeded"}}"#));
        let long = |status, body: &str| from_body(status, body.as_bytes()).context_length;
        assert!(long(400, r#"{"error":{"code":"context_length_exceeded"}}"#));
        assert!(long(400, r#"{"error":{"message":"This model's maximum context length is 8 tokens."}}"#));
        assert!(!long(429, r#"{"error":{"message":"prompt is too long: tokens per minute"}}"#));
        assert!(!long(400, r#"{"error":{"message":"bad temperature"}}"#));
    }

    #[test]
    fn keys_never_pass() {
        let error = from_body(401, br#"{"error":{"message":"Incorrect API key provided: sk-abc123456789.","code":"sk-abc123456789"}}"#);
        assert_eq!(error.message, "Incorrect API key provided: [removed].");
        assert_eq!(error.code.as_deref(), Some("[removed]"));
        assert!(!format!("{error:?}").contains("Incorrect"));
    }

    proptest! {
        #[test]
        fn p21_any_body_gives_a_message(body in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(!from_body(500, &body).message.is_empty());
        }
    }
}
