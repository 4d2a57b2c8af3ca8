//! Waiting for many descriptors: the kernel keeps the list, and gives those that are ready.
//!
//! Built on [`linipc_core::event::epoll`], which has the flags and the pitfalls.
//!
//! ```
//! use std::io::Write;
//! use linipc::Deadline;
//! use linipc::event::epoll::{Epoll, EventFlags, NONE};
//!
//! let (reader, mut writer) = std::io::pipe()?;
//! let epoll = Epoll::new()?;
//! epoll.add(&reader, 7, EventFlags::IN)?;
//! writer.write_all(b"x")?;
//! let mut room = [NONE; 8];
//! for event in epoll.wait(&mut room, Deadline::NEVER)? {
//!     assert_eq!(event.data.u64(), 7);
//! }
//! # Ok::<(), std::io::Error>(())
//! ```

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use linipc_core::Errno;
use linipc_core::event::epoll as core;
use linipc_core::event::epoll::EventData;

pub use linipc_core::event::epoll::{Event, EventFlags, NONE};

use super::descriptor;
use super::poll::timeout;
use crate::Deadline;

/// A list of descriptors to wait for, each with a number of your own.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

descriptor!(Epoll);

impl Epoll {
    /// An empty list.
    ///
    /// # Errors
    ///
    /// Those of epoll_create1(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self(core::create()?))
    }

    /// Adds a descriptor, which must be deleted before it is closed if it has duplicates.
    ///
    /// # Errors
    ///
    /// - `EXIST`: it is in the list.
    /// - `PERM`: a regular file or a directory. `LOOP`, `INVAL`: an epoll that contains this one.
    /// - `NOSPC`: over `fs.epoll.max_user_watches`.
    pub fn add(&self, fd: impl AsFd, key: u64, events: EventFlags) -> io::Result<()> {
        Ok(core::add(self, fd, EventData::new_u64(key), events)?)
    }

    /// Changes what to wait for; also makes a one-shot entry wait again.
    ///
    /// # Errors
    ///
    /// `NOENT`: it is not in the list.
    pub fn modify(&self, fd: impl AsFd, key: u64, events: EventFlags) -> io::Result<()> {
        Ok(core::modify(self, fd, EventData::new_u64(key), events)?)
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    ///
    /// `NOENT`: it is not in the list.
    pub fn delete(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(core::delete(self, fd)?)
    }

    /// Waits until a descriptor is ready, but not beyond the deadline, of which it counts whole
    /// milliseconds; returns the ready ones, at most `room.len()`, and none at the deadline.
    ///
    /// # Errors
    ///
    /// `INVAL`: no room.
    #[inline]
    pub fn wait<'a>(
        &self,
        room: &'a mut [Event],
        deadline: impl Into<Deadline>,
    ) -> io::Result<&'a [Event]> {
        let deadline = deadline.into();
        let count = loop {
            match core::wait(self, &mut *room, timeout(deadline).as_ref()) {
                Err(Errno::INTR) => {}
                count => break count?,
            }
        };
        Ok(&room[..count])
    }
}
