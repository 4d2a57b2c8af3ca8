//! Copies between private memory and memory that a peer may be writing at the same time.
//!
//! A plain copy of such memory would be a data race, which Rust leaves undefined. These copies are
//! made of accesses that the compiler does not see through: assembly on x86_64, relaxed atomics
//! elsewhere. What they read while a peer writes may be torn, and is nothing worse.
//!
//! On x86_64 there is a second reason. Long copies are fastest by `rep movsb`, which takes whole lines
//! without reading what it overwrites. But some processors run it, and so the `memcpy` of C
//! libraries, twenty times slower when the destination lies a few bytes past the source modulo
//! 4096. Such copies are made by loads and stores of 16 bytes (`benches/ring.rs` has all alignments).

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
                    in(reg) at,
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
        } else if len >= 16 {
            let last = len - 16;
            let mut done = 0;
            while done < last {
                at!(copy16, done);
                done += 16;
            }
            at!(copy16, last);
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
    const SHORT: usize = 128;

    /// From this length on `rep movsb` pays for its start.
    const LONG: usize = 4096;

    /// Whether this processor is fast at `rep movsb` (ERMS): asked once, since cpuid is slow under a
    /// hypervisor.
    fn has_fast_strings() -> bool {
        const NOT_ASKED: u8 = 0;
        const NO: u8 = 1;
        const YES: u8 = 2;
        static ANSWER: AtomicU8 = AtomicU8::new(NOT_ASKED);
        // Relaxed: it publishes nothing, and who does not see it asks again.
        match ANSWER.load(Ordering::Relaxed) {
            NOT_ASKED => {
                #[allow(unused_unsafe, reason = "unsafe in compilers before 1.93")]
                // SAFETY: Every x86_64 processor has the instruction.
                let max = unsafe { __cpuid(0) }.eax;
                #[allow(unused_unsafe, reason = "unsafe in compilers before 1.93")]
                // SAFETY: As above.
                let has = max >= 7 && unsafe { __cpuid_count(7, 0) }.ebx & 1 << 9 != 0;
                ANSWER.store(if has { YES } else { NO }, Ordering::Relaxed);
                has
            }
            answer => answer == YES,
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

    /// [`copy`] of more than [`SHORT`] bytes: 64 at a time, or a long one by the fastest way.
    ///
    /// # Safety
    ///
    /// As for [`copy`].
    #[inline(never)]
    unsafe fn copy_lines(from: *const u8, to: *mut u8, len: usize) {
        let past = to.addr().wrapping_sub(from.addr()) % 4096;
        if len >= LONG && !(1..=64).contains(&past) && has_fast_strings() {
            // SAFETY: The caller's promise.
            return unsafe { copy_string(from, to, len) };
        }
        let last = len - 64;
        // SAFETY: The caller's promise: the loop copies 64 bytes at each place before `last`, and
        // what follows it 64 at `last`.
        unsafe {
            asm!(
                "2:",
                "movups {a}, [{from} + {at}]",
                "movups {b}, [{from} + {at} + 16]",
                "movups {c}, [{from} + {at} + 32]",
                "movups {d}, [{from} + {at} + 48]",
                "movups [{to} + {at}], {a}",
                "movups [{to} + {at} + 16], {b}",
                "movups [{to} + {at} + 32], {c}",
                "movups [{to} + {at} + 48], {d}",
                "add {at}, 64",
                "cmp {at}, {last}",
                "jb 2b",
                "movups {a}, [{from} + {last}]",
                "movups {b}, [{from} + {last} + 16]",
                "movups {c}, [{from} + {last} + 32]",
                "movups {d}, [{from} + {last} + 48]",
                "movups [{to} + {last}], {a}",
                "movups [{to} + {last} + 16], {b}",
                "movups [{to} + {last} + 32], {c}",
                "movups [{to} + {last} + 48], {d}",
                from = in(reg) from,
                to = in(reg) to,
                last = in(reg) last,
                at = inout(reg) 0_usize => _,
                a = out(xmm_reg) _,
                b = out(xmm_reg) _,
                c = out(xmm_reg) _,
                d = out(xmm_reg) _,
                options(nostack),
            );
        }
    }
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
