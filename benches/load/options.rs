//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use super::{
    payload::Kind,
    report::{BARE, DIRECT, GATEWAY, NGINX, Scenario, UNCAPPED},
};

const USAGE: &str = "usage: cargo bench --bench load -- [--connections 1..512] [--seconds 1..60] [--rounds 1..9] \
    [--only plain,one,burst,paced] [--targets direct,bare,nginx,keystile,uncapped] [--gateway PROGRAM] [--json]";

/// What this process is to do.
pub enum Role {
    /// Be the provider.
    Mock,
    /// Be the bare proxy before this provider.
    Proxy(SocketAddr),
    /// Check that everything fits together.
    Check,
    /// Measure.
    Load(Options),
}

/// How to measure.
pub struct Options {
    /// Connections that ask at the same time.
    pub connections: usize,
    /// How long each scenario is measured against each target, each round.
    pub seconds: Duration,
    /// How often all of it is done.
    pub rounds: u64,
    /// The gateway's program; another build than the one that came with this.
    pub gateway: PathBuf,
    /// JSON in place of the table.
    pub json: bool,
    only: Vec<String>,
    targets: Vec<String>,
}

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn read(arguments: impl Iterator<Item = String>) -> Result<Role, String> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect();
        let mut options = Self {
            connections: 64,
            seconds: Duration::from_secs(5),
            rounds: 3,
            gateway: env!("CARGO_BIN_EXE_keystile").into(),
            json: false,
            only: list("plain,one,burst,paced"),
            targets: [DIRECT, BARE, NGINX, GATEWAY, UNCAPPED].map(str::to_owned).to_vec(),
        };
        let (mut arguments, mut bench, mut test) = (arguments, false, false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("`{argument}` wants a value; {USAGE}"));
            match argument.as_str() {
                "--mock" => return Ok(Role::Mock),
                "--proxy-to" => return value()?.parse().map(Role::Proxy).map_err(|_| USAGE.to_owned()),
                "--connections" => options.connections = number(&value()?, 512)? as usize,
                "--seconds" => options.seconds = Duration::from_secs(number(&value()?, 60)?),
                "--rounds" => options.rounds = number(&value()?, 9)?,
                "--only" => options.only = list(&value()?),
                "--targets" => options.targets = list(&value()?),
                "--gateway" => options.gateway = value()?.into(),
                "--json" => options.json = true,
                // cargo says which of its commands runs this.
                "--bench" => bench = true,
                "--test" => test = true,
                _ => return Err(format!("`{argument}` is unknown; {USAGE}")),
            }
        }
        Ok(if bench && !test { Role::Load(options) } else { Role::Check })
    }

    /// Whether `target` is measured.
    pub fn measures(&self, target: &str) -> bool {
        self.targets.iter().any(|name| name == target)
    }

    /// What is measured, in order. One connection shows the latency that is added; many show what a request costs.
    pub fn scenarios(&self) -> Vec<Scenario> {
        let of = |name: &String| match name.as_str() {
            "plain" => Some(Scenario { kind: Kind::Plain, connections: self.connections }),
            "one" => Some(Scenario { kind: Kind::Plain, connections: 1 }),
            "burst" => Some(Scenario { kind: Kind::Burst, connections: self.connections }),
            "paced" => Some(Scenario { kind: Kind::Paced, connections: self.connections }),
            _ => None,
        };
        self.only.iter().filter_map(of).collect()
    }
}

fn number(text: &str, most: u64) -> Result<u64, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or(format!("`{text}` is not 1 to {most}; {USAGE}"))
}
