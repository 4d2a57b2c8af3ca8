//! What every handle of a lock has: a file, and a mapping of it with the lock.

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use linipc_core::Errno;
use linipc_core::io::retry_on_intr;
use linipc_core::map::{Access, Region};
use linipc_core::posix::shm as segment;
use linipc_core::pshared::AttachError;
use linipc_core::shared::SharedBytes;
use linipc_core::shared::variable::{Plain, Variable};

use super::{attach_error, mismatch};
use crate::memfd::{Memfd, MemfdOptions, SealFlags};
use crate::posix::shm::{OpenOptions, SharedMemory};

/// A mapping with a lock in it.
pub(super) trait Place: Sized {
    /// What a new lock is made of.
    type Initial: Copy;

    /// How long the file is.
    fn len() -> Result<usize, Errno>;

    /// Maps so much of a file.
    fn map(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno>;

    /// Makes the lock.
    fn init(&self, initial: Self::Initial) -> io::Result<()>;

    /// Whether there is such a lock.
    fn check(&self) -> io::Result<()>;
}

/// A lock in a file that this process has mapped.
#[derive(Debug)]
pub(super) struct Owned<P> {
    memory: SharedMemory,
    pub(super) place: P,
}

impl<P: Place> Owned<P> {
    /// In a new memfd, whose length is sealed.
    pub(super) fn create(initial: P::Initial) -> io::Result<Self> {
        let len = P::len()?;
        let memory = MemfdOptions::new()
            .size(len as u64)
            .seals(Memfd::FIXED_LENGTH | SealFlags::SEAL)
            .create("linipc-lock")?;
        P::map(memory.as_fd(), len)?.init(initial)?;
        Self::map(OwnedFd::from(memory).into())
    }

    /// In the segment with this name, which is made with the lock in it if `options` say so.
    pub(super) fn open_named(
        name: &Path,
        initial: P::Initial,
        options: &OpenOptions,
    ) -> io::Result<Self> {
        let len = P::len()?;
        let refused = Cell::new(None);
        let memory = options.open_with(name, |object: &OwnedFd| {
            retry_on_intr(|| segment::resize(object, len as u64))?;
            P::map(object.as_fd(), len)?.init(initial).map_err(|error| {
                refused.set(Some(error));
                Errno::INVAL
            })
        });
        match refused.take() {
            Some(error) => Err(error),
            None => Self::map(memory?),
        }
    }

    /// In a memfd that anybody may have made.
    pub(super) fn attach(memory: BorrowedFd<'_>) -> io::Result<Self> {
        let memory = Memfd::from(memory.try_clone_to_owned()?).require(SealFlags::SHRINK)?;
        Self::map(OwnedFd::from(memory).into())
    }

    /// In a file that those who can write it can also cut off.
    pub(super) fn map(memory: SharedMemory) -> io::Result<Self> {
        let needed = P::len()?;
        if memory.size()? < needed as u64 {
            return Err(attach_error(AttachError::TooSmall { needed }));
        }
        let place = P::map(memory.as_fd(), needed)?;
        place.check()?;
        Ok(Self { memory, place })
    }

