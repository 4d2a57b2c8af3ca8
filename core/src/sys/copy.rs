//! Copies between private memory and memory that a peer may be writing at the same time.
//!
//! A plain copy of such memory would be a data race, which Rust leaves undefined. These copies are
//! made of accesses that the compiler does not see through: assembly on x86_64, relaxed atomics
//! elsewhere. What they read while a peer writes may be torn, and is nothing worse.
//!
//! On x86_64 there is a second reason. Copies are the faster the wider each store is, and long ones
//! fastest by `rep movsb`, which takes whole lines without reading what it overwrites. But some processors run it, and so the `memcpy` of C
//! libraries, twenty times slower when the destination lies a few bytes past the source modulo
//! 4096. Such copies are made by loads and stores (`benches/ring.rs` has all alignments).

#[cfg(not(target_arch = "x86_64"))]
pub(crate) use words::{copy_in, copy_out};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{copy as copy_in, copy as copy_out};

macro_rules! prefetch {
    ($name:ident, $instruction:literal, $purpose:literal) => {
        #[doc = concat!("Asks for the cache line at an address, to ", $purpose, " it soon. Any address will do.")]
        #[inline(always)]
        pub(crate) fn $name(at: *const u8) {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: A prefetch is a hint, and never faults.
            unsafe {
                core::arch::asm!(
                    concat!($instruction, " [{}]"),
                    in(reg) at.addr(),
                    options(nostack, preserves_flags, nomem),
                );
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = at;
        }
    };
}

prefetch!(prefetch_read, "prefetcht0", "read");
prefetch!(prefetch_write, "prefetchw", "write");

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use core::arch::asm;
    use core::arch::x86_64::{__cpuid, __cpuid_count};
    use core::sync::atomic::{AtomicU8, Ordering};

    /// Copies of one load and one store of a register's width.
    macro_rules! unit {
        ($name:ident, $class:ident, $load:literal, $store:literal) => {
            /// # Safety
            ///
            /// `from` must be valid for a read and `to` for a write of so many bytes.
            #[inline(always)]
            unsafe fn $name(from: *const u8, to: *mut u8) {
                // SAFETY: The caller's promise.
                unsafe {
                    asm!(
                        $load,
                        $store,
                        from = in(reg) from,
                        to = in(reg) to,
                        unit = out($class) _,
                        options(nostack, preserves_flags),
                    );
                }
            }
        };
    }

    unit!(
        copy1,
        reg_byte,
        "mov {unit}, [{from}]",
        "mov [{to}], {unit}"
    );
    unit!(copy4, reg, "mov {unit:e}, [{from}]", "mov [{to}], {unit:e}");
    unit!(copy8, reg, "mov {unit}, [{from}]", "mov [{to}], {unit}");
    unit!(
        copy16,
        xmm_reg,
        "movups {unit}, [{from}]",
        "movups [{to}], {unit}"
    );

    /// Copies 64 bytes or less: 32 at the beginning, and 32 that begin at `last`.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reads and `to` for writes of `last + 32` bytes.
    #[inline(always)]
    unsafe fn copy32_twice(from: *const u8, to: *mut u8, last: usize) {
        // SAFETY: The caller's promise.
        unsafe {
            asm!(
                "movups {a}, [{from}]",
                "movups {b}, [{from} + 16]",
                "movups {c}, [{from} + {last}]",
                "movups {d}, [{from} + {last} + 16]",
                "movups [{to}], {a}",
                "movups [{to} + 16], {b}",
                "movups [{to} + {last}], {c}",
                "movups [{to} + {last} + 16], {d}",
                from = in(reg) from,
                to = in(reg) to,
                last = in(reg) last,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Copies `len` bytes. What is no multiple of a unit ends with a unit that overlaps the one before.
    ///
    /// Where the length is known, what is inlined is a few moves; where it is not, little more.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reads and `to` for writes of `len` bytes, and they must not overlap.
    #[inline(always)]
    pub(crate) unsafe fn copy(from: *const u8, to: *mut u8, len: usize) {
        macro_rules! at {
            ($unit:ident, $at:expr) => {{
                let at = $at;
                // SAFETY: The unit begins at `at` and ends at `len` or before.
                unsafe { $unit(from.wrapping_add(at), to.wrapping_add(at)) }
            }};
        }
        if len > SHORT {
            // SAFETY: The caller's promise.
            unsafe { copy_lines(from, to, len) };
        } else if len >= 32 {
            // SAFETY: The caller's promise.
            unsafe { copy32_twice(from, to, len - 32) };
        } else if len >= 16 {
            at!(copy16, 0);
            if len > 16 {
                at!(copy16, len - 16);
            }
        } else if len >= 8 {
            at!(copy8, 0);
            if len > 8 {
                at!(copy8, len - 8);
            }
        } else if len >= 4 {
            at!(copy4, 0);
            at!(copy4, len - 4);
        } else if len > 0 {
            at!(copy1, 0);
            at!(copy1, len / 2);
            at!(copy1, len - 1);
        }
    }

    /// Up to this length a copy is made without a call.
    const SHORT: usize = 64;

    /// From this length on `rep movsb` pays for its start.
    const LONG: usize = 4096;

    /// [`copy`] of more than [`SHORT`] bytes, by the widest way that this processor has.
    ///
    /// # Safety
    ///
    /// As for [`copy`].
    #[inline(never)]
    unsafe fn copy_lines(from: *const u8, to: *mut u8, len: usize) {
        let has = Has::ask();
        let past = to.addr().wrapping_sub(from.addr()) % 4096;
        if len >= LONG && has.fast_strings() && !(1..=64).contains(&past) {
            // SAFETY: The caller's promise.
            unsafe { copy_string(from, to, len) }
        } else if has.avx512() {
            // SAFETY: The caller's promise; the processor has the instructions.
            unsafe { copy_by_64(from, to, len) }
        } else if has.avx() {
            // SAFETY: The caller's promise; the processor has the instructions.
            unsafe { copy_by_32(from, to, len) }
        } else {
            // SAFETY: The caller's promise.
            unsafe { copy_by_16(from, to, len) }
        }
    }

    /// What this processor has, and the kernel lets us use.
    #[derive(Clone, Copy)]
    struct Has(u8);

    impl Has {
        const ASKED: u8 = 1;
        const FAST_STRINGS: u8 = 2;
        const AVX: u8 = 4;
        const AVX512: u8 = 8;

        /// Asks once, since cpuid is slow under a hypervisor.
        fn ask() -> Self {
            static ANSWER: AtomicU8 = AtomicU8::new(0);
            // Relaxed: it publishes nothing, and who does not see it asks again.
            let answer = ANSWER.load(Ordering::Relaxed);
            if answer != 0 {
                return Self(answer);
            }
            let has = Self::ask_the_processor();
            ANSWER.store(has.0, Ordering::Relaxed);
            has
        }

        #[cold]
        #[allow(unused_unsafe, reason = "cpuid is unsafe in older compilers")]
        fn ask_the_processor() -> Self {
            // SAFETY: Every x86_64 processor has the instruction.
            let leaves = unsafe { __cpuid(0) }.eax;
            if leaves < 7 {
                return Self(Self::ASKED);
            }
            // SAFETY: As above.
            let (one, seven) = (unsafe { __cpuid(1) }, unsafe { __cpuid_count(7, 0) });
            // OSXSAVE: the kernel lets us ask which registers it keeps.
            let kept: u32 = if one.ecx & 1 << 27 == 0 {
                0
            } else {
                let kept;
                // SAFETY: The processor has the instruction, as the bit says.
                unsafe {
                    asm!("xgetbv", in("ecx") 0, out("eax") kept, out("edx") _, options(nostack, nomem));
                }
                kept
            };
            let mut has = Self::ASKED;
            let mut add = |condition, what| has |= if condition { what } else { 0 };
            add(seven.ebx & 1 << 9 != 0, Self::FAST_STRINGS);
            add(one.ecx & 1 << 28 != 0 && kept & 0x6 == 0x6, Self::AVX);
            add(
                seven.ebx & 1 << 16 != 0 && kept & 0xe6 == 0xe6,
                Self::AVX512,
            );
            Self(has)
        }

        /// Whether `rep movsb` is fast (ERMS).
        fn fast_strings(self) -> bool {
            self.0 & Self::FAST_STRINGS != 0
        }

        fn avx(self) -> bool {
            self.0 & Self::AVX != 0
        }

        fn avx512(self) -> bool {
            self.0 & Self::AVX512 != 0
        }
    }

    /// [`copy`] of at least [`LONG`] bytes by `rep movsb`.
    ///
    /// # Safety
    ///
    /// As for [`copy`].
    unsafe fn copy_string(from: *const u8, to: *mut u8, len: usize) {
        // The first line may be a part of one.
        // SAFETY: There are more than 64 bytes.
        unsafe { copy(from, to, 64) };
        let done = to.align_offset(64).wrapping_sub(1) % 64 + 1;
        // SAFETY: `done` is from 1 to 64, and the 64 bytes before are copied.
        unsafe {
            asm!(
                "rep movsb",
                inout("rsi") from.wrapping_add(done) => _,
                inout("rdi") to.wrapping_add(done) => _,
                inout("rcx") len - done => _,
                options(nostack, preserves_flags),
            );
        }
    }

    /// Defines a copy of more than 64 bytes: 64 in each round, then 64 that may overlap those before.
    macro_rules! by {
        ($name:ident, $width:literal, $end:literal, [$($move:literal $register:ident $place:literal),*]) => {
            /// # Safety
            ///
            /// As for [`copy`]; there are more than 64 bytes, and the processor has the instructions.
            unsafe fn $name(from: *const u8, to: *mut u8, len: usize) {
                // SAFETY: The caller's promise: the loop copies 64 bytes at each place before `last`,
                // and then 64 there. What `vzeroupper` clears is nobody's: this runs in a function of
                // its own that has no vectors, and no call preserves any.
                unsafe {
                    asm!(
                        "2:",
                        $(concat!($move, " {", stringify!($register), ":", $width, "}, [{from} + {at} + ", $place, "]"),)*
                        $(concat!($move, " [{to} + {at} + ", $place, "], {", stringify!($register), ":", $width, "}"),)*
                        "add {at}, 64",
                        "cmp {at}, {last}",
                        "jb 2b",
                        $(concat!($move, " {", stringify!($register), ":", $width, "}, [{from} + {last} + ", $place, "]"),)*
                        $(concat!($move, " [{to} + {last} + ", $place, "], {", stringify!($register), ":", $width, "}"),)*
                        $end,
                        from = in(reg) from,
                        to = in(reg) to,
                        last = in(reg) len - 64,
                        at = inout(reg) 0_usize => _,
                        $($register = out(xmm_reg) _,)*
                        options(nostack),
                    );
                }
            }
        };
    }

    by!(copy_by_16, "x", "", ["movups" a 0, "movups" b 16, "movups" c 32, "movups" d 48]);
    by!(copy_by_32, "y", "vzeroupper", ["vmovdqu" a 0, "vmovdqu" b 32]);
    by!(copy_by_64, "z", "vzeroupper", ["vmovdqu64" a 0]);
}

#[cfg(not(target_arch = "x86_64"))]
mod words {
    use core::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

    /// The unit of a copy: one atomic access each.
    type Word = usize;

    /// Copies `len` bytes out of shared memory.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reads and `to` for writes of `len` bytes, and they must not overlap.
    #[inline]
    pub(crate) unsafe fn copy_out(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: The caller's promise.
        unsafe { copy::<true>(from, to, len) }
    }

    /// Copies `len` bytes into shared memory.
    ///
    /// # Safety
    ///
    /// As for [`copy_out`].
    #[inline]
    pub(crate) unsafe fn copy_in(from: *const u8, to: *mut u8, len: usize) {
        // SAFETY: The caller's promise.
        unsafe { copy::<false>(from, to, len) }
    }

    /// Copies `len` bytes with atomic accesses on the shared side: `from` if `FROM_SHARED`, else
    /// `to`. Words where the shared side is aligned for them, bytes before and after.
    ///
    /// # Safety
    ///
    /// As for [`copy_out`].
    #[inline]
    unsafe fn copy<const FROM_SHARED: bool>(from: *const u8, to: *mut u8, len: usize) {
        let shared = if FROM_SHARED { from } else { to.cast_const() };
        let head = shared.align_offset(align_of::<Word>()).min(len);
        let words_end = head + (len - head) / size_of::<Word>() * size_of::<Word>();
        for i in (0..head).chain(words_end..len) {
            let (from, to) = (from.wrapping_add(i), to.wrapping_add(i));
            // SAFETY: `i` is less than `len`.
            unsafe { copy_unit::<FROM_SHARED, u8>(from, to) };
        }
        for i in (head..words_end).step_by(size_of::<Word>()) {
            let (from, to) = (from.wrapping_add(i), to.wrapping_add(i));
            // SAFETY: The word ends at `words_end` or before, which is at most `len`; the shared side
            // is aligned because `head` is its distance to an aligned address.
            unsafe { copy_unit::<FROM_SHARED, Word>(from, to) };
        }
    }

    /// What is copied by one access. Relaxed: a copy makes no edge, that is the caller's lock or atomic.
    trait Unit: Copy {
        /// # Safety
        ///
        /// `from` must be valid for a read, and aligned.
        unsafe fn load(from: *const Self) -> Self;

        /// # Safety
        ///
        /// `to` must be valid for a write, and aligned.
        unsafe fn store(self, to: *mut Self);
    }

    macro_rules! unit {
        ($unit:ty, $atomic:ty) => {
            impl Unit for $unit {
                #[inline(always)]
                unsafe fn load(from: *const Self) -> Self {
                    // SAFETY: The caller's promise; a relaxed load of this size does not write, so it
                    // may read what is mapped read-only (`core::sync::atomic`).
                    let atomic = unsafe { <$atomic>::from_ptr(from.cast_mut()) };
                    atomic.load(Ordering::Relaxed)
                }

                #[inline(always)]
                unsafe fn store(self, to: *mut Self) {
                    // SAFETY: The caller's promise.
                    let atomic = unsafe { <$atomic>::from_ptr(to) };
                    atomic.store(self, Ordering::Relaxed);
                }
            }
        };
    }

    unit!(u8, AtomicU8);
    unit!(Word, AtomicUsize);

    /// # Safety
    ///
    /// `from` must be valid for a read and `to` for a write of `T`, the shared one aligned for it.
    #[inline(always)]
    unsafe fn copy_unit<const FROM_SHARED: bool, T: Unit>(from: *const u8, to: *mut u8) {
        let (from, to) = (from.cast::<T>(), to.cast::<T>());
        if FROM_SHARED {
            // SAFETY: The caller's promise.
            let unit = unsafe { T::load(from) };
            // SAFETY: The caller's promise.
            unsafe { to.write_unaligned(unit) };
        } else {
            // SAFETY: The caller's promise.
            let unit = unsafe { from.read_unaligned() };
            // SAFETY: The caller's promise.
            unsafe { unit.store(to) };
        }
    }
}
