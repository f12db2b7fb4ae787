//! One value as it was written, and the readers that turn it into what a setting takes. A reader's error says what is
//! wrong and what to write; it repeats the value only where the value is no secret.

use std::{fs, net::SocketAddr, path::PathBuf, time::Duration};

use zeroize::Zeroizing;

use super::settings::{CheckpointSink, Durability, EgressAllow, JwtKey, LogFormat, SecretText};
use crate::domain::sqlite_file;

/// Spellings that stand in examples and are never a secret.
const WEAK: [&str; 12] = [
    "admin",
    "adminpassword",
    "default",
    "example",
    "keystile",
    "letmein",
    "password",
    "password1234",
    "qwerty",
    "secret",
    "test",
    "yoursecret",
];

/// A value as it was written.
pub(super) enum Value {
    /// A scalar, or a variable's or flag's text.
    Text(Zeroizing<String>),
    /// A YAML list.
    List(Vec<Zeroizing<String>>),
}

impl Value {
    pub(super) fn of(text: &str) -> Self {
        Self::Text(Zeroizing::new(text.to_owned()))
    }

    /// The one text.
    fn text(self) -> Result<Zeroizing<String>, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::List(_) => Err("takes one value, not a list".to_owned()),
        }
    }

    /// The items of a list, or of a text at its commas; empty ones are left out.
    fn items(self) -> Vec<Zeroizing<String>> {
        let trimmed = |item: &str| Zeroizing::new(item.trim().to_owned());
        let items: Vec<_> = match self {
            Self::Text(text) => text.split([',', '\n']).map(trimmed).collect(),
            Self::List(items) => items.iter().map(|item| trimmed(item)).collect(),
        };
        items.into_iter().filter(|item| !item.is_empty()).collect()
    }
}

pub(super) fn address(value: Value) -> Result<SocketAddr, String> {
    let text = value.text()?;
    text.parse().map_err(|_| {
        format!(
            "cannot be `{}`; write an IP address and a port, such as `127.0.0.1:8080` or `[::]:8080`",
            *text
        )
    })
}

pub(super) fn path(value: Value) -> Result<PathBuf, String> {
    let text = value.text()?;
    if text.is_empty() { Err("is empty; name a path".to_owned()) } else { Ok(PathBuf::from(text.as_str())) }
}

pub(super) fn flag(value: Value) -> Result<bool, String> {
    let text = value.text()?;
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(format!("cannot be `{}`; write `true` or `false`", *text)),
    }
}

/// A duration that may be zero.
pub(super) fn duration_or_zero(value: Value) -> Result<Duration, String> {
    let text = value.text()?;
    let wrong =
        || format!("cannot be `{}`; write a duration such as `250ms`, `30s`, `5m`, `1h` or `7d`", *text);
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(wrong()),
    };
    let millis = number.checked_mul(millis).ok_or_else(wrong)?;
    // Ten years; beyond it a deadline could overflow the clock.
    if millis > 10 * 365 * 24 * 60 * 60 * 1000 { Err(wrong()) } else { Ok(Duration::from_millis(millis)) }
}

/// A duration above zero.
pub(super) fn duration(value: Value) -> Result<Duration, String> {
    match duration_or_zero(value)? {
        Duration::ZERO => {
            Err("cannot be zero: everything would time out; write a duration such as `30s`".to_owned())
        }
        duration => Ok(duration),
    }
}

/// How long something is kept: a duration of at least a day, or `forever`, which is `None`.
pub(super) fn retention(value: Value) -> Result<Option<Duration>, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let text = value.text()?;
    if *text == "forever" {
        return Ok(None);
    }
    match duration_or_zero(Value::of(&text)) {
        Ok(kept) if kept >= DAY => Ok(Some(kept)),
        _ => Err(format!(
            "cannot be `{}`; write `forever`, or a duration of at least a day and at most ten years such as `400d`",
            *text
        )),
    }
}

/// How long audit entries are kept: a duration of at least 30 days, or `forever`, which is `None`.
pub(super) fn audit_retention(value: Value) -> Result<Option<Duration>, String> {
    const LEAST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
    let text = value.text()?;
    match retention(Value::of(&text)) {
        Ok(None) => Ok(None),
        Ok(Some(kept)) if kept >= LEAST => Ok(Some(kept)),
        _ => Err(format!(
            "cannot be `{}`; write `forever`, or a duration of at least 30 days and at most ten years such as `400d`",
            *text
        )),
    }
}

