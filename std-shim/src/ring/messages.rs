//! The handles of the rings of messages, which differ in who may attach, and not in their calls.

/// Making a ring.
macro_rules! create {
    ($kind:ident) => {
        /// Memory with a ring in it that nobody can cut off: a memfd, for those who get the descriptor.
        ///
        /// # Errors
        ///
        /// - `InvalidInput` with [`AttachError::Capacity`]: not a power of two from 64 bytes to 2 GiB (on 32 bit 1 GiB).
        /// - `NOSPC`, `MFILE`: no memory, or no descriptor.
        pub fn create(capacity: u64) -> io::Result<Memfd> {
            let memory = core::create_memfd(c"linipc-ring", core::Kind::$kind, capacity);
            memory.map(Memfd::from).map_err(attach_error)
        }

        /// A POSIX segment with a ring in it, made if `options` say so; nobody sees it half made. An
        /// existing one keeps its capacity. Size and reservation are the ring's, and not the options'.
        ///
        /// Unlike a memfd it cannot be sealed: who may write it can also cut it off, which kills its
        /// users with `SIGBUS`. Its permissions are the trust.
        ///
        /// # Errors
        ///
        /// Those of [`create`] and of [`OpenOptions::open`].
        pub fn open_named(
            name: impl AsRef<Path>,
            capacity: u64,
            options: &OpenOptions,
        ) -> io::Result<SharedMemory> {
            named(name.as_ref(), core::len(capacity), options, |memory| {
                core::create(memory, core::Kind::$kind, capacity)
            })
        }
    };
}
pub(super) use create;

