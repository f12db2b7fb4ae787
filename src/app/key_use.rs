//! Carries what requests note of provider keys into the database: every few seconds, and once more at the end. When the
//! database does not answer it waits in memory; only a killed process takes it along.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    store::{KeyUse, Store},
    upstream::KeyUses,
};

/// Between two turns.
const TURN: Duration = Duration::from_secs(2);

/// Does it until told to stop.
pub(super) async fn keep(uses: Arc<KeyUses>, store: Store, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TURN)).await.is_some() {
        write(&uses, &store).await;
    }
    write(&uses, &store).await;
}

async fn write(uses: &KeyUses, store: &Store) {
    let noted = uses.unwritten();
    if noted.is_empty() {
        return;
    }
    let rows: Vec<_> = noted
        .iter()
        .map(|noted| (noted.key, KeyUse { used_at: noted.used_at(), refused: noted.refused() }))
        .collect();
    match store.note_key_use(&rows).await {
        Ok(()) => uses.written(&noted),
        Err(error) => tracing::debug!(reason = %error, "key_use.write_failed"),
    }
}
