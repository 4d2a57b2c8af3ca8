//! One producer, one consumer: plain values of one type, one by one or in slices.
//!
//! # What it promises
//!
//! - Items arrive whole, once, and in order. None is lost, none overwritten.
//! - Neither side waits for the other one: each call ends after a bounded number of steps.
//! - A try makes no system call, unless the other side sleeps and is to be woken.
//! - Either side may be killed at any instruction. What was published stays.
//!
//! An item whose consumer died between reading and releasing it is there again for the next one.
//!
//! # The life of an item
//!
//! | producer | consumer |
//! |---|---|
//! | (P1) looks where the consumer is, if the room last seen is used up | (C1) looks where the producer is, if the items last seen are used up |
//! | (P2) copies the item in | (C2) copies the item out |
//! | (P3) publishes it by its index | (C3) releases it by its index |
//! | (P4) wakes a sleeping consumer | (C4) wakes a sleeping producer |
//!
//! Each side counts items from the beginning of time, and looks at the other side's count only when
//! what it last saw does not do. So a cache line of indices moves once for all the items that were
//! published meanwhile, and those of the items are as many as the items need: nothing is beside them.
//! Item `i` is at place `i` modulo the capacity, at that many times the size of an item behind the
//! beginning of the data. Slices go in two parts where they meet the end.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (P3) the tail | (C1) the tail | the items before it |
//! | (C3) the head | (P1) the head | that the consumer has read what is before it |
//!
//! Wake-ups are argued in [`Wait`]'s module; attaching and leaving where the sides are.
//!
//! ```
//! use linipc_core::ring::{self, Error, items};
//!
//! let fd = items::create_memfd::<[f32; 3]>(c"example", 256)?;
//! let mut producer = items::Producer::<[f32; 3], _>::attach(ring::map(&fd)?)?;
//! let mut consumer = items::Consumer::<[f32; 3], _>::attach(ring::map(&fd)?)?;
//!
//! producer.try_push(&[1.0, 2.0, 3.0])?;
//! assert_eq!(consumer.try_pop(), Ok([1.0, 2.0, 3.0]));
//!
//! // Several at once.
//! let sent = producer.try_push_slice(&[[0.5; 3]; 300])?;
//! let mut got = [[0.0; 3]; 100];
//! assert_eq!((sent, consumer.try_pop_slice(&mut got)), (256, Ok(100)));
//!
//! // In place.
//! let mut claim = producer.try_claim(2)?;
//! claim.write(0, &[[1.0; 3], [2.0; 3]])?;
//! claim.commit(2)?;
//!
//! drop(producer);
//! while consumer.try_pop_slice(&mut got).is_ok() {}
//! assert_eq!(consumer.try_pop(), Err(Error::Closed));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::ffi::CStr;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

use super::end::{Side, Slot};
use super::wait::{self, End, Waiter};
use super::{
    AttachError, Counters, Error, Header, Kind, MAX_CAPACITY, MIN_CAPACITY, Memory, Peers,
    Progress, Ring, Trust, Wait, format, nearest_power_of_two, sealed_memfd,
};
use crate::fd::OwnedFd;
use crate::shared::variable::Plain;
use crate::sync::Ordering;

/// How far ahead of the tail cache lines are asked for.
const AHEAD: usize = 1024;
const LINE: usize = 64;

/// The bytes of data for so many items, if a ring can have them.
pub(super) fn size(capacity: u64, item: u64) -> Option<u64> {
    if !capacity.is_power_of_two() {
        return None;
    }
    let size = capacity.checked_mul(item)?.checked_next_power_of_two()?;
    Some(size.max(MIN_CAPACITY)).filter(|size| *size <= MAX_CAPACITY)
}

/// [`size`] for items of a type.
fn size_for<T: Plain>(capacity: u64) -> Result<u64, AttachError> {
    const {
        assert!(
            size_of::<T>() > 0 && size_of::<T>() as u64 <= MAX_CAPACITY,
            "an item of nothing, or larger than any ring"
        );
    }
    let item = size_of::<T>() as u64;
    let max = 1 << (MAX_CAPACITY / item).ilog2();
    let nearest = nearest_power_of_two(capacity, 1, max);
    size(capacity, item).ok_or(AttachError::Capacity { nearest })
}

