//! The comparison: the file, the mechanisms one after another, the results.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use linipc::core::io::OFlags;
use rustix::process::Signal;
use xxhash_rust::xxh3::Xxh3;

use crate::exchange::Whole;
use crate::mechanism::{self, Mechanism};
use crate::report::{Outcome, Output, Progress, Row};
use crate::supervise::{End, Signals, supervise};

/// Why the program ends early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The file cannot be used.
    File(PathBuf, io::Error),
    /// A signal asked for it.
    Signal(u8),
    /// Nobody reads the output any more.
    Unread,
    /// Anything else.
    Other(io::Error),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::File(..) => 2.into(),
            Self::Signal(signal) => (128 + signal).into(),
            Self::Unread => (128 + Signal::PIPE.as_raw() as u8).into(),
            Self::Other(_) => 1.into(),
        }
    }

    fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Unread,
            _ => Self::Other(error),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Signal(signal) => write!(f, "ended by signal {signal}"),
            Self::Unread => f.write_str("nobody reads the output"),
            Self::Other(error) => error.fmt(f),
        }
    }
}

/// Runs `linipc compare`.
pub(crate) fn run(path: Option<PathBuf>, json: bool, only: &[String]) -> Result<ExitCode, Failure> {
    // The running program, even if its name has been given to a newer one meanwhile.
    let path = path.unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let file = open(&path).map_err(|error| Failure::File(path.clone(), error))?;
    let signals = Signals::block()?;
    let mechanisms = chosen(only);
    let mut progress = Progress::new(mechanisms.len());
    let whole = read(&file, &path, &signals)?;

    let mut output = Output::new(json);
    let mut broken = false;
    for mechanism in mechanisms {
        progress.begin(mechanism);
        let end = supervise(mechanism, &file, whole, &signals, &mut |sent| {
            progress.sent(mechanism, sent, whole.length);
        })?;
        let outcome = match end {
            End::Done(measured) if measured.arrived == whole => Outcome::Verified(measured),
            End::Done(_) if read(&file, &path, &signals)? != whole => {
                Outcome::Failed("the file was changed meanwhile".to_owned())
            }
            End::Done(_) => Outcome::Failed("what arrived is not what was sent".to_owned()),
            End::Refused(why) => Outcome::Refused(why),
            End::Failed(why) => Outcome::Failed(why),
            End::Signal(signal) => return Err(Failure::Signal(signal)),
        };
        broken |= matches!(outcome, Outcome::Failed(_));
        let row = Row { mechanism, outcome };
        progress.end(&row);
        output.row(row).map_err(Failure::output)?;
    }
    drop(progress);
    output.finish().map_err(Failure::output)?;
    Ok(ExitCode::from(u8::from(broken)))
}

/// The mechanisms with these names, each once; all if there are none.
fn chosen(only: &[String]) -> Vec<&'static Mechanism> {
    let mut mechanisms: Vec<&Mechanism> = Vec::new();
    for mechanism in only.iter().filter_map(|name| Mechanism::named(name)) {
        if !mechanisms.iter().any(|m| m.name == mechanism.name) {
            mechanisms.push(mechanism);
        }
    }
    if mechanisms.is_empty() {
        mechanisms.extend(mechanism::ALL);
    }
    mechanisms
}

/// Opens a regular file. Nothing else has a length, and can be read again.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Opening a FIFO must not wait for its other end.
    options.custom_flags(OFlags::NONBLOCK.bits() as i32);
    let file = options.read(true).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// Hashes the file. This also brings it into the page cache, if it fits there.
fn read(file: &File, path: &Path, signals: &Signals) -> Result<Whole, Failure> {
    let mut buffer = vec![0; 1 << 20];
    let mut hash = Xxh3::new();
    let mut length = 0;
    loop {
        if let Some(signal) = signals.take()? {
            return Err(Failure::Signal(signal));
        }
        match file.read_at(&mut buffer, length) {
            Ok(0) => break,
            Ok(len) => {
                hash.update(&buffer[..len]);
                length += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Failure::File(path.to_owned(), error)),
        }
    }
    Ok(Whole {
        length,
        hash: hash.digest(),
    })
}
