//! The log: lines on standard error or in a file, pretty for people or as JSON for machines.
//!
//! A caller only puts a line into a queue; a separate thread writes it. So a terminal that was
//! stopped with Ctrl-S, or a reader that hangs, never stops the music. A reader that is gone is not
//! an error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::collections::BTreeMap;
use std::fmt::{self, Arguments};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Record};

/// Maximum lines that wait to be written. Further lines are counted and lost.
const LINES_MAX: usize = 4_096;

/// Time that the end of the process waits for a slow reader.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// The running log.
pub struct Log {
    queue: Sender<Entry>,
}

enum Entry {
    Line {
        site: CallSite,
        line: String,
    },
    /// Write all lines before this, then answer.
    Flush(Sender<()>),
    /// The file was moved away: open a new one.
    Reopen,
}

/// The place in the program that a line comes from.
type CallSite = (&'static str, u32);

/// The queue of the running log, for signals and the monitor.
static QUEUE: OnceLock<Sender<Entry>> = OnceLock::new();

/// Lines that did not fit into the queue, or that the disk did not take.
static LOST: Lost = Lost { all: AtomicU64::new(0), unreported: AtomicU64::new(0) };

/// Counts lost lines.
struct Lost {
    all: AtomicU64,
    /// Lost lines that the log has not reported yet.
    unreported: AtomicU64,
}

impl Lost {
    fn add(&self, count: u64) {
        self.all.fetch_add(count, Ordering::Relaxed);
        self.unreported.fetch_add(count, Ordering::Relaxed);
    }
}

/// The state of the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backlog {
    /// Lines that wait to be written.
    pub waiting: usize,
    /// Lines that could wait.
    pub capacity: usize,
    /// Lines lost since the start.
    pub lost: u64,
}

/// Returns the state of the running log.
pub fn backlog() -> Backlog {
    let waiting = QUEUE.get().map_or(0, Sender::len);
    Backlog { waiting, capacity: LINES_MAX, lost: LOST.all.load(Ordering::Relaxed) }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Lines for people.
    Pretty,
    /// A JSON object a line.
    Json,
    /// Lines for people on a terminal, JSON elsewhere.
    JsonUnlessTerminal,
}

/// Minimum levels: one for all parts of the program, and others for single parts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Levels {
    /// The level of parts that are not named.
    pub all: LevelFilter,
    /// Levels of single parts, by the beginning of their names.
    pub parts: Vec<(String, LevelFilter)>,
}

impl Levels {
    /// Parses text such as `warn,bandsync_storage=debug`. Without a level for all parts, only the
    /// named parts log.
    pub fn parse(text: &str) -> Option<Self> {
        let mut levels = Self { all: LevelFilter::Off, parts: Vec::new() };
        let mut has_default = false;
        for item in text.split(',').map(str::trim) {
            match item.split_once('=') {
                Some((part, level)) => {
                    let known = |c: char| c.is_ascii_alphanumeric() || "_:-".contains(c);
                    let fits = !part.is_empty() && part.chars().all(known);
                    levels.parts.push((fits.then(|| part.to_owned())?, self::level(level)?));
                }
                None if has_default => return None,
                None => (has_default, levels.all) = (true, self::level(item)?),
            }
        }
        Some(levels)
    }
}

/// Parses a level in lower case, as the help has it.
fn level(text: &str) -> Option<LevelFilter> {
    LevelFilter::iter().find(|level| level.as_str().to_ascii_lowercase() == text)
}

