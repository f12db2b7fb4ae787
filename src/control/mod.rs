//! What an administrator can do. No HTTP in here: the admin plane and the command line speak to the same [`Control`].
//!
//! A change is an *act*: permission, work, audit entry and change notice in one transaction, then the news to this
//! process. Reads ask for a permission too and touch only the rows of the actor's tenant; what belongs to another
//! tenant is as if it were not there. Secrets go in and never come out, but for a new virtual key or service token, which
//! is shown once, and for what the operator lets services fetch ([`Control::retrieve_key`]).
//! When the database is down every call answers with its error and nothing is half-done.

mod act;
mod alarms;
mod aliases;
mod audit;
mod audit_query;
mod audit_retention;
mod audit_verify;
mod budgets;
mod checkpoints;
mod checks;
mod clouds;
mod config_variables;
mod csv;
mod error;
mod gateway;
mod idempotency;
mod instances;
mod limits;
mod master_keys;
mod own_password;
mod patch;
mod policy_pack;
mod prices;
mod provider_keys;
mod references;
mod refusals;
mod retrieval;
mod secret_input;
mod service_rate;
mod service_tokens;
mod session_list;
mod sessions;
mod signing_key;
mod spend;
mod spend_json;
mod spend_report;
mod spend_schema;
mod tenants;
mod throttle;
mod users;
mod virtual_keys;

use std::{fmt, sync::Arc};

use crate::{
    catalogue::Catalogue,
    domain::{Clock, EgressPolicy, TenantId},
    ledger::Ledger,
    limits::Ticks,
    store::Store,
    vault::{Fingerprinter, Passwords, Pepper, Sessions, Vault},
};

pub use aliases::{AliasChange, AliasView, NewAlias};
pub use audit::{AuditExport, AuditKey, AuditView};
pub use audit_query::AuditQuery;
pub use audit_verify::{AuditVerdict, BadEntry};
pub use budgets::{BudgetChange, BudgetView, NewBudget};
pub use checkpoints::{Checkpoint, Fit};
pub use clouds::{
    AzureKeyConfig, AzureKeyConfigView, BatchS3Config, BedrockKeyConfig, BedrockKeyConfigView,
    HuggingFaceKeyConfig, HuggingFaceKeyConfigView, REDACTED, S3Bucket, SecretView, VertexKeyConfig,
    VertexKeyConfigView,
};
pub use config_variables::{ConfigVariableChange, ConfigVariableView, NewConfigVariable};
pub use error::ControlError;
pub use gateway::{
    GatewayHandle, GatewayStatus, LastReload, Later, Operated, PackView, ReloadView, SettingView, TargetView,
};
pub use idempotency::Idempotency;
pub use instances::{InstanceState, InstanceView, ReleasedView, Sight};
pub use limits::{LimitChanges, LimitsView};
pub use master_keys::{Closed, InstanceKeysView, MasterKeyView, MasterKeysView, Retired, Rotated, Rotation};
pub use own_password::PasswordChange;
pub use patch::Patch;
pub use policy_pack::{Occasion, Reconciled};
pub use prices::{NewPrice, NewPrices, PriceView, PricesView};
pub use provider_keys::{
    NewProviderKey, Prober, PromoteKey, ProviderKeyChange, ProviderKeyView, ReferenceView, RefusalView,
    StageKey, StagedKey, StagedView, Verdict, VerifiedView,
};
pub use retrieval::{RetrievedKey, ServiceCredential};
pub use secret_input::{KeySource, SecretInput, SecretMember};
pub use service_tokens::{MadeServiceToken, NewServiceToken, ServiceTokenChange, ServiceTokenView};
pub use session_list::SessionView;
pub use sessions::{LoginOrigin, Present, Session};
pub use signing_key::{SETTLES_AFTER, SigningKeyView};
pub use spend::{AttemptView, ExplainView, LineView, SpendQuery, UsageQuery, UsageView, parse_page};
pub use spend_report::SpendReport;
pub use tenants::{NewTenant, TenantChange, TenantView};
pub use users::{NewUser, UserChange, UserView};
pub use virtual_keys::{KeyLife, MadeKey, NewVirtualKey, RotateKey, VirtualKeyChange, VirtualKeyView};

/// Words of the store that callers need beside those of this room.
pub use crate::store::{Page, Paged, StoreError};

/// The tenant that exists from the start.
pub const DEFAULT_TENANT: &str = "default";

/// Who is told, in this process and at once, that a tenant's or everybody's settings have changed.
#[derive(Clone)]
pub struct Notify(Arc<dyn Fn(Option<TenantId>, i64) + Send + Sync>);

impl Notify {
    /// Calls `tell` after each commit with whose settings changed and the number of the notice in `change_log`; it must
    /// not block.
    pub fn new(tell: impl Fn(Option<TenantId>, i64) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// For processes in which nobody caches anything.
    pub fn nobody() -> Self {
        Self::new(|_, _| {})
    }

    fn tell(&self, tenant: Option<TenantId>, seq: i64) {
        (self.0)(tenant, seq);
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notify(…)")
    }
}

/// What the operator decided that matters here.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which upstream addresses may be stored.
    pub egress: EgressPolicy,
    /// Whether services may fetch keys that were uploaded as retrievable.
    pub allow_retrieval: bool,
    /// Whether uploads are retrievable unless they say otherwise; never without retrieval.
    pub retrievable_by_default: bool,
    /// Which instances count as alive.
    pub sight: Sight,
}

/// What [`Control`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Seals provider keys.
    pub vault: Arc<Vault>,
    /// Digests virtual keys.
    pub pepper: Arc<Pepper>,
    /// Tells provider keys apart.
    pub fingerprints: Arc<Fingerprinter>,
    /// Chains the audit log.
    pub audit_key: AuditKey,
    /// Hashes and checks passwords.
    pub passwords: Arc<Passwords>,
    /// Signs and verifies sessions.
    pub sessions: Arc<Sessions>,
    /// Providers and prices.
    pub catalogue: Arc<Catalogue>,
    /// The live ledger; `None` in a process that runs beside the gateway and reads the database.
    pub ledger: Option<Ledger>,
    /// Wall time.
    pub clock: Clock,
    /// Time for what is limited by the minute.
    pub ticks: Ticks,
    /// Who is told of changes.
    pub notify: Notify,
    /// Who tries staged secrets at their providers.
    pub prober: Prober,
    /// What the operator decided.
    pub settings: Settings,
}

/// Everything an administrator can do. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control(Arc<Inner>);

/// The parts, and what only this room needs.
#[derive(Debug)]
struct Inner {
    parts: Parts,
    throttle: throttle::Throttle,
    refusals: refusals::Refusals,
    service_rate: service_rate::ServiceRate,
    /// One reload of prices at a time: an older reading must not replace a newer one.
    reloading: tokio::sync::Mutex<()>,
}

impl std::ops::Deref for Control {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0.parts
    }
}

impl Control {
    /// Puts the parts together. Nothing is read yet; see [`Control::ensure_default_tenant`] and
    /// [`Control::reload_prices`].
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            service_rate: service_rate::ServiceRate::new(parts.ticks.clone()),
            parts,
            throttle: throttle::Throttle::default(),
            refusals: refusals::Refusals::default(),
            reloading: Default::default(),
        }))
    }
}