/// The bytes of memory that a ring for `capacity` items needs. An item of 0 bytes is an error of the
/// compiler.
///
/// ```compile_fail
/// linipc_core::ring::items::len::<[u8; 0]>(64);
/// ```
///
/// # Errors
///
/// [`AttachError::Capacity`]: it is not a power of two, or more than [`MAX_CAPACITY`] bytes.
pub fn len<T: Plain>(capacity: u64) -> Result<usize, AttachError> {
    super::len(size_for::<T>(capacity)?)
}

/// Makes a ring of items in memory. Whoever attached to what was there before must be gone.
///
/// # Errors
///
/// - [`AttachError::Capacity`]: as of [`len`].
/// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
///   for it.
pub fn create<T: Plain>(memory: impl Memory, capacity: u64) -> Result<(), AttachError> {
    let size = size_for::<T>(capacity)?;
    super::len(size)?;
    format(&memory, Kind::Items, capacity, size_of::<T>() as u64, size)
}

/// A memfd with a ring of items in it, sealed so that its length stays.
///
/// # Errors
///
/// - [`AttachError::Capacity`]: as of [`len`].
/// - [`AttachError::System`]: as of [`create_memfd`](super::create_memfd).
pub fn create_memfd<T: Plain>(name: &CStr, capacity: u64) -> Result<OwnedFd, AttachError> {
    let len = len::<T>(capacity)?;
    sealed_memfd(name, len, Kind::Items, capacity, size_of::<T>() as u64)
}

/// The side that writes. It leaves, and so closes, when it is dropped.
///
/// # Invariants
///
/// The places of the items from `tail` up to `limit` are read by nobody; they are at most the
/// capacity.
#[derive(Debug)]
pub struct Producer<T: Plain, M: Memory> {
    items: Items<T, M>,
    /// The next item.
    tail: u64,
    /// The first item for which there was no room, as last seen.
    limit: u64,
    slot: Slot,
}

/// The side that reads. It leaves, and so closes, when it is dropped.
///
/// # Invariants
///
/// The items from `head` up to `tail` are published; they are at most the capacity.
#[derive(Debug)]
pub struct Consumer<T: Plain, M: Memory> {
    items: Items<T, M>,
    /// The next item.
    head: u64,
    /// The first item that was not published, as last seen.
    tail: u64,
    slot: Slot,
}

