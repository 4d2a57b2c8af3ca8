//! File locks between two processes, and between two descriptors of one.

mod support;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use linipc::error::errno;
use linipc::event::signalfd::{SignalFd, SignalSet};
use linipc::lock::{Guard, Lease, Lock};
use linipc_core::Errno;
use linipc_core::lock::{self, FlockOperation, Holder, Kind, Origin, Owner, Range, Signal};
use support::{peer, until_asleep};

const DESCRIPTION: Lock = Lock::Record(Owner::Description, Range::ALL);
const PROCESS: Lock = Lock::Record(Owner::Process, Range::ALL);

/// A file for the namespace of a test, removed on drop.
struct TestFile(PathBuf);

impl TestFile {
    fn new() -> Self {
        let path = PathBuf::from("/dev/shm/locked");
        fs::write(&path, [0; 100]).unwrap();
        Self(path)
    }

    fn open(&self) -> File {
        open(&self.0)
    }
}

impl Deref for TestFile {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn open(path: &Path) -> File {
    File::options().read(true).write(true).open(path).unwrap()
}

fn try_lock(file: &File, lock: Lock, kind: Kind) -> Result<(), Errno> {
    match (lock, kind) {
        (Lock::File, Kind::Shared) => lock::flock(file, FlockOperation::NonBlockingLockShared),
        (Lock::File, Kind::Exclusive) => {
            lock::flock(file, FlockOperation::NonBlockingLockExclusive)
        }
        (Lock::Record(owner, range), kind) => lock::try_acquire(file, owner, range, kind),
    }
}

fn wait_lock(file: &File, lock: Lock, kind: Kind) -> Result<(), Errno> {
    match (lock, kind) {
        (Lock::File, Kind::Shared) => lock::flock(file, FlockOperation::LockShared),
        (Lock::File, Kind::Exclusive) => lock::flock(file, FlockOperation::LockExclusive),
        (Lock::Record(owner, range), kind) => lock::acquire(file, owner, range, kind),
    }
}

fn unlock(file: &File, lock: Lock) -> Result<(), Errno> {
    match lock {
        Lock::File => lock::flock(file, FlockOperation::Unlock),
        Lock::Record(owner, range) => lock::release(file, owner, range),
    }
}

/// Whether another process could have the exclusive lock.
fn is_free(path: &Path, lock: Lock) -> bool {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    peer(|| {
        let free = try_lock(&open(path), lock, Kind::Exclusive);
        assert!(matches!(free, Ok(()) | Err(Errno::AGAIN)), "{free:?}");
        writer.write_all(&[u8::from(free.is_ok())]).unwrap();
    })
    .join();
    let mut answer = [0];
    reader.read_exact(&mut answer).unwrap();
    answer == [1]
}

#[test]
fn only_shared_locks_go_together() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION, PROCESS] {
            for (held, wanted, expected) in [
                (Kind::Shared, Kind::Shared, Ok(())),
                (Kind::Shared, Kind::Exclusive, Err(Errno::AGAIN)),
                (Kind::Exclusive, Kind::Shared, Err(Errno::AGAIN)),
                (Kind::Exclusive, Kind::Exclusive, Err(Errno::AGAIN)),
            ] {
                let file = path.open();
                try_lock(&file, lock, held).unwrap();
                peer(|| {
                    let result = try_lock(&path.open(), lock, wanted);
                    assert_eq!(result, expected, "{lock:?} {held:?} {wanted:?}");
                })
                .join();
                unlock(&file, lock).unwrap();
                assert!(is_free(&path, lock), "{lock:?}");
            }
        }
    });
}

#[test]
fn a_waiter_sleeps_until_the_lock_is_free() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION, PROCESS] {
            for kind in [Kind::Shared, Kind::Exclusive] {
                let file = path.open();
                wait_lock(&file, lock, Kind::Exclusive).unwrap();
                let waiter = peer(|| wait_lock(&path.open(), lock, kind).unwrap());
                until_asleep(waiter.pid());
                unlock(&file, lock).unwrap();
                waiter.join();
            }
        }
    });
}

