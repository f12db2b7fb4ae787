//! What a client asks, read once for all attempts.

use std::{fmt, sync::OnceLock};

use super::{DialectError, chat, messages, responses};
use crate::wire::{Conversation, Endpoint, Envelope, RequestView};

/// Headers of a client that a provider of the same words is to see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHeaders {
    /// `anthropic-version`
    pub anthropic_version: Option<String>,
    /// `anthropic-beta`, several joined by commas.
    pub anthropic_beta: Option<String>,
}

/// One request as its client asked it.
pub struct Asked {
    /// In whose words.
    pub endpoint: Endpoint,
    /// The body.
    pub envelope: Envelope,
    /// What policy read of it.
    pub view: RequestView,
    /// Headers that matter to a provider.
    pub headers: ClientHeaders,
    conversation: OnceLock<Result<Conversation, DialectError>>,
}

impl Asked {
    /// A request whose body was checked and read.
    pub const fn new(
        endpoint: Endpoint,
        envelope: Envelope,
        view: RequestView,
        headers: ClientHeaders,
    ) -> Self {
        Self { endpoint, envelope, view, headers, conversation: OnceLock::new() }
    }

    /// The request in no provider's words; read at the first call, since most requests are never translated.
    ///
    /// # Errors
    /// It asks for something that cannot be said in other words, or has a member of the wrong shape.
    pub fn conversation(&self) -> Result<&Conversation, DialectError> {
        let read = self.conversation.get_or_init(|| match self.endpoint {
            Endpoint::ChatCompletions => chat::read_request(&self.envelope, &self.view),
            Endpoint::Messages | Endpoint::CountTokens => messages::read_request(&self.envelope, &self.view),
            Endpoint::Responses => responses::read_request(&self.envelope, &self.view),
            Endpoint::Completions | Endpoint::Embeddings => {
                Err(DialectError::UnsupportedEndpoint { path: self.endpoint.path() })
            }
        });
        read.as_ref().map_err(Clone::clone)
    }
}

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("endpoint", &self.endpoint)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}
