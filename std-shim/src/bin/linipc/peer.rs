//! A peer process: the sender or the receiver of one mechanism.

use std::ffi::OsString;
use std::fs::File;
use std::io;

use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::control::{Control, Report};
use crate::exchange::{self, Whole};
use crate::links::{Link, Side, Start, is_refusal};
use crate::mechanism::Mechanism;
use crate::supervise::Signals;

/// Runs this process as a peer. The supervisor gets what there is to say.
pub(crate) fn run(
    mechanism: &Mechanism,
    side: Side,
    whole: Whole,
    arguments: Vec<OsString>,
) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Signals::unblock()?;
    stay_on_one_cpu(side)?;
    let control = Control::inherited()?;
    // Fails if the supervisor died before the first line, and would not take us with it.
    control.report(&Report::Sent(0))?;
    let mut descriptors = control.receive_descriptors()?.into_iter();
    let file = descriptors.next().map(File::from);
    let file = file.ok_or_else(|| io::Error::other("no file to send"))?;
    let start = Start {
        side,
        arguments,
        descriptors: descriptors.collect(),
    };
    let mut link = match open(mechanism, start) {
        Ok(link) => link,
        Err(error) if is_refusal(&error) => {
            return control.report(&Report::Refused(error.to_string()));
        }
        Err(error) => return control.report(&Report::Failed(error.to_string())),
    };
    control.report(&Report::Ready)?;
    if !control.wait_for_go()? {
        return Ok(());
    }
    let done = match side {
        Side::Sender => exchange::send(&mut *link, &file, whole, |sent| {
            control.report(&Report::Sent(sent))
        })
        .map(Some),
        Side::Receiver => exchange::receive(&mut *link).map(|()| None),
    };
    match done {
        Ok(Some(measured)) => control.report(&Report::Done(measured)),
        Ok(None) => Ok(()),
        Err(error) => control.report(&Report::Failed(error.to_string())),
    }
}

/// Gives each side a CPU of its own, if there are two: else the scheduler decides anew for each
/// mechanism whether they share one, which changes the round trip tenfold.
fn stay_on_one_cpu(side: Side) -> io::Result<()> {
    let allowed = sched_getaffinity(None)?;
    let mut cpus = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu));
    if let (Some(first), Some(second)) = (cpus.next(), cpus.next()) {
        let [ours, _] = side.order([first, second]);
        let mut set = CpuSet::new();
        set.set(ours);
        sched_setaffinity(None, &set)?;
    }
    Ok(())
}

fn open(mechanism: &Mechanism, start: Start) -> io::Result<Box<dyn Link>> {
    let link = (mechanism.open)(start)?;
    let max = link.max_message();
    if max < exchange::PING {
        let least = exchange::PING;
        let why = format!("messages of at most {max} bytes, and {least} are needed");
        return Err(io::Error::new(io::ErrorKind::Unsupported, why));
    }
    Ok(link)
}
