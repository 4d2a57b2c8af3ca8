//! Robust mutexes between processes.

mod support;

use std::time::Duration;

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::pshared::{AttachError, Error};
use linipc_core::robust::Thread;
use support::{peer, until_asleep};

fn memory() -> Region {
    Region::anonymous(8192, Access::READ | Access::WRITE).unwrap()
}

fn make(memory: &Region, kind: Kind) -> &Mutex {
    // SAFETY: Only the processes of a test have the memory.
    unsafe { Mutex::init(memory.bytes(), kind) }.unwrap()
}

fn me() -> Thread {
    Thread::current().unwrap()
}

fn failed<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Error {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn inconsistent<'a>(
    result: Result<Guard<'a>, LockError<'a>>,
) -> linipc_core::pshared::mutex::Inconsistent<'a> {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

#[test]
fn locked_is_locked_for_others() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let guard = mutex.lock(me()).unwrap();
        peer(|| {
            assert_eq!(failed(mutex.try_lock(me())), Error::Busy);
            assert_eq!(failed(mutex.lock_deadline(me(), soon())), Error::TimedOut);
        })
        .join();
        drop(guard);
        peer(|| drop(mutex.lock(me()).unwrap())).join();
    });
}

#[test]
fn who_sleeps_is_woken() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let guard = mutex.lock(me()).unwrap();
        let sleeper = peer(|| drop(mutex.lock(me()).unwrap()));
        until_asleep(sleeper.pid());
        drop(guard);
        sleeper.join();
    });
}

#[test]
fn a_killed_owner_is_told() {
    isolated!(|| {
        let memory = memory();
        let mutex = make(&memory, Kind::Normal);
        let owner = peer(|| {
            let _guard = mutex.lock(me()).unwrap();
            std::thread::park();
        });
        support::eventually("the owner has it", || {
            matches!(mutex.try_lock(me()), Err(LockError::Failed(Error::Busy)))
        });
        let sleeper = peer(|| {
            let guard = inconsistent(mutex.lock(me()));
            drop(guard.mark_consistent());
        });
        until_asleep(sleeper.pid());
        owner.kill();
        sleeper.join();
        drop(mutex.lock(me()).unwrap());
        assert!(matches!(
            // SAFETY: As in `make`.
            unsafe { Mutex::attach(memory.bytes().slice(4096, 4096).unwrap()) },
            Err(AttachError::NotFound)
        ));
    });
}
