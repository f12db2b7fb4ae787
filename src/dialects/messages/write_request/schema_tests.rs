use proptest::prelude::*;

use super::{
    json::Json,
    schema::{Misfit, accepted},
    testing::raw,
};

fn cut(schema: &str) -> String {
    accepted(&raw(schema), None).expect("a schema").to_string()
}

#[test]
fn what_is_accepted_stays_in_its_order() {
    let schema = r##"{"type":"object","description":"d","title":"t","properties":{"z":{"type":"string","format":"date"},"a":{"type":["string","null"]},"m":{"type":"array","items":{"$ref":"#/$defs/n"},"minItems":1}},"additionalProperties":false,"required":["z","a","m"]}"##;
    assert_eq!(cut(schema), schema);
}

#[test]
fn what_would_be_refused_is_said_in_words() {
    let cases = [
        (
            r#"{"type":"integer","minimum":1,"maximum":10}"#,
            r#"{"type":"integer","description":"{minimum: 1, maximum: 10}"}"#,
        ),
        (
            r#"{"type":"string","description":"d","maxLength":5,"pattern":"^a","format":"color"}"#,
            r#"{"type":"string","description":"d\n\n{maxLength: 5, pattern: \"^a\", format: \"color\"}"}"#,
        ),
        (
            r#"{"type":"array","items":{"type":"number","multipleOf":0.5},"minItems":2,"uniqueItems":false}"#,
            r#"{"type":"array","description":"{minItems: 2}","items":{"type":"number","description":"{multipleOf: 0.5}"}}"#,
        ),
        (
            r#"{"type":"string","default":"x","$schema":"s","$id":"i"}"#,
            r#"{"type":"string","description":"{default: \"x\"}"}"#,
        ),
        (r#"{"type":"string","enum":[{"a":1}]}"#, r#"{"type":"string","description":"{enum: [{\"a\":1}]}"}"#),
    ];
    for (given, wanted) in cases {
        assert_eq!(cut(given), wanted);
    }
}

#[test]
fn objects_are_closed() {
    let wanted = r#"{"type":"object","properties":{"a":{}},"additionalProperties":false}"#;
    for given in [
        r#"{"type":"object","properties":{"a":{}}}"#,
        r#"{"properties":{"a":{}},"additionalProperties":{"type":"string"}}"#,
        r#"{"type":"object","properties":{"a":{}},"additionalProperties":true}"#,
    ] {
        assert_eq!(cut(given), wanted);
    }
    for open in [
        r#"{"type":"object","additionalProperties":{}}"#,
        r#"{"type":"array","items":{"type":["object","null"],"properties":{},"additionalProperties":true}}"#,
    ] {
        assert_eq!(accepted(&raw(open), None).err(), Some(Misfit::OpenObject), "{open}");
    }
    for other in ["true", "[]", "3"] {
        assert_eq!(accepted(&raw(other), None).err(), Some(Misfit::NotASchema), "{other}");
    }
}

#[test]
fn alternatives_and_references_are_kept() {
    let cases = [
        (
            r#"{"oneOf":[{"type":"string","minLength":1},{"type":"null"}]}"#,
            r#"{"anyOf":[{"type":"string","description":"{minLength: 1}"},{"type":"null"}]}"#,
        ),
        (
            r##"{"$ref":"#/$defs/a","description":"d","$defs":{"a":{"type":"object"}}}"##,
            r##"{"$defs":{"a":{"type":"object","properties":{},"additionalProperties":false}},"$ref":"#/$defs/a"}"##,
        ),
        (r##"{"allOf":[{"$ref":"#/$defs/a"}],"description":"d"}"##, r##"{"$ref":"#/$defs/a"}"##),
        (
            r#"{"allOf":[{"allOf":[{"type":"string","title":"in"}]}],"title":"out"}"#,
            r#"{"type":"string","title":"out"}"#,
        ),
        (r#"{"type":["string","null"],"enum":["a",null]}"#, r#"{"enum":["a",null]}"#),
        (r#"{"const":"x"}"#, r#"{"const":"x"}"#),
    ];
    for (given, wanted) in cases {
        assert_eq!(cut(given), wanted);
    }
}

#[test]
fn a_purpose_comes_before_the_schemas_own_words() {
    let with = |schema: &str| accepted(&raw(schema), Some("p")).expect("a schema").to_string();
    assert_eq!(with(r#"{"description":"d","type":"null"}"#), r#"{"type":"null","description":"p\n\nd"}"#);
    assert_eq!(with(r#"{"type":"null","not":{}}"#), r#"{"type":"null","description":"p\n\n{not: {}}"}"#);
}

fn json() -> impl Strategy<Value = Json> {
    let name = prop_oneof![
        Just("type"),
        Just("properties"),
        Just("items"),
        Just("enum"),
        Just("anyOf"),
        Just("allOf"),
        Just("$ref"),
        Just("$defs"),
        Just("additionalProperties"),
        Just("minItems"),
        Just("format"),
        Just("description"),
        Just("x"),
    ];
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        any::<i64>().prop_map(|number| Json::Number(number.into())),
        prop_oneof![Just("object"), Just("string"), Just("array"), Just("date")].prop_map(Json::text),
    ];
    scalar.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::List),
            proptest::collection::vec((name.clone(), inner), 0..5).prop_map(|members| Json::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn any_schema_is_cut_and_one_that_was_cut_stays(schema in json()) {
        if let Ok(once) = accepted(&raw(&schema.to_string()), None) {
            prop_assert!(accepted(&raw(&once.to_string()), None).is_ok());
        }
    }
}
