//! How an attempt failed, and what follows from it. Decided on statuses and codes, never on message text.

use std::time::Duration;

use crate::dialects::ProviderError;

/// Why an attempt gave no answer that may go to the client.
#[derive(Debug)]
pub enum Failure {
    /// No byte reached the provider: nothing can be charged.
    NotSent {
        /// Whether it was the connection that took too long.
        timed_out: bool,
    },
    /// The key cannot be put into a request, or its address may not be called. Nothing was sent.
    Unusable(&'static str),
    /// The stored key does not open as what its row says it is; the reason out of a small set of names. Nothing was sent,
    /// and no other key may be tried in its place: whoever can spoil a row must not choose the key that is used.
    Unsealable(&'static str),
    /// It could not be noted that it is sent, so it was not.
    Unrecordable,
    /// The provider answered with an error status, or with an error in place of an answer.
    Rejected {
        /// HTTP status, or the one an error inside a 200 stands for.
        status: u16,
        /// What it said, cleaned.
        error: Box<ProviderError>,
        /// How long it asked to be left alone.
        retry_after: Option<Duration>,
    },
    /// Sent, and then no readable answer: the provider may bill it.
    Ambiguous(&'static str),
    /// Sent, and then silence.
    TimedOut,
}

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Another candidate may do better.
    Next,
    /// The request itself is at fault; it would fail everywhere.
    Stop,
}

impl Failure {
    /// Whether to try the next candidate.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Rejected { status, error, .. } if !error.context_length => match status {
                // Redirects are not followed: an answer with one is as good as none.
                300..=399 | 401 | 403 | 408 | 409 | 425 | 429 | 500.. => Verdict::Next,
                _ => Verdict::Stop,
            },
            Self::Unsealable(_) | Self::Unrecordable => Verdict::Stop,
            _ => Verdict::Next,
        }
    }

    /// Whether it speaks against the provider key or its provider, so that it should rest for a while.
    pub fn blames_the_key(&self) -> bool {
        match self {
            Self::NotSent { .. } | Self::Unusable(_) | Self::Ambiguous(_) | Self::TimedOut => true,
            Self::Rejected { status, .. } => matches!(status, 401 | 403 | 408 | 429 | 500..),
            // A key that rested would let others answer in its place, and nobody would notice.
            Self::Unsealable(_) | Self::Unrecordable => false,
        }
    }

    /// The provider's status, if it answered with one.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Rejected { status, .. } => Some(*status),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(status: u16, context_length: bool) -> Failure {
        let error = Box::new(ProviderError { context_length, ..ProviderError::default() });
        Failure::Rejected { status, error, retry_after: None }
    }

    #[test]
    fn only_failures_that_another_candidate_could_avoid_fall_back() {
        for status in [401, 403, 408, 409, 425, 429, 500, 502, 503, 504, 520, 529, 302] {
            assert_eq!(rejected(status, false).verdict(), Verdict::Next, "{status}");
        }
        for status in [400, 402, 404, 413, 415, 422, 498] {
            assert_eq!(rejected(status, false).verdict(), Verdict::Stop, "{status}");
        }
        assert_eq!(rejected(400, true).verdict(), Verdict::Next, "a longer context may fit elsewhere");
        assert_eq!(Failure::TimedOut.verdict(), Verdict::Next);
        assert_eq!(Failure::Unsealable("mismatch").verdict(), Verdict::Stop);
        assert!(!Failure::Unsealable("mismatch").blames_the_key(), "others would answer in its place");
    }
}
