//! System calls on aarch64: number in `x8`, arguments in `x0` to `x5`, result in `x0`
//! (syscall(2), "Architecture calling conventions").
//!
//! With SVE the kernel keeps only the low halves of the vector registers, and no predicate
//! (Documentation/arch/arm64/sve.rst).

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
                    "svc 0",
                    in("x8") nr as usize,
                    inlateout("x0") $first => ret,
                    $(in($reg) $arg,)*
                    options(nostack, preserves_flags),
                    $($clobbers)*
                );
            }
            ret
        }
    };
}

#[cfg(not(target_feature = "sve"))]
macro_rules! calls {
    ($($call:tt)*) => {
        define!({} $($call)*);
    };
}

#[cfg(target_feature = "sve")]
macro_rules! calls {
    ($($call:tt)*) => {
        define!({
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
            out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
            out("v12") _, out("v13") _, out("v14") _, out("v15") _, out("v16") _, out("v17") _,
            out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _, out("v23") _,
            out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _, out("p0") _, out("p1") _, out("p2") _, out("p3") _,
            out("p4") _, out("p5") _, out("p6") _, out("p7") _, out("p8") _, out("p9") _,
            out("p10") _, out("p11") _, out("p12") _, out("p13") _, out("p14") _, out("p15") _,
        } $($call)*);
    };
}

calls!(call1, a);
calls!(call2, a, b = "x1");
calls!(call3, a, b = "x1", c = "x2");
calls!(call4, a, b = "x1", c = "x2", d = "x3");
calls!(call5, a, b = "x1", c = "x2", d = "x3", e = "x4");
calls!(call6, a, b = "x1", c = "x2", d = "x3", e = "x4", f = "x5");
