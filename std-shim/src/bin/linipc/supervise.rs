//! One mechanism from its objects to its end: two peers are started, watched and cleared away.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use linipc::event::poll::{PollFd, PollFlags, poll};
use linipc::event::signalfd::{Signal, SignalFd, SignalSet, unblock};

use crate::control::{Control, Report};
use crate::exchange::{Measured, Whole};
use crate::links::{Prepared, Side, is_refusal};
use crate::mechanism::Mechanism;

/// Peers that report nothing for so many seconds in which we ran are hung. (Counted in seconds of
/// waiting, so that a stopped and continued supervisor does not blame its peers.)
const PATIENCE: u32 = 10;

/// How a mechanism ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The sender has its measurement.
    Done(Measured),
    /// The kernel does not have it, or does not allow it.
    Refused(String),
    /// It should have worked.
    Failed(String),
    /// A signal came.
    Signal(u8),
}

/// Runs one mechanism. Whatever it returns, its objects and processes are gone by then.
pub(crate) fn supervise(
    mechanism: &Mechanism,
    file: &File,
    whole: Whole,
    signals: &Signals,
    sent: &mut dyn FnMut(u64),
) -> io::Result<End> {
    let mut prepared = match (mechanism.prepare)() {
        Ok(prepared) => prepared,
        Err(error) if is_refusal(&error) => return Ok(End::Refused(error.to_string())),
        Err(error) => return Ok(End::Failed(error.to_string())),
    };
    // Declared after the objects, so that they are dropped before them.
    let mut peers = Vec::new();
    for side in [Side::Sender, Side::Receiver] {
        match Peer::start(mechanism, side, file, whole, &mut prepared) {
            Ok(peer) => peers.push(peer),
            Err(error) => return Ok(End::Failed(format!("cannot start the {side}: {error}"))),
        }
    }
    watch(&mut peers, signals, || prepared.names.clear(), sent)
}

/// Follows the peers to their end. `ready` is called when both have opened their ends.
fn watch(
    peers: &mut [Peer],
    signals: &Signals,
    mut ready: impl FnMut(),
    sent: &mut dyn FnMut(u64),
) -> io::Result<End> {
    let mut opened = 0;
    let mut trouble = Vec::new();
    while peers.iter().any(|peer| !peer.gone) {
        // One side's trouble is often the other's: let it tell, too.
        let patience = if trouble.is_empty() { PATIENCE } else { 1 };
        let (peer, report) = match next(peers, signals, patience)? {
            Event::Report(index, report) => (&mut peers[index], report),
            Event::Signal(signal) => return Ok(End::Signal(signal)),
            Event::Nothing if trouble.is_empty() => {
                return Ok(End::Failed(format!("no progress for {PATIENCE} s")));
            }
            Event::Nothing => break,
        };
        let side = peer.side;
        match report {
            Ok(Some(Report::Ready)) => {
                opened += 1;
                if opened == peers.len() {
                    ready();
                    peers.iter().for_each(|peer| peer.control.go());
                }
            }
            Ok(Some(Report::Sent(bytes))) => sent(bytes),
            Ok(Some(Report::Done(measured))) => return Ok(End::Done(measured)),
            Ok(Some(Report::Refused(why))) => {
                return Ok(End::Refused(format!("the {side}: {why}")));
            }
            Ok(Some(Report::Failed(why))) => trouble.push(format!("the {side}: {why}")),
            Ok(None) => {
                let status = peer.end()?;
                if !status.success() {
                    trouble.push(format!("the {side} died: {status}"));
                }
            }
            Err(error) => {
                peer.gone = true;
                trouble.push(format!("the {side} is not understood: {error}"));
            }
        }
    }
    if trouble.is_empty() {
        trouble.push("both sides ended without a result".to_owned());
    }
    Ok(End::Failed(trouble.join("; ")))
}

