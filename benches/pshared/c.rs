//! The C library's locks, process-shared, and a bare futex.

use std::sync::atomic::{AtomicU32, Ordering};

use linipc_core::futex::Futex;
use linipc_core::shared::SharedBytes;

use crate::Lock;

fn done(result: i32) {
    assert_eq!(result, 0);
}

/// `pthread_mutex_t`.
pub(crate) struct Mutex<const ROBUST: bool>(*mut libc::pthread_mutex_t);

impl<const ROBUST: bool> Lock for Mutex<ROBUST> {
    fn init(memory: SharedBytes<'static>) {
        let mutex = memory.as_ptr().cast();
        // SAFETY: Zeros are valid attributes, to be initialised.
        let mut attributes = unsafe { std::mem::zeroed() };
        // SAFETY: The attributes are writable.
        done(unsafe { libc::pthread_mutexattr_init(&raw mut attributes) });
        let shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: They are initialised.
        done(unsafe { libc::pthread_mutexattr_setpshared(&raw mut attributes, shared) });
        if ROBUST {
            let robust = libc::PTHREAD_MUTEX_ROBUST;
            // SAFETY: As above.
            done(unsafe { libc::pthread_mutexattr_setrobust(&raw mut attributes, robust) });
        }
        // SAFETY: The memory has a page, which is the contestant's.
        done(unsafe { libc::pthread_mutex_init(mutex, &raw const attributes) });
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self(memory.as_ptr().cast())
    }

    #[inline]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        // SAFETY: `init` made it.
        done(unsafe { libc::pthread_mutex_lock(self.0) });
        let result = body();
        // SAFETY: As above; it is locked.
        done(unsafe { libc::pthread_mutex_unlock(self.0) });
        result
    }
}

/// `sem_t`.
pub(crate) struct Semaphore(*mut libc::sem_t);

impl Lock for Semaphore {
    fn init(memory: SharedBytes<'static>) {
        // SAFETY: The memory has a page, which is the contestant's.
        done(unsafe { libc::sem_init(memory.as_ptr().cast(), 1, 1) });
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self(memory.as_ptr().cast())
    }

    #[inline]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        // SAFETY: `init` made it.
        done(unsafe { libc::sem_wait(self.0) });
        let result = body();
        // SAFETY: As above.
        done(unsafe { libc::sem_post(self.0) });
        result
    }
}

/// `pthread_rwlock_t`, locked for reading, or for writing.
pub(crate) struct RwLock<const WRITE: bool>(*mut libc::pthread_rwlock_t);

impl<const WRITE: bool> Lock for RwLock<WRITE> {
    fn init(memory: SharedBytes<'static>) {
        // SAFETY: Zeros are valid attributes, to be initialised.
        let mut attributes = unsafe { std::mem::zeroed() };
        // SAFETY: The attributes are writable.
        done(unsafe { libc::pthread_rwlockattr_init(&raw mut attributes) });
        let shared = libc::PTHREAD_PROCESS_SHARED;
        // SAFETY: They are initialised.
        done(unsafe { libc::pthread_rwlockattr_setpshared(&raw mut attributes, shared) });
        let lock = memory.as_ptr().cast();
        // SAFETY: The memory has a page, which is the contestant's.
        done(unsafe { libc::pthread_rwlock_init(lock, &raw const attributes) });
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self(memory.as_ptr().cast())
    }

    #[inline]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        if WRITE {
            // SAFETY: `init` made it.
            done(unsafe { libc::pthread_rwlock_wrlock(self.0) });
        } else {
            // SAFETY: `init` made it.
            done(unsafe { libc::pthread_rwlock_rdlock(self.0) });
        }
        let result = body();
        // SAFETY: As above; it is locked.
        done(unsafe { libc::pthread_rwlock_unlock(self.0) });
        result
    }
}

/// A word of which one who waits changes 1 to 2, and sleeps at once.
pub(crate) struct BareFutex(&'static AtomicU32);

impl Lock for BareFutex {
    fn init(_: SharedBytes<'static>) {}

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self(memory.atomic_u32(0).unwrap())
    }

    #[inline]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        let futex = Futex::shared(self.0);
        let relaxed = Ordering::Relaxed;
        if self
            .0
            .compare_exchange(0, 1, Ordering::Acquire, relaxed)
            .is_err()
        {
            while self.0.swap(2, Ordering::Acquire) != 0 {
                let _ = futex.wait(2, None);
            }
        }
        let result = body();
        if self.0.swap(0, Ordering::Release) == 2 {
            futex.wake(1).unwrap();
        }
        result
    }
}
