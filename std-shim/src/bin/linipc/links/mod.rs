//! Two-way links between two processes, one for each mechanism.
//!
//! The supervisor makes the objects of a mechanism (`prepare`), both peers open their ends
//! (`open`), and what then goes over it is the same for all ([`crate::exchange`]).

use std::any::Any;
use std::env;
use std::ffi::OsString;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use linipc::error::errno;

pub(crate) mod lock;
pub(crate) mod mq;
pub(crate) mod pipe;
pub(crate) mod ring;
pub(crate) mod sem;
pub(crate) mod shm;
pub(crate) mod slots;
pub(crate) mod socket;
pub(crate) mod stream;
pub(crate) mod udp;
pub(crate) mod variable;

/// One end of a two-way link.
pub(crate) trait Link {
    /// The length of the longest message that can be sent; the same on both ends.
    fn max_message(&self) -> usize;

    /// Sends a message; waits while there is no room for it.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// Waits for the next message, which has exactly the length of the buffer.
    fn receive(&mut self, message: &mut [u8]) -> io::Result<()>;

    /// Waits until what was sent has arrived, where that needs this end to be alive.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Which end of a link a process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// Sends the file.
    Sender,
    /// Receives it, and answers.
    Receiver,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Sender => "sender",
            Self::Receiver => "receiver",
        })
    }
}

impl Side {
    /// `[ours, theirs]` of two things of which the sender has the first.
    pub(crate) fn order<T>(self, [first, second]: [T; 2]) -> [T; 2] {
        match self {
            Self::Sender => [first, second],
            Self::Receiver => [second, first],
        }
    }
}

/// What the supervisor has made for two peers.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// For both, as arguments: names, ids.
    pub(crate) arguments: Vec<OsString>,
    /// For each: its open descriptors, of the sender and the receiver.
    pub(crate) descriptors: [Vec<OwnedFd>; 2],
    /// Dropped as soon as both peers have opened their ends: what the kernel then keeps for them.
    pub(crate) names: Vec<Box<dyn Any>>,
    /// Dropped when both peers are gone.
    pub(crate) objects: Vec<Box<dyn Any>>,
}

/// What a peer gets.
#[derive(Debug)]
pub(crate) struct Start {
    /// Which end to open.
    pub(crate) side: Side,
    /// The arguments of [`Prepared`].
    pub(crate) arguments: Vec<OsString>,
    /// This side's descriptors.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Start {
    /// Argument number `index`.
    pub(crate) fn argument<T: FromStr>(&self, index: usize) -> io::Result<T> {
        let text = self.arguments.get(index).and_then(|text| text.to_str());
        text.and_then(|text| text.parse().ok())
            .ok_or_else(|| io::Error::other(format!("argument {index} is missing or wrong")))
    }

    /// Argument number `index`.
    pub(crate) fn path(&self, index: usize) -> io::Result<&Path> {
        let path = self.arguments.get(index);
        path.map(Path::new)
            .ok_or_else(|| io::Error::other("a path is missing"))
    }

    /// All descriptors, which must be `N`.
    pub(crate) fn descriptors<const N: usize>(self) -> io::Result<[OwnedFd; N]> {
        self.descriptors
            .try_into()
            .map_err(|_| io::Error::other("descriptors are missing"))
    }
}

/// A name that nobody else has.
fn unique_name() -> String {
    let random = RandomState::new().build_hasher().finish();
    format!("linipc-{}-{random:016x}", std::process::id())
}

/// A path that nobody else has, for what needs one.
fn unique_path() -> PathBuf {
    env::temp_dir().join(unique_name())
}

/// Whether a link could not be made or opened by the kernel's word, and not through a fault of ours.
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    errno(error).is_some() || error.kind() == io::ErrorKind::Unsupported
}

/// The error of a message that has another length than both sides agreed on.
fn wrong_length(got: usize, expected: usize) -> io::Error {
    io::Error::other(format!("a message of {got} bytes instead of {expected}"))
}