    pub(super) fn persist(&mut self) {
        self.memory.persist();
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

/// A lock of core that is at the beginning of memory.
pub(super) trait Lock: Sized {
    /// What a new one is made of.
    type Initial: Copy;

    fn init(memory: SharedBytes<'_>, initial: Self::Initial) -> Result<(), AttachError>;

    fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError>;
}

/// By core's calls of the same names.
macro_rules! lock {
    ($lock:ty $(, $name:ident: $type:ty)?) => {
        impl Lock for $lock {
            type Initial = ($($type,)?);

            fn init(
                memory: SharedBytes<'_>,
                ($($name,)?): Self::Initial,
            ) -> Result<(), AttachError> {
                Self::init(memory $(, $name)?).map(|_| ())
            }

            #[inline]
            fn attach(memory: SharedBytes<'_>) -> Result<&Self, AttachError> {
                Self::attach(memory)
            }
        }
    };
}
pub(super) use lock;

/// What is behind a lock.
pub(super) trait Behind {
    type Initial: Copy;

    const LEN: usize;

    fn init(memory: SharedBytes<'_>, initial: Self::Initial) -> Result<(), Errno>;

    fn check(memory: SharedBytes<'_>) -> io::Result<()>;
}

/// Nothing.
impl Behind for () {
    type Initial = ();

    const LEN: usize = 0;

    fn init(_: SharedBytes<'_>, (): ()) -> Result<(), Errno> {
        Ok(())
    }

    fn check(_: SharedBytes<'_>) -> io::Result<()> {
        Ok(())
    }
}

/// A value, kept twice, so that who is killed while it replaces it leaves the old one.
#[derive(Debug)]
pub(super) struct Value<T>(PhantomData<T>);

impl<T: Plain> Behind for Value<T> {
    type Initial = T;

    const LEN: usize = Variable::<T>::LEN;

    fn init(memory: SharedBytes<'_>, initial: T) -> Result<(), Errno> {
        Variable::new(memory)?.format(initial)
    }

    fn check(memory: SharedBytes<'_>) -> io::Result<()> {
        Variable::<T>::new(memory)?.check()?.map_err(mismatch)
    }
}

/// A lock, and from the next cache line on what is behind it.
#[derive(Debug)]
pub(super) struct At<L, B = ()> {
    region: Region,
    lock: PhantomData<fn() -> (L, B)>,
}

impl<L: Lock, B: Behind> At<L, B> {
    const BEHIND: usize = size_of::<L>().next_multiple_of(64);

    const LEN: usize = if B::LEN == 0 {
        size_of::<L>()
    } else {
        Self::BEHIND + B::LEN
    };

    #[inline]
    fn lock(&self) -> Result<&L, AttachError> {
        L::attach(self.region.bytes())
    }

    #[inline]
    pub(super) fn behind(&self) -> Result<SharedBytes<'_>, Errno> {
        self.region
            .bytes()
            .slice(Self::BEHIND.min(Self::LEN), B::LEN)
    }
}

impl<L: Lock, B: Behind> Owned<At<L, B>> {
    /// The lock, if nobody has destroyed it.
    #[inline]
    pub(super) fn words(&self) -> io::Result<&L> {
        self.place.lock().map_err(attach_error)
    }
}

impl<L: Lock, T: Plain> At<L, Value<T>> {
    #[inline]
    pub(super) fn value(&self) -> Result<Variable<'_, T>, Errno> {
        Variable::new(self.behind()?)
    }
}

impl<L: Lock, B: Behind> Place for At<L, B> {
    type Initial = (L::Initial, B::Initial);

    fn len() -> Result<usize, Errno> {
        Ok(Self::LEN)
    }

    fn map(file: BorrowedFd<'_>, len: usize) -> Result<Self, Errno> {
        Ok(Self {
            region: Region::shared(file, 0, len, Access::READ | Access::WRITE)?,
            lock: PhantomData,
        })
    }

    fn init(&self, (lock, behind): Self::Initial) -> io::Result<()> {
        B::init(self.behind()?, behind)?;
        L::init(self.region.bytes(), lock).map_err(attach_error)
    }

    fn check(&self) -> io::Result<()> {
        self.lock().map_err(attach_error)?;
        B::check(self.behind()?)
    }
}

/// How handles are made: the same for all, but for what a new lock is made of.
macro_rules! handle {
    ($lock:ident $(<$item:ident>)?, ($($name:ident: $type:ty),*), $initial:expr) => {
        impl $(<$item: Plain>)? $lock $(<$item>)? {
            /// Makes one in memory without a name that nobody can cut off: a memfd, for those who get
            /// the descriptor ([`AsFd`]).
            ///
            /// # Errors
            ///
            /// - `NOSPC`, `NOMEM`, `MFILE`: no memory, or no descriptor.
            /// - `InvalidInput` with [`AttachError::OutOfRange`]: not for so many units or parties.
            pub fn create($($name: $type),*) -> io::Result<Self> {
                Ok(Self(Owned::create($initial)?))
            }

            /// The one in a memfd, whoever made it.
            ///
            /// # Errors
            ///
            /// - `InvalidData`: with [`MissingSeals`](crate::memfd::MissingSeals), if its length is not
            ///   sealed; with [`AttachError`] or [`Mismatch`], if something else is in it.
            /// - `ACCESS`: the descriptor is not open for reading and writing.
            pub fn attach(memory: impl AsFd) -> io::Result<Self> {
                Ok(Self(Owned::attach(memory.as_fd())?))
            }

            /// The one in a POSIX segment, made if `options` say so; nobody sees it half made. Size and
            /// reservation are the lock's, and not the options'.
            ///
            /// Unlike a memfd it cannot be sealed: who may write it can also cut it off, which kills its
            /// users with `SIGBUS`. Its permissions are the trust.
            ///
            /// # Errors
            ///
            /// - Those of [`OpenOptions::open`].
            /// - `InvalidInput` with [`AttachError::OutOfRange`]: as of [`Self::create`].
            /// - `InvalidData` with [`AttachError`] or [`Mismatch`]: something else is in it.
            pub fn open_named(
                name: impl AsRef<Path>,
                $($name: $type,)*
                options: &OpenOptions,
            ) -> io::Result<Self> {
                Ok(Self(Owned::open_named(name.as_ref(), $initial, options)?))
            }

            /// The one in the POSIX segment with this name.
            ///
            /// # Errors
            ///
            /// `NOENT`: there is none. Those of [`Self::open_named`].
            pub fn open(name: impl AsRef<Path>) -> io::Result<Self> {
                Self::attach_memory(SharedMemory::open(name)?)
            }

            /// The one in memory of any kind that is not sealed, whose users are trusted not to cut it off.
            ///
            /// # Errors
            ///
            /// Those of [`Self::open_named`].
            pub fn attach_memory(memory: SharedMemory) -> io::Result<Self> {
                Ok(Self(Owned::map(memory)?))
            }

            /// Lets the name outlive the handle, whatever was chosen when it was opened.
            pub fn persist(&mut self) {
                self.0.persist();
            }
        }

        impl $(<$item: Plain>)? AsFd for $lock $(<$item>)? {
            /// The memory, to hand to a process that attaches to it.
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }
    };
}
pub(super) use handle;

/// What a guard does with the value: reading, and for those who have the lock alone also writing.
macro_rules! access {
    (read) => {
        /// A copy of the value.
        ///
        /// # Errors
        ///
        /// None in practice.
        #[inline]
        pub fn get(&self) -> io::Result<T> {
            let (value, _) = self.value.read()?;
            Ok(value)
        }
    };
    (write) => {
        access!(read);

        /// Replaces the value. Who is killed in the middle of it leaves the old one.
        ///
        /// # Errors
        ///
        /// None in practice.
        #[inline]
        pub fn set(&mut self, value: T) -> io::Result<()> {
            self.value.write(value)?;
            Ok(())
        }

        /// Lets `change` change a copy, which then replaces the value; if it panics, the old one stays.
        ///
        /// # Errors
        ///
        /// None in practice.
        #[inline]
        pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> io::Result<R> {
            let mut value = self.get()?;
            let result = change(&mut value);
            self.set(value)?;
            Ok(result)
        }
    };
}
pub(super) use access;
