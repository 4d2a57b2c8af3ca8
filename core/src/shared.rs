//! Bytes that another process may be writing: copied in, copied out, never lent.
//!
//! [`SharedBytes`] is a view of mapped memory. A Rust reference promises that nobody else writes,
//! which no mapping can keep, so this type has none: it copies by accesses that may race, and lends
//! only atomics. Every offset and length is checked; what is outside the view, or what the mapping
//! does not permit, is `FAULT`, the kernel's own word for a bad address.
//!
//! ```
//! use linipc_core::map::{Access, Region};
//!
//! let region = Region::anonymous(4096, Access::READ | Access::WRITE)?;
//! let bytes = region.bytes();
//! bytes.write(100, b"shared")?;
//! let mut copy = [0; 6];
//! bytes.read(100, &mut copy)?;
//! assert_eq!(&copy, b"shared");
//! assert!(bytes.write(4095, b"shared").is_err());
//! # Ok::<(), linipc_core::Errno>(())
//! ```
//!
//! # What a copy does not promise
//!
//! A copy of bytes that a peer is writing may be torn: some old, some new, in any mix, word by
//! word. A lock or an atomic must order the accesses if that matters. Whatever was copied is to be
//! checked in the copy, not in the memory.

use core::fmt;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64};

use rustix::io::Errno;

use crate::map::Access;
use crate::sys::copy::{copy_in, copy_out};

pub mod variable;

/// A view of bytes that another process may be reading and writing.
///
/// # Invariants
///
/// For `'a`, `len` bytes at `start` are mapped, with at least the permissions `access`, and no
/// Rust reference to them exists but those to atomics.
#[derive(Clone, Copy)]
pub struct SharedBytes<'a> {
    start: NonNull<u8>,
    len: usize,
    access: Access,
    mapping: PhantomData<&'a [u8]>,
}

// SAFETY: All accesses through the view are atomic, so that it does not matter which thread makes
// them. (Accesses of different sizes to the same bytes, such as a copy of words across an
// `AtomicU32`, are what all hardware of these architectures defines, and Rust leaves open.)
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: As for `Send`; the view itself is immutable.
unsafe impl Sync for SharedBytes<'_> {}

impl<'a> SharedBytes<'a> {
    /// A view of `len` bytes at `start`.
    ///
    /// # Safety
    ///
    /// For `'a`, the bytes must stay mapped with at least the permissions `access`, no reference to
    /// them may be used but those to atomics, and `len` must be at most `isize::MAX`.
    #[inline]
    pub const unsafe fn from_raw(start: NonNull<u8>, len: usize, access: Access) -> Self {
        // INVARIANT: The caller's promise.
        Self {
            start,
            len,
            access,
            mapping: PhantomData,
        }
    }

    /// The length in bytes.
    #[inline]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether the length is 0.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// What the mapping permits.
    #[inline]
    pub const fn access(self) -> Access {
        self.access
    }

    /// The first byte's address, for calls that take one.
    #[inline]
    pub const fn as_ptr(self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// The part of `len` bytes from `offset`.
    ///
    /// # Errors
    ///
    /// `FAULT`: it reaches outside the view.
    #[inline]
    pub fn slice(self, offset: usize, len: usize) -> Result<Self, Errno> {
        let start = self.at(offset, len, Access::empty())?;
        // INVARIANT: `at` checked that the part lies within this view, whose promise it inherits.
        Ok(Self { start, len, ..self })
    }

    /// Copies bytes from `offset` into `to`, all of it.
    ///
    /// # Errors
    ///
    /// `FAULT`: it reaches outside the view, or the mapping cannot be read.
    #[inline]
    pub fn read(self, offset: usize, to: &mut [u8]) -> Result<(), Errno> {
        let from = self.at(offset, to.len(), Access::READ)?;
        // SAFETY: `at` checked that the bytes are mapped and can be read; `to` is a borrowed slice.
        unsafe { copy_out(from.as_ptr(), to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// Copies all of `from` to `offset`.
    ///
    /// # Errors
    ///
    /// `FAULT`: it reaches outside the view, or the mapping cannot be written.
    #[inline]
    pub fn write(self, offset: usize, from: &[u8]) -> Result<(), Errno> {
        let to = self.at(offset, from.len(), Access::WRITE)?;
        // SAFETY: `at` checked that the bytes are mapped and can be written; `from` is borrowed.
        unsafe { copy_in(from.as_ptr(), to.as_ptr(), from.len()) };
        Ok(())
    }

    /// The 32-bit atomic at `offset`, for counters, flags and futexes.
    ///
    /// # Errors
    ///
    /// - `FAULT`: it reaches outside the view, or the mapping cannot be read and written.
    /// - `INVAL`: the address is not a multiple of 4.
    #[inline]
    pub fn atomic_u32(self, offset: usize) -> Result<&'a AtomicU32, Errno> {
        let word = self
            .at(offset, size_of::<AtomicU32>(), Access::READ | Access::WRITE)?
            .cast();
        if !word.is_aligned() {
            return Err(Errno::INVAL);
        }
        // SAFETY: `at` checked that the bytes are mapped for reading and writing, and they are
        // aligned; all other accesses are atomic (the type's invariant).
        Ok(unsafe { word.as_ref() })
    }

    /// The 64-bit atomic at `offset`.
    ///
    /// # Errors
    ///
    /// - `FAULT`: it reaches outside the view, or the mapping cannot be read and written.
    /// - `INVAL`: the address is not a multiple of 8.
    #[inline]
    pub fn atomic_u64(self, offset: usize) -> Result<&'a AtomicU64, Errno> {
        let word = self
            .at(offset, size_of::<AtomicU64>(), Access::READ | Access::WRITE)?
            .cast();
        if !word.is_aligned() {
            return Err(Errno::INVAL);
        }
        // SAFETY: As in `atomic_u32`.
        Ok(unsafe { word.as_ref() })
    }

    /// The address of `len` bytes at `offset`, which lie within the view and permit `access`.
    #[inline]
    fn at(self, offset: usize, len: usize, access: Access) -> Result<NonNull<u8>, Errno> {
        let end = offset.checked_add(len).ok_or(Errno::FAULT)?;
        if end > self.len || !self.access.contains(access) {
            return Err(Errno::FAULT);
        }
        // SAFETY: `offset` is at most `len`, so the result is within the mapping or one past it.
        Ok(unsafe { self.start.add(offset) })
    }
}

impl fmt::Debug for SharedBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedBytes")
            .field("start", &self.start)
            .field("len", &self.len)
            .field("access", &self.access)
            .finish()
    }
}