impl<T: Plain, M: Memory> Producer<T, M> {
    /// Attaches to a ring of items of this size, in place of a dead producer if there is one.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`]: there is a producer, and it is alive.
    /// - [`AttachError::NotARing`], [`AttachError::Version`], [`AttachError::Kind`],
    ///   [`AttachError::ItemSize`]: not this ring.
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory that it was made in.
    /// - [`AttachError::Corrupt`]: no peer that keeps to the rules wrote this.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let items = Items::<T, M>::open(memory)?;
        let slot = items
            .ring
            .enter(|header| (&header.producers, &header.consumers), 1)?;
        // Relaxed: (E3) orders the producers.
        let tail = items.ring.header().tail.position.load(Ordering::Relaxed);
        // INVARIANT: No items. Dropped, and so left, if what follows fails.
        let mut producer = Self {
            items,
            tail,
            limit: tail,
            slot,
        };
        producer.refresh().map_err(|_| AttachError::Corrupt)?;
        Ok(producer)
    }

    /// The items that the ring was made for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.items.ring.capacity as usize
    }

    /// The items for which there is room.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]: the consumer's index is none.
    pub fn free(&mut self) -> Result<usize, Error> {
        self.refresh()?;
        Ok(self.room())
    }

    /// What has been pushed since the ring was made, and how often there was no room.
    pub fn counters(&mut self) -> Counters {
        self.items.counters(self.tail, |header| &header.tail)
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.items.ring.header().consumers.peers(1)
    }

    /// Waits until somebody is on the other side: a new one, if the last has left or died.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: nobody came until the deadline of `wait`.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    pub fn wait_peer(&mut self, wait: Wait) -> Result<(), Error> {
        wait::wait_peer(self, wait)
    }

    /// Copies an item in, if there is room.
    ///
    /// # Errors
    ///
    /// - [`Error::Full`]: there is no room now.
    /// - [`Error::Closed`]: there is no room, and the consumer has left.
    /// - [`Error::Corrupt`]: the consumer's index is none.
    #[inline]
    pub fn try_push(&mut self, item: &T) -> Result<(), Error> {
        if self.tail == self.limit {
            self.make_room(1)?;
        }
        // (P2)
        // SAFETY: An item is borrowed.
        unsafe { self.items.write(self.tail, item, 1) };
        self.publish(1);
        Ok(())
    }

    /// Copies an item in, and waits for room as `wait` says.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: there was no room until the deadline of `wait`.
    /// - [`Error::Closed`], [`Error::PeerDead`]: there is no room, and nobody to make some.
    /// - [`Error::Corrupt`]: the consumer's index is none.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn push(&mut self, item: &T, wait: Wait) -> Result<(), Error> {
        match self.try_push(item) {
            Err(Error::Full) => {}
            done => return done,
        }
        self.wait(1, wait)?;
        self.try_push(item)
    }

    /// Copies as many of the items in as there is room for, and publishes them together; gives their
    /// number, at least 1 if there are any.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_push_slice(&mut self, items: &[T]) -> Result<usize, Error> {
        let n = self.reserve(items.len())?;
        // (P2)
        // SAFETY: `n` is at most the number of items, which are borrowed.
        unsafe { self.items.write_around(self.tail, items.as_ptr(), n) };
        self.publish(n);
        Ok(n)
    }

    /// [`Producer::try_push_slice`] that waits for room for one item at least, as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::push`].
    #[inline]
    pub fn push_slice(&mut self, items: &[T], wait: Wait) -> Result<usize, Error> {
        match self.try_push_slice(items) {
            Err(Error::Full) => {}
            done => return done,
        }
        self.wait(1, wait)?;
        self.try_push_slice(items)
    }

    /// Waits until there is room for so many items.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::push`]; [`Error::TooLong`]: they are more than the capacity.
    pub fn wait(&mut self, items: usize, wait: Wait) -> Result<(), Error> {
        self.items.ring.add_counted(|header| &header.tail);
        wait::wait(self, items, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no room yet for so many items, so that the
    /// consumer will write to its event ([`Consumer::set_event`]) when there is more. It may not be
    /// enough, so arm again.
    ///
    /// # Errors
    ///
    /// - [`Error::TooLong`], [`Error::Closed`], [`Error::Corrupt`]: as of [`Producer::wait`].
    /// - [`Error::System`]: `NOSYS`, without membarrier(2).
    pub fn arm(&mut self, items: usize) -> Result<bool, Error> {
        wait::arm(self, items)
    }

    /// What to write to when the consumer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.items.ring.waiter.set_event(event);
    }

    /// Room for up to `n` items that lie side by side, to fill in place: fewer if there is not more
    /// room, or where the ring ends, and at least 1 if `n` is. Dropping the claim gives it up.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_claim(&mut self, n: usize) -> Result<Claim<'_, T, M>, Error> {
        let len = self.reserve(n)?.min(self.items.until_end(self.tail));
        Ok(Claim {
            producer: self,
            len,
        })
    }

    /// The items for which there was room, as last seen.
    #[inline(always)]
    fn room(&self) -> usize {
        self.limit.wrapping_sub(self.tail) as usize
    }

    /// How many of `n` items there is room for: at least 1 if `n` is.
    #[inline(always)]
    fn reserve(&mut self, n: usize) -> Result<usize, Error> {
        if n > self.room() {
            self.make_room(n)
        } else {
            Ok(n)
        }
    }

    #[inline(never)]
    fn make_room(&mut self, n: usize) -> Result<usize, Error> {
        self.refresh()?;
        let room = self.room();
        if room > 0 {
            return Ok(room.min(n));
        }
        self.items.ring.counted.refused += 1;
        match self.items.ring.header().consumers.is_closed(1) {
            true => Err(Error::Closed),
            false => Err(Error::Full),
        }
    }

    fn refresh(&mut self) -> Result<(), Error> {
        // (P1) What is before it was read.
        let head = self
            .items
            .ring
            .header()
            .head
            .position
            .load(Ordering::Acquire);
        if self.tail.wrapping_sub(head) > self.items.ring.capacity {
            return Err(Error::Corrupt);
        }
        // INVARIANT: What the consumer has read is nobody's.
        self.limit = head.wrapping_add(self.items.ring.capacity);
        Ok(())
    }

    /// (P3), (P4) for so many items, for which there is room.
    #[inline(always)]
    fn publish(&mut self, n: usize) {
        let Items { ring, .. } = &self.items;
        let header = ring.header();
        let ahead = self.items.place(self.tail) + AHEAD;
        self.tail = self.tail.wrapping_add(n as u64);
        // (P3) The items are visible to (C1).
        header.tail.position.store(self.tail, Ordering::Release);
        let len = n * size_of::<T>();
        // Of small items, only the one that enters a line asks for it.
        if len >= LINE || ahead % LINE < len {
            for line in (0..len.min(AHEAD)).step_by(LINE) {
                ring.cells.prefetch_write_offset(ahead + line);
            }
        }
        // (P4)
        ring.waiter.ring(&header.consumers);
    }
}

