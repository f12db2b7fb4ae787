//! Every route of the admin plane, in one list, with what it needs and how it is described.

mod aliases;
mod audit;
mod budgets;
mod config_variables;
mod gateway;
mod instances;
mod prices;
mod provider_keys;
mod service_tokens;
mod session;
mod spend;
mod tenants;
mod users;
mod virtual_keys;

use axum::{
    http::Method,
    routing::{MethodRouter, delete, get, patch, post, put},
};

use super::{auth::Access, openapi::Described};
use crate::{
    control::{
        AliasChange, AliasView, AuditView, BudgetChange, BudgetView, ConfigVariableChange,
        ConfigVariableView, Control, ExplainView, GatewayStatus, InstanceView, NewAlias, NewBudget,
        NewConfigVariable, NewPrices, NewProviderKey, NewServiceToken, NewTenant, NewUser, NewVirtualKey,
        PasswordChange, PricesView, PromoteKey, ProviderKeyChange, ProviderKeyView, ReleasedView, ReloadView,
        RotateKey, ServiceTokenChange, ServiceTokenView, Session, SessionView, SpendReport, StageKey,
        TenantChange, TenantView, UsageView, UserChange, UserView, VerifiedView, VirtualKeyChange,
        VirtualKeyView,
    },
    domain::Permission,
};
use service_tokens::{FetchedKey, ShownServiceToken};
use virtual_keys::MadeVirtualKey;

/// One route.
pub(super) struct Route {
    pub method: Method,
    pub path: &'static str,
    pub access: Access,
    pub handler: MethodRouter<Control>,
    pub described: Described,
}

fn route(
    method: Method,
    path: &'static str,
    access: Access,
    handler: MethodRouter<Control>,
    described: Described,
) -> Route {
    Route { method, path, access, handler, described }
}

const PAGE: &[&str] = &["limit", "cursor"];
const TENANT_PAGE: &[&str] = &["tenant_id", "limit", "cursor"];

