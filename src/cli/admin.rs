//! `keystile admin …`

use std::process::ExitCode;

use clap::Subcommand;

use super::{Shared, open, output, secret};
use crate::{
    config::{Config, environment},
    control::{NewUser, SecretInput},
    domain::{Actor, Role},
};

#[derive(Subcommand)]
pub(super) enum Admin {
    /// Make a person who may log in. The password comes from KEYSTILE_ADMIN_PASSWORD, a prompt or standard input.
    Create {
        /// Address to log in with.
        #[arg(long)]
        email: String,
        /// `owner`, `tenant_admin`, `finance` or `auditor`.
        #[arg(long, default_value = "owner", value_parser = role)]
        role: Role,
        /// In which tenant; `default` when left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "is no role; use `owner`, `tenant_admin`, `finance` or `auditor`".into())
}

impl Admin {
    pub(super) async fn run(self, shared: &Shared) -> anyhow::Result<ExitCode> {
        let Self::Create { email, role, tenant } = self;
        let config = Config::load(&shared.overrides(), &environment()?)?;
        let password = match config.admin.password {
            Some(password) => password.0,
            None => secret::read("Password (12 to 128 characters): ")?,
        };
        let asked =
            NewUser { email, password: SecretInput::new(password.to_string()), role, tenant_id: tenant };
        let user = open::control(shared).await?.user_create(&Actor::Cli, asked, None).await?;
        output::line(user.id)?;
        Ok(ExitCode::SUCCESS)
    }
}
