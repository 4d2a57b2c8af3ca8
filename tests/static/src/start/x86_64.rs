//! The entry point and the end of a program on x86_64.

use core::arch::{asm, naked_asm};

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