impl<T: Plain, M: Memory> Consumer<T, M> {
    /// Attaches to a ring of items of this size, in place of a dead consumer if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::attach`], with the sides exchanged.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let items = Items::<T, M>::open(memory)?;
        let slot = items
            .ring
            .enter(|header| (&header.consumers, &header.producers), 1)?;
        // Relaxed: (E3) orders the consumers.
        let head = items.ring.header().head.position.load(Ordering::Relaxed);
        // INVARIANT: No items. Dropped, and so left, if what follows fails.
        let mut consumer = Self {
            items,
            head,
            tail: head,
            slot,
        };
        consumer.len().map_err(|_| AttachError::Corrupt)?;
        Ok(consumer)
    }

    /// The items that the ring was made for.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.items.ring.capacity as usize
    }

    /// The items that are waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]: the producer's index is none.
    #[allow(clippy::len_without_is_empty, reason = "it asks the other side")]
    pub fn len(&mut self) -> Result<usize, Error> {
        match self.refill() {
            Err(Error::Empty | Error::Closed) => Ok(0),
            Err(error) => Err(error),
            Ok(()) => Ok(self.ready()),
        }
    }

    /// What has been popped since the ring was made.
    pub fn counters(&mut self) -> Counters {
        self.items.counters(self.head, |header| &header.head)
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.items.ring.header().producers.peers(1)
    }

    /// Waits until somebody is on the other side (a new one, if the last has left or died), or there is
    /// something to read, of one that has left again.
    ///
    /// # Errors
    ///
    /// - [`Error::TimedOut`]: nobody came until the deadline of `wait`.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    pub fn wait_peer(&mut self, wait: Wait) -> Result<(), Error> {
        wait::wait_peer(self, wait)
    }

    /// Copies the next item out.
    ///
    /// # Errors
    ///
    /// - [`Error::Empty`]: there is none now.
    /// - [`Error::Closed`]: there is none, and the producer has left.
    /// - [`Error::Corrupt`]: the producer's index is none.
    #[inline]
    pub fn try_pop(&mut self) -> Result<T, Error> {
        if self.head == self.tail {
            self.refill()?;
        }
        let mut item = MaybeUninit::<T>::uninit();
        // (C2)
        // SAFETY: `item` is ours.
        unsafe { self.items.read(self.head, item.as_mut_ptr(), 1) };
        self.release(1);
        // SAFETY: All of its bytes were written, and any bytes are a `T` (`Plain`).
        Ok(unsafe { item.assume_init() })
    }

    /// Copies the next item into place. Of a large one this is faster than [`Consumer::try_pop`], whose
    /// result is moved.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_pop_to(&mut self, item: &mut T) -> Result<(), Error> {
        if self.head == self.tail {
            self.refill()?;
        }
        // (C2)
        // SAFETY: `item` is borrowed.
        unsafe { self.items.read(self.head, item, 1) };
        self.release(1);
        Ok(())
    }

    /// Copies the next item out, and waits for it as `wait` says.
    ///
    /// # Errors
    ///
    /// - [`Error::Closed`], [`Error::Corrupt`]: as of [`Consumer::try_pop`].
    /// - [`Error::TimedOut`]: there was none until the deadline of `wait`.
    /// - [`Error::PeerDead`]: the producer has died, and all that it published was read.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn pop(&mut self, wait: Wait) -> Result<T, Error> {
        match self.try_pop() {
            Err(Error::Empty) => {}
            done => return done,
        }
        self.wait(wait)?;
        self.try_pop()
    }

    /// Copies as many items out as there are and `to` holds, and releases them together; gives their
    /// number, at least 1 if `to` holds any.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_pop_slice(&mut self, to: &mut [T]) -> Result<usize, Error> {
        let n = self.observe(to.len())?;
        // (C2)
        // SAFETY: `n` is at most the length of `to`, which is borrowed.
        unsafe { self.items.read_around(self.head, to.as_mut_ptr(), n) };
        self.release(n);
        Ok(n)
    }

    /// [`Consumer::try_pop_slice`] that waits for one item at least, as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::pop`].
    #[inline]
    pub fn pop_slice(&mut self, to: &mut [T], wait: Wait) -> Result<usize, Error> {
        match self.try_pop_slice(to) {
            Err(Error::Empty) => {}
            done => return done,
        }
        self.wait(wait)?;
        self.try_pop_slice(to)
    }

    /// Waits until there is an item.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::pop`].
    pub fn wait(&mut self, wait: Wait) -> Result<(), Error> {
        wait::wait(self, 0, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no item yet, so that the producer will
    /// write to its event ([`Producer::set_event`]) when there is.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`], but `Empty`; [`Error::System`]: `NOSYS`, without membarrier(2).
    pub fn arm(&mut self) -> Result<bool, Error> {
        wait::arm(self, 0)
    }

    /// What to write to when the producer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.items.ring.waiter.set_event(event);
    }

    /// Up to `n` items that lie side by side, to read in place: fewer if there are not more, or where
    /// the ring ends, and at least 1 if `n` is. They stay until they are released.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_peek(&mut self, n: usize) -> Result<Peek<'_, T, M>, Error> {
        let len = self.observe(n)?.min(self.items.until_end(self.head));
        Ok(Peek {
            consumer: self,
            len,
        })
    }

    /// The items that were published, as last seen.
    #[inline(always)]
    fn ready(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    /// How many of `n` items there are: at least 1 if `n` is.
    #[inline(always)]
    fn observe(&mut self, n: usize) -> Result<usize, Error> {
        if n > self.ready() {
            self.refill()?;
        }
        Ok(n.min(self.ready()))
    }

    /// Looks for items, of which there is 1 at least.
    #[inline(always)]
    fn refill(&mut self) -> Result<(), Error> {
        // (C1) The items before it are visible now.
        let tail = self
            .items
            .ring
            .header()
            .tail
            .position
            .load(Ordering::Acquire);
        let ready = tail.wrapping_sub(self.head);
        // From 1 to the capacity, in one comparison.
        if ready.wrapping_sub(1) > self.items.mask {
            return Err(self.why_not(ready));
        }
        // INVARIANT: The producer has published them.
        self.tail = tail;
        Ok(())
    }

    #[cold]
    fn why_not(&self, ready: u64) -> Error {
        if ready != 0 {
            return Error::Corrupt;
        }
        let header = self.items.ring.header();
        if !header.producers.is_closed(1) {
            return Error::Empty;
        }
        // Once more, since (E1) comes after all that was published. Relaxed: (E2) orders it, and (C1)
        // follows before an item is read.
        match header.tail.position.load(Ordering::Relaxed) == self.head {
            true => Error::Closed,
            false => Error::Empty,
        }
    }

    /// (C3), (C4) for so many items, which were observed.
    #[inline(always)]
    fn release(&mut self, n: usize) {
        let Items { ring, .. } = &self.items;
        let header = ring.header();
        self.head = self.head.wrapping_add(n as u64);
        // (C3) What was read from the items is read: (P1) may let them be written.
        header.head.position.store(self.head, Ordering::Release);
        // (C4)
        ring.waiter.ring(&header.producers);
    }
}

