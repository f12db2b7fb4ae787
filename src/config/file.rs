//! The YAML file as a flat list of `section.key`, value and line, so that one table of settings serves all layers and
//! every complaint can name its line.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use super::{
    error::{ConfigError, Origin},
    near::nearest,
    table::{self, Setting},
    value::Value,
};

/// One setting of a file.
pub(super) struct Entry {
    pub(super) setting: &'static Setting,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// Reads a whole file. `null` values are left out: they keep what lies below.
pub(super) fn entries(path: &Path, text: &str) -> Result<Vec<Entry>, ConfigError> {
    let origin = |line| Origin::File { path: path.to_owned(), line };
    // The error's own text shows a piece of the file, which may hold a database password; only its cause is repeated.
    let root: Spanned<Node> = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.without_snippet();
        let line = error.location().map_or(0, |location| location.line());
        ConfigError::Malformed { origin: origin(line), problem: format!("is not valid YAML: {error}") }
    })?;
    let sections = match root.value {
        Node::Map(sections) => sections,
        Node::Null => return Ok(Vec::new()),
        Node::Text(_) | Node::List(_) => {
            let problem = "must be a mapping of sections, such as `server:`".to_owned();
            return Err(ConfigError::Malformed { origin: origin(1), problem });
        }
    };

    let mut entries = Vec::new();
    for (section, node) in sections {
        let prefix = format!("{}.", section.value);
        if !table::keys().any(|key| key.starts_with(&prefix)) {
            let names = table::keys().filter_map(|key| key.split('.').next());
            let near = nearest(&section.value, names);
            return Err(ConfigError::Unknown {
                origin: origin(section.referenced.line()),
                name: section.value,
                near,
            });
        }
        let settings = match node {
            Node::Map(settings) => settings,
            Node::Null => continue,
            Node::Text(_) | Node::List(_) => {
                let problem = format!("`{}` is a section; write its settings below it", section.value);
                return Err(ConfigError::Malformed { origin: origin(section.referenced.line()), problem });
            }
        };
        for (key, node) in settings {
            let (name, origin) = (format!("{prefix}{}", key.value), origin(key.referenced.line()));
            let Some(setting) = table::by_key(&name) else {
                let near = nearest(&name, table::keys());
                return Err(ConfigError::Unknown { origin, name, near });
            };
            let value = match node {
                Node::Null => continue,
                Node::Text(text) => Value::Text(text),
                Node::List(items) => Value::List(items),
                Node::Map(_) => {
                    let problem = format!("`{name}` takes a value, not a mapping");
                    return Err(ConfigError::Malformed { origin, problem });
                }
            };
            entries.push(Entry { setting, value, origin });
        }
    }
    Ok(entries)
}

/// As much of YAML as settings need.
enum Node {
    Null,
    Text(Zeroizing<String>),
    List(Vec<Zeroizing<String>>),
    Map(Vec<(Spanned<String>, Node)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl NodeVisitor {
    fn text<E>(text: impl ToString) -> Result<Node, E> {
        Ok(Node::Text(Zeroizing::new(text.to_string())))
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section, a value or a list of values")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Self::text(value)
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Self::text(value)
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Self::text(value)
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Self::text(value)
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Self::text(value)
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            match item {
                Node::Text(text) => list.push(text),
                Node::Null | Node::List(_) | Node::Map(_) => {
                    return Err(serde::de::Error::custom("a list takes plain values"));
                }
            }
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(pair) = pairs.next_entry()? {
            map.push(pair);
        }
        Ok(Node::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Vec<Entry>, ConfigError> {
        entries(Path::new("my.yaml"), text)
    }

    fn problem(text: &str) -> String {
        read(text).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_key_names_its_line_and_its_neighbour() {
        assert_eq!(
            problem("server:\n  listen: 127.0.0.1:1\n  drain_timout: 5s\n"),
            "`my.yaml` line 3: `server.drain_timout` is no setting; did you mean `server.drain_timeout`?"
        );
        assert_eq!(
            problem("\nsever: {}\n"),
            "`my.yaml` line 2: `sever` is no setting; did you mean `server`?"
        );
    }

    #[test]
    fn shapes_that_are_no_settings_are_refused_with_their_line() {
        assert!(problem("- a\n").contains("mapping of sections"));
        assert!(problem("server: 5\n").contains("line 1: `server` is a section"));
        assert!(problem("server:\n  listen: {a: 1}\n").contains("line 2: `server.listen` takes a value"));
        assert!(problem("server:\n  listen: 1\n  listen: 2\n").contains("line 3"));
        assert!(problem("server: [\n").contains("not valid YAML"));
    }

    #[test]
    fn an_error_does_not_repeat_the_file() {
        let text = "database:\n  url: postgres://me:canary@host/db\n bad: [\n";
        assert!(!problem(text).contains("canary"), "{}", problem(text));
    }

    #[test]
    fn nothing_and_null_change_nothing() {
        for text in ["", "# only a comment\n", "server:\n", "server:\n  listen: null\n  data_dir:\n", "~"] {
            assert!(read(text).unwrap().is_empty(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn p21_no_file_panics(text in "(?s).{0,120}") {
            let _ = read(&text);
        }
    }
}
