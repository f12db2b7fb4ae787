//! Sums over requests by group: whole UTC days from the sums that are kept of them, what a report has of the days at its
//! bounds from the usage rows. Every total in the product comes from here.

use std::cmp::Ordering;

use entity::{usage_pruned, virtual_key};
use sea_orm::{
    ConnectionTrait, EntityTrait, ExprTrait,
    sea_query::{Alias, Expr, Query},
};

use super::{
    Store, StoreError, TenantScope, Tx, UsageFilter,
    rollup::{DAY_MILLIS, Grain, month_of},
    rows,
    spend_groups::{GroupKey, Groups, Lines, Spend},
    spend_lines::Question,
};
use crate::domain::Timestamp;

/// Which requests are summed.
pub type SpendFilter = UsageFilter;

/// Rows that a report would need were deleted for their age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the usage rows of requests before {before} were deleted")]
pub struct Pruned {
    /// The start of the first UTC day that has all its rows.
    pub before: Timestamp,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SpendError {
    /// A bound lies inside a day of which only the whole sums are left.
    #[error(transparent)]
    Pruned(#[from] Pruned),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sea_orm::DbErr> for SpendError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// A part of a report that is read in one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The sums from this UTC day on, up to that one.
    Days(Option<i64>, Option<i64>),
    /// The requests from this millisecond on, up to that one.
    Add(i64, i64),
    /// Such that are to be taken away from the sums of their day.
    Take(i64, i64),
}

/// What is read of a day that a bound cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CutDay {
    /// The requests that the report has, or its sums and the requests that the report has not: whichever part of it is
    /// shorter. A month by the clock of another place cuts a few hours off one day and has a few of another.
    Shorter,
    /// The requests that the report has.
    Within,
}

impl CutDay {
    /// The first day of which sums are read when there is this lower bound.
    const fn first(self, from: i64) -> i64 {
        match self {
            Self::Shorter => (from + DAY_MILLIS / 2).div_euclid(DAY_MILLIS),
            Self::Within => (from + DAY_MILLIS - 1).div_euclid(DAY_MILLIS),
        }
    }

    /// The day up to which sums are read when there is this upper bound.
    const fn end(self, to: i64) -> i64 {
        match self {
            Self::Shorter => (to + DAY_MILLIS / 2 - 1).div_euclid(DAY_MILLIS),
            Self::Within => to.div_euclid(DAY_MILLIS),
        }
    }
}

impl Part {
    /// The parts of a span of time; what is taken away comes after what has it.
    fn of(filter: &SpendFilter, cut: CutDay) -> Vec<Self> {
        let from = filter.from.map(|from| (from.millis(), cut.first(from.millis())));
        let to = filter.to.map(|to| (to.millis(), cut.end(to.millis())));
        if let (Some((from, first)), Some((to, end))) = (from, to)
            && (first >= end
                || to - from <= (from - first * DAY_MILLIS).abs() + (to - end * DAY_MILLIS).abs())
        {
            // No whole day lies between them, or there is less time between them than beside them in their days.
            return if from < to { vec![Self::Add(from, to)] } else { Vec::new() };
        }
        let mut parts = vec![Self::Days(from.map(|(_, first)| first), to.map(|(_, end)| end))];
        if let Some((from, first)) = from.map(|(from, first)| (from, first * DAY_MILLIS)) {
            match from.cmp(&first) {
                Ordering::Less => parts.push(Self::Add(from, first)),
                Ordering::Equal => {}
                Ordering::Greater => parts.push(Self::Take(first, from)),
            }
        }
        if let Some((to, end)) = to.map(|(to, end)| (to, end * DAY_MILLIS)) {
            match to.cmp(&end) {
                Ordering::Less => parts.push(Self::Take(to, end)),
                Ordering::Equal => {}
                Ordering::Greater => parts.push(Self::Add(end, to)),
            }
        }
        parts
    }

