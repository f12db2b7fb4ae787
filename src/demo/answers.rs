//! What the demo provider says, and how it counts tokens.

const OPENINGS: [&str; 4] = [
    "You are talking to the demo provider that is built into Keystile.",
    "This answer was written offline, by the provider that comes with Keystile.",
    "No model was asked: Keystile's own demo provider is answering you.",
    "Hello from the demo provider. Everything on the way here was real except the model.",
];

const PARAGRAPHS: [&str; 8] = [
    "Your request came in with a virtual key. The gateway checked that the key is alive and may call this model, and \
     only then looked for a provider. The provider's own key stayed sealed until the moment of sending.",
    "Before anything was sent, the worst case of this request was set aside from the spend cap of your key. When this \
     answer ends, what it really cost is settled and the rest is given back, to the billionth of a dollar.",
    "A hard cap is a promise: a request that might not fit is refused with status 402 before it can cost anything. The \
     refusal says which cap it met, what is spent, what is reserved and when the window begins anew.",
    "If this provider had failed before its first word, the next one in your list would have answered instead. Once \
     words are on their way, nothing is tried twice, so that you never pay for an answer you did not get.",
    "Streams pass through as they come. The gateway reads along for the token counts, and holds nothing back; when you \
     hang up, the provider is told within a second and stops.",
    "Neither your prompt nor this text is written anywhere: no log, no database, no metric. What remains is one line \
     with the counts, the price and the outcome, which you can see with `keystile spend`.",
    "To use a provider of your own, upload its key on the admin plane and put its name before the model, such as \
     `openai/gpt-5.4-mini`. Your application keeps its OpenAI SDK; only the base URL changes.",
    "Virtual keys can be limited to some models, to a number of requests or tokens a minute, and to an amount a day, a \
     week or a month. A key that leaks is revoked with one call, and your provider's key is none the wiser.",
];

/// An answer for a prompt of this length. The length is all it knows.
pub(super) fn answer(prompt_bytes: usize) -> String {
    let mut text = OPENINGS[prompt_bytes % OPENINGS.len()].to_owned();
    let paragraphs = 1 + (prompt_bytes / 200).min(3);
    for i in 0..paragraphs {
        text.push_str("\n\n");
        text.push_str(PARAGRAPHS[(prompt_bytes / OPENINGS.len() + i) % PARAGRAPHS.len()]);
    }
    text
}

/// The tokens of an answer: words with the space before them, long ones in pieces. About four bytes each.
pub(super) fn tokens(text: &str) -> Vec<&str> {
    const LONGEST: usize = 6;
    let mut tokens = Vec::new();
    let mut start = 0;
    let mut previous = ' ';
    for (at, letter) in text.char_indices() {
        let word_begins = letter.is_whitespace() && !previous.is_whitespace();
        if at > start && (word_begins || at - start >= LONGEST) {
            tokens.push(&text[start..at]);
            start = at;
        }
        previous = letter;
    }
    if start < text.len() {
        tokens.push(&text[start..]);
    }
    tokens
}

/// Tokens of a prompt, by its length: four bytes each, rounded up.
pub(super) fn prompt_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_whole_text_in_pieces_of_about_four_bytes() {
        for bytes in 0..2000 {
            let text = answer(bytes);
            let tokens = tokens(&text);
            assert_eq!(tokens.concat(), text);
            let average = text.len() as f64 / tokens.len() as f64;
            assert!((3.5..5.0).contains(&average), "{average}");
        }
        assert_eq!(tokens("äöüß  日本語"), ["äöü", "ß", "  日本", "語"]);
        assert!(tokens("").is_empty());
    }

    #[test]
    fn longer_prompts_get_longer_and_other_answers() {
        assert!(answer(900).len() > answer(10).len());
        assert_ne!(answer(10), answer(11));
        assert_eq!(answer(10), answer(10));
    }
}
