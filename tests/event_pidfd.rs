//! Processes as descriptors.

mod support;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio, id};
use std::time::Duration;

use linipc::event::pidfd::{Identity, Pid, PidFd, Signal};
use linipc_core::Errno;
use linipc_core::event::pidfd::{self, Flags, WaitIdOptions};
use linipc_core::io::{FdFlags, fcntl_getfd};
use support::{Peer, eventually, peer, until_asleep};

fn pid(number: u32) -> Pid {
    Pid::from_raw(number as i32).unwrap()
}

fn open(peer: &Peer) -> PidFd {
    PidFd::open(pid(peer.pid() as u32)).unwrap()
}

fn sleeping() -> Peer {
    peer(|| std::thread::sleep(support::PATIENCE))
}

/// Field 22 of `/proc/PID/stat`, which follows the name and its parentheses.
fn start_time(peer: &Peer) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", peer.pid())).unwrap();
    let fields = stat.rsplit(") ").next().unwrap();
    fields.split(' ').nth(22 - 3).unwrap().parse().unwrap()
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<Errno> {
    linipc::error::errno(&result.unwrap_err())
}

#[test]
fn a_process_is_watched_by_one_that_is_not_its_parent() {
    isolated!(|| {
        let process = sleeping();
        let watched = open(&process);
        let watcher = peer(|| {
            assert!(!watched.has_ended().unwrap());
            watched.wait_ended(support::PATIENCE).unwrap();
            assert!(watched.has_ended().unwrap());
            assert_eq!(errno(watched.wait()), Some(Errno::CHILD));
        });
        until_asleep(watcher.pid());
        process.kill();
        watcher.join();
    });
}

