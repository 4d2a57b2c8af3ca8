//! poll(2) over descriptors that another process makes ready.

mod support;

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use linipc::Deadline;
use linipc::event::poll::{PollFd, PollFlags, poll};
use linipc_core::Errno;
use linipc_core::event::poll as core;
use support::{catch_signals, caught, interrupt, peer, until_asleep};

#[test]
fn it_tells_which_ones_are_ready() {
    isolated!(|| {
        let (mut answer, answerer) = io::pipe().unwrap();
        let pipes: Vec<_> = (0..3).map(|_| io::pipe().unwrap()).collect();
        let waiter = peer(|| {
            let mut fds: Vec<PollFd<'_>> = pipes
                .iter()
                .map(|(reader, _)| PollFd::new(reader, PollFlags::IN))
                .collect();
            assert_eq!(poll(&mut fds, Deadline::NEVER).unwrap(), 1);
            let revents: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            let none = PollFlags::empty();
            assert_eq!(revents, [none, PollFlags::IN, none]);
            (&answerer).write_all(b"!").unwrap();
        });
        until_asleep(waiter.pid());
        (&pipes[1].1).write_all(b"x").unwrap();
        answer.read_exact(&mut [0]).unwrap();
        waiter.join();
    });
}

#[test]
fn the_end_of_a_peer_is_a_hang_up() {
    isolated!(|| {
        let (reader, writer) = io::pipe().unwrap();
        let holder = peer(|| std::thread::sleep(support::PATIENCE));
        drop(writer);
        let mut fds = [PollFd::new(&reader, PollFlags::IN)];
        assert_eq!(poll(&mut fds, Duration::ZERO).unwrap(), 0);
        holder.kill();
        assert_eq!(poll(&mut fds, support::PATIENCE).unwrap(), 1);
        assert_eq!(fds[0].revents(), PollFlags::HUP);
    });
}

#[test]
fn a_deadline_that_passes_gives_none() {
    let (reader, _writer) = io::pipe().unwrap();
    let mut fds = [PollFd::new(&reader, PollFlags::IN)];
    let end = std::time::Instant::now() + Duration::from_millis(3);
    assert_eq!(poll(&mut fds, end).unwrap(), 0);
    assert!(std::time::Instant::now() >= end, "too early");
    assert_eq!(poll(&mut [], Duration::from_millis(1)).unwrap(), 0);
}

#[test]
fn a_regular_file_is_always_ready() {
    let file = File::open("/proc/self/exe").unwrap();
    let mut fds = [PollFd::new(&file, PollFlags::IN | PollFlags::OUT)];
    assert_eq!(poll(&mut fds, Deadline::NEVER).unwrap(), 1);
    assert_eq!(fds[0].revents(), PollFlags::IN | PollFlags::OUT);
}

#[test]
fn a_malformed_timeout_and_a_long_list_are_refused() {
    isolated!(|| {
        let bad = core::Timespec {
            tv_sec: 0,
            tv_nsec: 1_000_000_000,
        };
        assert_eq!(core::poll(&mut [], Some(&bad)), Err(Errno::INVAL));
        let (reader, _writer) = io::pipe().unwrap();
        use rustix::process::{Resource, Rlimit, setrlimit};
        let limit = Rlimit {
            current: Some(20),
            maximum: Some(20),
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        let mut fds = vec![PollFd::new(&reader, PollFlags::IN); 21];
        let error = poll(&mut fds, Duration::ZERO).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        assert_eq!(poll(&mut fds[1..], Duration::ZERO).unwrap(), 0);
    });
}

#[test]
fn a_signal_interrupts_core_and_not_the_shim() {
    isolated!(|| {
        let (reader, mut writer) = io::pipe().unwrap();
        let waiter = peer(|| {
            catch_signals();
            let mut fds = [PollFd::new(&reader, PollFlags::IN)];
            assert_eq!(core::poll(&mut fds, None), Err(Errno::INTR));
        });
        interrupt(&waiter);
        waiter.join();
        let waiter = peer(|| {
            catch_signals();
            let mut fds = [PollFd::new(&reader, PollFlags::IN)];
            assert_eq!(poll(&mut fds, support::PATIENCE).unwrap(), 1);
            assert_eq!(caught(), 1);
        });
        interrupt(&waiter);
        writer.write_all(b"x").unwrap();
        waiter.join();
    });
}
