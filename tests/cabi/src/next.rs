//! The C library's own functions, of the names that we have taken: `dlsym(RTLD_NEXT)`.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// One of them, looked up at its first use: no constructor need have run.
pub(crate) struct Next {
    name: &'static CStr,
    /// Where one name has several versions, `dlsym` may give an old one.
    version: Option<&'static CStr>,
    address: AtomicPtr<c_void>,
}

impl Next {
    pub(crate) const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            version: None,
            address: AtomicPtr::new(ptr::null_mut()),
        }
    }

    pub(crate) const fn versioned(name: &'static CStr, version: &'static CStr) -> Self {
        Self {
            name,
            version: Some(version),
            address: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Its address. Without it there is no way on.
    #[inline]
    pub(crate) fn address(&self) -> *mut c_void {
        // Relaxed: all who look it up find the same, of a library that was loaded before.
        let address = self.address.load(Ordering::Relaxed);
        if address.is_null() {
            self.find()
        } else {
            address
        }
    }

    #[cold]
    fn find(&self) -> *mut c_void {
        let name = self.name.as_ptr();
        let address = match self.version {
            // SAFETY: Both are strings.
            Some(version) => unsafe { libc::dlvsym(libc::RTLD_NEXT, name, version.as_ptr()) },
            None => ptr::null_mut(),
        };
        let address = match address.is_null() {
            // SAFETY: It is a string.
            true => unsafe { libc::dlsym(libc::RTLD_NEXT, name) },
            false => address,
        };
        if address.is_null() {
            // SAFETY: It ends the process.
            unsafe { libc::abort() };
        }
        // Relaxed: as above.
        self.address.store(address, Ordering::Relaxed);
        address
    }
}

/// Calls the C library's function of this name, with these types, and version if there are several.
macro_rules! next {
    ($name:ident $(@ $version:literal)? ($($value:expr => $type:ty),* $(,)?) -> $out:ty) => {{
        static NEXT: $crate::next::Next = $crate::next::next!(@ $name $(, $version)?);
        let function: unsafe extern "C-unwind" fn($($type),*) -> $out =
            std::mem::transmute(NEXT.address());
        function($($value),*)
    }};
    (@ $name:ident, $version:literal) => {
        $crate::next::Next::versioned(
            $crate::c_name!($name),
            $version,
        )
    };
    (@ $name:ident) => {
        $crate::next::Next::new($crate::c_name!($name))
    };
}
pub(crate) use next;