/// Where checkpoints go: `file:/path`, or a URL. Plain http only on the gateway's own machine: whoever can change a
/// checkpoint on its way can spoil it.
pub(super) fn checkpoint_sink(value: Value) -> Result<CheckpointSink, String> {
    // The URL may carry a password and is not repeated.
    const FORM: &str = "cannot be used; write `file:/absolute/path`, or `https://host/path` (`http://` only to a loopback address)";
    let text = value.text()?;
    if let Some(path) = text.strip_prefix("file:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if !path.starts_with('/') || path.ends_with('/') {
            return Err(FORM.to_owned());
        }
        return Ok(CheckpointSink::File(path.into()));
    }
    let url = url::Url::parse(&text).map_err(|_| FORM.to_owned())?;
    let loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    match url.scheme() {
        "https" => Ok(CheckpointSink::Url(text.into())),
        "http" if loopback => Ok(CheckpointSink::Url(text.into())),
        _ => Err(FORM.to_owned()),
    }
}

/// A whole number from `least` to `most`.
pub(super) fn count(value: Value, least: usize, most: usize) -> Result<usize, String> {
    let text = value.text()?;
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(format!("cannot be `{}`; write a whole number from {least} to {most}", *text)),
    }
}

/// Bytes, `KiB` or `MiB`, from `least` to 1 GiB.
pub(super) fn size(value: Value, least: usize) -> Result<usize, String> {
    const MOST: usize = 1 << 30;
    let text = value.text()?;
    let wrong = || {
        format!("cannot be `{}`; write bytes or a size such as `64KiB` or `20MiB`, at least {least}", *text)
    };
    let (number, unit) = match (text.strip_suffix("KiB"), text.strip_suffix("MiB")) {
        (Some(number), _) => (number, 1 << 10),
        (_, Some(number)) => (number, 1 << 20),
        _ => (text.as_str(), 1),
    };
    let number: usize = number.trim_end().parse().map_err(|_| wrong())?;
    number.checked_mul(unit).filter(|bytes| (least..=MOST).contains(bytes)).ok_or_else(wrong)
}

