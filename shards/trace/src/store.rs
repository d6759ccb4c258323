//! Where traces are kept: a directory, or in tests a store that can be slow or full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A store for files with plain names.
pub(crate) trait SegmentStore: Send {
    /// Creates a file.
    fn create(&mut self, name: &str) -> io::Result<Box<dyn SegmentFile>>;
    /// Returns the names of all files, in any order.
    fn names(&mut self) -> io::Result<Vec<String>>;
    /// Removes a file.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// A file that is written from front to back.
pub(crate) trait SegmentFile: Write + Send {
    /// Cuts the file to `bytes`. Writing continues there.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;
}

/// A directory of the file system.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl SegmentStore for Directory {
    fn create(&mut self, name: &str) -> io::Result<Box<dyn SegmentFile>> {
        // Readable by the owner only: the seed in a trace reveals the ids of its run.
        let options =
            OpenOptions::new().append(true).create_new(true).mode(0o600).open(self.0.join(name))?;
        Ok(Box::new(options))
    }

    fn names(&mut self) -> io::Result<Vec<String>> {
        let name =
            |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        fs::read_dir(&self.0)?.map(name).collect()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }
}

impl SegmentFile for File {
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}
