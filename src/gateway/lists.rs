//! What a key may call and what it has left: `GET /v1/models`, `/v1/models/{id}`, `/v1/key`; and `/health`.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::{GatewayBody, House, authenticate::Principal, error::GatewayError, plan};
use crate::{
    catalogue::{ModelPrice, PriceBook},
    domain::{
        BudgetId, CapMode, KeyState, ModelName, ModelPattern, ModelRef, NanoUsd, Scope, SpendWindow,
        Timestamp,
    },
    ledger::Standing,
};

#[derive(Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

#[derive(Serialize)]
struct Model<'a> {
    id: String,
    object: &'static str,
    created: i64,
    owned_by: &'a str,
    context_window: Option<u64>,
    max_output_tokens: Option<u64>,
    pricing: Option<Pricing>,
}

/// Micro-USD per million tokens.
#[derive(Serialize)]
struct Pricing {
    input: i64,
    output: i64,
    cache_read: Option<i64>,
    cache_write: Option<i64>,
    /// Whether the provider bills a fee for each request besides, which is in no price here.
    fee_per_request: bool,
}

fn describe<'a>(id: String, owned_by: &'a str, price: Option<&ModelPrice>) -> Model<'a> {
    Model {
        id,
        object: "model",
        created: price.map_or(0, |price| price.effective_from.seconds()),
        owned_by,
        context_window: price.and_then(|price| price.context_window),
        max_output_tokens: price.and_then(|price| price.max_output_tokens),
        pricing: price.map(|price| Pricing {
            input: price.rates.input.into(),
            output: price.rates.output.into(),
            cache_read: price.rates.cache_read.map(Into::into),
            cache_write: price.rates.cache_write.map(Into::into),
            fee_per_request: price.fee_per_request,
        }),
    }
}

/// Every real model this key may call: the catalogue's and the priced ones of the tenant's providers, what its
/// provider keys list, and what the allow-list names.
fn callable(principal: &Principal, prices: &PriceBook) -> BTreeSet<ModelRef> {
    let keys = &principal.tenant.keys;
    let known = prices.models().filter(|model| keys.contains_key(&model.provider)).cloned();
    let listed = keys.iter().flat_map(|(provider, keys)| {
        keys.iter()
            .filter_map(|key| key.row.models.as_ref())
            .flatten()
            .map(|model| ModelRef { provider: provider.clone(), model: model.clone() })
    });
    let limits = [&principal.key.limits, &principal.tenant.row.limits];
    let named = limits.into_iter().filter_map(|limits| limits.models_allowed.as_ref()).flatten();
    let named = named.filter_map(|pattern| match pattern {
        ModelPattern::Model(model) => Some(model.clone()),
        ModelPattern::Any | ModelPattern::Provider(_) => None,
    });
    let served = |model: &ModelRef| {
        keys.get(&model.provider).is_some_and(|keys| keys.iter().any(|key| key.serves(&model.model)))
    };
    known.chain(listed).chain(named).filter(|model| served(model) && principal.allows(model)).collect()
}

/// `GET /v1/models`
pub(super) fn models(
    house: &House,
    principal: &Arc<Principal>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (prices, now) = (house.catalogue.prices.load(), house.clock.now());
    let names = names(principal, &prices);
    let data = names.iter().map(|(id, model)| match model {
        Some(model) => describe(id.clone(), model.provider.as_str(), prices.price(model, now).as_deref()),
        None => describe(id.clone(), "keystile", None),
    });
    json(StatusCode::OK, &List { object: "list", data: data.collect() })
}

/// Everything this key may name: real models, and aliases behind them.
fn names(principal: &Principal, prices: &PriceBook) -> Vec<(String, Option<ModelRef>)> {
    let models = callable(principal, prices).into_iter().map(|model| (model.to_string(), Some(model)));
    let mut aliases: Vec<_> = principal.tenant.row.aliases.iter().collect();
    aliases.sort();
    // One behind which there is nothing but clouds of which no dialect is spoken cannot be called.
    let spoken = |model: &ModelRef| {
        principal.tenant.keys.contains_key(&model.provider) || principal.tenant.unspoken(model).is_none()
    };
    let allowed = |(_, models): &(_, &Vec<ModelRef>)| {
        models.iter().any(|model| principal.allows(model) && spoken(model))
    };
    models.chain(aliases.into_iter().filter(allowed).map(|(name, _)| (name.to_string(), None))).collect()
}

/// `GET /v1/models` as a client of Anthropic's reads it.
pub(super) fn anthropic_models(
    house: &House,
    principal: &Arc<Principal>,
) -> Result<Response<GatewayBody>, GatewayError> {
    #[derive(Serialize)]
    struct Model {
        #[serde(rename = "type")]
        kind: &'static str,
        id: String,
        display_name: String,
        created_at: String,
    }
    #[derive(Serialize)]
    struct Page<'a> {
        data: &'a [Model],
        has_more: bool,
        first_id: Option<&'a str>,
        last_id: Option<&'a str>,
    }
    let (prices, now) = (house.catalogue.prices.load(), house.clock.now());
    let names = names(principal, &prices);
    let data: Vec<Model> = names
        .into_iter()
        .map(|(id, model)| {
            let since = model.and_then(|model| prices.price(&model, now)).map(|price| price.effective_from);
            let created_at = since.unwrap_or(Timestamp::from_millis(0)).to_string();
            Model { kind: "model", display_name: id.clone(), id, created_at }
        })
        .collect();
    let (first_id, last_id) =
        (data.first().map(|model| model.id.as_str()), data.last().map(|model| model.id.as_str()));
    json(StatusCode::OK, &Page { data: &data, has_more: false, first_id, last_id })
}

