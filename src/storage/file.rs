//! Sessions in one file of the machine that the server runs on.
//!
//! The file is [redb](https://docs.rs/redb)'s: in Rust alone, copy-on-write, so that neither `kill -9` nor a loss
//! of power leaves half a change behind, and one `fsync` for a whole batch. A second server on the same file is
//! kept out by a lock of the operating system.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bandsync_engine::words::ids::SessionId;
use log::{error, info};
use redb::{Database, DatabaseError, Error, ReadableDatabase, ReadableTable, StorageError, TableDefinition};

use super::{Applied, Backend, Change, Failure, Point};

/// The name of the file.
const NAME: &str = "bandsync.redb";

/// Rises when the tables change their meaning.
const FORMAT: u64 = 1;

/// The format, under `format`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// By session id: the record's epoch and version, and its bytes.
const SESSIONS: TableDefinition<'_, &str, (u64, u64, &[u8])> = TableDefinition::new("sessions");

/// Records that could not be read, by session id.
const ASIDE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("quarantine");

/// Measurements, by Unix milliseconds and metric.
const HISTORY: TableDefinition<'_, (i64, &str), f64> = TableDefinition::new("history");

/// Memory for pages of the file: sessions are written more than read.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// The file.
pub struct Store {
    directory: Option<PathBuf>,
    ttl: Duration,
    open: Option<Database>,
    /// Device and number of the file that is open.
    inode: Option<(u64, u64)>,
    /// Sessions of earlier runs that nobody has come back to yet. Time during which no server runs does not
    /// count, or a band that packs up after the sound check would begin the evening without its set list.
    strangers: BTreeSet<SessionId>,
    strangers_expire: Option<Instant>,
}

impl Store {
    pub(super) fn new(directory: Option<PathBuf>, ttl: Duration) -> Self {
        Self { directory, ttl, open: None, inode: None, strangers: BTreeSet::new(), strangers_expire: None }
    }

    fn database(&self) -> Result<&Database, Failure> {
        self.open.as_ref().ok_or_else(|| Failure::Unavailable("the file is not open".into()))
    }

    /// Opens the file, and sets one that is damaged aside.
    fn open_file(&self, path: &Path) -> Result<Database, Failure> {
        // Passcodes and PINs are in it as they are, so nobody else may read it.
        let create = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        create().map_err(|error| trouble(path, &error))?;
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
        let damage = match builder.create(path) {
            Ok(database) => return Ok(database),
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                let reason = format!(
                    "{} is in use by another BandSync on this machine; end that one, or give this one a place of \
                     its own with --data",
                    path.display()
                );
                return Err(Failure::Unavailable(reason));
            }
            Err(DatabaseError::Storage(StorageError::Io(error)))
                if error.kind() != ErrorKind::InvalidData =>
            {
                return Err(trouble(path, &error));
            }
            Err(error) => error,
        };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let aside = path.with_extension(format!("redb.damaged-{seconds}"));
        fs::rename(path, &aside).map_err(|error| trouble(path, &error))?;
        error!(
            "{} is damaged ({damage}): it is now {}, and sessions begin anew",
            path.display(),
            aside.display()
        );
        create().map_err(|error| trouble(path, &error))?;
        builder.create(path).map_err(|error| failure(&error.into()))
    }

    /// Makes sure that the tables are there and mean what we think, and that the file can be written to.
    fn prepare(database: &Database, path: &Path) -> Result<BTreeSet<SessionId>, Failure> {
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
                let mut known = BTreeSet::new();
                for entry in write.open_table(SESSIONS)?.iter()? {
                    known.extend(SessionId::parse(entry?.0.value()));
                }
                known
            };
            write.commit()?;
            Ok(Ok(known))
        };
        prepare().map_err(|error| failure(&error))?.map_err(|format| {
            Failure::Newer(format!(
                "{} was made by a later version of BandSync (format {format}, this one knows {FORMAT}). Start that \
                 version, give this one another place with --data, or start it with --storage memory",
                path.display()
            ))
        })
    }
}

impl Backend for Store {
    fn connect(&mut self) -> Result<(), Failure> {
        // The lock goes with the database, so it must be gone before it is taken again.
        self.open = None;
        let Some(directory) = &self.directory else {
            let reason =
                "there is no place for it: neither HOME nor XDG_DATA_HOME is set; name one with --data";
            return Err(Failure::Unavailable(reason.into()));
        };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| trouble(directory, &error))?;
        let path = directory.join(NAME);
        let database = self.open_file(&path)?;
        let known = Self::prepare(&database, &path)?;
        if self.strangers_expire.is_none() {
            info!("{} has {} sessions", path.display(), known.len());
            self.strangers = known;
            self.strangers_expire = Some(Instant::now() + self.ttl);
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
        // One transaction: all or nothing.
        match self.database().and_then(|database| apply(database).map_err(|error| failure(&error))) {
            Ok(applied) => {
                for (session, _) in changes {
                    self.strangers.remove(session);
                }
                applied.into_iter().map(Ok).collect()
            }
            Err(failure) => changes.iter().map(|_| Err(failure.clone())).collect(),
        }
    }

    /// What is in this server's memory never expires here.
    fn refresh(&mut self, _sessions: &[SessionId]) -> Result<bool, Failure> {
        Ok(true)
    }

