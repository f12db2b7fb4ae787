//! Every property that the money is built on is proved by a test that bears its number, and the page about reliability
//! names it. Which property that is stands there, too.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The highest number: `p01_` to `p24_`.
const PROPERTIES: u8 = 24;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            sources(&entry, found);
        } else if entry.extension().is_some_and(|ending| ending == "rs") {
            found.push(entry);
        }
    }
}

/// The numbers at the beginning of a name: 2 and 3 of `p02_p03_any_interleaving`.
fn numbers(name: &str) -> BTreeSet<u8> {
    name.split('_')
        .map_while(|part| part.strip_prefix('p').filter(|digits| digits.len() == 2)?.parse().ok())
        .collect()
}

/// The name of the function that a line begins, if it does.
fn function(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next()
}

/// Every test that bears numbers.
fn numbered_tests() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    sources(&root().join("tests"), &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a file");
        let mut is_test = false;
        for line in text.lines().map(str::trim_start) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                is_test = true;
            } else if let Some(name) = function(line) {
                if is_test && !numbers(name).is_empty() {
                    found.insert(name.to_owned());
                }
                is_test = false;
            } else if !line.starts_with("#[") && !line.starts_with("//") {
                is_test = false;
            }
        }
    }
    found
}

/// The table of the page: each number with the tests named in its row.
fn told() -> BTreeMap<u8, BTreeSet<String>> {
    let page = fs::read_to_string(root().join("docs/reliability.md")).expect("the page");
    let rows = page.lines().filter_map(|line| {
        let row = line.strip_prefix("| P-")?;
        let number = row.get(..2)?.parse().ok()?;
        let tests = row.split('`').filter(|part| !numbers(part).is_empty()).map(str::to_owned);
        Some((number, tests.collect()))
    });
    rows.collect()
}

#[test]
fn every_property_is_named_in_a_test() {
    let mut proved = BTreeMap::<u8, Vec<String>>::new();
    for test in numbered_tests() {
        for number in numbers(&test) {
            proved.entry(number).or_default().push(test.clone());
        }
    }
    let missing: Vec<u8> = (1..=PROPERTIES).filter(|number| !proved.contains_key(number)).collect();
    assert!(missing.is_empty(), "no test bears: {missing:?}");
    let unknown: Vec<&u8> = proved.keys().filter(|number| !(1..=PROPERTIES).contains(*number)).collect();
    assert!(unknown.is_empty(), "there is no such property: {unknown:?}");
}

#[test]
fn the_page_about_reliability_names_every_property_and_the_tests_that_prove_it() {
    let (tests, told) = (numbered_tests(), told());
    assert_eq!(told.keys().copied().collect::<Vec<_>>(), (1..=PROPERTIES).collect::<Vec<_>>());
    for (number, named) in &told {
        let proving: BTreeSet<String> =
            tests.iter().filter(|test| numbers(test).contains(number)).cloned().collect();
        let (untold, gone): (Vec<_>, Vec<_>) =
            (proving.difference(named).collect(), named.difference(&proving).collect());
        assert!(untold.is_empty(), "P-{number:02}: not in the table: {untold:#?}");
        assert!(gone.is_empty(), "P-{number:02}: no such test: {gone:#?}");
    }
}

#[test]
fn only_the_numbers_at_a_names_beginning_count() {
    assert_eq!(numbers("p02_p03_any_run"), BTreeSet::from([2, 3]));
    assert_eq!(numbers("p2_x"), BTreeSet::new());
    assert_eq!(numbers("a_p02"), BTreeSet::new());
    assert_eq!(function("    async fn p24_it(a: u8) {"), Some("p24_it"));
    assert_eq!(function("    let fn_ = 1;"), None);
}
