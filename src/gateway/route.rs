//! The closed table of public paths. Matching is exact on the path as it came: no decoding, no normalising, so that
//! what is authorised and what is served cannot differ.

use http::Method;

use super::error::GatewayError;
use crate::wire::Endpoint;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `GET /health`, the only one without a key.
    Health,
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{id}`
    Model(String),
    /// `GET /v1/key`
    Key,
    /// `POST` of one of the inference paths.
    Infer(Endpoint),
}

/// Finds the route.
///
/// # Errors
/// 404 for a path that is not ours, 405 for another method on one that is.
pub(super) fn of(method: &Method, path: &str) -> Result<Route, GatewayError> {
    let (route, wanted) = match path {
        "/health" => (Route::Health, Method::GET),
        "/v1/models" => (Route::Models, Method::GET),
        "/v1/key" => (Route::Key, Method::GET),
        "/v1/chat/completions" => (Route::Infer(Endpoint::ChatCompletions), Method::POST),
        "/v1/completions" => (Route::Infer(Endpoint::Completions), Method::POST),
        "/v1/embeddings" => (Route::Infer(Endpoint::Embeddings), Method::POST),
        "/v1/messages" => (Route::Infer(Endpoint::Messages), Method::POST),
        "/v1/messages/count_tokens" => (Route::Infer(Endpoint::CountTokens), Method::POST),
        "/v1/responses" => (Route::Infer(Endpoint::Responses), Method::POST),
        _ => match path.strip_prefix("/v1/models/").filter(|id| !id.is_empty()) {
            // Clients encode the slash of `provider/model`; nothing else in a model's name needs it.
            Some(id) => (Route::Model(id.replace("%2F", "/").replace("%2f", "/")), Method::GET),
            None => return Err(GatewayError::UnknownPath { missing_v1: lacks_v1(path), host: None }),
        },
    };
    if *method == wanted {
        Ok(route)
    } else {
        Err(GatewayError::MethodNotAllowed { allow: if wanted == Method::GET { "GET" } else { "POST" } })
    }
}

/// In whose shape errors are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tongue {
    /// OpenAI's.
    OpenAi,
    /// Anthropic's, below `/v1/messages`.
    Anthropic,
}

/// The shape of errors at this path, ours or not.
pub(super) fn tongue(path: &str) -> Tongue {
    if path.starts_with("/v1/messages") { Tongue::Anthropic } else { Tongue::OpenAi }
}

/// Whether the path would be ours if the base URL ended in `/v1`.
fn lacks_v1(path: &str) -> bool {
    ["/chat/", "/completions", "/embeddings", "/models", "/key", "/responses", "/messages"]
        .iter()
        .any(|ours| path.starts_with(ours))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exact_paths_are_ours() {
        assert_eq!(of(&Method::GET, "/v1/models").ok(), Some(Route::Models));
        assert_eq!(of(&Method::GET, "/v1/models/openai%2Fgpt").ok(), Some(Route::Model("openai/gpt".into())));
        for hostile in [
            "/v1//key",
            "/v1/./key",
            "/v1/%2e%2e/key",
            "/V1/key",
            "/v1/key/",
            "/v1/key;x",
            "/v1/key%00",
            "//v1/key",
            "/",
        ] {
            assert!(matches!(of(&Method::GET, hostile), Err(GatewayError::UnknownPath { .. })), "{hostile}");
        }
    }

    #[test]
    fn a_path_without_v1_is_told_the_right_base_url() {
        assert!(matches!(
            of(&Method::POST, "/chat/completions"),
            Err(GatewayError::UnknownPath { missing_v1: true, .. })
        ));
        assert!(matches!(
            of(&Method::POST, "/v2/x"),
            Err(GatewayError::UnknownPath { missing_v1: false, .. })
        ));
    }

    #[test]
    fn another_method_on_a_path_of_ours_is_405() {
        assert!(matches!(
            of(&Method::DELETE, "/v1/key"),
            Err(GatewayError::MethodNotAllowed { allow: "GET" })
        ));
        assert!(matches!(
            of(&Method::GET, "/v1/chat/completions"),
            Err(GatewayError::MethodNotAllowed { allow: "POST" })
        ));
    }
}
