//! Secrets are typed at a prompt or piped in, never given as an argument, which every process could read.

use std::io::{self, IsTerminal, Read};

use anyhow::Context;
use zeroize::Zeroizing;

/// Reads a secret: from a prompt when a person sits there, else the first line of standard input.
pub(super) fn read(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    if io::stdin().is_terminal() {
        return Ok(Zeroizing::new(
            rpassword::prompt_password(prompt).context("the terminal cannot be read")?,
        ));
    }
    let mut text = Zeroizing::new(String::new());
    io::stdin().lock().take(64 * 1024).read_to_string(&mut text).context("standard input is not text")?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}
