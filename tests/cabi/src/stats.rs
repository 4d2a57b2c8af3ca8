//! How often each function was called: `LINIPC_CABI_STATS`.
//!
//! With `1` the counts go to stderr when the process ends, one `name count` a line; with a path (its
//! first byte is `/`) one line a process is appended to that file, by one write. A child of fork(2)
//! counts from 0. A process that is killed, or calls `_exit`, or execve(2), says nothing: the C library
//! runs no destructors then.

use std::ffi::CStr;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

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

extern "C" fn forget() {
    // Relaxed: a child of fork has one thread.
    Counter::each(|counter| counter.calls.store(0, Ordering::Relaxed));
}

extern "C" fn begin() {
    if std::env::var_os("LINIPC_CABI_STATS").is_some() {
        // SAFETY: The handler lives as long as the process.
        unsafe { libc::pthread_atfork(None, None, Some(forget)) };
    }
}

extern "C" fn end() {
    let Some(to) = std::env::var_os("LINIPC_CABI_STATS") else {
        return;
    };
    let mut calls = Vec::new();
    Counter::each(|counter| match counter.calls.load(Ordering::Relaxed) {
        0 => {}
        count => calls.push((counter.name.to_str().unwrap_or_default(), count)),
    });
    calls.sort_unstable();
    if to.as_bytes().starts_with(b"/") {
        let mut line = format!("{}", std::process::id());
        for (name, count) in calls {
            let _ = write!(line, " {name} {count}");
        }
        line.push('\n');
        let file = OpenOptions::new().append(true).create(true).open(to);
        let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
    } else if to == "1" {
        let mut lines = String::new();
        for (name, count) in calls {
            let _ = writeln!(lines, "{name} {count}");
        }
        let _ = std::io::stderr().write_all(lines.as_bytes());
    }
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;

#[used]
#[unsafe(link_section = ".fini_array")]
static END: extern "C" fn() = end;
