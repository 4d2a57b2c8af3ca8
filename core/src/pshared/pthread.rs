//! Locks that C programs have too, in the C library's own layout.
//!
//! | C | here | C library |
//! |---|---|---|
//! | `pthread_mutex_t`: robust, normal, recursive or error-checking, with and without `PTHREAD_PRIO_INHERIT` | [`Mutex`] | glibc, 64-bit programs |
//! | `pthread_mutex_t`: process-shared, and not robust | [`Mutex`], by [`Mutex::attach_stalled`](super::mutex::Mutex::attach_stalled) | the same |
//! | `sem_t`, process-shared | [`Semaphore`] | glibc and musl, 32 and 64 bit ([`Format`]) |
//!
//! Both sides lock each other out, wake each other, and learn of each other's death, if the mutex is robust.
//! Either side may make the object, in memory that both map (one that is not robust only C): on ours by
//! [`Mutex::pthread`](super::mutex::Mutex::pthread), [`init_pthread`](super::mutex::Mutex::init_pthread) or those
//! that inherit priority. To a mutex of our own protocol glibc says `EINVAL`.
//!
//! ```c
//! pthread_mutexattr_t attributes;
//! pthread_mutexattr_init(&attributes);
//! pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
//! pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
//! pthread_mutex_init(mutex, &attributes); // what `Mutex::attach` finds
//! ```
//!
//! # Pitfalls
//!
//! - If one is killed after it has freed a mutex, before it wakes one who sleeps there, the kernel does that
//!   (since Linux 5.5), unless another one has locked in between: that one does not know that others sleep, and
//!   wakes nobody either. Ours look every 50 ms; those of the C library sleep until one more comes that has to
//!   sleep, as they do where all are of the C library.
//!
//! # Not supported
//!
//! - Adaptive mutexes, those with a priority ceiling, and those that inherit priority without being robust:
//!   [`AttachError::NotFound`](super::AttachError::NotFound).
//! - musl's `pthread_mutex_t`, whose list has another place for its links; it is not found either. A
//!   program that is linked with musl has [`Mutex`] by [`Thread::register`](crate::robust::Thread::register).
//! - The `pthread_mutex_t` of 32-bit glibc. In 32-bit programs this module has semaphores only; a
//!   [`mutex`](super::mutex) is the same in them as in 64-bit ones.
//! - `pthread_rwlock_t`, `pthread_cond_t` and `pthread_barrier_t`: nothing of them survives a death, and
//!   their layouts have changed between versions.

#[cfg(target_pointer_width = "64")]
pub use super::mutex::Mutex;
pub use crate::posix::sem::{Format, Semaphore, Sharing};
