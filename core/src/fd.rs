//! Descriptors: who owns one closes it, who borrows one does not outlive the owner.
//!
//! With the feature `std` these are std's own types. Without it [`OwnedFd`] is one of ours, and the others
//! are rustix's, with which it can be used.

pub use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};

#[cfg(feature = "std")]
pub use rustix::fd::OwnedFd;

#[cfg(not(feature = "std"))]
pub use self::owned::OwnedFd;

#[cfg(not(feature = "std"))]
mod owned {
    use core::mem;

    use static_assertions::const_assert_eq;

    use super::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};

    /// A descriptor that is closed when this is dropped: `std::os::fd::OwnedFd`, where there is no std.
    ///
    /// rustix has such a type too. It asserts at each use that the number is not -1, which the compiler
    /// cannot always see, and so leaves a panic in the program.
    ///
    /// # Invariants
    ///
    /// The number is that of an open descriptor, which is never negative, and nobody else owns it.
    #[derive(Debug)]
    #[repr(transparent)]
    pub struct OwnedFd(RawFd);

    impl FromRawFd for OwnedFd {
        #[inline(always)]
        unsafe fn from_raw_fd(number: RawFd) -> Self {
            // INVARIANT: The caller's promise.
            Self(number)
        }
    }

    impl AsRawFd for OwnedFd {
        #[inline(always)]
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    impl IntoRawFd for OwnedFd {
        #[inline(always)]
        fn into_raw_fd(self) -> RawFd {
            mem::ManuallyDrop::new(self).0
        }
    }

    const_assert_eq!(size_of::<BorrowedFd<'static>>(), size_of::<RawFd>());

    impl AsFd for OwnedFd {
        #[inline(always)]
        fn as_fd(&self) -> BorrowedFd<'_> {
            // `BorrowedFd::borrow_raw` asserts too.
            // SAFETY: `BorrowedFd` is `repr(transparent)` over `RawFd`, as the documentation of std's and of
            // rustix's says, and the number of a descriptor that is open, as this one is for as long as
            // `self` is borrowed (the type's invariant).
            unsafe { mem::transmute::<RawFd, BorrowedFd<'_>>(self.0) }
        }
    }

    impl Drop for OwnedFd {
        #[inline]
        fn drop(&mut self) {
            // SAFETY: Nobody else owns it (the type's invariant).
            unsafe { rustix::io::close(self.0) };
        }
    }

    impl From<rustix::fd::OwnedFd> for OwnedFd {
        #[inline]
        fn from(fd: rustix::fd::OwnedFd) -> Self {
            // INVARIANT: It was the owner until now.
            Self(fd.into_raw_fd())
        }
    }

    impl From<OwnedFd> for rustix::fd::OwnedFd {
        #[inline]
        fn from(fd: OwnedFd) -> Self {
            // SAFETY: It was the owner until now.
            unsafe { Self::from_raw_fd(fd.into_raw_fd()) }
        }
    }
}
