//! The entry point and the end of a program on arm.

use core::arch::{asm, naked_asm};

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
