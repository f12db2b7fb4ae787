//! Sessions of people: rows to values and back. A row says that a session is still wanted; who may use it is proved by
//! its signed token, which is never stored.

use entity::session::{ActiveModel, Column, Entity, Model};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Set,
    sea_query::Expr,
};

use super::{
    Page, Paged, Store, StoreError, Tx,
    columns::{maybe, moment},
    rows,
};
use crate::domain::{SessionId, Timestamp, UserId};

const TABLE: &str = "session";
/// Most rows that one call deletes.
const PRUNED_AT_ONCE: u64 = 500;

/// A session.
#[derive(Clone, Debug)]
pub struct StoredSession {
    /// Which.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// When its token expires.
    pub expires_at: Timestamp,
    /// When it was ended before that.
    pub ended_at: Option<Timestamp>,
    /// Where it was begun from; `None` for one that a command signed.
    pub address: Option<String>,
}

impl Store {
    /// One session, also one that is over.
    pub async fn session(&self, session: SessionId) -> Result<StoredSession, StoreError> {
        let row = Entity::find_by_id(session.to_string()).one(self.reader()).await?;
        read(row.ok_or(StoreError::NotFound)?)
    }

    /// The sessions of `user` that are not over at `now`, oldest first.
    pub async fn live_sessions(
        &self,
        user: UserId,
        now: Timestamp,
        page: &Page,
    ) -> Result<Paged<StoredSession>, StoreError> {
        let rows = Entity::find()
            .filter(Column::UserId.eq(user.to_string()))
            .filter(Column::EndedAt.is_null())
            .filter(Column::ExpiresAt.gt(now.millis()))
            .apply_if(page.after_id::<SessionId>()?, |query, after| query.filter(Column::Id.gt(after)))
            .order_by_asc(Column::Id)
            .limit(page.fetch())
            .all(self.reader())
            .await?;
        let sessions = rows.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(page.cut(sessions, |session: &StoredSession| session.id.to_string()))
    }

    /// Notes that a session was used at `at`.
    pub async fn session_seen(&self, session: SessionId, at: Timestamp) -> Result<(), StoreError> {
        self.write(async |tx: &Tx| {
            Entity::update_many()
                .col_expr(Column::SeenAt, Expr::value(at.millis()))
                .filter(Column::Id.eq(session.to_string()))
                .filter(Column::SeenAt.lt(at.millis()))
                .exec(tx)
                .await?;
            Ok(())
        })
        .await
    }

    /// Deletes some sessions whose tokens expired before `moment`, oldest first. Answers how many; 0 when none are left.
    pub async fn prune_sessions(&self, moment: Timestamp) -> Result<u64, StoreError> {
        let old = Entity::find()
            .select_only()
            .column(Column::Id)
            .filter(Column::ExpiresAt.lt(moment.millis()))
            .order_by_asc(Column::ExpiresAt)
            .limit(PRUNED_AT_ONCE);
        let old: Vec<String> = old.into_tuple().all(self.reader()).await?;
        if old.is_empty() {
            return Ok(0);
        }
        self.write(async |tx: &Tx| {
            Ok(Entity::delete_many().filter(Column::Id.is_in(old.clone())).exec(tx).await?.rows_affected)
        })
        .await
    }
}

/// Adds a session.
pub async fn session_insert(tx: &Tx, session: &StoredSession) -> Result<(), StoreError> {
    let row = ActiveModel {
        id: Set(session.id.to_string()),
        user_id: Set(session.user_id.to_string()),
        created_at: Set(session.created_at.millis()),
        seen_at: Set(session.seen_at.millis()),
        expires_at: Set(session.expires_at.millis()),
        ended_at: maybe(session.ended_at),
        address: Set(session.address.clone()),
    };
    row.insert(tx).await?;
    Ok(())
}

