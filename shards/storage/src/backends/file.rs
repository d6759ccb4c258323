//! Sessions in one file of the server's machine.
//!
//! The format is [redb](https://docs.rs/redb): written in Rust, and copy-on-write, so that neither
//! `kill -9` nor a power loss leaves half a change, with one `fsync` per batch. A lock of the
//! operating system keeps a second server out.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::words::ids::SessionId;
use log::{error, info, warn};
use redb::{Database, DatabaseError, Error, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Applied, Aside, Backend, Change, Failure};
use crate::series::Point;

/// The name of the file.
const NAME: &str = "bandsync.redb";

/// Version of the tables' meaning.
const FORMAT: u64 = 1;

/// The format, under `format`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// By session id: epoch and version of the record, and its bytes.
const SESSIONS: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("sessions");

/// Unreadable records, by session id.
const ASIDE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("quarantine");

/// Unix milliseconds at which a record was set aside, by session id.
const ASIDE_SINCE: TableDefinition<'_, &str, u64> = TableDefinition::new("quarantine_since");

/// Time that records and files stay set aside, in milliseconds: a week, as in Redis.
const ASIDE_KEPT_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// Suffix of a file that was set aside, before the Unix time in seconds.
const DAMAGED: &str = "redb.damaged-";

/// Measurements, by Unix milliseconds and metric.
const HISTORY: TableDefinition<'_, (i64, &str), f64> = TableDefinition::new("history");

/// Cache for pages of the file. Small, because sessions are written more than read.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The file.
pub struct Store {
    directory: Option<PathBuf>,
    ttl: Duration,
    open: Option<Database>,
    /// Device and number of the file that is open.
    inode: Option<(u64, u64)>,
    /// Sessions of earlier runs that no member has returned to. Time without a running server does
    /// not count: otherwise a band that packs up after the sound check would start the evening
    /// without its set list.
    unclaimed: BTreeSet<SessionId>,
    unclaimed_expire: Option<Instant>,
}

impl Store {
    pub(crate) fn new(directory: Option<PathBuf>, ttl: Duration) -> Self {
        Self {
            directory,
            ttl,
            open: None,
            inode: None,
            unclaimed: BTreeSet::new(),
            unclaimed_expire: None,
        }
    }

    fn database(&self) -> Result<&Database, Failure> {
        self.open.as_ref().ok_or_else(|| Failure::Unavailable("the file is not open".into()))
    }

    /// Opens the file and reads the names of its sessions. A damaged file is set aside, and a new
    /// one is created.
    fn open_file(path: &Path) -> Result<(Database, BTreeSet<SessionId>), Failure> {
        let damage = match Self::open_once(path) {
            Err(Trouble::Damage(damage)) => damage,
            Err(Trouble::Failure(failure)) => return Err(failure),
            Ok(opened) => return Ok(opened),
        };
        let aside = path.with_extension(format!("{DAMAGED}{}", unix_millis() / 1_000));
        fs::rename(path, &aside).map_err(|error| trouble(path, &error))?;
        error!(
            "{} is damaged ({damage}): renamed to {}, which is kept for a week; starting with an empty file",
            path.display(),
            aside.display()
        );
        Self::open_once(path).map_err(|again| match again {
            Trouble::Failure(failure) => failure,
            Trouble::Damage(damage) => {
                Failure::Unavailable(format!("{}: {damage}", path.display()))
            }
        })
    }

    fn open_once(path: &Path) -> Result<(Database, BTreeSet<SessionId>), Trouble> {
        let failed = |error| Trouble::Failure(trouble(path, &error));
        // The file holds passcodes and PINs in plain text, so only its owner may read it.
        let is_new = !path.exists();
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(PRIVATE).open(path);
        let there = file.and_then(|file| file.metadata()).map_err(failed)?;
        make_private(path);
        if there.len() == 0 && !is_new {
            warn!("{} is empty: starting without sessions", path.display());
        }
        let open = || {
            let mut builder = Database::builder();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            let database = builder.create(path).map_err(|error| opening(path, error))?;
            let known = Self::prepare(&database, path)?;
            Ok((database, known))
        };
        // redb should not panic over any bytes. If it does, treat them as damaged.
        let panicked = |_| Err(Trouble::Damage("reading it failed with a bug".into()));
        catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(panicked)
    }

