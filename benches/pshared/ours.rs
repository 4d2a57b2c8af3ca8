//! Our locks as contestants.

use linipc_core::pshared::{Process, mutex, rwlock, semaphore, spin};
use linipc_core::robust::Thread;
use linipc_core::shared::SharedBytes;

use crate::Lock;

/// The robust mutex, in our protocol or in C's.
pub(crate) struct Mutex<const PTHREAD: bool> {
    mutex: &'static mutex::Mutex,
    thread: Thread,
}

impl<const PTHREAD: bool> Lock for Mutex<PTHREAD> {
    fn init(memory: SharedBytes<'static>) {
        let made = match PTHREAD {
            // SAFETY: Only the contestant's processes have the memory, for as long as they live.
            true => unsafe { mutex::Mutex::init_pthread(memory, mutex::Kind::Normal) },
            // SAFETY: As above.
            false => unsafe { mutex::Mutex::init(memory, mutex::Kind::Normal) },
        };
        made.unwrap();
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self {
            // SAFETY: As in `init`.
            mutex: unsafe { mutex::Mutex::attach(memory) }.unwrap(),
            thread: Thread::current().unwrap(),
        }
    }

    #[inline(always)]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        let _guard = self.mutex.lock(self.thread).unwrap();
        body()
    }
}

/// The semaphore, with one unit.
pub(crate) struct Semaphore(&'static semaphore::Semaphore);

impl Lock for Semaphore {
    fn init(memory: SharedBytes<'static>) {
        semaphore::Semaphore::init(memory, 1).unwrap();
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self(semaphore::Semaphore::attach(memory).unwrap())
    }

    #[inline(always)]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        self.0.wait().unwrap();
        let result = body();
        self.0.post().unwrap();
        result
    }
}

/// The lock that spins, then sleeps.
pub(crate) struct Spin {
    lock: &'static spin::SpinLock,
    process: Process,
}

impl Lock for Spin {
    fn init(memory: SharedBytes<'static>) {
        spin::SpinLock::init(memory).unwrap();
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self {
            lock: spin::SpinLock::attach(memory).unwrap(),
            process: Process::current().unwrap(),
        }
    }

    #[inline(always)]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        let _guard = self.lock.lock(self.process).unwrap();
        body()
    }
}

/// The readers-writer lock, locked for reading, or for writing.
pub(crate) struct RwLock<const WRITE: bool> {
    lock: &'static rwlock::RwLock,
    process: Process,
}

impl<const WRITE: bool> Lock for RwLock<WRITE> {
    fn init(memory: SharedBytes<'static>) {
        rwlock::RwLock::init(memory).unwrap();
    }

    fn attach(memory: SharedBytes<'static>) -> Self {
        Self {
            lock: rwlock::RwLock::attach(memory).unwrap(),
            process: Process::current().unwrap(),
        }
    }

    #[inline(always)]
    fn with<R>(&mut self, body: impl FnOnce() -> R) -> R {
        if WRITE {
            let _guard = self.lock.write(self.process).unwrap();
            body()
        } else {
            let _guard = self.lock.read(self.process).unwrap();
            body()
        }
    }
}