/// The memory as items: what both sides need.
///
/// # Invariants
///
/// `mask` and 1 is the capacity, a power of two. All places are within the capacity of the cells, which
/// [`size`] computed from the same numbers.
#[derive(Debug)]
struct Items<T: Plain, M: Memory> {
    ring: Ring<M>,
    mask: u64,
    item: PhantomData<T>,
}

impl<T: Plain, M: Memory> Items<T, M> {
    /// Checks that there is a ring of items of this size.
    fn open(memory: M) -> Result<Self, AttachError> {
        const { assert!(align_of::<T>() <= LINE, "the data is aligned to a line") };
        let ring = Ring::open(memory, Kind::Items, size_of::<T>() as u64)?;
        // INVARIANT: `Ring::open` checked the capacity with `size`.
        Ok(Self {
            mask: ring.capacity - 1,
            ring,
            item: PhantomData,
        })
    }

    /// A side's counters. Its index counts the items.
    fn counters(&mut self, index: u64, of: fn(&Header) -> &Progress) -> Counters {
        Counters {
            messages: index,
            bytes: index.wrapping_mul(size_of::<T>() as u64),
            ..self.ring.counters(of)
        }
    }

    /// Where an item begins.
    #[inline(always)]
    fn place(&self, index: u64) -> usize {
        (index & self.mask) as usize * size_of::<T>()
    }

