//! System calls on riscv64: number in `a7`, arguments in `a0` to `a5`, result in `a0`
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
                    "ecall",
                    in("a7") nr as usize,
                    inlateout("a0") $first => ret,
                    $(in($reg) $arg,)*
                    options(nostack, preserves_flags),
                );
            }
            ret
        }
    };
}

define!(call1, a);
define!(call2, a, b = "a1");
define!(call3, a, b = "a1", c = "a2");
define!(call4, a, b = "a1", c = "a2", d = "a3");
define!(call5, a, b = "a1", c = "a2", d = "a3", e = "a4");
define!(call6, a, b = "a1", c = "a2", d = "a3", e = "a4", f = "a5");