    /// Whether it needs rows from before `moment`.
    fn needs_rows_before(self, moment: Timestamp) -> bool {
        matches!(self, Self::Add(from, _) | Self::Take(from, _) if from < moment.millis())
    }
}

impl Store {
    /// Sums by group, and of everything. More than [`MAX_GROUPS`](super::MAX_GROUPS) groups tell that there are too many.
    ///
    /// # Errors
    /// [`SpendError::Pruned`] when a bound lies inside a day whose rows were deleted.
    pub async fn spend(
        &self,
        scope: TenantScope,
        filter: &SpendFilter,
        keys: &[GroupKey],
    ) -> Result<Spend, SpendError> {
        let moment = self.snapshot().await?;
        let question = Question { scope: tenant_of_key(&moment, scope, filter).await?, filter, keys };
        let parts = Part::of(filter, CutDay::Shorter);
        let mut groups = groups_of(&moment, &question, &parts).await?;
        if groups.are_too_many() && parts.iter().any(|part| matches!(part, Part::Take(..))) {
            // Some may be there only to be taken away.
            drop(groups);
            groups = groups_of(&moment, &question, &Part::of(filter, CutDay::Within)).await?;
        }
        moment.commit().await?;
        Ok(groups.finish())
    }
}

/// What the parts add up to; not all of it when there are too many groups.
async fn groups_of<'a>(
    moment: &Tx,
    question: &Question<'a>,
    parts: &[Part],
) -> Result<Groups<'a>, SpendError> {
    // Within the snapshot, so that it tells of every row that is missing there.
    if let Some(before) = pruned_before(moment).await?
        && parts.iter().any(|part| part.needs_rows_before(before))
    {
        return Err(Pruned { before }.into());
    }
    let mut groups = Groups::by(question.keys);
    for part in parts {
        match *part {
            Part::Days(first, end) => {
                let asked = |day| first.is_none_or(|first| first <= day) && end.is_none_or(|end| day < end);
                for month in months(moment, first, end).await? {
                    add_month(moment, question, month, asked, &mut groups).await?;
                }
            }
            Part::Add(from, to) => {
                each_some(moment, question, from, to, &mut groups, |groups, lines| {
                    groups.add(lines, |_| true)
                })
                .await?;
            }
            Part::Take(from, to) => {
                each_some(moment, question, from, to, &mut groups, Groups::take).await?;
            }
        }
        if groups.are_too_many() {
            break;
        }
    }
    Ok(groups)
}

/// Adds what a month has of the days that are asked for.
async fn add_month(
    tx: &Tx,
    question: &Question<'_>,
    month: i64,
    asked: impl Fn(i64) -> bool,
    groups: &mut Groups<'_>,
) -> Result<(), StoreError> {
    let mut next = question.sums_of_month(tx, month, "").await?;
    while let Some((lines, series)) = next
        && !groups.are_too_many()
    {
        // The database gathers the next ones while these are added.
        let found = question.sums_of_month(tx, month, &series);
        let (found, added) = tokio::join!(found, async { groups.add(&lines, &asked) });
        added?;
        next = found?;
    }
    Ok(())
}

/// Adds the requests from one millisecond on and up to another, or takes them away.
async fn each_some<'a>(
    tx: &Tx,
    question: &Question<'_>,
    from: i64,
    to: i64,
    groups: &mut Groups<'a>,
    change: impl Fn(&mut Groups<'a>, &Lines) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // The requests from one moment up to another, and up to when those after them are read at once.
    let some = async |from, end| -> Result<_, StoreError> {
        if from >= to {
            return Ok((None, to));
        }
        let lines = question.requests(tx, from, end).await?;
        Ok((lines, question.end_of_some(tx, end, to).await?))
    };
    let mut end = question.end_of_some(tx, from, to).await?;
    let (mut lines, mut next_end) = some(from, end).await?;
    while end < to || lines.is_some() {
        // The database gathers the next ones while these are counted.
        let (found, changed) =
            tokio::join!(some(end, next_end), async { lines.map_or(Ok(()), |lines| change(groups, &lines)) });
        changed?;
        if groups.are_too_many() {
            break;
        }
        end = next_end;
        (lines, next_end) = found?;
    }
    Ok(())
}

/// The scope, as one tenant's if the report is of one virtual key: a key stays with its tenant, and sums are found by
/// tenant first.
async fn tenant_of_key(tx: &Tx, scope: TenantScope, filter: &SpendFilter) -> Result<TenantScope, StoreError> {
    let Some(key) = filter.virtual_key.filter(|_| scope.tenant().is_none()) else { return Ok(scope) };
    let row = virtual_key::Entity::find_by_id(key.to_string()).one(tx).await?;
    row.map_or(Ok(scope), |row| Ok(TenantScope::only(rows::id("virtual_key", &row.tenant_id)?)))
}

/// The months of which there are sums and that have a day from one on and up to another. Asked for one after the other:
/// between one request with its clock at 1970 and all others there are hundreds that have none.
async fn months(tx: &Tx, from: Option<i64>, to: Option<i64>) -> Result<Vec<i64>, StoreError> {
    let mut found = Vec::new();
    let mut after = from.map_or(i64::MIN, |from| month_of(from).0 - 1);
    loop {
        let next = Query::select()
            .expr(Expr::cust("MIN(month)"))
            .from(Alias::new("spend_rollup"))
            .and_where(Expr::col(Alias::new("grain")).eq(Grain::Key.as_str()))
            .and_where(Expr::col(Alias::new("month")).gt(after))
            .take();
        let row = tx.query_one(&next).await?;
        let month = row.map(|row| row.try_get_by_index::<Option<i64>>(0)).transpose()?.flatten();
        let Some(month) = month.filter(|month| to.is_none_or(|to| *month < to)) else { return Ok(found) };
        found.push(month);
        after = month;
    }
}

/// How far usage rows were deleted, if they were.
pub(super) async fn pruned_before(tx: &Tx) -> Result<Option<Timestamp>, StoreError> {
    let row = usage_pruned::Entity::find().one(tx).await?;
    Ok(row.map(|row| Timestamp::from_millis(row.before)))
}

#[cfg(test)]
mod tests;
