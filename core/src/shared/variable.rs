//! A value in shared memory that is replaced as a whole, so that a writer may die at any moment.
//!
//! Mirrors nothing: a format of our own, under a lock of the user's choice ([`crate::lock`]). The
//! value is there twice. A writer fills the copy that is not current, then makes it current with
//! one store; if it is killed before that store, the old value stands, and after it the new one.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//! use linipc_core::shared::variable::Variable;
//!
//! let region = Region::anonymous(Variable::<[u32; 3]>::LEN, Access::READ | Access::WRITE)?;
//! let variable = Variable::new(region.bytes())?;
//! variable.format([1, 2, 3])?;
//! assert_eq!(variable.check()?, Ok(()));
//!
//! variable.write([4, 5, 6])?;
//! assert_eq!(variable.read()?, ([4, 5, 6], 1));
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # Layout
//!
//! Numbers are in the machine's byte order; the layout is the same on 32 and 64 bit.
//!
//! ```text
//!  0          8          12           16        24           64              64 + stride
//! +----------+----------+------------+---------+------------+---------------+--------------+
//! | magic    | version  | generation | size    | 0          | copy 0        | copy 1       |
//! | linipc=v | u32: 1   | u32        | u64     |            | size bytes    | size bytes   |
//! +----------+----------+------------+---------+------------+---------------+--------------+
//! ```
//!
//! `generation` counts the writes and is the futex on which waiters sleep; copy `generation % 2`
//! is the current one. `stride` is `size` rounded up to a multiple of 64.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (G1) `write` stores the generation | (G2) `generation` loads it | the current copy |
//! | (M1) `format` stores the magic | (M2) `check` loads it | the rest of the header, and copy 0 |
//!
//! # Limits
//!
//! Without a lock, two writers spoil each other's value, and a reader that is slower than two
//! writes sees a mix. A peer that writes other bytes can make the value anything; it can do no
//! more, since nothing in the header is trusted for an address.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use static_assertions::const_assert_eq;

use super::SharedBytes;
use crate::futex::Futex;

/// Plain data: any bytes are a value, and a value is nothing but its bytes.
///
/// # Safety
///
/// Every pattern of `size_of::<Self>()` bytes must be a valid value, there must be no padding, and
/// no pointer or reference. A structure must be `repr(C)` (or `repr(transparent)`) with fields that
/// are all `Plain`, and its size the sum of theirs: [`plain!`](crate::plain) sees to that.
pub unsafe trait Plain: Copy + 'static {}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        // SAFETY: Any bytes are a number of this type, and it has no padding.
        unsafe impl Plain for $number {}
    )*};
}

// `usize` is missing since it has another size on 32 bit.
numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

// SAFETY: An array is its elements one after the other, without padding.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// Makes a type that has zerocopy's traits [`Plain`].
///
/// ```
/// use linipc_core::map::{Access, Region};
/// use linipc_core::shared::variable::{Variable, Zerocopy};
/// use zerocopy::little_endian::U32; // the same bytes on every machine
///
/// let region = Region::anonymous(Variable::<Zerocopy<U32>>::LEN, Access::READ | Access::WRITE)?;
/// let variable = Variable::new(region.bytes())?;
/// variable.format(Zerocopy(U32::new(7)))?;
/// assert_eq!(variable.read()?.0.0.get(), 7);
/// # Ok::<(), linipc_core::Errno>(())
/// ```
#[cfg(feature = "zerocopy")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Zerocopy<T>(pub T);

// SAFETY: Any bytes are a value (`FromBytes`), it has no padding (`IntoBytes`) and changes only as a
// whole (`Immutable`). References have none of the three.
#[cfg(feature = "zerocopy")]
unsafe impl<T> Plain for Zerocopy<T> where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + Copy + 'static
{
}

