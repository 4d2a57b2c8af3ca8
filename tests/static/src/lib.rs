//! What a program needs at run time that has no C library: an entry point, an end, a panic handler
//! and the memory functions that the compiler calls; and what the programs here have in common.

#![no_std]

use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;

pub mod exec;
pub mod memory;
pub mod number;
pub mod peer;
pub mod queue;
pub mod report;

/// Names the function that the program starts with, if its standard descriptors are open: `fn(Args) -> u8`, its exit
/// code.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn linipc_static_main(args: $crate::Args) -> u8 {
            $crate::report::checked(args, $main)
        }
    };
}

unsafe extern "Rust" {
    safe fn linipc_static_main(args: Args) -> u8;
}

/// The arguments of the program, its own name first.
#[derive(Debug, Clone, Copy)]
pub struct Args {
    count: usize,
    first: *const *const c_char,
}

impl Args {
    /// The argument at `index`.
    pub fn get(self, index: usize) -> Option<&'static CStr> {
        if index >= self.count {
            return None;
        }
        // SAFETY: The kernel put `count` pointers there (execve(2)).
        let argument = unsafe { *self.first.add(index) };
        // SAFETY: Each points at a string that ends with a null byte and is never freed.
        Some(unsafe { CStr::from_ptr(argument) })
    }

    /// The bytes of the argument at `index`.
    pub fn bytes(self, index: usize) -> Option<&'static [u8]> {
        self.get(index).map(CStr::to_bytes)
    }

    /// The arguments without the first `count`.
    pub fn skip(self, count: usize) -> Self {
        let count = count.min(self.count);
        Self {
            count: self.count - count,
            first: self.first.wrapping_add(count),
        }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The pointers, which end with a null pointer.
    fn pointers(self) -> *const *const c_char {
        self.first
    }

    /// The pointers to the variables of the environment, which follow the arguments.
    fn environment(self) -> *const *const c_char {
        self.first.wrapping_add(self.count + 1)
    }
}

#[cfg_attr(target_arch = "x86_64", path = "start/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "start/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "start/riscv64.rs")]
#[cfg_attr(target_arch = "x86", path = "start/x86.rs")]
#[cfg_attr(target_arch = "arm", path = "start/arm.rs")]
#[cfg_attr(target_arch = "s390x", path = "start/s390x.rs")]
mod arch;

use arch::execve;
pub use arch::exit;

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: The kernel put the number of arguments there.
    let count = unsafe { *stack };
    let first = stack.wrapping_add(1).cast();
    exit(linipc_static_main(Args { count, first }))
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

// Volatile, so that the compiler does not make the loops calls of these very functions.

/// # Safety
///
/// As `memcpy` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: The caller's promise.
        let byte = unsafe { from.add(i).read_volatile() };
        // SAFETY: The caller's promise.
        unsafe { to.add(i).write_volatile(byte) };
    }
    to
}

/// # Safety
///
/// As `memmove` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if to.addr().wrapping_sub(from.addr()) >= len {
        // SAFETY: A copy from the first byte on overwrites nothing that it still has to read.
        return unsafe { memcpy(to, from, len) };
    }
    for i in (0..len).rev() {
        // SAFETY: The caller's promise.
        let byte = unsafe { from.add(i).read_volatile() };
        // SAFETY: The caller's promise.
        unsafe { to.add(i).write_volatile(byte) };
    }
    to
}

/// # Safety
///
/// As `memset` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    for i in 0..len {
        // SAFETY: The caller's promise.
        unsafe { to.add(i).write_volatile(byte as u8) };
    }
    to
}

/// # Safety
///
/// As `memcmp` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: The caller's promise.
        let left = unsafe { a.add(i).read_volatile() };
        // SAFETY: The caller's promise.
        let right = unsafe { b.add(i).read_volatile() };
        if left != right {
            return i32::from(left) - i32::from(right);
        }
    }
    0
}

/// # Safety
///
/// As `bcmp` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: The caller's promise.
    unsafe { memcmp(a, b, len) }
}

/// # Safety
///
/// As `strlen` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut len = 0;
    // SAFETY: The caller's promise.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// The prebuilt `core` names it, also where nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
