//! Signals as reads, sent by another process.

mod support;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::{Command, id};
use std::time::Duration;

use linipc::event::signalfd::{self as shim, Info, Signal, SignalFd, SignalSet};
use linipc_core::Errno;
use linipc_core::event::signalfd::{self, Flags, realtime};
use linipc_core::io::{FdFlags, OFlags, fcntl_getfd, fcntl_getfl};
use rustix::process::{getpid, getuid, kill_process};
use support::{catch_signals, caught, peer, until_asleep};

const USR1: SignalSet = SignalSet::EMPTY.with(Signal::USR1);

/// Runs `body` in a process with one thread. The test's own has a second one, which blocks nothing,
/// and would be hit by what is sent to the process.
fn alone(body: impl FnOnce()) {
    peer(body).join();
}

/// `sigqueue(3)` to a process, with a number.
fn queue(pid: i32, signal: Signal, value: usize) {
    let value = libc::sigval {
        sival_ptr: value as *mut libc::c_void,
    };
    // SAFETY: The value is carried, not followed.
    assert_eq!(unsafe { libc::sigqueue(pid, signal.as_raw(), value) }, 0);
}

/// What the kernel says is blocked in this thread.
fn blocked() -> SignalSet {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigBlk:\t"));
    SignalSet::from_bits(u64::from_str_radix(line.unwrap(), 16).unwrap())
}

#[test]
fn a_signal_is_read_with_its_sender() {
    isolated!(|| alone(|| {
        let signals = SignalFd::block(USR1).unwrap();
        let me = getpid();
        let sender = peer(|| kill_process(me, Signal::USR1).unwrap());
        let pid = sender.pid();
        let info = signals.read_deadline(support::PATIENCE).unwrap();
        sender.join();
        assert_eq!(info.signal(), Some(Signal::USR1));
        assert_eq!((info.number(), info.code()), (libc::SIGUSR1, libc::SI_USER));
        assert_eq!((info.pid(), info.uid()), (pid, getuid().as_raw()));
        assert_eq!(
            signals.try_read().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }));
}

#[test]
fn a_reader_sleeps_until_a_signal_comes() {
    isolated!(|| alone(|| {
        signalfd::block(USR1).unwrap();
        let reader = peer(|| {
            let signals = signalfd::create(USR1, Flags::empty()).unwrap();
            let mut infos = [Info::default(); 3];
            assert_eq!(signalfd::read(&signals, &mut infos), Ok(1));
            assert_eq!(infos[0].signal(), Some(Signal::USR1));
            assert_eq!(infos[1].number(), 0, "untouched");
        });
        until_asleep(reader.pid());
        // SAFETY: kill(2) takes no pointers.
        unsafe { libc::kill(reader.pid(), libc::SIGUSR1) };
        reader.join();
    }));
}

/// The number in `union sigval`, of which this is the pointer.
fn int_of(pointer: usize) -> i32 {
    i32::from_ne_bytes(*pointer.to_ne_bytes().first_chunk().unwrap())
}

#[test]
fn real_time_signals_queue_with_their_values_and_others_merge() {
    isolated!(|| alone(|| {
        let queued = realtime(40).unwrap();
        let set = SignalSet::from_iter([queued, Signal::USR1]);
        let signals = SignalFd::block(set).unwrap();
        let me = id() as i32;
        peer(|| {
            for value in [7, usize::MAX - 1, 9] {
                queue(me, queued, value);
            }
            queue(me, Signal::USR1, 1);
            queue(me, Signal::USR1, 2);
        })
        .join();
        let mut infos = [Info::default(); 2];
        assert_eq!(signalfd::read(&signals, &mut infos), Ok(2));
        assert_eq!(
            infos.map(|info| info.signal()),
            [Some(Signal::USR1), Some(queued)]
        );
        assert_eq!(infos[1].code(), libc::SI_QUEUE);
        assert_eq!((infos[1].value(), infos[1].pointer()), (int_of(7), 7));
        let mut infos = [Info::default(); 8];
        assert_eq!(signalfd::read(&signals, &mut infos), Ok(2));
        assert_eq!(infos[0].pointer(), usize::MAX as u64 - 1);
        let values = [usize::MAX - 1, 9].map(int_of);
        assert_eq!([infos[0].value(), infos[1].value()], values);
    }));
}

#[test]
fn the_end_of_a_child_tells_who_and_how() {
    isolated!(|| alone(|| {
        let signals = SignalFd::block(SignalSet::EMPTY.with(Signal::CHILD)).unwrap();
        let mut child = Command::new("sh").args(["-c", "exit 7"]).spawn().unwrap();
        let info = signals.read_deadline(support::PATIENCE).unwrap();
        assert_eq!(info.signal(), Some(Signal::CHILD));
        assert_eq!((info.pid(), info.status()), (child.id() as i32, 7));
        assert_eq!(info.code(), libc::CLD_EXITED);
        child.wait().unwrap();
    }));
}

#[test]
fn a_child_reads_its_own_signals_from_an_inherited_descriptor() {
    isolated!(|| alone(|| {
        let signals = SignalFd::block(USR1).unwrap();
        peer(|| {
            kill_process(getpid(), Signal::USR1).unwrap();
            assert_eq!(signals.read().unwrap().pid(), id() as i32);
        })
        .join();
        let error = signals.try_read().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "none of it is ours");
    }));
}

