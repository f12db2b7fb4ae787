//! What the journal's records say. The journal itself carries bytes.
//!
//! An OPEN holds what would be recorded if the process died now: the request as it stands without this attempt, and the
//! attempt's *stake*, what it is taken to have used once it was sent. A PROGRESS is a newer stake, a CLOSE the final
//! charge. Counts, names and amounts only: nothing here has a place for content or for a key.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        AttemptOutcome, CostLine, NanoUsd, Outcome, Scope, SpendWindow, TokenUsage, UsageRecord, UsageSource,
    },
    store::Charge,
};

/// The first byte of every body; another one was written by another version.
const FORMAT: u8 = 1;

/// What an attempt is taken to have used if nothing more is heard of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stake {
    /// Tokens: estimated, or what the provider has reported so far.
    pub usage: TokenUsage,
    /// What they cost, at most what is reserved, in nano-USD; `None` without a price.
    pub cost_nano_usd: Option<i64>,
    /// The same by class.
    pub lines: Vec<CostLine>,
    /// Which price was in force.
    pub price_version: Option<Arc<str>>,
    /// Milliseconds from arrival to the first meaningful event, once it has come.
    pub first_token_ms: Option<u64>,
}

/// Written from a charge where it stands, and read into one of its own.
#[derive(Serialize, Deserialize)]
struct ChargeEntry<'a> {
    record: Cow<'a, UsageRecord>,
    #[serde(with = "hard_caps")]
    hard: HardCaps,
}

#[derive(Serialize, Deserialize)]
struct OpenEntry<'a> {
    charge: ChargeEntry<'a>,
    stake: Cow<'a, Stake>,
}

type HardCaps = Arc<[(Scope, SpendWindow, NanoUsd)]>;

/// Amounts are numbers in the journal; they have no serialised form of their own.
mod hard_caps {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{HardCaps, NanoUsd, Scope, SpendWindow};

    pub(super) fn serialize<S: Serializer>(hard: &HardCaps, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hard.iter().map(|(scope, window, cap)| (scope, window, cap.nano())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HardCaps, D::Error> {
        let hard = Vec::<(Scope, SpendWindow, i64)>::deserialize(deserializer)?;
        Ok(hard.into_iter().map(|(scope, window, cap)| (scope, window, NanoUsd::new(cap))).collect())
    }
}

/// A body that this version cannot read although its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a journal record is of another version of keystile; start the version that wrote it once, so that it empties its \
     journal, and then this one"
)]
pub struct Unreadable;

impl<'a> From<&'a Charge> for ChargeEntry<'a> {
    fn from(charge: &'a Charge) -> Self {
        Self { record: Cow::Borrowed(&charge.record), hard: Arc::clone(&charge.hard) }
    }
}

impl From<ChargeEntry<'_>> for Charge {
    fn from(entry: ChargeEntry<'_>) -> Self {
        Self { record: entry.record.into_owned(), hard: entry.hard }
    }
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT);
    // As a writer a vector takes a text in one piece; the library's own way of extending one takes it byte by byte.
    postcard::to_io(value, bytes).expect("a vector takes whatever is written to it")
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Unreadable> {
    let (&format, body) = bytes.split_first().ok_or(Unreadable)?;
    match (format, postcard::take_from_bytes(body)) {
        (FORMAT, Ok((value, []))) => Ok(value),
        _ => Err(Unreadable),
    }
}

/// An OPEN's body.
pub(super) fn encode_open(charge: &Charge, stake: &Stake) -> Vec<u8> {
    encode(&OpenEntry { charge: charge.into(), stake: Cow::Borrowed(stake) })
}

/// A PROGRESS' body.
pub(super) fn encode_stake(stake: &Stake) -> Vec<u8> {
    encode(stake)
}

/// A CLOSE's body.
pub(super) fn encode_charge(charge: &Charge) -> Vec<u8> {
    encode(&ChargeEntry::from(charge))
}

/// Reads a CLOSE.
pub(super) fn decode_charge(bytes: &[u8]) -> Result<Charge, Unreadable> {
    decode::<ChargeEntry<'_>>(bytes).map(Charge::from)
}

