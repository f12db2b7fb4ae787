//! The gate. A provider key opens only against a grant, and grants are issued here, after both allow-lists were asked
//! about the model that will really be called.

use super::{authenticate::Principal, error::GatewayError, plan::Candidate};
use crate::domain::DispatchGrant;

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
