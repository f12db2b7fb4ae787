//! The walls of the house: which room may import which, read from the source itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Highest first: a room may use what stands in its line, and nothing else of ours. Every arrow here is needed, and all
/// point down. `entity` and `migration` are crates of their own and stand here like rooms.
///
/// Arrows that one would not guess: `gateway` → `config` for sizes and timeouts, and → `vault` for the shape of keys, the
/// pepper, and sealed rows on their way to `upstream`; `upstream` → `catalogue` for how a provider wants its key;
/// `demo` → `domain` for the clock.
const MAY_USE: &[(&str, &[&str])] = &[
    ("cli", &["app", "config", "control", "domain", "server", "store", "telemetry", "vault"]),
    (
        "app",
        &[
            "admin",
            "catalogue",
            "changes",
            "config",
            "control",
            "demo",
            "domain",
            "gateway",
            "ledger",
            "limits",
            "redis",
            "server",
            "store",
            "telemetry",
            "upstream",
            "vault",
        ],
    ),
    ("admin", &["control", "domain", "vault"]),
    (
        "gateway",
        &[
            "catalogue",
            "changes",
            "config",
            "dialects",
            "domain",
            "ledger",
            "limits",
            "store",
            "telemetry",
            "upstream",
            "vault",
            "wire",
        ],
    ),
    ("control", &["catalogue", "config", "domain", "ledger", "limits", "store", "vault"]),
    ("ledger", &["catalogue", "domain", "store"]),
    ("upstream", &["catalogue", "config", "dialects", "domain", "vault"]),
    ("limits", &["domain", "redis"]),
    ("changes", &["domain", "store"]),
    ("server", &["config"]),
    ("dialects", &["catalogue", "domain", "wire"]),
    ("demo", &["domain"]),
    ("store", &["domain", "entity", "migration"]),
    ("vault", &["config", "domain"]),
    ("telemetry", &["config"]),
    ("redis", &[]),
    ("wire", &["domain"]),
    ("catalogue", &["domain"]),
    ("config", &["domain"]),
    ("domain", &[]),
];

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every source file with its room. `lib.rs` only lists the rooms and `main.rs` only calls `cli`.
fn sources() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![src()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                open.push(entry);
                continue;
            }
            let inside = entry.strip_prefix(src()).expect("inside").to_owned();
            let first = inside.iter().next().expect("a part").to_str().expect("UTF-8");
            let room = first.trim_end_matches(".rs").to_owned();
            if !matches!(room.as_str(), "lib" | "main") {
                found.push((room, inside, fs::read_to_string(&entry).expect("a file")));
            }
        }
    }
    assert!(found.len() > 100, "the source is here");
    found
}

/// The code that ships: without comments, texts, and the tests at a file's end.
fn shipped(text: &str) -> String {
    let code: String = text
        .lines()
        .take_while(|line| !line.starts_with("mod tests {"))
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    code
}

fn is_test_file(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    name.ends_with("tests") || name == "testing" || path.iter().any(|part| part == "tests")
}

/// The rooms that a file names, in `use crate::{…}` lists and in paths.
fn rooms_named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut named = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            named.insert(word(rest));
            continue;
        };
        let (mut depth, mut entry) = (1, String::new());
        for c in list.chars() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => {
                    named.insert(word(entry.trim()));
                    entry.clear();
                    continue;
                }
                _ => {}
            }
            if depth == 0 {
                named.insert(word(entry.trim()));
                break;
            }
            entry.push(c);
        }
    }
    for other in ["entity", "migration"] {
        if code.contains(&format!("use {other}::")) || code.contains(&format!("{other}::")) {
            named.insert(other.to_owned());
        }
    }
    named.remove("");
    named
}

#[test]
fn arrows_point_down() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        let Some(may_use) = allowed.get(room.as_str()) else {
            wrong.push(format!("{}: `{room}` is no room of the table", path.display()));
            continue;
        };
        if is_test_file(&path) {
            continue;
        }
        for named in rooms_named(&shipped(&text)) {
            if named != room && !may_use.contains(&named.as_str()) {
                wrong.push(format!("{}: `{room}` may not use `{named}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_table_itself_has_no_loop_and_no_arrow_that_nobody_needs() {
    let order: Vec<&str> = MAY_USE.iter().map(|(room, _)| *room).collect();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, path, text) in sources() {
        let code = if is_test_file(&path) { String::new() } else { shipped(&text) };
        used.entry(room).or_default().extend(rooms_named(&code));
    }
    let mut unneeded = Vec::new();
    for (place, (room, may_use)) in MAY_USE.iter().enumerate() {
        for other in *may_use {
            let below = order.iter().position(|known| known == other);
            assert!(below.is_none_or(|below| below > place), "`{room}` is not above `{other}`");
            assert!(below.is_some() || matches!(*other, "entity" | "migration"), "`{other}` is no room");
            if !used.get(*room).is_some_and(|used| used.contains(*other)) {
                unneeded.push(format!("`{room}` does not use `{other}`"));
            }
        }
        assert!(used.contains_key(*room), "`{room}` is gone");
    }
    assert!(unneeded.is_empty(), "{unneeded:#?}");
}

#[test]
fn gateway_and_admin_never_meet() {
    for (room, path, text) in sources() {
        let named = rooms_named(&text);
        match room.as_str() {
            "gateway" => {
                assert!(!named.contains("admin") && !named.contains("control"), "{}", path.display())
            }
            "admin" | "control" => assert!(!named.contains("gateway"), "{}", path.display()),
            _ => {}
        }
    }
}

#[test]
fn sea_orm_stays_inside_the_store() {
    for (room, path, text) in sources() {
        let code = shipped(&text);
        let meets = code.contains("sea_orm") || code.contains("sqlx::") || code.contains("use sqlx");
        assert!(room == "store" || is_test_file(&path) || !meets, "{}", path.display());
    }
}

#[test]
fn dialects_and_the_domain_never_wait() {
    for (room, path, text) in sources() {
        if matches!(room.as_str(), "dialects" | "domain" | "wire" | "catalogue") && !is_test_file(&path) {
            let code = shipped(&text);
            for word in ["async ", ".await", "tokio::", "reqwest", "std::net::Tcp"] {
                assert!(!code.contains(word), "{}: `{word}`", path.display());
            }
        }
    }
}

#[test]
fn the_domain_is_pure() {
    for (room, path, text) in sources() {
        if room == "domain" && !is_test_file(&path) {
            let code = shipped(&text);
            for word in ["std::fs", "std::env", "http::", "hyper", "axum", "tracing::", "serde_json::from"] {
                assert!(!code.contains(word), "{}: `{word}`", path.display());
            }
        }
    }
}

#[test]
fn only_admin_and_app_know_the_web_framework_and_the_gateway_has_none() {
    for (room, path, text) in sources() {
        let framework = shipped(&text).contains("axum");
        assert!(matches!(room.as_str(), "admin" | "app") || !framework, "{}", path.display());
    }
}

#[test]
fn files_stay_small() {
    for (_, path, text) in sources() {
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines; two jobs want two files", path.display());
    }
}