/// Starts the log. From here on the macros of the `log` crate write to it.
///
/// # Errors
/// If the file cannot be opened.
pub fn start(levels: &Levels, format: LogFormat, file: Option<&Path>) -> io::Result<Log> {
    let (queue, entries) = bounded(LINES_MAX);
    let mut sink = Sink::open(file)?;
    let terminal = file.is_none() && io::stderr().is_terminal();
    let style = Style::choose(format, terminal, std::env::var_os("NO_COLOR").is_some());
    let writer = move || write_all(&entries, &LOST, style, &mut sink);
    std::thread::Builder::new().name("log".into()).spawn(writer)?;
    let log = Log { queue: queue.clone() };
    // Only the first log of a process can be reopened; there is only one.
    let _ = QUEUE.set(queue.clone());
    let mut dispatch = fern::Dispatch::new()
        .level(levels.all)
        // At this level the poll library reports every system call, which would drown our own
        // lines.
        .level_for("mio", levels.all.min(LevelFilter::Info));
    for (part, level) in &levels.parts {
        dispatch = dispatch.level_for(part.clone(), *level);
    }
    let dispatch = dispatch
        .format(move |out, message, record| {
            out.finish(format_args!("{}", style.line(SystemTime::now(), record, message)));
        })
        .chain(fern::Output::call(move |record| {
            let site = (
                record.module_path_static().unwrap_or_default(),
                record.line().unwrap_or_default(),
            );
            let entry = Entry::Line { site, line: record.args().to_string() };
            if let Err(TrySendError::Full(_)) = queue.try_send(entry) {
                LOST.add(1);
            }
        }));
    if let Err(error) = dispatch.apply() {
        crate::ops::process::print_error(&format!("bandsync: cannot write the log: {error}"));
    }
    log_panics();
    Ok(log)
}

/// Reopens the log's file, if it has one.
pub fn reopen() {
    if let Some(queue) = QUEUE.get() {
        // Only the signals' thread waits here, and the writer always makes progress.
        let _ = queue.send(Entry::Reopen);
    }
}

/// The destination of lines.
trait Output: Write {
    /// Continues in a new file of the same name, if the destination is a file.
    fn reopen(&mut self) {}
}

/// The destination of lines.
enum Sink {
    /// Locked per line only: others write to standard error too.
    Stderr,
    File(PathBuf, File),
}

impl Sink {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stderr) };
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self::File(path.to_owned(), file))
    }
}

