//! Settings of a request that stand alone.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use super::{Dropped, blocks::is_blank};
use crate::{catalogue::Capabilities, dialects::DialectError, wire::conversation::Sampling};

/// Longest `user_id` that is accepted, in bytes.
const MAX_USER: usize = 256;

/// How freely the model chooses its words.
pub(super) struct Free {
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) top_k: Option<u64>,
}

/// How freely it may, and whether it `thinks`, which leaves little of it.
pub(super) fn freedom(
    sampling: &Sampling,
    capabilities: &Capabilities,
    thinks: bool,
    dropped: &mut Dropped,
) -> Result<Free, DialectError> {
    let Sampling {
        temperature,
        top_p,
        top_k,
        presence_penalty,
        frequency_penalty,
        seed,
        logit_bias,
        logprobs,
        top_logprobs,
    } = sampling;
    let unknown = |field, asked| match asked {
        true => Err(DialectError::unsupported(field, "is not known to this provider; leave it out")),
        false => Ok(()),
    };
    unknown("presence_penalty", presence_penalty.is_some_and(|penalty| penalty != 0.0))?;
    unknown("frequency_penalty", frequency_penalty.is_some_and(|penalty| penalty != 0.0))?;
    unknown("logprobs", *logprobs)?;
    unknown("top_logprobs", top_logprobs.is_some_and(|others| others > 0))?;
    let biased = logit_bias
        .as_deref()
        .is_some_and(|bias| bias.get().chars().any(|c| !matches!(c, '{' | '}') && !c.is_whitespace()));
    unknown("logit_bias", biased)?;
    if seed.is_some() {
        dropped.note("seed");
    }
    // 1 is what leaving them out means, and newer models refuse even that.
    let temperature = temperature.filter(|temperature| *temperature != 1.0);
    let top_p = top_p.filter(|top_p| *top_p != 1.0);
    let given =
        [("temperature", temperature.is_some()), ("top_p", top_p.is_some()), ("top_k", top_k.is_some())];
    for (field, given) in given {
        if given && !capabilities.sampling {
            return Err(DialectError::unsupported(field, "is not accepted by this model; leave it out"));
        }
        // Of `top_p` a little is left.
        if given && thinks && field != "top_p" {
            return Err(DialectError::unsupported(
                field,
                "is not accepted while the model thinks; leave it out, or ask for no thinking",
            ));
        }
    }
    if temperature.is_some_and(|temperature| temperature > 1.0) {
        return Err(DialectError::unsupported(
            "temperature",
            "is above 1, the most this provider accepts; lower it",
        ));
    }
    Ok(Free { temperature, top_p, top_k: *top_k })
}

/// Texts that end the answer.
pub(super) fn stop_sequences(stop: &[String]) -> Result<Vec<&str>, DialectError> {
    let stop: Vec<&str> = stop.iter().map(String::as_str).filter(|stop| !stop.is_empty()).collect();
    if stop.iter().any(|stop| is_blank(stop)) {
        let why = "has a sequence of white space only, which this provider does not accept; leave it out";
        return Err(DialectError::unsupported("stop", why));
    }
    Ok(stop)
}

/// The service tier. Left out it is `auto`: capacity that was bought beforehand, where there is some, which is as near as
/// Anthropic comes to OpenAI's `priority`.
pub(super) fn tier(tier: Option<&str>) -> Result<Option<&'static str>, DialectError> {
    match tier {
        None | Some("auto" | "priority") => Ok(None),
        Some("default" | "standard" | "standard_only") => Ok(Some("standard_only")),
        Some(_) => {
            let why = "is a tier that this provider does not have; use `auto` or `default`";
            Err(DialectError::unsupported("service_tier", why))
        }
    }
}

/// The user's id, or in place of an address, a telephone number or something long, which are refused, a hash of it.
pub(super) fn user_id(user: &str) -> Cow<'_, str> {
    let digits = user.bytes().filter(u8::is_ascii_digit).count();
    let like_a_number = digits >= 7 && user.bytes().all(|b| b.is_ascii_digit() || b"+-()./ ".contains(&b));
    if user.len() <= MAX_USER && !user.contains('@') && !like_a_number {
        return Cow::Borrowed(user);
    }
    Cow::Owned(Sha256::digest(user.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect())
}
