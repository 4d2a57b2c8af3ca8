//! Robust mutexes together with C programs of glibc: each side locks the other out, wakes it, and
//! learns of its death.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use linipc::posix::shm::{OpenOptions, SharedMemory};
use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::condvar::Condvar;
use linipc_core::pshared::mutex::{Guard, Inconsistent, Kind, LockError, Split, SplitMutex};
use linipc_core::pshared::pthread::Mutex;
use linipc_core::pshared::{AttachError, Error};
use linipc_core::robust::Thread;
use support::{peer, run, until_asleep};

const ROUNDS: u32 = 100_000;
const COUNTER: usize = 2048;
/// Where the mutex is, as the C side has it; at the end of the page in two pages.
const PLACES: [&str; 2] = ["@mutex:64", "%mutex"];

fn native_c() -> support::Program {
    support::compile_c("mutex", include_str!("support/mutex.c"))
}

fn object() -> SharedMemory {
    OpenOptions::new()
        .create_new(true)
        .size(4096)
        .unlink_on_drop(true)
        .open("/mutex")
        .unwrap()
}

/// Our side of the mutex at one of [`PLACES`].
enum Ours {
    InPlace(Region),
    Split(Split),
}

impl Ours {
    fn new(object: &SharedMemory, place: &str) -> Self {
        match place {
            "%mutex" => Self::Split(Split::map(object, 4096).unwrap()),
            _ => {
                let access = Access::READ | Access::WRITE;
                Self::InPlace(Region::shared(object, 0, 4096, access).unwrap())
            }
        }
    }

    fn init(&self, kind: Kind, inherits: bool) -> Lock<'_> {
        match self {
            Self::InPlace(region) => {
                let bytes = region.bytes().slice(64, 40).unwrap();
                Lock::InPlace(match inherits {
                    // SAFETY: Only the processes of the test have the memory.
                    true => unsafe { Mutex::init_inheriting(bytes, kind) }.unwrap(),
                    // SAFETY: As above.
                    false => unsafe { Mutex::init_pthread(bytes, kind) }.unwrap(),
                })
            }
            Self::Split(split) if inherits => Lock::Split(split.init_inheriting(kind)),
            Self::Split(split) => Lock::Split(split.init_pthread(kind)),
        }
    }

    fn attach(&self) -> Result<Lock<'_>, AttachError> {
        match self {
            Self::InPlace(region) => {
                let bytes = region.bytes().slice(64, 40).unwrap();
                // SAFETY: As in `init`.
                unsafe { Mutex::attach(bytes) }.map(Lock::InPlace)
            }
            Self::Split(split) => split.attach().map(Lock::Split),
        }
    }

    fn counter(&self) -> &std::sync::atomic::AtomicU32 {
        let bytes = match self {
            Self::InPlace(region) => region.bytes(),
            Self::Split(split) => split.bytes(),
        };
        bytes.atomic_u32(COUNTER).unwrap()
    }
}

