//! The entry point and the end of a program on aarch64.

use core::arch::{asm, naked_asm};

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
