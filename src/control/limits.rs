//! The limits that tenants and virtual keys have alike: how they are asked for, changed and shown.

use serde::Serialize;
use utoipa::ToSchema;

use super::{Control, ControlError, Patch, checks};
use crate::{
    domain::{CapMode, NanoUsd, Scope, SpendWindow, Timestamp, Zone},
    ledger::Standing,
    store::StoredLimits,
};

/// Changes of limits, taken out of a request.
#[derive(Clone, Debug, Default)]
pub struct LimitChanges {
    /// Allow-list.
    pub models_allowed: Patch<Vec<String>>,
    /// Cap.
    pub spend_cap_micro_usd: Patch<i64>,
    /// Window of the cap.
    pub spend_window: Patch<SpendWindow>,
    /// Mode of the cap.
    pub cap_mode: Patch<CapMode>,
    /// Requests a minute.
    pub rate_limit_rpm: Patch<i64>,
    /// Tokens a minute.
    pub rate_limit_tpm: Patch<i64>,
    /// Requests at the same time.
    pub max_parallel: Patch<i64>,
}

impl LimitChanges {
    /// Checks and applies them.
    pub(super) fn apply(self, limits: &mut StoredLimits) -> Result<(), ControlError> {
        let Self {
            models_allowed,
            spend_cap_micro_usd,
            spend_window,
            cap_mode,
            rate_limit_rpm,
            rate_limit_tpm,
            max_parallel,
        } = self;
        models_allowed.apply(&mut limits.models_allowed, None, |texts| checks::patterns(&texts).map(Some))?;
        spend_cap_micro_usd.apply(&mut limits.spend_cap, None, |micro| {
            checks::cap("spend_cap_micro_usd", micro).map(Some)
        })?;
        spend_window.apply(&mut limits.spend_window, SpendWindow::default(), Ok)?;
        cap_mode.apply(&mut limits.cap_mode, CapMode::default(), Ok)?;
        let counts = [
            ("rate_limit_rpm", rate_limit_rpm, &mut limits.rpm),
            ("rate_limit_tpm", rate_limit_tpm, &mut limits.tpm),
            ("max_parallel", max_parallel, &mut limits.max_parallel),
        ];
        for (name, change, setting) in counts {
            change.apply(setting, None, |value| checks::count(name, value).map(Some))?;
        }
        Ok(())
    }

    /// The names of what is to be changed, for the audit log.
    pub(super) fn names(&self) -> Vec<&'static str> {
        let all = [
            ("models_allowed", self.models_allowed.is_keep()),
            ("spend_cap_micro_usd", self.spend_cap_micro_usd.is_keep()),
            ("spend_window", self.spend_window.is_keep()),
            ("cap_mode", self.cap_mode.is_keep()),
            ("rate_limit_rpm", self.rate_limit_rpm.is_keep()),
            ("rate_limit_tpm", self.rate_limit_tpm.is_keep()),
            ("max_parallel", self.max_parallel.is_keep()),
        ];
        all.into_iter().filter(|(_, keep)| !keep).map(|(name, _)| name).collect()
    }
}

/// Declares a request with the members of its own and those of the limits. (serde cannot both flatten a struct and
/// refuse unknown members.)
macro_rules! request_with_limits {
    ($(#[$doc:meta])* pub struct $name:ident { $($body:tt)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, serde::Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($body)*
            /// Models that may be called: `provider/model`, `provider/*` or `*`. `null` allows all, `[]` none.
            #[schema(value_type = Option<Vec<String>>)]
            #[serde(default)]
            pub models_allowed: $crate::control::Patch<Vec<String>>,
            /// Cap in micro-USD. `null` is unlimited, 0 blocks everything.
            #[schema(value_type = Option<i64>, minimum = 0)]
            #[serde(default)]
            pub spend_cap_micro_usd: $crate::control::Patch<i64>,
            /// Span of time of the cap: `total` (default), `daily`, `weekly`, `monthly`; on the tenant's calendar.
            #[schema(value_type = Option<String>)]
            #[serde(default)]
            pub spend_window: $crate::control::Patch<$crate::domain::SpendWindow>,
            /// `hard` (default) never lets settled spend exceed the cap; `soft` admits while anything is left.
            #[schema(value_type = Option<String>)]
            #[serde(default)]
            pub cap_mode: $crate::control::Patch<$crate::domain::CapMode>,
            /// Requests a minute.
            #[schema(value_type = Option<i64>, minimum = 1)]
            #[serde(default)]
            pub rate_limit_rpm: $crate::control::Patch<i64>,
            /// Tokens a minute.
            #[schema(value_type = Option<i64>, minimum = 1)]
            #[serde(default)]
            pub rate_limit_tpm: $crate::control::Patch<i64>,
            /// Requests at the same time.
            #[schema(value_type = Option<i64>, minimum = 1)]
            #[serde(default)]
            pub max_parallel: $crate::control::Patch<i64>,
        }

        impl $name {
            /// Takes the changes of limits out.
            fn take_limits(&mut self) -> $crate::control::LimitChanges {
                $crate::control::LimitChanges {
                    models_allowed: std::mem::take(&mut self.models_allowed),
                    spend_cap_micro_usd: std::mem::take(&mut self.spend_cap_micro_usd),
                    spend_window: std::mem::take(&mut self.spend_window),
                    cap_mode: std::mem::take(&mut self.cap_mode),
                    rate_limit_rpm: std::mem::take(&mut self.rate_limit_rpm),
                    rate_limit_tpm: std::mem::take(&mut self.rate_limit_tpm),
                    max_parallel: std::mem::take(&mut self.max_parallel),
                }
            }
        }
    };
}
pub(super) use request_with_limits;

