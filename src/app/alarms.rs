//! From the data plane to the audit log: a provider key that did not open becomes one entry, written by a task of its own
//! so that no request waits for the database.
//!
//! A key is told of once in ten minutes by each instance; how often it failed is in `keystile_vault_open_failures_total`.
//! When the queue is full an alarm is dropped and the key's next failure tells of it. When the database does not answer
//! the task tries again until it does; at shutdown each alarm that still waits gets one more try.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::mpsc::{Receiver, channel},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    control::{Control, ControlError},
    domain::{Alarms, ProviderKeyId, UnsealableKey},
};

/// How long a key that was told of is not told of again.
const QUIET: Duration = Duration::from_secs(600);
/// Keys that are remembered; beyond it others wait until some are forgotten.
const MAX_KEYS: usize = 1_024;
/// Alarms that wait for the database.
const QUEUE: usize = 256;
/// Between two tries to write one.
const RETRY: Duration = Duration::from_secs(2);

/// Which keys were told of, and when.
#[derive(Default)]
struct Told(Mutex<HashMap<ProviderKeyId, Instant>>);

impl Told {
    /// Runs `tell` unless the key was told of lately; it counts as told when `tell` succeeds.
    fn once(&self, key: ProviderKeyId, now: Instant, tell: impl FnOnce() -> bool) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.get(&key).is_some_and(|at| now < *at + QUIET) {
            return;
        }
        if keys.len() >= MAX_KEYS {
            keys.retain(|_, at| now < *at + QUIET);
        }
        if keys.len() < MAX_KEYS && tell() {
            keys.insert(key, now);
        }
    }
}

/// The bell for the data plane, and what rings at the other end.
pub(super) fn bell() -> (Alarms, Desk) {
    let (sender, waiting) = channel(QUEUE);
    let told = Told::default();
    let alarms = Alarms::new(move |alarm: UnsealableKey| {
        told.once(alarm.key, Instant::now(), || sender.try_send(alarm).is_ok());
    });
    (alarms, Desk { waiting })
}

/// Where alarms are written down.
pub(super) struct Desk {
    waiting: Receiver<UnsealableKey>,
}

impl Desk {
    /// Writes them down until told to stop.
    pub(super) async fn run(mut self, control: Control, stop: CancellationToken) {
        while let Some(Some(alarm)) = stop.run_until_cancelled(self.waiting.recv()).await {
            while let Err(error) = control.note_unsealable(&alarm).await {
                warn(&alarm, &error);
                if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                    last_try(&control, &alarm).await;
                    break;
                }
            }
        }
        while let Ok(alarm) = self.waiting.try_recv() {
            last_try(&control, &alarm).await;
        }
    }
}

async fn last_try(control: &Control, alarm: &UnsealableKey) {
    if let Err(error) = control.note_unsealable(alarm).await {
        warn(alarm, &error);
    }
}

fn warn(alarm: &UnsealableKey, error: &ControlError) {
    tracing::warn!(provider_key = %alarm.key, reason = %error, "alarm.not_audited");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_told_of_once_in_a_while_and_again_when_it_could_not_be() {
        let (told, key, now) = (Told::default(), ProviderKeyId::generate(), Instant::now());
        let tell = |at, succeeds| {
            let mut called = false;
            told.once(key, at, || {
                called = true;
                succeeds
            });
            called
        };
        assert!(tell(now, false), "the queue was full");
        assert!(tell(now, true));
        assert!(!tell(now + QUIET / 2, true));
        assert!(tell(now + QUIET, true));
    }

    #[test]
    fn memory_is_bounded() {
        let (told, now) = (Told::default(), Instant::now());
        for _ in 0..MAX_KEYS + 10 {
            told.once(ProviderKeyId::generate(), now, || true);
        }
        assert_eq!(told.0.lock().expect("not poisoned").len(), MAX_KEYS);
        let mut called = false;
        told.once(ProviderKeyId::generate(), now + QUIET, || {
            called = true;
            true
        });
        assert!(called, "room is made of what is over");
    }
}
