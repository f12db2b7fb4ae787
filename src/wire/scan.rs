//! One pass over JSON text that has not been parsed yet: how deep does it nest, and is every number finite?
//! Only text that passes goes to a parser, so no parser ever meets a tower of brackets.

use super::EnvelopeError;

/// Digits that every double can hold, however they are arranged.
const SAFE_DIGITS: usize = 300;

/// Checks nesting and numbers. Says nothing about whether the text is JSON.
pub(super) fn check(text: &[u8], max_depth: usize) -> Result<(), EnvelopeError> {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => at = string_end(text, at + 1),
            b'{' | b'[' => {
                depth += 1;
                if depth > max_depth {
                    return Err(EnvelopeError::TooDeep { max: max_depth });
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let len = text[at..].iter().take_while(|b| is_number_byte(**b)).count();
                let number = &text[at..at + len];
                let suspicious = len > SAFE_DIGITS || number.iter().any(|b| matches!(b, b'e' | b'E'));
                if suspicious && !is_finite(number) {
                    return Err(EnvelopeError::NotFinite { at });
                }
                at += len;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

const fn is_number_byte(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// What is no number at all is the parser's to refuse.
fn is_finite(number: &[u8]) -> bool {
    std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok()).is_none_or(f64::is_finite)
}

/// The index behind the closing quote of a string whose first byte is at `from`.
fn string_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(offset) =
        text.get(at..).and_then(|rest| rest.iter().position(|b| matches!(b, b'"' | b'\\')))
    {
        let found = at + offset;
        if text[found] == b'"' {
            return found + 1;
        }
        at = found + 2;
    }
    text.len()
}