#[test]
fn a_killed_holder_leaves_no_lock() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION, PROCESS] {
            let (mut reader, mut writer) = std::io::pipe().unwrap();
            let holder = peer(|| {
                let file = path.open();
                wait_lock(&file, lock, Kind::Exclusive).unwrap();
                writer.write_all(b"!").unwrap();
                loop {
                    std::thread::park();
                }
            });
            reader.read_exact(&mut [0]).unwrap();
            assert!(!is_free(&path, lock), "{lock:?}");
            let waiter = peer(|| wait_lock(&path.open(), lock, Kind::Exclusive).unwrap());
            until_asleep(waiter.pid());
            holder.kill();
            waiter.join();
            assert!(is_free(&path, lock), "{lock:?}");
        }
    });
}

#[test]
fn ranges_are_counted_from_any_origin() {
    isolated!(|| {
        let path = TestFile::new();
        let mut file = path.open();
        file.seek(SeekFrom::Start(40)).unwrap();
        let range = |origin, start, len| Range { origin, start, len };
        for (range, expected) in [
            (range(Origin::Start, 10, 5), Range::new(10, 5)),
            (range(Origin::Start, 10, -5), Range::new(5, 5)),
            (range(Origin::Start, 10, 0), Range::new(10, 0)),
            (range(Origin::Current, 2, 3), Range::new(42, 3)),
            (range(Origin::Current, -10, 3), Range::new(30, 3)),
            (range(Origin::Current, 0, -40), Range::new(0, 40)),
            (range(Origin::End, 0, 0), Range::new(100, 0)),
            (range(Origin::End, -10, 10), Range::new(90, 10)),
            (range(Origin::End, 5, -10), Range::new(95, 10)),
            (Range::new(1 << 40, 1 << 33), Range::new(1 << 40, 1 << 33)),
            (Range::ALL, Range::new(0, 0)),
        ] {
            for owner in [Owner::Description, Owner::Process] {
                lock::try_acquire(&file, owner, range, Kind::Exclusive).unwrap();
                peer(|| {
                    let asked = lock::holder(path.open(), owner, Range::ALL, Kind::Shared);
                    assert_eq!(asked.unwrap().unwrap().range, expected, "{range:?}");
                })
                .join();
                assert_eq!(range.resolve(&file).unwrap().origin, Origin::Start);
                lock::release(&file, owner, range.resolve(&file).unwrap()).unwrap();
                assert!(is_free(&path, Lock::Record(owner, Range::ALL)), "{range:?}");
            }
        }
    });
}

#[test]
fn a_lock_to_the_end_covers_what_is_appended() {
    isolated!(|| {
        let path = TestFile::new();
        let mut file = path.open();
        lock::try_acquire(&file, Owner::Description, Range::new(50, 0), Kind::Shared).unwrap();
        file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(&[1; 100]).unwrap();
        let locked = |start| !is_free(&path, Range::new(start, 1).into());
        assert!(locked(50) && locked(199) && locked(1 << 50) && !locked(49));
    });
}

#[test]
fn a_description_knows_its_own_locks() {
    isolated!(|| {
        let path = TestFile::new();
        let (file, other) = (path.open(), path.open());
        let range = Range::new(10, 10);
        lock::acquire(&file, Owner::Description, range, Kind::Exclusive).unwrap();
        let held = match lock::held(&file, Range::ALL) {
            Err(Errno::INVAL) => {
                return println!("skipped: the kernel does not tell (Linux 6.6 does)");
            }
            held => held.unwrap(),
        };
        let expected = Holder {
            owner: Owner::Description,
            pid: None,
            range,
            kind: Kind::Exclusive,
        };
        assert_eq!(held, Some(expected));
        assert_eq!(lock::held(&file, Range::new(0, 10)), Ok(None));
        assert_eq!(lock::held(&other, Range::ALL), Ok(None));
        lock::release(&file, Owner::Description, Range::ALL).unwrap();
        assert_eq!(lock::held(&file, Range::ALL), Ok(None));
    });
}

