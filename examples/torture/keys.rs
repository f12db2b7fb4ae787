//! Virtual keys whose caps run out, and the one who makes new ones. Old ones are kept: at the end each cap is checked.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{admin::Admin, dice::Dice, plan};

/// Refusals after which a group is replaced: by then many requests have raced for the last of it.
const REFUSALS: u64 = 40;
/// Groups of one key with a small cap.
const CAPPED: usize = 6;
/// Groups altogether: those, one under a budget, one without any cap.
const GROUPS: usize = CAPPED + 2;

/// What is capped: a key or a budget.
#[derive(Clone, Debug)]
pub struct Account {
    /// `vk_…` or `bud_…`.
    pub id: String,
    /// Its cap in micro-USD.
    pub cap: Option<u64>,
    /// For a budget: the keys that have joined it. For a key: itself.
    pub keys: Vec<String>,
}

/// A key to ask with.
pub struct Key {
    /// `vk_…`.
    pub id: String,
    /// `ks_…`.
    pub secret: String,
    group: usize,
    refusals: Arc<AtomicU64>,
}

/// All keys.
pub struct Keys {
    groups: Mutex<Vec<Vec<Arc<Key>>>>,
    accounts: Mutex<Vec<Account>>,
    used_up: mpsc::UnboundedSender<usize>,
}

impl Keys {
    /// Furnishes the gateway with a provider key, a price and the first virtual keys. What comes out of the channel is
    /// for [`Keys::replace`].
    ///
    /// # Errors
    /// The admin API refuses.
    pub async fn furnish(
        admin: &Admin,
        oracle: std::net::SocketAddr,
        dice: &mut Dice,
    ) -> Result<(Self, mpsc::UnboundedReceiver<usize>), String> {
        let provider_key = json!({
            "provider": "oracle", "key_name": "torture", "api_key": "sk-torture-0123456789",
            "base_url": format!("http://{oracle}/v1"),
        });
        admin.call("POST", "/api/keys", &provider_key).await?;
        let price = json!({
            "model": plan::MODEL, "input": plan::INPUT_PRICE, "output": plan::OUTPUT_PRICE,
            "context_window": 32_768, "max_output_tokens": plan::MOST_OUTPUT,
        });
        admin.call("PUT", "/api/prices", &json!({ "prices": [price] })).await?;
        let (used_up, wanted) = mpsc::unbounded_channel();
        let keys = Self { groups: Mutex::default(), accounts: Mutex::default(), used_up };
        for group in 0..GROUPS {
            let made = keys.make(admin, group, dice).await?;
            lock(&keys.groups).push(made);
        }
        Ok((keys, wanted))
    }

    /// One of the keys in use.
    pub fn any(&self, dice: &mut Dice) -> Arc<Key> {
        let groups = lock(&self.groups);
        let group = &groups[dice.place(groups.len())];
        Arc::clone(&group[dice.place(group.len())])
    }

    /// One with a cap of its own, which is therefore refused what has no price.
    pub fn capped(&self) -> Arc<Key> {
        Arc::clone(&lock(&self.groups)[0][0])
    }

    /// A key was refused for its cap; the last of some such times its group is to be replaced.
    pub fn refused(&self, key: &Key) {
        if key.refusals.fetch_add(1, Ordering::Relaxed) + 1 == REFUSALS {
            // At the end of a run nobody makes keys any more.
            self.used_up.send(key.group).ok();
        }
    }

    /// Makes the keys of a group anew.
    ///
    /// # Errors
    /// The admin API refuses.
    pub async fn replace(&self, admin: &Admin, group: usize, dice: &mut Dice) -> Result<(), String> {
        let made = self.make(admin, group, dice).await?;
        lock(&self.groups)[group] = made;
        Ok(())
    }

    /// Everything that was ever capped, and the keys that were not.
    pub fn accounts(&self) -> Vec<Account> {
        lock(&self.accounts).clone()
    }

    async fn make(&self, admin: &Admin, group: usize, dice: &mut Dice) -> Result<Vec<Arc<Key>>, String> {
        let refusals = Arc::new(AtomicU64::new(0));
        // One answer costs about 200 micro-USD; its worst case, which is reserved, three times as much.
        let cap = |dice: &mut Dice| dice.of(4_000..=40_000);
        let of_key = |id: &str, cap| Account { id: id.to_owned(), cap, keys: vec![id.to_owned()] };
        if group < CAPPED {
            let cap = cap(dice);
            let key = key(admin, group, &refusals, Some(cap), &[]).await?;
            lock(&self.accounts).push(of_key(&key.id, Some(cap)));
            return Ok(vec![key]);
        }
        if group > CAPPED {
            let key = key(admin, group, &refusals, None, &[]).await?;
            lock(&self.accounts).push(of_key(&key.id, None));
            return Ok(vec![key]);
        }
        let (shared, own) = (cap(dice), cap(dice));
        // Names are unique, and a call may be repeated.
        let asked = |name: u64| json!({ "name": format!("torture-{name}"), "cap_micro_usd": shared, "window": "total" });
        let budget = loop {
            match admin.call("POST", "/api/budgets", &asked(dice.of(0..=u64::MAX >> 2))).await {
                Err(error) if error.contains("answered with 409") => {}
                other => break member(&other?, "id")?,
            }
        };
        let mut keys = Vec::new();
        for cap in [Some(own), None] {
            let key = key(admin, group, &refusals, cap, std::slice::from_ref(&budget)).await?;
            lock(&self.accounts).push(of_key(&key.id, cap));
            keys.push(key);
        }
        let joined = keys.iter().map(|key| key.id.clone()).collect();
        lock(&self.accounts).push(Account { id: budget, cap: Some(shared), keys: joined });
        Ok(keys)
    }
}

async fn key(
    admin: &Admin,
    group: usize,
    refusals: &Arc<AtomicU64>,
    cap: Option<u64>,
    budgets: &[String],
) -> Result<Arc<Key>, String> {
    let asked = json!({
        "name": "torture", "models_allowed": [plan::MODEL], "spend_cap_micro_usd": cap,
        "spend_window": "total", "cap_mode": "hard", "budgets": budgets,
    });
    let made = admin.call("POST", "/api/virtual-keys", &asked).await?;
    let (id, secret) = (member(&made, "id")?, member(&made, "key")?);
    Ok(Arc::new(Key { id, secret, group, refusals: Arc::clone(refusals) }))
}

fn member(made: &Value, name: &str) -> Result<String, String> {
    made[name].as_str().map(str::to_owned).ok_or_else(|| format!("what was made has no `{name}`: {made}"))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
