//! A cap is a cap and nothing metered is lost, proved on the real binary while it is killed.
//!
//! ```sh
//! cargo run --release --example torture -- --seconds 60
//! cargo run --release --example torture -- --seconds 600 --seed 7 --kill-every 50ms..400ms --keep
//! cargo run --release --example torture -- --gateways 3 --postgres postgres://me:secret@127.0.0.1/an_empty_database
//! ```
//!
//! Clients ask the gateway with keys whose caps run out; a provider in this process, which is never killed, has every
//! request that reached it on the disk before it answers; and a killer strikes the gateway with SIGKILL, SIGTERM and
//! SIGSTOP and starts it again. In the end the provider's log, what clients saw, usage rows, spend and caps must agree.
//! The scorecard goes to standard output; the exit code is 1 if anything in it is wrong. See docs/reliability.md.
//!
//! A seed repeats what is asked, what is answered and in which order the strikes come; when exactly a strike hits is up
//! to the machine.

mod admin;
mod clients;
mod dice;
mod gateway;
mod http;
mod keys;
mod killer;
mod options;
mod oracle;
mod plan;
mod scorecard;
mod verdict;
// The load bench speaks the same HTTP.
#[path = "../../benches/load/wire.rs"]
mod wire;

use std::{
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use admin::Admin;
use clients::Clients;
use dice::Dice;
use gateway::{Gateway, House};
use keys::Keys;
use options::Options;
use oracle::Oracle;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let directory = match tempfile::Builder::new().prefix("keystile-torture-").tempdir() {
        Ok(directory) => directory,
        Err(error) => {
            eprintln!("there is no directory for the run: {error}");
            return ExitCode::from(2);
        }
    };
    // Dropping the run kills what it started.
    let good = tokio::select! {
        ended = run(&options, directory.path()) => match ended {
            Ok(good) => Some(good),
            Err(error) => {
                eprintln!("{error}");
                Some(false)
            }
        },
        () = interrupted() => None,
    };
    if options.keep || good == Some(false) {
        eprintln!("the logs and data of this run are in {}", directory.keep().display());
    }
    match good {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => ExitCode::from(130),
    }
}

/// Ends with Ctrl-C or SIGTERM.
async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// The whole run. Answers whether nothing is wrong.
async fn run(options: &Options, directory: &Path) -> Result<bool, String> {
    let told = |error: std::io::Error| error.to_string();
    let binary = gateway::binary(options.binary.clone())?;
    let tasks = TaskTracker::new();
    let oracle = Oracle::start(options.seed, directory.join("provider.log"), &tasks).await.map_err(told)?;
    let house = House {
        binary,
        oracle: oracle.address,
        postgres: options.postgres.clone(),
        master_key: gateway::master_key().map_err(told)?,
    };
    let settings =
        format!("seed {}, kill every {:?}, {} clients\n", options.seed, options.kill_every, options.clients);
    gateway::note(directory, &settings).map_err(told)?;
    eprint!("{settings}");

    let mut gateways = Vec::new();
    for number in 1..=options.gateways {
        gateways.push(Gateway::new(directory, number).map_err(told)?);
    }
    start_all(&mut gateways, &house).await?;
    let admin = Arc::new(Admin::new(gateways.iter().map(|gateway| gateway.door().clone()).collect()));
    let mut dice = Dice::new(options.seed, 0x5eed);
    let (keys, wanted) = Keys::furnish(&admin, oracle.address, &mut dice).await?;
    let load = Arc::new(Clients {
        seed: options.seed,
        doors: gateways.iter().map(|gateway| gateway.door().clone()).collect(),
        keys,
        stop: CancellationToken::new(),
        sent: AtomicU64::new(0),
        seen: Mutex::default(),
    });

    load.warm_up().await?;
    let began = Instant::now();
    let applications = TaskTracker::new();
    for number in 0..options.clients as u64 {
        applications.spawn(Arc::clone(&load).run(number));
    }
    applications.close();
    let no_more_strikes = CancellationToken::new();
    let time = async {
        tokio::time::sleep(Duration::from_secs(options.seconds)).await;
        // First the strikes end, so that the last requests find a gateway.
        no_more_strikes.cancel();
    };
    let strikes = async {
        let mut dice = Dice::new(options.seed, 0xdead);
        let struck =
            killer::strike(&mut gateways, &house, &options.kill_every, &mut dice, &no_more_strikes).await;
        load.stop.cancel();
        struck
    };
    let furnished = replace_keys(&load, &admin, wanted, &mut dice);
    let (strikes, furnished, ()) = tokio::join!(strikes, furnished, time);
    let strikes = strikes?;
    furnished?;
    applications.wait().await;
    let seconds = began.elapsed().as_secs_f64();

    // What is compared is what a fresh start finds.
    let mut ended_badly = strikes.ended_badly;
    ended_badly += stop_all(&mut gateways).await?;
    start_all(&mut gateways, &house).await?;
    let log = oracle.log().map_err(told)?;
    let seen = std::mem::take(&mut *load.seen.lock().unwrap_or_else(PoisonError::into_inner));
    let verdict = verdict::compare(&admin, options.seed, &log, &seen, &load.keys.accounts()).await?;
    ended_badly += stop_all(&mut gateways).await?;
    let sent = load.sent.load(Ordering::Relaxed);
    Ok(scorecard::print(seconds, sent, oracle.halves(), &seen, &strikes, &verdict, ended_badly))
}

async fn replace_keys(
    load: &Clients,
    admin: &Admin,
    mut wanted: tokio::sync::mpsc::UnboundedReceiver<usize>,
    dice: &mut Dice,
) -> Result<(), String> {
    while let Some(Some(group)) = load.stop.run_until_cancelled(wanted.recv()).await {
        load.keys.replace(admin, group, dice).await?;
    }
    Ok(())
}

async fn start_all(gateways: &mut [Gateway], house: &House) -> Result<(), String> {
    for gateway in gateways {
        gateway.spawn(house)?;
        gateway.ready().await?;
    }
    Ok(())
}

/// Answers how many did not end well.
async fn stop_all(gateways: &mut [Gateway]) -> Result<u64, String> {
    let mut badly = 0;
    for gateway in gateways {
        badly += u64::from(!gateway.end(Signal::TERM).await?.success());
    }
    Ok(badly)
}