    /// Deletes files that were set aside more than a week ago, and keeps the others private.
    fn tidy_up(directory: &Path) {
        // A directory that cannot be read is reported when its file is opened.
        let Ok(entries) = fs::read_dir(directory) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let since = name.strip_prefix("bandsync.").and_then(|rest| rest.strip_prefix(DAMAGED));
            let Some(since) = since.and_then(|seconds| seconds.parse::<u64>().ok()) else {
                continue;
            };
            if since.saturating_mul(1_000).saturating_add(ASIDE_KEPT_MS) > unix_millis() {
                make_private(&path);
                continue;
            }
            match fs::remove_file(&path) {
                Ok(()) => info!("{} was set aside a week ago: deleted", path.display()),
                Err(error) => warn!("cannot delete {}: {}", path.display(), os_error_text(&error)),
            }
        }
    }

    /// Checks that the tables exist and have our format, and that the file can be written to.
    fn prepare(database: &Database, path: &Path) -> Result<BTreeSet<SessionId>, Trouble> {
        let prepare = || -> Result<Result<BTreeSet<SessionId>, u64>, Error> {
            let write = database.begin_write()?;
            let known = {
                let mut meta = write.open_table(META)?;
                let format = meta.get("format")?.map_or(FORMAT, |format| format.value());
                if format > FORMAT {
                    return Ok(Err(format));
                }
                meta.insert("format", FORMAT)?;
                write.open_table(HISTORY)?;
                write.open_table(ASIDE)?;
                write.open_table(ASIDE_SINCE)?;
                let mut known = BTreeSet::new();
                for entry in write.open_table(SESSIONS)?.iter()? {
                    known.extend(SessionId::parse(entry?.0.value()));
                }
                known
            };
            write.commit()?;
            Ok(Ok(known))
        };
        prepare().map_err(|error| reading(path, error))?.map_err(|format| {
            Trouble::Failure(Failure::Newer(format!(
                "{} was made by a later version of BandSync (format {format}, this one knows {FORMAT}). Start that \
                 version, give this one another directory with --data, or start it with --storage memory",
                path.display()
            )))
        })
    }
}

