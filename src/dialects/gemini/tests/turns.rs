//! Turns as Gemini wants them.

use serde_json::{Value, json};

use super::build::{body, call, image, of, result, text, user, write};
use crate::{
    dialects::testing::body_of,
    wire::conversation::{Block, Content, Role, Source, Turn},
};

#[test]
fn a_signature_is_given_back_as_it_came_and_only_the_first_call_of_a_turn_gets_a_strangers() {
    let conversation = of(vec![
        user("a"),
        Turn::new(Role::Assistant, vec![text("x"), call("1", "f", "{}", None), call("2", "g", "{}", None)]),
        Turn::new(Role::User, vec![result("1", "r", false), result("2", "r", false)]),
        Turn::new(Role::Assistant, vec![call("3", "f", "{}", Some("b3du")), call("4", "g", "{}", None)]),
        Turn::new(Role::User, vec![result("3", "r", false), result("4", "r", false)]),
        Turn::new(Role::Assistant, vec![text("done")]),
    ]);
    let body = body(&conversation, "gemini-3-pro-preview");
    let signatures: Vec<&Value> = body["contents"]
        .as_array()
        .expect("turns")
        .iter()
        .flat_map(|turn| turn["parts"].as_array().expect("parts"))
        .map(|part| &part["thoughtSignature"])
        .filter(|signature| !signature.is_null())
        .collect();
    assert_eq!(signatures, ["c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=", "b3du"]);
}

#[test]
fn a_signature_on_text_stands_on_that_text_or_alone_on_none() {
    let signature = || -> Block { Content::TextSignature("c2ln".into()).into() };
    let conversation = of(vec![
        user("a"),
        Turn::new(Role::Assistant, vec![signature(), text("x"), signature(), signature(), text("")]),
        user("b"),
    ]);
    assert_eq!(
        body(&conversation, "gemini-3.5-flash")["contents"][1]["parts"],
        json!([
            {"text": "", "thoughtSignature": "c2ln"},
            {"text": "x", "thoughtSignature": "c2ln"},
            {"text": "", "thoughtSignature": "c2ln"},
        ])
    );
}

#[test]
fn turns_alternate_and_begin_with_the_user() {
    let roles = |turns: Vec<Turn>| -> Vec<(String, usize)> {
        let body = body(&of(turns), "gemini-2.0-flash");
        let turns = body["contents"].as_array().expect("turns").iter();
        turns
            .map(|turn| {
                (
                    turn["role"].as_str().expect("a role").to_owned(),
                    turn["parts"].as_array().map_or(0, Vec::len),
                )
            })
            .collect()
    };
    let said = |role: Role, said: &str| Turn::new(role, vec![text(said)]);
    let (user, model) = (|parts| ("user".to_owned(), parts), |parts| ("model".to_owned(), parts));
    let (s, u, a) = (Role::System, Role::User, Role::Assistant);
    assert_eq!(
        roles(vec![said(u, "1"), said(u, "2"), said(a, "3"), said(s, "4"), said(a, "5")]),
        [user(2), model(2)]
    );
    assert_eq!(roles(vec![said(s, "only instructions")]), [user(1)]);
    assert_eq!(roles(vec![said(a, "first"), said(u, "2")]), [user(1), model(1), user(1)]);
    assert_eq!(roles(vec![said(u, "1"), said(a, ""), said(u, "2")]), [user(2)], "an empty turn is none");
    assert_eq!(roles(vec![said(u, "")]), [user(1)]);
    let body = body(&of(vec![said(s, "a"), said(u, "b"), said(s, ""), said(s, "c")]), "gemini-2.0-flash");
    assert_eq!(body["systemInstruction"], json!({"parts": [{"text": "a"}, {"text": "c"}]}));
}

#[test]
fn results_follow_their_calls_at_once_in_their_order_under_the_names_of_their_tools() {
    let conversation = of(vec![
        user("a"),
        Turn::new(Role::Assistant, vec![call("x", "f", "{}", None), call("y", "g", "{}", None)]),
        Turn::new(Role::User, vec![text("first this"), result("y", "[1]", false)]),
        Turn::new(Role::User, vec![result("x", r#"{"e": 1}"#, true)]),
    ]);
    let body = body(&conversation, "gemini-2.5-pro");
    assert_eq!(
        body["contents"][2]["parts"],
        json!([
            {"functionResponse": {"id": "x", "name": "f", "response": {"error": {"e": 1}}}},
            {"functionResponse": {"id": "y", "name": "g", "response": {"output": "[1]"}}},
        ]),
        "as many parts as there were calls"
    );
    assert_eq!(body["contents"][3], json!({"role": "user", "parts": [{"text": "first this"}]}));
}

#[test]
fn pictures_come_inline_or_by_address() {
    let sent = |source: Source| {
        let mut turn = user("a");
        turn.blocks.push(image(source, Some("auto")));
        write(&of(vec![turn]), "gemini-2.5-pro").map(|request| {
            assert!(request.dropped.is_empty());
            body_of(&request)["contents"][0]["parts"][1].clone()
        })
    };
    let inline = json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}});
    assert_eq!(sent(Source::Url("data:image/png;base64,AAAA".into())), Ok(inline.clone()));
    assert_eq!(sent(Source::Url("DATA:image/png;charset=x;base64,AAAA".into())), Ok(inline));
    let uri = "https://example.org/cat.webp#top";
    let address = json!({"fileData": {"fileUri": uri, "mimeType": "image/webp"}});
    assert_eq!(sent(Source::Url(uri.into())), Ok(address));
    // What is no picture, or may be none, would cost more than a picture may.
    for refused in [
        Source::Url("https://example.org/cat".into()),
        Source::Url("https://example.org/v1.2/cat".into()),
        Source::Url("https://example.org/two-hours.mp4".into()),
        Source::Url("data:video/mp4;base64,AAAA".into()),
        Source::Base64 { media_type: "application/pdf".into(), data: "AAAA".into() },
        Source::File("files/abc".into()),
        Source::Url("http://example.org/cat.png".into()),
        Source::Url("file:///etc/passwd".into()),
        Source::Url("data:image/png,AAAA".into()),
        Source::Url("data:;base64,AAAA".into()),
        Source::Url("é".into()),
        Source::File("file-abc".into()),
    ] {
        let refused = sent(refused).expect_err("refused");
        assert_eq!(refused.field(), Some("image_url"));
        assert!(!refused.to_string().contains("example"), "content stays out of errors");
    }
}
