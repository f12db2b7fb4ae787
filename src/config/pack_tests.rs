use proptest::prelude::*;

use super::*;
use crate::config::Overrides;

const GOOD: &str = "\
pack:
  name: production
  version: 1.10
providers:
  targets:
    - id: openai-main
      provider: openai
      model: gpt-5.4-mini
      secret_key_ref: {env: OPENAI_API_KEY}
    - id: vllm
      provider: my-vllm
      base_url: http://10.0.0.7:8000/v1
      secret_key_ref:
        store: vllm.key
policies:
  chain:
    - audit-logger:
        immutable: true
        retention_days: 400
        log_all_access: true
";

fn parse_with(text: &str, variables: &[(&str, &str)]) -> Result<PolicyPack, ConfigError> {
    let egress = EgressPolicy::new([("10.0.0.7".to_owned(), 8000)]);
    read(Path::new("pack.yaml"), text, &variables.iter().copied().collect(), &egress)
}

fn parse(text: &str) -> Result<PolicyPack, ConfigError> {
    parse_with(text, &[("OPENAI_API_KEY", "sk-canary")])
}

fn problem(text: &str) -> String {
    let error = parse(text).map(|_| ()).unwrap_err().to_string();
    assert!(!error.contains("canary"), "{error}");
    error
}

#[test]
fn a_pack_is_read_whole() {
    let pack = parse(GOOD).unwrap();
    assert_eq!((&*pack.name, &*pack.version, pack.enabled), ("production", "1.10", true));
    assert_eq!(pack.targets.len(), 2);
    assert_eq!(pack.targets[0].secret.to_string(), "env:OPENAI_API_KEY");
    assert_eq!(pack.targets[0].model.as_ref().unwrap().as_str(), "gpt-5.4-mini");
    assert_eq!(pack.targets[1].secret.to_string(), "store:vllm.key");
    assert_eq!(pack.audit.retention, Some(Duration::from_secs(400 * DAY)));
    assert!(pack.audit.log_all_access);
    assert!(!format!("{pack:?}").contains("canary"));
    let least = parse("pack: {name: p, version: '1', enabled: false}\n").unwrap();
    assert!(!least.enabled && least.targets.is_empty() && least.audit == AuditLogger::default());
}

#[test]
fn the_example_is_a_pack() {
    let text = include_str!("../../examples/policy-pack.yaml");
    let pack = parse_with(text, &[("OPENAI_API_KEY", "sk-x"), ("ANTHROPIC_API_KEY", "sk-y")]).unwrap();
    assert!(pack.targets.len() >= 2 && pack.enabled && pack.audit.log_all_access);
}

#[test]
fn an_unknown_key_is_an_error_with_its_line() {
    for (from, to, line, name) in [
        ("policies:", "polices:", 15, "polices"),
        ("  version: 1.10", "  versoin: 1.10", 3, "versoin"),
        ("      model: gpt", "      modle: gpt", 8, "modle"),
        ("        store:", "        stroe:", 14, "stroe"),
        ("        immutable: true", "        imutable: true", 18, "imutable"),
        ("    - audit-logger:", "    - audit-loger:", 17, "audit-loger"),
        ("      provider: openai", "      provider: openai\n      api_key: sk-canary", 8, "api_key"),
    ] {
        assert!(GOOD.contains(from));
        let said = problem(&GOOD.replacen(from, to, 1));
        assert!(said.starts_with(&format!("`pack.yaml` line {line}: ")) && said.contains(name), "{said}");
    }
}

#[test]
fn a_variable_that_is_not_set_is_named_with_its_target_and_line() {
    for variables in [&[][..], &[("OPENAI_API_KEY", "")], &[("openai_api_key", "x")]] {
        let error = parse_with(GOOD, variables).unwrap_err().to_string();
        assert_eq!(
            error,
            "`pack.yaml` line 9: target `openai-main` takes its key from the variable `OPENAI_API_KEY`, which is not set; set it, or name another"
        );
    }
    let error = parse_with(GOOD, &[("OPENAI_API_KEY", "sk canary")]).unwrap_err().to_string();
    assert!(error.contains("OPENAI_API_KEY") && !error.contains("canary"), "{error}");
}