impl Backend for Store {
    fn connect(&mut self) -> Result<(), Failure> {
        // The lock belongs to the database, so drop it before taking it again.
        self.open = None;
        let Some(directory) = &self.directory else {
            let reason = "no directory was found for it: neither HOME nor XDG_DATA_HOME is set; name one with --data";
            return Err(Failure::Unavailable(reason.into()));
        };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| trouble(directory, &error))?;
        let path = directory.join(NAME);
        let (database, known) = Self::open_file(&path)?;
        Self::tidy_up(directory);
        if self.unclaimed_expire.is_none() {
            info!("{} has {} sessions", path.display(), known.len());
            self.unclaimed = known;
            self.unclaimed_expire = Some(Instant::now() + self.ttl);
        }
        let there = fs::metadata(&path).map_err(|error| trouble(&path, &error))?;
        self.inode = Some((there.dev(), there.ino()));
        self.open = Some(database);
        Ok(())
    }

    fn load(&mut self, session: &SessionId) -> Result<Option<Box<[u8]>>, Failure> {
        let load = |database: &Database| -> Result<_, Error> {
            let table = database.begin_read()?.open_table(SESSIONS)?;
            Ok(table.get(session.as_str())?.map(|entry| entry.value().2.into()))
        };
        load(self.database()?).map_err(|error| failure(&error))
    }

    fn apply(&mut self, changes: &[(SessionId, Change)]) -> Vec<Result<Applied, Failure>> {
        let apply = |database: &Database| -> Result<_, Error> {
            let write = database.begin_write()?;
            let mut applied = Vec::new();
            {
                let mut table = write.open_table(SESSIONS)?;
                for (session, change) in changes {
                    let key = session.as_str();
                    let there = table.get(key)?.map(|entry| (entry.value().0, entry.value().1));
                    let (Change::Put { epoch, .. } | Change::Delete { epoch }) = change;
                    let newer = match change {
                        Change::Put { epoch, version, .. } => {
                            there.filter(|there| *there > (*epoch, *version))
                        }
                        Change::Delete { .. } => there.filter(|there| there.0 > *epoch),
                    };
                    if let Some((epoch, _)) = newer {
                        applied.push(Applied::Outdated { epoch });
                        continue;
                    }
                    match change {
                        Change::Put { version, record, .. } => {
                            table.insert(key, (*epoch, *version, &record[..]))?;
                        }
                        Change::Delete { .. } => {
                            table.remove(key)?;
                        }
                    }
                    applied.push(Applied::Done);
                }
            }
            write.commit()?;
            Ok(applied)
        };
        // One transaction: all changes or none.
        match self.database().and_then(|database| apply(database).map_err(|error| failure(&error)))
        {
            Ok(applied) => {
                for (session, _) in changes {
                    self.unclaimed.remove(session);
                }
                applied.into_iter().map(Ok).collect()
            }
            Err(failure) => changes.iter().map(|_| Err(failure.clone())).collect(),
        }
    }

    /// Sessions in this server's memory never expire here.
    fn refresh(&mut self, _sessions: &[SessionId]) -> Result<bool, Failure> {
        Ok(true)
    }

    /// Checks that the open file is still in its directory. A file that was removed or replaced
    /// loses all that is written to it once it is closed.
    fn check(&mut self) -> Result<bool, Failure> {
        let Some(directory) = &self.directory else { return Ok(true) };
        let path = directory.join(NAME);
        match fs::metadata(&path) {
            Ok(there) if Some((there.dev(), there.ino())) == self.inode => Ok(true),
            Ok(_) => Err(Failure::Unavailable(format!(
                "{} was replaced by another file",
                path.display()
            ))),
            Err(error) => Err(trouble(&path, &error)),
        }
    }

    fn expire(&mut self) -> Result<(), Failure> {
        let now = unix_millis();
        expire_aside(self.database()?, now).map_err(|error| failure(&error))?;
        if let Some(directory) = &self.directory {
            Self::tidy_up(directory);
        }
        if self.unclaimed.is_empty() || self.unclaimed_expire.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let old: Vec<_> = std::mem::take(&mut self.unclaimed).into_iter().collect();
        info!("deleted {} sessions that no member returned to", old.len());
        let delete = |session| (session, Change::Delete { epoch: u64::MAX });
        let deleted = self.apply(&old.into_iter().map(delete).collect::<Vec<_>>());
        deleted.into_iter().collect::<Result<Vec<_>, _>>().map(|_| ())
    }

    fn set_aside(&mut self, session: &SessionId, how: Aside) -> Result<(), Failure> {
        let set_aside = |database: &Database| -> Result<(), Error> {
            let write = database.begin_write()?;
            {
                let mut sessions = write.open_table(SESSIONS)?;
                if let Some(entry) = sessions.get(session.as_str())? {
                    write.open_table(ASIDE)?.insert(session.as_str(), entry.value().2)?;
                    write.open_table(ASIDE_SINCE)?.insert(session.as_str(), unix_millis())?;
                }
                if how == Aside::Move {
                    sessions.remove(session.as_str())?;
                }
            }
            write.commit()?;
            Ok(())
        };
        set_aside(self.database()?).map_err(|error| failure(&error))?;
        if how == Aside::Move {
            self.unclaimed.remove(session);
        }
        Ok(())
    }

    fn add_points(&mut self, at: i64, points: &[Point], oldest: i64) -> Result<(), Failure> {
        let add = |database: &Database| -> Result<(), Error> {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(HISTORY)?;
                for (metric, value) in points {
                    table.insert((at, metric.as_str()), *value)?;
                }
                table.retain_in(..(oldest, ""), |_, _| false)?;
            }
            write.commit()?;
            Ok(())
        };
        add(self.database()?).map_err(|error| failure(&error))
    }

    fn points(&mut self, since: i64) -> Result<Vec<(i64, Point)>, Failure> {
        let read = |database: &Database| -> Result<_, Error> {
            let table = database.begin_read()?.open_table(HISTORY)?;
            let mut points = Vec::new();
            for entry in table.range((since, "")..)? {
                let (key, value) = entry?;
                let (at, metric) = key.value();
                points.push((at, (metric.to_owned(), value.value())));
            }
            Ok(points)
        };
        read(self.database()?).map_err(|error| failure(&error))
    }
}

/// Deletes records that were set aside more than a week before `now`. Earlier versions did not
/// record the time; for their records the week starts now.
fn expire_aside(database: &Database, now: u64) -> Result<(), Error> {
    let read = database.begin_read()?;
    let (aside, since) = (read.open_table(ASIDE)?, read.open_table(ASIDE_SINCE)?);
    let (mut old, mut unknown) = (Vec::new(), Vec::new());
    for entry in aside.iter()? {
        let session = entry?.0.value().to_owned();
        match since.get(session.as_str())?.map(|at| at.value()) {
            Some(at) if at.saturating_add(ASIDE_KEPT_MS) <= now => old.push(session),
            // A time in the future was recorded by a clock that was ahead.
            Some(at) if at <= now => {}
            _ => unknown.push(session),
        }
    }
    if old.is_empty() && unknown.is_empty() {
        return Ok(());
    }
    let write = database.begin_write()?;
    {
        let (mut aside, mut since) = (write.open_table(ASIDE)?, write.open_table(ASIDE_SINCE)?);
        for session in &old {
            aside.remove(session.as_str())?;
            since.remove(session.as_str())?;
        }
        for session in &unknown {
            since.insert(session.as_str(), now)?;
        }
    }
    write.commit()?;
    if !old.is_empty() {
        info!("deleted {} records that were set aside a week ago", old.len());
    }
    Ok(())
}

