//! The net under the log: whatever looks like a credential is taken out of a line, and counted.
//!
//! No line should ever need it, since no field holds a secret. A hit is therefore a bug to look for, which is what the
//! count is for: a net that worked silently would hide it.

use std::borrow::Cow;

/// What stands in a line in place of a credential.
pub(super) const SCRUBBED: &str = "[scrubbed]";

/// Beginnings of credentials, and how many more characters make one: few enough to catch a short test key, too many for
/// an ordinary word with the same beginning.
const PREFIXES: [(&str, usize); 19] = [
    ("ks_", 8),
    ("kst_", 8),
    ("sk-", 8),
    ("sk_", 8),
    ("gsk_", 8),
    ("xai-", 8),
    ("pplx-", 8),
    ("nvapi-", 8),
    ("csk-", 8),
    ("fw_", 12),
    ("hf_", 12),
    ("r8_", 12),
    ("tgp_v1_", 8),
    ("AIza", 16),
    ("AQ.", 16),
    ("AKIA", 12),
    ("ASIA", 12),
    ("ghp_", 16),
    ("gAAAAA", 32),
];
const BEARER: &str = "bearer ";

/// The line without anything that looks like a credential, and how many there were.
pub(super) fn scrub(line: &str) -> (Cow<'_, str>, u64) {
    let bytes = line.as_bytes();
    let (mut clean, mut copied, mut hits, mut at) = (String::new(), 0, 0, 0);
    while at < bytes.len() {
        // Only at the beginning of a word: `task-force` is not a key, although `sk-force` might be.
        let inside_a_word =
            at > 0 && is_word(bytes[at - 1]) && is_word(bytes[at]) && !after_escape(&bytes[..at]);
        let length = if inside_a_word { 0 } else { credential_length(&bytes[at..]) };
        if length == 0 {
            at += 1;
            continue;
        }
        clean.push_str(&line[copied..at]);
        clean.push_str(SCRUBBED);
        hits += 1;
        at += length;
        copied = at;
    }
    if hits == 0 {
        return (Cow::Borrowed(line), 0);
    }
    clean.push_str(&line[copied..]);
    (Cow::Owned(clean), hits)
}

/// How many bytes of a credential `text` begins with; 0 for none. All of them are ASCII, so a cut never splits a
/// character.
fn credential_length(text: &[u8]) -> usize {
    if text.len() > BEARER.len() && text[..BEARER.len()].eq_ignore_ascii_case(BEARER.as_bytes()) {
        let value = run(&text[BEARER.len()..]);
        // "Bearer authentication" is prose.
        let prose = value.len() < 20 && !value.iter().any(u8::is_ascii_digit);
        if value.len() >= 8 && !prose {
            return BEARER.len() + value.len();
        }
    }
    let word = run(text);
    if is_jwt(word) {
        return word.len();
    }
    let key = |(prefix, rest): &(&str, usize)| {
        word.starts_with(prefix.as_bytes()) && word.len() >= prefix.len() + rest
    };
    if PREFIXES.iter().any(key) { word.len() } else { 0 }
}

/// Whether `before` ends in an escape such as `\n` or `\u001b`, as JSON and `Debug` write them: its last letter does not
/// belong to the word that follows.
fn after_escape(before: &[u8]) -> bool {
    let backslash =
        |distance: usize| before.len().checked_sub(distance).is_some_and(|at| before[at] == b'\\');
    backslash(2) || (backslash(6) && before[before.len() - 5] == b'u')
}

/// Three parts of base64, the first of which is a JSON object that begins with a member.
fn is_jwt(word: &[u8]) -> bool {
    word.starts_with(b"eyJ") && word.len() >= 24 && word.iter().filter(|byte| **byte == b'.').count() >= 2
}

/// The characters that credentials are made of, from the beginning of `text`.
fn run(text: &[u8]) -> &[u8] {
    let end =
        text.iter().position(|byte| !is_word(*byte) && !matches!(byte, b'.' | b'~' | b'+' | b'/' | b'='));
    &text[..end.unwrap_or(text.len())]
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credentials_are_taken_out_and_counted() {
        for credential in [
            "ks_0123456789ab_0123456789012345678901234567890123456789012abcdef",
            "sk-canary-0123456789",
            "sk-proj-abcDEF123456",
            "sk-ant-api03-abcdefgh",
            "gsk_abcdefghijkl",
            "xai-abcdefghijkl",
            "AIzaSyA1234567890abcdefghij",
            "AKIAIOSFODNN7EXAMPLE",
            "Bearer abc123def456",
            "bearer abcdefghijklmnopqrstuvwxyz",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
            "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7Jc==",
        ] {
            for (before, after) in [
                ("", ""),
                ("key=", " end"),
                ("\\n", "\\n"),
                ("\\u001b", "!"),
                ("{\"key\":\"", "\"}"),
                ("über `", "`"),
                ("(", ")"),
            ] {
                let line = format!("{before}{credential}{after}");
                let (clean, hits) = scrub(&line);
                assert_eq!((&*clean, hits), (&*format!("{before}{SCRUBBED}{after}"), 1), "{line}");
            }
        }
        let (clean, hits) = scrub("sk-aaaaaaaaaaaa and sk-bbbbbbbbbbbb");
        assert_eq!((&*clean, hits), ("[scrubbed] and [scrubbed]", 2));
    }

    #[test]
    fn ordinary_lines_pass_untouched() {
        for line in [
            "",
            "listening on 127.0.0.1:8080",
            "vk_0190a0a0a0a07000800000000000aaaa of tnt_0190a0a0a0a07000800000000000aaaa used pk_0190a0",
            "a task-force at risk-assessment-centre",
            "send `Authorization: Bearer <virtual key>`",
            "Bearer authentication is needed",
            "a virtual key looks like ks_…",
            "model openai/gpt-5.4-mini, scikit sk-learn",
            "keystile::gateway: forwarded",
        ] {
            let (clean, hits) = scrub(line);
            assert_eq!((&*clean, hits), (line, 0));
        }
    }

    proptest! {
        #[test]
        fn a_key_is_found_in_any_text_and_no_text_panics(before in "[ -~ü\u{1F600}]{0,40}", after in "[ -~ü]{0,40}") {
            let line = format!("{before} sk-canary-0123456789 {after}");
            let (clean, hits) = scrub(&line);
            prop_assert!(hits >= 1);
            prop_assert!(!clean.contains("canary"));
        }
    }
}
