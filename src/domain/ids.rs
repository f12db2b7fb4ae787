//! Identifiers: a prefix that says what it names, then a time-ordered UUID (version 7) in hexadecimal.

use std::{fmt, str::FromStr};

use uuid::{Uuid, fmt::Simple};

/// A text that is not an identifier of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not an id of the form `{prefix}…`")]
pub struct ParseIdError {
    given: String,
    prefix: &'static str,
}

macro_rules! prefixed_ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, ordered after all that were made before it on this machine.
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }

            /// The id of 16 bytes that are unique by themselves.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            // In one piece: a text that is made of it is allocated once. Every request makes a dozen.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                const PREFIX: usize = $prefix.len();
                let mut text = [0; PREFIX + Simple::LENGTH];
                text[..PREFIX].copy_from_slice($prefix.as_bytes());
                self.0.simple().encode_lower(&mut text[PREFIX..]);
                f.write_str(std::str::from_utf8(&text).expect("a prefix and hexadecimal digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let refused = || ParseIdError { given: text.chars().take(64).collect(), prefix: $prefix };
                let digits = text.strip_prefix($prefix).ok_or_else(refused)?;
                // One spelling per id: `Uuid` would also read hyphens, braces and capitals.
                if digits.len() != 32 || digits.bytes().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(refused());
                }
                Uuid::try_parse(digits).map(Self).map_err(|_| refused())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // Text for people, 16 bytes for the journal.
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if !deserializer.is_human_readable() {
                    return Uuid::deserialize(deserializer).map(Self);
                }
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

prefixed_ids! {
    /// A tenant: the owner of provider keys, virtual keys and their spend.
    TenantId = "tnt_";
    /// A person who logs in to the admin plane.
    UserId = "usr_";
    /// A virtual key; it outlives the rotation of its secret.
    VirtualKeyId = "vk_";
    /// A tenant's own key at a provider.
    ProviderKeyId = "pk_";
    /// A token with which a service reads keys from the vault.
    ServiceTokenId = "st_";
    /// A tenant's config variable.
    ConfigVariableId = "cfg_";
    /// A session of a person on the admin plane.
    SessionId = "ses_";
    /// A budget that several virtual keys share.
    BudgetId = "bud_";
    /// A gateway process and its data directory; it outlives restarts.
    InstanceId = "ins_";
    /// Where a data directory stands: a copy of it stands elsewhere.
    PlaceId = "plc_";
    /// One run of a gateway, from a start to its end.
    RunId = "run_";
    /// A model alias of a tenant.
    AliasId = "als_";
    /// One version of one price.
    PriceId = "prc_";
    /// An entry of the audit log.
    AuditId = "aud_";
    /// One request on the data plane; ours alone, a client's own id is never used.
    RequestId = "req_";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = VirtualKeyId::generate();
        assert_eq!(id.to_string().parse::<VirtualKeyId>(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_or_spelling_is_refused() {
        let tenant = TenantId::generate().to_string();
        assert!(tenant.parse::<VirtualKeyId>().is_err());
        assert!(tenant.to_uppercase().parse::<TenantId>().is_err());
        assert!(format!("{tenant}0").parse::<TenantId>().is_err());
        assert!("tnt_".parse::<TenantId>().is_err());
    }

    #[test]
    fn later_ids_sort_after_earlier_ones() {
        let ids: Vec<_> = (0..100).map(|_| RequestId::generate().to_string()).collect();
        assert!(ids.is_sorted());
    }
}
