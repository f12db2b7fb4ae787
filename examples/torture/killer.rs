//! Strikes: every now and then a gateway is killed, asked to go, or stopped for a while, and started again at once.

use std::{
    ops::RangeInclusive,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    dice::Dice,
    gateway::{Gateway, House},
};

/// How long a gateway is stopped.
const PAUSE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(2);
/// When a gateway that is just starting is killed again: while it opens its database, reads its journal, or listens.
const EARLY: RangeInclusive<Duration> = Duration::from_millis(0)..=Duration::from_millis(200);

/// What was done.
#[derive(Default)]
pub struct Strikes {
    /// SIGKILL under load.
    pub killed: u64,
    /// SIGKILL of a gateway that was still starting.
    pub killed_early: u64,
    /// SIGTERM.
    pub terminated: u64,
    /// SIGSTOP and SIGCONT.
    pub stopped: u64,
    /// Gateways that did not end well after SIGTERM.
    pub ended_badly: u64,
    /// From a start to `/ready`, of every restart.
    pub recoveries: Vec<Duration>,
}

/// Strikes until the load ends; every gateway runs then.
///
/// # Errors
/// A gateway ends by itself, does not end when it should, or does not start again.
pub async fn strike(
    gateways: &mut [Gateway],
    house: &House,
    every: &RangeInclusive<Duration>,
    dice: &mut Dice,
    stop: &CancellationToken,
) -> Result<Strikes, String> {
    let mut strikes = Strikes::default();
    loop {
        let wait = tokio::time::sleep(dice.time(every));
        if stop.run_until_cancelled(wait).await.is_none() {
            return Ok(strikes);
        }
        let place = dice.place(gateways.len());
        let gateway = &mut gateways[place];
        match dice.of(1..=100) {
            1..=70 => {
                gateway.end(Signal::KILL).await?;
                strikes.killed += 1;
                while dice.percent(10) {
                    gateway.spawn(house)?;
                    tokio::time::sleep(dice.time(&EARLY)).await;
                    gateway.end(Signal::KILL).await?;
                    strikes.killed_early += 1;
                }
            }
            71..=85 => {
                strikes.ended_badly += u64::from(!gateway.end(Signal::TERM).await?.success());
                strikes.terminated += 1;
            }
            _ => {
                gateway.signal(Signal::STOP)?;
                tokio::time::sleep(dice.time(&PAUSE)).await;
                gateway.signal(Signal::CONT)?;
                strikes.stopped += 1;
                continue;
            }
        }
        let since = Instant::now();
        gateway.spawn(house)?;
        gateway.ready().await?;
        strikes.recoveries.push(since.elapsed());
    }
}
