//! Rings: messages through shared memory, without a system call while both sides are awake.
//!
//! Built on [`linipc_core::ring`], which has the picture of the memory.
//!
//! | ring | producers | consumers | carries |
//! |---|---|---|---|
//! | [`spsc`] | 1 | 1 | messages of 0 bytes to half of the capacity |
//! | [`mpsc`] | up to [`MAX_ENDS`] | 1 | the same |
//! | [`mpmc`] | up to [`MAX_ENDS`] | up to [`MAX_ENDS`] | the same; each goes to one consumer |
//! | [`broadcast`] | 1 | any number | the same; each consumer gets all, or learns how many it missed |
//! | [`items`] | 1 | 1 | plain values of one type: the fastest for small ones |
//! | [`bytes`] | 1 | 1 | a stream of bytes: [`io::Read`] and [`io::Write`] |
//!
//! Parent and child, over a descriptor that the child inherits as its standard input:
//!
//! ```standalone_crate
#![doc = include_str!("../../examples/ring.rs")]
//! ```
//!
//! # Making and attaching
//!
//! | the memory | is made by | and attached to by | can it be cut off under us? |
//! |---|---|---|---|
//! | a memfd, inherited or sent over a Unix socket | `create` | `attach`, which checks the seals | no |
//! | a POSIX segment | `open_named` | `open`, by name | by who may write it |
//! | any other | [`create`](core::create) of core | `attach_memory` | |
//!
//! What `attach` gets may come from a stranger, and whatever it writes there, we get data or an error. With
//! [`Trusted`] memory, messages are also lent in place, as slices.
//!
//! # Waiting
//!
//! Calls that wait have four forms: plain, `try_…` and `…_deadline` as everywhere in this crate, which spin
//! for a while and then sleep, and `…_wait` with a [`Wait`] of your choice. Who waits for a peer that
//! has not attached yet waits for it, too.
//!
//! To wait in poll(2), epoll(7) or an async runtime, give an eventfd to both sides: the other one writes
//! to it (`set_event`) after this one has armed.
//!
//! ```
//! use std::io::ErrorKind::WouldBlock;
//! use std::time::Duration;
//! use linipc::event::{epoll::{Epoll, EventFlags, NONE}, eventfd::EventFd};
//! use linipc::ring::spsc::{self, Consumer, Producer};
//!
//! let (memfd, event) = (spsc::create(4096)?, EventFd::new(0)?);
//! let mut producer = Producer::attach(&memfd)?; // in another process, which gets both descriptors
//! producer.set_event(event.try_clone()?);
//!
//! let mut consumer = Consumer::attach(&memfd)?;
//! let epoll = Epoll::new()?;
//! epoll.add(&event, 7, EventFlags::IN)?;
//! # let mut sent = false;
//! let message = loop {
//!     match consumer.try_pop_vec() {
//!         Err(error) if error.kind() == WouldBlock => {}
//!         done => break done?,
//!     }
//!     if consumer.arm()? {
//!         # assert!(!std::mem::replace(&mut sent, true));
//!         # producer.push(b"hello")?;
//!         // A peer that is killed writes no event: look at its pidfd, or now and then at `peers`.
//!         epoll.wait(&mut [NONE; 8], Duration::from_millis(100))?;
//!         event.try_take()?;
//!     }
//! };
//! assert_eq!(message, b"hello");
//! # assert!(sent);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Errors
//!
//! | kind | inner error | |
//! |---|---|---|
//! | `WouldBlock`, `TimedOut` | none, but the errno: `AGAIN`, `TIMEDOUT` | a try, a deadline |
//! | `InvalidInput` | [`Error::TooLong`], [`Error::BufferLen`], [`AttachError::Capacity`], [`AttachError::Unaligned`] | the text says what is possible |
//! | `BrokenPipe` | [`Error::Closed`] | nobody will read what is pushed |
//! | `UnexpectedEof` | [`Error::Closed`] | nobody will push, and all is read; reading [`bytes`] gives 0 instead |
//! | `ConnectionReset` | [`Error::PeerDead`] | the same, but the other side was killed |
//! | `InvalidData` | [`Error::Corrupt`], the other [`AttachError`]s | not what keeps to the rules |
//! | `ResourceBusy` | [`AttachError::InUse`] | somebody is there, and alive |
//! | `PermissionDenied` | [`AttachError::ReadOnly`] | |
//! | `Other` | [`Error::Missed`] | how many messages |
//! | the kernel's | none, but the errno | |
//!
//! `error.downcast::<Error>()` gives the inner one. A failed try allocates nothing. What claims, peeks
//! and batches say is core's [`Error`] itself, which [`io_error`] turns into one of these.
//!
//! # Who owns a handle
//!
//! The process that attached it, on any of its threads. Dropping the handle leaves the ring, which closes it for the
//! other side, and unmaps; who is killed did not leave, and somebody else can attach in its place. After
//! fork(2) only one of the two copies may be used; the child's never leaves.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::posix::shm as segment;
use linipc_core::ring as core;

