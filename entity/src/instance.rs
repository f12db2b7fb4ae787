//! One gateway process and its data directory. Its times are the database's, so that gateways with skewed clocks agree.

use sea_orm::entity::prelude::*;

/// One gateway process and its data directory.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "instance")]
pub struct Model {
    /// Its id, which outlives restarts.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: String,
    /// Rises with every start, and when an operator ends it; whoever comes with an earlier one writes nothing.
    pub epoch: i64,
    /// When this epoch began; UTC, milliseconds since the epoch of time.
    pub started_at: i64,
    /// When it last wrote or was heard of.
    pub heartbeat_at: i64,
    /// When it shut down, or was ended by an operator.
    pub stopped_at: Option<i64>,
    /// Up to where its journal is in the database.
    pub applied_seq: i64,
    /// Where the data directory of the run below is: a name that a copy of the directory does not share. None for one of
    /// before there were places.
    pub place: Option<String>,
    /// Which run of the gateway this instance is now.
    pub run: Option<String>,
    /// The ids of the master keys that it has loaded, separated by commas, the one that seals first; null until it says so.
    pub kids: Option<String>,
}

/// Joins are written where they are used.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
