//! The channel between the supervisor and a peer process: a seqpacket socket, the peer's standard
//! input. One message carries the descriptors to the peer; one empty of them says go; the peer
//! reports how it fares.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::str::FromStr;
use std::time::Duration;

use linipc::socket::cmsg::CmsgExt;
use linipc::socket::unix::Seqpacket;

use crate::exchange::{Measured, Whole};

/// Longer texts are cut.
const MAX_TEXT: usize = 1024;
/// The file, and what a mechanism needs.
const MAX_DESCRIPTORS: usize = 8;

/// One end of the channel.
#[derive(Debug)]
pub(crate) struct Control(Seqpacket);

impl Control {
    /// The supervisor's end, and the peer's.
    pub(crate) fn pair() -> io::Result<(Self, Seqpacket)> {
        let (ours, theirs) = Seqpacket::pair()?;
        Ok((Self(ours), theirs))
    }

    /// The end that this process got as its standard input.
    pub(crate) fn inherited() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?.into()))
    }

    /// Sends descriptors to the peer.
    pub(crate) fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.send_with_fds(b"descriptors", descriptors)?;
        Ok(())
    }

    /// Waits for [`Self::send_descriptors`].
    pub(crate) fn receive_descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(self
            .0
            .recv_with_fds(&mut [0; MAX_TEXT], MAX_DESCRIPTORS)?
            .fds)
    }

    /// Tells the peer to begin. A peer that is gone is noticed when it should report.
    pub(crate) fn go(&self) {
        let _ = self.0.send(b"go");
    }

    /// Waits for [`Self::go`]; gives whether it came, and not the supervisor's end.
    pub(crate) fn wait_for_go(&self) -> io::Result<bool> {
        Ok(self.0.recv(&mut [0; MAX_TEXT])? > 0)
    }

    /// Tells the supervisor.
    pub(crate) fn report(&self, report: &Report) -> io::Result<()> {
        let mut text = report.to_string();
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        self.0.send(text.as_bytes())
    }

    /// The next report; `None` when the peer is gone.
    pub(crate) fn receive_report(&self) -> io::Result<Option<Report>> {
        let mut text = [0; MAX_TEXT];
        let len = match self.0.recv(&mut text) {
            // Told once, when the peer had not read all. What it sent comes after this.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                self.0.recv(&mut text)?
            }
            received => received?,
        };
        match len {
            0 => Ok(None),
            len => String::from_utf8_lossy(&text[..len]).parse().map(Some),
        }
    }
}

impl AsFd for Control {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a peer tells the supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    /// The link is open.
    Ready,
    /// So many bytes are sent.
    Sent(u64),
    /// The sender is done.
    Done(Measured),
    /// The kernel does not let the link be opened.
    Refused(String),
    /// The link could not be opened for another reason, or broke.
    Failed(String),
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready "),
            Self::Sent(bytes) => write!(f, "sent {bytes}"),
            Self::Done(m) => {
                let [transfer, median, p99] =
                    [m.transfer, m.median, m.p99].map(|time| time.as_nanos());
                let Whole { length, hash } = m.arrived;
                write!(f, "done {length} {hash} {transfer} {median} {p99}")
            }
            Self::Refused(why) => write!(f, "refused {why}"),
            Self::Failed(why) => write!(f, "failed {why}"),
        }
    }
}

impl FromStr for Report {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Self> {
        let unknown = || io::Error::other(format!("a report that makes no sense: {text}"));
        let (word, rest) = text.split_once(' ').ok_or_else(unknown)?;
        let numbers: Vec<u64> = rest.split(' ').map_while(|n| n.parse().ok()).collect();
        match (word, &numbers[..]) {
            ("ready", _) => Ok(Self::Ready),
            ("sent", &[bytes]) => Ok(Self::Sent(bytes)),
            ("done", &[length, hash, transfer, median, p99]) => Ok(Self::Done(Measured {
                arrived: Whole { length, hash },
                transfer: Duration::from_nanos(transfer),
                median: Duration::from_nanos(median),
                p99: Duration::from_nanos(p99),
            })),
            ("refused", _) => Ok(Self::Refused(rest.to_owned())),
            ("failed", _) => Ok(Self::Failed(rest.to_owned())),
            _ => Err(unknown()),
        }
    }
}
