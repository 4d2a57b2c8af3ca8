//! Unix sockets: std's own types, packet sockets, addresses, and who is at the other end.
//!
//! Built on [`linipc_core::socket::unix`], which has the pitfalls. Descriptors and credentials are
//! sent with [`super::cmsg`].
//!
//! ```
//! use linipc::socket::unix::{BindOptions, Seqpacket, UnixExt};
//!
//! let path = std::env::temp_dir().join(format!("linipc-doc-{}", std::process::id()));
//! let listener = BindOptions::new().replace_stale(true).unlink_on_drop(true).seqpacket(&path)?;
//! let client = Seqpacket::connect(&path)?;
//! let server = listener.accept()?;
//! assert_eq!(server.peer_credentials()?.pid as u32, std::process::id());
//!
//! client.send(b"one packet")?;
//! let mut buf = [0; 64];
//! let len = server.recv(&mut buf)?;
//! assert_eq!(&buf[..len], b"one packet");
//! drop(listener);
//! assert!(!path.exists());
//! # Ok::<(), std::io::Error>(())
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};
use std::time::Duration;

use linipc_core::Errno;
use linipc_core::socket::unix::{self as core, SocketAddrUnix};
use linipc_core::socket::{self, AddressFamily, SocketAddrArg, SocketFlags, SocketType};

pub use linipc_core::socket::unix::Credentials;
pub use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

pub use super::seqpacket::{Seqpacket, SeqpacketListener};

use crate::Deadline;
use crate::event::pidfd::PidFd;
use crate::event::set_nonblocking;
use crate::on_drop::RemoveOnDrop;

/// Connections that may wait to be accepted, as in std. `net.core.somaxconn` bounds it.
pub(super) const BACKLOG: i32 = -1;

/// The address with this abstract name: up to 107 bytes of any value, in the network namespace.
///
/// For `UnixStream::connect_addr`, `UnixListener::bind_addr` and the like.
///
/// # Errors
///
/// `InvalidInput`: too long.
pub fn abstract_address(name: impl AsRef<[u8]>) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(name)
}

/// A stream listener with a free abstract name that the kernel chose: see its `local_addr`.
///
/// # Errors
///
/// Those of socket(2); `NOSPC`: all 2^20 names are taken.
pub fn autobind_listener() -> io::Result<UnixListener> {
    let socket = autobind(SocketType::STREAM)?;
    socket::listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

/// A datagram socket with a free abstract name that the kernel chose, to which others can answer.
///
/// # Errors
///
/// Those of [`autobind_listener`].
pub fn autobind_datagram() -> io::Result<UnixDatagram> {
    Ok(autobind(SocketType::DGRAM)?.into())
}

fn autobind(kind: SocketType) -> io::Result<OwnedFd> {
    let socket = core::socket(kind)?;
    socket::bind(&socket, &SocketAddrUnix::new_unnamed())?;
    Ok(socket)
}

/// What can be asked of a Unix socket about its peer.
pub trait UnixExt: AsFd {
    /// Who called `connect`, `listen` or `socketpair` at the other end.
    ///
    /// # Errors
    ///
    /// `NODATA`: no connection, or a datagram socket that is not one of a pair.
    fn peer_credentials(&self) -> io::Result<Credentials> {
        Ok(core::peer_credentials(self)?)
    }

    /// The same process as a handle, which always means that process, also when it has ended.
    ///
    /// # Errors
    ///
    /// - `NODATA`: as for [`peer_credentials`](Self::peer_credentials).
    /// - `SRCH`, `INVAL`: it is gone, and the kernel is older than 6.16. `NOPROTOOPT`: older than
    ///   6.5.
    fn peer_pidfd(&self) -> io::Result<PidFd> {
        Ok(core::peer_pidfd(self)?.into())
    }

    /// The supplementary groups of the same process.
    ///
    /// # Errors
    ///
    /// `NODATA`: as for [`peer_credentials`](Self::peer_credentials).
    fn peer_groups(&self) -> io::Result<Vec<u32>> {
        let mut groups = vec![0; 64];
        let len = match core::peer_groups(self, &mut groups).map(<[u32]>::len) {
            Err(Errno::RANGE) => {
                groups.resize(1 << 16, 0);
                core::peer_groups(self, &mut groups)?.len()
            }
            done => done?,
        };
        groups.truncate(len);
        Ok(groups)
    }

    /// Whether each message is received with its sender's credentials.
    ///
    /// # Errors
    ///
    /// None in practice.
    fn set_pass_credentials(&self, pass: bool) -> io::Result<()> {
        Ok(core::set_pass_credentials(self, pass)?)
    }

    /// Whether each message is received with a [`PidFd`] of the process that sent it.
    ///
    /// # Errors
    ///
    /// `NOPROTOOPT`: the kernel is older than 6.5.
    fn set_pass_pidfd(&self, pass: bool) -> io::Result<()> {
        Ok(core::set_pass_pidfd(self, pass)?)
    }
}

impl UnixExt for UnixStream {}
impl UnixExt for UnixDatagram {}
impl UnixExt for UnixListener {}
impl UnixExt for Seqpacket {}
impl UnixExt for SeqpacketListener {}
impl UnixExt for OwnedFd {}

/// How to bind a socket to a path.
#[derive(Debug, Clone, Default)]
pub struct BindOptions {
    replace_stale: bool,
    unlink_on_drop: bool,
    mode: Option<u32>,
}

impl BindOptions {
    /// Fails if there is a file already, and leaves the file there, as std does.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether to replace a socket file on which nobody listens any more.
    ///
    /// Asks by connecting, so a listener that lives sees a connection that ends at once. Processes
    /// that do this at the same time take turns with a lock on the directory, which must be readable;
    /// who removes and binds without this lock can still interfere. Other files are never removed.
    pub fn replace_stale(&mut self, replace: bool) -> &mut Self {
        self.replace_stale = replace;
        self
    }

    /// Whether dropping the handle unlinks the name, if it still leads to this socket.
    pub fn unlink_on_drop(&mut self, unlink: bool) -> &mut Self {
        self.unlink_on_drop = unlink;
        self
    }

    /// The file's permission bits from the first moment, less the umask: 0o777 unless set.
    /// Whoever may write to it may connect.
    pub fn mode(&mut self, mode: u32) -> &mut Self {
        self.mode = Some(mode);
        self
    }

    /// Binds a stream socket, and listens.
    ///
    /// # Errors
    ///
    /// - `ADDRINUSE`: there is a file, and it is not to be replaced or not stale.
    /// - `NAMETOOLONG`: longer than 108 bytes. `INVAL`: empty.
    /// - `TIMEDOUT`: somebody holds the lock on the directory for more than 5 seconds.
    /// - Those of bind(2) and listen(2).
    pub fn listener(&self, path: impl AsRef<Path>) -> io::Result<Bound<UnixListener>> {
        self.open(SocketType::STREAM, path.as_ref())
    }

    /// Binds a datagram socket.
    ///
    /// # Errors
    ///
    /// Those of [`BindOptions::listener`].
    pub fn datagram(&self, path: impl AsRef<Path>) -> io::Result<Bound<UnixDatagram>> {
        self.open(SocketType::DGRAM, path.as_ref())
    }

    /// Binds a packet socket, and listens.
    ///
    /// # Errors
    ///
    /// Those of [`BindOptions::listener`].
    pub fn seqpacket(&self, path: impl AsRef<Path>) -> io::Result<Bound<SeqpacketListener>> {
        let bound = self.open(SocketType::SEQPACKET, path.as_ref())?;
        set_nonblocking(&bound.socket, true)?;
        Ok(bound)
    }

    fn open<S: From<OwnedFd>>(&self, kind: SocketType, path: &Path) -> io::Result<Bound<S>> {
        let address = core::path(path)?;
        let socket = core::socket(kind)?;
        if let Some(mode) = self.mode {
            core::fchmod(&socket, core::Mode::from_raw_mode(mode))?;
        }
        let lock = self
            .replace_stale
            .then(|| lock_directory(path))
            .transpose()?;
        match socket::bind(&socket, &address) {
            Err(Errno::ADDRINUSE) if self.replace_stale && is_stale(path, &address, kind)? => {
                fs::remove_file(path)?;
                socket::bind(&socket, &address)?;
            }
            done => done?,
        }
        let mut unlink_on_drop = RemoveOnDrop::new(Some(SocketFile::of(path)?), SocketFile::remove);
        if kind != SocketType::DGRAM {
            socket::listen(&socket, BACKLOG)?;
        }
        drop(lock);
        if !self.unlink_on_drop {
            unlink_on_drop.persist();
        }
        Ok(Bound {
            socket: socket.into(),
            unlink_on_drop,
        })
    }
}

/// Locks the directory of `path` against others that replace a socket in it.
fn lock_directory(path: &Path) -> io::Result<File> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let directory = File::open(parent)?;
    Deadline::from(Duration::from_secs(5)).poll(Errno::AGAIN, || match directory.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Errno::AGAIN),
        Err(TryLockError::Error(error)) => Err(crate::error::errno(&error).unwrap_or(Errno::IO)),
    })?;
    Ok(directory)
}

