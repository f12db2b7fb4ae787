//! Service tokens over HTTP: shown once when they are made or rotated; and the one answer that has a provider key in it.

use axum::{
    Json,
    body::Body as AnswerBody,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::{
    admin::{
        AdminError,
        auth::Caller,
        page::{Body, Create, Created, Listed, MaybeBody, Query},
    },
    control::{
        Control, MadeServiceToken, NewServiceToken, RetrievedKey, RotateKey, ServiceTokenChange,
        ServiceTokenView, parse_page,
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    tenant_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(control): State<Control>,
    Caller(actor): Caller,
    Query(asked): Query<Asked>,
) -> Result<Listed<ServiceTokenView>, AdminError> {
    let page = parse_page(asked.limit.as_deref(), asked.cursor.as_deref())?;
    Ok(control.service_tokens(&actor, asked.tenant_id.as_deref(), &page).await?.into())
}

pub(super) async fn create(
    State(control): State<Control>,
    Caller(actor): Caller,
    create: Create<NewServiceToken>,
) -> Result<Response, AdminError> {
    let made = control.service_token_create(&actor, create.asked, create.idempotency.as_ref()).await?;
    Ok(Created(shown(&made)).into_response())
}

pub(super) async fn one(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<Json<ServiceTokenView>, AdminError> {
    Ok(Json(control.service_token(&actor, &id).await?))
}

pub(super) async fn change(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    Body(asked): Body<ServiceTokenChange>,
) -> Result<Json<ServiceTokenView>, AdminError> {
    Ok(Json(control.service_token_change(&actor, &id, asked).await?))
}

pub(super) async fn rotate(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
    MaybeBody(asked): MaybeBody<RotateKey>,
) -> Result<Response, AdminError> {
    let made = control.service_token_rotate(&actor, &id, asked).await?;
    Ok(Json(shown(&made)).into_response())
}

pub(super) async fn remove(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    control.service_token_delete(&actor, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A key in the clear, for the service that asked for it.
pub(super) async fn retrieve(
    State(control): State<Control>,
    Caller(actor): Caller,
    Path(provider): Path<String>,
) -> Result<Response, AdminError> {
    let key = control.retrieve_key(&actor, &provider).await?;
    let body = Bytes::from_owner(written(&key));
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, AnswerBody::from(body)).into_response())
}

/// A service token with its secret.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct ShownServiceToken<'a> {
    /// The token, `kst_…`: shown this once; `null` when the same create came before.
    token: Option<&'a str>,
    #[serde(flatten)]
    view: ServiceTokenView,
}

#[expect(clippy::disallowed_methods, reason = "the one answer in which a new service token is shown")]
fn shown(made: &MadeServiceToken) -> ShownServiceToken<'_> {
    ShownServiceToken {
        token: made.plaintext.as_ref().map(|token| token.expose_secret()),
        view: made.view.clone(),
    }
}

/// A provider key in the clear.
#[derive(Serialize, ToSchema)]
pub(in crate::admin) struct FetchedKey<'a> {
    /// Provider slug.
    provider: &'a str,
    /// Name of the key.
    key_name: &'a str,
    /// The key itself.
    api_key: &'a str,
}

/// The body, in a buffer that never grows, so that it leaves no copy behind, and that is wiped once it was sent.
#[expect(clippy::disallowed_methods, reason = "this is the line that gives a provider key to a service")]
fn written(key: &RetrievedKey) -> Zeroizing<Vec<u8>> {
    let secret = key.secret.expose_secret();
    let provider = key.provider.as_str();
    // Six times a text is the most that JSON's escapes make of it.
    let room = 64 + 6 * (provider.len() + key.key_name.len() + secret.len());
    let mut body = Zeroizing::new(Vec::with_capacity(room));
    let api_key = std::str::from_utf8(secret).expect("only visible ASCII is ever sealed as a provider key");
    let fetched = FetchedKey { provider, key_name: &key.key_name, api_key };
    serde_json::to_writer(&mut *body, &fetched).expect("texts always have a JSON form");
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ProviderSecret, ProviderSlug};

    #[test]
    fn the_buffer_of_an_answer_never_grows() {
        for secret in ["", "sk-x", &"\"\\".repeat(2_048)] {
            let key = RetrievedKey {
                provider: ProviderSlug::parse("openai").expect("a slug"),
                key_name: "\u{1}\"é".repeat(40),
                secret: ProviderSecret::new(Zeroizing::new(secret.as_bytes().to_vec())),
            };
            let body = written(&key);
            let room = 64 + 6 * (6 + key.key_name.len() + secret.len());
            assert_eq!(body.capacity(), room);
            let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((&value["api_key"], &value["provider"]), (&secret.into(), &"openai".into()));
        }
    }
}
