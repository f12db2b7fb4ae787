//! Processes beside the loader: started, told apart by what the kernel knows of them, and ended with the loader.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The kernel counts processor time for `/proc` in hundredths of a second, whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);
/// How long a process may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a process may take to go by itself.
const FAREWELL: Duration = Duration::from_secs(10);

/// A process that is ended when this is dropped.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Process {
    /// This very program in another role; it says on its first line where it listens.
    pub fn in_role(arguments: &[&str]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            // The other end closes when the loader is gone, however it went; the role ends by that.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(address) => Ok(Self { child, address }),
            Err(_) => {
                child.kill().ok();
                child.wait()?;
                Err(io::Error::other(format!("`{}` did not say where it listens", arguments.join(" "))))
            }
        }
    }

    /// Another program that will listen at `address`; waits until it does, and at `others` as well.
    pub fn listening_at(
        mut command: Command,
        address: SocketAddr,
        others: &[SocketAddr],
    ) -> io::Result<Self> {
        let mut process = Self { child: command.spawn()?, address };
        let until = Instant::now() + PATIENCE;
        let all = || [address].into_iter().chain(others.iter().copied());
        while all().any(|each| TcpStream::connect(each).is_err()) {
            if let Some(status) = process.child.try_wait()? {
                return Err(io::Error::other(format!("{} ended with {status}", shown(&command))));
            }
            if Instant::now() > until {
                return Err(io::Error::other(format!("{} does not listen at {address}", shown(&command))));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Processor time of it and its children so far, user and system.
    pub fn cpu(&self) -> io::Result<Duration> {
        let mut sum = cpu_of(self.id())?;
        let children =
            fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.id())).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|id| id.parse().ok()) {
            sum += cpu_of(child)?;
        }
        Ok(sum)
    }

    /// Memory of it alone, in KiB: `VmRSS` now, `VmHWM` at its highest.
    pub fn memory_kib(&self, what: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("the kernel does not tell `{what}`")))
    }

    /// Asks it to go, as an operator would, and waits. Answers whether it went well.
    pub fn stop(mut self) -> io::Result<bool> {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        let until = Instant::now() + FAREWELL;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(false)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing is left to do about a process that is gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn shown(command: &Command) -> String {
    format!("`{}`", command.get_program().to_string_lossy())
}

fn cpu_of(id: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name, in brackets, may contain anything; what follows it is numbers. User and system time are the 14th and
    // 15th of all members.
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u32 =
        after.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u32>().ok()).sum();
    Ok(TICK * ticks)
}

/// A loopback address that was free a moment ago.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// In a role: ends this process when the loader is gone.
pub fn end_with_parent() {
    std::thread::spawn(|| {
        let mut rest = Vec::new();
        io::stdin().read_to_end(&mut rest).ok();
        std::process::exit(0);
    });
}

/// The last lines of a log, for a message.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
