//! A policy pack's keys follow its file, all or nothing.

use serde_json::{Value, json};

use super::{
    config_variables::stored,
    harness::{CANARY, House},
};
use crate::{
    config::{AuditLogger, PackTarget, PolicyPack, SecretRef, SecretText},
    control::AuditQuery,
    control::{Occasion, Reconciled},
    domain::{Actor, ModelName, ProviderSlug},
    store::Page,
};

fn env(id: &str, value: &str) -> PackTarget {
    PackTarget {
        id: id.to_owned(),
        provider: ProviderSlug::parse("openai").expect("a slug"),
        model: None,
        base_url: None,
        secret: SecretRef::Env { name: "OPENAI_API_KEY".to_owned(), value: SecretText::new(value) },
    }
}

fn pack(targets: Vec<PackTarget>) -> PolicyPack {
    PolicyPack {
        file: "/etc/keystile/pack.yaml".into(),
        name: "production".to_owned(),
        version: "1".to_owned(),
        enabled: true,
        targets,
        audit: AuditLogger::default(),
    }
}

async fn reconcile(house: &House, pack: &PolicyPack) -> Result<Reconciled, String> {
    let done = house.control.reconcile(&Actor::System, Some(pack), Occasion::Reload).await;
    done.map_err(|error| error.to_string())
}

fn counts(added: usize, changed: usize, removed: usize) -> Result<Reconciled, String> {
    Ok(Reconciled { added, changed, removed })
}

async fn keys(house: &House) -> Vec<Value> {
    house.get("/api/keys").await.expect(200).as_array().expect("keys").clone()
}

async fn audited(house: &House, action: &str) -> Vec<crate::control::AuditView> {
    let filter = AuditQuery { action: Some(action.to_owned()), ..AuditQuery::default() };
    house.control.audit_entries(&Actor::Cli, &filter, &Page::first(100)).await.expect("entries").items
}

#[tokio::test]
async fn keys_come_change_and_go_with_the_file() {
    let house = House::new().await;
    let own = json!({"provider": "openai", "key_name": "one", "api_key": "sk-typed-in"});
    let own = house.post("/api/keys", own).await.expect(201);
    let mut file = pack(vec![env("one", CANARY), env("two", "sk-two")]);
    assert_eq!(reconcile(&house, &file).await, counts(2, 0, 0));
    let list = keys(&house).await;
    assert_eq!(list.len(), 3, "a key of the API that is called the same is left alone");
    assert_eq!(list[0], own);
    let one = stored(&house, list[1]["id"].as_str().expect("an id")).await;
    assert_eq!(
        (one.reference.as_deref(), one.managed_by.as_deref()),
        (Some("env:OPENAI_API_KEY"), Some("production"))
    );
    assert!(one.is_active && !one.retrievable && one.sealed.starts_with("v1."));

    // The same file changes nothing: not even what is sealed.
    assert_eq!(reconcile(&house, &file).await, counts(0, 0, 0));
    assert_eq!(stored(&house, &one.id.to_string()).await.sealed, one.sealed);

    file.targets[0] = env("one", "sk-new");
    file.targets[1].model = Some(ModelName::parse("gpt-5.4-mini").expect("a name"));
    assert_eq!(reconcile(&house, &file).await, counts(0, 2, 0));
    let changed = stored(&house, &one.id.to_string()).await;
    assert_ne!(changed.fingerprint, one.fingerprint);
    assert_eq!(changed.created_at, one.created_at);

    // Another origin wants the secret sealed for it, though it is the same.
    file.targets[0].base_url = Some("https://llm.example.com/v1".to_owned());
    assert_eq!(reconcile(&house, &file).await, counts(0, 1, 0));
    let moved = stored(&house, &one.id.to_string()).await;
    assert_eq!((moved.fingerprint == changed.fingerprint, moved.sealed == changed.sealed), (true, false));

    file.enabled = false;
    assert_eq!(reconcile(&house, &file).await, counts(0, 2, 0));
    assert!(!stored(&house, &one.id.to_string()).await.is_active);

    file.targets.truncate(1);
    assert_eq!(reconcile(&house, &file).await, counts(0, 0, 1));
    let none = house.control.reconcile(&Actor::System, None, Occasion::Start).await.expect("done");
    assert_eq!(none, Reconciled { added: 0, changed: 0, removed: 1 });
    assert_eq!(keys(&house).await, [own]);

    assert_eq!(audited(&house, "configuration.reloaded").await.len(), 6);
    assert_eq!(audited(&house, "provider_key.deleted").await.len(), 2);
    let all = audited(&house, "provider_key.updated").await;
    assert!(!format!("{all:?}").contains("canary"));
    assert!(house.control.audit_verify(None).await.expect("verified").first_bad.is_none());
    // A start that changes nothing writes nothing.
    let head = house.control.audit_verify(None).await.expect("verified").head_seq;
    house.control.reconcile(&Actor::System, None, Occasion::Start).await.expect("done");
    assert_eq!(house.control.audit_verify(None).await.expect("verified").head_seq, head);
}

