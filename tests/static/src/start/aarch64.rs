//! The entry point and the end of a program on aarch64.

use core::arch::{asm, naked_asm};
use core::ffi::c_char;

/// The stack pointer at the entry leads to the number of arguments and the pointers to them.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov x0, sp", "and sp, x0, #-16", "b {start}", start = sym super::start)
}

/// `exit_group(2)`
pub fn exit(code: u8) -> ! {
    // SAFETY: Ends the process.
    unsafe { asm!("svc 0", in("x8") 94, in("x0") usize::from(code), options(noreturn, nostack)) }
}

/// `execve(2)`; gives the negated error.
///
/// # Safety
///
/// `path` ends with a null byte; the others are pointers to such strings, and end with a null pointer.
pub unsafe fn execve(
    path: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) -> isize {
    let code;
    // SAFETY: The caller's promise; the call returns only if it changed nothing.
    unsafe {
        asm!("svc 0", in("x8") 221, inlateout("x0") path => code, in("x1") arguments, in("x2") environment, options(nostack))
    }
    code
}
