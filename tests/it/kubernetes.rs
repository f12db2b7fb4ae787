//! The examples for Kubernetes are what Kubernetes takes, as far as we use it, and what this gateway takes: every document
//! is held against a schema that refuses unknown members, every variable is a setting, every file that is mounted is read,
//! and the grace before the kill fits the drain.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use keystile::{
    config::{Config, Environment, Overrides},
    vault::KeyRing,
};
use serde_json::Value;

/// What must not be started after the drain before the supervisor kills; see `docs/operations.md`.
const AFTER_DRAIN_SECONDS: u64 = 45;
const CONFIGURATION: &str = include_str!("../../docs/configuration.md");

fn dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes")
}

/// The documents of a file.
fn documents(file: &str) -> Vec<Value> {
    let text = fs::read_to_string(dir().join(file)).expect(file);
    text.split("\n---\n")
        .map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{file}: {error}")))
        .collect()
}

fn files() -> Vec<String> {
    let entries = fs::read_dir(dir()).expect("a directory").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().expect("text")).collect();
    names.retain(|name| name.ends_with(".yaml"));
    names.sort();
    names
}

/// What is wrong with a document by the schema of its kind.
fn complaints(document: &Value) -> Vec<String> {
    let kind = document["kind"].as_str().expect("a kind");
    let text = fs::read_to_string(dir().join(format!("schemas/{kind}.json")))
        .unwrap_or_else(|error| panic!("a schema for `{kind}`: {error}"));
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    validator.iter_errors(document).map(|error| format!("{error} at `{}`", error.instance_path())).collect()
}

fn find<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    documents.iter().find(|each| each["kind"] == kind).unwrap_or_else(|| panic!("a {kind}"))
}

/// The names in a list of objects.
fn names<'a>(list: &'a Value, member: &str) -> BTreeSet<&'a str> {
    list.as_array().expect("a list").iter().map(|each| each[member].as_str().expect("text")).collect()
}

#[test]
fn every_document_is_as_the_schema_of_its_kind_says() {
    let files = files();
    assert_eq!(
        files,
        ["external-secrets-aws.yaml", "external-secrets-vault.yaml", "keystile.yaml", "secret.yaml"]
    );
    let mut kinds = BTreeSet::new();
    for file in &files {
        for document in documents(file) {
            assert_eq!(complaints(&document), [""; 0], "{file}");
            kinds.insert(document["kind"].as_str().expect("a kind").to_owned());
        }
    }
    let schemas: BTreeSet<String> = fs::read_dir(dir().join("schemas"))
        .expect("a directory")
        .map(|entry| {
            entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
        })
        .collect();
    assert_eq!(kinds, schemas, "a schema for what is not there");
}

#[test]
fn a_slip_of_the_pen_is_found_by_the_schemas() {
    let all: Vec<Value> = files().iter().flat_map(|file| documents(file)).collect();
    let set = find(&all, "StatefulSet");
    for (place, value) in [
        ("/spec/replica", Value::from(2)),
        ("/spec/template/spec/securityContext/runAsNonRoot", false.into()),
        ("/spec/template/spec/securityContext/runAsUser", 0.into()),
        ("/spec/template/spec/containers/0/securityContext/readOnlyRootFilesystem", "true".into()),
        ("/spec/template/spec/containers/0/env/0/valu", "x".into()),
        ("/spec/template/spec/containers/0/readinessProbe/tcpSocket", serde_json::json!({ "port": "data" })),
        ("/spec/template/spec/volumes/0/secret/defaultMode", 420.into()),
        ("/apiVersion", "apps/v1beta1".into()),
    ] {
        let mut wrong = set.clone();
        let (parent, member) = place.rsplit_once('/').expect("a place");
        wrong.pointer_mut(parent).unwrap_or_else(|| panic!("{place}"))[member] = value;
        assert_ne!(complaints(&wrong), [""; 0], "{place}");
    }
    for kind in
        ["Secret", "Service", "SecretStore", "ExternalSecret", "PodDisruptionBudget", "ServiceAccount"]
    {
        let mut wrong = find(&all, kind).clone();
        wrong["sepc"] = true.into();
        assert_ne!(complaints(&wrong), [""; 0], "{kind}");
        let mut wrong = find(&all, kind).clone();
        wrong["metadata"].as_object_mut().expect("an object").remove("name");
        assert_ne!(complaints(&wrong), [""; 0], "{kind}");
    }
}

