//! The entry point and the end of a program on arm.

use core::arch::{asm, naked_asm};
use core::ffi::c_char;

/// The stack pointer at the entry leads to the number of arguments and the pointers to them.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov r0, sp", "bic r1, r0, #15", "mov sp, r1", "b {start}", start = sym super::start)
}

/// `exit_group(2)`
pub fn exit(code: u8) -> ! {
    // SAFETY: Ends the process.
    unsafe {
        asm!("mov r7, {nr}", "svc 0", nr = in(reg) 248, in("r0") usize::from(code), options(noreturn, nostack))
    }
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
        asm!("mov {saved}, r7", "mov r7, #11", "svc 0", "mov r7, {saved}", saved = out(reg) _, inlateout("r0") path => code, in("r1") arguments, in("r2") environment, options(nostack))
    }
    code
}
