//! What a program needs at run time that has no C library: an entry point, an end, a panic handler
//! and the memory functions that the compiler calls. x86_64.

#![no_std]

use core::arch::{asm, naked_asm};
use core::ffi::{CStr, c_char};
use core::panic::PanicInfo;

/// Names the function that the program starts with: `fn(Args) -> u8`, its exit code.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        fn linipc_static_main(args: $crate::Args) -> u8 {
            $main(args)
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
}

/// The stack at the entry holds the number of arguments and pointers to them.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {start}", start = sym start)
}

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: The kernel put the number of arguments there.
    let count = unsafe { *stack };
    let first = stack.wrapping_add(1).cast();
    exit(linipc_static_main(Args { count, first }))
}

/// `exit_group(2)`
pub fn exit(code: u8) -> ! {
    const EXIT_GROUP: usize = 231;
    // SAFETY: Ends the process.
    unsafe {
        asm!("syscall", in("rax") EXIT_GROUP, in("rdi") usize::from(code), options(noreturn, nostack))
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    exit(101)
}

/// # Safety
///
/// As `memcpy` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: The caller's promise.
    unsafe {
        asm!(
            "rep movsb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            inout("rsi") from => _,
            options(nostack, preserves_flags),
        );
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
        // SAFETY: The caller's promise. Volatile, so that it is not made a call of `memmove`.
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
    // SAFETY: The caller's promise.
    unsafe {
        asm!(
            "rep stosb",
            inout("rcx") len => _,
            inout("rdi") to => _,
            in("al") byte as u8,
            options(nostack, preserves_flags),
        );
    }
    to
}

/// # Safety
///
/// As `memcmp` of C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: The caller's promise. Volatile, so that it is not made a call of `memcmp`.
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
    // SAFETY: The caller's promise. Volatile, so that it is not made a call of `strlen`.
    while unsafe { text.add(len).read_volatile() } != 0 {
        len += 1;
    }
    len
}

/// The prebuilt `core` names it, also where nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