/// Limits and where they stand.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LimitsView {
    /// Allow-list; `null` allows all.
    pub models_allowed: Option<Vec<String>>,
    /// Cap; `null` is unlimited.
    pub spend_cap_micro_usd: Option<i64>,
    /// Span of time of the cap.
    #[schema(value_type = String)]
    pub spend_window: SpendWindow,
    /// How strictly the cap holds.
    #[schema(value_type = String)]
    pub cap_mode: CapMode,
    /// Requests a minute.
    pub rate_limit_rpm: Option<u32>,
    /// Tokens a minute.
    pub rate_limit_tpm: Option<u32>,
    /// Requests at the same time.
    pub max_parallel: Option<u32>,
    /// Settled in the present window, rounded up.
    pub spent_micro_usd: i64,
    /// Held by requests under way, rounded up.
    pub reserved_micro_usd: i64,
    /// What is left, rounded down; `null` without a cap.
    pub remaining_micro_usd: Option<i64>,
    /// When the window ends; `null` for `total`.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub window_resets_at: Option<Timestamp>,
    /// Leased to gateways that are silent, all windows together, rounded up: at most so much may have been spent beyond
    /// what is known. 0 when there is none.
    pub unreconciled_micro_usd: i64,
}

impl Control {
    /// Limits and their standing; `unreconciled` is what dead instances hold of the scope.
    pub(super) async fn limits_view(
        &self,
        of: Scope,
        limits: &StoredLimits,
        zone: Zone,
        unreconciled: NanoUsd,
    ) -> Result<LimitsView, ControlError> {
        let window = limits.spend_window;
        let standing = self.standing(of, window, zone).await?;
        Ok(LimitsView {
            models_allowed: limits
                .models_allowed
                .as_ref()
                .map(|patterns| patterns.iter().map(ToString::to_string).collect()),
            spend_cap_micro_usd: limits.spend_cap.map(NanoUsd::micro_rounded_down),
            spend_window: window,
            cap_mode: limits.cap_mode,
            rate_limit_rpm: limits.rpm,
            rate_limit_tpm: limits.tpm,
            max_parallel: limits.max_parallel,
            spent_micro_usd: standing.settled.micro_rounded_up(),
            reserved_micro_usd: standing.reserved.micro_rounded_up(),
            remaining_micro_usd: limits.spend_cap.map(|cap| left(&standing, cap).micro_rounded_down()),
            window_resets_at: window.resets_at(self.clock.now(), zone),
            unreconciled_micro_usd: unreconciled.micro_rounded_up(),
        })
    }

    /// Where a scope stands in the present window, from the live counters or, in a process that has none, from the
    /// database.
    pub(super) async fn standing(
        &self,
        of: Scope,
        window: SpendWindow,
        zone: Zone,
    ) -> Result<Standing, ControlError> {
        let index = window.index(self.clock.now(), zone);
        Ok(match &self.ledger {
            Some(ledger) => ledger.standing(of, window, index).await,
            None => Standing {
                settled: self.store.spend_settled(of, window, index).await?,
                ..Standing::default()
            },
        })
    }
}

/// What `standing` leaves of a cap.
pub(super) fn left(standing: &Standing, cap: NanoUsd) -> NanoUsd {
    cap.minus(standing.settled).minus(standing.reserved).max(NanoUsd::ZERO)
}
