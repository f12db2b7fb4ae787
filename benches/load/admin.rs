//! The admin plane as an operator's script speaks to it: JSON there, JSON back, one connection a call.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::{Value, json};

/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session of the first admin.
pub struct Admin {
    address: SocketAddr,
    token: String,
}

impl Admin {
    /// Logs in.
    pub fn log_in(address: SocketAddr, email: &str, password: &str) -> Result<Self, String> {
        let mut admin = Self { address, token: String::new() };
        let session =
            admin.call("POST", "/api/auth/login", &json!({ "email": email, "password": password }))?;
        admin.token = session["token"].as_str().ok_or("logging in gave no token")?.to_owned();
        Ok(admin)
    }

    /// Calls `path`; anything but success is an error.
    pub fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("authorization: Bearer {}\r\n", self.token);
        let head = if self.token.is_empty() { "" } else { &head };
        let (status, answer) = ask(self.address, method, path, head, &body)
            .map_err(|error| format!("`{method} {path}` has no answer: {error}"))?;
        if !(200..300).contains(&status) {
            return Err(format!("`{method} {path}` answered with {status}: {answer}"));
        }
        serde_json::from_str(&answer)
            .map_err(|error| format!("`{method} {path}` answered with no JSON: {error}"))
    }
}

/// Asks once, on a connection of its own. Answers status and body.
pub fn ask(
    address: SocketAddr,
    method: &str,
    path: &str,
    head: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         {head}content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}
