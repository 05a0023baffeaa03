//! Logs: structured, on standard error, for people or one JSON object a line. Writing never holds up
//! an actor: records go through a queue to a thread, and what does not fit is dropped and counted.
//!
//! What is in a record was often chosen by others, and is logged before it is checked. In JSON it cannot be
//! taken for something else; for people it is escaped, all of it in one place.

use std::io::{self, LineWriter, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use quantum_cni::printable::printable;
use quantum_config::settings::{CniServerConfig, LogFormat, LogLevel};
use slog::{Drain, FnValue, Level, Logger, OwnedKVList, Record, o};
use slog_async::AsyncGuard;
use slog_term::{Decorator, RecordDecorator};

/// How many records may wait for the writer.
const QUEUE: usize = 8192;

/// How long the last records have to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is to be waited for before the process ends: the records in the queue.
pub(crate) struct Written(AsyncGuard);

impl Written {
    /// Returns when all is written, or nobody takes it.
    pub(crate) fn wait(self) {
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            drop(self.0);
            let _ = tell.send(());
        });
        let _ = told.recv_timeout(PATIENCE);
    }
}

/// The root of all loggers.
pub(crate) fn logger(settings: &CniServerConfig) -> (Logger, Written) {
    let level = match settings.log_level {
        LogLevel::Critical => Level::Critical,
        LogLevel::Error => Level::Error,
        LogLevel::Warning => Level::Warning,
        LogLevel::Info => Level::Info,
        LogLevel::Debug => Level::Debug,
    };
    // Levels are sorted out before the queue: a record nobody wants costs nanoseconds.
    match settings.log_format {
        LogFormat::Terminal => {
            let decorator = Escaping(slog_term::TermDecorator::new().stderr().build());
            let drain = slog_term::FullFormat::new(decorator).build().fuse();
            let (queue, guard) = slog_async::Async::new(drain).chan_size(QUEUE).build_with_guard();
            (Logger::root(queue.filter_level(level).fuse(), o!()), Written(guard))
        }
        LogFormat::Json => {
            // The formatter writes field by field.
            let lines = LineWriter::new(std::io::stderr());
            let drain = slog_json::Json::new(lines)
                .add_key_value(o!(
                    "msg" => FnValue(|r: &Record<'_>| r.msg().to_string()),
                    "level" => FnValue(|r: &Record<'_>| r.level().as_str().to_lowercase()),
                    "ts" => FnValue(|_: &Record<'_>| now()),
                ))
                .build()
                .fuse();
            let (queue, guard) = slog_async::Async::new(drain).chan_size(QUEUE).build_with_guard();
            (Logger::root(queue.filter_level(level).fuse(), o!()), Written(guard))
        }
    }
}

/// Seconds since 1970, with microseconds.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|d| d.as_micros() as f64 / 1e6).unwrap_or_default()
}

/// Writes messages, keys and values so that a record is one line, and nothing but a line.
struct Escaping<D>(D);

impl<D: Decorator> Decorator for Escaping<D> {
    fn with_record<F>(&self, record: &Record<'_>, values: &OwnedKVList, write: F) -> io::Result<()>
    where
        F: FnOnce(&mut dyn RecordDecorator) -> io::Result<()>,
    {
        self.0.with_record(record, values, |inner| {
            write(&mut EscapingRecord { inner, is_ours: true })
        })
    }
}

/// One record.
struct EscapingRecord<'a> {
    inner: &'a mut dyn RecordDecorator,
    /// What is written now is between the parts of a record: a space, or the end of its line.
    is_ours: bool,
}

impl Write for EscapingRecord<'_> {
    /// Texts come whole: the formatter writes what `fmt` gives it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_ours {
            self.inner.write_all(bytes)?;
        } else {
            let text = String::from_utf8_lossy(bytes);
            self.inner.write_all(printable(&text).as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Each part of a record is others' but what stands between two.
macro_rules! parts {
    ($($start:ident is ours: $is_ours:literal),*) => {
        $(fn $start(&mut self) -> io::Result<()> {
            self.is_ours = $is_ours;
            self.inner.$start()
        })*
    };
}

impl RecordDecorator for EscapingRecord<'_> {
    parts! {
        reset is ours: false,
        start_whitespace is ours: true,
        start_msg is ours: false,
        start_timestamp is ours: false,
        start_level is ours: false,
        start_comma is ours: false,
        start_key is ours: false,
        start_value is ours: false,
        start_location is ours: false,
        start_separator is ours: false
    }
}
