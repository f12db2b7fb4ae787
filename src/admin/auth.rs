//! Who sends a request, and whether they may.

use std::{convert::Infallible, net::IpAddr};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::AdminError;
use crate::{
    control::{Control, ControlError, LoginOrigin, Present, ServiceCredential},
    domain::{Actor, Permission, RequestId, ServiceTokenPlaintext},
};

/// The header in which a service presents its token.
pub(super) const SERVICE_TOKEN: HeaderName = HeaderName::from_static("x-service-token");

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
    /// A service token, and no session.
    Service,
}

/// What [`guard`] works with.
#[derive(Clone)]
pub(super) struct Guard {
    pub control: Control,
    pub access: Access,
    pub method: Method,
    /// With its placeholders.
    pub path: &'static str,
}

/// Gives each request an id of ours, says it in the answer, and ignores a client's own.
pub(super) async fn number(mut request: Request, next: Next) -> Response {
    let id = RequestId::generate();
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

/// Lets a request through to a route of its kind. It runs inside the route, so it cannot look at another path than the
/// one that is served.
pub(super) async fn guard(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let permission = match guard.access {
        Access::Anyone => return next.run(request).await,
        Access::Session => None,
        Access::Needs(permission) => Some(permission),
        Access::Service => {
            let origin = LoginOrigin {
                address: request.extensions().get::<ClientAddress>().map(|address| address.0),
                request: request.extensions().get::<RequestId>().copied(),
            };
            let presented = service_credential(request.headers());
            return match guard.control.authenticate_service(presented, origin).await {
                Ok(actor) => {
                    request.extensions_mut().insert(actor);
                    next.run(request).await
                }
                Err(error) => AdminError::from(error).into_response(),
            };
        }
    };
    let id = request.extensions().get::<RequestId>().copied();
    let known = session(&guard.control, request.headers()).await;
    match known.map(|present| present.in_request(id)) {
        Ok(present) if permission.is_none_or(|permission| present.actor.may(permission)) => {
            request.extensions_mut().insert(present.actor.clone());
            request.extensions_mut().insert(present);
            next.run(request).await
        }
        Ok(present) => {
            guard.control.note_access_refused(&present.actor, guard.method.as_str(), guard.path).await;
            AdminError::from(ControlError::Forbidden("your role does not allow this; ask an owner"))
                .into_response()
        }
        Err(error) => error.into_response(),
    }
}

async fn session(control: &Control, headers: &HeaderMap) -> Result<Present, AdminError> {
    let mut given = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = given.next() else { return Err(ControlError::NoSession.into()) };
    if given.next().is_some() || headers.contains_key(SERVICE_TOKEN) {
        return Err(AdminError::StrangeCredential);
    }
    let token = value.to_str().ok().and_then(|text| {
        let (scheme, token) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let token = token.ok_or(ControlError::NoSession)?;
    Ok(control.authenticate(token).await?)
}

/// The one service token of a request's head.
fn service_credential(headers: &HeaderMap) -> ServiceCredential {
    let mut given = headers.get_all(SERVICE_TOKEN).iter();
    let first = given.next();
    if given.next().is_some() || (first.is_some() && headers.contains_key(header::AUTHORIZATION)) {
        return ServiceCredential::Several;
    }
    match first {
        None => ServiceCredential::Missing,
        // What is no text is no token either.
        Some(value) => {
            let text = value.to_str().unwrap_or_default().to_owned();
            ServiceCredential::One(ServiceTokenPlaintext::new(text))
        }
    }
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

/// Where the request comes from, and which it is.
pub(super) struct Origin(pub LoginOrigin);

impl<S: Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(LoginOrigin {
            address: parts.extensions.get::<ClientAddress>().map(|address| address.0),
            request: parts.extensions.get::<RequestId>().copied(),
        }))
    }
}
