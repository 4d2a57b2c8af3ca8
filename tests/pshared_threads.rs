//! Locks between threads of one process, over plain memory: what `tests/tsan` runs under
//! ThreadSanitizer, which sees one process only.

use std::cell::UnsafeCell;

use linipc_core::pshared::Process;
use linipc_core::pshared::mutex::{Kind, Mutex};
use linipc_core::pshared::rwlock::RwLock;
use linipc_core::pshared::spin::SpinLock;
use linipc_core::robust::Thread;

const THREADS: usize = 4;
const ROUNDS: u64 = 20_000;

/// Plain memory that a lock guards.
struct Guarded(UnsafeCell<u64>);

// SAFETY: Each test takes its lock around every access.
unsafe impl Sync for Guarded {}

impl Guarded {
    const fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn add(&self) {
        // SAFETY: The caller has the lock.
        unsafe { *self.0.get() += 1 };
    }

    fn get(&self) -> u64 {
        // SAFETY: The caller has the lock, at least for reading.
        unsafe { *self.0.get() }
    }
}

/// Runs `body` in all threads at once. They are the C library's, whose beginning and end the sanitizer
/// sees.
fn in_threads<F: Fn() + Sync>(body: F) {
    extern "C" fn run<F: Fn()>(body: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: It is the closure, which outlives the threads.
        let body = unsafe { &*body.cast::<F>() };
        body();
        std::ptr::null_mut()
    }
    let body_at = std::ptr::from_ref(&body).cast_mut().cast();
    let threads = [(); THREADS].map(|()| {
        let mut thread = 0;
        // SAFETY: The thread gets what it expects, and is joined below.
        let made =
            unsafe { libc::pthread_create(&raw mut thread, std::ptr::null(), run::<F>, body_at) };
        assert_eq!(made, 0);
        thread
    });
    for thread in threads {
        // SAFETY: It was made above, and is joined once.
        assert_eq!(
            unsafe { libc::pthread_join(thread, std::ptr::null_mut()) },
            0
        );
    }
}

#[test]
fn mutex() {
    // SAFETY: A `static` that all lock.
    static MUTEX: Mutex = unsafe { Mutex::new(Kind::Normal) };
    static GUARDED: Guarded = Guarded::new();
    in_threads(|| {
        let thread = Thread::current().unwrap();
        for _ in 0..ROUNDS {
            let _guard = MUTEX.lock(thread).unwrap();
            GUARDED.add();
        }
    });
    assert_eq!(GUARDED.get(), THREADS as u64 * ROUNDS);
}

#[test]
fn rwlock() {
    static LOCK: RwLock = RwLock::new();
    static GUARDED: Guarded = Guarded::new();
    let process = Process::current().unwrap();
    in_threads(|| {
        for round in 0..ROUNDS {
            let guard = LOCK.read(process).unwrap();
            let seen = GUARDED.get();
            let guard = match round % 4 {
                0 => guard.upgrade(),
                _ => continue,
            };
            let guard = match guard {
                Ok(guard) => {
                    assert_eq!(GUARDED.get(), seen);
                    guard
                }
                Err(failed) => {
                    drop(failed);
                    LOCK.write(process).unwrap()
                }
            };
            GUARDED.add();
            let seen = GUARDED.get();
            let _guard = guard.downgrade();
            assert_eq!(GUARDED.get(), seen);
        }
    });
    assert_eq!(GUARDED.get(), THREADS as u64 * ROUNDS / 4);
}

#[test]
fn spin() {
    static LOCK: SpinLock = SpinLock::new();
    static GUARDED: Guarded = Guarded::new();
    let process = Process::current().unwrap();
    in_threads(|| {
        for _ in 0..ROUNDS {
            let _guard = LOCK.lock(process).unwrap();
            GUARDED.add();
        }
    });
    assert_eq!(GUARDED.get(), THREADS as u64 * ROUNDS);
}
