//! A gateway in a process of its own, which can be killed.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{
    Reply, Setup, Stream, VirtualKey, eventually,
    gateway::{chat_request, http_client},
    soon,
};

/// `keystile serve`, as an operator would start it. Killed when it is dropped.
pub struct Process {
    child: Mutex<Child>,
    address: String,
    admin_address: String,
    http: reqwest::Client,
    log: TempDir,
}

impl Process {
    /// Starts one with the database, the keys, the data directory and the providers of `setup`, and waits until it
    /// listens.
    pub async fn serve(setup: &Setup) -> Self {
        Self::serve_as(setup, None).await
    }

    /// The same as another user.
    pub async fn serve_as(setup: &Setup, user: Option<u32>) -> Self {
        let config = &setup.config;
        let allowed: Vec<String> =
            config.egress_allow.iter().map(|allowed| format!("{}:{}", allowed.host, allowed.port)).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystile"));
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"])
            .arg(&config.server.data_dir)
            .env_clear()
            .env("KEYSTILE_EGRESS_ALLOW", allowed.join(","));
        if let Some(url) = &config.database_url {
            command.env("KEYSTILE_DATABASE_URL", url.0.as_str());
        }
        if let [key, ..] = config.vault.master_keys.as_slice() {
            command.env("PROVIDER_KEY_ENCRYPTION_KEY", key.0.as_str());
        }
        if let Some(user) = user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
        }
        Self::start(command).await
    }

    /// Starts what `command` says, and waits until it listens.
    pub async fn start(mut command: Command) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log: PathBuf = dir.path().join("log");
        let file = File::create(&log).expect("a log");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log")).stderr(file);
        let child = Mutex::new(command.spawn().expect("a process"));
        let (address, admin_address) = eventually("the process to listen", || async {
            let said = fs::read_to_string(&log).expect("a log");
            let ended = child.lock().expect("no panic").try_wait().expect("a process");
            assert!(ended.is_none(), "it ended: {said}");
            let (_, rest) = said.split_once("applications call http://")?;
            let (data, rest) = rest.split_once("/v1")?;
            let (_, rest) = rest.split_once("admin plane: http://")?;
            let admin = rest.split_once(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'))?.0;
            Some((data.to_owned(), admin.to_owned()))
        })
        .await;
        Self { child, address, admin_address, http: http_client(), log: dir }
    }

    /// The admin plane's base URL.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address)
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log.path().join("log")).expect("a log")
    }

    /// Tells it to read its configuration anew.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn request(&self, key: &VirtualKey, more: Value) -> reqwest::RequestBuilder {
        self.http
            .post(format!("http://{}/v1/chat/completions", self.address))
            .bearer_auth(&key.key)
            .header("content-type", "application/json")
            .body(chat_request(more))
    }

    /// A chat with these members beside `model` and `messages`.
    pub async fn chat(&self, key: &VirtualKey, more: Value) -> Reply {
        Reply::read(soon("an answer", self.request(key, more).send()).await.expect("an answer")).await
    }

    /// A chat whose answer is read as it comes.
    pub async fn stream(&self, key: &VirtualKey, mut more: Value) -> Stream {
        more["stream"] = true.into();
        Stream::new(soon("the head of an answer", self.request(key, more).send()).await.expect("an answer"))
    }

    /// `/ready` on the admin plane.
    pub async fn ready(&self) -> Reply {
        let asked = self.http.get(format!("http://{}/ready", self.admin_address)).send();
        Reply::read(soon("an answer", asked).await.expect("an answer")).await
    }

    /// Which process it is.
    pub fn id(&self) -> u32 {
        self.child.lock().expect("no panic").id()
    }

    /// Stands still until [`Process::go_on`].
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.lock().expect("no panic");
        kill_process(Pid::from_child(&child), signal).expect("a process");
    }

    /// SIGABRT, and how it ended.
    pub fn abort(self) -> std::process::ExitStatus {
        self.signal(Signal::ABORT);
        self.child.lock().expect("no panic").wait().expect("it ends")
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        // One that has ended by itself is only waited for.
        let _ = child.kill();
        let _ = child.wait();
    }
}
