//! The whole ledger: journal, leases, banker and a real database, with a bank and a disk that fail or die where they are
//! told.

mod bank;
mod crash;

use std::{path::Path, sync::Arc};

use tokio::{runtime::Runtime, time::Instant};
use tokio_util::task::TaskTracker;

use super::*;
use crate::{
    domain::{
        CapMode, Counter, ModelName, ModelRef, NanoUsd, Outcome, ProviderKeyId, RequestId, SpendCap,
        SpendWindow, TenantId, Timestamp, TokenUsage, UsageRecord, UsageSource, VirtualKeyId, WindowIndex,
        Windows, Zone,
    },
    store::{Holder, LeaseError, Page, TenantScope, UsageFilter, UsageRow},
};

/// What all requests of these tests arrive at.
fn now() -> Timestamp {
    Timestamp::parse("2026-11-21T12:00:00Z").expect("a time")
}

/// A key with a hard cap, in a tenant without one.
#[derive(Clone, Copy)]
struct Client {
    key: VirtualKeyId,
    tenant: TenantId,
    cap: NanoUsd,
}

impl Client {
    fn new(cap: i64) -> Self {
        Self { key: VirtualKeyId::generate(), tenant: TenantId::generate(), cap: NanoUsd::new(cap) }
    }

    fn scopes(&self) -> [ScopeCap; 2] {
        let cap = SpendCap { amount: self.cap, window: SpendWindow::Total, mode: CapMode::Hard };
        [
            ScopeCap { scope: self.key.into(), cap: Some(cap) },
            ScopeCap { scope: self.tenant.into(), cap: None },
        ]
    }

    fn counter(&self) -> Counter {
        Counter { scope: self.key.into(), window: SpendWindow::Total, index: WindowIndex(0) }
    }

    /// What is recorded of a request that cost so much.
    fn charge(&self, id: RequestId, cost: i64, outcome: Outcome) -> Charge {
        let record = UsageRecord {
            request_id: id,
            started_at: now(),
            windows: Windows::of(now(), Zone::UTC),
            scopes: [self.key.into(), self.tenant.into()].into(),
            tenant_id: self.tenant,
            virtual_key_id: self.key,
            provider_key_id: ProviderKeyId::generate(),
            requested_model: ModelName::parse("gpt").expect("a name"),
            served_model: ModelRef::parse("openai/gpt").expect("a model"),
            status: 200,
            outcome,
            attempts: Vec::new(),
            stream: false,
            usage: TokenUsage::default(),
            cost: Some(NanoUsd::new(cost)),
            cost_lines: Vec::new(),
            clamped: NanoUsd::ZERO,
            price_version: None,
            usage_source: UsageSource::None,
            latency_ms: 1,
            time_to_first_token_ms: None,
            tags: Default::default(),
        };
        Charge { record, hard: [(self.key.into(), SpendWindow::Total, self.cap)].into() }
    }

    /// Reserves `need`, taking what leases it takes.
    async fn reserve(&self, ledger: &Ledger, need: i64) -> Result<Reservation, Stop> {
        let need = NanoUsd::new(need);
        let scopes = self.scopes();
        let mut patience = Patience::default();
        loop {
            let stop = {
                let fit = |left: Option<NanoUsd>| {
                    if left.is_none_or(|left| need <= left) { Ok(need) } else { Err(need) }
                };
                match ledger.accounts().reserve(Ask {
                    scopes: &scopes,
                    at: now(),
                    zone: Zone::UTC,
                    fit: &fit,
                }) {
                    Ok(held) => return Ok(held),
                    Err(stop) => stop,
                }
            };
            match &stop {
                Stop::Lease(wants) if ledger.lease(wants, &mut patience).await.is_ok() => {}
                _ => return Err(stop),
            }
        }
    }
}

/// A stake of so much.
fn stake(cost: i64) -> Stake {
    Stake { cost_nano_usd: Some(cost), ..Stake::default() }
}

/// All usage rows, oldest first.
async fn rows(store: &crate::store::Store) -> Vec<UsageRow> {
    let mut rows = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = Page::parse(Some(500), cursor.as_deref()).expect("a page");
        let found =
            store.usage_rows(TenantScope::house(), &UsageFilter::default(), &page).await.expect("rows");
        rows.extend(found.items);
        match found.next_cursor {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    rows.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    rows
}
