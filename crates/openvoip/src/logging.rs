//! Logs: to standard error, and if wanted to a file that cannot grow for ever.
//!
//! What is shown is set by a filter such as `info` or `info,openvoip=debug`, which can be changed while
//! the peer runs. `tracing` carries the lines; the filter is its `Targets`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

/// Name of the log file in the data directory.
pub const FILE_NAME: &str = "openvoip.log";

/// The running log.
#[derive(Clone, Debug)]
pub struct Logs {
    filter: reload::Handle<Targets, Registry>,
    configured: String,
    current: String,
}

impl Logs {
    /// Starts logging for the whole process; only once.
    ///
    /// `file` gives the path of the log file and the bytes after which it is rotated.
    pub fn start(level: &str, file: Option<(&Path, u64)>) -> Result<Logs, String> {
        let (filter, handle) = reload::Layer::new(targets(level)?);
        let colours = io::stderr().is_terminal();
        // A log that nobody reads any more (`openvoip up 2>&1 | head`) is no reason to end.
        let shown = fmt::layer().with_writer(io::stderr).with_ansi(colours).log_internal_errors(false);
        let kept = match file {
            Some((path, max_bytes)) => {
                let file = CappedFile::open(path, max_bytes)
                    .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
                Some(fmt::layer().with_writer(Mutex::new(file)).with_ansi(false))
            }
            None => None,
        };
        let both = shown.and_then(kept).with_filter(filter);
        tracing_subscriber::registry().with(both).try_init().map_err(|e| e.to_string())?;
        Ok(Logs { filter: handle, configured: level.to_owned(), current: level.to_owned() })
    }

    /// Changes what is shown; an empty level stands for the configured one.
    pub fn set(&mut self, level: &str) -> Result<(), String> {
        let level = if level.is_empty() { self.configured.clone() } else { level.to_owned() };
        let filter = targets(&level)?;
        self.filter.reload(filter).map_err(|e| e.to_string())?;
        self.current = level;
        Ok(())
    }

    /// What is shown.
    pub fn level(&self) -> &str {
        &self.current
    }
}

fn targets(level: &str) -> Result<Targets, String> {
    node::operator::check_log_filter(level)?;
    level.parse().map_err(|e| format!("'{level}' is not a log level: {e}"))
}

/// A file that becomes `NAME.1` when it has grown to its cap, in place of the one before.
#[derive(Debug)]
pub struct CappedFile {
    path: PathBuf,
    file: File,
    written: u64,
    cap: u64,
}

impl CappedFile {
    /// Opens a file to append to it; `cap` is in bytes.
    pub fn open(path: &Path, cap: u64) -> io::Result<CappedFile> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
        let written = file.metadata()?.len();
        Ok(CappedFile { path: path.to_owned(), file, written, cap })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.path.clone().into_os_string();
        old.push(".1");
        fs::rename(&self.path, old)?;
        *self = CappedFile::open(&self.path, self.cap)?;
        Ok(())
    }
}

impl Write for CappedFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.written > 0 && self.written + line.len() as u64 > self.cap {
            self.rotate()?;
        }
        let written = self.file.write(line)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_file_never_takes_more_than_twice_its_cap() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        for _restart in 0..2 {
            let mut file = CappedFile::open(&path, 1_000).unwrap();
            for n in 0..200 {
                writeln!(file, "line {n:020}").unwrap();
            }
        }
        let mut sizes: Vec<(String, u64)> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), e.metadata().unwrap().len()))
            .collect();
        sizes.sort();
        assert_eq!(sizes.len(), 2, "{sizes:?}");
        assert!(sizes.iter().all(|(_, len)| (1..=1_000).contains(len)), "{sizes:?}");
        let last = fs::read_to_string(&path).unwrap();
        assert!(last.ends_with("line 00000000000000000199\n"));
    }

    #[test]
    fn a_misspelt_level_is_refused_and_does_not_silence_the_log() {
        for good in ["off", "info", "warn,openvoip=debug"] {
            assert!(targets(good).is_ok(), "{good}");
        }
        for bad in ["dbug", "openvoip", "openvoip=loud", "", "info,"] {
            assert!(targets(bad).is_err(), "{bad}");
        }
    }
}
