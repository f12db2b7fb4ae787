//! What a request used, how it ended, and what it cost. Counts and names only: a record has no place for content.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    Counter, ModelName, ModelRef, NanoUsd, PricePerMillion, ProviderKeyId, ProviderSlug, RequestId, Scope,
    SpendWindow, TenantId, Timestamp, VirtualKeyId, Windows,
};

/// A class of tokens with a price of its own. Classes are disjoint: a token is in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenClass {
    /// Fresh input.
    Input,
    /// Input read from the provider's cache.
    CacheRead,
    /// Input written to the provider's cache for about five minutes.
    CacheWrite,
    /// Input written to the provider's cache for an hour.
    #[serde(rename = "cache_write_1h")]
    CacheWrite1h,
    /// Audio input.
    InputAudio,
    /// Output, reasoning included.
    Output,
    /// Audio output.
    OutputAudio,
}

impl TokenClass {
    /// Every class, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite,
        Self::CacheWrite1h,
        Self::InputAudio,
        Self::Output,
        Self::OutputAudio,
    ];

    /// The name used by the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cache_read",
            Self::CacheWrite => "cache_write",
            Self::CacheWrite1h => "cache_write_1h",
            Self::InputAudio => "input_audio",
            Self::Output => "output",
            Self::OutputAudio => "output_audio",
        }
    }
}

/// Tokens by class. `reasoning` says how many of `output` were reasoning and has no price of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenUsage {
    /// Fresh input.
    pub input: u64,
    /// Read from a cache.
    pub cache_read: u64,
    /// Written to a cache, five minutes.
    pub cache_write: u64,
    /// Written to a cache, one hour.
    pub cache_write_1h: u64,
    /// Audio input.
    pub input_audio: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Audio output.
    pub output_audio: u64,
    /// Of `output`: reasoning.
    pub reasoning: u64,
}

impl TokenUsage {
    /// Tokens of one class.
    pub const fn of(&self, class: TokenClass) -> u64 {
        match class {
            TokenClass::Input => self.input,
            TokenClass::CacheRead => self.cache_read,
            TokenClass::CacheWrite => self.cache_write,
            TokenClass::CacheWrite1h => self.cache_write_1h,
            TokenClass::InputAudio => self.input_audio,
            TokenClass::Output => self.output,
            TokenClass::OutputAudio => self.output_audio,
        }
    }

    /// All input, of every class.
    pub const fn input_total(&self) -> u64 {
        self.input
            .saturating_add(self.cache_read)
            .saturating_add(self.cache_write)
            .saturating_add(self.cache_write_1h)
            .saturating_add(self.input_audio)
    }

    /// All output, of every class.
    pub const fn output_total(&self) -> u64 {
        self.output.saturating_add(self.output_audio)
    }

    /// All cache writes.
    pub const fn cache_write_total(&self) -> u64 {
        self.cache_write.saturating_add(self.cache_write_1h)
    }

    /// Class by class sum: the usage of two attempts of one request.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write: self.cache_write.saturating_add(other.cache_write),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            input_audio: self.input_audio.saturating_add(other.input_audio),
            output: self.output.saturating_add(other.output),
            output_audio: self.output_audio.saturating_add(other.output_audio),
            reasoning: self.reasoning.saturating_add(other.reasoning),
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name used by the API, in metrics and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Reads the name back.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

named! {
    /// Where a record's token counts come from.
    UsageSource {
        /// The provider reported them.
        Provider = "provider",
        /// Counted from what was sent and relayed, because the provider's figures never came.
        Estimated = "estimated",
        /// Closed after a crash.
        Recovered = "recovered",
        /// Nothing was used.
        None = "none",
    }
}

named! {
    /// How a request ended.
    Outcome {
        /// Answered in full.
        Ok = "ok",
        /// No provider answered, or the answer broke off.
        UpstreamError = "upstream_error",
        /// The client left before the end.
        ClientGone = "client_gone",
        /// A deadline cut it.
        CutDeadline = "cut_deadline",
        /// Shutdown cut it.
        CutShutdown = "cut_shutdown",
        /// The provider refused the request as the client's fault.
        Rejected = "rejected",
        /// Closed after a crash.
        Recovered = "recovered",
    }
}

named! {
    /// How one attempt ended.
    AttemptOutcome {
        /// It answered.
        Ok = "ok",
        /// No byte reached the provider.
        NotSent = "not_sent",
        /// The provider answered with an error status, or with an error as its first event.
        Rejected = "rejected",
        /// Sent, and then no readable answer: the provider may bill it.
        Ambiguous = "ambiguous",
        /// It broke off after content had gone to the client.
        Broken = "broken",
        /// The client left.
        ClientGone = "client_gone",
    }
}

/// One line of a cost: a class of tokens at its price.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CostLine {
    /// Which tokens.
    pub class: TokenClass,
    /// How many.
    pub tokens: u64,
    /// At which price.
    pub micro_usd_per_million: PricePerMillion,
}