pub use linipc_core::map::Region;
pub use linipc_core::ring::{
    AttachError, Counters, Error, MAX_CAPACITY, MAX_ENDS, MIN_CAPACITY, Memory, Peers, Trust,
    Trusted, Wait,
};
pub use linipc_core::shared::variable::Plain;

use crate::Deadline;
use crate::event::eventfd::EventFd;
use crate::memfd::Memfd;
use crate::posix::shm::{OpenOptions, SharedMemory};

pub mod broadcast;
pub mod bytes;
pub mod items;
mod messages;
pub mod mpmc;
pub mod mpsc;
pub mod spsc;

/// Maps the memfd of a ring, whoever made it, if its length is sealed: for `attach_memory`.
///
/// # Errors
///
/// - `InvalidData` with [`AttachError::Unsealed`], or [`AttachError::TooSmall`] if it is empty.
/// - `ACCESS`: not open for reading and writing. Others of mmap(2).
pub fn map(memory: impl AsFd) -> io::Result<Region> {
    core::map(memory).map_err(attach_error)
}

/// Opens a segment, or makes it with the ring that `format` writes.
fn named(
    name: &Path,
    len: Result<usize, AttachError>,
    options: &OpenOptions,
    format: impl Fn(Region) -> Result<(), AttachError>,
) -> io::Result<SharedMemory> {
    let len = len.map_err(attach_error)?;
    options.open_with(name, |object: &OwnedFd| {
        retry_on_intr(|| segment::resize(object, len as u64))?;
        let access = crate::map::Access::READ | crate::map::Access::WRITE;
        format(Region::shared(object, 0, len, access)?).map_err(|error| match error {
            AttachError::System(errno) => errno,
            _ => Errno::INVAL,
        })
    })
}

/// The error of a ring as the [`io::Error`] that this crate's calls fail with; of
/// [`Error::Closed`], a producer's.
pub fn io_error(error: Error) -> io::Error {
    use io::ErrorKind as Kind;
    let kind = match error {
        // As of every other call of the kernel's: without an allocation.
        Error::Full | Error::Empty | Error::Busy => return Errno::AGAIN.into(),
        Error::TimedOut => return Errno::TIMEDOUT.into(),
        Error::System(errno) => return errno.into(),
        Error::TooLong { .. } | Error::BufferLen { .. } => Kind::InvalidInput,
        Error::Closed => Kind::BrokenPipe,
        Error::PeerDead => Kind::ConnectionReset,
        Error::Corrupt => Kind::InvalidData,
        Error::Missed { .. } => Kind::Other,
    };
    io::Error::new(kind, error)
}

/// The same of a consumer, to which a closed ring is the end.
fn pop_error(error: Error) -> io::Error {
    match error {
        Error::Closed => io::Error::new(io::ErrorKind::UnexpectedEof, error),
        _ => io_error(error),
    }
}

fn attach_error(error: AttachError) -> io::Error {
    use io::ErrorKind as Kind;
    let kind = match error {
        AttachError::System(errno) => return errno.into(),
        AttachError::Capacity { .. } | AttachError::Unaligned => Kind::InvalidInput,
        AttachError::ReadOnly => Kind::PermissionDenied,
        AttachError::InUse { .. } => Kind::ResourceBusy,
        _ => Kind::InvalidData,
    };
    io::Error::new(kind, error)
}

/// How the deadline form of a call waits.
#[inline]
fn until(deadline: impl Into<Deadline>) -> Wait {
    match deadline.into().remaining() {
        Some(left) => Wait::SPIN_THEN_SLEEP.timeout(left),
        None => Wait::SPIN_THEN_SLEEP,
    }
}

/// Makes a call again after a signal.
#[inline]
fn retry<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match call() {
            Err(Error::System(Errno::INTR)) => {}
            done => return done,
        }
    }
}

/// Pops into a buffer that grows to the length of the message.
fn into_vec(mut pop: impl FnMut(&mut [u8]) -> Result<usize, Error>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    loop {
        match pop(&mut bytes) {
            Ok(len) => {
                bytes.truncate(len);
                return Ok(bytes);
            }
            Err(Error::BufferLen { message }) => bytes.resize(message, 0),
            Err(error) => return Err(error),
        }
    }
}
