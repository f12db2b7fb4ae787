//! The command line.

use std::{ops::RangeInclusive, path::PathBuf, time::Duration};

/// How to call this.
pub const USAGE: &str = "usage: cargo run --release --example torture -- [--seconds N] [--gateways N] \
    [--postgres postgres://USER:PASSWORD@HOST/EMPTY_DATABASE] [--clients N] [--seed N] [--kill-every 300ms..2s] \
    [--binary PATH] [--keep]";

/// What to do.
pub struct Options {
    /// How long the load lasts.
    pub seconds: u64,
    /// How many gateways share the load; more than one only with `postgres`.
    pub gateways: usize,
    /// The database they share; each has SQLite of its own without.
    pub postgres: Option<String>,
    /// Requests at the same time.
    pub clients: usize,
    /// What every choice is drawn from.
    pub seed: u64,
    /// How long to wait between two strikes.
    pub kill_every: RangeInclusive<Duration>,
    /// The gateway; built when left out.
    pub binary: Option<PathBuf>,
    /// Whether data directories and logs stay.
    pub keep: bool,
}

impl Options {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// What is not understood, in words.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seconds: 60,
            gateways: 1,
            postgres: None,
            clients: 32,
            seed: 1,
            kill_every: Duration::from_millis(300)..=Duration::from_secs(2),
            binary: None,
            keep: false,
        };
        let mut arguments = arguments.into_iter();
        while let Some(name) = arguments.next() {
            if name == "--keep" {
                options.keep = true;
                continue;
            }
            let mut value = || arguments.next().ok_or_else(|| format!("`{name}` needs a value"));
            match name.as_str() {
                "--seconds" => options.seconds = number(&name, &value()?)?,
                "--gateways" => options.gateways = number(&name, &value()?)?,
                "--postgres" => options.postgres = Some(value()?),
                "--clients" => options.clients = number(&name, &value()?)?,
                "--seed" => options.seed = number(&name, &value()?)?,
                "--kill-every" => options.kill_every = span(&value()?)?,
                "--binary" => options.binary = Some(value()?.into()),
                _ => return Err(format!("`{name}` is not known\n{USAGE}")),
            }
        }
        match &options {
            Self { seconds: 0, .. } | Self { gateways: 0, .. } | Self { clients: 0, .. } => {
                Err("`--seconds`, `--gateways` and `--clients` must be 1 or more".to_owned())
            }
            Self { gateways: 2.., postgres: None, .. } => {
                Err("several gateways share a database; name one with `--postgres`".to_owned())
            }
            _ => Ok(options),
        }
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("`{name}` takes a whole number, not `{text}`"))
}

fn span(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let told = || format!("`--kill-every` takes a span such as `300ms..2s`, not `{text}`");
    let (least, most) = text.split_once("..").ok_or_else(told)?;
    let (least, most) = (duration(least).ok_or_else(told)?, duration(most).ok_or_else(told)?);
    if least <= most { Ok(least..=most) } else { Err(told()) }
}

fn duration(text: &str) -> Option<Duration> {
    match text.strip_suffix("ms") {
        Some(text) => text.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s')?.parse().ok().map(Duration::from_secs),
    }
}