#[test]
fn at_059_a_pack_cannot_send_the_gateways_own_secrets_anywhere() {
    for own in ["PROVIDER_KEY_ENCRYPTION_KEY", "PROVIDER_KEY_ENCRYPTION_KEY_FILE", "KEYSTILE_ADMIN_PASSWORD"]
    {
        let text = GOOD.replacen("OPENAI_API_KEY", own, 1);
        let error = parse_with(&text, &[(own, "canary")]).unwrap_err().to_string();
        assert!(error.contains("one of the gateway's own") && !error.contains("canary"), "{error}");
    }
}

#[test]
fn values_that_make_no_sense_are_refused_with_their_line() {
    for (from, to, says) in [
        ("openai-main", "'open ai'", "line 6: a target's `id` must have"),
        ("id: vllm", "id: openai-main", "line 10: target `openai-main` stands here a second time"),
        ("provider: openai", "provider: Open AI", "line 7: target `openai-main`: `provider`"),
        ("provider: openai", "provider: rotate", "line 7: target `openai-main`: `provider`: `rotate` is not"),
        ("provider: my-vllm", "provider: revoke", "line 11: target `vllm`: `provider`: `revoke` is not"),
        ("provider: my-vllm", "provider: provision", "words of the admin API; choose another name"),
        ("http://10.0.0.7:8000/v1", "http://10.0.0.8:8000/v1", "line 12: target `vllm`: `base_url`"),
        ("{env: OPENAI_API_KEY}", "{}", "either `store: NAME`"),
        ("{env: OPENAI_API_KEY}", "{env: A, store: B}", "either `store: NAME`"),
        ("{env: OPENAI_API_KEY}", "{env: A-B}", "line 9: target `openai-main`: the name in `env`"),
        ("{env: OPENAI_API_KEY}", "sk-canary", "never the key itself"),
        ("store: vllm.key", "store: a/b", "the name in `store`"),
        ("immutable: true", "immutable: false", "append-only in any case"),
        ("retention_days: 400", "retention_days: 0", "cannot be `0`"),
        ("log_all_access: true", "log_all_access: true\n    - name: audit-logger", "twice"),
        ("name: production", "name: ''", "line 2: `pack.name`"),
    ] {
        assert!(GOOD.contains(from), "{from}");
        let said = problem(&GOOD.replacen(from, to, 1));
        assert!(said.contains(says), "{from} -> {to}: {said}");
    }
    assert!(problem("").contains("pack.yaml"));
    assert!(problem("pack: [\n").contains("line"));
}

#[test]
fn the_chain_may_be_written_in_three_ways() {
    let (head, _) = GOOD.split_once("    - audit-logger").unwrap();
    for chain in [
        "    - {audit-logger: {immutable: true, log_all_access: true}}\n",
        "    - name: audit-logger\n      immutable: true\n      log_all_access: true\n",
        "    - type: audit-logger\n      log_all_access: true\n",
    ] {
        assert!(parse(&format!("{head}{chain}")).unwrap().audit.log_all_access, "{chain}");
    }
    assert!(!parse(&format!("{head}    - audit-logger:\n")).unwrap().audit.log_all_access);
    let said = problem(&format!("{head}    - name: rate-limiter\n"));
    assert!(said.contains("line 17: there is no policy `rate-limiter`"), "{said}");
    for odd in ["    - immutable: true\n", "    - audit-logger: {}\n      immutable: true\n", "    - {}\n"] {
        assert!(problem(&format!("{head}{odd}")).contains("is written `- audit-logger:`"));
    }
}

#[test]
fn a_gateway_reads_the_pack_that_its_settings_name_and_other_commands_do_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), GOOD.replace("http://10.0.0.7:8000/v1", "https://llm.example.com/v1")).unwrap();
    let path = file.path().to_str().unwrap();
    let environment: Environment =
        [("KEYSTILE_POLICY_CONFIG", path), ("OPENAI_API_KEY", "sk-x")].into_iter().collect();
    let mut config = Config::load(&Overrides::default(), &environment).unwrap();
    assert!(config.policy.pack.is_none());
    config.read_policy(&environment).unwrap();
    assert_eq!(config.policy.pack.as_ref().unwrap().name, "production");

    let flags = Overrides { policy_config: Some("/nowhere.yaml".into()), ..Overrides::default() };
    let mut config = Config::load(&flags, &environment).unwrap();
    let error = config.read_policy(&environment).unwrap_err().to_string();
    assert!(error.starts_with("flag `--policy-config`: cannot read `/nowhere.yaml`"), "{error}");
}

proptest! {
    #[test]
    fn p21_no_pack_panics(text in "(?s).{0,160}") {
        let _ = parse(&text);
    }
}