/// Every route. What stands here is what can be reached.
#[rustfmt::skip]
pub(super) fn table() -> Vec<Route> {
    use Access::{Anyone, Needs, Service, Session as Any};
    use Method as M;
    let house = Needs(Permission::ManageHouse);
    let users = Needs(Permission::ManageUsers);
    let keys = Needs(Permission::ManageKeys);
    let spend = Needs(Permission::ReadSpend);
    let audit = Needs(Permission::ReadAudit);
    let says = Described::new;
    vec![
        route(M::GET, "/api/openapi.json", Anyone, get(session::openapi), says("This document").answers_other(200, "application/json")),
        route(M::POST, "/api/auth/login", Anyone, post(session::login), says("Begin a session").takes::<session::Login>().answers::<Session>(200)),
        route(M::GET, "/api/auth/session", Any, get(session::current), says("Whose session this is").answers::<session::Current>(200)),
        route(M::POST, "/api/auth/logout", Any, post(session::log_out), says("End this session").answers_other(204, "")),
        route(M::POST, "/api/auth/logout-all", Any, post(session::log_out_everywhere), says("End all of one's own sessions").answers_other(204, "")),
        route(M::POST, "/api/auth/password", Any, post(session::change_password), says("Change one's own password; ends all of one's sessions and begins a new one").takes::<PasswordChange>().answers::<Session>(200)),
        route(M::GET, "/api/auth/sessions", Any, get(session::list), says("One's own sessions").query(PAGE).answers_page::<SessionView>()),
        route(M::DELETE, "/api/auth/sessions/{id}", Any, delete(session::end), says("End one of one's own sessions").answers_other(204, "")),

        route(M::GET, "/api/tenants", keys, get(tenants::list), says("Tenants").query(PAGE).answers_page::<TenantView>()),
        route(M::POST, "/api/tenants", house, post(tenants::create), says("Make a tenant").takes::<NewTenant>().idempotent().answers::<TenantView>(201)),
        route(M::GET, "/api/tenants/{id}", keys, get(tenants::one), says("One tenant").answers::<TenantView>(200)),
        route(M::PATCH, "/api/tenants/{id}", house, patch(tenants::change), says("Change a tenant").takes::<TenantChange>().answers::<TenantView>(200)),
        route(M::DELETE, "/api/tenants/{id}", house, delete(tenants::remove), says("Delete a tenant").answers_other(204, "")),

        route(M::GET, "/api/users", users, get(users::list), says("Users").query(TENANT_PAGE).answers_page::<UserView>()),
        route(M::POST, "/api/users", users, post(users::create), says("Make a user").takes::<NewUser>().idempotent().answers::<UserView>(201)),
        route(M::GET, "/api/users/{id}", users, get(users::one), says("One user").answers::<UserView>(200)),
        route(M::PATCH, "/api/users/{id}", users, patch(users::change), says("Change a user").takes::<UserChange>().answers::<UserView>(200)),
        route(M::DELETE, "/api/users/{id}", users, delete(users::remove), says("Delete a user").answers_other(204, "")),
        route(M::GET, "/api/users/{id}/sessions", users, get(session::list_of_user), says("Sessions of a user").query(PAGE).answers_page::<SessionView>()),
        route(M::DELETE, "/api/users/{id}/sessions", users, delete(session::end_all_of_user), says("End all sessions of a user").answers_other(204, "")),

        route(M::GET, "/api/keys", keys, get(provider_keys::list), says("Provider keys").query(&["tenant_id"]).answers_array::<ProviderKeyView>()),
        route(M::POST, "/api/keys", keys, post(provider_keys::create), says("Store a provider key").takes::<NewProviderKey>().idempotent().answers::<ProviderKeyView>(201)),
        route(M::GET, "/api/keys/{id}", keys, get(provider_keys::one), says("One provider key").answers::<ProviderKeyView>(200)),
        route(M::PATCH, "/api/keys/{id}", keys, patch(provider_keys::change), says("Change a provider key").takes::<ProviderKeyChange>().answers::<ProviderKeyView>(200)),
        route(M::DELETE, "/api/keys/{id}", keys, delete(provider_keys::remove), says("Delete a provider key").answers_other(204, "")),
        route(M::POST, "/api/keys/{id}/stage", keys, post(provider_keys::stage), says("Lay a new secret beside a provider key's present one").takes::<StageKey>().answers::<ProviderKeyView>(200)),
        route(M::DELETE, "/api/keys/{id}/stage", keys, delete(provider_keys::unstage), says("Throw the staged secret away").answers_other(204, "")),
        route(M::POST, "/api/keys/{id}/verify", keys, post(provider_keys::verify), says("Try the staged secret at its provider").answers::<VerifiedView>(200)),
        route(M::POST, "/api/keys/{id}/promote", keys, post(provider_keys::promote), says("Put the staged secret in the present one's place").may_take::<PromoteKey>().answers::<ProviderKeyView>(200)),

        route(M::GET, "/api/service-tokens", keys, get(service_tokens::list), says("Service tokens").query(TENANT_PAGE).answers_page::<ServiceTokenView>()),
        route(M::POST, "/api/service-tokens", keys, post(service_tokens::create), says("Make a service token; it is shown this once").takes::<NewServiceToken>().idempotent().answers::<ShownServiceToken>(201)),
        route(M::GET, "/api/service-tokens/{id}", keys, get(service_tokens::one), says("One service token").answers::<ServiceTokenView>(200)),
        route(M::PATCH, "/api/service-tokens/{id}", keys, patch(service_tokens::change), says("Switch a service token off or on").takes::<ServiceTokenChange>().answers::<ServiceTokenView>(200)),
        route(M::DELETE, "/api/service-tokens/{id}", keys, delete(service_tokens::remove), says("Delete a service token").answers_other(204, "")),
        route(M::POST, "/api/service-tokens/{id}/rotate", keys, post(service_tokens::rotate), says("Give a service token a new secret").may_take::<RotateKey>().answers::<ShownServiceToken>(200)),
        route(M::GET, "/api/v1/keys/{provider}", Service, get(service_tokens::retrieve), says("A provider key in the clear, for a service").answers::<FetchedKey>(200)),

        route(M::GET, "/api/virtual-keys", keys, get(virtual_keys::list), says("Virtual keys").query(TENANT_PAGE).answers_page::<VirtualKeyView>()),
        route(M::POST, "/api/virtual-keys", keys, post(virtual_keys::create), says("Make a virtual key; it is shown this once").takes::<NewVirtualKey>().idempotent().answers::<MadeVirtualKey>(201)),
        route(M::GET, "/api/virtual-keys/{id}", keys, get(virtual_keys::one), says("One virtual key").answers::<VirtualKeyView>(200)),
        route(M::PATCH, "/api/virtual-keys/{id}", keys, patch(virtual_keys::change), says("Change a virtual key").takes::<VirtualKeyChange>().answers::<VirtualKeyView>(200)),
        route(M::DELETE, "/api/virtual-keys/{id}", keys, delete(virtual_keys::remove), says("Revoke and hide a virtual key").answers_other(204, "")),
        route(M::POST, "/api/virtual-keys/{id}/rotate", keys, post(virtual_keys::rotate), says("Give a virtual key a new secret").may_take::<RotateKey>().answers::<MadeVirtualKey>(200)),
        route(M::POST, "/api/virtual-keys/{id}/revoke", keys, post(virtual_keys::revoke), says("Revoke a virtual key").answers::<VirtualKeyView>(200)),

        route(M::GET, "/api/budgets", keys, get(budgets::list), says("Budgets").query(TENANT_PAGE).answers_page::<BudgetView>()),
        route(M::POST, "/api/budgets", keys, post(budgets::create), says("Make a budget").takes::<NewBudget>().idempotent().answers::<BudgetView>(201)),
        route(M::GET, "/api/budgets/{id}", keys, get(budgets::one), says("One budget").answers::<BudgetView>(200)),
        route(M::PATCH, "/api/budgets/{id}", keys, patch(budgets::change), says("Change a budget").takes::<BudgetChange>().answers::<BudgetView>(200)),
        route(M::DELETE, "/api/budgets/{id}", keys, delete(budgets::remove), says("Delete a budget that no key has joined").answers_other(204, "")),

        route(M::GET, "/api/aliases", keys, get(aliases::list), says("Model aliases").query(TENANT_PAGE).answers_page::<AliasView>()),
        route(M::POST, "/api/aliases", keys, post(aliases::create), says("Make a model alias").takes::<NewAlias>().idempotent().answers::<AliasView>(201)),
        route(M::GET, "/api/aliases/{id}", keys, get(aliases::one), says("One model alias").answers::<AliasView>(200)),
        route(M::PATCH, "/api/aliases/{id}", keys, patch(aliases::change), says("Change a model alias").takes::<AliasChange>().answers::<AliasView>(200)),
        route(M::DELETE, "/api/aliases/{id}", keys, delete(aliases::remove), says("Delete a model alias").answers_other(204, "")),

        route(M::GET, "/v1/config-variables", keys, get(config_variables::list), says("Config variables").query(TENANT_PAGE).answers_page::<ConfigVariableView>()),
        route(M::POST, "/v1/config-variables", keys, post(config_variables::create), says("Make a config variable").takes::<NewConfigVariable>().idempotent().answers::<ConfigVariableView>(201)),
        route(M::GET, "/v1/config-variables/{id}", keys, get(config_variables::one), says("One config variable").answers::<ConfigVariableView>(200)),
        route(M::PATCH, "/v1/config-variables/{id}", keys, patch(config_variables::change), says("Change a config variable, and every provider key that refers to it").takes::<ConfigVariableChange>().answers::<ConfigVariableView>(200)),
        route(M::DELETE, "/v1/config-variables/{id}", keys, delete(config_variables::remove), says("Delete a config variable that no provider key refers to").answers_other(204, "")),

        route(M::GET, "/api/prices", spend, get(prices::list), says("Prices in force").query(&["model"]).answers::<PricesView>(200)),
        route(M::PUT, "/api/prices", house, put(prices::set), says("Set prices").takes::<NewPrices>().answers::<PricesView>(200)),

        route(M::GET, "/api/usage", spend, get(spend::usage), says("Finished requests").query(&["from", "to", "tenant_id", "virtual_key_id", "model", "provider", "limit", "cursor"]).answers_page::<UsageView>()),
        route(M::GET, "/api/usage/{request_id}/explain", spend, get(spend::explain), says("How a cost came about").answers::<ExplainView>(200)),
        route(M::GET, "/api/spend", spend, get(spend::spend), says("Sums of spend, as JSON or CSV").query(&["from", "to", "tenant_id", "virtual_key_id", "model", "provider", "group_by", "format"]).answers::<SpendReport>(200).answers_csv_too()),

        route(M::GET, "/api/instances", house, get(instances::list), says("Gateways on this database, and what they have leased").answers_page::<InstanceView>()),
        route(M::POST, "/api/instances/{id}/release", house, post(instances::release), says("Give the leases of a silent gateway back").answers::<ReleasedView>(200)),

        route(M::GET, "/api/gateway/status", house, get(gateway::status), says("What is in force in this gateway, and where each value came from").answers::<GatewayStatus>(200)),
        route(M::POST, "/api/gateway/reload", house, post(gateway::reload), says("Read the configuration anew, all or nothing").answers::<ReloadView>(200)),

        route(M::GET, "/api/v1/audit", audit, get(audit::list), says("The audit log").query(&["action", "category", "actor", "outcome", "object", "from", "to", "format", "limit", "cursor"]).answers_page::<AuditView>().answers_lines_too()),
    ]
}
