//! System calls on 32-bit x86: number in `eax`, arguments in `ebx ecx edx esi edi ebp`
//! (syscall(2), "Architecture calling conventions").
//!
//! `esi` and `ebp` cannot be operands of inline assembly here, so calls of four arguments and more
//! load them from an array that `eax` points at.

use core::arch::asm;

macro_rules! define {
    ($name:ident $(, $arg:ident = $reg:tt)*) => {
        /// # Safety
        ///
        /// The call `nr` with these arguments must be sound: see [`super`].
        #[inline(always)]
        pub(crate) unsafe fn $name(nr: u32 $(, $arg: usize)*) -> usize {
            let ret;
            // SAFETY: The caller vouches for the call; the kernel keeps all other registers.
            unsafe {
                asm!(
                    "int 0x80",
                    inlateout("eax") nr as usize => ret,
                    $(in($reg) $arg,)*
                    options(nostack, preserves_flags),
                );
            }
            ret
        }
    };
}

define!(call1, a = "ebx");
define!(call2, a = "ebx", b = "ecx");
define!(call3, a = "ebx", b = "ecx", c = "edx");

/// # Safety
///
/// The call `nr` with these arguments must be sound: see [`super`].
#[inline(always)]
pub(crate) unsafe fn call4(nr: u32, a: usize, b: usize, c: usize, d: usize) -> usize {
    // SAFETY: The caller vouches for the call; the kernel ignores the arguments it does not take.
    unsafe { call6(nr, a, b, c, d, 0, 0) }
}

/// # Safety
///
/// The call `nr` with these arguments must be sound: see [`super`].
#[inline(always)]
pub(crate) unsafe fn call5(nr: u32, a: usize, b: usize, c: usize, d: usize, e: usize) -> usize {
    // SAFETY: The caller vouches for the call; the kernel ignores the arguments it does not take.
    unsafe { call6(nr, a, b, c, d, e, 0) }
}

/// # Safety
///
/// The call `nr` with these arguments must be sound: see [`super`].
#[inline(always)]
pub(crate) unsafe fn call6(
    nr: u32,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> usize {
    let unnameable = [nr as usize, d, f];
    let ret;
    // SAFETY: The caller vouches for the call; `esi` and `ebp` are restored, and `eax` points at
    // an array that outlives the block.
    unsafe {
        asm!(
            "push esi",
            "push ebp",
            "mov esi, [eax + 4]",
            "mov ebp, [eax + 8]",
            "mov eax, [eax]",
            "int 0x80",
            "pop ebp",
            "pop esi",
            inlateout("eax") unnameable.as_ptr() => ret,
            in("ebx") a,
            in("ecx") b,
            in("edx") c,
            in("edi") e,
            options(preserves_flags),
        );
    }
    ret
}
