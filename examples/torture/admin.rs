//! The admin API, as a script speaks to it that does not give up: gateways go away under it all the time.

use std::{
    io,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    gateway::{Door, EMAIL, PASSWORD},
    http::Connection,
};

/// How long one call may be repeated.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long one try may take: a gateway may be stopped for two seconds.
const TRY: Duration = Duration::from_secs(30);
/// Before the next try, where a gateway answered that it cannot.
const BREATH: Duration = Duration::from_millis(50);

/// A session with whichever gateway answers.
pub struct Admin {
    doors: Vec<Door>,
    token: Mutex<String>,
}

impl Admin {
    /// Not logged in yet.
    pub fn new(doors: Vec<Door>) -> Self {
        Self { doors, token: Mutex::default() }
    }

    /// Calls until it is done: a call whose answer is lost is made again.
    ///
    /// # Errors
    /// It is refused, or nobody answers for too long.
    pub async fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let until = Instant::now() + PATIENCE;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut last = "nobody was there".to_owned();
        for door in self.doors.iter().cycle() {
            if Instant::now() > until {
                break;
            }
            if !*door.open.borrow() {
                tokio::time::sleep(BREATH / 10).await;
                continue;
            }
            let token = self.token.lock().await.clone();
            match ask(door, method, path, &token, &body).await {
                Ok((200..300, answer)) if answer.is_empty() => return Ok(Value::Null),
                Ok((200..300, answer)) => {
                    return serde_json::from_str(&answer)
                        .map_err(|error| format!("`{method} {path}` answered with no JSON: {error}"));
                }
                Ok((401, _)) => self.log_in(door).await,
                Ok((status @ 400..500, answer)) if status != 429 => {
                    return Err(format!("`{method} {path}` answered with {status}: {answer}"));
                }
                Ok((status, answer)) => {
                    last = format!("{status}: {answer}");
                    tokio::time::sleep(BREATH).await;
                }
                Err(error) => {
                    last = error.to_string();
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        Err(format!("`{method} {path}` is not answered: {last}"))
    }

    async fn log_in(&self, door: &Door) {
        let body = json!({ "email": EMAIL, "password": PASSWORD }).to_string();
        match ask(door, "POST", "/api/auth/login", "", &body).await {
            Ok((200, answer)) => {
                let session: Value = serde_json::from_str(&answer).unwrap_or_default();
                let token = session["token"].as_str().unwrap_or_default();
                token.clone_into(&mut *self.token.lock().await);
            }
            _ => tokio::time::sleep(BREATH).await,
        }
    }
}

async fn ask(door: &Door, method: &str, path: &str, token: &str, body: &str) -> io::Result<(u16, String)> {
    let mut head = "connection: close\r\n".to_owned();
    if !token.is_empty() {
        head.push_str(&format!("authorization: Bearer {token}\r\n"));
    }
    let asked = async {
        let mut connection = Connection::open(door.admin).await?;
        connection.ask(method, path, &head, body, None).await
    };
    let answer = tokio::time::timeout(TRY, asked).await.map_err(io::Error::other)??;
    if answer.end != super::http::End::Whole {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((answer.status, String::from_utf8_lossy(&answer.body).into_owned()))
}
