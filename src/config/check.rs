//! What only the whole configuration can tell.

use std::net::SocketAddr;

use super::{error::ConfigError, settings::Config, show::as_written};

/// Refuses settings that do not go together.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let wrong = |problem: String| Err(ConfigError::Contradiction { problem });
    let (data, admin) = (config.server.listen, config.server.admin_listen);
    if collide(data, admin) {
        return wrong(format!(
            "`server.listen` ({data}) and `server.admin_listen` ({admin}) would share a port; give each its own"
        ));
    }
    let limits = &config.limits;
    if limits.max_event_bytes > limits.max_answer_bytes {
        return wrong(
            "`limits.max_event_bytes` is above `limits.max_answer_bytes`; an event is part of an answer"
                .to_owned(),
        );
    }
    let ledger = &config.ledger;
    if ledger.release_after <= ledger.lease_grace {
        return wrong(format!(
            "`ledger.release_after` ({}) must be longer than `ledger.lease_grace` ({}): until the latter is over a \
             silent instance may still spend its shares",
            as_written(ledger.release_after),
            as_written(ledger.lease_grace)
        ));
    }
    Ok(())
}

impl Config {
    /// Refuses what only the gateway itself cannot work with; other commands may.
    pub fn check_for_serve(&self) -> Result<(), ConfigError> {
        // Somebody expects to log in with that address; a start without it would leave them outside. A password alone
        // is what `admin create` takes.
        if self.admin.email.is_some() && self.admin.password.is_none() {
            let problem = "`KEYSTILE_ADMIN_EMAIL` is given without `KEYSTILE_ADMIN_PASSWORD`; set both, or neither and make the first admin with `keystile admin create --email …`";
            return Err(ConfigError::Contradiction { problem: problem.to_owned() });
        }
        Ok(())
    }
}

/// Whether the second bind would fail. Port 0 is a different port each time.
fn collide(left: SocketAddr, right: SocketAddr) -> bool {
    let same_host = left.ip() == right.ip() || left.ip().is_unspecified() || right.ip().is_unspecified();
    left.port() != 0 && left.port() == right.port() && same_host
}
