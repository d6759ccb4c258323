//! The log: lines on standard error, pretty for people or as JSON for machines.
//!
//! Whoever logs only puts a line into a queue; a thread of its own writes it. A terminal that was stopped with
//! Ctrl-S or a reader that hangs therefore never stops the music, and one that went away is no error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::{self, Arguments};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fern::colors::{Color, ColoredLevelConfig};
use log::{LevelFilter, Record};
use serde::Serialize;

use crate::config::{LogFormat, Profile};

/// Lines that may wait to be written; what comes when the queue is full is counted and lost.
const LINES_MAX: usize = 4_096;

/// How long the end of the process waits for a reader that does not read.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The running log.
pub struct Log {
    queue: SyncSender<Entry>,
}

enum Entry {
    Line(String),
    /// All lines before are to be written, then to be answered.
    Flush(Sender<()>),
}

/// Starts the log. From here on the macros of the `log` crate write to it.
pub fn start(level: LevelFilter, format: LogFormat, profile: Profile) -> Log {
    let (queue, entries) = sync_channel(LINES_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let terminal = io::stderr().is_terminal();
    let style = Style::choose(format, profile, terminal, std::env::var_os("NO_COLOR").is_some());
    let writer = {
        // Locked line by line only: others have to get at standard error too.
        let lost = Arc::clone(&lost);
        move || write_all(&entries, &lost, &mut io::stderr())
    };
    if let Err(error) = std::thread::Builder::new().name("log".into()).spawn(writer) {
        crate::process::complain(&format!("bandsync: no log: {error}"));
    }
    let log = Log { queue: queue.clone() };
    let dispatch = fern::Dispatch::new()
        .level(level)
        // The poll library tells every system call at this level; that drowns what we say ourselves.
        .level_for("mio", level.min(LevelFilter::Info))
        .format(move |out, message, record| {
            out.finish(format_args!("{}", style.line(SystemTime::now(), record, message)));
        })
        .chain(fern::Output::call(move |record| {
            if let Err(TrySendError::Full(_)) = queue.try_send(Entry::Line(record.args().to_string())) {
                lost.fetch_add(1, Ordering::Relaxed);
            }
        }));
    if let Err(error) = dispatch.apply() {
        crate::process::complain(&format!("bandsync: no log: {error}"));
    }
    log_panics();
    log
}

impl Log {
    /// Waits a moment until what was logged so far is written.
    pub fn flush(&self) {
        let (written, wait) = channel();
        if self.queue.try_send(Entry::Flush(written)).is_ok() {
            // Whether it was in time makes no difference now: the process is about to end.
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// A panic is told in the log as everything else, with the place and the thread.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        // There is one if RUST_BACKTRACE asks for it.
        match Backtrace::capture() {
            trace if trace.status() == BacktraceStatus::Captured => {
                log::error!("thread {name} {panic}\n{trace}")
            }
            _ => log::error!("thread {name} {panic}"),
        }
    }));
}

/// Writes lines until nobody can log any more. Errors are not told: there is no place left to tell them.
fn write_all(entries: &Receiver<Entry>, lost: &AtomicU64, out: &mut impl Write) {
    while let Ok(entry) = entries.recv() {
        match entry {
            Entry::Line(line) => {
                let _ = writeln!(out, "{line}");
            }
            Entry::Flush(written) => {
                let _ = out.flush();
                let _ = written.send(());
            }
        }
        match lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => {
                log::warn!("{lines} lines of the log were lost: they came faster than they could be written")
            }
        }
    }
}

/// How lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Coloured,
    Plain,
    Json,
}

impl Style {
    fn choose(format: LogFormat, profile: Profile, terminal: bool, no_colour: bool) -> Self {
        let json = match format {
            LogFormat::Json => true,
            LogFormat::Pretty => false,
            LogFormat::Auto => !terminal && profile == Profile::Production,
        };
        match (json, terminal && !no_colour) {
            (true, _) => Self::Json,
            (false, true) => Self::Coloured,
            (false, false) => Self::Plain,
        }
    }

    fn line(self, now: SystemTime, record: &Record<'_>, message: &Arguments<'_>) -> String {
        let (time, level) = (Timestamp(now), record.level());
        match self {
            Self::Coloured => {
                let colours =
                    ColoredLevelConfig::new().info(Color::Green).debug(Color::Blue).trace(Color::Magenta);
                format!("{time} {:5} {message}", colours.color(level))
            }
            Self::Plain => format!("{time} {level:5} {message}"),
            Self::Json => {
                let (time, msg) = (time.to_string(), message.to_string());
                let line =
                    JsonLine { time: &time, level: level.as_str(), target: record.target(), msg: &msg };
                serde_json::to_string(&line).unwrap_or(msg)
            }
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: &'a str,
    level: &'a str,
    target: &'a str,
    msg: &'a str,
}

/// A point in time, shown in UTC as RFC 3339 has it, with milliseconds.
pub struct Timestamp(pub SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since_epoch = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (since_epoch.as_secs(), since_epoch.subsec_millis());
        let (year, month, day) = date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is
/// the last of its year and the lengths of months follow one formula.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let day = day + DAYS_TO_1970;
    let (era, day) = (day / DAYS_IN_400_YEARS, day % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check_time(unix_seconds: u64, expected: &str) {
        assert_eq!(Timestamp(UNIX_EPOCH + Duration::from_secs(unix_seconds)).to_string(), expected);
    }

    #[test]
    fn times_are_shown_as_rfc_3339() {
        check_time(0, "1970-01-01T00:00:00.000Z");
        check_time(951_782_400, "2000-02-29T00:00:00.000Z");
        check_time(1_709_251_199, "2024-02-29T23:59:59.000Z");
        check_time(1_709_251_200, "2024-03-01T00:00:00.000Z");
        check_time(4_107_542_399, "2100-02-28T23:59:59.000Z");
        check_time(4_107_542_400, "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn machines_get_json_and_people_do_not() {
        use Profile::{Development, Production};
        assert_eq!(Style::choose(LogFormat::Auto, Production, false, false), Style::Json);
        assert_eq!(Style::choose(LogFormat::Auto, Production, true, false), Style::Coloured);
        assert_eq!(Style::choose(LogFormat::Auto, Development, false, false), Style::Plain);
        assert_eq!(Style::choose(LogFormat::Pretty, Production, false, false), Style::Plain);
        assert_eq!(Style::choose(LogFormat::Json, Development, true, false), Style::Json);
        assert_eq!(Style::choose(LogFormat::Auto, Development, true, true), Style::Plain);
    }

    #[test]
    fn a_json_line_is_one_object_on_one_line() {
        let record = Record::builder().level(log::Level::Warn).target("bandsync").build();
        let line = Style::Json.line(UNIX_EPOCH, &record, &format_args!("two\nlines and a \"quote\""));
        let expected = r#"{"time":"1970-01-01T00:00:00.000Z","level":"WARN","target":"bandsync","msg":"two\nlines and a \"quote\""}"#;
        assert_eq!(line, expected);
    }

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_closed_pipe_does_not_stop_the_log() {
        let (queue, entries) = sync_channel(4);
        let (written, wait) = channel();
        queue.send(Entry::Line("into the void".into())).unwrap();
        queue.send(Entry::Flush(written)).unwrap();
        drop(queue);
        write_all(&entries, &AtomicU64::new(0), &mut ClosedPipe);
        assert_eq!(wait.try_recv(), Ok(()));
    }
}
