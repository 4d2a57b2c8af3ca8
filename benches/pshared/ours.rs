//! Our locks as contestants.

use linipc_core::pshared::mutex;
use linipc_core::robust::Thread;
use linipc_core::shared::SharedBytes;

use crate::Lock;

/// The robust mutex.
pub(crate) struct Mutex {
    mutex: &'static mutex::Mutex,
    thread: Thread,
}

impl Lock for Mutex {
    fn init(memory: SharedBytes<'static>) {
        // SAFETY: Only the contestant's processes have the memory, for as long as they live.
        unsafe { mutex::Mutex::init(memory, mutex::Kind::Normal) }.unwrap();
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
