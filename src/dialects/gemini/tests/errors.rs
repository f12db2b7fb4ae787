//! Google's errors.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::dialects::{Dialect, ProviderError, gemini::Gemini};

fn read(status: u16, body: &Value) -> ProviderError {
    Gemini.read_error(status, body.to_string().as_bytes())
}

fn rpc(code: u16, status: &str, message: &str, details: Value) -> Value {
    json!({"error": {"code": code, "message": message, "status": status, "details": details}})
}

#[test]
fn a_key_google_does_not_know_is_a_refused_key_and_not_a_bad_request() {
    let info = json!([
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"},
        {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": "x"},
    ]);
    let error = read(400, &rpc(400, "INVALID_ARGUMENT", "API key not valid.", info));
    assert_eq!(error.status, Some(401));
    assert_eq!(
        (error.kind.as_deref(), error.code.as_deref()),
        (Some("INVALID_ARGUMENT"), Some("API_KEY_INVALID"))
    );
    let expired =
        read(400, &rpc(400, "INVALID_ARGUMENT", "API key expired. Please renew the API key.", json!([])));
    assert_eq!(expired.status, Some(401));
    let other = read(400, &rpc(400, "INVALID_ARGUMENT", "Please use a valid role: user, model.", json!([])));
    assert_eq!((other.status, other.context_length, other.billing), (Some(400), false, false));
}

#[test]
fn a_quota_says_how_long_to_wait_and_is_no_matter_of_money() {
    let details = |quota: &str| {
        json!([
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": quota, "quotaValue": "10"}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"},
        ])
    };
    let words = "You exceeded your current quota, please check your plan and billing details.";
    let minute = read(
        429,
        &rpc(429, "RESOURCE_EXHAUSTED", words, details("GenerateRequestsPerMinutePerProjectPerModel")),
    );
    assert_eq!(minute.retry_after, Some(Duration::from_millis(34_500)));
    assert_eq!(
        (minute.status, minute.kind.as_deref(), minute.billing),
        (Some(429), Some("RESOURCE_EXHAUSTED"), false)
    );
    let day = read(
        429,
        &rpc(429, "RESOURCE_EXHAUSTED", words, details("GenerateRequestsPerDayPerProjectPerModel-FreeTier")),
    );
    assert_eq!(day.retry_after, Some(Duration::from_secs(3_600)));
    for delay in ["-1s", "s", "x", "34", "1e999s", "NaNs"] {
        let odd = read(429, &rpc(429, "RESOURCE_EXHAUSTED", words, json!([{"retryDelay": delay}])));
        assert_eq!(odd.retry_after, None, "{delay}");
    }
    let long = read(429, &rpc(429, "RESOURCE_EXHAUSTED", words, json!([{"retryDelay": "99999999s"}])));
    assert_eq!(long.retry_after, Some(Duration::from_secs(86_400)));
}

#[test]
fn money_and_length_are_told_from_the_rest() {
    let empty =
        read(429, &rpc(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted.", json!([])));
    assert!(empty.billing && !empty.context_length);
    let off = read(400, &rpc(400, "FAILED_PRECONDITION", "Please enable billing on project x.", json!([])));
    assert!(off.billing);
    let place = read(
        400,
        &rpc(400, "FAILED_PRECONDITION", "User location is not supported for the API use.", json!([])),
    );
    assert!(!place.billing);
    for words in [
        "The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
    ] {
        assert!(read(400, &rpc(400, "INVALID_ARGUMENT", words, Value::Null)).context_length, "{words}");
        assert!(!read(429, &rpc(429, "RESOURCE_EXHAUSTED", words, Value::Null)).context_length, "{words}");
    }
}

#[test]
fn an_error_in_an_array_names_the_same() {
    let one = rpc(503, "UNAVAILABLE", "The model is overloaded.", json!([]));
    assert_eq!(read(503, &json!([one.clone()])), read(503, &one));
    let field =
        json!([{"fieldViolations": [{"field": "contents[0].parts", "description": "must not be empty"}]}]);
    assert_eq!(
        read(400, &rpc(400, "INVALID_ARGUMENT", "x", field)).param.as_deref(),
        Some("contents[0].parts")
    );
}

#[test]
fn what_is_not_googles_has_a_message_all_the_same() {
    for body in ["", "<html>502</html>", "[]", "{}", "null", "[[]]", "[5]", "{\"error\":5}", "{\"error\":[]}"]
    {
        let error = Gemini.read_error(502, body.as_bytes());
        assert_eq!(error.status, Some(502), "{body}");
        assert!(!error.message.is_empty(), "{body}");
    }
    let proxy = Gemini.read_error(403, br#"{"error":"blocked by policy"}"#);
    assert_eq!(proxy.message, "blocked by policy");
    let odd_details = read(
        404,
        &json!({"error": {"status": "NOT_FOUND", "message": "m", "details": [5, "x", {"violations": 7}]}}),
    );
    assert_eq!(odd_details.kind.as_deref(), Some("NOT_FOUND"));
}

#[test]
fn keys_never_pass() {
    let key = "AIzaSyA-1234567890_abcdefghij";
    let details = json!([{"reason": key, "fieldViolations": [{"field": key}]}]);
    let error = read(403, &rpc(403, key, &format!("The key {key} was reported as leaked."), details));
    for text in [Some(error.message), error.kind, error.code, error.param].into_iter().flatten() {
        assert!(!text.contains(key), "{text}");
    }
}

proptest! {
    #[test]
    fn any_body_gives_a_message(status in 400_u16..600, body in proptest::collection::vec(any::<u8>(), 0..160)) {
        prop_assert!(!Gemini.read_error(status, &body).message.is_empty());
    }
}