    /// A file that was removed, or replaced by another, takes what is written with it when it is closed.
    fn check(&mut self) -> Result<bool, Failure> {
        let Some(directory) = &self.directory else { return Ok(true) };
        let path = directory.join(NAME);
        match fs::metadata(&path) {
            Ok(there) if Some((there.dev(), there.ino())) == self.inode => Ok(true),
            Ok(_) => Err(Failure::Unavailable(format!("{} was replaced by another file", path.display()))),
            Err(error) => Err(trouble(&path, &error)),
        }
    }

    fn expire(&mut self) -> Result<(), Failure> {
        if self.strangers.is_empty() || self.strangers_expire.is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let old: Vec<_> = std::mem::take(&mut self.strangers).into_iter().collect();
        info!("{} sessions that nobody came back to are forgotten", old.len());
        let delete = |session| (session, Change::Delete { epoch: u64::MAX });
        let deleted = self.apply(&old.into_iter().map(delete).collect::<Vec<_>>());
        deleted.into_iter().collect::<Result<Vec<_>, _>>().map(|_| ())
    }

    fn copy_aside(&mut self, session: &SessionId) -> Result<(), Failure> {
        let copy_aside = |database: &Database| -> Result<(), Error> {
            let write = database.begin_write()?;
            if let Some(entry) = write.open_table(SESSIONS)?.get(session.as_str())? {
                write.open_table(ASIDE)?.insert(session.as_str(), entry.value().2)?;
            }
            write.commit()?;
            Ok(())
        };
        copy_aside(self.database()?).map_err(|error| failure(&error))
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

fn failure(error: &Error) -> Failure {
    match error {
        Error::Io(error) => Failure::Unavailable(said(error)),
        error => Failure::Unavailable(error.to_string()),
    }
}

fn trouble(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Unavailable(format!("{}: {}", path.display(), said(error)))
}

/// What an error of the operating system means to a person.
fn said(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            "the disk is full; make room, and storing goes on by itself".into()
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "it may not be written to; permit it, or name another directory with --data".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Place, Plan, Storage, Waiting, Weight};
    use super::*;

    /// A directory that goes with the test.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("bandsync-file-{name}-{}", std::process::id()));
            // It is not there, unless an earlier run of the same number was killed.
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
            // What is left is in the system's directory for what is left.
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

    #[test]
    fn what_looks_newer_stays() {
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
    fn a_later_format_is_refused_and_not_touched() {
        let directory = Directory::new("format");
        drop(directory.store(HOUR));
        let path = directory.0.join(NAME);
        let database = Database::create(&path).unwrap();
        let write = database.begin_write().unwrap();
        write.open_table(META).unwrap().insert("format", FORMAT + 1).unwrap();
        write.commit().unwrap();
        drop(database);
        let place = Place::File(Some(directory.0.clone()));
        let refused = Storage::open(&Plan { place, ttl: HOUR, wait: HOUR }).err().unwrap();
        assert!(refused.contains("later version") && refused.contains("--data"), "{refused}");
        let database = Database::create(&path).unwrap();
        let table = database.begin_read().unwrap().open_table(META).unwrap();
        assert_eq!(table.get("format").unwrap().unwrap().value(), FORMAT + 1);
        assert!(fs::read_dir(&directory.0).unwrap().count() == 1, "it is not set aside");
    }

    #[test]
    fn sessions_that_nobody_comes_back_to_expire_and_no_others() {
        let directory = Directory::new("expire");
        let mut store = directory.store(HOUR);
        for session in ["gone", "back", "read"] {
            apply(&mut store, session, put(1, 1));
        }
        // None that was written in this run ever does.
        store.strangers_expire = Some(Instant::now());
        store.expire().unwrap();
        drop(store);
        let mut store = directory.store(Duration::ZERO);
        apply(&mut store, "back", put(2, 1));
        store.expire().unwrap();
        let left = ["gone", "back", "read"].map(|session| store.load(&id(session)).unwrap().is_some());
        assert_eq!(left, [false, true, false]);
    }

    #[test]
    fn a_copy_set_aside_stays_when_the_record_goes() {
        let directory = Directory::new("aside");
        let mut store = directory.store(HOUR);
        apply(&mut store, "s", put(1, 7));
        store.copy_aside(&id("s")).unwrap();
        store.copy_aside(&id("nobody")).unwrap();
        apply(&mut store, "s", Change::Delete { epoch: u64::MAX });
        let database = store.open.as_ref().unwrap();
        let table = database.begin_read().unwrap().open_table(ASIDE).unwrap();
        assert_eq!(table.get("s").unwrap().unwrap().value(), [1, 7]);
        assert!(table.get("nobody").unwrap().is_none());
    }

    #[test]
    fn points_are_kept_for_their_time() {
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
    fn a_file_that_is_gone_or_another_is_noticed() {
        let directory = Directory::new("gone");
        let mut store = directory.store(HOUR);
        assert_eq!(store.check(), Ok(true));
        fs::remove_file(directory.0.join(NAME)).unwrap();
        assert!(store.check().is_err());
        fs::write(directory.0.join(NAME), b"another").unwrap();
        assert!(store.check().is_err());
    }
}