#[derive(Debug, Clone, Copy)]
enum Lock<'a> {
    InPlace(&'a Mutex),
    Split(SplitMutex<'a>),
}

impl<'a> Lock<'a> {
    fn lock(self, thread: Thread) -> Result<Guard<'a>, LockError<'a>> {
        match self {
            Self::InPlace(mutex) => mutex.lock(thread),
            Self::Split(mutex) => mutex.lock(thread),
        }
    }

    fn try_lock(self, thread: Thread) -> Result<Guard<'a>, LockError<'a>> {
        match self {
            Self::InPlace(mutex) => mutex.try_lock(thread),
            Self::Split(mutex) => mutex.try_lock(thread),
        }
    }
}

fn me() -> Thread {
    Thread::current().unwrap()
}

fn inconsistent<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Inconsistent<'a> {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

fn failed<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Error {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// `mutex COMMAND PLACE MORE…`
fn c(program: &str, arguments: &[&str]) -> String {
    run(Command::new(program).args(arguments)).trim().to_owned()
}

/// A C process that has locked, with what it printed.
fn holding(program: &str, place: &str) -> (Child, String) {
    let mut child = Command::new(program)
        .args(["hold", place])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    (child, line.trim().to_owned())
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// All that both sides can do to each other at a mutex that is free.
fn both_sides(program: &str, place: &str, ours: &Ours, mutex: Lock<'_>) {
    // Ours is locked for C, and C's for us.
    let guard = mutex.lock(me()).unwrap();
    assert_eq!(c(program, &["try", place]), "EBUSY");
    drop(guard);
    assert_eq!(c(program, &["try", place]), "0");
    let (child, got) = holding(program, place);
    assert_eq!(got, "0");
    assert_eq!(failed(mutex.try_lock(me())), Error::Busy);

    // We sleep, it is killed, and we learn that.
    let sleeper = peer(|| drop(inconsistent(mutex.lock(me())).mark_consistent()));
    until_asleep(sleeper.pid());
    kill(child);
    sleeper.join();
    assert_eq!(c(program, &["try", place]), "0");

    // It sleeps, we are killed, and it learns that.
    let owner = peer(|| {
        let _guard = mutex.lock(me()).unwrap();
        std::thread::park();
    });
    support::eventually("it is locked", || {
        matches!(mutex.try_lock(me()), Err(LockError::Failed(Error::Busy)))
    });
    let child = Command::new(program)
        .args(["repair", place])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    until_asleep(child.id() as i32);
    owner.kill();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"EOWNERDEAD 0 0\n");
    drop(mutex.lock(me()).unwrap());

    // A thread that ends is as dead.
    assert_eq!(c(program, &["leave", place]), "0");
    drop(inconsistent(mutex.lock(me())).mark_consistent());

    // Both count.
    let before = ours.counter().load(std::sync::atomic::Ordering::Relaxed);
    let rounds = ROUNDS.to_string();
    let counter = format!("@mutex:{COUNTER}");
    let child = Command::new(program)
        .args(["count", place, &counter, &rounds])
        .spawn()
        .unwrap();
    for _ in 0..ROUNDS {
        let _guard = mutex.lock(me()).unwrap();
        let counter = ours.counter();
        // Not atomic: the mutex guards it.
        let value = counter.load(std::sync::atomic::Ordering::Relaxed);
        counter.store(value + 1, std::sync::atomic::Ordering::Relaxed);
    }
    assert!(child.wait_with_output().unwrap().status.success());
    let after = ours.counter().load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(after - before, 2 * ROUNDS);
}

/// Who leaves it inconsistent loses it for both sides.
fn lost_for_both(program: &str, place: &str, ours: &Ours, by_us: bool) {
    let mutex = ours.attach().unwrap();
    if by_us {
        assert_eq!(c(program, &["leave", place]), "0");
        drop(inconsistent(mutex.lock(me())));
    } else {
        peer(|| std::mem::forget(mutex.lock(me()).unwrap())).join();
        assert_eq!(c(program, &["abandon", place]), "EOWNERDEAD 0");
    }
    assert_eq!(failed(mutex.lock(me())), Error::NotRecoverable);
    assert_eq!(c(program, &["try", place]), "ENOTRECOVERABLE");
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn the_layout_is_glibcs() {
    let program = native_c();
    let layout = c(program.path(), &["layout"]);
    let (size, offsets) = layout.split_once(' ').unwrap();
    assert_eq!(offsets, "0 4 8 12 16 24 32");
    assert!(size.parse::<usize>().unwrap() >= size_of::<Mutex>());
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn mutexes_made_by_c() {
    isolated!(|| {
        let program = native_c();
        let program = program.path();
        for place in PLACES {
            for kind in ["normal", "explicit", "recursive", "errorcheck"] {
                for more in [&[][..], &["inherit"]] {
                    let object = object();
                    let ours = Ours::new(&object, place);
                    let init = || {
                        let arguments = [&["init", place, kind], more].concat();
                        c(program, &arguments);
                    };
                    init();
                    both_sides(program, place, &ours, ours.attach().unwrap());
                    for by_us in [false, true] {
                        init();
                        lost_for_both(program, place, &ours, by_us);
                    }
                }
            }
        }
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn mutexes_made_by_us() {
    isolated!(|| {
        let program = native_c();
        for place in PLACES {
            for kind in [Kind::Normal, Kind::Recursive, Kind::ErrorCheck] {
                let object = object();
                let ours = Ours::new(&object, place);
                for inherits in [false, true] {
                    both_sides(program.path(), place, &ours, ours.init(kind, inherits));
                }
            }
        }
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn what_is_not_robust_or_adaptive_is_refused() {
    isolated!(|| {
        let program = native_c();
        let object = object();
        let ours = Ours::new(&object, PLACES[0]);
        assert_eq!(ours.attach().map(drop).err(), Some(AttachError::NotFound));
        for kind in ["weak", "adaptive"] {
            c(program.path(), &["init", PLACES[0], kind]);
            assert_eq!(ours.attach().map(drop).err(), Some(AttachError::NotFound));
        }
    });
}

/// C does not take a mutex of our own protocol for one of its own.
#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn ours_alone_is_refused_by_c() {
    isolated!(|| {
        let program = native_c();
        let object = object();
        let region = Region::shared(&object, 0, 4096, Access::READ | Access::WRITE).unwrap();
        let bytes = region.bytes().slice(64, 40).unwrap();
        for kind in [Kind::Normal, Kind::Recursive, Kind::ErrorCheck] {
            // SAFETY: Only the processes of the test have the memory.
            let mutex = unsafe { Mutex::init(bytes, kind) }.unwrap();
            assert_eq!(c(program.path(), &["try", PLACES[0]]), "EINVAL");
            assert_eq!(c(program.path(), &["leave", PLACES[0]]), "EINVAL");
            assert_eq!(c(program.path(), &["ceiling", PLACES[0]]), "EINVAL EINVAL");
            drop(mutex.lock(me()).unwrap());
        }
    });
}

/// Those of which nobody learns that the owner died.
#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn mutexes_that_are_not_robust() {
    isolated!(|| {
        let program = native_c();
        let (program, place) = (program.path(), PLACES[0]);
        for kind in ["weak", "weak recursive", "weak errorcheck"] {
            let object = object();
            let Ours::InPlace(region) = Ours::new(&object, place) else {
                unreachable!()
            };
            c(program, &["init", place, kind]);
            let bytes = region.bytes().slice(64, 40).unwrap();
            // SAFETY: Only the processes of the test have the memory.
            let mutex = unsafe { Mutex::attach_stalled(bytes) }.unwrap();

            let guard = mutex.lock(me()).unwrap();
            assert_eq!(c(program, &["try", place]), "EBUSY");
            match kind {
                "weak recursive" => drop(mutex.lock(me()).unwrap()),
                "weak errorcheck" => assert_eq!(failed(mutex.lock(me())), Error::Deadlock),
                _ => assert_eq!(failed(mutex.try_lock(me())), Error::Busy),
            }
            assert_eq!(c(program, &["try", place]), "EBUSY");
            // It sleeps, and is woken.
            let child = Command::new(program)
                .args(["leave", place])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            until_asleep(child.id() as i32);
            drop(guard);
            assert_eq!(child.wait_with_output().unwrap().stdout, b"0\n");

            // It was left locked, and nobody gets it.
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
            let soon = Deadline::after(Clock::Monotonic, Duration::from_millis(1));
            assert_eq!(failed(mutex.lock_deadline(me(), soon)), Error::TimedOut);
            c(program, &["init", place, kind]);

            // Both count, and so both wake each other.
            let counter = region.bytes().atomic_u32(COUNTER).unwrap();
            let rounds = ROUNDS.to_string();
            let child = Command::new(program)
                .args(["count", place, &format!("@mutex:{COUNTER}"), &rounds])
                .spawn()
                .unwrap();
            for _ in 0..ROUNDS {
                let _guard = mutex.lock(me()).unwrap();
                let value = counter.load(Ordering::Relaxed);
                counter.store(value + 1, Ordering::Relaxed);
            }
            assert!(child.wait_with_output().unwrap().status.success());
            assert_eq!(counter.load(Ordering::Relaxed), 2 * ROUNDS);

            // A condition variable takes its guard, and wakes all at once.
            let condvar = Condvar::init(region.bytes().slice(1024, 12).unwrap()).unwrap();
            let waiter = peer(|| {
                let mut guard = mutex.lock(me()).unwrap();
                while counter.load(Ordering::Relaxed) != 0 {
                    guard = condvar.wait(guard).unwrap();
                }
            });
            until_asleep(waiter.pid());
            let guard = mutex.lock(me()).unwrap();
            counter.store(0, Ordering::Relaxed);
            condvar.notify_all(&guard);
            drop(guard);
            waiter.join();
        }
        let object = object();
        c(program, &["init", place, "weak", "inherit"]);
        let Ours::InPlace(region) = Ours::new(&object, place) else {
            unreachable!()
        };
        // SAFETY: As above.
        let found = unsafe { Mutex::attach_stalled(region.bytes().slice(64, 40).unwrap()) };
        assert_eq!(found.map(drop).err(), Some(AttachError::NotFound));
    });
}

/// The owned mutex of the crate `linipc` is one in two pages, with a value before it.
#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn the_owned_mutex_is_one_for_c() {
    use linipc::pshared::LockError;
    use linipc::pshared::mutex::MutexOptions;

    isolated!(|| {
        let program = native_c();
        let (program, place) = (program.path(), PLACES[1]);
        for kind in [Kind::Normal, Kind::Recursive] {
            let mut named = OpenOptions::new();
            let named = named.create_new(true).unlink_on_drop(true);
            let mut options = MutexOptions::new();
            let mutex = options
                .pthread(true)
                .kind(kind)
                .open_named("/mutex", 5_u64, named);
            let mutex = mutex.unwrap();
            let guard = mutex.lock().unwrap();
            assert_eq!(c(program, &["try", place]), "EBUSY");
            drop(guard);
            assert_eq!(c(program, &["try", place]), "0");
            let (child, locked) = holding(program, place);
            assert_eq!(locked, "0");
            assert!(matches!(mutex.try_lock(), Err(LockError::Failed(_))));
            kill(child);
            match mutex.lock() {
                Err(LockError::OwnerDied(guard)) => drop(guard.mark_consistent()),
                other => panic!("{other:?}"),
            }
            peer(|| std::mem::forget(mutex.lock().unwrap())).join();
            assert_eq!(c(program, &["repair", place]), "EOWNERDEAD 0 0");
            assert_eq!(mutex.lock().unwrap().get().unwrap(), 5);
        }
    });
}