#[test]
fn the_holder_is_named() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        let me = std::process::id() as i32;
        for (owner, kind, pid) in [
            (Owner::Description, Kind::Exclusive, None),
            (Owner::Process, Kind::Exclusive, Some(me)),
            (Owner::Process, Kind::Shared, Some(me)),
            (Owner::Description, Kind::Shared, None),
        ] {
            let range = Range::new(7, 3);
            lock::try_acquire(&file, owner, range, kind).unwrap();
            peer(|| {
                let expected = Holder {
                    owner,
                    pid: pid.and_then(lock::Pid::from_raw),
                    range,
                    kind,
                };
                let ask = |asker, range, kind| lock::holder(path.open(), asker, range, kind);
                for asker in [Owner::Description, Owner::Process] {
                    let found = ask(asker, Range::new(9, 100), Kind::Exclusive);
                    assert_eq!(found, Ok(Some(expected)));
                    assert_eq!(ask(asker, Range::new(10, 0), Kind::Exclusive), Ok(None));
                    assert_eq!(ask(asker, Range::new(0, 7), Kind::Exclusive), Ok(None));
                    let shared = ask(asker, Range::ALL, Kind::Shared).unwrap();
                    assert_eq!(shared.is_none(), kind == Kind::Shared);
                }
            })
            .join();
            // One's own locks are never in the way.
            let own = lock::holder(&file, owner, Range::ALL, Kind::Exclusive);
            assert_eq!(own, Ok(None));
            lock::release(&file, owner, Range::ALL).unwrap();
        }
    });
}

#[test]
fn a_process_of_another_pid_namespace_has_no_id() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        lock::try_acquire(&file, Owner::Process, Range::ALL, Kind::Exclusive).unwrap();
        peer(|| {
            // SAFETY: Only the namespace of children changes.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWPID) }
                .unwrap();
            // SAFETY: This process has one thread.
            let child = unsafe { libc::fork() };
            if child != 0 {
                let mut status = 0;
                // SAFETY: `status` is writable.
                let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
                return assert_eq!((waited, status), (child, 0));
            }
            let found = lock::holder(path.open(), Owner::Description, Range::ALL, Kind::Shared);
            let found = found.map(|found| found.map(|found| (found.owner, found.pid)));
            let right = found == Ok(Some((Owner::Process, None)));
            // SAFETY: Ends the child here, so that it does not return into the test's harness.
            unsafe { libc::_exit(if right { 0 } else { 101 }) }
        })
        .join();
    });
}

#[test]
fn releasing_the_middle_leaves_both_sides() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        for owner in [Owner::Description, Owner::Process] {
            lock::try_acquire(&file, owner, Range::new(0, 90), Kind::Exclusive).unwrap();
            lock::release(&file, owner, Range::new(30, 30)).unwrap();
            let free = |start, len| is_free(&path, Lock::Record(owner, Range::new(start, len)));
            assert!(!free(0, 30) && free(30, 30) && !free(60, 30) && free(90, 10));
            lock::release(&file, owner, Range::ALL).unwrap();
        }
    });
}

#[test]
fn record_locks_see_each_other_and_flock_sees_none() {
    isolated!(|| {
        let path = TestFile::new();
        let (first, second) = (path.open(), path.open());
        for (held, other) in [(DESCRIPTION, PROCESS), (PROCESS, DESCRIPTION)] {
            try_lock(&first, held, Kind::Exclusive).unwrap();
            assert_eq!(try_lock(&second, other, Kind::Shared), Err(Errno::AGAIN));
            try_lock(&second, Lock::File, Kind::Exclusive).unwrap();
            unlock(&second, Lock::File).unwrap();
            unlock(&first, held).unwrap();
        }
    });
}

#[test]
fn a_duplicate_is_the_same_owner_and_a_new_description_is_not() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION] {
            let file = path.open();
            try_lock(&file, lock, Kind::Exclusive).unwrap();
            let duplicate = file.try_clone().unwrap();
            try_lock(&duplicate, lock, Kind::Exclusive).unwrap();
            assert_eq!(
                try_lock(&path.open(), lock, Kind::Shared),
                Err(Errno::AGAIN)
            );
            drop(file);
            assert!(!is_free(&path, lock), "{lock:?}: a duplicate keeps it");
            drop(duplicate);
            assert!(is_free(&path, lock), "{lock:?}");
        }
    });
}

#[test]
fn a_posix_lock_goes_with_any_descriptor() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        try_lock(&file, PROCESS, Kind::Exclusive).unwrap();
        try_lock(&path.open(), PROCESS, Kind::Exclusive).unwrap();
        assert!(is_free(&path, PROCESS), "another descriptor was closed");

        try_lock(&file, DESCRIPTION, Kind::Exclusive).unwrap();
        drop(path.open());
        assert!(!is_free(&path, DESCRIPTION));
    });
}

