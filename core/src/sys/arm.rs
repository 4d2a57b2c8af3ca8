//! System calls on 32-bit arm (EABI): number in `r7`, arguments in `r0` to `r5`, result in `r0`
//! (syscall(2), "Architecture calling conventions").
//!
//! `r7` is the frame pointer of Thumb code and cannot be an operand there, so it is saved around
//! the call.

use core::arch::asm;

macro_rules! define {
    ($name:ident, $first:ident $(, $arg:ident = $reg:tt)*) => {
        /// # Safety
        ///
        /// The call `nr` with these arguments must be sound: see [`super`].
        #[inline(always)]
        pub(crate) unsafe fn $name(nr: u32, $first: usize $(, $arg: usize)*) -> usize {
            let ret;
            // SAFETY: The caller vouches for the call; `r7` is restored and the kernel keeps all
            // other registers.
            unsafe {
                asm!(
                    "mov {saved}, r7",
                    "mov r7, {nr}",
                    "svc 0",
                    "mov r7, {saved}",
                    nr = in(reg) nr,
                    saved = out(reg) _,
                    inlateout("r0") $first => ret,
                    $(in($reg) $arg,)*
                    options(nostack, preserves_flags),
                );
            }
            ret
        }
    };
}

define!(call1, a);
define!(call2, a, b = "r1");
define!(call3, a, b = "r1", c = "r2");
define!(call4, a, b = "r1", c = "r2", d = "r3");
define!(call5, a, b = "r1", c = "r2", d = "r3", e = "r4");
define!(call6, a, b = "r1", c = "r2", d = "r3", e = "r4", f = "r5");