    /// How many items lie side by side from there on.
    #[inline(always)]
    fn until_end(&self, index: u64) -> usize {
        (self.ring.capacity - (index & self.mask)) as usize
    }

    /// The items in place.
    #[inline]
    fn at(&self, index: u64) -> *mut T
    where
        M: Trust,
    {
        let start = self.ring.cells.at(0);
        start.wrapping_add(self.place(index)).cast()
    }

    /// Copies items in, which do not reach beyond the end.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of `n` items, which are at most `until_end`.
    #[inline(always)]
    unsafe fn write(&self, index: u64, from: *const T, n: usize) {
        let (place, len) = (self.place(index), n * size_of::<T>());
        // SAFETY: The caller's promise; all places are within the capacity of the cells.
        unsafe { self.ring.cells.write(0, place, from.cast(), len) };
    }

    /// Copies items out, which do not reach beyond the end.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `n` items, which are at most `until_end`.
    #[inline(always)]
    unsafe fn read(&self, index: u64, to: *mut T, n: usize) {
        let (place, len) = (self.place(index), n * size_of::<T>());
        // SAFETY: The caller's promise; all places are within the capacity of the cells.
        unsafe { self.ring.cells.read(0, place, to.cast(), len) };
    }

    /// Copies items in, in two parts if they reach beyond the end.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of `n` items, which are at most the capacity.
    #[inline(always)]
    unsafe fn write_around(&self, index: u64, from: *const T, n: usize) {
        let first = n.min(self.until_end(index));
        // SAFETY: `first` is at most `n`, and `until_end`.
        unsafe { self.write(index, from, first) };
        if first < n {
            let (index, from) = (index.wrapping_add(first as u64), from.wrapping_add(first));
            // SAFETY: The rest of them, at the beginning of the data.
            unsafe { self.write(index, from, n - first) };
        }
    }

    /// Copies items out, in two parts if they reach beyond the end.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `n` items, which are at most the capacity.
    #[inline(always)]
    unsafe fn read_around(&self, index: u64, to: *mut T, n: usize) {
        let first = n.min(self.until_end(index));
        // SAFETY: `first` is at most `n`, and `until_end`.
        unsafe { self.read(index, to, first) };
        if first < n {
            let (index, to) = (index.wrapping_add(first as u64), to.wrapping_add(first));
            // SAFETY: The rest of them, at the beginning of the data.
            unsafe { self.read(index, to, n - first) };
        }
    }
}

/// Room for items that lie side by side. Dropping it gives it up.
///
/// # Invariants
///
/// There is room for `len` items, which are at most `until_end`.
#[derive(Debug)]
#[must_use]
pub struct Claim<'p, T: Plain, M: Memory> {
    producer: &'p mut Producer<T, M>,
    len: usize,
}

#[allow(
    clippy::len_without_is_empty,
    reason = "empty only if it was asked for"
)]
impl<T: Plain, M: Memory> Claim<'_, T, M> {
    /// How many items there is room for.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies items in, from `index` of the claim on.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: they would reach beyond its end.
    #[inline]
    pub fn write(&mut self, index: usize, items: &[T]) -> Result<(), Error> {
        match index.checked_add(items.len()) {
            Some(end) if end <= self.len => {}
            _ => return Err(Error::TooLong { max: self.len }),
        }
        let Producer {
            items: ring, tail, ..
        } = &*self.producer;
        let index = tail.wrapping_add(index as u64);
        // (P2)
        // SAFETY: `items` are borrowed, and within the claim, which does not reach beyond the end.
        unsafe { ring.write(index, items.as_ptr(), items.len()) };
        Ok(())
    }

    /// The items in place, to be filled. They have old values.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T]
    where
        M: Trust,
    {
        let start = self.producer.items.at(self.producer.tail);
        // SAFETY: The claim's items are within the mapping; they are aligned, since the data begins
        // at a multiple of 64, which `open` compared; any bytes are items (`Plain`); and they are
        // nobody's but ours until (P3), which takes the claim (`Trusted`'s contract).
        unsafe { core::slice::from_raw_parts_mut(start, self.len) }
    }

    /// Publishes the first `n` items, and gives up the rest.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: there are not so many. None is published.
    #[inline]
    pub fn commit(self, n: usize) -> Result<(), Error> {
        if n > self.len {
            return Err(Error::TooLong { max: self.len });
        }
        self.producer.publish(n);
        Ok(())
    }

    /// Gives the room up, as dropping does.
    #[inline]
    pub fn abort(self) {}
}

