//! Recorded requests, read the way the gateway reads them.

use crate::{
    dialects::testing::{Exchange, asked, recorded},
    wire::Endpoint,
};

/// Recordings that ask for what only Anthropic has or refuses itself, and the member that says so.
const REFUSED: &[(&str, &str)] = &[
    ("fantasy--computer-use-streaming-1", "tools[0].type"),
    ("fantasy--testanthropicwebsearch-generate", "tools[0].type"),
    ("fantasy--testanthropicwebsearch-stream", "tools[0].type"),
    ("llm-anthropic--test-web-search", "tools[0].type"),
    ("mirascope--handles-empty-string-content", "messages[0].content"),
    ("files-cache-prefix-stable-automatic-sonnet-5-2", "container"),
    ("files-cache-prefix-stable-messages-sonnet-5-2", "container"),
    ("pydantic-ai--test-anthropic-mcp-servers-stream", "mcp_servers"),
    ("pydantic-ai--test-anthropic-native-tool-search-streaming", "tools[2].type"),
    ("pydantic-ai--test-anthropic-task-budget-coexists-with-effort", "output_config.task_budget"),
    ("pydantic-ai--test-anthropic-text-parts-ahead-of-built-in-tool-call-2", "tools[0].type"),
    ("pydantic-ai--test-anthropic-web-fetch-tool-stream", "tools[0].type"),
    ("pydantic-ai--test-anthropic-web-search-tool", "tools[0].type"),
    ("portability-matrix-r4-t1-tool-addition", "messages[1].content[0].type"),
];

#[test]
fn recorded_requests_are_read_or_refused_for_a_reason() {
    let apis = [("messages", Endpoint::Messages), ("count_tokens", Endpoint::CountTokens)];
    for (api, endpoint) in apis {
        let exchanges = recorded(&[("anthropic", api)]);
        for Exchange { id, request, .. } in exchanges.iter().filter(|exchange| exchange.request.is_object()) {
            let asked = asked(endpoint, request);
            let view = &asked.view;
            let messages = request["messages"].as_array().map_or(0, Vec::len);
            assert_eq!(view.messages, messages as u64, "{id}");
            assert_eq!(view.model.as_deref(), request["model"].as_str(), "{id}");
            assert_eq!(view.stream, request["stream"] == true, "{id}");
            assert_eq!(view.tools, request.get("tools").is_some(), "{id}");
            assert_eq!(view.max_tokens, request["max_tokens"].as_u64(), "{id}");
            assert!(view.text_bytes < request.to_string().len() as u64, "{id}");
            let refused = REFUSED.iter().find(|(known, _)| id.ends_with(known)).map(|(_, field)| *field);
            match asked.conversation() {
                Ok(read) => {
                    assert_eq!(refused, None, "{id}");
                    assert!(read.turns.len() >= messages, "{id}");
                }
                Err(error) => assert_eq!(error.field(), refused, "{id}: {error}"),
            }
        }
    }
}
