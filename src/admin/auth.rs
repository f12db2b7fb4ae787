//! Who sends a request, and whether they may.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::AdminError;
use crate::{
    control::{Control, ControlError, Present},
    domain::{Actor, Permission},
};

/// Where a request comes from; the server puts it into the extensions. Logins are throttled by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing.
    Anyone,
    /// Any session.
    Session,
    /// A session whose role carries the permission.
    Needs(Permission),
}

/// What [`guard`] works with.
#[derive(Clone)]
pub(super) struct Guard {
    pub control: Control,
    pub access: Access,
}

/// Lets a request through to a route of its kind. It runs inside the route, so it cannot look at another path than the
/// one that is served.
pub(super) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let permission = match guard.access {
        Access::Anyone => return next.run(request).await,
        Access::Session => None,
        Access::Needs(permission) => Some(permission),
    };
    match session(&guard.control, request.headers()).await {
        Ok(present) if permission.is_none_or(|permission| present.actor.may(permission)) => {
            request.extensions_mut().insert(present.actor.clone());
            request.extensions_mut().insert(present);
            next.run(request).await
        }
        Ok(_) => AdminError::from(ControlError::Forbidden("your role does not allow this; ask an owner"))
            .into_response(),
        Err(error) => error.into_response(),
    }
}

async fn session(control: &Control, headers: &HeaderMap) -> Result<Present, AdminError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Err(ControlError::NoSession.into()) };
    if given.next().is_some() {
        return Err(AdminError::StrangeCredential);
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = token.ok_or(ControlError::NoSession)?;
    Ok(control.authenticate(token).await?)
}

/// The actor of a guarded route.
pub(super) struct Caller(pub Actor);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminError> {
        let actor = parts.extensions.get::<Actor>().cloned();
        Ok(Self(actor.ok_or(ControlError::NoSession)?))
    }
}

/// The actor of a guarded route, and the session.
pub(super) struct InSession(pub Present);

impl<S: Sync> FromRequestParts<S> for InSession {
    type Rejection = AdminError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AdminError> {
        let present = parts.extensions.get::<Present>().cloned();
        Ok(Self(present.ok_or(ControlError::NoSession)?))
    }
}

/// Where the request comes from, if the server said.
pub(super) struct Address(pub Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for Address {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get::<ClientAddress>().map(|address| address.0)))
    }
}