pub(super) fn database_url(value: Value) -> Result<SecretText, String> {
    let text = value.text()?;
    let known = ["sqlite:", "postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme));
    if !known {
        return Err(
            "is no database URL; write `sqlite:path` or `postgres://user:password@host/name`".to_owned()
        );
    }
    if text.starts_with("sqlite:") {
        sqlite_file(&text).map_err(|error| error.to_string())?;
    }
    Ok(text.into())
}

pub(super) fn redis_url(value: Value) -> Result<SecretText, String> {
    let text = value.text()?;
    let host = |url: url::Url| matches!(url.scheme(), "redis" | "rediss") && url.has_host();
    if url::Url::parse(&text).is_ok_and(host) {
        return Ok(text.into());
    }
    Err("is no Redis URL; write `redis://:password@host:6379/0`, or `rediss://…` for TLS".to_owned())
}

pub(super) fn egress_allow(value: Value) -> Result<Vec<EgressAllow>, String> {
    value.items().iter().map(|item| host_port(item)).collect()
}

fn host_port(text: &str) -> Result<EgressAllow, String> {
    let wrong =
        || format!("cannot have `{text}`; write `host:port`, such as `10.0.0.7:8000` or `[::1]:11434`");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let good = match in_brackets {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_host_name(host),
    };
    if good { Ok(EgressAllow { host: host.to_ascii_lowercase(), port }) } else { Err(wrong()) }
}

fn is_host_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

pub(super) fn host_names(value: Value) -> Result<Vec<String>, String> {
    let read = |item: &Zeroizing<String>| {
        if is_host_name(item) {
            Ok(item.to_ascii_lowercase())
        } else {
            Err(format!("cannot have `{}`; write host names alone, without scheme, port or path", **item))
        }
    };
    value.items().iter().map(read).collect()
}

pub(super) fn email(value: Value) -> Result<String, String> {
    let text = value.text()?;
    match text.split_once('@') {
        Some((name, host)) if !name.is_empty() && !host.is_empty() && !text.contains(char::is_whitespace) => {
            Ok(text.to_string())
        }
        _ => Err(format!("cannot be `{}`; write an e-mail address", *text)),
    }
}

pub(super) fn password(value: Value) -> Result<SecretText, String> {
    let text = value.text()?;
    if !(12..=128).contains(&text.chars().count()) {
        return Err("must have 12 to 128 characters".to_owned());
    }
    strong(&text)?;
    Ok(text.into())
}

/// Any secret that is not empty and not from an example.
pub(super) fn secret(value: Value) -> Result<SecretText, String> {
    let text = value.text()?;
    strong(&text)?;
    Ok(text.into())
}

/// `kid:secret,…`.
pub(super) fn jwt_keys(value: Value) -> Result<Vec<JwtKey>, String> {
    let mut keys: Vec<JwtKey> = Vec::new();
    for item in value.items() {
        let (kid, secret) =
            item.split_once(':').ok_or("has an entry without a colon; write `kid:secret,…`")?;
        let named = (1..=32).contains(&kid.len())
            && kid.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        if !named {
            return Err(
                "has a key id that is not 1 to 32 of `A-Z a-z 0-9 _ -`; write `kid:secret,…`".to_owned()
            );
        }
        if secret.len() < 32 {
            return Err(format!(
                "has a secret of less than 32 bytes for `{kid}`; make one with `openssl rand -base64 32`"
            ));
        }
        strong(secret)?;
        if keys.iter().any(|key| key.kid == kid) {
            return Err(format!("names `{kid}` twice; give every key its own id"));
        }
        keys.push(JwtKey { kid: kid.to_owned(), secret: SecretText::new(secret) });
    }
    Ok(keys)
}

/// Master keys with commas or lines between them.
pub(super) fn master_keys(value: Value) -> Result<Vec<SecretText>, String> {
    let mut keys = Vec::new();
    for item in value.items() {
        strong(&item)?;
        keys.push(SecretText(item));
    }
    if keys.is_empty() {
        return Err("has no key; make one with `keystile master-key generate`".to_owned());
    }
    Ok(keys)
}

/// Master keys from the file that the value names.
pub(super) fn master_key_file(value: Value) -> Result<Vec<SecretText>, String> {
    let path = path(value)?;
    let text = fs::read_to_string(&path).map_err(|error| {
        format!("cannot read `{}`: {error}; check the path and its permissions", path.display())
    })?;
    master_keys(Value::Text(Zeroizing::new(text)))
}

pub(super) fn log_filter(value: Value) -> Result<String, String> {
    let text = value.text()?;
    // tracing-subscriber 0.3.23 panics on some letters beyond ASCII (`env/directive.rs` cuts by bytes).
    let readable = !text.trim().is_empty() && text.is_ascii();
    match readable.then(|| tracing_subscriber::EnvFilter::try_new(text.as_str())) {
        Some(Ok(_)) => Ok(text.to_string()),
        _ => Err(format!(
            "cannot be `{}`; write a level such as `info`, or directives such as `info,keystile::upstream=debug`",
            *text
        )),
    }
}

pub(super) fn log_format(value: Value) -> Result<LogFormat, String> {
    let text = value.text()?;
    match text.as_str() {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("cannot be `{}`; write `text` or `json`", *text)),
    }
}

pub(super) fn durability(value: Value) -> Result<Durability, String> {
    let text = value.text()?;
    match text.as_str() {
        "process" => Ok(Durability::Process),
        "power" => Ok(Durability::Power),
        _ => Err(format!("cannot be `{}`; write `process` or `power`", *text)),
    }
}