#[test]
fn a_child_inherits_what_belongs_to_the_description() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION] {
            let file = path.open();
            try_lock(&file, lock, Kind::Exclusive).unwrap();
            peer(|| try_lock(&file, lock, Kind::Exclusive).unwrap()).join();
            assert!(!is_free(&path, lock));
            peer(|| unlock(&file, lock).unwrap()).join();
            assert!(is_free(&path, lock), "the child unlocked for both");
        }
        let file = path.open();
        try_lock(&file, PROCESS, Kind::Exclusive).unwrap();
        peer(|| {
            let refused = try_lock(&file, PROCESS, Kind::Exclusive);
            assert_eq!(refused, Err(Errno::AGAIN));
        })
        .join();
    });
}

#[test]
fn a_failed_conversion_keeps_a_record_lock_and_loses_a_flock() {
    isolated!(|| {
        let path = TestFile::new();
        let (first, second) = (path.open(), path.open());
        for (lock, kept) in [(DESCRIPTION, true), (Lock::File, false)] {
            try_lock(&first, lock, Kind::Shared).unwrap();
            try_lock(&second, lock, Kind::Shared).unwrap();
            assert_eq!(try_lock(&first, lock, Kind::Exclusive), Err(Errno::AGAIN));
            unlock(&second, lock).unwrap();
            assert_eq!(!is_free(&path, lock), kept, "{lock:?}");

            // Alone, it succeeds, and so does the way back.
            try_lock(&first, lock, Kind::Exclusive).unwrap();
            assert_eq!(try_lock(&second, lock, Kind::Shared), Err(Errno::AGAIN));
            try_lock(&first, lock, Kind::Shared).unwrap();
            try_lock(&second, lock, Kind::Shared).unwrap();
            unlock(&first, lock).unwrap();
            unlock(&second, lock).unwrap();
        }
    });
}

#[test]
fn a_circle_of_posix_waiters_is_an_error() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        let (one, two) = (Range::new(1, 1), Range::new(2, 1));
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        lock::acquire(&file, Owner::Process, one, Kind::Exclusive).unwrap();
        let other = peer(|| {
            let file = path.open();
            lock::acquire(&file, Owner::Process, two, Kind::Exclusive).unwrap();
            writer.write_all(b"!").unwrap();
            lock::acquire(&file, Owner::Process, one, Kind::Exclusive).unwrap();
        });
        reader.read_exact(&mut [0]).unwrap();
        until_asleep(other.pid());
        let circle = lock::acquire(&file, Owner::Process, two, Kind::Exclusive);
        assert_eq!(circle, Err(Errno::DEADLK));
        lock::release(&file, Owner::Process, one).unwrap();
        other.join();
    });
}

#[test]
fn wrong_arguments_are_refused() {
    isolated!(|| {
        let path = TestFile::new();
        let reader = File::open(&*path).unwrap();
        let writer = File::options().write(true).open(&*path).unwrap();
        for owner in [Owner::Description, Owner::Process] {
            let lock = |file, range, kind| lock::try_acquire(file, owner, range, kind);
            assert_eq!(lock(&reader, Range::ALL, Kind::Exclusive), Err(Errno::BADF));
            assert_eq!(lock(&writer, Range::ALL, Kind::Shared), Err(Errno::BADF));
            for (range, errno) in [
                (Range::new(-1, 1), Errno::INVAL),
                (Range::new(5, -6), Errno::INVAL),
                (Range::new(i64::MAX, 2), Errno::OVERFLOW),
            ] {
                assert_eq!(lock(&reader, range, Kind::Shared), Err(errno));
                assert_eq!(lock::release(&reader, owner, range), Err(errno));
                let asked = lock::holder(&reader, owner, range, Kind::Shared);
                assert_eq!(asked, Err(errno));
            }
            lock(&reader, Range::new(i64::MAX, 1), Kind::Shared).unwrap();
        }
        let beyond = Range {
            origin: Origin::End,
            ..Range::new(i64::MAX, 1)
        };
        assert_eq!(beyond.resolve(&reader), Err(Errno::OVERFLOW));
        let (pipe, _writer) = std::io::pipe().unwrap();
        let here = Range {
            origin: Origin::Current,
            ..Range::ALL
        };
        assert_eq!(here.resolve(&pipe), Err(Errno::SPIPE));
        let failed = Guard::try_lock(&pipe, here, Kind::Shared).unwrap_err();
        assert_eq!(
            failed.error.raw_os_error(),
            Some(Errno::SPIPE.raw_os_error())
        );
    });
}

