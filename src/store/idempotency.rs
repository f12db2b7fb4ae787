//! Creates that were asked for under an `Idempotency-Key`: what was asked, and what came of it.

use entity::idempotency_key::{ActiveModel, Column, Entity};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set};

use super::{StoreError, Tx};
use crate::domain::Timestamp;

/// A create that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneCreate {
    /// Keyed hash of route and body.
    pub request_digest: String,
    /// What was made.
    pub object_id: String,
}

/// What `actor` made under `key`, if it was after `since`.
pub async fn idempotency_find(
    tx: &Tx,
    actor: &str,
    key: &str,
    since: Timestamp,
) -> Result<Option<DoneCreate>, StoreError> {
    let row = Entity::find_by_id((actor.to_owned(), key.to_owned())).one(tx).await?;
    Ok(row
        .filter(|row| row.created_at >= since.millis())
        .map(|row| DoneCreate { request_digest: row.request_digest, object_id: row.object_id }))
}

/// Remembers a create, and forgets those before `since`.
pub async fn idempotency_insert(
    tx: &Tx,
    actor: &str,
    key: &str,
    done: &DoneCreate,
    at: Timestamp,
    since: Timestamp,
) -> Result<(), StoreError> {
    Entity::delete_many().filter(Column::CreatedAt.lt(since.millis())).exec(tx).await?;
    let row = ActiveModel {
        actor: Set(actor.to_owned()),
        key: Set(key.to_owned()),
        request_digest: Set(done.request_digest.clone()),
        object_id: Set(done.object_id.clone()),
        created_at: Set(at.millis()),
    };
    row.insert(tx).await?;
    Ok(())
}
