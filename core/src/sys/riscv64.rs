//! System calls on riscv64: number in `a7`, arguments in `a0` to `a5`, result in `a0`
//! (syscall(2), "Architecture calling conventions").
//!
//! With vectors the kernel keeps neither the vector registers nor their state
//! (Documentation/arch/riscv/vector.rst).

use core::arch::asm;

macro_rules! define {
    ({$($clobbers:tt)*} $name:ident, $first:ident $(, $arg:ident = $reg:tt)*) => {
        /// # Safety
        ///
        /// The call `nr` with these arguments must be sound: see [`super`].
        #[inline(always)]
        pub(crate) unsafe fn $name(nr: u32, $first: usize $(, $arg: usize)*) -> usize {
            let ret;
            // SAFETY: The caller vouches for the call; the kernel keeps all other registers
            // but the clobbers.
            unsafe {
                asm!(
                    "ecall",
                    in("a7") nr as usize,
                    inlateout("a0") $first => ret,
                    $(in($reg) $arg,)*
                    options(nostack),
                    $($clobbers)*
                );
            }
            ret
        }
    };
}

#[cfg(not(target_feature = "v"))]
macro_rules! calls {
    ($($call:tt)*) => {
        define!({} $($call)*);
    };
}

#[cfg(target_feature = "v")]
macro_rules! calls {
    ($($call:tt)*) => {
        define!({
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _,
            out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
        } $($call)*);
    };
}

calls!(call1, a);
calls!(call2, a, b = "a1");
calls!(call3, a, b = "a1", c = "a2");
calls!(call4, a, b = "a1", c = "a2", d = "a3");
calls!(call5, a, b = "a1", c = "a2", d = "a3", e = "a4");
calls!(call6, a, b = "a1", c = "a2", d = "a3", e = "a4", f = "a5");