/// Has `SIGUSR1` interrupt calls, which the kernel does not begin again.
fn interrupt_on_usr1() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: Zeros are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    // SAFETY: `action` is a whole one, and its handler does nothing.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
}

fn interrupt(peer: &support::Peer) {
    until_asleep(peer.pid());
    let pid = rustix::process::Pid::from_raw(peer.pid()).unwrap();
    rustix::process::kill_process(pid, Signal::USR1).unwrap();
}

#[test]
fn a_signal_ends_the_wait_of_core_and_not_of_a_guard() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION, PROCESS] {
            let file = path.open();
            try_lock(&file, lock, Kind::Exclusive).unwrap();
            let waiter = peer(|| {
                interrupt_on_usr1();
                let file = path.open();
                assert_eq!(wait_lock(&file, lock, Kind::Shared), Err(Errno::INTR));
            });
            interrupt(&waiter);
            waiter.join();
            let waiter = peer(|| {
                interrupt_on_usr1();
                drop(Guard::lock(path.open(), lock, Kind::Shared).unwrap());
            });
            interrupt(&waiter);
            until_asleep(waiter.pid());
            unlock(&file, lock).unwrap();
            waiter.join();
        }
    });
}

#[test]
fn a_guard_unlocks_when_dropped_and_gives_the_file_back() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION, PROCESS, Range::new(5, 5).into()] {
            drop(Guard::lock(path.open(), lock, Kind::Exclusive).unwrap());
            assert!(is_free(&path, lock));

            // The file stays open, so it is the guard that unlocks.
            let file = path.open();
            let guard = Guard::try_lock(&file, lock, Kind::Exclusive).unwrap();
            assert!(!is_free(&path, lock));
            drop(guard);
            assert!(is_free(&path, lock));

            let mut guard = Guard::lock(file, lock, Kind::Exclusive).unwrap();
            guard.write_all(b"through the guard").unwrap();
            let mut file = guard.unlock().unwrap();
            assert!(is_free(&path, lock));
            file.rewind().unwrap();
            let mut text = [0; 17];
            file.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"through the guard");

            let file = Guard::lock(file, lock, Kind::Exclusive).unwrap().persist();
            assert!(!is_free(&path, lock));
            drop(file);
            assert!(is_free(&path, lock));
        }
    });
}

#[test]
fn a_failed_lock_gives_the_file_back() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION] {
            let held = Guard::lock(path.open(), lock, Kind::Shared).unwrap();
            let failed = Guard::try_lock(path.open(), lock, Kind::Exclusive).unwrap_err();
            assert_eq!(failed.error.kind(), ErrorKind::WouldBlock);
            let soon = Duration::from_millis(5);
            let failed =
                Guard::lock_deadline(failed.file, lock, Kind::Exclusive, soon).unwrap_err();
            assert_eq!(failed.error.kind(), ErrorKind::TimedOut);
            let second = Guard::try_lock(failed.file, lock, Kind::Shared).unwrap();

            // A conversion that fails gives the file back without a lock.
            let failed = second.try_convert(Kind::Exclusive).unwrap_err();
            assert_eq!(failed.error.kind(), ErrorKind::WouldBlock);
            drop(held);
            assert!(is_free(&path, lock), "{lock:?}");
            let as_io: std::io::Error = failed.into();
            assert_eq!(as_io.kind(), ErrorKind::WouldBlock);
        }
        let reader = File::open(&*path).unwrap();
        let failed = Guard::lock(reader, Range::ALL, Kind::Exclusive).unwrap_err();
        assert_eq!(
            failed.error.raw_os_error(),
            Some(Errno::BADF.raw_os_error())
        );
    });
}

