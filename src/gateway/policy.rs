//! The gate. A provider key opens only against a grant, and grants are issued here, after both allow-lists were asked
//! about the model that will really be called.

use super::{authenticate::Principal, error::GatewayError, plan::Candidate};
use crate::domain::{CheckGrant, DispatchGrant, ProviderKeyId, ProviderSlug, TenantId};

/// The candidates that both allow-lists let through, in the same order.
///
/// # Errors
/// 403 when none is left.
pub(super) fn allowed(principal: &Principal, plan: Vec<Candidate>) -> Result<Vec<Candidate>, GatewayError> {
    let first = plan.first().map(|candidate| candidate.model.clone());
    let allowed: Vec<_> = plan.into_iter().filter(|candidate| principal.allows(&candidate.model)).collect();
    if allowed.is_empty() {
        return Err(GatewayError::ModelNotAllowed(first.map(|model| model.to_string()).unwrap_or_default()));
    }
    Ok(allowed)
}

/// Lets `candidate` be called by `principal`, once.
///
/// # Errors
/// 403 when an allow-list does not have the model.
#[expect(clippy::disallowed_methods, reason = "this is the policy gate, the one place that issues grants")]
pub(super) fn grant(principal: &Principal, candidate: &Candidate) -> Result<DispatchGrant, GatewayError> {
    if !principal.allows(&candidate.model) {
        return Err(GatewayError::ModelNotAllowed(candidate.model.to_string()));
    }
    Ok(DispatchGrant::issue(principal.key.tenant, candidate.key.id(), candidate.model.clone()))
}

/// Lets the secret that is staged beside a key be tried at its own provider, once. No client's request comes by this way:
/// it is an administrator who asks, and `control` has looked whether they may.
#[expect(clippy::disallowed_methods, reason = "this is the policy gate, the one place that issues grants")]
pub fn check_grant(tenant: TenantId, key: ProviderKeyId, provider: ProviderSlug) -> CheckGrant {
    CheckGrant::issue(tenant, key, provider)
}
