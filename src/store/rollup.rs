//! Sums by UTC day, kept as usage rows are written, so that reports read thousands of rows where there are millions.
//!
//! Every request is counted at five grains, each of which tells requests of one tenant and day apart by less or by more.
//! A report reads the coarsest that knows what it asks about. Tags are free texts and may be different in every
//! request: then the grains that look at them are as long as the usage table, and those that do not stay short.
//!
//! A cost is kept as dollars and the nano-dollars below them, each summed by itself: a day's sum may be more than one
//! amount can be. The counts stop at the largest number instead of going on in floating point.

use std::collections::BTreeMap;

use entity::spend_rollup::{ActiveModel, Column, Entity};
use sea_orm::{
    ActiveValue::Set,
    ConnectionTrait, DbBackend, EntityTrait, IdenStatic,
    sea_query::{Expr, OnConflict},
};

use super::{StoreError, Tx, rows};
use crate::domain::{ModelName, ModelRef, NanoUsd, TenantId, UsageRecord, VirtualKeyId};

/// Milliseconds of a day in UTC, which has no leap seconds here.
pub(super) const DAY_MILLIS: i64 = 86_400_000;
/// What a dollar has of nano-dollars.
pub(super) const NANO: i64 = 1_000_000_000;
/// Rows in one statement: 13 columns each, far below SQLite's 32 766 and Postgres' 65 535 parameters.
const ROWS_AT_ONCE: usize = 500;
/// What an upsert of Postgres finds its row by, word for word as in the index.
const TAGS_DIGEST: &str = r"sha256(replace(tags, '\', '\\')::bytea)";

/// What requests of one tenant and day are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grain {
    /// Virtual key.
    Key,
    /// Provider and models.
    Model,
    /// Tags.
    Tags,
    /// Virtual key, provider and models.
    KeyModel,
    /// All of these.
    All,
}

impl Grain {
    const EVERY: [Self; 5] = [Self::Key, Self::Model, Self::Tags, Self::KeyModel, Self::All];

    /// The coarsest that knows what is asked about.
    pub(super) const fn coarsest(key: bool, model: bool, tags: bool) -> Self {
        match (key, model, tags) {
            (_, false, false) => Self::Key,
            (false, true, false) => Self::Model,
            (false, false, true) => Self::Tags,
            (true, true, false) => Self::KeyModel,
            (_, _, true) => Self::All,
        }
    }

    /// The name in the database.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Model => "model",
            Self::Tags => "tags",
            Self::KeyModel => "key_model",
            Self::All => "all",
        }
    }

    const fn knows_key(self) -> bool {
        matches!(self, Self::Key | Self::KeyModel | Self::All)
    }

    const fn knows_model(self) -> bool {
        matches!(self, Self::Model | Self::KeyModel | Self::All)
    }

    const fn knows_tags(self) -> bool {
        matches!(self, Self::Tags | Self::All)
    }
}

/// One row's key: grain, day, tenant, virtual key, provider, requested model, served model, tags.
type Cell = (Grain, i64, String, String, String, String, String, String);

#[derive(Clone, Copy, Default)]
struct Counts {
    requests: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_usd: i64,
    cost_nano_usd: i64,
}

/// What the finest grain tells requests apart by, as a record has it.
type Finest<'a> = (i64, TenantId, VirtualKeyId, &'a ModelRef, &'a ModelName, &'a BTreeMap<String, String>);

impl Counts {
    fn of(record: &UsageRecord) -> Self {
        let whole = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let cost = record.cost.unwrap_or_default().max(NanoUsd::ZERO).nano();
        Self {
            requests: 1,
            input_tokens: whole(record.usage.input_total()),
            output_tokens: whole(record.usage.output_total()),
            cost_usd: cost / NANO,
            cost_nano_usd: cost % NANO,
        }
    }

    fn add(&mut self, other: Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.cost_usd = self.cost_usd.saturating_add(other.cost_usd);
        self.cost_nano_usd = self.cost_nano_usd.saturating_add(other.cost_nano_usd);
    }
}

