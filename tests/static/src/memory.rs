//! Memory whose size is known when the program runs.

use core::ffi::c_long;
use core::{mem, slice};

use linipc_core::Errno;
use linipc_core::map::{Access, Region};

/// Words for as long as the program runs.
///
/// # Errors
///
/// `NOMEM`: there are not so many.
pub fn words(count: usize) -> Result<&'static mut [c_long], Errno> {
    let len = count.saturating_mul(size_of::<c_long>()).max(1);
    let region = Region::anonymous(len, Access::READ | Access::WRITE)?;
    let start = region.as_ptr().cast();
    mem::forget(region);
    // SAFETY: So many words of zeros were mapped, for ever and for this slice alone.
    Ok(unsafe { slice::from_raw_parts_mut(start, count) })
}

/// Bytes for as long as the program runs.
///
/// # Errors
///
/// `NOMEM`: there are not so many.
pub fn bytes(count: usize) -> Result<&'static mut [u8], Errno> {
    let words = words(count.div_ceil(size_of::<c_long>()))?;
    // SAFETY: The words have at least so many bytes, and nobody else has them.
    Ok(unsafe { slice::from_raw_parts_mut(words.as_mut_ptr().cast(), count) })
}
