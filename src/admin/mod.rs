//! The admin plane: [`Control`] over HTTP, in JSON.
//!
//! Every route stands in one list, [`routes::table`], with what it needs; the router and the OpenAPI document are both
//! made from it, so a path that is not described and guarded does not exist. Whatever a request is, the answer is in
//! this plane's own shape and is never cached. When the database is down the answer is 503 and nothing was done.

mod auth;
mod error;
mod host;
mod openapi;
mod page;
mod routes;

#[cfg(test)]
mod tests;

use axum::{Extension, Router, middleware};

use crate::control::{Control, GatewayHandle};

pub use auth::ClientAddress;
pub use error::AdminError;
pub use openapi::document;

/// What the operator decided about the admin plane.
#[derive(Clone, Debug, Default)]
pub struct AdminSettings {
    /// Host names it answers to besides loopback.
    pub hosts: Vec<String>,
    /// The running gateway, to be asked and told.
    pub gateway: GatewayHandle,
}

/// The admin plane. The server puts a [`ClientAddress`] into each request's extensions.
pub fn router(control: Control, settings: &AdminSettings) -> Router {
    router_with(control, settings, Router::new())
}

/// The admin plane with other routes (health, metrics, the dashboard) behind the same host check and headers.
pub fn router_with(control: Control, settings: &AdminSettings, others: Router) -> Router {
    let mut api = Router::new();
    for route in routes::table() {
        let guard = auth::Guard {
            control: control.clone(),
            access: route.access,
            method: route.method.clone(),
            path: route.path,
        };
        let handler = route.handler.layer(middleware::from_fn_with_state(guard, auth::guard));
        api = api.route(route.path, handler);
    }
    let hosts = host::Hosts::new(&settings.hosts);
    api.with_state(control)
        .layer(Extension(settings.gateway.clone()))
        .merge(others)
        .fallback(error::unknown_path)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn_with_state(hosts, host::guard))
        .layer(middleware::map_response(host::harden))
        .layer(middleware::from_fn(auth::number))
}