#[test]
fn waiting_for_what_is_not_a_child_fails_at_once() {
    isolated!(|| {
        let parent = id();
        peer(|| {
            let parent = PidFd::open(pid(parent)).unwrap();
            assert_eq!(errno(parent.wait()), Some(Errno::CHILD));
            assert_eq!(errno(parent.try_wait()), Some(Errno::CHILD));
            let error = parent.wait_ended(Duration::from_millis(2)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        })
        .join();
    });
}

#[test]
fn a_child_is_waited_for_and_gives_its_status() {
    let mut shell = Command::new("sh");
    let child = shell
        .args(["-c", "read line; exit 7"])
        .stdin(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let process = PidFd::try_from(&child).unwrap();
    assert_eq!(process.try_wait().unwrap(), None);
    let error = process.wait_deadline(Duration::from_millis(2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let status = process.wait_deadline(support::PATIENCE).unwrap();
    assert_eq!((status.code(), status.signal()), (Some(7), None));
    assert_eq!(errno(process.try_wait()), Some(Errno::CHILD), "only once");
    assert!(child.wait().is_err());
}

#[test]
fn a_signal_reaches_the_process_and_ends_it() {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let process = PidFd::try_from(&child).unwrap();
    process.send_signal(Signal::TERM).unwrap();
    let status = process.wait().unwrap();
    assert_eq!(errno(child.wait()), Some(Errno::CHILD));
    assert_eq!(
        (status.code(), status.signal()),
        (None, Some(libc::SIGTERM))
    );
    assert!(!status.core_dumped());
    assert_eq!(errno(process.send_signal(Signal::TERM)), Some(Errno::SRCH));
}

#[test]
fn a_child_that_was_waited_for_is_refused() {
    let mut child = Command::new("true").spawn().unwrap();
    PidFd::try_from(&child).unwrap();
    child.wait().unwrap();
    let error = errno(PidFd::try_from(&child));
    assert!(matches!(error, Some(Errno::SRCH | Errno::CHILD)));
}

#[test]
fn a_stopped_child_is_seen_by_core() {
    isolated!(|| {
        let process = sleeping();
        let pidfd = open(&process);
        let none = pidfd::wait(&pidfd, WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
        assert!(none.unwrap().is_none());
        pidfd.send_signal(Signal::STOP).unwrap();
        let status = pidfd::wait(&pidfd, WaitIdOptions::STOPPED)
            .unwrap()
            .unwrap();
        assert_eq!(status.stopping_signal(), Some(libc::SIGSTOP));
        let refused = pidfd::wait(&pidfd, WaitIdOptions::empty());
        assert_eq!(refused.unwrap_err(), Errno::INVAL);
        assert!(!pidfd.has_ended().unwrap());
        process.kill();
    });
}

#[test]
fn a_descriptor_is_taken_out_of_another_process() {
    isolated!(|| {
        let (mut told, teller) = io::pipe().unwrap();
        let owner = peer(|| {
            let (reader, mut writer) = io::pipe().unwrap();
            writer.write_all(b"from within").unwrap();
            let number = reader.as_raw_fd();
            (&teller).write_all(&number.to_ne_bytes()).unwrap();
            std::thread::sleep(support::PATIENCE);
        });
        let mut number = [0; 4];
        told.read_exact(&mut number).unwrap();
        let process = open(&owner);
        match process.get_fd(i32::from_ne_bytes(number)) {
            Ok(fd) => {
                assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
                let mut buf = [0; 32];
                assert_eq!(linipc_core::io::read(&fd, &mut buf), Ok(11));
                assert_eq!(&buf[..11], b"from within");
                assert_eq!(errno(process.get_fd(1 << 20)), Some(Errno::BADF));
            }
            Err(error) => support::skip(&format!("pidfd_getfd is refused here: {error}")),
        }
        owner.kill();
        assert_eq!(errno(process.get_fd(0)), Some(Errno::SRCH));
    });
}

#[test]
fn an_identity_finds_its_process_and_no_other() {
    isolated!(|| {
        let process = sleeping();
        let pidfd = open(&process);
        let identity = pidfd.identity().unwrap();
        assert_eq!(identity.pid, pidfd.pid().unwrap());
        assert_eq!(identity.pid, pid(process.pid() as u32));
        assert_eq!(identity.start_time, start_time(&process));
        // Also from another process.
        peer(|| {
            let found = PidFd::open_identity(identity).unwrap();
            assert_eq!(found.identity().unwrap(), identity);
            let later = Identity {
                start_time: identity.start_time + 1,
                ..identity
            };
            assert_eq!(errno(PidFd::open_identity(later)), Some(Errno::SRCH));
        })
        .join();
        process.kill();
        assert_eq!(errno(PidFd::open_identity(identity)), Some(Errno::SRCH));
        assert_eq!(errno(pidfd.identity()), Some(Errno::SRCH));
        assert_eq!(errno(pidfd.pid()), Some(Errno::SRCH));
        assert!(pidfd.has_ended().unwrap());
    });
}

/// Makes the next process of this PID namespace have this id.
fn next_pid(number: i32) {
    std::fs::write("/proc/sys/kernel/ns_last_pid", (number - 1).to_string()).unwrap();
}

/// Runs `body` as the first process of a PID namespace with its own `/proc`. `false` if the kernel
/// refuses that, or cannot choose ids.
fn in_pid_namespace(body: impl FnOnce()) -> bool {
    use rustix::mount::{MountFlags, mount};
    use rustix::thread::{UnshareFlags, unshare_unsafe};
    // SAFETY: No descriptor table or memory is unshared.
    unsafe { unshare_unsafe(UnshareFlags::NEWPID | UnshareFlags::NEWNS) }.unwrap();
    const REFUSED: i32 = 77;
    // SAFETY: This process has one thread, so the child may do anything.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let none: Option<&std::ffi::CStr> = None;
        let there = mount("proc", "/proc", "proc", MountFlags::empty(), none).is_ok()
            && std::fs::exists("/proc/sys/kernel/ns_last_pid").unwrap();
        let code = match there {
            false => REFUSED,
            true => match std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)) {
                Ok(()) => 0,
                Err(_) => 101,
            },
        };
        // SAFETY: Ends the child here, so that it does not return into the test's harness.
        unsafe { libc::_exit(code) };
    }
    let status = PidFd::open(pid(child as u32)).unwrap().wait().unwrap();
    assert!(matches!(status.code(), Some(0 | REFUSED)), "{status}");
    status.success()
}

#[test]
fn an_id_that_was_given_again_is_not_taken_for_the_same_process() {
    let body = || {
        let old = sleeping();
        let (number, pidfd) = (old.pid(), open(&old));
        let identity = pidfd.identity().unwrap();
        old.kill();
        // Start times count in hundredths of a second.
        let now = std::time::Instant::now();
        eventually("the next tick", || {
            now.elapsed() > Duration::from_millis(20)
        });
        next_pid(number);
        let new = sleeping();
        assert_eq!(new.pid(), number);
        assert_eq!(errno(PidFd::open_identity(identity)), Some(Errno::SRCH));
        assert!(pidfd.has_ended().unwrap());
        assert_eq!(errno(pidfd.pid()), Some(Errno::SRCH));
        assert_eq!(errno(pidfd.send_signal(Signal::KILL)), Some(Errno::SRCH));
        assert!(!open(&new).has_ended().unwrap());
        new.kill();

        // A child that was waited for, and whose id is now a grandchild's.
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (mut told, teller) = io::pipe().unwrap();
        let other = peer(|| {
            next_pid(child.id() as i32);
            let grandchild = sleeping();
            assert_eq!(grandchild.pid(), child.id() as i32);
            (&teller).write_all(b"!").unwrap();
            std::thread::sleep(support::PATIENCE);
        });
        told.read_exact(&mut [0]).unwrap();
        assert_eq!(errno(PidFd::try_from(&child)), Some(Errno::CHILD));
        other.kill();
    };
    isolated!(|| {
        peer(|| {
            if !in_pid_namespace(body) {
                support::skip("no PID namespace in which ids can be chosen");
            }
        })
        .join()
    });
}

#[test]
fn a_name_full_of_parentheses_does_not_confuse_the_start_time() {
    isolated!(|| {
        let (mut told, teller) = io::pipe().unwrap();
        let process = peer(|| {
            rustix::thread::set_name(c") S 1 (x) 2 )").unwrap();
            (&teller).write_all(b"!").unwrap();
            std::thread::sleep(support::PATIENCE);
        });
        let pidfd = open(&process);
        told.read_exact(&mut [0]).unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap();
        assert!(stat.contains("() S 1 (x) 2 ))"));
        assert_eq!(pidfd.identity().unwrap().start_time, start_time(&process));
        process.kill();
    });
}

#[test]
fn a_process_that_ended_but_was_not_waited_for_still_has_its_identity() {
    let mut child = Command::new("true").spawn().unwrap();
    let process = PidFd::try_from(&child).unwrap();
    let identity = process.identity().unwrap();
    process.wait_ended(support::PATIENCE).unwrap();
    assert!(process.has_ended().unwrap());
    assert_eq!(process.identity().unwrap(), identity);
    let again = PidFd::try_from(&child).unwrap();
    assert_eq!(again.identity().unwrap(), identity);
    assert!(child.wait().unwrap().success());
    assert_eq!(errno(process.identity()), Some(Errno::SRCH));
}

#[test]
fn what_is_not_a_process_is_refused() {
    assert_eq!(errno(PidFd::open(pid(i32::MAX as u32))), Some(Errno::SRCH));
    let thread = std::thread::spawn(|| PidFd::open(rustix::thread::gettid()));
    let refused = errno(thread.join().unwrap());
    assert!(matches!(refused, Some(Errno::INVAL | Errno::NOENT)));
    let (reader, _writer) = linipc_core::pipe::pipe().unwrap();
    assert_eq!(pidfd::pid(&reader), Err(Errno::INVAL));
    assert_eq!(pidfd::identity(&reader), Err(Errno::INVAL));
    let waited = pidfd::wait(&reader, WaitIdOptions::EXITED);
    assert!(matches!(waited.unwrap_err(), Errno::INVAL | Errno::BADF));
    assert_eq!(pidfd::get_fd(&reader, 0).unwrap_err(), Errno::BADF);
}

#[test]
fn a_lock_that_is_shown_before_the_id_is_not_taken_for_it() {
    let peer = sleeping();
    let id = Pid::from_raw(peer.pid()).unwrap();
    let pidfd = pidfd::open(id, Flags::empty()).unwrap();
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
    rustix::fs::fcntl_lock(&file, shared).unwrap();
    let info = format!("/proc/thread-self/fdinfo/{}", file.as_raw_fd());
    let info = std::fs::read_to_string(info).unwrap();
    assert!(info.contains("lock:") && info.contains("POSIX"), "{info}");
    assert_eq!(pidfd::pid(&file), Err(Errno::INVAL));
    assert_eq!(pidfd::identity(&file), Err(Errno::INVAL));
    // No descriptor, although without the sign it would be one.
    let wrong = -pidfd.as_raw_fd();
    // SAFETY: Nobody uses it but a call that finds that it is none.
    let wrong = unsafe { std::os::fd::BorrowedFd::borrow_raw(wrong) };
    assert_eq!(pidfd::pid(wrong), Err(Errno::BADF));
    assert_eq!(pidfd::pid(&pidfd), Ok(id));
}

#[test]
fn it_is_close_on_exec() {
    let pidfd = pidfd::open(pid(id()), Flags::empty()).unwrap();
    assert!(fcntl_getfd(&pidfd).unwrap().contains(FdFlags::CLOEXEC));
}