/// Items that lie side by side, read in place. Dropping it leaves them in the ring.
///
/// # Invariants
///
/// `len` items are published, which are at most `until_end`.
#[derive(Debug)]
#[must_use]
pub struct Peek<'c, T: Plain, M: Memory> {
    consumer: &'c mut Consumer<T, M>,
    len: usize,
}

#[allow(
    clippy::len_without_is_empty,
    reason = "empty only if it was asked for"
)]
impl<T: Plain, M: Memory> Peek<'_, T, M> {
    /// How many items there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies items out, from `index` of the peek on.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLen`]: they would reach beyond its end.
    #[inline]
    pub fn read(&self, index: usize, to: &mut [T]) -> Result<(), Error> {
        match index.checked_add(to.len()) {
            Some(end) if end <= self.len => {}
            _ => return Err(Error::BufferLen { message: self.len }),
        }
        let Consumer { items, head, .. } = &*self.consumer;
        let index = head.wrapping_add(index as u64);
        // (C2)
        // SAFETY: `to` is borrowed; the items are within the peek, which does not reach beyond the end.
        unsafe { items.read(index, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    /// The items in place.
    #[inline]
    pub fn as_slice(&self) -> &[T]
    where
        M: Trust,
    {
        let start = self.consumer.items.at(self.consumer.head);
        // SAFETY: The items are within the mapping; they are aligned, since the data begins at a
        // multiple of 64, which `open` compared; any bytes are items (`Plain`); and nobody writes
        // them until (C3), which takes the peek (`Trusted`'s contract).
        unsafe { core::slice::from_raw_parts(start, self.len) }
    }

    /// Takes the first `n` items out of the ring, and leaves the rest.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLen`]: there are not so many. None is taken.
    #[inline]
    pub fn release(self, n: usize) -> Result<(), Error> {
        if n > self.len {
            return Err(Error::BufferLen { message: self.len });
        }
        self.consumer.release(n);
        Ok(())
    }
}

impl<T: Plain, M: Memory> End for Producer<T, M> {
    const IS_CONSUMER: bool = false;

    fn is_ready(&mut self, need: usize) -> Result<bool, Error> {
        if need > self.capacity() {
            return Err(Error::TooLong {
                max: self.capacity(),
            });
        }
        self.refresh()?;
        if self.room() >= need {
            return Ok(true);
        }
        match self.items.ring.header().consumers.is_closed(1) {
            true => Err(Error::Closed),
            false => Ok(false),
        }
    }

    fn waiter(&mut self) -> &mut Waiter {
        &mut self.items.ring.waiter
    }

    fn here(&self) -> &Side {
        &self.items.ring.header().producers
    }

    fn there(&self) -> (&Side, usize) {
        (&self.items.ring.header().consumers, 1)
    }
}

impl<T: Plain, M: Memory> End for Consumer<T, M> {
    const IS_CONSUMER: bool = true;

    fn is_ready(&mut self, _: usize) -> Result<bool, Error> {
        match self.refill() {
            Ok(()) => Ok(true),
            Err(Error::Empty) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn waiter(&mut self) -> &mut Waiter {
        &mut self.items.ring.waiter
    }

    fn here(&self) -> &Side {
        &self.items.ring.header().consumers
    }

    fn there(&self) -> (&Side, usize) {
        (&self.items.ring.header().producers, 1)
    }
}

impl<T: Plain, M: Memory> Drop for Producer<T, M> {
    fn drop(&mut self) {
        if !self.slot.is_ours() {
            return;
        }
        self.items.ring.add_counted(|header| &header.tail);
        let header = self.items.ring.header();
        self.items
            .ring
            .leave(&header.producers, self.slot, &header.consumers);
    }
}

impl<T: Plain, M: Memory> Drop for Consumer<T, M> {
    fn drop(&mut self) {
        if !self.slot.is_ours() {
            return;
        }
        let header = self.items.ring.header();
        self.items
            .ring
            .leave(&header.consumers, self.slot, &header.producers);
    }
}