/// Defines structures that are [`Plain`]: `repr(C)`, `Copy`, of fields that all are, without padding.
///
/// A field that is not, or padding between or behind the fields, is an error of the compiler.
///
/// ```
/// linipc_core::plain! {
///     /// Where it is, and since when.
///     #[derive(Debug, PartialEq)]
///     pub struct Position {
///         pub at: [f64; 2],
///         pub since: u64,
///     }
/// }
/// assert_eq!(size_of::<Position>(), 24);
/// ```
///
/// ```compile_fail
/// linipc_core::plain! {
///     struct Padded {
///         byte: u8, // and three bytes that nobody wrote
///         word: u32,
///     }
/// }
/// ```
#[macro_export]
macro_rules! plain {
    ($(
        $(#[$attribute:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$field_attribute:meta])* $field_visibility:vis $field:ident: $type:ty),* $(,)?
        }
    )*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy)]
        #[repr(C)]
        $visibility struct $name {
            $($(#[$field_attribute])* $field_visibility $field: $type),*
        }

        const _: () = {
            const fn is_plain<T: $crate::shared::variable::Plain>() {}
            $(is_plain::<$type>();)*
            assert!(
                0 $(+ ::core::mem::size_of::<$type>())* == ::core::mem::size_of::<$name>(),
                "padding between or behind the fields"
            );
        };

        // SAFETY: It is `repr(C)`, all fields are `Plain`, and its size is the sum of theirs, which
        // the block above made sure of.
        unsafe impl $crate::shared::variable::Plain for $name {}
    )*};
}

const MAGIC: [u8; 8] = *b"linipc=v";
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const GENERATION_AT: usize = 12;
const SIZE_AT: usize = 16;
const HEADER_LEN: usize = 64;

const_assert_eq!(GENERATION_AT % align_of::<AtomicU32>(), 0);
const_assert_eq!(MAGIC_AT % align_of::<AtomicU64>(), 0);

/// Why memory does not hold the variable that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch {
    /// Nothing was ever written here, or its maker did not finish.
    Blank,
    /// It is something else.
    Foreign,
    /// It has another version of the layout, or the other byte order.
    Version(u32),
    /// The value has this many bytes.
    Size(u64),
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => write!(f, "no shared variable was made here"),
            Self::Foreign => write!(f, "not a shared variable"),
            Self::Version(version) => write!(f, "shared variable of version {version}"),
            Self::Size(size) => write!(f, "shared variable of {size} bytes"),
        }
    }
}

impl core::error::Error for Mismatch {}

/// A view of a variable in shared memory.
pub struct Variable<'a, T> {
    bytes: SharedBytes<'a>,
    value: PhantomData<T>,
}

impl<T> Clone for Variable<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Variable<'_, T> {}

impl<'a, T: Plain> Variable<'a, T> {
    const STRIDE: usize = size_of::<T>().next_multiple_of(64);

    /// The bytes that a variable takes, with its header and both copies.
    pub const LEN: usize = HEADER_LEN + 2 * Self::STRIDE;

