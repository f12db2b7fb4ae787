//! JSON Schema as Anthropic accepts it where an answer is held to one.
//!
//! What it would refuse is said in the description instead, where the model reads it, as Anthropic's own SDKs do. What
//! remains allows less than the original or as much, with the exception of bounds on numbers, lengths and formats.

use std::collections::HashSet;

use serde_json::value::RawValue;

use super::json::{Json, Members, take};

/// Formats of strings that are accepted.
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

/// Why a schema cannot be held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// It is no object.
    NotASchema,
    /// An object in it is open to any member and names none: every object has to list its members.
    OpenObject,
}

/// The schema without what would be refused, and with a description of what it is for.
pub(super) fn accepted(schema: &RawValue, purpose: Option<&str>) -> Result<Json, Misfit> {
    let Ok(Json::Object(mut members)) = serde_json::from_str(schema.get()) else {
        return Err(Misfit::NotASchema);
    };
    if let Some(purpose) = purpose {
        let own = take(&mut members, "description");
        let all = match own {
            Some(Json::Text(own)) => format!("{purpose}\n\n{own}"),
            _ => purpose.to_owned(),
        };
        members.push(("description".to_owned(), Json::Text(all)));
    }
    object(members)
}

fn value(schema: Json) -> Result<Json, Misfit> {
    match schema {
        Json::Object(members) => object(members),
        other => Ok(other),
    }
}

fn list(schemas: Vec<Json>) -> Result<Json, Misfit> {
    schemas.into_iter().map(value).collect::<Result<_, _>>().map(Json::List)
}

/// Schemas by name.
fn named(schemas: Members) -> Result<Json, Misfit> {
    let each = schemas.into_iter().map(|(name, schema)| Ok((name, value(schema)?)));
    each.collect::<Result<_, _>>().map(Json::Object)
}

fn object(mut given: Members) -> Result<Json, Misfit> {
    let mut out = Members::new();
    flatten(&mut given);
    for defs in ["$defs", "definitions"] {
        if let Some(Json::Object(schemas)) = take(&mut given, defs) {
            out.push((defs.to_owned(), named(schemas)?));
        }
    }
    if let Some(reference) = take(&mut given, "$ref") {
        // Nothing may stand beside it.
        out.push(("$ref".to_owned(), reference));
        return Ok(Json::Object(out));
    }
    // About the schema, not about the answer.
    for name in ["$schema", "$id", "$comment"] {
        take(&mut given, name);
    }
    let literal = literals(&mut given, &mut out);
    combinations(&mut given, &mut out)?;
    // A type beside an enumeration that holds `null` as well is refused.
    let kind = take(&mut given, "type");
    let is = |wanted: &str| match &kind {
        Some(Json::Text(kind)) => kind == wanted,
        Some(Json::List(kinds)) => kinds.contains(&Json::text(wanted)),
        _ => false,
    };
    let has_properties = given.iter().any(|(name, _)| name == "properties");
    let (is_object, is_string, is_array) = (is("object") || has_properties, is("string"), is("array"));
    let kind = kind.or_else(|| has_properties.then(|| Json::text("object")));
    out.extend(kind.filter(|_| !literal).map(|kind| ("type".to_owned(), kind)));
    let described = out.len();
    for name in ["description", "title"] {
        out.extend(take(&mut given, name).map(|text| (name.to_owned(), text)));
    }
    if is_object {
        members_of(&mut given, &mut out)?;
    }
    if is_string && let Some(format) = take(&mut given, "format") {
        let known = matches!(&format, Json::Text(format) if FORMATS.contains(&format.as_str()));
        if known { &mut out } else { &mut given }.push(("format".to_owned(), format));
    }
    if is_array {
        if let Some(items) = take(&mut given, "items") {
            out.push(("items".to_owned(), value(items)?));
        }
        if let Some(least) = take(&mut given, "minItems") {
            let known = matches!(&least, Json::Number(least) if matches!(least.as_u64(), Some(0 | 1)));
            if known { &mut out } else { &mut given }.push(("minItems".to_owned(), least));
        }
    }
    describe(given, &mut out, described);
    Ok(Json::Object(out))
}

/// Puts the only schema of an `allOf` in its place: that is how a description comes to stand beside a reference.
fn flatten(given: &mut Members) {
    let only = |(name, value): &(String, Json)| {
        name == "allOf" && matches!(value, Json::List(list) if matches!(list.as_slice(), [Json::Object(_)]))
    };
    while let Some(at) = given.iter().position(only) {
        let Json::List(list) = given.remove(at).1 else { return };
        let Some(Json::Object(inner)) = list.into_iter().next() else { return };
        let own: HashSet<String> = given.iter().map(|(name, _)| name.clone()).collect();
        given.extend(inner.into_iter().filter(|(name, _)| !own.contains(name)));
    }
}

/// Values that are listed; whether there are any.
fn literals(given: &mut Members, out: &mut Members) -> bool {
    let before = out.len();
    for name in ["enum", "const"] {
        let plain = given.iter().any(|(found, value)| {
            found == name
                && match value {
                    Json::List(values) => {
                        name == "enum" && !values.is_empty() && values.iter().all(Json::is_scalar)
                    }
                    value => name == "const" && value.is_scalar(),
                }
        });
        if plain {
            out.extend(take(given, name).map(|value| (name.to_owned(), value)));
        }
    }
    out.len() > before
}

/// Alternatives. `oneOf` is refused, and `anyOf` nearly the same.
fn combinations(given: &mut Members, out: &mut Members) -> Result<(), Misfit> {
    for (name, becomes) in [("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")] {
        let is_list = given.iter().any(|(found, value)| found == name && matches!(value, Json::List(_)));
        if is_list && let Some(Json::List(schemas)) = take(given, name) {
            out.push((becomes.to_owned(), list(schemas)?));
            break;
        }
    }
    Ok(())
}

/// What an object has. It must be closed.
fn members_of(given: &mut Members, out: &mut Members) -> Result<(), Misfit> {
    let properties = match take(given, "properties") {
        Some(Json::Object(properties)) => properties,
        _ => Members::new(),
    };
    let open = matches!(take(given, "additionalProperties"), Some(Json::Object(_) | Json::Bool(true)));
    if open && properties.is_empty() {
        return Err(Misfit::OpenObject);
    }
    out.push(("properties".to_owned(), named(properties)?));
    out.push(("additionalProperties".to_owned(), Json::Bool(false)));
    out.extend(take(given, "required").map(|required| ("required".to_owned(), required)));
    Ok(())
}

/// Says what is left in words.
fn describe(left: Members, out: &mut Members, at: usize) {
    let said: Vec<String> = left
        .into_iter()
        .filter(|(_, value)| !matches!(value, Json::Null | Json::Bool(false)))
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    if said.is_empty() {
        return;
    }
    let said = format!("{{{}}}", said.join(", "));
    match out.iter_mut().find(|(name, _)| name == "description") {
        Some((_, Json::Text(own))) => {
            own.push_str("\n\n");
            own.push_str(&said);
        }
        Some((_, other)) => *other = Json::Text(said),
        None => out.insert(at.min(out.len()), ("description".to_owned(), Json::Text(said))),
    }
}