/// `GET /v1/models/{id}`
pub(super) fn model(
    house: &House,
    principal: &Arc<Principal>,
    id: &str,
) -> Result<Response<GatewayBody>, GatewayError> {
    let missing =
        || GatewayError::ModelNotFound(id.chars().filter(char::is_ascii_graphic).take(80).collect());
    let name = ModelName::parse(id).map_err(|_| missing())?;
    let (prices, now) = (house.catalogue.prices.load(), house.clock.now());
    let models = plan::resolve(&principal.tenant, &prices, &name);
    let model = models.iter().find(|model| principal.allows(model)).ok_or_else(missing)?;
    let served = principal.tenant.keys.get(&model.provider);
    if !served.is_some_and(|keys| keys.iter().any(|key| key.serves(&model.model))) {
        return Err(missing());
    }
    let price = prices.price(model, now);
    json(StatusCode::OK, &describe(id.to_owned(), model.provider.as_str(), price.as_deref()))
}

#[derive(Serialize)]
struct Key<'a> {
    id: String,
    name: &'a str,
    tenant_id: String,
    state: KeyState,
    models_allowed: Option<Vec<String>>,
    fallback_models: &'a [ModelName],
    spend_cap_micro_usd: Option<i64>,
    spend_window: SpendWindow,
    cap_mode: CapMode,
    spent_micro_usd: i64,
    reserved_micro_usd: i64,
    remaining_micro_usd: Option<i64>,
    window_resets_at: Option<Timestamp>,
    rate_limit_rpm: Option<u32>,
    rate_limit_tpm: Option<u32>,
    max_parallel: Option<u32>,
    expires_at: Option<Timestamp>,
    tags: &'a std::collections::BTreeMap<String, String>,
    budgets: Vec<Budget<'a>>,
}

/// A budget that the key has joined.
#[derive(Serialize)]
struct Budget<'a> {
    id: BudgetId,
    name: &'a str,
    cap_micro_usd: Option<i64>,
    window: SpendWindow,
    cap_mode: CapMode,
    spent_micro_usd: i64,
    reserved_micro_usd: i64,
    remaining_micro_usd: Option<i64>,
    window_resets_at: Option<Timestamp>,
}

/// `GET /v1/key`
pub(super) async fn key(
    house: &House,
    principal: &Arc<Principal>,
) -> Result<Response<GatewayBody>, GatewayError> {
    let (key, now) = (&principal.key, house.clock.now());
    let cap = key.limits.cap;
    let window = cap.map_or(SpendWindow::Total, |cap| cap.window);
    let windows = principal.windows(now);
    let standing_of = |scope, window| house.ledger.standing(scope, window, windows.index(window));
    let standing = standing_of(Scope::VirtualKey(key.id), window).await;
    let mut budgets = Vec::new();
    for budget in principal.budgets() {
        let standing = standing_of(Scope::Budget(budget.id), budget.window).await;
        budgets.push(Budget {
            id: budget.id,
            name: &budget.name,
            cap_micro_usd: budget.amount.map(NanoUsd::micro_rounded_down),
            window: budget.window,
            cap_mode: budget.mode,
            spent_micro_usd: standing.settled.micro_rounded_up(),
            reserved_micro_usd: standing.reserved.micro_rounded_up(),
            remaining_micro_usd: budget.amount.map(|cap| left(&standing, cap).micro_rounded_down()),
            window_resets_at: budget.window.resets_at(now, principal.zone()),
        });
    }
    let models_allowed = key.limits.models_allowed.as_ref();
    json(
        StatusCode::OK,
        &Key {
            id: key.id.to_string(),
            name: &key.name,
            tenant_id: key.tenant.to_string(),
            state: KeyState::Active,
            models_allowed: models_allowed.map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            fallback_models: &key.fallback_models,
            spend_cap_micro_usd: cap.map(|cap| cap.amount.micro_rounded_down()),
            spend_window: window,
            cap_mode: cap.map_or(CapMode::Hard, |cap| cap.mode),
            spent_micro_usd: standing.settled.micro_rounded_up(),
            reserved_micro_usd: standing.reserved.micro_rounded_up(),
            remaining_micro_usd: cap.map(|cap| left(&standing, cap.amount).micro_rounded_down()),
            window_resets_at: window.resets_at(now, principal.zone()),
            rate_limit_rpm: key.limits.rpm,
            rate_limit_tpm: key.limits.tpm,
            max_parallel: key.limits.max_parallel,
            expires_at: key.expires_at,
            tags: &key.tags,
            budgets,
        },
    )
}

/// What `standing` leaves of a cap.
fn left(standing: &Standing, cap: NanoUsd) -> NanoUsd {
    cap.minus(standing.settled).minus(standing.reserved).max(NanoUsd::ZERO)
}

#[derive(Serialize)]
struct HealthReport {
    status: &'static str,
    service: &'static str,
    version: &'static str,
    database: &'static str,
}

/// `GET /health`
pub(super) async fn health(house: &House) -> Response<GatewayBody> {
    let connected = house.store.is_healthy().await;
    let (code, status, database) = if connected {
        (StatusCode::OK, "healthy", "connected")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unhealthy", "disconnected")
    };
    let report = HealthReport { status, service: "keystile", version: env!("CARGO_PKG_VERSION"), database };
    json(code, &report).unwrap_or_else(|_| Response::new(GatewayBody::Full(None)))
}

fn json(status: StatusCode, value: &impl Serialize) -> Result<Response<GatewayBody>, GatewayError> {
    let bytes = serde_json::to_vec(value).map_err(|_| GatewayError::Internal)?;
    let mut response = Response::new(GatewayBody::full(Bytes::from(bytes)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
