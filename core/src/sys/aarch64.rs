//! System calls on aarch64: number in `x8`, arguments in `x0` to `x5`, result in `x0`
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
                    in("x8") nr as usize,
                    inlateout("x0") $first => ret,
                    $(in($reg) $arg,)*
                    options(nostack, preserves_flags),
                );
            }
            ret
        }
    };
}

define!(call1, a);
define!(call2, a, b = "x1");
define!(call3, a, b = "x1", c = "x2");
define!(call4, a, b = "x1", c = "x2", d = "x3");
define!(call5, a, b = "x1", c = "x2", d = "x3", e = "x4");
define!(call6, a, b = "x1", c = "x2", d = "x3", e = "x4", f = "x5");