/// What a request is charged that was under way when the process died: what it had used before this attempt, and, if
/// the attempt was sent, its last known stake.
pub(super) fn recover(open: &[u8], progress: Option<&[u8]>, sent: bool) -> Result<Charge, Unreadable> {
    let OpenEntry { charge, stake } = decode(open)?;
    let mut charge = Charge::from(charge);
    let record = &mut charge.record;
    record.outcome = Outcome::Recovered;
    if !sent {
        if let Some(last) = record.attempts.last_mut() {
            last.outcome = AttemptOutcome::NotSent;
        }
        return Ok(charge);
    }
    let stake = progress.map(decode::<Stake>).transpose()?.unwrap_or_else(|| stake.into_owned());
    record.usage = record.usage.plus(&stake.usage);
    record.usage_source = UsageSource::Recovered;
    record.cost = match (record.cost, stake.cost_nano_usd.map(NanoUsd::new)) {
        (Some(before), Some(more)) => Some(before.plus(more)),
        (before, more) => before.filter(|cost| *cost > NanoUsd::ZERO).or(more),
    };
    record.cost_lines.extend(stake.lines);
    record.price_version = stake.price_version.or(record.price_version.take());
    record.time_to_first_token_ms = stake.first_token_ms.or(record.time_to_first_token_ms);
    Ok(charge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        AttemptRecord, BudgetId, ModelName, ModelRef, PricePerMillion, ProviderKeyId, RequestId, TenantId,
        Timestamp, TokenClass, VirtualKeyId, Windows, Zone,
    };

    /// A request of which everything is known, in two attempts.
    fn full() -> Charge {
        let at = Timestamp::from_millis(1_790_000_000_123);
        let (tenant, key) = (TenantId::from_bytes([0x11; 16]), VirtualKeyId::from_bytes([0x22; 16]));
        let provider_key = ProviderKeyId::from_bytes([0x33; 16]);
        let served = ModelRef::parse("openai/gpt-5.4-mini").expect("a model");
        let attempt = |status, outcome| AttemptRecord {
            provider: served.provider.clone(),
            model: served.model.clone(),
            provider_key_id: provider_key,
            status,
            outcome,
            latency_ms: 321,
        };
        let price = PricePerMillion::new(750_000).expect("a price");
        let record = UsageRecord {
            request_id: RequestId::from_bytes([0x44; 16]),
            started_at: at,
            windows: Windows::of(at, Zone::UTC),
            scopes: vec![key.into(), BudgetId::from_bytes([0x55; 16]).into(), tenant.into()].into(),
            tenant_id: tenant,
            virtual_key_id: key,
            provider_key_id: provider_key,
            requested_model: ModelName::parse("fast").expect("a name"),
            served_model: served.clone(),
            status: 200,
            outcome: Outcome::Ok,
            attempts: vec![attempt(None, AttemptOutcome::Ambiguous), attempt(Some(200), AttemptOutcome::Ok)],
            stream: true,
            usage: TokenUsage {
                input: 100,
                cache_read: 7,
                output: 50,
                reasoning: 9,
                ..TokenUsage::default()
            },
            cost: Some(NanoUsd::new(112_500)),
            cost_lines: vec![CostLine {
                class: TokenClass::Input,
                tokens: 100,
                micro_usd_per_million: price,
            }],
            clamped: NanoUsd::new(3),
            price_version: Some("catalogue:2026-10-01".into()),
            usage_source: UsageSource::Provider,
            latency_ms: 1_234,
            time_to_first_token_ms: Some(56),
            tags: std::collections::BTreeMap::from([("team".to_owned(), "search".to_owned())]).into(),
        };
        let hard = vec![(Scope::from(key), SpendWindow::Monthly, NanoUsd::new(5_000_000_000))].into();
        Charge { record, hard }
    }

    fn full_stake() -> Stake {
        let record = full().record;
        Stake {
            usage: record.usage,
            cost_nano_usd: Some(99),
            lines: record.cost_lines,
            price_version: record.price_version,
            first_token_ms: Some(56),
        }
    }

    /// What the version that first wrote [`FORMAT`] 1 has written. A journal outlives the program that wrote it, so these
    /// bytes may change together with that number only.
    #[test]
    fn bodies_are_written_and_read_as_ever() {
        const PROGRESS: &str = "\
            01640700000032000901c601010064e0c65b0114636174616c6f6775653a323032362d31302d30310138\
            ";
        const CLOSE: &str = "\
            011044444444444444444444444444444444f6b183c598680080fc02c2f30cd0a85a0300102222222222222222222222\
            222222222202105555555555555555555555555555555501101111111111111111111111111111111110111111111111\
            111111111111111111111022222222222222222222222222222222103333333333333333333333333333333304666173\
            74136f70656e61692f6770742d352e342d6d696e69c8010002066f70656e61690c6770742d352e342d6d696e69103333\
            33333333333333333333333333330003c102066f70656e61690c6770742d352e342d6d696e6910333333333333333333\
            3333333333333301c80100c10201640700000032000901e8dd0d010064e0c65b060114636174616c6f6775653a323032\
            362d31302d303100d209013801047465616d06736561726368010010222222222222222222222222222222220380c8af\
            a025\
            ";
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let open = encode_open(&full(), &full_stake());
        let (progress, close) = (encode_stake(&full_stake()), encode_charge(&full()));
        assert_eq!((&*hex(&progress), &*hex(&close)), (PROGRESS, CLOSE));
        assert_eq!(open, [&close, &progress[1..]].concat(), "an OPEN is a charge and a stake");
        assert_eq!(decode_charge(&close), Ok(full()));
        assert_eq!(decode::<Stake>(&progress), Ok(full_stake()));
        let found = recover(&open, Some(&progress), true).expect("readable");
        assert_eq!((&found.hard, found.record.cost), (&full().hard, Some(NanoUsd::new(112_599))));
    }

    /// A request whose earlier attempts have cost `cost`.
    fn so_far(cost: Option<i64>) -> Charge {
        let at = Timestamp::from_millis(1);
        let record = UsageRecord {
            request_id: RequestId::generate(),
            started_at: at,
            windows: Windows::of(at, Zone::UTC),
            scopes: [].into(),
            tenant_id: TenantId::generate(),
            virtual_key_id: VirtualKeyId::generate(),
            provider_key_id: ProviderKeyId::generate(),
            requested_model: ModelName::parse("x").expect("a name"),
            served_model: ModelRef::parse("a/x").expect("a model"),
            status: 200,
            outcome: Outcome::Ok,
            attempts: vec![],
            stream: true,
            usage: TokenUsage::default(),
            cost: cost.map(NanoUsd::new),
            cost_lines: vec![],
            clamped: NanoUsd::ZERO,
            price_version: None,
            usage_source: UsageSource::None,
            latency_ms: 1,
            time_to_first_token_ms: None,
            tags: Default::default(),
        };
        Charge { record, hard: [].into() }
    }

    fn stake(tokens: u64, cost: i64) -> Stake {
        let usage = TokenUsage { output: tokens, ..TokenUsage::default() };
        Stake { usage, cost_nano_usd: Some(cost), ..Stake::default() }
    }

    proptest! {
        /// The stake and every progress are at most what is reserved (see the gateway's settlement), so what is recovered
        /// lies between what progress has proved and what is reserved, on top of what earlier attempts have cost.
        #[test]
        fn p17_what_is_recovered_is_what_progress_proved_and_at_most_what_was_reserved(
            before in 0i64..1 << 60, reserved in 0i64..1 << 60, parts in any::<[u16; 2]>(),
            sent: bool, has_progress: bool,
        ) {
            let part = |of: u16| i64::try_from(i128::from(reserved) * i128::from(of) / 65_535).expect("a part");
            let (at_first, proved) = (part(parts[0].min(parts[1])), part(parts[0].max(parts[1])));
            let open = encode_open(&so_far(Some(before)), &stake(1, at_first));
            let progress = has_progress.then(|| encode_stake(&stake(2, proved)));
            let found = recover(&open, progress.as_deref(), sent).expect("readable").record;
            let cost = found.cost.expect("priced").nano() - before;
            prop_assert_eq!(found.outcome, Outcome::Recovered);
            prop_assert!(0 <= cost && cost <= reserved);
            match (sent, has_progress) {
                (false, _) => prop_assert_eq!((cost, found.usage.output), (0, 0)),
                (true, false) => prop_assert_eq!((cost, found.usage.output), (at_first, 1)),
                (true, true) => prop_assert_eq!((cost, found.usage.output), (proved, 2)),
            }
        }

        /// P-08: whatever stood in the journal, what never went out adds nothing, not even a cost where there was none.
        #[test]
        fn p08_p17_what_was_never_sent_is_recovered_at_nothing(
            before in proptest::option::of(0i64..1 << 60), at_stake in 0i64..1 << 60, progress: bool,
        ) {
            let open = encode_open(&so_far(before), &stake(7, at_stake));
            let progress = progress.then(|| encode_stake(&stake(9, at_stake)));
            let found = recover(&open, progress.as_deref(), false).expect("readable").record;
            prop_assert_eq!(found.cost, before.map(NanoUsd::new));
            prop_assert_eq!((found.usage, found.outcome), (TokenUsage::default(), Outcome::Recovered));
        }

        #[test]
        fn p21_no_bytes_make_a_reader_of_records_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), known: bool) {
            let mut bytes = bytes;
            if known && let Some(first) = bytes.first_mut() {
                *first = FORMAT;
            }
            let _ = decode_charge(&bytes);
            let _ = recover(&bytes, Some(&bytes), true);
        }
    }
}
