//! What request number n is, and what its answer is: both follow from the seed and n, so that clients, the provider and
//! the comparison at the end agree without talking to each other.

use std::time::Duration;

use super::dice::Dice;

/// The model that is asked for; its price is set before the load begins.
pub const MODEL: &str = "oracle/tortured";
/// Price of input, micro-USD per million tokens, which is pico-USD a token. Odd, so that costs need rounding.
pub const INPUT_PRICE: u64 = 1_234_567;
/// Price of output.
pub const OUTPUT_PRICE: u64 = 4_938_271;
/// The longest answer the model gives.
pub const MOST_OUTPUT: u64 = 2_048;
/// The output limit that most requests bring.
const LIMIT: u64 = 64;
/// Stands before n in the message, and before nothing else.
const MARK: &str = "torture n=";

/// One request and its answer.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Which.
    pub n: u64,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// Whether the provider says what was used.
    pub usage: bool,
    /// Input as the provider counts it.
    pub prompt_tokens: u64,
    /// Output as the provider counts it.
    pub completion_tokens: u64,
    /// The words of the answer, an event each.
    pub words: u64,
    /// Time between two of them.
    pub pause: Duration,
    /// The client leaves after so many pieces of the answer.
    pub hang_up_after: Option<u64>,
    limit: Option<u64>,
    padding: usize,
}

impl Plan {
    /// The request number `n`.
    pub fn of(seed: u64, n: u64) -> Self {
        let mut dice = Dice::new(seed, n << 8);
        let stream = dice.percent(60);
        let words = dice.of(1..=12);
        let whole = match dice.of(1..=100) {
            1..=50 => 0,
            51..=85 => dice.of(5..=100),
            _ => dice.of(100..=1_000),
        };
        Self {
            n,
            stream,
            usage: dice.percent(85),
            prompt_tokens: dice.of(5..=80),
            completion_tokens: dice.of(1..=LIMIT),
            words,
            pause: Duration::from_millis(whole / words),
            hang_up_after: (stream && dice.percent(15)).then(|| dice.of(1..=3)),
            limit: dice.percent(95).then_some(LIMIT),
            padding: dice.place(400),
        }
    }

    /// The body that a client sends.
    pub fn question(&self) -> String {
        let stream = if self.stream { ",\"stream\":true" } else { "" };
        let limit = self.limit.map(|limit| format!(",\"max_tokens\":{limit}")).unwrap_or_default();
        format!(
            "{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{MARK}{}; {}\"}}]{limit}{stream}}}",
            self.n,
            "x".repeat(self.padding)
        )
    }

    /// Which request a body is.
    pub fn number_in(body: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(body).ok()?;
        text.split_once(MARK)?.1.split_once(';')?.0.parse().ok()
    }

    /// The answer as one JSON object.
    pub fn answer(&self) -> String {
        let usage = if self.usage { format!(",{}", self.figures()) } else { String::new() };
        format!(
            "{{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion\",\"created\":1770933892,\"model\":\"tortured\",\
             \"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{}\"}},\
             \"finish_reason\":\"stop\"}}]{usage}}}",
            self.n,
            " step".repeat(self.words as usize)
        )
    }

    /// The answer as events; `[DONE]` is the last.
    pub fn events(&self) -> Vec<String> {
        let event = |choices: &str, rest: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-{}\",\"object\":\"chat.completion.chunk\",\"created\":1770933892,\
                 \"model\":\"tortured\",\"choices\":[{choices}]{rest}}}\n\n",
                self.n
            )
        };
        let mut events: Vec<String> = (1..=self.words)
            .map(|word| {
                let finish = if word == self.words { "\"stop\"" } else { "null" };
                let choice =
                    format!("{{\"index\":0,\"delta\":{{\"content\":\" step\"}},\"finish_reason\":{finish}}}");
                event(&choice, "")
            })
            .collect();
        if self.usage {
            events.push(event("", &format!(",{}", self.figures())));
        }
        events.push("data: [DONE]\n\n".to_owned());
        events
    }

    fn figures(&self) -> String {
        format!(
            "\"usage\":{{\"prompt_tokens\":{},\"completion_tokens\":{},\"total_tokens\":{}}}",
            self.prompt_tokens,
            self.completion_tokens,
            self.prompt_tokens + self.completion_tokens
        )
    }

    /// The most that its input can be estimated at, in nano-USD: a token is four bytes of text, and no more text is sent
    /// than the body has bytes.
    pub fn input_estimate(&self) -> u64 {
        cost(self.question().len().div_ceil(4) as u64, 0)
    }
}

/// What tokens cost, in nano-USD, rounded up once.
pub fn cost(input_tokens: u64, output_tokens: u64) -> u64 {
    (input_tokens * INPUT_PRICE + output_tokens * OUTPUT_PRICE).div_ceil(1_000)
}
