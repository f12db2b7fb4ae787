//! What names of a cloud's things may look like: they will stand in host names and paths, so what could mean anything there
//! is refused, whatever the cloud itself may take.

use std::collections::BTreeMap;

use crate::control::ControlError;
use crate::domain::ModelName;

/// As long as a label of a host name.
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 128;
const MAX_ARN: usize = 512;
const MAX_DEPLOYMENTS: usize = 500;
const MAX_SCOPES: usize = 16;
const MAX_SCOPE: usize = 256;
const MAX_BUCKETS: usize = 16;
const MAX_PREFIX: usize = 512;

/// `^[a-z0-9](-?[a-z0-9]){0,62}$`: a region, a project, a version; may stand in a host name.
pub(super) fn label(field: &str, text: String) -> Result<String, ControlError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if text.len() <= MAX_LABEL && separated(&text, plain, b"-") {
        return Ok(text);
    }
    Err(bad(
        field,
        format_args!("1 to {MAX_LABEL} lower-case letters and digits, with single `-` between them"),
    ))
}

/// Letters and digits with single `-`, `_`, `.` between them: what people name a deployment or a directory; may stand in a
/// path.
pub(super) fn name(field: &str, text: String) -> Result<String, ControlError> {
    if text.len() <= MAX_LABEL && separated(&text, |b| b.is_ascii_alphanumeric(), b"-_.") {
        return Ok(text);
    }
    Err(bad(
        field,
        format_args!("1 to {MAX_LABEL} letters and digits, with single `-`, `_` or `.` between them"),
    ))
}

/// Names joined by single `/` or `:`, such as `org/model`, an inference profile or an ARN's last part.
fn path(field: &str, text: String, most: usize) -> Result<String, ControlError> {
    if text.len() <= most && separated(&text, |b| b.is_ascii_alphanumeric(), b"-_.:/") {
        return Ok(text);
    }
    Err(bad(
        field,
        format_args!("1 to {most} letters and digits, with single `-`, `_`, `.`, `:` or `/` between them"),
    ))
}

/// Digits.
pub(super) fn number(field: &str, text: String) -> Result<String, ControlError> {
    if (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text);
    }
    Err(bad(field, format_args!("1 to 20 digits")))
}

/// An ARN: `arn:` and at least five further parts, of which account and region may be empty.
pub(super) fn arn(field: &str, text: String) -> Result<String, ControlError> {
    let wrong =
        || bad(field, format_args!("an ARN such as `arn:aws:bedrock:REGION:ACCOUNT:inference-profile/NAME`"));
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let &["arn", partition, service, region, account, resource] = parts.as_slice() else {
        return Err(wrong());
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let sound = partition.starts_with("aws")
        && separated(partition, plain, b"-")
        && separated(service, plain, b"-")
        && (region.is_empty() || separated(region, plain, b"-"))
        && account.bytes().all(|b| b.is_ascii_digit())
        && path(field, resource.to_owned(), MAX_ARN).is_ok();
    if sound && text.len() <= MAX_ARN { Ok(text) } else { Err(wrong()) }
}

/// Which names models have there; `check` is what one may look like.
pub(super) fn deployments(
    field: &str,
    map: BTreeMap<String, String>,
    check: fn(&str, String) -> Result<String, ControlError>,
) -> Result<BTreeMap<String, String>, ControlError> {
    few(field, map.len(), MAX_DEPLOYMENTS)?;
    map.into_iter()
        .map(|(model, deployment)| {
            ModelName::parse(&model)
                .map_err(|error| ControlError::invalid("invalid_model", format!("`{field}`: {error}")))?;
            Ok((model, check(field, deployment)?))
        })
        .collect()
}

/// A deployment that is a path of its own, such as `org/model`.
pub(super) fn deployed_path(field: &str, text: String) -> Result<String, ControlError> {
    path(field, text, MAX_NAME)
}

/// OAuth scopes: visible ASCII without quotes.
pub(super) fn scopes(field: &str, scopes: Vec<String>) -> Result<Vec<String>, ControlError> {
    few(field, scopes.len(), MAX_SCOPES)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/".contains(&b);
    for scope in &scopes {
        if scope.is_empty() || scope.len() > MAX_SCOPE || !scope.bytes().all(plain) {
            return Err(bad(
                field,
                format_args!("OAuth scopes such as `https://cognitiveservices.azure.com/.default`"),
            ));
        }
    }
    Ok(scopes)
}

/// A bucket's name as S3 takes it: it stands in a host name.
pub(super) fn bucket(field: &str, text: String) -> Result<String, ControlError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if (3..=MAX_LABEL).contains(&text.len()) && separated(&text, plain, b"-.") {
        return Ok(text);
    }
    Err(bad(
        field,
        format_args!("3 to {MAX_LABEL} lower-case letters and digits, with single `-` or `.` between them"),
    ))
}

