//! What a report asks the database: the columns that its groups are told apart by, and sums by day, of some rows at once.
//!
//! The database joins each column of those rows into one text, a line for each row. Rows that come one by one from
//! SQLite's thread cost several times what is done with them. No column has a line's end in it: tags and days are JSON of
//! one line, names have no such character.

use sea_orm::{
    Condition, ConnectionTrait, ExprTrait, Order, QueryResult,
    sea_query::{Alias, Expr, Query, SelectStatement},
};

use super::{
    StoreError, TenantScope, Tx, UsageFilter,
    day_sums::NANO_PER_USD,
    rollup::{DAY_MILLIS, Grain},
    spend_groups::{GroupKey, Lines},
};

/// How many rows are read at once; requests of one millisecond are not parted.
const ROWS_AT_ONCE: u64 = if cfg!(test) { 3 } else { 500 };

/// Which requests a report is about, and what by.
pub(super) struct Question<'a> {
    pub(super) scope: TenantScope,
    pub(super) filter: &'a UsageFilter,
    pub(super) keys: &'a [GroupKey],
}

impl Question<'_> {
    /// The columns that tell groups apart, but for the day: those of the keys, in their order, and the tags in place of
    /// all tags.
    fn columns(&self) -> Vec<&'static str> {
        let is_tag = |key: &&GroupKey| matches!(key, GroupKey::Tag(_));
        let of_keys = self.keys.iter().filter_map(|key| match key {
            GroupKey::Tenant => Some("tenant_id"),
            GroupKey::Key => Some("virtual_key_id"),
            GroupKey::Provider => Some("provider"),
            GroupKey::Model => Some("served_model"),
            GroupKey::Day | GroupKey::Tag(_) => None,
        });
        of_keys.chain(self.keys.iter().find(is_tag).map(|_| "tags")).collect()
    }

    fn wanted(&self) -> Condition {
        let filter = self.filter;
        self.of_whom()
            .add_option(filter.provider.as_ref().map(|provider| column("provider").eq(provider)))
            .add_option(filter.model.as_ref().map(|model| {
                Condition::any()
                    .add(column("served_model").eq(model))
                    .add(column("requested_model").eq(model))
            }))
    }

    fn of_whom(&self) -> Condition {
        Condition::all()
            .add_option(self.scope.column().map(|tenant| column("tenant_id").eq(tenant)))
            .add_option(self.filter.virtual_key.map(|key| column("virtual_key_id").eq(key.to_string())))
    }

    /// The coarsest sums that tell apart what is filtered and grouped by.
    fn grain(&self) -> Grain {
        let (filter, keys) = (self.filter, self.keys);
        let by = |wanted: &[GroupKey]| keys.iter().any(|key| wanted.contains(key));
        Grain::coarsest(
            filter.virtual_key.is_some() || by(&[GroupKey::Key]),
            filter.provider.is_some() || filter.model.is_some() || by(&[GroupKey::Provider, GroupKey::Model]),
            keys.iter().any(|key| matches!(key, GroupKey::Tag(_))),
        )
    }

    /// The next sums that are kept of a month, after the row `series`, and the last row's series.
    pub(super) async fn sums_of_month(
        &self,
        tx: &Tx,
        month: i64,
        series: &str,
    ) -> Result<Option<(Lines, String)>, StoreError> {
        let page = Query::select()
            .columns(self.columns().into_iter().chain(["days", "series"]).map(Alias::new))
            .from(Alias::new("spend_rollup"))
            .and_where(column("grain").eq(self.grain().as_str()))
            .and_where(column("month").eq(month))
            .and_where(column("series").gt(series))
            .cond_where(self.wanted())
            .order_by(Alias::new("series"), Order::Asc)
            .limit(ROWS_AT_ONCE)
            .take();
        let joined = self
            .joined("days".into())
            .expr(Expr::cust("MAX(series)"))
            .from_subquery(page, Alias::new("page"))
            .take();
        let Some(row) = tx.query_one(&joined).await? else { return Ok(None) };
        let lines = self.lines(&row, "spend_rollup", month)?;
        lines.map(|lines| Ok((lines, row.try_get_by_index(self.columns().len() + 1)?))).transpose()
    }

    /// The requests from one millisecond on and up to another, each as the sums of one.
    pub(super) async fn requests(&self, tx: &Tx, from: i64, to: i64) -> Result<Option<Lines>, StoreError> {
        let first_day = from.div_euclid(DAY_MILLIS);
        let after = format!("(started_at - {}) / {DAY_MILLIS}", first_day * DAY_MILLIS);
        let cost = "CASE WHEN cost_nano_usd > 0 THEN cost_nano_usd ELSE 0 END";
        let days = format!(
            "FORMAT('[[%s,1,%s,%s,%s,%s]]', {after}, input_tokens, output_tokens,
                ({cost}) / {NANO_PER_USD}, ({cost}) % {NANO_PER_USD})",
        );
        let joined = self
            .joined(days)
            .from(Alias::new("usage_record"))
            .and_where(column("started_at").gte(from))
            .and_where(column("started_at").lt(to))
            .cond_where(self.wanted())
            .take();
        let Some(row) = tx.query_one(&joined).await? else { return Ok(None) };
        self.lines(&row, "usage_record", first_day)
    }

    /// Up to when requests from one millisecond on are read at once, if not up to `to`.
    pub(super) async fn end_of_some(&self, tx: &Tx, from: i64, to: i64) -> Result<i64, StoreError> {
        if from >= to {
            return Ok(to);
        }
        let next = Query::select()
            .column(Alias::new("started_at"))
            .from(Alias::new("usage_record"))
            .and_where(column("started_at").gt(from))
            .and_where(column("started_at").lt(to))
            .cond_where(self.of_whom())
            .order_by(Alias::new("started_at"), Order::Asc)
            .offset(ROWS_AT_ONCE)
            .limit(1)
            .take();
        let row = tx.query_one(&next).await?;
        Ok(row.map_or(Ok(to), |row| row.try_get_by_index(0))?)
    }

    /// The columns and sums by day of all rows, a text each.
    fn joined(&self, days: String) -> SelectStatement {
        let columns = self.columns().into_iter().map(str::to_owned).chain([days]);
        Query::select().exprs(columns.map(|text| Expr::cust(format!("STRING_AGG({text}, '\n')")))).take()
    }

    /// Reads what [`Question::joined`] asked for; `None` when there were no rows.
    fn lines(
        &self,
        row: &QueryResult,
        table: &'static str,
        first_day: i64,
    ) -> Result<Option<Lines>, StoreError> {
        let count = self.columns().len();
        let Some(days) = row.try_get_by_index::<Option<String>>(count)? else { return Ok(None) };
        let columns = (0..count).map(|place| row.try_get_by_index(place)).collect::<Result<_, _>>()?;
        Ok(Some(Lines { table, columns, days, first_day }))
    }
}

fn column(name: &'static str) -> Expr {
    Expr::col(Alias::new(name))
}
