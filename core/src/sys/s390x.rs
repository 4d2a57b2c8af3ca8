//! System calls on s390x: number in `r1`, arguments in `r2` to `r7`, result in `r2`
//! (syscall(2), "Architecture calling conventions").

use core::arch::asm;

macro_rules! define {
    ($name:ident, $first:ident $(, $arg:ident = $reg:tt)*) => {
        /// # Safety
        ///
        /// The call `nr` with these arguments must be sound: see [`super`].
        #[inline(always)]
        pub(crate) unsafe fn $name(nr: u32, $first: usize $(, $arg: usize)*) -> usize {
            let ret;
            // SAFETY: The caller vouches for the call; the kernel keeps all other registers.
            unsafe {
                asm!(
                    "svc 0",
                    in("r1") nr as usize,
                    inlateout("r2") $first => ret,
                    $(in($reg) $arg,)*
                    options(nostack, preserves_flags),
                );
            }
            ret
        }
    };
}

define!(call1, a);
define!(call2, a, b = "r3");
define!(call3, a, b = "r3", c = "r4");
define!(call4, a, b = "r3", c = "r4", d = "r5");
define!(call5, a, b = "r3", c = "r4", d = "r5", e = "r6");
define!(call6, a, b = "r3", c = "r4", d = "r5", e = "r6", f = "r7");