impl Output for Sink {
    /// If the new file cannot be opened, the old one is kept.
    fn reopen(&mut self) {
        if let Self::File(path, _) = self {
            match Self::open(Some(path)) {
                Ok(opened) => *self = opened,
                Err(error) => crate::ops::process::print_error(&format!(
                    "bandsync: cannot reopen the log's file: {error}"
                )),
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(bytes),
            Self::File(_, file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stderr => io::stderr().flush(),
            Self::File(_, file) => file.flush(),
        }
    }
}

impl Log {
    /// Waits until all lines so far are written, at most `FLUSH_TIMEOUT`.
    pub fn flush(&self) {
        let (written, wait) = bounded(1);
        if self.queue.try_send(Entry::Flush(written)).is_ok() {
            // The process is about to end, so a timeout makes no difference.
            let _ = wait.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Logs panics with their place and thread.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        // A backtrace exists if RUST_BACKTRACE asks for it.
        match Backtrace::capture() {
            trace if trace.status() == BacktraceStatus::Captured => {
                log::error!("thread {name} {panic}\n{trace}")
            }
            _ => log::error!("thread {name} {panic}"),
        }
    }));
}

/// Writes lines until the last sender is gone. Lines that a full disk does not take are counted,
/// and reported once it takes lines again.
fn write_all(entries: &Receiver<Entry>, lost: &Lost, style: Style, sink: &mut impl Output) {
    let mut repeats = Repeats::default();
    let mut patience = Instant::now();
    loop {
        let entry = match entries.recv_timeout(REPEATS_WINDOW) {
            Ok(entry) => Some(entry),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if patience.elapsed() >= REPEATS_WINDOW {
            patience = Instant::now();
            for line in repeats.end_window() {
                write_line(sink, &style.own_line(&line), lost);
            }
        }
        match entry {
            Some(Entry::Line { site, line }) if repeats.allow(site) => {
                write_line(sink, &line, lost)
            }
            Some(Entry::Line { .. }) => {}
            Some(Entry::Flush(written)) => {
                let _ = sink.flush();
                let _ = written.send(());
            }
            Some(Entry::Reopen) => sink.reopen(),
            None => {}
        }
        let count = lost.unreported.load(Ordering::Relaxed);
        if count > 0 {
            let line = format!(
                "{count} lines of the log were lost: they came faster than they could be written, or the disk was full"
            );
            if put_line(sink, &style.own_line(&line)).is_ok() {
                lost.unreported.fetch_sub(count, Ordering::Relaxed);
            }
        }
    }
}

/// Writes a line, or counts it as lost.
fn write_line(sink: &mut impl Write, line: &str, lost: &Lost) {
    if put_line(sink, line).is_err() {
        lost.add(1);
    }
}

/// Writes a line in one call, so that lines of other programs do not mix with it.
fn put_line(sink: &mut impl Write, line: &str) -> io::Result<()> {
    sink.write_all(format!("{line}\n").as_bytes())
}

/// Time for which lines of one call site are counted, and how many of them are written in that time.
const REPEATS_WINDOW: Duration = Duration::from_secs(1);
const REPEATS_MAX: u32 = 100;

/// Counts lines by their call site, so that a line that is logged a thousand times a second does not
/// drown others.
#[derive(Default)]
struct Repeats(BTreeMap<CallSite, u32>);

impl Repeats {
    fn allow(&mut self, site: CallSite) -> bool {
        let count = self.0.entry(site).or_default();
        *count = count.saturating_add(1);
        *count <= REPEATS_MAX
    }

    /// Starts a new window, and reports the lines that were left out.
    fn end_window(&mut self) -> Vec<String> {
        let counts = std::mem::take(&mut self.0).into_iter();
        let over = counts.filter(|(_, count)| *count > REPEATS_MAX);
        over.map(|((module, line), count)| {
            format!("{} more lines from {module}:{line} were left out", count - REPEATS_MAX)
        })
        .collect()
    }
}

/// The form of lines.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Style {
    Coloured,
    Plain,
    /// A JSON object per line.
    Json,
}

impl Style {
    fn choose(format: LogFormat, terminal: bool, no_colour: bool) -> Self {
        let json = match format {
            LogFormat::Json => true,
            LogFormat::Pretty => false,
            LogFormat::JsonUnlessTerminal => !terminal,
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
                let colour = colour(level);
                let (shard, fields) = (Shard::current(), Fields::of(record));
                format!("{time} \x1b[{colour}m{level:5}\x1b[0m {shard}{message}{fields}")
            }
            Self::Plain => {
                format!("{time} {level:5} {}{message}{}", Shard::current(), Fields::of(record))
            }
            Self::Json => {
                json_line(&time, level, record.target(), &message.to_string(), Fields::of(record))
            }
        }
    }

    /// Returns a line of the log about itself.
    fn own_line(self, message: &str) -> String {
        let (time, level) = (Timestamp(SystemTime::now()), Level::Warn);
        match self {
            Self::Json => {
                json_line(&time, level, "bandsync::ops::logging", message, Fields::default())
            }
            Self::Coloured | Self::Plain => format!("{time} {level:5} {message}"),
        }
    }
}

/// The ANSI colour of a level's name on a terminal.
fn colour(level: Level) -> u8 {
    match level {
        Level::Error => 31,
        Level::Warn => 33,
        Level::Info => 32,
        Level::Debug => 34,
        Level::Trace => 35,
    }
}

/// Prints one object: `time, level, target`, then `shard, conn, session` and other fields if there
/// are any, then `msg`.
fn json_line(time: &Timestamp, level: Level, target: &str, msg: &str, fields: Fields) -> String {
    let mut cells: Vec<(String, serde_json::Value)> = vec![
        ("time".into(), time.to_string().into()),
        ("level".into(), level.as_str().into()),
        ("target".into(), target.into()),
    ];
    cells.extend(Shard::current().0.map(|shard| ("shard".into(), shard.into())));
    // A field must not replace one that every line has.
    let own = ["time", "level", "target", "shard", "msg"];
    cells.extend(fields.0.into_iter().filter(|(name, _)| !own.contains(&name.as_str())));
    cells.push(("msg".into(), msg.into()));
    let cells: Vec<String> = cells
        .into_iter()
        .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name)))
        .collect();
    format!("{{{}}}", cells.join(","))
}

