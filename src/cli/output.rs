//! Tables for people, JSON for programs.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

use serde::Serialize;

/// Nobody reads standard output any more, as after `| head`. No failure: whoever it was has seen enough.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

/// Writes `text` to standard output as it is.
pub(super) fn text(text: &str) -> anyhow::Result<()> {
    write(&mut io::stdout().lock(), text)
}

/// Writes a line to standard output.
pub(super) fn line(text: impl Display) -> anyhow::Result<()> {
    write(&mut io::stdout().lock(), &format!("{text}\n"))
}

/// Writes a line to standard error, for people; a closed one is nobody's loss.
pub(super) fn note(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(out: &mut impl Write, text: &str) -> anyhow::Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("standard output cannot be written")),
        Ok(()) => Ok(()),
    }
}

/// Prints `value` as JSON, one document.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// A table whose columns are as wide as their widest cell.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With a heading.
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self::of(heading.map(str::to_owned).to_vec())
    }

    /// With a heading whose length is known only now.
    pub(super) fn of(heading: Vec<String>) -> Self {
        Self { rows: vec![heading] }
    }

    /// Adds a row.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }

    /// Adds a row of as many cells as the heading has.
    pub(super) fn cells(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text. Control characters in names are shown, not obeyed.
    pub(super) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let visible = |text: &str| -> String {
            text.chars()
                .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
                .collect()
        };
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| visible(cell)).collect()).collect();
        let width = |column: usize| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            let line: Vec<String> =
                row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            text.push_str(line.join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints it; says so on standard error when there is nothing but a heading.
    pub(super) fn print(&self) -> anyhow::Result<()> {
        text(&self.render())?;
        if self.rows.len() == 1 && io::stderr().is_terminal() {
            note("(none)");
        }
        Ok(())
    }
}

/// `-` for what is not set.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_told_from_a_disk_that_is_full() {
        struct Out(io::ErrorKind);

        impl Write for Out {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        assert!(write(&mut Out(io::ErrorKind::BrokenPipe), "x").expect_err("closed").is::<Closed>());
        assert!(!write(&mut Out(io::ErrorKind::StorageFull), "x").expect_err("full").is::<Closed>());
        write(&mut Vec::new(), "x").expect("written");
    }

    #[test]
    fn columns_line_up_and_control_characters_are_shown() {
        let mut table = Table::new(["id", "name"]);
        table.row(["1".into(), "a\u{1b}[31mb".into()]);
        table.row(["22".into(), "c".into()]);
        assert_eq!(table.render(), "id  name\n1   a\\u{1b}[31mb\n22  c\n");
    }
}
