//! Any bytes as the words of a lock, and any operations with deadlines, while a stranger writes into the
//! words between them.
//!
//! Everything is an answer: a guard, or an error. No panic, no access outside of the lock's memory, which
//! ends at a page that nobody may touch, and no wait beyond the deadline. And whatever becomes of the
//! strangers' mutex, an honest one in the same thread's robust list stays as it is.

#![no_main]

use std::ptr::NonNull;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use linipc_core::futex::{Clock, Deadline, Timespec};
use linipc_core::map::Access;
use linipc_core::memfd;
use linipc_core::pshared::barrier::Barrier;
use linipc_core::pshared::condvar::Condvar;
use linipc_core::pshared::event::{Event, Reset};
use linipc_core::pshared::mutex::{self, Kind, Mutex, Split};
use linipc_core::pshared::once::{Begin, Once};
use linipc_core::pshared::rwlock::{self, RwLock};
use linipc_core::pshared::semaphore::Semaphore;
use linipc_core::pshared::spin::SpinLock;
use linipc_core::pshared::{AttachError, Process};
use linipc_core::robust::Thread;
use linipc_core::shared::SharedBytes;

const PAGE: usize = 4096;

/// The bytes of an input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [] => 0,
            [byte, rest @ ..] => {
                self.0 = rest;
                *byte
            }
        }
    }

    fn word(&mut self) -> u32 {
        u32::from_ne_bytes([(); 4].map(|()| self.byte()))
    }
}

/// Memory of so many bytes that ends where nobody may touch anything.
fn memory(len: usize) -> SharedBytes<'static> {
    static START: OnceLock<usize> = OnceLock::new();
    let start = *START.get_or_init(|| {
        let shared = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let null = std::ptr::null_mut();
        // SAFETY: A new mapping.
        let start = unsafe { libc::mmap(null, 2 * PAGE, access, shared, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // SAFETY: The second page of what was just mapped.
        let done = unsafe { libc::mprotect(start.wrapping_byte_add(PAGE), PAGE, libc::PROT_NONE) };
        assert_eq!(done, 0);
        start.expose_provenance()
    });
    let at = std::ptr::with_exposed_provenance_mut(start + (PAGE - len) / 64 * 64);
    let access = Access::READ | Access::WRITE;
    // SAFETY: Mapped for ever, and reached through views only.
    unsafe { SharedBytes::from_raw(NonNull::new(at).unwrap(), len, access) }
}

/// Has passed already.
fn passed() -> Deadline {
    let at = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    Deadline {
        clock: Clock::Monotonic,
        at,
    }
}

/// A stranger writes: a bit, a number that means something, or any.
fn scribble(input: &mut Input<'_>, words: SharedBytes<'_>) {
    let at = usize::from(input.byte()) % (words.len() / 4) * 4;
    let mut old = [0; 4];
    words.read(at, &mut old).unwrap();
    let old = u32::from_ne_bytes(old);
    let new = match input.byte() % 8 {
        0 => 0,
        1 => old.wrapping_add(1),
        2 => old.wrapping_sub(1),
        3 => i32::MAX as u32 - u32::from(input.byte() % 3),
        4 => input.word(),
        _ => old ^ 1 << (input.byte() % 32),
    };
    words.write(at, &new.to_ne_bytes()).unwrap();
}

/// The lock that `init` makes, or that the words of a stranger look like.
fn found<'a, L>(
    input: &mut Input<'_>,
    words: SharedBytes<'a>,
    init: impl FnOnce() -> Result<&'a L, AttachError>,
    attach: impl FnOnce() -> Result<&'a L, AttachError>,
) -> Option<&'a L> {
    let lock = init().unwrap();
    if input.byte() < 128 {
        return Some(lock);
    }
    for _ in 0..input.byte() % 16 {
        scribble(input, words);
    }
    attach().ok()
}

fn mutexes(input: &mut Input<'_>) {
    let thread = Thread::current().unwrap();
    // SAFETY: A `static`, which only this thread locks.
    static HONEST: Mutex = unsafe { Mutex::new(Kind::Normal) };
    static CONDVAR: Condvar = Condvar::new();
    let file = memfd::create(c"fuzz", memfd::Flags::empty()).unwrap();
    rustix::fs::ftruncate(&file, PAGE as u64).unwrap();
    let split = Split::map(&file, PAGE).unwrap();
    let strangers = linipc_core::map::Region::shared(&file, 0, PAGE, Access::READ | Access::WRITE);
    let strangers = strangers.unwrap();
    let words = strangers
        .bytes()
        .slice(PAGE - Split::SHARED, Split::SHARED)
        .unwrap();
    let kind = input.byte() % 4;
    match kind {
        0 => split.init_inheriting(Kind::Normal),
        1 => split.init(Kind::Normal),
        2 => split.init(Kind::Recursive),
        _ => split.init(Kind::ErrorCheck),
    };
    for _ in 0..input.byte() % 8 {
        scribble(input, words);
    }
    let Ok(mutex) = split.attach() else { return };
    let (mut held, mut honest) = (None, None);
    while !input.0.is_empty() {
        match input.byte() % 8 {
            0..3 => scribble(input, words),
            3 => held = mutex.try_lock(thread).ok().or(held),
            4 => {
                held = match mutex.lock_deadline(thread, passed()) {
                    Err(mutex::LockError::OwnerDied(guard)) if input.byte() < 128 => {
                        Some(guard.mark_consistent())
                    }
                    locked => locked.ok().or(held),
                }
            }
            5 => held = None,
            6 => match honest.take() {
                None => honest = Some(HONEST.try_lock(thread).expect("nobody else has it")),
                Some(guard) => drop(guard),
            },
            _ => {
                if let Some(guard) = held.take() {
                    match input.byte() % 3 {
                        // After a wait the mutex is locked without a deadline; the kernel believes what
                        // a stranger wrote of one that inherits.
                        0 if kind != 0 => {
                            held = CONDVAR
                                .wait_deadline(guard, passed())
                                .ok()
                                .map(|(guard, _)| guard)
                        }
                        1 => CONDVAR.notify_all(&guard),
                        _ => std::mem::forget(guard),
                    }
                }
            }
        }
    }
    drop(held);
    drop(honest);
    drop(HONEST.try_lock(thread).expect("the list is in order"));
}

