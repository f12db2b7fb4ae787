//! Words of the trade: pure values. No I/O, no async, no database, no HTTP; every other room speaks them.

pub mod actor;
pub mod alarm;
pub mod audit;
pub mod clock;
pub mod egress;
pub mod grant;
pub mod ids;
pub mod model;
pub mod money;
pub mod policy;
pub mod scope;
pub mod secret;
pub mod sqlite;
pub mod usage;
pub mod window;

pub use actor::{Actor, Permission, Role};
pub use alarm::{Alarms, UnsealableKey};
pub use audit::{AuditAction, AuditCategory, AuditEvent, AuditOutcome};
pub use clock::{Clock, Timestamp};
pub use egress::{EgressError, EgressPolicy, UpstreamUrl};
pub use grant::{CheckGrant, DispatchGrant, RetrievalGrant};
pub use ids::{
    AliasId, AuditId, BudgetId, ConfigVariableId, InstanceId, ParseIdError, PlaceId, PriceId, ProviderKeyId,
    RequestId, RunId, ServiceTokenId, SessionId, TenantId, UserId, VirtualKeyId,
};
pub use model::{InvalidModel, ModelName, ModelPattern, ModelRef, ProviderSlug};
pub use money::{NanoUsd, PricePerMillion};
pub use policy::{CapMode, KeyState, Limits, SpendCap};
pub use scope::{Counter, Scope};
pub use secret::{KeyDigest, ProviderSecret, ServiceTokenDigest, ServiceTokenPlaintext, VirtualKeyPlaintext};
pub use sqlite::{SqliteUrlError, sqlite_file, sqlite_url};
pub use usage::{
    AttemptOutcome, AttemptRecord, CostLine, Outcome, Spent, TokenClass, TokenUsage, UsageRecord, UsageSource,
};
pub use window::{SpendWindow, UnknownZone, WindowIndex, Windows, Zone};