/// What the loop waits for.
enum Event {
    /// The peer with this index reports, or is gone.
    Report(usize, io::Result<Option<Report>>),
    /// A signal that ends the program came.
    Signal(u8),
    /// Neither, for all the patience.
    Nothing,
}

/// Waits for the next event; a signal comes before all others.
fn next(peers: &[Peer], signals: &Signals, patience: u32) -> io::Result<Event> {
    for _ in 0..patience {
        if let Some(index) = wait_a_second(peers, signals)? {
            if let Some(signal) = signals.take()? {
                return Ok(Event::Signal(signal));
            }
            if let Some(peer) = peers.get(index) {
                return Ok(Event::Report(index, peer.control.receive_report()));
            }
        }
    }
    Ok(Event::Nothing)
}

/// Waits until a signal comes or a peer has something to say, and gives the first such peer's
/// index, or the number of peers if none has; `None` when a second has passed.
fn wait_a_second(peers: &[Peer], signals: &Signals) -> io::Result<Option<usize>> {
    let here = || peers.iter().enumerate().filter(|(_, peer)| !peer.gone);
    let mut fds: Vec<_> = here()
        .map(|(_, peer)| PollFd::new(&peer.control, PollFlags::IN))
        .collect();
    fds.push(PollFd::new(&signals.0, PollFlags::IN));
    if poll(&mut fds, Duration::from_secs(1))? == 0 {
        return Ok(None);
    }
    let ready = here().zip(&fds).find(|(_, fd)| !fd.revents().is_empty());
    Ok(Some(ready.map_or(peers.len(), |((index, _), _)| index)))
}

/// The signals that end the program, taken one after another instead of ending it at once.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    const SET: SignalSet = SignalSet::EMPTY
        .with(Signal::INT)
        .with(Signal::TERM)
        .with(Signal::HUP)
        .with(Signal::QUIT);

    /// From now on they only come here.
    pub(crate) fn block() -> io::Result<Self> {
        Ok(Self(SignalFd::block(Self::SET)?))
    }

    /// Lets them end a peer, which has inherited that they are blocked.
    pub(crate) fn unblock() -> io::Result<()> {
        unblock(Self::SET)?;
        Ok(())
    }

    /// The next signal that came, if there is one.
    pub(crate) fn take(&self) -> io::Result<Option<u8>> {
        match self.0.try_read() {
            Ok(info) => Ok(info.signal().map(|signal| signal.as_raw() as u8)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A peer process, with its channel. Killed and reaped when dropped.
#[derive(Debug)]
struct Peer {
    side: Side,
    child: Child,
    control: Control,
    gone: bool,
}

impl Peer {
    /// Starts this executable as a peer, and sends it its descriptors.
    fn start(
        mechanism: &Mechanism,
        side: Side,
        file: &File,
        whole: Whole,
        prepared: &mut Prepared,
    ) -> io::Result<Self> {
        let (control, theirs) = Control::pair()?;
        let child = Command::new("/proc/self/exe")
            .args(["peer", &side.to_string(), mechanism.name])
            .args([whole.length, whole.hash].map(|number| number.to_string()))
            .arg("--")
            .args(&prepared.arguments)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            // A signal from the terminal is for the supervisor, which ends its peers itself.
            .process_group(0)
            .spawn()?;
        let peer = Self {
            side,
            child,
            control,
            gone: false,
        };
        // Our copies are closed, so that a peer notices when the other one is gone.
        let descriptors = prepared.descriptors.get_mut(side as usize);
        let descriptors = descriptors.map(std::mem::take).unwrap_or_default();
        let all: Vec<BorrowedFd<'_>> = std::iter::once(file.as_fd())
            .chain(descriptors.iter().map(AsFd::as_fd))
            .collect();
        peer.control.send_descriptors(&all)?;
        Ok(peer)
    }

    /// Waits for the end of a peer that has closed its channel.
    fn end(&mut self) -> io::Result<ExitStatus> {
        self.gone = true;
        self.child.wait()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Neither fails for a child of ours, whether it is alive or not.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