/// One try of one candidate. No content: names, a status and a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The provider called.
    pub provider: ProviderSlug,
    /// The upstream's own model name.
    pub model: ModelName,
    /// The key used.
    pub provider_key_id: ProviderKeyId,
    /// HTTP status the provider answered with, if any.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Milliseconds from its start to its end.
    pub latency_ms: u64,
}

/// Everything that is kept of one request. What many requests of one key have alike is shared by them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRecord {
    /// Which request.
    pub request_id: RequestId,
    /// When it arrived.
    pub started_at: Timestamp,
    /// The windows that it counts in: those of its arrival, in the tenant's time zone.
    pub windows: Windows,
    /// Whose spend it is: the virtual key's, the tenant's, and that of the budgets the key had joined.
    pub scopes: Arc<[Scope]>,
    /// Whose.
    pub tenant_id: TenantId,
    /// With which virtual key.
    pub virtual_key_id: VirtualKeyId,
    /// The provider key of the last attempt.
    pub provider_key_id: ProviderKeyId,
    /// What the client asked for.
    pub requested_model: ModelName,
    /// What was called last.
    pub served_model: ModelRef,
    /// HTTP status sent to the client.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Every try, in order.
    pub attempts: Vec<AttemptRecord>,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// Tokens, all charged attempts together.
    pub usage: TokenUsage,
    /// Cost, all charged attempts together; `None` when no price is known.
    #[serde(with = "maybe_nano")]
    pub cost: Option<NanoUsd>,
    /// Cost by class.
    pub cost_lines: Vec<CostLine>,
    /// What a clamp took away from the provider's figures.
    #[serde(with = "nano")]
    pub clamped: NanoUsd,
    /// Which price was in force.
    pub price_version: Option<Arc<str>>,
    /// Where the counts come from.
    pub usage_source: UsageSource,
    /// Milliseconds from arrival to the end of the answer.
    pub latency_ms: u64,
    /// Milliseconds from arrival to the first meaningful event; streams only.
    pub time_to_first_token_ms: Option<u64>,
    /// The key's tags joined by the request's.
    pub tags: Arc<BTreeMap<String, String>>,
}

impl UsageRecord {
    /// The counters that it counts in: every window of every scope.
    pub fn counters(&self) -> impl Iterator<Item = Counter> {
        counters(&self.scopes, self.windows)
    }
}

/// What requests cost together, by what it counts in. A batch is often of few keys, and then much less is to be looked up
/// than all counters of every request.
pub struct Spent<'a>(BTreeMap<(&'a [Scope], Windows), i128>);

impl<'a> Spent<'a> {
    /// Of these requests; those without a cost add nothing.
    pub fn of(records: impl IntoIterator<Item = &'a UsageRecord>) -> Self {
        let mut spent = BTreeMap::<_, i128>::new();
        for record in records {
            let cost = record.cost.unwrap_or_default().max(NanoUsd::ZERO);
            *spent.entry((&*record.scopes, record.windows)).or_default() += i128::from(cost.nano());
        }
        Self(spent)
    }

    /// Every counter that one of the requests counts in, and what it grows by in nano-USD. A counter may come several
    /// times.
    pub fn counters(&self) -> impl Iterator<Item = (Counter, i128)> {
        let each =
            |(&(scopes, windows), &nano)| counters(scopes, windows).map(move |counter| (counter, nano));
        self.0.iter().flat_map(each)
    }
}

/// Every window of every scope.
fn counters(scopes: &[Scope], windows: Windows) -> impl Iterator<Item = Counter> {
    let counter = move |scope, window| Counter { scope, window, index: windows.index(window) };
    scopes
        .iter()
        .flat_map(move |&scope| SpendWindow::ALL.into_iter().map(move |window| counter(scope, window)))
}

/// Amounts as they stand in the journal. An API shows micro-USD and must say so field by field, so the type itself has
/// no serialised form.
mod nano {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::NanoUsd;

    pub(super) fn serialize<S: Serializer>(amount: &NanoUsd, serializer: S) -> Result<S::Ok, S::Error> {
        amount.nano().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NanoUsd, D::Error> {
        i64::deserialize(deserializer).map(NanoUsd::new)
    }
}

mod maybe_nano {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::NanoUsd;

    pub(super) fn serialize<S: Serializer>(
        amount: &Option<NanoUsd>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        amount.map(NanoUsd::nano).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<NanoUsd>, D::Error> {
        Ok(Option::<i64>::deserialize(deserializer)?.map(NanoUsd::new))
    }
}
