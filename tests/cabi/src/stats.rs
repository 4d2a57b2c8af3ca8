//! How often each function was called: `LINIPC_CABI_STATS`.
//!
//! With `1` the counts go to stderr when the process ends, one `name count` a line; with a path (its
//! first byte is `/`) one line a process is appended to that file, by one write. A child of fork(2)
//! counts from 0. A process that is killed, or calls execve(2), says nothing. One that calls `_exit`,
//! which runs no destructors, is told of as well: children often do.

use std::ffi::{CStr, CString, c_int};
use std::fmt::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// The calls of one function.
pub(crate) struct Counter {
    name: &'static CStr,
    calls: AtomicU64,
    next: AtomicPtr<Counter>,
}

/// All that were called. The last one is its own next.
static FIRST: AtomicPtr<Counter> = AtomicPtr::new(ptr::null_mut());

impl Counter {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            calls: AtomicU64::new(0),
            next: AtomicPtr::new(ptr::null_mut()),
        }
    }

    #[inline]
    pub(crate) fn count(&'static self) {
        // Relaxed: it is set before `main`.
        if PROCESS.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Relaxed: a number alone. Who counts the first call lists the counter.
        if self.calls.fetch_add(1, Ordering::Relaxed) == 0 {
            self.list();
        }
    }

    #[cold]
    fn list(&'static self) {
        let this = ptr::from_ref(self).cast_mut();
        // Relaxed: in a child it is listed already.
        if !self.next.load(Ordering::Relaxed).is_null() {
            return;
        }
        let mut first = FIRST.load(Ordering::Relaxed);
        loop {
            let next = if first.is_null() { this } else { first };
            self.next.store(next, Ordering::Relaxed);
            // Release: who finds the counter in the list finds its next one.
            match FIRST.compare_exchange_weak(first, this, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => first = now,
            }
        }
    }

    fn each(mut f: impl FnMut(&'static Counter)) {
        // Acquire: of `list`.
        let mut at = FIRST.load(Ordering::Acquire);
        // SAFETY: Only counters, which are statics, are in the list.
        while let Some(counter) = unsafe { at.as_ref() } {
            f(counter);
            let next = counter.next.load(Ordering::Relaxed);
            at = if next == at { ptr::null_mut() } else { next };
        }
    }
}

/// Where to: the variable when the library was loaded.
static TO: OnceLock<CString> = OnceLock::new();

/// The process that counts: not a child of vfork(2), which has its parent's counters. 0 when nobody wants to
/// know, or it has told.
static PROCESS: AtomicU32 = AtomicU32::new(0);

extern "C" fn begin() {
    let Some(to) = std::env::var_os("LINIPC_CABI_STATS") else {
        return;
    };
    let _ = CString::new(to.into_vec()).map(|to| TO.set(to));
    // Relaxed: before `main`, there is one thread.
    PROCESS.store(std::process::id(), Ordering::Relaxed);
    // SAFETY: The handler lives as long as the process.
    unsafe { libc::pthread_atfork(None, None, Some(forget)) };
}

extern "C" fn forget() {
    // Relaxed, both: a child of fork has one thread.
    Counter::each(|counter| counter.calls.store(0, Ordering::Relaxed));
    PROCESS.store(std::process::id(), Ordering::Relaxed);
}

extern "C" fn end() {
    let Some(to) = TO.get() else {
        return;
    };
    let process = std::process::id();
    // Relaxed: who gets the number writes, once.
    if PROCESS
        .compare_exchange(process, 0, Ordering::Relaxed, Ordering::Relaxed)
        .is_err()
    {
        return;
    }
    // Nothing is allocated: `_exit` is also called in signal handlers.
    let mut calls = [("", 0); 192];
    let mut len = 0;
    Counter::each(|counter| match counter.calls.load(Ordering::Relaxed) {
        0 => {}
        count => {
            if let Some(call) = calls.get_mut(len) {
                *call = (counter.name.to_str().unwrap_or_default(), count);
                len += 1;
            }
        }
    });
    let calls = &mut calls[..len];
    calls.sort_unstable();
    if calls.is_empty() {
        return;
    }
    let mut text = Text {
        bytes: [0; 8192],
        len: 0,
    };
    if to.to_bytes().starts_with(b"/") {
        let _ = write!(text, "{process}");
        for (name, count) in calls {
            let _ = write!(text, " {name} {count}");
        }
        let _ = text.write_str("\n");
        // SAFETY: It is a string.
        let file = unsafe {
            libc::open(
                to.as_ptr(),
                libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC,
                0o666,
            )
        };
        text.write_to(file);
        // SAFETY: Nobody else knows it.
        unsafe { libc::close(file) };
    } else if to.to_bytes() == b"1" {
        for (name, count) in calls {
            let _ = writeln!(text, "{name} {count}");
        }
        text.write_to(libc::STDERR_FILENO);
    }
}

/// Text in place.
struct Text {
    bytes: [u8; 8192],
    len: usize,
}

impl Write for Text {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self
            .bytes
            .get_mut(self.len..self.len + more.len())
            .ok_or(fmt::Error)?;
        room.copy_from_slice(more.as_bytes());
        self.len += more.len();
        Ok(())
    }
}

impl Text {
    fn write_to(&self, file: c_int) {
        // SAFETY: The bytes are ours.
        unsafe { libc::write(file, self.bytes.as_ptr().cast(), self.len) };
    }
}

/// _exit(2), which tells the counts first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _exit(status: c_int) -> ! {
    static CALLS: Counter = Counter::new(crate::c_name!(_exit));
    CALLS.count();
    end();
    loop {
        // SAFETY: It does not return.
        unsafe { libc::syscall(libc::SYS_exit_group, status) };
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;