#[tokio::test]
async fn one_bad_target_leaves_everything_as_it_was_and_is_audited() {
    let house = House::new().await;
    let good = pack(vec![env("one", CANARY)]);
    assert_eq!(reconcile(&house, &good).await, counts(1, 0, 0));
    let before = keys(&house).await;
    let with = |bad: PackTarget| pack(vec![env("one", "sk-new"), env("added", "sk-x"), bad]);
    let store = |name: &str| PackTarget { secret: SecretRef::Store(name.to_owned()), ..env("bad", "") };
    for (bad, says) in [
        (store("NOBODY"), "target `bad`: there is no config variable `NOBODY`"),
        (env("bad", "sk-***"), "target `bad`:"),
        (
            PackTarget { base_url: Some("http://10.0.0.1/".to_owned()), ..env("bad", "sk-x") },
            "target `bad`: `base_url`",
        ),
        (
            PackTarget { provider: ProviderSlug::parse("nobody").expect("a slug"), ..env("bad", "sk-x") },
            "target `bad`: `nobody` is not in the catalogue",
        ),
    ] {
        let refused = reconcile(&house, &with(bad)).await.expect_err(says);
        assert!(refused.starts_with(says) && !refused.contains("canary"), "{refused}");
        assert_eq!(keys(&house).await, before);
    }
    let failed = audited(&house, "reference.resolved").await;
    assert_eq!(failed.len(), 4);
    let last = failed.last().expect("an entry");
    assert_eq!((last.outcome.as_str(), last.object.as_deref()), ("failure", Some("bad")));
    assert_eq!(last.details["reference"], "store:NOBODY");
}

#[tokio::test]
async fn a_target_may_take_its_secret_from_a_variable_and_follows_it() {
    let house = House::new().await;
    let asked = json!({"name": "main.key", "value": CANARY, "sensitive": true});
    let variable = house.post("/v1/config-variables", asked).await.expect(201);
    let path = format!("/v1/config-variables/{}", variable["id"].as_str().expect("an id"));
    let target = PackTarget { secret: SecretRef::Store("main.key".to_owned()), ..env("one", "") };
    let file = pack(vec![target]);
    assert_eq!(reconcile(&house, &file).await, counts(1, 0, 0));
    let key = keys(&house).await[0]["id"].as_str().expect("an id").to_owned();
    let before = stored(&house, &key).await;
    house.patch(&path, json!({"value": "sk-next"})).await.expect(200);
    assert_ne!(stored(&house, &key).await.fingerprint, before.fingerprint);
    assert_eq!(reconcile(&house, &file).await, counts(0, 0, 0));
    house.delete(&path).await.refused(409, "conflict");

    let targets = house.control.targets(Some(&file)).await.expect("targets");
    assert_eq!(targets.len(), 1);
    assert!(targets[0].resolved && targets[0].reference == "store:main.key");
    let renamed = PolicyPack { name: "other".to_owned(), ..file };
    assert!(!house.control.targets(Some(&renamed)).await.expect("targets")[0].resolved);
}