/// The shard of the current thread, if it has one.
struct Shard(Option<u16>);

impl Shard {
    fn current() -> Self {
        let thread = std::thread::current();
        Self(thread.name().and_then(|name| name.strip_prefix("shard-")?.parse().ok()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |shard| write!(f, "shard {shard}: "))
    }
}

/// The fields of a line, such as `conn` and `session`.
#[derive(Default)]
struct Fields(Vec<(String, serde_json::Value)>);

impl Fields {
    fn of(record: &Record<'_>) -> Self {
        let mut fields = Self::default();
        // The visitor below never fails.
        let _ = record.key_values().visit(&mut fields);
        fields
    }
}

impl<'kvs> VisitSource<'kvs> for Fields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let number = value.to_u64().map(serde_json::Value::from);
        self.0.push((key.as_str().to_owned(), number.unwrap_or_else(|| value.to_string().into())));
        Ok(())
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

/// A point in time, printed in UTC as RFC 3339, with milliseconds.
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

/// The Gregorian date of a day, counted from 1970-01-01. Years start in March here, so that the
/// leap day is the last of its year and the lengths of months follow one formula.
fn date(day: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468;
    const DAYS_IN_400_YEARS: u64 = 146_097;
    let day = day + DAYS_TO_1970;
    let (era, day) = (day / DAYS_IN_400_YEARS, day % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) =
        (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
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
    fn logs_are_json_unless_they_go_to_a_terminal() {
        let choose = |format, terminal| Style::choose(format, terminal, false);
        assert_eq!(choose(LogFormat::JsonUnlessTerminal, false), Style::Json);
        assert_eq!(choose(LogFormat::JsonUnlessTerminal, true), Style::Coloured);
        assert_eq!(choose(LogFormat::Pretty, false), Style::Plain);
        assert_eq!(choose(LogFormat::Pretty, true), Style::Coloured);
        assert_eq!(choose(LogFormat::Json, true), Style::Json);
        assert_eq!(Style::choose(LogFormat::Pretty, true, true), Style::Plain);
    }

    #[test]
    fn on_a_terminal_only_the_level_is_coloured() {
        for (level, expected) in
            [(Level::Error, "\x1b[31mERROR\x1b[0m"), (Level::Info, "\x1b[32mINFO \x1b[0m")]
        {
            let record = Record::builder().level(level).build();
            let line = Style::Coloured.line(UNIX_EPOCH, &record, &format_args!("ready"));
            assert_eq!(line, format!("1970-01-01T00:00:00.000Z {expected} ready"));
        }
    }

    #[test]
    fn a_json_line_is_one_object_on_one_line() {
        let record = Record::builder().level(log::Level::Warn).target("bandsync").build();
        let line =
            Style::Json.line(UNIX_EPOCH, &record, &format_args!("two\nlines and a \"quote\""));
        let expected = r#"{"time":"1970-01-01T00:00:00.000Z","level":"WARN","target":"bandsync","msg":"two\nlines and a \"quote\""}"#;
        assert_eq!(line, expected);
    }

    #[test]
    fn a_json_line_carries_its_shard_and_its_fields() {
        let on_shard = std::thread::Builder::new().name("shard-3".into()).spawn(|| {
            let fields = [
                ("conn", 7_u64.into()),
                ("session", Value::from("rehearsal")),
                ("level", Value::from("x")),
            ];
            let record =
                Record::builder().level(log::Level::Info).target("t").key_values(&fields).build();
            let message = "joined";
            (
                Style::Json.line(UNIX_EPOCH, &record, &format_args!("{message}")),
                Style::Plain.line(UNIX_EPOCH, &record, &format_args!("{message}")),
            )
        });
        let (json, plain) = on_shard.unwrap().join().unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = serde_json::json!({"time": "1970-01-01T00:00:00.000Z", "level": "INFO", "target": "t", "shard": 3,
            "conn": 7, "session": "rehearsal", "msg": "joined"});
        assert_eq!(json, expected);
        assert!(
            plain.ends_with(r#"INFO  shard 3: joined conn=7 session="rehearsal" level="x""#),
            "{plain}"
        );
    }

    #[test]
    fn levels_are_set_for_all_or_for_single_crates() {
        let levels = Levels::parse("warn,bandsync_storage=debug, bandsync_driver=off").unwrap();
        assert_eq!(levels.all, LevelFilter::Warn);
        let parts =
            [("bandsync_storage", LevelFilter::Debug), ("bandsync_driver", LevelFilter::Off)];
        assert!(levels.parts.iter().map(|(part, level)| (part.as_str(), *level)).eq(parts));
        assert_eq!(Levels::parse("bandsync=trace").unwrap().all, LevelFilter::Off);
        for wrong in ["", "loud", "warn,info", "WARN", "=warn", "a=loud", "a b=warn", "warn,"] {
            assert_eq!(Levels::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn repeated_log_lines_are_limited_per_source_line() {
        let mut repeats = Repeats::default();
        let written = (0..REPEATS_MAX + 50).filter(|_| repeats.allow(("flood", 1))).count();
        assert_eq!(written, REPEATS_MAX as usize);
        assert!(repeats.allow(("flood", 2)));
        assert_eq!(repeats.end_window(), ["50 more lines from flood:1 were left out"]);
        assert!(repeats.allow(("flood", 1)), "the next second has its own limit");
        assert_eq!(repeats.end_window(), [""; 0]);
    }

    #[test]
    fn a_renamed_log_file_is_reopened() {
        let folder = std::env::temp_dir().join(format!("bandsync-log-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (path, old) = (folder.join("log"), folder.join("log.1"));
        let mut sink = Sink::open(Some(&path)).unwrap();
        let (queue, entries) = bounded(8);
        queue.send(line("before")).unwrap();
        let (written, wait) = bounded(1);
        queue.send(Entry::Flush(written)).unwrap();
        let writer =
            std::thread::spawn(move || write_all(&entries, &NOTHING_LOST, Style::Plain, &mut sink));
        wait.recv().unwrap();
        std::fs::rename(&path, &old).unwrap();
        queue.send(Entry::Reopen).unwrap();
        queue.send(line("after")).unwrap();
        drop(queue);
        writer.join().unwrap();
        assert_eq!(std::fs::read_to_string(&old).unwrap(), "before\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        std::fs::remove_dir_all(&folder).unwrap();
    }

    static NOTHING_LOST: Lost = Lost { all: AtomicU64::new(0), unreported: AtomicU64::new(0) };

    fn line(text: &str) -> Entry {
        Entry::Line { site: ("", 0), line: text.into() }
    }

    /// A disk that is full for the first writes.
    struct Disk {
        full_for: u32,
        text: String,
    }

    impl Output for Disk {}

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.full_for > 0 {
                self.full_for -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.text.push_str(std::str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_lost_on_a_full_disk_are_counted_and_reported_later() {
        let lost = Lost { all: AtomicU64::new(0), unreported: AtomicU64::new(0) };
        // Each lost line is written and reported, so three lines are six writes.
        let mut disk = Disk { full_for: 6, text: String::new() };
        let (queue, entries) = bounded(8);
        for text in ["one", "two", "three", "four"] {
            queue.send(line(text)).unwrap();
        }
        drop(queue);
        write_all(&entries, &lost, Style::Plain, &mut disk);
        let lines: Vec<&str> = disk.text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (2, "four"));
        assert!(lines[1].contains("WARN  3 lines of the log were lost"), "{}", lines[1]);
        assert_eq!((lost.all.into_inner(), lost.unreported.into_inner()), (3, 0));
    }
}
