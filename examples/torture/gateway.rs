//! One gateway: the real binary in a process of its own, struck and started again on the same data and the same ports.

use std::{
    fs::{self, OpenOptions},
    io,
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use super::http::Connection;

/// How long a gateway may take to be ready, and to go after SIGTERM. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// Small segments of the journal, so that they change often and are begun, retired and struck in between.
const CONFIG: &str = "ledger:\n  segment_bytes: 1MiB\n";
/// The first admin.
pub const EMAIL: &str = "torture@example.com";
/// Of a gateway that lives for a run, on loopback.
pub const PASSWORD: &str = "whatever the stile counts stays counted";

/// Where a gateway is, and whether it is there.
#[derive(Clone)]
pub struct Door {
    /// The data plane.
    pub data: SocketAddr,
    /// The admin plane.
    pub admin: SocketAddr,
    /// Whether it was ready when it was last looked at.
    pub open: watch::Receiver<bool>,
}

/// What all gateways are started with.
pub struct House {
    /// The program.
    pub binary: PathBuf,
    /// The provider, which is on loopback.
    pub oracle: SocketAddr,
    /// The database, if it is not SQLite in each gateway's own directory.
    pub postgres: Option<String>,
    /// The master key.
    pub master_key: String,
}

/// A gateway. It is killed when this is dropped.
pub struct Gateway {
    directory: PathBuf,
    config: PathBuf,
    log: PathBuf,
    door: Door,
    open: watch::Sender<bool>,
    child: Option<Child>,
}

impl Gateway {
    /// Finds a place for it below `directory`; it does not run yet.
    pub fn new(directory: &Path, number: usize) -> io::Result<Self> {
        let (open, is_open) = watch::channel(false);
        let data = free_address()?;
        // Held until the other is found, so that they differ.
        let held = TcpListener::bind(data)?;
        let door = Door { data, admin: free_address()?, open: is_open };
        drop(held);
        let log = directory.join(format!("gateway-{number}.log"));
        let config = directory.join(format!("gateway-{number}.yaml"));
        fs::write(&config, CONFIG)?;
        let directory = directory.join(format!("gateway-{number}"));
        fs::create_dir(&directory)?;
        Ok(Self { directory, config, log, door, open, child: None })
    }

    /// Where it is.
    pub fn door(&self) -> &Door {
        &self.door
    }

    /// Starts the process.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&mut self, house: &House) -> Result<(), String> {
        let told = |error: io::Error| format!("the gateway cannot be started: {error}");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).map_err(told)?;
        let mut serve = Command::new(&house.binary);
        serve
            .args(["serve", "--listen", &self.door.data.to_string()])
            .args(["--admin-listen", &self.door.admin.to_string(), "--data-dir"])
            .arg(&self.directory)
            // The machine's own settings must not reach it.
            .env_clear()
            .env("KEYSTILE_CONFIG", &self.config)
            .env("KEYSTILE_EGRESS_ALLOW", house.oracle.to_string())
            .env("KEYSTILE_ADMIN_EMAIL", EMAIL)
            .env("KEYSTILE_ADMIN_PASSWORD", PASSWORD)
            .env("PROVIDER_KEY_ENCRYPTION_KEY", &house.master_key)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(told)?)
            .stderr(log)
            // Ctrl-C is for this program, which then ends its children itself.
            .process_group(0);
        if let Some(postgres) = &house.postgres {
            serve.env("KEYSTILE_DATABASE_URL", postgres);
        }
        self.child = Some(serve.spawn().map_err(told)?);
        Ok(())
    }

    /// Waits until `/ready` says yes. Answers how long that took from here.
    ///
    /// # Errors
    /// It ends instead, or is never ready.
    pub async fn ready(&mut self) -> Result<Duration, String> {
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.ended()? {
                return Err(format!("the gateway ended at its start with {status}\n{}", self.tail()));
            }
            if is_ready(self.door.admin).await {
                self.open.send_replace(true);
                return Ok(since.elapsed());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("the gateway is not ready after {PATIENCE:?}\n{}", self.tail()))
    }

    /// Sends it a signal. A gateway that has ended by itself is an error.
    ///
    /// # Errors
    /// It does not run.
    pub fn signal(&mut self, signal: Signal) -> Result<(), String> {
        if let Some(status) = self.ended()? {
            return Err(format!("the gateway ended by itself with {status}\n{}", self.tail()));
        }
        let Some(child) = &self.child else { return Err("the gateway does not run".to_owned()) };
        kill_process(Pid::from_child(child), signal)
            .map_err(|error| format!("the gateway gets no signal: {error}"))
    }

    /// Sends it a signal that ends it, and waits until it has. Answers how it ended.
    ///
    /// # Errors
    /// It does not run, or does not end.
    pub async fn end(&mut self, signal: Signal) -> Result<ExitStatus, String> {
        self.open.send_replace(false);
        self.signal(signal)?;
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if let Some(status) = self.ended()? {
                self.child = None;
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("the gateway does not end after {PATIENCE:?}\n{}", self.tail()))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        match &mut self.child {
            Some(child) => child.try_wait().map_err(|error| format!("the gateway is lost: {error}")),
            None => Ok(None),
        }
    }

    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Nothing is left to do about a process that is gone already.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

async fn is_ready(admin: SocketAddr) -> bool {
    let asked = async {
        let mut connection = Connection::open(admin).await?;
        connection.ask("GET", "/ready", "connection: close\r\n", "", None).await
    };
    matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(answer)) if answer.status == 200)
}

/// An address that is free now, and that no outgoing connection takes while its gateway is dead: below the ports that
/// the kernel gives to those.
fn free_address() -> io::Result<SocketAddr> {
    let mut seed = [0; 2];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    let start = u16::from_le_bytes(seed) % 10_000;
    (0..10_000)
        .map(|step| SocketAddr::from(([127, 0, 0, 1], 20_000 + (start + step) % 10_000)))
        .find(|address| TcpListener::bind(address).is_ok())
        .ok_or_else(|| io::Error::other("no port between 20000 and 30000 is free"))
}

/// A master key, such as `keystile master-key generate` makes.
pub fn master_key() -> io::Result<String> {
    use base64::{Engine, engine::general_purpose::URL_SAFE};
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(URL_SAFE.encode(bytes))
}

/// Builds the gateway, unless one is named. Answers where it is.
///
/// # Errors
/// It cannot be built.
pub fn binary(named: Option<PathBuf>) -> Result<PathBuf, String> {
    let told = |error: io::Error| format!("the gateway cannot be built: {error}");
    if let Some(named) = named {
        return named.canonicalize().map_err(|error| format!("{}: {error}", named.display()));
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--bin", "keystile", "--message-format", "json-render-diagnostics"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(told)?;
    let messages = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|message| message["executable"].as_str().map(PathBuf::from));
    executable.filter(|_| built.status.success()).ok_or_else(|| "the gateway cannot be built".to_owned())
}

/// Makes the file in which a run's settings are kept beside its logs.
///
/// # Errors
/// It cannot be written.
pub fn note(directory: &Path, text: &str) -> io::Result<()> {
    fs::write(directory.join("run"), text)
}
