//! Log lines: one event, one line, ours only.
//!
//! Events of our dependencies are dropped whatever the filter says, at every level: hyper, h2, reqwest, sqlx and rustls
//! write headers, bodies, statements and values at TRACE, and some of them put values into warnings and errors too
//! (a database's error names the row's content). What they have to say reaches our own events as an error's cause,
//! where it was looked at. Our own events have no field for content.
//!
//! Every line then passes two nets: control characters are escaped, so that no name a tenant chose can forge a line or
//! paint a terminal, and whatever looks like a credential is replaced and counted.

use std::{
    fmt::Write as _,
    io::{self, Write},
    panic,
};

use prometheus_client::metrics::counter::Counter;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::filter_fn,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
};

use super::{metrics::Metrics, scrub::scrub};
use crate::config::{LogFormat, Telemetry};

const OURS: &str = "keystile";

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error(
        "`KEYSTILE_LOG` is not a log filter; write a level such as `info`, or directives such as `keystile=debug`"
    )]
    Filter {
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Something else in this process has begun already.
    #[error("logging has begun already")]
    Begun,
}

/// Begins to write this process's log to its standard error, and makes panics part of it.
///
/// # Errors
/// For a filter that cannot be read, and when called twice.
pub fn start(settings: &Telemetry, metrics: &Metrics) -> Result<(), LogError> {
    let subscriber = subscriber(settings, metrics, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::Begun)?;
    panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The log as a subscriber that writes to `writer`, as a test captures it.
///
/// # Errors
/// For a filter that cannot be read.
pub fn subscriber<W>(
    settings: &Telemetry,
    metrics: &Metrics,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder()
        // A directive may not carry a regular expression: nothing to search for in fields, and nothing to stall on.
        .with_regex(false)
        .parse(&settings.log_filter)
        .map_err(|source| LogError::Filter { source })?;
    // Colours are control characters, which this log has none of.
    let lines = fmt::layer()
        .with_ansi(false)
        .log_internal_errors(false)
        .with_writer(Lines { inner: writer, hits: metrics.scrubbed.clone() });
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match settings.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // The two outer filters are asked before an event is made: a dropped one costs nothing.
    Ok(Box::new(
        Registry::default().with(lines).with(filter_fn(|event| is_ours(event.target()))).with(filter),
    ))
}

fn is_ours(target: &str) -> bool {
    target.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// A panic is logged by its place alone: its message may quote the value that it stumbled over.
fn log_panic(info: &panic::PanicHookInfo<'_>) {
    log_panic_at(info.location());
}

fn log_panic_at(place: Option<&panic::Location<'_>>) {
    let (file, line) = place.map_or(("unknown", 0), |place| (place.file(), place.line()));
    tracing::error!(target: OURS, file, line, "a bug stopped a task; please report the place");
}

/// Makes writers that clean each line.
struct Lines<W> {
    inner: W,
    hits: Counter,
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Lines<W> {
    type Writer = Line<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line { inner: self.inner.make_writer(), hits: self.hits.clone() }
    }

    fn make_writer_for(&'a self, meta: &tracing::Metadata<'_>) -> Self::Writer {
        Line { inner: self.inner.make_writer_for(meta), hits: self.hits.clone() }
    }
}

/// Writes one event. The formatter hands over a whole event in one call, and so a credential is never cut in two.
struct Line<W> {
    inner: W,
    hits: Counter,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let (clean, hits) = scrub(text.strip_suffix('\n').unwrap_or(&text));
        if hits > 0 {
            self.hits.inc_by(hits);
        }
        let mut line = escape(&clean);
        line.push('\n');
        self.inner.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Control characters, line separators and those that turn the direction of text, as escapes that JSON knows.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 1);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c if c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}') =>
            {
                // All of them are in the first plane. Writing to a string does not fail.
                let _ = write!(escaped, "\\u{:04x}", u32::from(c));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn lines(&self) -> Vec<String> {
            let bytes = self.0.lock().unwrap().clone();
            String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Captured {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn log(filter: &str, log_format: LogFormat, events: impl FnOnce()) -> (Vec<String>, u64) {
        let metrics = Metrics::new([], []);
        let captured = Captured::default();
        let settings = Telemetry { log_filter: filter.into(), log_format };
        let subscriber = subscriber(&settings, &metrics, captured.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        (captured.lines(), metrics.scrubbed.get())
    }

    #[test]
    fn only_our_own_events_are_written_whatever_the_filter() {
        for filter in ["trace", "hyper=trace,sqlx=trace", "keystile=trace,hyper=trace,[span]=trace"] {
            let (lines, _) = log(filter, LogFormat::Text, || {
                tracing::trace!(target: "hyper::proto", "canary");
                tracing::error!(target: "sqlx::query", "canary");
                tracing::error!(target: "keystilex", "canary");
                tracing::warn!(target: "rustls", "canary");
                let _span = tracing::info_span!(target: "reqwest", "span", value = "canary").entered();
                tracing::info!(target: "keystile::gateway", "ours");
            });
            assert!(lines.iter().all(|line| !line.contains("canary")), "{lines:?}");
        }
    }

    #[test]
    fn the_filter_chooses_among_our_own() {
        let (lines, _) = log("info,keystile::vault=debug", LogFormat::Text, || {
            tracing::debug!(target: "keystile::gateway", "too fine");
            tracing::info!(target: "keystile::gateway", "said");
            tracing::debug!(target: "keystile::vault", "fine");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("said") && lines[1].contains("fine"));
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let settings = Telemetry { log_filter: "keystile=loud".into(), log_format: LogFormat::Text };
        let refused = subscriber(&settings, &Metrics::new([], []), io::sink).map(drop);
        assert!(matches!(refused, Err(LogError::Filter { .. })));
    }

    #[test]
    fn hostile_names_stay_on_their_line() {
        let name = "a\nERROR keystile: forged\r\u{1b}[31m\u{7}\u{0}\u{9b}\u{2028}\u{202e}\"}\t{";
        for format in [LogFormat::Text, LogFormat::Json] {
            let (lines, _) = log("info", format, || {
                tracing::info!(target: "keystile", name, debugged = ?name, "named {name}");
                let _span = tracing::info_span!(target: "keystile", "span", name).entered();
                tracing::info!(target: "keystile", %name, "in a span");
            });
            assert_eq!(lines.len(), 2, "{lines:?}");
            assert!(
                lines
                    .iter()
                    .all(|line| !line.chars().any(|c| c.is_control() || c == '\u{2028}' || c == '\u{202e}'))
            );
        }
    }

    #[test]
    fn json_lines_are_json_and_keep_what_was_said() {
        let name = "a\nb\u{9b}\"\\";
        let (lines, _) = log("info", LogFormat::Json, || {
            tracing::info!(target: "keystile::gateway", request_id = "req_1", name, "done");
        });
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["message"], "done");
        assert_eq!(line["request_id"], "req_1");
        assert_eq!(line["name"], name);
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "keystile::gateway");
    }

    #[test]
    fn credentials_are_caught_and_counted() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let (lines, hits) = log("info", format, || {
                tracing::info!(target: "keystile", key = "sk-canary-0123456789", "Bearer canary0123456789");
                tracing::info!(target: "keystile", "nothing to see");
            });
            assert_eq!(hits, 2);
            assert!(!lines.concat().contains("canary"), "{lines:?}");
            assert!(lines[0].contains("[scrubbed]"));
        }
    }

    #[test]
    fn a_panic_is_logged_by_its_place_only() {
        let (lines, _) = log("info", LogFormat::Text, || {
            log_panic_at(Some(panic::Location::caller()));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("logs.rs"), "{lines:?}");
    }
}