fn rwlocks(input: &mut Input<'_>, process: Process) {
    let words = memory(size_of::<RwLock>());
    let Some(lock) = found(
        input,
        words,
        || RwLock::init(words),
        || RwLock::attach(words),
    ) else {
        return;
    };
    let (mut readers, mut writer) = (Vec::new(), None);
    while !input.0.is_empty() {
        match input.byte() % 10 {
            0..3 => scribble(input, words),
            3 => readers.extend(lock.try_read(process).ok()),
            4 => readers.extend(lock.read_deadline(process, passed()).ok()),
            5 => writer = lock.try_write(process).ok().or(writer),
            6 => match lock.write_deadline(process, passed()) {
                Err(rwlock::LockError::OwnerDied(guard)) if input.byte() < 128 => {
                    writer = Some(guard.mark_consistent());
                }
                locked => writer = locked.ok().or(writer),
            },
            7 => match readers.pop().map(|guard| guard.upgrade_deadline(passed())) {
                Some(Ok(guard)) => writer = Some(guard),
                Some(Err(error)) => readers.push(error.guard),
                None => {}
            },
            8 => readers.extend(writer.take().map(|guard| guard.downgrade())),
            _ => {
                readers.pop();
                writer = None;
            }
        }
    }
}

fn spin_locks(input: &mut Input<'_>, process: Process) {
    let words = memory(size_of::<SpinLock>());
    let Some(lock) = found(
        input,
        words,
        || SpinLock::init(words),
        || SpinLock::attach(words),
    ) else {
        return;
    };
    let mut held = None;
    while !input.0.is_empty() {
        match input.byte() % 4 {
            0 => scribble(input, words),
            1 => held = lock.try_lock(process).ok().or(held),
            2 => held = lock.lock_deadline(process, passed()).ok().or(held),
            _ => held = None,
        }
    }
}

fn semaphores(input: &mut Input<'_>) {
    let words = memory(size_of::<Semaphore>());
    let init = || Semaphore::init(words, 1);
    let Some(semaphore) = found(input, words, init, || Semaphore::attach(words)) else {
        return;
    };
    while !input.0.is_empty() {
        match input.byte() % 5 {
            0 => scribble(input, words),
            1 => drop(semaphore.try_wait()),
            2 => drop(semaphore.wait_deadline(passed())),
            3 => drop(semaphore.post_many(input.word())),
            _ => drop(semaphore.post()),
        }
    }
}

fn events(input: &mut Input<'_>) {
    let words = memory(size_of::<Event>());
    let reset = [Reset::Auto, Reset::Manual][usize::from(input.byte() % 2)];
    let init = || Event::init(words, reset);
    let Some(event) = found(input, words, init, || Event::attach(words)) else {
        return;
    };
    while !input.0.is_empty() {
        match input.byte() % 5 {
            0 => scribble(input, words),
            1 => drop(event.try_wait()),
            2 => drop(event.wait_deadline(passed())),
            3 => event.set(),
            _ => drop(event.reset()),
        }
    }
}

fn onces(input: &mut Input<'_>, process: Process) {
    let words = memory(size_of::<Once>());
    let Some(once) = found(input, words, || Once::init(words), || Once::attach(words)) else {
        return;
    };
    let mut first = None;
    while !input.0.is_empty() {
        match input.byte() % 5 {
            0 => scribble(input, words),
            1 => {
                if let Ok(Begin::First(initialiser)) = once.try_begin(process) {
                    first = Some(initialiser);
                }
            }
            2 => {
                if let Ok(Begin::First(initialiser)) = once.begin_deadline(process, passed()) {
                    first = Some(initialiser);
                }
            }
            3 => {
                if let Some(initialiser) = first.take() {
                    initialiser.complete();
                }
            }
            _ => first = None,
        }
    }
}

fn barriers(input: &mut Input<'_>, process: Process) {
    let words = memory(size_of::<Barrier>());
    let parties = u32::from(input.byte() % 4) + 1;
    let init = || Barrier::init(words, parties);
    let Some(barrier) = found(input, words, init, || Barrier::attach(words)) else {
        return;
    };
    let mut joined = Vec::new();
    while !input.0.is_empty() {
        match input.byte() % 5 {
            0 => scribble(input, words),
            1 => joined.extend(barrier.join(process).ok()),
            2 | 3 => {
                if let Some(party) = joined.last_mut() {
                    let _ = party.wait_deadline(passed());
                }
            }
            _ => drop(joined.pop()),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let input = &mut Input(bytes);
    let process = Process::current().unwrap();
    match input.byte() % 7 {
        0 => mutexes(input),
        1 => rwlocks(input, process),
        2 => spin_locks(input, process),
        3 => semaphores(input),
        4 => events(input),
        5 => onces(input, process),
        _ => barriers(input, process),
    }
});
