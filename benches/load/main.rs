//! What the gateway costs: requests a second, added latency, processor time per request and per streamed event, and
//! memory, beside the same load straight to the provider and through plain proxies. Everything runs on this machine, on
//! loopback: a mock provider, the proxies and the gateway each in a process of their own, so that the kernel tells
//! their processor time apart. Rounds are interleaved and medians are given, because a shared machine is noisy; what
//! stays true on another machine are the ratios.
//!
//! Run: `cargo bench --bench load -- --connections 64 --seconds 5`
//!
//! Without cargo's `--bench` it only checks, in a moment, that loader and mock understand each other.

mod admin;
mod client;
mod gateway;
mod histogram;
mod mock;
mod options;
mod payload;
mod process;
mod proxy;
mod report;
mod wire;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

use self::{
    client::{Aim, Load},
    gateway::Gateway,
    options::{Options, Role},
    payload::Kind,
    process::Process,
    report::{BARE, DIRECT, GATEWAY, Memory, NGINX, Report, Round, Scenario, UNCAPPED},
};

/// Before counting begins: connections are opened, caches are filled.
const WARM_UP: Duration = Duration::from_millis(700);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let done = match Options::read(std::env::args().skip(1)) {
        Ok(Role::Mock) => in_role(|listener| async { Ok(mock::serve(listener).await?) }, false),
        Ok(Role::Proxy(upstream)) => in_role(move |listener| proxy::serve(listener, upstream), true),
        Ok(Role::Check) => check(),
        Ok(Role::Load(options)) => load(&options),
        Err(wrong) => Err(wrong.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime(threads: bool) -> io::Result<tokio::runtime::Runtime> {
    let mut builder = if threads {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    builder.enable_all().build()
}

/// Listens, says where, and serves until the loader is gone. The bare proxy gets the threads that the gateway has; the
/// mock needs none.
fn in_role<F>(serve: impl FnOnce(TcpListener) -> F, threads: bool) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    process::end_with_parent();
    runtime(threads)?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        io::stdout().flush()?;
        serve(listener).await
    })
}

/// That mock, proxy and loader understand each other; no clock is looked at.
fn check() -> Result<(), Failure> {
    histogram::check();
    let mock = Process::in_role(&["--mock"])?;
    let proxy = Process::in_role(&["--proxy-to", &mock.address.to_string()])?;
    runtime(false)?.block_on(async {
        for address in [mock.address, proxy.address] {
            let aim = Aim { address, prefix: "", key: "check".to_owned() };
            for kind in Kind::ALL {
                let tally = Load::start(&aim, kind, 1).stop_after(1).await;
                if let Some(failure) = tally.failure {
                    return Err(format!("{}: {failure}", kind.model()).into());
                }
            }
        }
        Ok(())
    })
}

/// One thing that is measured.
struct Target {
    name: &'static str,
    aim: Aim,
    /// Whose processor time counts.
    process: usize,
}

fn load(options: &Options) -> Result<(), Failure> {
    let mut notes = vec![machine()];
    let mock = Process::in_role(&["--mock"])?;
    let upstream = mock.address;
    let mut processes = vec![mock];
    let mut targets = Vec::new();
    let plain = |address| Aim { address, prefix: "", key: "load".to_owned() };
    if options.measures(DIRECT) {
        targets.push(Target { name: DIRECT, aim: plain(upstream), process: 0 });
    }
    if options.measures(BARE) {
        let proxy = Process::in_role(&["--proxy-to", &upstream.to_string()])?;
        targets.push(Target { name: BARE, aim: plain(proxy.address), process: processes.len() });
        processes.push(proxy);
    }
    let nginx_directory = tempfile::tempdir()?;
    if options.measures(NGINX) {
        match nginx(nginx_directory.path(), upstream) {
            Ok(nginx) => {
                targets.push(Target { name: NGINX, aim: plain(nginx.address), process: processes.len() });
                processes.push(nginx);
            }
            Err(error) => notes.push(format!("nginx left out: {error}")),
        }
    }
    let wanted = options.measures(GATEWAY) || options.measures(UNCAPPED);
    let gateway = if wanted { Some(Gateway::start(&options.gateway, upstream)?) } else { None };
    let mut memory = Memory::default();
    if let Some(gateway) = &gateway {
        memory.idle_kib = gateway.process.memory_kib("VmRSS")?;
        eprintln!("the gateway is process {}", gateway.process.id());
        for (name, key) in [(GATEWAY, &gateway.key), (UNCAPPED, &gateway.uncapped)] {
            let aim = Aim { address: gateway.process.address, prefix: gateway::PREFIX, key: key.clone() };
            if options.measures(name) {
                targets.push(Target { name, aim, process: usize::MAX });
            }
        }
    }

    let (mut rounds, mut answered) = (Vec::new(), 1);
    let runtime = runtime(false)?;
    for number in 1..=options.rounds {
        for scenario in options.scenarios() {
            for target in &targets {
                let process =
                    processes.get(target.process).or(gateway.as_ref().map(|gateway| &gateway.process));
                let process = process.ok_or("a target without a process")?;
                eprint!("round {number}/{}: {} {} … ", options.rounds, scenario.name(), target.name);
                let round = runtime.block_on(measure(target, scenario, process, options.seconds))?;
                eprintln!("{} answers", round.tally.answers);
                if let Some(failure) = &round.tally.failure {
                    return Err(format!("{} through {}: {failure}", scenario.name(), target.name).into());
                }
                if [GATEWAY, UNCAPPED].contains(&target.name) {
                    answered += round.tally.all;
                }
                rounds.push(round);
            }
        }
    }

    let mut report = Report { rounds, memory: None, ledger: None, notes };
    let mut lost = None;
    if let Some(gateway) = gateway {
        memory.loaded_kib = gateway.process.memory_kib("VmRSS")?;
        memory.highest_kib = gateway.process.memory_kib("VmHWM")?;
        report.memory = Some(memory);
        let recorded = gateway.recorded(answered)?;
        report.ledger = Some((answered, recorded));
        report
            .notes
            .push(format!("the gateway wrote {} MiB of database and log", gateway.disk_bytes() >> 20));
        if recorded != answered {
            lost = Some(format!("{answered} requests were answered and {recorded} recorded"));
        }
        if !gateway.stop() {
            lost.get_or_insert("the gateway did not stop in good order".to_owned());
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report.json())?);
    } else {
        println!("{}", report.text());
    }
    lost.map_or(Ok(()), |lost| Err(lost.into()))
}

async fn measure(
    target: &Target,
    scenario: Scenario,
    process: &Process,
    time: Duration,
) -> io::Result<Round> {
    let load = Load::start(&target.aim, scenario.kind, scenario.connections);
    tokio::time::sleep(WARM_UP).await;
    let (before, began) = (process.cpu()?, Instant::now());
    load.count(true);
    tokio::time::sleep(time).await;
    load.count(false);
    let (after, took) = (process.cpu()?, began.elapsed());
    let tally = load.stop().await;
    Ok(Round { scenario, target: target.name, took, cpu: after.saturating_sub(before), tally })
}

fn nginx(directory: &std::path::Path, upstream: SocketAddr) -> io::Result<Process> {
    let address = process::free_address()?;
    proxy::write_nginx_conf(directory, address, upstream)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "stderr"]);
    command.stderr(std::process::Stdio::null());
    Process::listening_at(command, address, &[])
}

/// How many processors there are and how busy they were before.
fn machine() -> String {
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    format!("{processors} processors, shared by loader, mock and target; load average before the run: {load}")
}