/// The reason why the file is not open.
enum Trouble {
    /// The bytes were not written by this program.
    Damage(String),
    Failure(Failure),
}

fn opening(path: &Path, error: DatabaseError) -> Trouble {
    match error {
        DatabaseError::DatabaseAlreadyOpen => Trouble::Failure(Failure::Unavailable(format!(
            "{} is in use by another BandSync on this machine; end that one, or give this one a place of its own with \
             --data",
            path.display()
        ))),
        error => reading(path, error.into()),
    }
}

/// Decides whether the bytes or the disk are at fault. A file that ends too early was cut short.
fn reading(path: &Path, error: Error) -> Trouble {
    match error {
        Error::Io(error)
            if ![ErrorKind::InvalidData, ErrorKind::UnexpectedEof].contains(&error.kind()) =>
        {
            Trouble::Failure(trouble(path, &error))
        }
        // The disk failed earlier, so the bytes are not at fault.
        error @ (Error::PreviousIo | Error::LockPoisoned(_)) => Trouble::Failure(failure(&error)),
        error => Trouble::Damage(error.to_string()),
    }
}

/// Mode of files with secrets: readable by their owner alone.
const PRIVATE: u32 = 0o600;

/// Makes a file readable by its owner alone.
fn make_private(path: &Path) {
    let private = fs::metadata(path).and_then(|there| {
        let is_open = there.permissions().mode() & 0o077 != 0;
        if is_open {
            fs::set_permissions(path, fs::Permissions::from_mode(PRIVATE))
        } else {
            Ok(())
        }
    });
    if let Err(error) = private {
        warn!(
            "{} holds passcodes and PINs, and other users may read it: {error}. Run chmod 600 on it as its owner",
            path.display()
        );
    }
}

fn unix_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn failure(error: &Error) -> Failure {
    match error {
        Error::Io(error) => Failure::Unavailable(os_error_text(error)),
        error => Failure::Unavailable(error.to_string()),
    }
}

fn trouble(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Unavailable(format!("{}: {}", path.display(), os_error_text(error)))
}