#[test]
fn a_guard_converts() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION] {
            let shared = || Guard::try_lock(path.open(), lock, Kind::Shared);
            let guard = Guard::lock(path.open(), lock, Kind::Exclusive).unwrap();
            assert!(shared().is_err());
            let guard = guard.try_convert(Kind::Shared).unwrap();
            let other = shared().unwrap();
            let soon = Duration::from_millis(5);
            let failed = guard.convert_deadline(Kind::Exclusive, soon).unwrap_err();
            assert_eq!(failed.error.kind(), ErrorKind::TimedOut);
            let guard = Guard::lock(failed.file, lock, Kind::Shared).unwrap();
            drop(other);
            let guard = guard.convert(Kind::Exclusive).unwrap();
            assert!(shared().is_err());
            drop(guard);
        }
    });
}

#[test]
fn a_deadline_call_ends_when_a_peer_unlocks() {
    isolated!(|| {
        let path = TestFile::new();
        for lock in [Lock::File, DESCRIPTION] {
            let (mut reader, mut writer) = std::io::pipe().unwrap();
            let holder = peer(|| {
                let _guard = Guard::lock(path.open(), lock, Kind::Exclusive).unwrap();
                writer.write_all(b"!").unwrap();
                std::thread::sleep(Duration::from_millis(20));
            });
            reader.read_exact(&mut [0]).unwrap();
            let patience = support::PATIENCE;
            drop(Guard::lock_deadline(path.open(), lock, Kind::Exclusive, patience).unwrap());
            holder.join();
        }
    });
}

#[test]
fn a_guard_unlocks_the_bytes_that_it_locked() {
    isolated!(|| {
        let path = TestFile::new();
        for origin in [Origin::Current, Origin::End] {
            let mut file = path.open();
            let next = Range {
                origin,
                ..Range::new(0, 10)
            };
            let mut guard = Guard::lock(&mut file, next, Kind::Exclusive).unwrap();
            guard.seek(SeekFrom::End(0)).unwrap();
            guard.write_all(&[1; 50]).unwrap();
            drop(guard);
            assert!(is_free(&path, DESCRIPTION), "{origin:?}");
        }
    });
}

#[test]
fn a_guard_takes_over_what_std_locked() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        file.lock().unwrap();
        let kept = file.try_clone().unwrap();
        let guard = Guard::assume_locked(file, Lock::File);
        assert!(path.open().try_lock_shared().is_err());
        drop(guard);
        path.open().try_lock().unwrap();
        drop(kept);
    });
}

#[test]
fn a_lease_tells_who_comes() {
    isolated!(|| {
        let path = TestFile::new();
        // A peer has one thread, so that the signal which it blocks goes nowhere else.
        peer(|| hold_leases(&path)).join();
    });
}

fn hold_leases(path: &Path) {
    let file = open(path);
    match lock::set_lease(&file, Some(Kind::Exclusive)) {
        Err(Errno::INVAL) => return support::skip("tmpfs has no leases in this kernel"),
        taken => taken.unwrap(),
    }
    assert_eq!(lock::lease(&file), Ok(Some(Kind::Exclusive)));
    lock::set_lease_signal(&file, Some(Signal::USR1)).unwrap();
    let signals = block_usr1();

    let reader = peer(|| {
        let nonblocking = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path);
        assert_eq!(nonblocking.unwrap_err().kind(), ErrorKind::WouldBlock);
        File::open(path).unwrap();
    });
    assert_eq!(signals.next_descriptor(), raw(&file));
    until_asleep(reader.pid());
    assert_eq!(
        lock::lease(&file),
        Ok(Some(Kind::Shared)),
        "what it must become"
    );
    lock::set_lease(&file, None).unwrap();
    assert_eq!(lock::lease(&file), Ok(None));
    reader.join();
    drop(file);

    let file = File::open(path).unwrap();
    lock::set_lease(&file, Some(Kind::Shared)).unwrap();
    lock::set_lease_signal(&file, Some(Signal::USR1)).unwrap();
    peer(|| drop(File::open(path).unwrap())).join();
    let writer = peer(|| drop(open(path)));
    assert_eq!(signals.next_descriptor(), raw(&file));
    until_asleep(writer.pid());
    assert_eq!(lock::lease(&file), Ok(None), "what it must become");
    // Closing would not do: the writer has the descriptor too.
    lock::set_lease(&file, None).unwrap();
    writer.join();
}

