//! Arguments of a tool that come in pieces, each with the path where it belongs: `$.city`, `$.days[0].name`.
//!
//! Only Vertex sends them, and only where it is asked to; a gateway in between may ask.

use serde::Deserialize;
use serde_json::{Map, Number, Value, value::RawValue};

/// Deeper than any tool's arguments. What is deeper is not heeded: it could not be written out again.
const DEEPEST: usize = 64;

/// Arguments as far as they have come.
#[derive(Default)]
pub(super) struct PartialArgs(Map<String, Value>);

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Piece {
    json_path: String,
    string_value: Option<String>,
    number_value: Option<Number>,
    bool_value: Option<bool>,
    null_value: Option<Value>,
}

enum Step {
    Member(String),
    Item(usize),
}

impl PartialArgs {
    /// Begins with what is there already.
    pub(super) fn new(args: Option<&RawValue>) -> Self {
        Self(args.and_then(|args| serde_json::from_str(args.get()).ok()).unwrap_or_default())
    }

    /// Takes in a list of pieces.
    pub(super) fn add(&mut self, pieces: &RawValue) {
        for piece in serde_json::from_str::<Vec<Piece>>(pieces.get()).unwrap_or_default() {
            let Some(steps) = steps(&piece.json_path) else { continue };
            let value = match piece {
                Piece { string_value: Some(text), .. } => Value::String(text),
                Piece { number_value: Some(number), .. } => Value::Number(number),
                Piece { bool_value: Some(value), .. } => Value::Bool(value),
                Piece { null_value, .. } => match null_value {
                    Some(_) => Value::Null,
                    None => continue,
                },
            };
            self.put(&steps, value);
        }
    }

    /// All of them, as JSON text.
    pub(super) fn finish(self) -> String {
        Value::Object(self.0).to_string()
    }

    fn put(&mut self, steps: &[Step], value: Value) {
        let Some((Step::Member(first), rest)) = steps.split_first() else { return };
        let mut at = self.0.entry(first.clone()).or_insert(Value::Null);
        for step in rest {
            at = match step {
                Step::Member(name) => {
                    if !at.is_object() {
                        *at = Value::Object(Map::new());
                    }
                    let Value::Object(members) = at else { return };
                    members.entry(name.clone()).or_insert(Value::Null)
                }
                Step::Item(index) => {
                    if !at.is_array() {
                        *at = Value::Array(Vec::new());
                    }
                    let Value::Array(items) = at else { return };
                    // Items come in order: one far behind the end is the next one.
                    let index = (*index).min(items.len());
                    if index == items.len() {
                        items.push(Value::Null);
                    }
                    let Some(item) = items.get_mut(index) else { return };
                    item
                }
            };
        }
        match (at, value) {
            // Text goes on where it was.
            (Value::String(text), Value::String(more)) => text.push_str(&more),
            (at, value) => *at = value,
        }
    }
}

/// `$.days[0]['first name']` as steps; `None` if it is no such path.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if steps.len() == DEEPEST {
            return None;
        }
        if let Some(behind) = rest.strip_prefix('.') {
            let end = behind.find(['.', '[']).unwrap_or(behind.len());
            let (name, behind) = behind.split_at_checked(end)?;
            steps.push(Step::Member(name.to_owned()));
            rest = behind;
        } else {
            let (inside, behind) = match rest.strip_prefix("['") {
                Some(quoted) => {
                    quoted.split_once("']").map(|(name, behind)| (Step::Member(name.to_owned()), behind))?
                }
                None => {
                    let (index, behind) = rest.strip_prefix('[')?.split_once(']')?;
                    (Step::Item(index.parse().ok()?), behind)
                }
            };
            steps.push(inside);
            rest = behind;
        }
    }
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_together(pieces: &[&str]) -> String {
        let mut args = PartialArgs::new(None);
        for piece in pieces {
            args.add(&RawValue::from_string((*piece).to_owned()).expect("JSON"));
        }
        args.finish()
    }

    #[test]
    fn pieces_go_where_their_paths_say_and_text_goes_on() {
        let args = put_together(&[
            r#"[{"jsonPath":"$.city","stringValue":"Flor","willContinue":true}]"#,
            r#"[{"jsonPath":"$.city","stringValue":"ence"},{"jsonPath":"$.days[0].n","numberValue":1.5}]"#,
            r#"[{"jsonPath":"$.days[1]['first name']","boolValue":true},{"jsonPath":"$.x","nullValue":"NULL_VALUE"}]"#,
        ]);
        assert_eq!(args, r#"{"city":"Florence","days":[{"n":1.5},{"first name":true}],"x":null}"#);
    }

    #[test]
    fn hostile_paths_are_not_heeded() {
        let deep = format!(r#"[{{"jsonPath":"${}","boolValue":true}}]"#, ".a".repeat(100_000));
        let far = r#"[{"jsonPath":"$.a[18446744073709551615]","boolValue":true}]"#;
        for (pieces, args) in [
            (deep.as_str(), "{}"),
            (far, r#"{"a":[true]}"#),
            (r#"[{"jsonPath":"","boolValue":true}]"#, "{}"),
            (r#"[{"jsonPath":"$[0]","boolValue":true}]"#, "{}"),
            (r#"[{"jsonPath":"$.a["}]"#, "{}"),
            ("5", "{}"),
        ] {
            assert_eq!(put_together(&[pieces]), args);
        }
    }
}