    /// What a new header is.
    fn header() -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        let fields: [(usize, &[u8]); 3] = [
            (MAGIC_AT, &MAGIC),
            (VERSION_AT, &VERSION.to_ne_bytes()),
            (SIZE_AT, &(size_of::<T>() as u64).to_ne_bytes()),
        ];
        for (at, field) in fields {
            for (to, from) in header.iter_mut().skip(at).zip(field) {
                *to = *from;
            }
        }
        header
    }

    /// A view of the variable at the start of `bytes`. What is there is not looked at.
    ///
    /// # Errors
    ///
    /// - `FAULT`: fewer than [`Variable::LEN`] bytes, or not both readable and writable.
    /// - `INVAL`: the address is not a multiple of 8.
    #[inline]
    pub fn new(bytes: SharedBytes<'a>) -> Result<Self, Errno> {
        let bytes = bytes.slice(0, Self::LEN)?;
        bytes.atomic_u64(MAGIC_AT)?;
        Ok(Self {
            bytes,
            value: PhantomData,
        })
    }

    /// Makes the memory a variable with this value. Nobody else may use the memory meanwhile.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn format(self, initial: T) -> Result<(), Errno> {
        let magic = self.bytes.atomic_u64(MAGIC_AT)?;
        // Relaxed: only takes a former variable away, under the caller's lock.
        magic.store(0, Ordering::Relaxed);
        let header = Self::header();
        let (_, fields) = header.split_at(VERSION_AT);
        self.bytes.write(VERSION_AT, fields)?;
        self.write_copy(0, &initial)?;
        // (M1)
        magic.store(u64::from_ne_bytes(MAGIC), Ordering::Release);
        Ok(())
    }

    /// Whether the memory holds a variable of this size.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn check(self) -> Result<Result<(), Mismatch>, Errno> {
        // (M2)
        let magic = self.bytes.atomic_u64(MAGIC_AT)?.load(Ordering::Acquire);
        let mut header = [0; HEADER_LEN];
        self.bytes.read(0, &mut header)?;
        if magic != u64::from_ne_bytes(MAGIC) {
            // A maker that was killed left bytes of a new header, among zeros.
            let mut fields = header.iter().zip(Self::header());
            let blank = fields.all(|(found, new)| *found == 0 || *found == new);
            return Ok(Err(if blank {
                Mismatch::Blank
            } else {
                Mismatch::Foreign
            }));
        }
        let (mut version, mut size) = ([0; 4], [0; 8]);
        self.bytes.read(VERSION_AT, &mut version)?;
        self.bytes.read(SIZE_AT, &mut size)?;
        let (version, size) = (u32::from_ne_bytes(version), u64::from_ne_bytes(size));
        Ok(if version != VERSION {
            Err(Mismatch::Version(version))
        } else if size != size_of::<T>() as u64 {
            Err(Mismatch::Size(size))
        } else {
            Ok(())
        })
    }

    /// How often the variable was written, modulo 2³².
    ///
    /// # Errors
    ///
    /// None in practice.
    #[inline]
    pub fn generation(self) -> Result<u32, Errno> {
        // (G2)
        Ok(self.futex()?.word().load(Ordering::Acquire))
    }

    /// The value, and its generation. The caller holds a shared lock, or the exclusive one.
    ///
    /// # Errors
    ///
    /// None in practice.
    #[inline]
    pub fn read(self) -> Result<(T, u32), Errno> {
        let generation = self.generation()?;
        let mut value = MaybeUninit::<T>::zeroed();
        let start = value.as_mut_ptr().cast::<u8>();
        // SAFETY: `value` is borrowed, of this size, and all its bytes are initialised.
        let to = unsafe { &mut *ptr::slice_from_raw_parts_mut(start, size_of::<T>()) };
        self.bytes.read(Self::copy_at(generation), to)?;
        // SAFETY: Any bytes are a value (`Plain`).
        Ok((unsafe { value.assume_init() }, generation))
    }

    /// Replaces the value; gives the new generation. The caller holds the exclusive lock.
    ///
    /// Until it returns, and if the process dies before, everybody sees the old value.
    ///
    /// # Errors
    ///
    /// None in practice.
    #[inline]
    pub fn write(self, value: T) -> Result<u32, Errno> {
        // Relaxed: the caller's lock orders this after the last write.
        let current = self.futex()?.word();
        let generation = current.load(Ordering::Relaxed).wrapping_add(1);
        self.write_copy(generation, &value)?;
        // (G1)
        current.store(generation, Ordering::Release);
        Ok(generation)
    }

    /// The generation as a futex: wait until it is no longer the one you saw, wake everybody after
    /// a write.
    ///
    /// A writer that is killed between write and wake wakes nobody, so wait with a deadline and
    /// look again.
    ///
    /// # Errors
    ///
    /// None in practice.
    #[inline]
    pub fn futex(self) -> Result<Futex<'a>, Errno> {
        Ok(Futex::shared(self.bytes.atomic_u32(GENERATION_AT)?))
    }

    #[inline]
    const fn copy_at(generation: u32) -> usize {
        match generation % 2 {
            0 => HEADER_LEN,
            _ => HEADER_LEN + Self::STRIDE,
        }
    }

    #[inline]
    fn write_copy(self, generation: u32, value: &T) -> Result<(), Errno> {
        let start = (&raw const *value).cast::<u8>();
        // SAFETY: `value` is borrowed, of this size, and without padding (`Plain`).
        let from = unsafe { &*ptr::slice_from_raw_parts(start, size_of::<T>()) };
        self.bytes.write(Self::copy_at(generation), from)
    }
}

impl<T> fmt::Debug for Variable<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Variable").field(&self.bytes).finish()
    }
}
