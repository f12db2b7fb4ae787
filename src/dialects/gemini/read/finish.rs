//! Why an answer ended, in Google's words and in ours.

use crate::{dialects::ProviderError, wire::Finish};

/// What a finish reason says.
pub(super) enum Ended {
    /// Nothing yet.
    NotYet,
    /// The choice is complete.
    As(Finish),
    /// The model failed: another attempt may not.
    Failed(ProviderError),
}

/// Reads `reason`; `calls` says whether the choice has called tools, since Gemini calls that a stop.
pub(super) fn read(reason: Option<&str>, calls: bool) -> Ended {
    match reason.unwrap_or_default() {
        "" | "FINISH_REASON_UNSPECIFIED" => Ended::NotYet,
        "STOP" => Ended::As(if calls { Finish::ToolCalls } else { Finish::Stop }),
        "MAX_TOKENS" | "CONTINUATION" => Ended::As(Finish::Length),
        reason @ ("MALFORMED_FUNCTION_CALL"
        | "UNEXPECTED_TOOL_CALL"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE") => Ended::Failed(failed(reason)),
        // SAFETY, RECITATION and the like, and whatever Google will think of: all of those so far cut answers short.
        _ => Ended::As(Finish::Filtered),
    }
}

/// Google's `finishMessage` quotes what the model wrote, so it stays out.
fn failed(reason: &str) -> ProviderError {
    ProviderError {
        status: Some(502),
        message: format!("the model ended its answer with `{reason}`; try again"),
        kind: Some(reason.to_owned()),
        code: Some(reason.to_ascii_lowercase()),
        ..ProviderError::default()
    }
}

/// An answer that has nothing in it, not even an end.
pub(super) fn empty() -> ProviderError {
    ProviderError {
        status: Some(502),
        message: "the model gave no answer; try again".to_owned(),
        kind: Some("EMPTY_RESPONSE".to_owned()),
        code: Some("empty_response".to_owned()),
        ..ProviderError::default()
    }
}
