//! The entry point and the end of a program on x86_64.

use core::arch::{asm, naked_asm};
use core::ffi::c_char;

/// The stack pointer at the entry leads to the number of arguments and the pointers to them.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov rdi, rsp", "and rsp, -16", "call {start}", start = sym super::start)
}

/// `exit_group(2)`
pub fn exit(code: u8) -> ! {
    // SAFETY: Ends the process.
    unsafe {
        asm!("syscall", in("rax") 231, in("rdi") usize::from(code), options(noreturn, nostack))
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
        asm!("syscall", inlateout("rax") 59_isize => code, in("rdi") path, in("rsi") arguments, in("rdx") environment, lateout("rcx") _, lateout("r11") _, options(nostack))
    }
    code
}