/// A handle: attaching, and what both sides tell.
macro_rules! handle {
    ($(#[$doc:meta])* $ring:ident::$handle:ident $(<$item:ident>)?) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $handle<$($item: Plain,)? M: Memory = Region>(core::$ring::$handle<$($item,)? M>);

        impl $(<$item: Plain>)? $handle $(<$item>)? {
            /// Attaches to the ring in a memfd, whoever sent it: in place of a dead process if need be.
            ///
            /// # Errors
            ///
            /// - `InvalidData` with [`AttachError`]: [`Unsealed`](AttachError::Unsealed), or not this
            ///   ring.
            /// - `ResourceBusy` with [`AttachError::InUse`]: there is no place, and its owner is alive.
            /// - `ACCESS`: the descriptor is not open for reading and writing.
            /// - `NOSYS`, of an end that may have others beside it: the first one is there alone, which
            ///   only membarrier(2) could end. `AGAIN`: others came and went all the time.
            pub fn attach(memory: impl AsFd) -> io::Result<Self> {
                Self::attach_memory(map(memory)?)
            }

            /// Attaches to the ring in the POSIX segment with this name, which those who may write it
            /// could also cut off.
            ///
            /// # Errors
            ///
            /// `NOENT`: there is none. Those of [`Self::attach`].
            pub fn open(name: impl AsRef<Path>) -> io::Result<Self> {
                Self::attach_memory(SharedMemory::open(name)?.map()?)
            }
        }

        impl<$($item: Plain,)? M: Memory> $handle<$($item,)? M> {
            /// Attaches to the ring in memory of any kind.
            ///
            /// # Errors
            ///
            /// Those of [`Producer::attach`]; `PermissionDenied` with [`AttachError::ReadOnly`].
            pub fn attach_memory(memory: M) -> io::Result<Self> {
                core::$ring::$handle::attach(memory).map(Self).map_err(attach_error)
            }

            /// What the ring was made with: bytes, or items of a ring of items.
            #[inline]
            pub fn capacity(&self) -> usize {
                self.0.capacity()
            }

            /// What has gone through this side since the ring was made.
            pub fn counters(&mut self) -> Counters {
                self.0.counters()
            }
        }
    };
}
pub(super) use handle;

/// A method of a handle that meets one other side.
macro_rules! peers {
    () => {
        /// Who is on the other side.
        pub fn peers(&self) -> Peers {
            self.0.peers()
        }

        /// Waits until somebody is on the other side: a new one, if the last has left or died. For a
        /// consumer also something to read is enough, of one that has left again.
        ///
        /// # Errors
        ///
        /// None in practice.
        pub fn wait_peer(&mut self) -> io::Result<()> {
            self.wait_peer_deadline(Deadline::NEVER)
        }

        /// The same, until a deadline.
        ///
        /// # Errors
        ///
        /// `TimedOut`: nobody came.
        pub fn wait_peer_deadline(&mut self, deadline: impl Into<Deadline>) -> io::Result<()> {
            let wait = until(deadline);
            retry(|| self.0.wait_peer(wait)).map_err(io_error)
        }
    };
}
pub(super) use peers;

/// A method of a handle that wakes those who have armed.
macro_rules! set_event {
    () => {
        /// What to write to when the other side has armed and is to be woken. Who shares it can
        /// make writing to it wait for ever: do without if the other side is a stranger.
        pub fn set_event(&mut self, event: EventFd) {
            self.0.set_event(event.into());
        }
    };
}
pub(super) use set_event;

/// What a producer does.
macro_rules! produce {
    ($ring:ident) => {
        impl<M: Memory> Producer<M> {
            peers!();
            set_event!();

            /// The length of the longest message: half of the capacity.
            #[inline]
            pub fn max_message(&self) -> usize {
                self.0.max_message()
            }

            /// The bytes of room. A message takes its length, 8 bytes, and up to 7 more.
            ///
            /// # Errors
            ///
            /// `InvalidData` with [`Error::Corrupt`].
            pub fn free(&mut self) -> io::Result<usize> {
                self.0.free().map_err(io_error)
            }

            /// Copies a message in; waits for room.
            ///
            /// # Errors
            ///
            /// - `InvalidInput` with [`Error::TooLong`]: above [`Self::max_message`].
            /// - `BrokenPipe` with [`Error::Closed`], `ConnectionReset` with [`Error::PeerDead`]: there
            ///   is no room, and nobody to make some.
            /// - `InvalidData` with [`Error::Corrupt`].
            #[inline]
            pub fn push(&mut self, message: &[u8]) -> io::Result<()> {
                self.push_wait(message, Wait::SPIN_THEN_SLEEP)
            }

            /// Copies a message in, if there is room.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if not, and those of [`Self::push`].
            #[inline]
            pub fn try_push(&mut self, message: &[u8]) -> io::Result<()> {
                self.0.try_push(message).map_err(io_error)
            }

            /// Copies a message in; waits for room, but not beyond the deadline.
            ///
            /// # Errors
            ///
            /// `TimedOut`, and those of [`Self::push`].
            #[inline]
            pub fn push_deadline(
                &mut self,
                message: &[u8],
                deadline: impl Into<Deadline>,
            ) -> io::Result<()> {
                self.push_wait(message, until(deadline))
            }

            /// Copies a message in; waits for room as `wait` says.
            ///
            /// # Errors
            ///
            /// `TimedOut` if `wait` has a deadline, and those of [`Self::push`].
            #[inline]
            pub fn push_wait(&mut self, message: &[u8], wait: Wait) -> io::Result<()> {
                retry(|| self.0.push(message, wait)).map_err(io_error)
            }

            /// Copies a plain value in as a message; waits for room.
            ///
            /// # Errors
            ///
            /// Those of [`Self::push`].
            #[inline]
            pub fn push_value<T: Plain>(&mut self, value: &T) -> io::Result<()> {
                self.push_value_wait(value, Wait::SPIN_THEN_SLEEP)
            }

            /// Copies a plain value in as a message, if there is room.
            ///
            /// # Errors
            ///
            /// Those of [`Self::try_push`].
            #[inline]
            pub fn try_push_value<T: Plain>(&mut self, value: &T) -> io::Result<()> {
                self.0.try_push_value(value).map_err(io_error)
            }

            /// Copies a plain value in as a message; waits for room, but not beyond the deadline.
            ///
            /// # Errors
            ///
            /// Those of [`Self::push_deadline`].
            #[inline]
            pub fn push_value_deadline<T: Plain>(
                &mut self,
                value: &T,
                deadline: impl Into<Deadline>,
            ) -> io::Result<()> {
                self.push_value_wait(value, until(deadline))
            }

            /// Copies a plain value in as a message; waits for room as `wait` says.
            ///
            /// # Errors
            ///
            /// Those of [`Self::push_wait`].
            #[inline]
            pub fn push_value_wait<T: Plain>(&mut self, value: &T, wait: Wait) -> io::Result<()> {
                retry(|| self.0.push_value(value, wait)).map_err(io_error)
            }

            /// Waits until there is room for a message of `len` bytes.
            ///
            /// # Errors
            ///
            /// Those of [`Self::push_wait`].
            pub fn wait(&mut self, len: usize, wait: Wait) -> io::Result<()> {
                retry(|| self.0.wait(len, wait)).map_err(io_error)
            }

            /// Prepares for poll(2) and its kin: `true` if there is no room yet for a message of `len`
            /// bytes, so that the consumer will write to its event ([`Consumer::set_event`]) when
            /// there is more. It may not be enough, so arm again.
            ///
            /// # Errors
            ///
            /// Those of [`Self::push`]; `NOSYS`, without membarrier(2).
            pub fn arm(&mut self, len: usize) -> io::Result<bool> {
                self.0.arm(len).map_err(io_error)
            }

            /// Room for a message of `len` bytes, to fill in place, then to commit. Dropping the claim
            /// gives it up.
            ///
            /// # Errors
            ///
            /// Those of [`Self::try_push`].
            #[inline]
            pub fn try_claim(&mut self, len: usize) -> io::Result<core::$ring::Claim<'_, M>> {
                self.0.try_claim(len).map_err(io_error)
            }
        }
    };
}
pub(super) use produce;