/// Ends one session of `user`. Answers whether there was one that was not over.
pub async fn session_end(
    tx: &Tx,
    user: UserId,
    session: SessionId,
    at: Timestamp,
) -> Result<bool, StoreError> {
    let ended = Entity::update_many()
        .col_expr(Column::EndedAt, Expr::value(at.millis()))
        .filter(Column::Id.eq(session.to_string()))
        .filter(Column::UserId.eq(user.to_string()))
        .filter(Column::EndedAt.is_null())
        .filter(Column::ExpiresAt.gt(at.millis()))
        .exec(tx)
        .await?;
    Ok(ended.rows_affected > 0)
}

/// Ends all sessions of `user`.
pub async fn sessions_end(tx: &Tx, user: UserId, at: Timestamp) -> Result<(), StoreError> {
    Entity::update_many()
        .col_expr(Column::EndedAt, Expr::value(at.millis()))
        .filter(Column::UserId.eq(user.to_string()))
        .filter(Column::EndedAt.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

fn read(row: Model) -> Result<StoredSession, StoreError> {
    Ok(StoredSession {
        id: rows::id(TABLE, &row.id)?,
        user_id: rows::id(TABLE, &row.user_id)?,
        created_at: moment(row.created_at),
        seen_at: moment(row.seen_at),
        expires_at: moment(row.expires_at),
        ended_at: row.ended_at.map(moment),
        address: row.address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    fn a_session(user: UserId, from: i64, until: i64) -> StoredSession {
        StoredSession {
            id: SessionId::generate(),
            user_id: user,
            created_at: moment(from),
            seen_at: moment(from),
            expires_at: moment(until),
            ended_at: None,
            address: Some("192.0.2.7".into()),
        }
    }

    async fn insert(store: &Store, session: &StoredSession) {
        store.write(async |tx: &Tx| session_insert(tx, session).await).await.expect("written");
    }

    async fn live(store: &Store, user: UserId, now: i64) -> Vec<SessionId> {
        let found = store.live_sessions(user, moment(now), &Page::first(10)).await.expect("sessions");
        found.items.iter().map(|session| session.id).collect()
    }

    #[tokio::test]
    async fn a_session_lives_until_it_is_ended_or_expires_and_nobody_elses_ends_with_it() {
        let store = testing::store().await;
        let (user, other) = (UserId::generate(), UserId::generate());
        let (first, second, third) =
            (a_session(user, 0, 100), a_session(user, 0, 200), a_session(other, 0, 200));
        for session in [&first, &second, &third] {
            insert(&store, session).await;
        }
        assert_eq!(live(&store, user, 50).await, [first.id, second.id]);
        assert_eq!(live(&store, user, 100).await, [second.id]);
        let end = async |whose, which, at| {
            store.write(async |tx: &Tx| session_end(tx, whose, which, moment(at)).await).await.expect("ended")
        };
        assert!(!end(other, second.id, 60).await, "another user's session");
        assert!(!end(user, first.id, 100).await, "it has expired");
        assert!(end(user, second.id, 60).await);
        assert!(!end(user, second.id, 61).await, "it is over");
        assert_eq!(store.session(second.id).await.expect("kept").ended_at, Some(moment(60)));
        store.write(async |tx: &Tx| sessions_end(tx, user, moment(70)).await).await.expect("ended");
        assert_eq!(live(&store, user, 80).await, []);
        assert_eq!(store.session(second.id).await.expect("kept").ended_at, Some(moment(60)));
        assert_eq!(live(&store, other, 80).await, [third.id]);
    }

    #[tokio::test]
    async fn the_last_use_only_moves_on_and_old_rows_go() {
        let store = testing::store().await;
        let user = UserId::generate();
        let (old, new) = (a_session(user, 0, 100), a_session(user, 0, 200));
        insert(&store, &old).await;
        insert(&store, &new).await;
        for (at, seen) in [(60, 60), (30, 60), (90, 90)] {
            store.session_seen(new.id, moment(at)).await.expect("noted");
            assert_eq!(store.session(new.id).await.expect("kept").seen_at, moment(seen));
        }
        assert_eq!(store.prune_sessions(moment(100)).await.expect("pruned"), 0);
        assert_eq!(store.prune_sessions(moment(101)).await.expect("pruned"), 1);
        assert!(matches!(store.session(old.id).await, Err(StoreError::NotFound)));
        assert!(store.session(new.id).await.is_ok());
    }
}
