//! The entry point and the end of a program on s390x.

use core::arch::{asm, naked_asm};

/// The stack pointer at the entry leads to the number of arguments and the pointers to them.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!("lgr %r2, %r15", "aghi %r15, -160", "brasl %r14, {start}", start = sym super::start)
}

/// `exit_group(2)`
pub fn exit(code: u8) -> ! {
    // SAFETY: Ends the process.
    unsafe {
        asm!("svc 0", in("r1") 248_usize, in("r2") usize::from(code), options(noreturn, nostack))
    }
}
