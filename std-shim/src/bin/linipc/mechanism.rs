//! The mechanisms that are compared.

use std::io;

use crate::links::{Link, Prepared, Start, lock, mq, pipe, ring, sem, shm, socket, udp, variable};

/// A way in which two processes talk.
#[derive(Debug)]
pub(crate) struct Mechanism {
    /// As the user names it.
    pub(crate) name: &'static str,
    /// What it is good for, in five words.
    pub(crate) good_for: &'static str,
    /// Makes the objects, in the supervisor.
    pub(crate) prepare: fn() -> io::Result<Prepared>,
    /// Opens one end, in a peer.
    pub(crate) open: fn(Start) -> io::Result<Box<dyn Link>>,
}

/// All of them, in the order in which they are run.
pub(crate) const ALL: &[Mechanism] = &[
    Mechanism {
        name: "file-lock",
        good_for: "taking turns with a file",
        prepare: lock::prepare,
        open: lock::open,
    },
    Mechanism {
        name: "shared-variable",
        good_for: "a small state many read",
        prepare: variable::prepare,
        open: variable::open,
    },
    Mechanism {
        name: "shm-sysv",
        good_for: "bulk data in older programs",
        prepare: shm::sysv::prepare,
        open: shm::sysv::open,
    },
    Mechanism {
        name: "shm-posix",
        good_for: "bulk data found by name",
        prepare: shm::posix::prepare,
        open: shm::posix::open,
    },
    Mechanism {
        name: "memfd",
        good_for: "bulk data passed by descriptor",
        prepare: shm::memfd::prepare,
        open: shm::memfd::open,
    },
    Mechanism {
        name: "ring",
        good_for: "least time between two processes",
        prepare: ring::prepare,
        open: ring::open,
    },
    Mechanism {
        name: "sem-sysv",
        good_for: "several counts changed at once",
        prepare: sem::sysv::prepare,
        open: sem::sysv::open,
    },
    Mechanism {
        name: "sem-posix",
        good_for: "cheap waiting on shared memory",
        prepare: sem::posix::prepare,
        open: sem::posix::open,
    },
    Mechanism {
        name: "pipe",
        good_for: "streams from parent to child",
        prepare: pipe::prepare,
        open: pipe::open,
    },
    Mechanism {
        name: "fifo",
        good_for: "streams found by a path",
        prepare: pipe::fifo::prepare,
        open: pipe::fifo::open,
    },
    Mechanism {
        name: "mq-sysv",
        good_for: "messages picked out by type",
        prepare: mq::sysv::prepare,
        open: mq::sysv::open,
    },
    Mechanism {
        name: "mq-posix",
        good_for: "messages in order of urgency",
        prepare: mq::posix::prepare,
        open: mq::posix::open,
    },
    Mechanism {
        name: "unix-stream",
        good_for: "local clients of a server",
        prepare: socket::unix_stream,
        open: socket::open_stream,
    },
    Mechanism {
        name: "unix-seqpacket",
        good_for: "requests kept whole, in order",
        prepare: socket::unix_seqpacket,
        open: socket::open_packets,
    },
    Mechanism {
        name: "unix-dgram",
        good_for: "short notes from many senders",
        prepare: socket::unix_dgram,
        open: socket::open_packets,
    },
    Mechanism {
        name: "tcp",
        good_for: "streams to any other machine",
        prepare: socket::tcp,
        open: socket::open_stream,
    },
    Mechanism {
        name: "udp",
        good_for: "one datagram to many receivers",
        prepare: udp::prepare,
        open: udp::open,
    },
];

impl Mechanism {
    /// The mechanism with this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|mechanism| mechanism.name == name)
    }
}
