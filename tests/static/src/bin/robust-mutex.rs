//! A counter in shared memory, with a robust mutex in front of it.
//!
//! - `robust-mutex make NAME`: makes both, in the shared memory object of this name.
//! - `robust-mutex add NAME COUNT`: adds 1 so many times, each time under the mutex, and prints the sum.
//! - `robust-mutex hold NAME`: locks, waits until standard input ends, adds 1, and prints the sum.
//! - `robust-mutex unlink NAME`
//!
//! The mutex is in the format of the C library, so C programs can use it too. Who gets it from an owner that was killed says so, and goes on.

#![no_std]
#![no_main]

use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::sync::atomic::Ordering;

use linipc_core::Errno;
use linipc_core::fd::AsFd;
use linipc_core::io;
use linipc_core::map::{Access, Region};
use linipc_core::posix::{Create, Mode, shm};
use linipc_core::pshared::AttachError;
use linipc_core::pshared::mutex::{Guard, Kind, LockError, Mutex};
use linipc_core::robust::{self, Head, Thread};
use linipc_static::number::{decimal, parse_as};
use linipc_static::report::{Failure, ended, print, stdin};
use linipc_static::{Args, entry};

const USAGE: &[u8] = b"robust-mutex make NAME | add NAME COUNT | hold NAME | unlink NAME";

const LEN: usize = 4096;
/// Where the counter is.
const COUNTER: usize = 64;

entry!(main);

fn main(args: Args) -> u8 {
    ended(b"robust-mutex", USAGE, run(args))
}

fn run(args: Args) -> Result<(), Failure> {
    let name = args.get(2).ok_or(Failure::Usage)?;
    let count = args.bytes(3).and_then(parse_as);
    match (args.bytes(1), count, args.len()) {
        (Some(b"make"), None, 3) => make(name),
        (Some(b"add"), Some(count @ 1..), 4) => add(name, count, false),
        (Some(b"hold"), None, 3) => add(name, 1, true),
        (Some(b"unlink"), None, 3) => Ok(shm::unlink(name)?),
        _ => Err(Failure::Usage),
    }
}

fn map(object: impl AsFd) -> Result<Region, Errno> {
    Region::shared(object, 0, LEN, Access::READ | Access::WRITE)
}

fn make(name: &CStr) -> Result<(), Failure> {
    shm::create(name, Mode::RUSR | Mode::WUSR, |object| {
        shm::resize(object, LEN as u64)?;
        let region = map(object)?;
        // SAFETY: Whoever says the name trusts all who can write the object: only this user can.
        let made = unsafe { Mutex::init_pthread(region.bytes(), Kind::Normal) };
        made.map(drop).map_err(|_| Errno::INVAL)
    })?;
    Ok(())
}

fn open(name: &CStr) -> Result<Region, Failure> {
    let object = shm::open(name, Access::READ | Access::WRITE, Create::No)?;
    if shm::len(&object)? < LEN as u64 {
        return Err(NO_MUTEX);
    }
    Ok(map(&object)?)
}

const NO_MUTEX: Failure = Failure::Because("there is no mutex in this memory");

fn mutex(region: &Region) -> Result<&Mutex, Failure> {
    // SAFETY: Whoever says the name trusts all who can write the object.
    unsafe { Mutex::attach(region.bytes()) }.map_err(|_: AttachError| NO_MUTEX)
}

/// Where this thread's robust list begins.
struct List(UnsafeCell<Head>);

// SAFETY: There is one thread.
unsafe impl Sync for List {}

static LIST: List = List(UnsafeCell::new(Head::new()));

fn register() -> Result<Thread, Failure> {
    // SAFETY: This is called once, by the only thread.
    let head = unsafe { &mut *LIST.0.get() };
    Thread::register(head).map_err(|error| match error {
        robust::Error::System(errno) => Failure::Errno(errno),
        _ => Failure::Because("somebody else has made a robust list"),
    })
}

#[inline(never)]
fn lock(mutex: &Mutex, thread: Thread) -> Result<Guard<'_>, Failure> {
    match mutex.lock(thread) {
        Ok(guard) => Ok(guard),
        Err(LockError::OwnerDied(guard)) => {
            // The counter is one word, which is either written or not. Marked first: if nothing can be printed, the
            // mutex is not lost with the guard.
            let guard = guard.mark_consistent();
            print(b"the owner died\n")?;
            Ok(guard)
        }
        Err(LockError::Failed(error)) => Err(error.into()),
    }
}

fn add(name: &CStr, count: u64, is_held: bool) -> Result<(), Failure> {
    let region = open(name)?;
    let (mutex, thread) = (mutex(&region)?, register()?);
    let counter = region.bytes().atomic_u64(COUNTER)?;
    let mut sum = 0;
    for _ in 0..count {
        let guard = lock(mutex, thread)?;
        if is_held {
            print(b"held\n")?;
            while io::read(stdin(), &mut [0; 64])? > 0 {}
        }
        // Relaxed, both: the mutex orders them.
        sum = counter.load(Ordering::Relaxed).wrapping_add(1);
        counter.store(sum, Ordering::Relaxed);
        drop(guard);
    }
    print(decimal(sum, &mut [0; 20]))?;
    Ok(print(b"\n")?)
}