/// Whether `path` is a socket that no process has bound any more.
fn is_stale(path: &Path, address: &impl SocketAddrArg, kind: SocketType) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Ok(false);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = socket::socket_with(AddressFamily::UNIX, kind, flags, None)?;
    Ok(socket::connect(&probe, address) == Err(Errno::CONNREFUSED))
}

/// A file that a socket was bound to.
#[derive(Debug, PartialEq, Eq)]
struct SocketFile {
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::symlink_metadata(path)?;
        Ok(Self {
            path: absolute(path)?,
            device_and_inode: (metadata.dev(), metadata.ino()),
        })
    }

    fn remove(&self) -> io::Result<()> {
        match Self::of(&self.path)? {
            now if now == *self => fs::remove_file(&self.path),
            _ => Err(Errno::STALE.into()),
        }
    }
}

/// A socket that was bound to a path.
#[derive(Debug)]
pub struct Bound<S> {
    // Dropped first, while the socket still listens: nobody takes the file for stale meanwhile.
    unlink_on_drop: RemoveOnDrop<SocketFile>,
    socket: S,
}

impl<S> Bound<S> {
    /// The socket, whose file stays, whatever was chosen when it was bound.
    pub fn persist(mut self) -> S {
        self.unlink_on_drop.persist();
        self.socket
    }
}

impl<S> Deref for Bound<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.socket
    }
}

/// std's address as the kernel takes it.
pub(super) fn to_core(address: &SocketAddr) -> io::Result<SocketAddrUnix> {
    Ok(if let Some(path) = address.as_pathname() {
        core::address(&core::path(path)?)?
    } else if let Some(name) = address.as_abstract_name() {
        SocketAddrUnix::new_abstract_name(name)?
    } else {
        SocketAddrUnix::new_unnamed()
    })
}

/// The kernel's address as std has it; `None` for a path of 108 bytes.
pub(super) fn from_core(address: &SocketAddrUnix) -> Option<SocketAddr> {
    if let Some(name) = address.abstract_name() {
        return SocketAddr::from_abstract_name(name).ok();
    }
    let path = address.path_bytes().unwrap_or_default();
    SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)).ok()
}