#[test]
fn the_set_can_be_changed() {
    isolated!(|| alone(|| {
        let signals = SignalFd::block(USR1).unwrap();
        let usr2 = SignalSet::EMPTY.with(Signal::USR2);
        signals.set(usr2).unwrap();
        assert!(blocked().contains(Signal::USR1) && blocked().contains(Signal::USR2));
        kill_process(getpid(), Signal::USR1).unwrap();
        let soon = Duration::from_millis(2);
        let error = signals.read_deadline(soon).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        kill_process(getpid(), Signal::USR2).unwrap();
        assert_eq!(signals.read().unwrap().signal(), Some(Signal::USR2));
        signals.set(USR1).unwrap();
        assert_eq!(signals.read().unwrap().signal(), Some(Signal::USR1));
    }));
}

#[test]
fn a_blocked_signal_waits_until_it_is_unblocked() {
    isolated!(|| alone(|| {
        catch_signals();
        let before = signalfd::block(USR1).unwrap();
        assert!(!before.contains(Signal::USR1));
        kill_process(getpid(), Signal::USR1).unwrap();
        assert_eq!(caught(), 0);
        let before = signalfd::unblock(USR1).unwrap();
        assert!(before.contains(Signal::USR1));
        assert_eq!(caught(), 1);
    }));
}

#[test]
fn all_can_be_blocked_but_those_that_must_not() {
    isolated!(|| alone(|| {
        let before = shim::block(SignalSet::ALL).unwrap();
        let numbers = [libc::SIGKILL, libc::SIGSTOP, 32, 33, 34];
        let never = numbers
            .iter()
            .fold(0, |bits, number| bits | 1 << (number - 1));
        assert_eq!(blocked().bits(), !never);
        assert_eq!(shim::set_mask(before).unwrap().bits(), !never);
        assert_eq!(blocked(), before);
        assert_eq!(shim::set_mask(SignalSet::ALL).unwrap(), before);
        assert_eq!(blocked().bits(), !never);
        // A program inherits the mask.
        let status = support::run(Command::new("cat").arg("/proc/self/status"));
        assert!(status.contains(&format!("SigBlk:\t{:016x}", !never)));
    }));
}

#[test]
fn a_set_is_what_was_put_in() {
    let set = SignalSet::EMPTY.with(Signal::HUP).with(Signal::SYS);
    assert_eq!(set.bits(), 1 | 1 << 30);
    assert_eq!(format!("{set:?}"), "{1, 31}");
    assert!(set.contains(Signal::HUP) && !set.contains(Signal::INT));
    assert_eq!(set.without(Signal::HUP).bits(), 1 << 30);
    let last = realtime(64).unwrap();
    assert_eq!(SignalSet::EMPTY.with(last).bits(), 1 << 63);
    for number in [i32::MIN, 0, 31, 32, 33, 34, 65, i32::MAX] {
        assert_eq!(realtime(number), None);
    }
}

#[test]
fn what_is_no_room_or_no_signalfd_is_told() {
    let signals = signalfd::create(SignalSet::EMPTY, Flags::NONBLOCK).unwrap();
    assert_eq!(signalfd::read(&signals, &mut []), Err(Errno::INVAL));
    let (reader, writer) = linipc_core::pipe::pipe().unwrap();
    assert_eq!(signalfd::set(&reader, USR1), Err(Errno::INVAL));
    linipc_core::io::write(&writer, b"short").unwrap();
    let error = SignalFd::from(reader).read().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
}

#[test]
fn it_is_close_on_exec_and_blocking_only_if_asked() {
    let signals = signalfd::create(SignalSet::EMPTY, Flags::empty()).unwrap();
    assert!(fcntl_getfd(&signals).unwrap().contains(FdFlags::CLOEXEC));
    assert!(!fcntl_getfl(&signals).unwrap().contains(OFlags::NONBLOCK));
    let signals = OwnedFd::from(SignalFd::block(SignalSet::EMPTY).unwrap());
    assert!(fcntl_getfd(&signals).unwrap().contains(FdFlags::CLOEXEC));
    assert!(fcntl_getfl(&signals).unwrap().contains(OFlags::NONBLOCK));
}
