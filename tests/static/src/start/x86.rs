//! The entry point and the end of a program on x86.

use core::arch::{asm, naked_asm};
use core::ffi::c_char;

/// The stack pointer at the entry leads to the number of arguments and the pointers to them.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("mov eax, esp", "and esp, -16", "sub esp, 12", "push eax", "call {start}", start = sym super::start)
}

/// `exit_group(2)`
pub fn exit(code: u8) -> ! {
    // SAFETY: Ends the process.
    unsafe {
        asm!("int 0x80", in("eax") 252, in("ebx") usize::from(code), options(noreturn, nostack))
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
        asm!("int 0x80", inlateout("eax") 11_isize => code, in("ebx") path, in("ecx") arguments, in("edx") environment, options(nostack))
    }
    code
}