/// What one batch adds. Counted by the finest grain first: a batch has many records and few cells, and a cell is all
/// texts.
#[derive(Default)]
pub(super) struct Added<'a>(BTreeMap<Finest<'a>, Counts>);

impl<'a> Added<'a> {
    /// Counts a record that was not there before.
    pub(super) fn count(&mut self, record: &'a UsageRecord) {
        let finest = (
            record.started_at.millis().div_euclid(DAY_MILLIS),
            record.tenant_id,
            record.virtual_key_id,
            &record.served_model,
            &record.requested_model,
            &record.tags,
        );
        self.0.entry(finest).or_default().add(Counts::of(record));
    }

    /// The sums of every grain.
    fn cells(self) -> BTreeMap<Cell, Counts> {
        let mut cells = BTreeMap::<Cell, Counts>::new();
        for ((day, tenant, key, served, requested, tags), counts) in self.0 {
            let (tenant, key, tags) = (tenant.to_string(), key.to_string(), rows::json_text(tags));
            let provider = served.provider.to_string();
            let (requested, served) = (requested.to_string(), served.to_string());
            for grain in Grain::EVERY {
                let told = |text: &String, known: bool| if known { text.clone() } else { String::new() };
                let (by_key, by_model) = (grain.knows_key(), grain.knows_model());
                let cell = (
                    grain,
                    day,
                    tenant.clone(),
                    told(&key, by_key),
                    told(&provider, by_model),
                    told(&requested, by_model),
                    told(&served, by_model),
                    told(&tags, grain.knows_tags()),
                );
                cells.entry(cell).or_default().add(counts);
            }
        }
        cells
    }

    /// Adds it to the table. Rows go in the order of their keys, so that two instances that add to the same ones wait
    /// and do not deadlock.
    pub(super) async fn write(self, tx: &Tx) -> Result<(), StoreError> {
        let rows: Vec<_> = self.cells().into_iter().map(row).collect();
        for chunk in rows.chunks(ROWS_AT_ONCE) {
            Entity::insert_many(chunk.iter().cloned())
                .on_conflict(adding(tx.get_database_backend()))
                .exec_without_returning(tx)
                .await?;
        }
        Ok(())
    }
}

fn row((cell, sum): (Cell, Counts)) -> ActiveModel {
    let (grain, day, tenant, key, provider, requested, served, tags) = cell;
    ActiveModel {
        grain: Set(grain.as_str().into()),
        day: Set(day),
        tenant_id: Set(tenant),
        virtual_key_id: Set(key),
        provider: Set(provider),
        requested_model: Set(requested),
        served_model: Set(served),
        tags: Set(tags),
        requests: Set(sum.requests),
        input_tokens: Set(sum.input_tokens),
        output_tokens: Set(sum.output_tokens),
        cost_usd: Set(sum.cost_usd),
        cost_nano_usd: Set(sum.cost_nano_usd),
    }
}

fn adding(backend: DbBackend) -> OnConflict {
    let mut on_conflict = OnConflict::columns([
        Column::Grain,
        Column::Day,
        Column::TenantId,
        Column::VirtualKeyId,
        Column::Provider,
        Column::RequestedModel,
        Column::ServedModel,
    ]);
    match backend {
        DbBackend::Postgres => on_conflict.expr(Expr::cust(TAGS_DIGEST)),
        _ => on_conflict.expr(Expr::col(Column::Tags)),
    };
    for column in
        [Column::Requests, Column::InputTokens, Column::OutputTokens, Column::CostUsd, Column::CostNanoUsd]
    {
        let name = column.as_str();
        let saturated = format!(
            r#"CASE WHEN "spend_rollup"."{name}" > {max} - "excluded"."{name}" THEN {max}
            ELSE "spend_rollup"."{name}" + "excluded"."{name}" END"#,
            max = i64::MAX,
        );
        on_conflict.value(column, Expr::cust(saturated));
    }
    on_conflict
}