#[test]
fn a_lease_is_refused_while_the_file_is_open_elsewhere() {
    isolated!(|| {
        let path = TestFile::new();
        let file = path.open();
        if lock::set_lease(&file, Some(Kind::Exclusive)) == Err(Errno::INVAL) {
            return support::skip("tmpfs has no leases in this kernel");
        }
        lock::set_lease(&file, None).unwrap();
        assert_eq!(
            lock::set_lease(&file, Some(Kind::Shared)),
            Err(Errno::AGAIN)
        );
        let reader = File::open(&*path).unwrap();
        assert_eq!(
            lock::set_lease(&file, Some(Kind::Exclusive)),
            Err(Errno::AGAIN)
        );
        drop((file, reader));
        let (pipe, _writer) = std::io::pipe().unwrap();
        let refused = lock::set_lease(&pipe, Some(Kind::Shared));
        assert_eq!(refused, Err(Errno::INVAL));
    });
}

#[test]
fn a_lease_guard_is_broken_by_an_open_and_given_up_on_drop() {
    isolated!(|| {
        let path = TestFile::new();
        // As above: one thread, which blocks the signal.
        peer(|| hold_lease_guards(&path)).join();
    });
}

fn hold_lease_guards(path: &Path) {
    let signals = SignalFd::block(SignalSet::EMPTY.with(Signal::USR1)).unwrap();
    let mut lease = match Lease::take(open(path), Kind::Exclusive, Signal::USR1) {
        Err(failed) if errno(&failed.error) == Some(Errno::INVAL) => {
            return support::skip("tmpfs has no leases in this kernel");
        }
        taken => taken.unwrap(),
    };
    assert_eq!(lease.kind().unwrap(), Some(Kind::Exclusive));
    let reader = peer(|| {
        let mut text = String::new();
        File::open(path).unwrap().read_to_string(&mut text).unwrap();
        assert!(
            text.starts_with("consistent"),
            "what was written before it was given up"
        );
    });
    let info = signals.read_deadline(support::PATIENCE).unwrap();
    assert_eq!(
        (info.signal(), info.fd()),
        (Some(Signal::USR1), raw(&lease))
    );
    until_asleep(reader.pid());
    assert_eq!(
        lease.kind().unwrap(),
        Some(Kind::Shared),
        "what it must become"
    );
    lease.write_all(b"consistent").unwrap();
    drop(lease);
    reader.join();

    // It gives the file back, with the lease or without.
    let lease = Lease::take(File::open(path).unwrap(), Kind::Shared, Signal::USR1).unwrap();
    let file = lease.persist();
    assert_eq!(lock::lease(&file), Ok(Some(Kind::Shared)));
    let lease = Lease::take(file, Kind::Exclusive, Signal::USR1).unwrap();
    lease.change(Kind::Shared).unwrap();
    assert_eq!(lease.kind().unwrap(), Some(Kind::Shared));
    let file = lease.give_up().unwrap();
    assert_eq!(lock::lease(&file), Ok(None));

    let other = open(path);
    let failed = Lease::take(file, Kind::Shared, Signal::USR1).unwrap_err();
    assert_eq!(failed.error.kind(), ErrorKind::WouldBlock);
    drop(other);
    let lease = Lease::take(failed.file, Kind::Shared, Signal::USR1).unwrap();
    lock::set_lease(&*lease, None).unwrap();
    let failed = lease.give_up().unwrap_err();
    assert_eq!(errno(&failed.error), Some(Errno::AGAIN), "it was gone");
}

/// `SIGUSR1`, blocked and read.
struct Signals(File);

fn block_usr1() -> Signals {
    use std::os::fd::FromRawFd;
    // SAFETY: Zeros are a valid `sigset_t`.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGUSR1) };
    // SAFETY: `set` is a whole set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    // SAFETY: `set` is a whole set.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC) };
    assert_ne!(fd, -1);
    // SAFETY: The call gave a new descriptor.
    Signals(unsafe { File::from_raw_fd(fd) })
}

impl Signals {
    /// The descriptor that the next signal is about.
    fn next_descriptor(&self) -> i32 {
        let mut info = [0; size_of::<libc::signalfd_siginfo>()];
        (&self.0).read_exact(&mut info).unwrap();
        let at = std::mem::offset_of!(libc::signalfd_siginfo, ssi_fd);
        i32::from_ne_bytes(info[at..at + 4].try_into().unwrap())
    }
}

fn raw(file: &File) -> i32 {
    use std::os::fd::AsRawFd;
    file.as_raw_fd()
}
