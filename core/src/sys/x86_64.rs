//! System calls on x86_64: number in `rax`, arguments in `rdi rsi rdx r10 r8 r9`; the kernel
//! overwrites `rcx` and `r11` (syscall(2), "Architecture calling conventions").

use core::arch::asm;

macro_rules! define {
    ($name:ident $(, $arg:ident = $reg:tt)*) => {
        /// # Safety
        ///
        /// The call `nr` with these arguments must be sound: see [`super`].
        #[inline(always)]
        pub(crate) unsafe fn $name(nr: u32 $(, $arg: usize)*) -> usize {
            let ret;
            // SAFETY: The caller vouches for the call; the clobbers are the kernel's contract.
            unsafe {
                asm!(
                    "syscall",
                    inlateout("rax") nr as usize => ret,
                    $(in($reg) $arg,)*
                    lateout("rcx") _,
                    lateout("r11") _,
                    options(nostack, preserves_flags),
                );
            }
            ret
        }
    };
}

define!(call1, a = "rdi");
define!(call2, a = "rdi", b = "rsi");
define!(call3, a = "rdi", b = "rsi", c = "rdx");
define!(call4, a = "rdi", b = "rsi", c = "rdx", d = "r10");
define!(call5, a = "rdi", b = "rsi", c = "rdx", d = "r10", e = "r8");
define!(
    call6,
    a = "rdi",
    b = "rsi",
    c = "rdx",
    d = "r10",
    e = "r8",
    f = "r9"
);