/// Refuses what examples and placeholders say.
fn strong(text: &str) -> Result<(), String> {
    let letters: Zeroizing<String> = Zeroizing::new(
        text.chars().filter(|c| c.is_alphanumeric()).map(|c| c.to_ascii_lowercase()).collect::<String>(),
    );
    let example = letters.chars().all(|c| c == 'x') || letters.chars().all(|c| c == '0');
    if example || letters.contains("changeme") || WEAK.contains(&letters.as_str()) {
        return Err("is a value that anyone would guess; choose a random one".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_a_unit() {
        let read = |text: &str| duration(Value::of(text));
        assert_eq!(read("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(read("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(read("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(read("1h"), Ok(Duration::from_secs(3600)));
        assert_eq!(read("2d"), Ok(Duration::from_secs(2 * 24 * 3600)));
        for wrong in
            ["", "30", "s", "-1s", "1.5s", "30 s", "1w", "0s", "9999d", "99999999999999999999s", "9999999h"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(duration_or_zero(Value::of("0s")), Ok(Duration::ZERO));
    }

    #[test]
    fn what_is_kept_is_kept_a_day_or_longer() {
        let read = |text: &str| retention(Value::of(text));
        assert_eq!(read("forever"), Ok(None));
        assert_eq!(read("400d"), Ok(Some(Duration::from_secs(400 * 24 * 3600))));
        assert_eq!(read("24h"), Ok(Some(Duration::from_secs(24 * 3600))));
        for wrong in ["", "0s", "23h", "never", "400", "4000d"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn audit_entries_are_kept_for_30_days_or_longer() {
        let read = |text: &str| audit_retention(Value::of(text));
        assert_eq!(read("forever"), Ok(None));
        assert_eq!(read("30d"), Ok(Some(Duration::from_secs(30 * 24 * 3600))));
        for wrong in ["29d", "0s", "never", "", "4000d"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn checkpoints_go_to_a_file_or_over_tls() {
        let read = |text: &str| checkpoint_sink(Value::of(text));
        for file in ["file:/var/log/keystile/audit", "file:///var/log/keystile/audit"] {
            let sink = read(file).expect(file);
            assert!(matches!(sink, CheckpointSink::File(path) if path.ends_with("keystile/audit")), "{file}");
        }
        for url in ["https://user:pw@log.example/keystile?x=1", "http://127.0.0.1:9000/x", "http://[::1]/x"] {
            assert!(matches!(read(url), Ok(CheckpointSink::Url(_))), "{url}");
        }
        for wrong in ["", "file:", "file:relative", "file:/var/", "http://u:canary@log.example/", "syslog:x"]
        {
            let why = read(wrong).expect_err(wrong);
            assert!(!why.contains("canary"), "{why}");
        }
    }

    #[test]
    fn sizes_take_binary_units() {
        assert_eq!(size(Value::of("20MiB"), 1), Ok(20 * 1024 * 1024));
        assert_eq!(size(Value::of("64 KiB"), 1), Ok(65_536));
        assert_eq!(size(Value::of("8192"), 8192), Ok(8192));
        for wrong in ["8191", "20MB", "", "-1", "99999999999999MiB"] {
            assert!(size(Value::of(wrong), 8192).is_err(), "{wrong}");
        }
    }

    #[test]
    fn egress_entries_are_host_and_port_and_nothing_else() {
        let read = |text: &str| egress_allow(Value::of(text));
        let good = read("VLLM.internal:8000, [::1]:11434,10.0.0.7:80").unwrap();
        let shown: Vec<_> = good.iter().map(|entry| format!("{}:{}", entry.host, entry.port)).collect();
        assert_eq!(shown, ["vllm.internal:8000", "[::1]:11434", "10.0.0.7:80"]);
        for wrong in
            ["host", "host:", ":80", "host:0", "host:99999", "http://host:80", "a b:80", "::1:80", "u@h:80"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_that_anyone_would_guess_are_refused() {
        let zero = "00000000-0000-0000-0000-000000000000";
        for weak in ["changeme", "Change-Me!", "password", "your_secret", "", "xxxxxxxxxxxxxxxx", zero] {
            assert!(secret(Value::of(weak)).is_err(), "{weak}");
        }
        assert!(password(Value::of("too short")).is_err());
        assert!(password(Value::of("changeme-changeme")).is_err());
        assert!(password(Value::of("correct horse battery")).is_ok());
    }

    #[test]
    fn jwt_keys_are_long_and_named_once() {
        let long = "0123456789abcdef0123456789abcdef";
        assert_eq!(jwt_keys(Value::of(&format!("a:{long},b:{long}:x"))).unwrap().len(), 2);
        for wrong in [long.to_owned(), "a:short".to_owned(), format!(":{long}"), format!("a:{long},a:{long}")]
        {
            let error = jwt_keys(Value::of(&wrong)).unwrap_err();
            assert!(!error.contains("0123456789"), "{error}");
        }
    }

    #[test]
    fn log_filters_are_directives_in_ascii() {
        for good in ["info", "info,keystile::upstream=debug", "warn,[request]=trace"] {
            assert_eq!(log_filter(Value::of(good)).as_deref(), Ok(good));
        }
        for wrong in ["", " ", "info,keystile=loud", "\u{b}a\u{e000}="] {
            assert!(log_filter(Value::of(wrong)).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn p21_no_reader_panics(text in ".{0,40}|[ -~]{0,40}") {
            let value = || Value::of(&text);
            let _ = (address(value()), duration(value()), size(value(), 1), count(value(), 1, 9), flag(value()));
            let _ = (egress_allow(value()), jwt_keys(value()), database_url(value()), host_names(value()));
            let _ = retention(value());
            let _ = (email(value()), password(value()), master_keys(value()), log_filter(value()));
        }
    }
}