/// What a consumer does.
macro_rules! consume {
    ($ring:ident) => {
        impl<M: Memory> Consumer<M> {
            peers!();

            /// The length of the longest message: half of the capacity.
            #[inline]
            pub fn max_message(&self) -> usize {
                self.0.max_message()
            }

            /// Copies the next message out, and gives its length; waits for it.
            ///
            /// # Errors
            ///
            /// - `UnexpectedEof` with [`Error::Closed`]: the producers have left, and all is read.
            /// - `ConnectionReset` with [`Error::PeerDead`]: they have died, and all is read.
            /// - `InvalidInput` with [`Error::BufferLen`]: it is longer than `buf`. It stays.
            /// - `InvalidData` with [`Error::Corrupt`].
            #[inline]
            pub fn pop(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.pop_wait(buf, Wait::SPIN_THEN_SLEEP)
            }

            /// Copies the next message out, if there is one, and gives its length.
            ///
            /// # Errors
            ///
            /// `WouldBlock` if not, and those of [`Self::pop`].
            #[inline]
            pub fn try_pop(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.try_pop(buf).map_err(pop_error)
            }

            /// Copies the next message out, and gives its length; waits for it, but not beyond the
            /// deadline.
            ///
            /// # Errors
            ///
            /// `TimedOut`, and those of [`Self::pop`].
            #[inline]
            pub fn pop_deadline(
                &mut self,
                buf: &mut [u8],
                deadline: impl Into<Deadline>,
            ) -> io::Result<usize> {
                self.pop_wait(buf, until(deadline))
            }

            /// Copies the next message out, and gives its length; waits for it as `wait` says.
            ///
            /// # Errors
            ///
            /// `TimedOut` if `wait` has a deadline, and those of [`Self::pop`].
            #[inline]
            pub fn pop_wait(&mut self, buf: &mut [u8], wait: Wait) -> io::Result<usize> {
                retry(|| self.0.pop(buf, wait)).map_err(pop_error)
            }

            /// The next message, whatever its length; waits for it.
            ///
            /// # Errors
            ///
            /// Those of [`Self::pop`].
            pub fn pop_vec(&mut self) -> io::Result<Vec<u8>> {
                self.pop_vec_wait(Wait::SPIN_THEN_SLEEP)
            }

            /// The next message, whatever its length, if there is one.
            ///
            /// # Errors
            ///
            /// Those of [`Self::try_pop`].
            pub fn try_pop_vec(&mut self) -> io::Result<Vec<u8>> {
                into_vec(|buf| self.0.try_pop(buf)).map_err(pop_error)
            }

            /// The next message, whatever its length; waits for it, but not beyond the deadline.
            ///
            /// # Errors
            ///
            /// Those of [`Self::pop_deadline`].
            pub fn pop_vec_deadline(
                &mut self,
                deadline: impl Into<Deadline>,
            ) -> io::Result<Vec<u8>> {
                self.pop_vec_wait(until(deadline))
            }

            /// The next message, whatever its length; waits for it as `wait` says.
            ///
            /// # Errors
            ///
            /// Those of [`Self::pop_wait`].
            pub fn pop_vec_wait(&mut self, wait: Wait) -> io::Result<Vec<u8>> {
                into_vec(|buf| retry(|| self.0.pop(buf, wait))).map_err(pop_error)
            }

            /// The next message as a plain value; waits for it.
            ///
            /// # Errors
            ///
            /// Those of [`Self::pop`]; [`Error::BufferLen`] if the message has not the value's size.
            #[inline]
            pub fn pop_value<T: Plain>(&mut self) -> io::Result<T> {
                self.pop_value_wait(Wait::SPIN_THEN_SLEEP)
            }

            /// The next message as a plain value, if there is one.
            ///
            /// # Errors
            ///
            /// Those of [`Self::try_pop`]; [`Error::BufferLen`] if the message has not the value's size.
            #[inline]
            pub fn try_pop_value<T: Plain>(&mut self) -> io::Result<T> {
                self.0.try_pop_value().map_err(pop_error)
            }

            /// The next message as a plain value; waits for it, but not beyond the deadline.
            ///
            /// # Errors
            ///
            /// `TimedOut`, and those of [`Self::pop_value`].
            #[inline]
            pub fn pop_value_deadline<T: Plain>(
                &mut self,
                deadline: impl Into<Deadline>,
            ) -> io::Result<T> {
                self.pop_value_wait(until(deadline))
            }

            /// The next message as a plain value; waits for it as `wait` says.
            ///
            /// # Errors
            ///
            /// `TimedOut` if `wait` has a deadline, and those of [`Self::pop_value`].
            #[inline]
            pub fn pop_value_wait<T: Plain>(&mut self, wait: Wait) -> io::Result<T> {
                retry(|| self.0.pop_value(wait)).map_err(pop_error)
            }

            /// Waits until there is a message.
            ///
            /// # Errors
            ///
            /// Those of [`Self::pop_wait`].
            pub fn wait(&mut self, wait: Wait) -> io::Result<()> {
                retry(|| self.0.wait(wait)).map_err(pop_error)
            }

            /// Prepares for poll(2) and its kin: `true` if there is no message yet, so that the producer
            /// will write to its event ([`Producer::set_event`]) when there is.
            ///
            /// # Errors
            ///
            /// Those of [`Self::pop`]; `NOSYS`, without membarrier(2).
            pub fn arm(&mut self) -> io::Result<bool> {
                self.0.arm().map_err(pop_error)
            }

            /// The next message, to read in place, then to release. Dropping the peek leaves it.
            ///
            /// # Errors
            ///
            /// Those of [`Self::try_pop`].
            #[inline]
            pub fn try_peek(&mut self) -> io::Result<core::$ring::Peek<'_, M>> {
                self.0.try_peek().map_err(pop_error)
            }
        }
    };
}
pub(super) use consume;