/// Where in a bucket: names with `/` between them, and perhaps one at the end.
pub(super) fn prefix(field: &str, text: String) -> Result<String, ControlError> {
    path(field, text.strip_suffix('/').unwrap_or(&text).to_owned(), MAX_PREFIX).map(|_| text)
}

/// At most as many buckets as anybody has.
pub(super) fn buckets(field: &str, count: usize) -> Result<(), ControlError> {
    few(field, count, MAX_BUCKETS)
}

fn few(field: &str, count: usize, most: usize) -> Result<(), ControlError> {
    if count > most {
        return Err(ControlError::bad(format!("`{field}` has {count} entries; at most {most} are taken")));
    }
    Ok(())
}

/// Whether `text` is runs of `plain` bytes, never none, with single `separators` between them.
fn separated(text: &str, plain: impl Fn(u8) -> bool, separators: &[u8]) -> bool {
    let mut after_plain = false;
    for byte in text.bytes() {
        match plain(byte) {
            true => after_plain = true,
            false if after_plain && separators.contains(&byte) => after_plain = false,
            false => return false,
        }
    }
    after_plain
}

fn bad(field: &str, what: std::fmt::Arguments<'_>) -> ControlError {
    ControlError::bad(format!("`{field}` must be {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What would end a host, leave a path, begin a query or a line, or be read as something else there.
    const HOSTILE: [&str; 27] = [
        "",
        "evil.com#",
        "evil.com/",
        "a/../b",
        "../a",
        "..",
        "a..b",
        ".a",
        "a.",
        "x@evil",
        "x?",
        "x%23",
        "x%2f",
        "x;y",
        "x\\y",
        "x y",
        "x\r\nhost: evil",
        "x\0",
        "-a",
        "a-",
        "a--b",
        "a//b",
        "/a",
        "a/",
        "é",
        "$(x)",
        "{x}",
    ];

    #[test]
    fn at_043_hostile_parts_of_an_address_are_refused() {
        let long = "a".repeat(64);
        for text in HOSTILE.into_iter().chain([long.as_str(), "a.b", "a/b", "A", "a_b", "a:b"]) {
            assert!(label("region", text.to_owned()).is_err(), "{text:?}");
        }
        for text in HOSTILE.into_iter().chain([long.as_str(), "a/b", "a:b"]) {
            assert!(name("deployments", text.to_owned()).is_err(), "{text:?}");
        }
        for text in HOSTILE.into_iter().chain([long.repeat(9).as_str()]) {
            assert!(deployed_path("deployments", text.to_owned()).is_err(), "{text:?}");
            assert!(arn("arn", format!("arn:aws:bedrock:us-east-1:1:{text}")).is_err(), "{text:?}");
            assert!(arn("arn", text.to_owned()).is_err(), "{text:?}");
            assert!(bucket("bucket_name", text.to_owned()).is_err(), "{text:?}");
            assert!(number("project_number", text.to_owned()).is_err(), "{text:?}");
        }
        for text in HOSTILE.into_iter().filter(|text| !matches!(*text, "a/" | "evil.com/")) {
            assert!(prefix("prefix", text.to_owned()).is_err(), "{text:?}");
        }
        for text in ["", "x y", "x?y", "x#y", "x\r\ny", "\"", "é", &long.repeat(9)] {
            assert!(scopes("scopes", vec![text.to_owned()]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_that_clouds_give_out_are_taken() {
        for text in
            ["us-east-1", "europe-west4", "2024-10-21", "2025-01-01-preview", "v1", "my-project-1", "global"]
        {
            assert!(label("region", text.to_owned()).is_ok(), "{text}");
        }
        assert!(label("region", "a".repeat(63)).is_ok());
        for text in ["gpt-4o", "gpt-4.1-mini", "My_Deployment", "contoso.onmicrosoft.com"] {
            assert!(name("deployments", text.to_owned()).is_ok(), "{text}");
        }
        for text in ["us.anthropic.claude-3-5-sonnet-20241022-v2:0", "meta-llama/Llama-3.1-8B"] {
            assert!(deployed_path("deployments", text.to_owned()).is_ok(), "{text}");
        }
        for text in [
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-v2:0",
            "arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0",
            "arn:aws-us-gov:iam::123456789012:role/gateway",
        ] {
            assert!(arn("arn", text.to_owned()).is_ok(), "{text}");
        }
        assert!(bucket("bucket_name", "my.batch-bucket".into()).is_ok());
        assert!(prefix("prefix", "batch/in/".into()).is_ok());
        assert!(scopes("scopes", vec!["https://cognitiveservices.azure.com/.default".into()]).is_ok());
    }
}