#[test]
fn every_variable_is_a_setting_and_every_mounted_file_is_read() {
    let known: BTreeSet<&str> = CONFIGURATION
        .lines()
        .filter_map(|line| {
            line.strip_prefix('|')?.split('|').nth(1)?.trim().strip_prefix('`')?.strip_suffix('`')
        })
        .collect();
    assert!(known.contains("KEYSTILE_LISTEN") && known.len() > 15, "{known:?}");
    let all = documents("keystile.yaml");
    let pod = &find(&all, "StatefulSet")["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let variables: BTreeMap<&str, &str> = container["env"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|each| (each["name"].as_str().expect("a name"), each["value"].as_str().expect("a value")))
        .collect();
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let mount = mounts.iter().find(|each| each["name"] == "secrets").expect("a mount");
    let root = mount["mountPath"].as_str().expect("a path");
    assert_eq!(mount["readOnly"], true);
    let mut read = BTreeSet::new();
    for (name, value) in &variables {
        let setting = name.strip_suffix("_FILE").unwrap_or(name);
        assert!(known.contains(setting), "`{name}` is no setting");
        if name.ends_with("_FILE") {
            let file = value.strip_prefix(root).and_then(|rest| rest.strip_prefix('/'));
            read.insert(file.unwrap_or_else(|| panic!("`{value}` is not mounted")));
        } else {
            let secret = ["KEY", "PASSWORD", "URL", "TOKEN"].iter().any(|word| name.ends_with(word));
            assert!(!secret, "`{name}` belongs in a file");
        }
    }
    // The files are those of the Secret, whoever makes it.
    let secret_name = &pod["volumes"][0]["secret"]["secretName"];
    let plain = documents("secret.yaml");
    let secret = find(&plain, "Secret");
    assert_eq!(&secret["metadata"]["name"], secret_name);
    let keys: BTreeSet<&str> =
        secret["stringData"].as_object().expect("members").keys().map(String::as_str).collect();
    assert_eq!(keys, read);
    // None of the values in the example starts a gateway.
    for (name, path) in variables.iter().filter(|(name, _)| name.ends_with("_FILE")) {
        let value = secret["stringData"][path.rsplit('/').next().expect("a name")].as_str().expect("a value");
        let alone: Environment = [(name.trim_end_matches("_FILE"), value)].into_iter().collect();
        let taken = Config::load(&Overrides::default(), &alone)
            .is_ok_and(|config| KeyRing::from_texts(&config.vault.master_keys).is_ok());
        assert!(!taken, "`{value}` is taken as {name}");
    }
    for file in ["external-secrets-vault.yaml", "external-secrets-aws.yaml"] {
        let all = documents(file);
        let (store, external) = (find(&all, "SecretStore"), find(&all, "ExternalSecret"));
        assert_eq!(&external["spec"]["target"]["name"], secret_name, "{file}");
        assert_eq!(external["spec"]["secretStoreRef"]["name"], store["metadata"]["name"], "{file}");
        assert_eq!(names(&external["spec"]["data"], "secretKey"), read, "{file}");
        let account = &find(&all, "ServiceAccount")["metadata"]["name"];
        assert!(
            store.to_string().contains(&format!("\"serviceAccountRef\":{{\"name\":{account}}}")),
            "{file}"
        );
    }
    // The plain settings are ones that the gateway starts with.
    let plain = variables.iter().filter(|(name, _)| !name.ends_with("_FILE"));
    let environment: Environment =
        plain.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let config = Config::load(&Overrides::default(), &environment).expect("settings");
    assert_eq!(
        config.server.data_dir.to_str(),
        mounts.iter().find(|each| each["name"] == "data").expect("one")["mountPath"].as_str()
    );
    let ports: BTreeMap<&str, u64> = container["ports"]
        .as_array()
        .expect("ports")
        .iter()
        .map(|each| (each["name"].as_str().expect("a name"), each["containerPort"].as_u64().expect("a port")))
        .collect();
    assert_eq!(ports["data"], u64::from(config.server.listen.port()));
    assert_eq!(ports["admin"], u64::from(config.server.admin_listen.port()));
    assert!(config.admin.hosts.iter().any(|host| host.starts_with("keystile-admin.")));

    // Pause, drain and what comes after it fit the grace.
    let pause: u64 = container["lifecycle"]["preStop"]["exec"]["command"][1]
        .as_str()
        .expect("seconds")
        .parse()
        .expect("seconds");
    let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("seconds");
    let needed = pause + config.server.drain_timeout.as_secs() + AFTER_DRAIN_SECONDS;
    assert!(grace >= needed, "{grace} s are less than {needed} s");
}

#[test]
fn everything_that_is_named_is_there() {
    let all = documents("keystile.yaml");
    let set = &find(&all, "StatefulSet")["spec"];
    let pod = &set["template"]["spec"];
    let labels = &set["template"]["metadata"]["labels"];
    assert_eq!(&set["selector"]["matchLabels"], labels);
    assert_eq!(&find(&all, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    let container = &pod["containers"][0];
    let ports = names(&container["ports"], "name");
    let services: Vec<_> = all.iter().filter(|each| each["kind"] == "Service").collect();
    for service in &services {
        assert_eq!(&service["spec"]["selector"], labels);
        assert!(names(&service["spec"]["ports"], "targetPort").is_subset(&ports));
    }
    assert!(services.iter().any(|each| each["metadata"]["name"] == set["serviceName"]));
    assert_eq!(pod["serviceAccountName"], find(&all, "ServiceAccount")["metadata"]["name"]);
    for probe in ["readinessProbe", "startupProbe", "livenessProbe"] {
        let probe = &container[probe];
        let port = probe["httpGet"]["port"].as_str().or_else(|| probe["tcpSocket"]["port"].as_str());
        assert!(ports.contains(port.expect("a port")));
    }
    let mut volumes = names(&pod["volumes"], "name");
    volumes.extend(
        set["volumeClaimTemplates"]
            .as_array()
            .expect("claims")
            .iter()
            .map(|each| each["metadata"]["name"].as_str().expect("a name")),
    );
    assert_eq!(names(&container["volumeMounts"], "name"), volumes);
    // A probe that names no host is answered 421.
    assert_eq!(container["readinessProbe"]["httpGet"]["httpHeaders"][0]["value"], "localhost");
}