/// Explains an error of the operating system.
fn os_error_text(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "the disk is full; free some space, and storing continues by itself".into()
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "it may not be written to; permit writing, or name another directory with --data".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::waiting::{Waiting, Weight};
    use crate::{Plan, Storage, Target};

    /// A directory that is removed after the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("bandsync-file-{name}-{}", std::process::id()));
            // It exists only if an earlier run with the same number was killed.
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }

        fn store(&self, ttl: Duration) -> Store {
            let mut store = Store::new(Some(self.0.clone()), ttl);
            store.connect().unwrap();
            store
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            // A directory that remains is in the system's directory for temporary files.
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn id(name: &str) -> SessionId {
        SessionId::parse(name).unwrap()
    }

    fn put(epoch: u64, version: u64) -> Change {
        Change::Put {
            epoch,
            version,
            record: Waiting::new(Box::new([epoch as u8, version as u8]), &Weight::default()),
        }
    }

    fn apply(store: &mut Store, session: &str, change: Change) -> Applied {
        store.apply(&[(id(session), change)]).pop().unwrap().unwrap()
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Size of a page of the file, in bytes.
    const PAGE: usize = 4_096;

    #[test]
    fn a_newer_record_is_not_replaced() {
        let directory = Directory::new("newer");
        let mut store = directory.store(HOUR);
        assert_eq!(apply(&mut store, "s", put(2, 5)), Applied::Done);
        for (change, applied) in [
            (put(2, 4), Applied::Outdated { epoch: 2 }),
            (put(1, 9), Applied::Outdated { epoch: 2 }),
            (Change::Delete { epoch: 1 }, Applied::Outdated { epoch: 2 }),
            (put(2, 5), Applied::Done),
            (put(3, 1), Applied::Done),
        ] {
            assert_eq!(apply(&mut store, "s", change.clone()), applied, "{change:?}");
        }
        assert_eq!(store.load(&id("s")).unwrap().as_deref(), Some(&[3, 1][..]));
        assert_eq!(apply(&mut store, "s", Change::Delete { epoch: 3 }), Applied::Done);
        assert_eq!(store.load(&id("s")).unwrap(), None);
    }

    #[test]
    fn a_later_format_is_rejected_and_left_unchanged() {
        let directory = Directory::new("format");
        drop(directory.store(HOUR));
        let path = directory.0.join(NAME);
        let database = Database::create(&path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        write.commit().unwrap();
        drop(database);
        let target = Target::File(Some(directory.0.clone()));
        let plan = Plan { target, ttl: HOUR, wait: HOUR };
        let rejected = Storage::open(&plan).err().unwrap().to_string();
        assert!(rejected.contains("later version") && rejected.contains("--data"), "{rejected}");
        let database = Database::create(&path).unwrap();
        let table = database.begin_read().unwrap().open_table(META).unwrap();
        assert_eq!(table.get("format").unwrap().unwrap().value(), FORMAT + 1);
        assert!(fs::read_dir(&directory.0).unwrap().count() == 1, "it is not set aside");
    }

    #[test]
    fn only_sessions_not_written_since_the_start_expire() {
        let directory = Directory::new("expire");
        let mut store = directory.store(HOUR);
        for session in ["gone", "back", "read"] {
            apply(&mut store, session, put(1, 1));
        }
        // Sessions that were written in this run never expire.
        store.unclaimed_expire = Some(Instant::now());
        store.expire().unwrap();
        drop(store);
        let mut store = directory.store(Duration::ZERO);
        apply(&mut store, "back", put(2, 1));
        store.expire().unwrap();
        let left =
            ["gone", "back", "read"].map(|session| store.load(&id(session)).unwrap().is_some());
        assert_eq!(left, [false, true, false]);
    }

    #[test]
    fn a_record_set_aside_is_kept_for_a_week() {
        let directory = Directory::new("aside");
        let mut store = directory.store(HOUR);
        apply(&mut store, "s", put(1, 7));
        store.set_aside(&id("s"), Aside::Copy).unwrap();
        assert!(store.load(&id("s")).unwrap().is_some());
        store.set_aside(&id("s"), Aside::Move).unwrap();
        store.set_aside(&id("nobody"), Aside::Move).unwrap();
        assert_eq!(store.load(&id("s")), Ok(None));
        let database = store.open.as_ref().unwrap();
        let table = database.begin_read().unwrap().open_table(ASIDE).unwrap();
        assert_eq!(table.get("s").unwrap().unwrap().value(), [1, 7]);
        assert!(table.get("nobody").unwrap().is_none());
        // The week of a record from a version that recorded no time starts now.
        let write = database.begin_write().unwrap();
        write.open_table(ASIDE).unwrap().insert("older", &[1, 2][..]).unwrap();
        write.commit().unwrap();
        let left = |after: u64| {
            expire_aside(database, unix_millis() + after).unwrap();
            let table = database.begin_read().unwrap().open_table(ASIDE).unwrap();
            ["s", "older"].map(|session| table.get(session).unwrap().is_some())
        };
        assert_eq!(left(10_000), [true, true]);
        assert_eq!(left(ASIDE_KEPT_MS + 1_000), [false, true]);
        assert_eq!(left(ASIDE_KEPT_MS + 20_000), [false, false]);
        store.expire().unwrap();
    }

    #[test]
    fn files_are_private_and_damaged_ones_are_deleted_after_a_week() {
        let directory = Directory::new("private");
        drop(directory.store(HOUR));
        let now = unix_millis() / 1_000;
        let week = ASIDE_KEPT_MS / 1_000;
        let names = [
            NAME.to_owned(),
            format!("bandsync.{DAMAGED}{}", now - week - 1),
            format!("bandsync.{DAMAGED}{}", now - 60),
        ];
        for name in &names {
            let path = directory.0.join(name);
            if name != NAME {
                fs::write(&path, b"secret").unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        drop(directory.store(HOUR));
        let mode = |name: &String| {
            let there = fs::metadata(directory.0.join(name)).ok()?;
            Some(there.permissions().mode() & 0o777)
        };
        assert_eq!(names.each_ref().map(mode), [Some(0o600), None, Some(0o600)]);
    }

    /// A session and its record.
    type Stored = (SessionId, Box<[u8]>);

    /// Returns a file with sessions, as a server leaves it, and its sessions.
    fn filled(directory: &Directory) -> (Vec<u8>, Vec<Stored>) {
        let mut store = directory.store(HOUR);
        let records: Vec<(SessionId, Box<[u8]>)> = (0..40_u8)
            .map(|n| (id(&format!("band {n}")), vec![n; 40 + 60 * usize::from(n)].into()))
            .collect();
        for (session, record) in &records {
            let record = Waiting::new(record.clone(), &Weight::default());
            let put = Change::Put { epoch: 7, version: 3, record };
            assert_eq!(apply(&mut store, session.as_str(), put), Applied::Done);
        }
        store.add_points(1_000, &[("cpu".to_owned(), 1.0)], 0).unwrap();
        drop(store);
        (fs::read(directory.0.join(NAME)).unwrap(), records)
    }

    /// Opens the rest of a file. Either all sessions are in it, or it is set aside and the new file
    /// works.
    fn opens(
        directory: &Directory,
        bytes: &[u8],
        records: &[(SessionId, Box<[u8]>)],
        what: &str,
    ) -> bool {
        for entry in fs::read_dir(&directory.0).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        fs::write(directory.0.join(NAME), bytes).unwrap();
        let mut store = Store::new(Some(directory.0.clone()), HOUR);
        assert_eq!(store.connect(), Ok(()), "{what}");
        let is_aside = fs::read_dir(&directory.0).unwrap().count() == 2;
        if bytes.is_empty() {
            assert!(!is_aside, "{what}");
        }
        for (session, record) in records {
            let expected = (!is_aside && !bytes.is_empty()).then_some(record);
            assert_eq!(store.load(session).unwrap().as_ref(), expected, "{what}: {session:?}");
        }
        store.points(0).unwrap();
        assert_eq!(apply(&mut store, "new", put(1, 1)), Applied::Done, "{what}");
        is_aside
    }

    #[test]
    fn a_truncated_file_is_set_aside_as_damaged() {
        let directory = Directory::new("cut");
        let (whole, records) = filled(&directory);
        assert!(whole.len() > 10 * PAGE);
        let in_pages = (0..8).map(|page| page * PAGE + 1_000);
        for cut in (0..whole.len()).step_by(PAGE).chain(in_pages) {
            let is_aside = opens(&directory, &whole[..cut], &records, &format!("cut at {cut}"));
            assert!(is_aside || cut == 0, "cut at {cut}");
        }
        assert!(!opens(&directory, &whole, &records, "whole"));
    }

    #[test]
    fn a_flipped_bit_is_detected_or_harmless() {
        let directory = Directory::new("flip");
        let (whole, records) = filled(&directory);
        let mut found = 0;
        for (page, start) in (0..whole.len()).step_by(PAGE).enumerate() {
            // The beginning of a page describes it; the first page is the file's header.
            let is_used = whole[start..].iter().take(PAGE).any(|byte| *byte != 0);
            let indices: Vec<usize> = match page {
                0 => (0..320).step_by(3).collect(),
                _ if is_used => vec![0, 1, 77, 2_000],
                _ => vec![page % PAGE],
            };
            for index in indices {
                let mut bytes = whole.clone();
                bytes[start + index] ^= 1 << (index % 8);
                let what = format!("bit {} of byte {index} of page {page}", index % 8);
                found += usize::from(opens(&directory, &bytes, &records, &what));
            }
        }
        assert!(found > 100, "{found}");
    }

    #[test]
    fn points_are_kept_until_they_expire() {
        let directory = Directory::new("points");
        let mut store = directory.store(HOUR);
        for at in [1_000, 2_000, 3_000] {
            store.add_points(at, &[("cpu".to_owned(), at as f64)], at - 1_500).unwrap();
        }
        drop(store);
        let mut store = directory.store(HOUR);
        let times = |since, store: &mut Store| {
            store.points(since).unwrap().into_iter().map(|(at, _)| at).collect::<Vec<_>>()
        };
        assert_eq!(times(0, &mut store), [2_000, 3_000]);
        assert_eq!(times(2_001, &mut store), [3_000]);
    }

    #[test]
    fn a_deleted_or_replaced_file_is_detected() {
        let directory = Directory::new("gone");
        let mut store = directory.store(HOUR);
        assert_eq!(store.check(), Ok(true));
        fs::remove_file(directory.0.join(NAME)).unwrap();
        assert!(store.check().is_err());
        fs::write(directory.0.join(NAME), b"another").unwrap();
        assert!(store.check().is_err());
    }
}
