//! How the commands beside `serve` reach the data: they open the database themselves and act as `cli`.

use anyhow::Context;

use super::Shared;
use crate::{
    app::{Foundation, MasterKeys, egress_policy},
    config::{Config, environment},
    control::{Control, Notify},
    domain::Clock,
};

/// Opens the database that the settings name. A new directory is refused: it would be a typo.
pub(super) async fn control(shared: &Shared) -> anyhow::Result<Control> {
    let config = Config::load(&shared.overrides(), &environment()?)?;
    if let Some(file) = config.database_file() {
        anyhow::ensure!(
            file.exists(),
            "there is no database at `{}`; give the gateway's `--data-dir`, or run `keystile serve` once",
            file.display()
        );
    }
    let foundation = Foundation::open(&config, &Clock::system(), MasterKeys::MustExist)
        .await
        .context("the gateway's data cannot be opened")?;
    let control = foundation.control(&config, egress_policy(&config), None, Notify::nobody())?;
    control.reload_prices().await?;
    Ok(control)
}
