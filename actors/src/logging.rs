//! Logs: structured, on standard error, for people or one JSON object a line. Writing never holds up
//! an actor: records go through a queue to a thread, and what does not fit is dropped and counted.

use std::io::LineWriter;

use quantum_config::settings::{CniServerConfig, LogFormat, LogLevel};
use slog::{Drain, FnValue, Level, Logger, Record, o};

/// How many records may wait for the writer.
const QUEUE: usize = 8192;

/// The root of all loggers.
pub(crate) fn logger(settings: &CniServerConfig) -> Logger {
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
            let decorator = slog_term::TermDecorator::new().stderr().build();
            let drain = slog_term::FullFormat::new(decorator).build().fuse();
            let queue = slog_async::Async::new(drain).chan_size(QUEUE).build();
            Logger::root(queue.filter_level(level).fuse(), o!())
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
            let queue = slog_async::Async::new(drain).chan_size(QUEUE).build();
            Logger::root(queue.filter_level(level).fuse(), o!())
        }
    }
}

/// Seconds since 1970, with microseconds.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map(|d| d.as_micros() as f64 / 1e6).unwrap_or_default()
}
