//! Event counters between two processes.

mod support;

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::time::Duration;

use linipc::event::eventfd::{EventFd, MAX};
use linipc_core::Errno;
use linipc_core::event::eventfd::{self, Flags};
use linipc_core::io::{FdFlags, OFlags, fcntl_getfd, fcntl_getfl};
use support::{catch_signals, caught, interrupt, peer, until_asleep};

#[test]
fn a_take_gives_all_that_another_process_added() {
    isolated!(|| {
        let event = EventFd::new(1).unwrap();
        peer(|| {
            event.add(20).unwrap();
            event.add(300).unwrap();
        })
        .join();
        assert_eq!(event.take().unwrap(), 321);
        assert_eq!(event.try_take().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_semaphore_gives_one_at_a_time() {
    isolated!(|| {
        let event = EventFd::semaphore(1).unwrap();
        peer(|| event.add(2).unwrap()).join();
        for _ in 0..3 {
            assert_eq!(event.try_take().unwrap(), 1);
        }
        assert_eq!(event.try_take().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_taker_sleeps_until_something_is_added() {
    isolated!(|| {
        let event = EventFd::new(0).unwrap();
        let taker = peer(|| assert_eq!(event.take().unwrap(), 9));
        until_asleep(taker.pid());
        event.add(0).unwrap();
        event.add(9).unwrap();
        taker.join();

        let blocking = eventfd::create(0, Flags::empty()).unwrap();
        let taker = peer(|| assert_eq!(eventfd::read(&blocking), Ok(4)));
        until_asleep(taker.pid());
        eventfd::write(&blocking, 4).unwrap();
        taker.join();
    });
}

#[test]
fn a_full_counter_refuses_times_out_or_holds_the_writer() {
    isolated!(|| {
        let event = EventFd::new(1).unwrap();
        event.add(MAX - 1).unwrap();
        assert_eq!(event.try_add(1).unwrap_err().kind(), ErrorKind::WouldBlock);
        let error = event.add_deadline(1, Duration::from_millis(2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        let adder = peer(|| event.add(5).unwrap());
        until_asleep(adder.pid());
        assert_eq!(event.take().unwrap(), MAX, "nothing of the refused");
        adder.join();
        assert_eq!(event.take().unwrap(), 5);
        assert_eq!(
            event.add(u64::MAX).unwrap_err().raw_os_error(),
            Some(Errno::INVAL.raw_os_error())
        );
    });
}

#[test]
fn a_take_gives_up_at_its_deadline_or_ends_before() {
    isolated!(|| {
        let event = EventFd::new(0).unwrap();
        for soon in [Duration::ZERO, Duration::from_millis(2)] {
            let error = event.take_deadline(soon).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        let taker = peer(|| assert_eq!(event.take_deadline(support::PATIENCE).unwrap(), 1));
        until_asleep(taker.pid());
        event.add(1).unwrap();
        taker.join();
    });
}

#[test]
fn a_signal_interrupts_core_and_not_the_shim() {
    isolated!(|| {
        let blocking = eventfd::create(0, Flags::empty()).unwrap();
        let taker = peer(|| {
            catch_signals();
            assert_eq!(eventfd::read(&blocking), Err(Errno::INTR));
        });
        interrupt(&taker);
        taker.join();
        // A blocking descriptor waits within the read, a handle's own within poll.
        for event in [EventFd::from(blocking), EventFd::new(0).unwrap()] {
            let taker = peer(|| {
                catch_signals();
                assert_eq!(event.take().unwrap(), 1);
                assert_eq!(caught(), 1);
            });
            interrupt(&taker);
            event.add(1).unwrap();
            taker.join();
        }
    });
}

#[test]
fn it_is_close_on_exec_and_blocking_only_if_asked() {
    let event = eventfd::create(0, Flags::empty()).unwrap();
    assert!(fcntl_getfd(&event).unwrap().contains(FdFlags::CLOEXEC));
    assert!(!fcntl_getfl(&event).unwrap().contains(OFlags::NONBLOCK));
    let event = EventFd::new(0).unwrap();
    assert!(fcntl_getfd(&event).unwrap().contains(FdFlags::CLOEXEC));
    assert!(fcntl_getfl(&event).unwrap().contains(OFlags::NONBLOCK));
}

#[test]
fn what_is_not_an_eventfd_is_told() {
    let (reader, writer) = linipc_core::pipe::pipe().unwrap();
    linipc_core::io::write(writer, b"short").unwrap();
    assert_eq!(eventfd::read(reader), Err(Errno::INVAL));
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_takes_and_adds() {
    isolated!(|| {
        let event = EventFd::new(0).unwrap();
        event.add(21).unwrap();
        let script = "import os; os.eventfd_write(0, 2 * os.eventfd_read(0))";
        let status = Command::new("python3")
            .args(["-c", script])
            .stdin(OwnedFd::from(event.try_clone().unwrap()))
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(event.try_take().unwrap(), 42);
    });
}
