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

/// Every path but those of single models, which begin with [`MODEL`].
const TABLE: [(&str, Method, Route); 9] = [
    ("/v1/chat/completions", Method::POST, Route::Infer(Endpoint::ChatCompletions)),
    ("/v1/messages", Method::POST, Route::Infer(Endpoint::Messages)),
    ("/v1/responses", Method::POST, Route::Infer(Endpoint::Responses)),
    ("/v1/embeddings", Method::POST, Route::Infer(Endpoint::Embeddings)),
    ("/v1/completions", Method::POST, Route::Infer(Endpoint::Completions)),
    ("/v1/messages/count_tokens", Method::POST, Route::Infer(Endpoint::CountTokens)),
    ("/v1/models", Method::GET, Route::Models),
    ("/v1/key", Method::GET, Route::Key),
    ("/health", Method::GET, Route::Health),
];

/// What the path of a single model begins with.
const MODEL: &str = "/v1/models/";

/// Method and path of every route, for whoever wants to ask them all.
pub fn routes() -> impl Iterator<Item = (Method, String)> {
    let fixed = TABLE.iter().map(|(path, method, _)| (method.clone(), (*path).to_owned()));
    fixed.chain([(Method::GET, format!("{MODEL}{{id}}"))])
}

/// Finds the route.
///
/// # Errors
/// 404 for a path that is not ours, 405 for another method on one that is.
pub(super) fn of(method: &Method, path: &str) -> Result<Route, GatewayError> {
    let (route, wanted) = match TABLE.iter().find(|(ours, ..)| *ours == path) {
        Some((_, wanted, route)) => (route.clone(), wanted),
        None => match path.strip_prefix(MODEL).filter(|id| !id.is_empty()) {
            // Clients encode the slash of `provider/model`; nothing else in a model's name needs it.
            Some(id) => (Route::Model(id.replace("%2F", "/").replace("%2f", "/")), &Method::GET),
            None => return Err(GatewayError::UnknownPath { missing_v1: lacks_v1(path), host: None }),
        },
    };
    if method == wanted {
        Ok(route)
    } else {
        Err(GatewayError::MethodNotAllowed { allow: if *wanted == Method::GET { "GET" } else { "POST" } })
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
