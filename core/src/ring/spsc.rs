//! One producer, one consumer: messages of 0 bytes to half of the capacity.
//!
//! # What it promises
//!
//! - Messages arrive whole, once, and in order. None is lost, none overwritten.
//! - Neither side waits for the other one: each call ends after a bounded number of steps.
//! - A message is contiguous in memory, wherever it lies.
//! - A try makes no system call, unless the other side sleeps and is to be woken.
//! - Either side may be killed at any instruction. What was committed stays.
//!
//! A message whose consumer died between reading and releasing it is there again for the next
//! consumer.
//!
//! # The life of a message
//!
//! | producer | consumer |
//! |---|---|
//! | (P1) claims room behind the last record | (C1) finds the header |
//! | (P2) looks where the consumer is, if the room last seen is used up | (C2) checks the length |
//! | (P3) copies the message in | (C3) copies the message out |
//! | (P4) clears the header behind the record | (C4) releases the record |
//! | (P5) publishes the record by its header | (C5) wakes a sleeping producer |
//! | (P6) wakes a sleeping consumer | |
//!
//! The header is the publication. So the consumer learns from one cache line that there is a message, how
//! long it is, and for a short one what it says. (P4) comes before (P5), so no consumer ever takes old bytes
//! for a header. A batch writes the header of its first record last, and is published as a whole.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (P5) a record's header | (C1) the header | the record, all of its batch, and the cleared header behind |
//! | (C4) the head | (P2) the head | that the consumer has read what is before it |
//!
//! Wake-ups are argued in [`Wait`]'s module; attaching and leaving where the sides are.
//!
//! ```
//! use linipc_core::ring::{self, Kind, spsc};
//!
//! let fd = ring::create_memfd(c"example", Kind::Spsc, 4096)?;
//! let mut producer = spsc::Producer::attach(ring::map(&fd)?)?;
//! let mut consumer = spsc::Consumer::attach(ring::map(&fd)?)?;
//!
//! // In place.
//! let mut claim = producer.try_claim(5)?;
//! claim.write(0, b"hello")?;
//! claim.commit();
//! let message = consumer.try_peek()?;
//! let mut text = [0; 5];
//! message.read(0, &mut text)?;
//! message.release();
//!
//! // Several at once.
//! let mut batch = producer.batch();
//! batch.try_push(b"one")?;
//! batch.try_push(b"two")?;
//! batch.commit();
//! let mut batch = consumer.batch();
//! while let Ok(message) = batch.try_next() {
//!     assert_eq!(message.len(), 3);
//! }
//! batch.release();
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::mem::MaybeUninit;

use super::end::{Side, Slot};
use super::record::{HEADER, committed, committed_len, size};
use super::wait::{self, End, Waiter};
use super::{AttachError, Counters, Error, Kind, MIN_CAPACITY, Memory, Peers, Ring, Trust, Wait};
use crate::fd::OwnedFd;
use crate::shared::variable::Plain;
use crate::sync::Ordering;

/// The length of a message that fits every ring.
const MAX_OF_ALL: u64 = MIN_CAPACITY / 2;

/// How far ahead cache lines are asked for: of the tail to write them, of a batch to read them.
const AHEAD: u64 = 1024;

/// The side that writes. It leaves, and so closes, when it is dropped.
///
/// # Invariants
///
/// `tail` is a multiple of 8, and the header there is 0. What lies from there to `limit` is read by
/// nobody; it is at most the capacity.
#[derive(Debug)]
pub struct Producer<M: Memory> {
    ring: Ring<M>,
    /// Where the next record begins.
    tail: u64,
    /// What must not be passed: the consumer's position as last seen, and the capacity.
    limit: u64,
    batch: Pending,
    slot: Slot,
}

/// What is in a batch, and not published yet.
#[derive(Debug, Clone, Copy, Default)]
struct Pending {
    /// The length of all its records.
    size: u64,
    /// The header of the first one.
    first: u64,
    messages: u64,
    bytes: u64,
}

/// The side that reads. It leaves, and so closes, when it is dropped.
///
/// # Invariants
///
/// `head` is a multiple of 8.
#[derive(Debug)]
pub struct Consumer<M: Memory> {
    ring: Ring<M>,
    /// Where the next record begins.
    head: u64,
    slot: Slot,
}

impl<M: Memory> Producer<M> {
    /// Attaches to a ring of [`Kind::Spsc`], in place of a dead producer if there is one.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`]: there is a producer, and it is alive.
    /// - [`AttachError::NotARing`], [`AttachError::Version`], [`AttachError::Kind`]: not this ring.
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory that it was made in.
    /// - [`AttachError::Corrupt`]: no peer that keeps to the rules wrote this.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let ring = Ring::open(memory, Kind::Spsc, 0)?;
        let slot = ring.enter(|header| (&header.producers, &header.consumers), 1)?;
        let mut producer = Self {
            ring,
            tail: 0,
            limit: 0,
            batch: Pending::default(),
            slot,
        };
        producer.recover()?;
        Ok(producer)
    }

    /// Finds the end of what the last producer committed.
    fn recover(&mut self) -> Result<(), AttachError> {
        // (P2) From what is not read on, the records are there to be counted.
        let head = self.ring.header().head.position.load(Ordering::Acquire);
        if head % HEADER != 0 {
            return Err(AttachError::Corrupt);
        }
        let mut used = 0;
        while used < self.ring.capacity {
            let tail = head.wrapping_add(used);
            // Relaxed: (E3) orders the producers.
            let word = self.ring.cells.word(tail).load(Ordering::Relaxed);
            if word == 0 {
                // INVARIANT: The header at the tail is 0, and what is before the head was read.
                self.tail = tail;
                self.limit = head.wrapping_add(self.ring.capacity);
                return Ok(());
            }
            let len = committed_len(word, self.ring.max()).ok_or(AttachError::Corrupt)?;
            used += size(len);
        }
        Err(AttachError::Corrupt)
    }

    /// The length of the longest message.
    #[inline]
    pub fn max_message(&self) -> usize {
        self.ring.max() as usize
    }

    /// The bytes that the ring was made with.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.ring.capacity as usize
    }

    /// The bytes of room. A message takes its length, 8 bytes, and up to 7 more.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`]: the consumer's position is none.
    pub fn free(&mut self) -> Result<usize, Error> {
        self.refresh()?;
        // A header that is 0 follows the last record.
        Ok(self.room().saturating_sub(HEADER) as usize)
    }

    /// What has been pushed since the ring was made, and how often there was no room.
    pub fn counters(&mut self) -> Counters {
        self.ring.counters(|header| &header.tail)
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.ring.header().consumers.peers(1)
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

    /// Copies a message in, if there is room.
    ///
    /// # Errors
    ///
    /// - [`Error::Full`]: there is no room now.
    /// - [`Error::Closed`]: there is no room, and the consumer has left.
    /// - [`Error::TooLong`]: it is longer than half of the capacity.
    /// - [`Error::Corrupt`]: the consumer's position is none.
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), Error> {
        // SAFETY: `message` is borrowed.
        unsafe { self.push_from(message.as_ptr(), message.len()) }
    }

    /// Copies a message in, and waits for room as `wait` says.
    ///
    /// # Errors
    ///
    /// - [`Error::TooLong`], [`Error::Corrupt`]: as of [`Producer::try_push`].
    /// - [`Error::TimedOut`]: there was no room until the deadline of `wait`.
    /// - [`Error::Closed`], [`Error::PeerDead`]: there is no room, and nobody to make some.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn push(&mut self, message: &[u8], wait: Wait) -> Result<(), Error> {
        match self.try_push(message) {
            Err(Error::Full) => {}
            done => return done,
        }
        self.wait(message.len(), wait)?;
        self.try_push(message)
    }

    /// Copies a plain value in as a message, if there is room.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_push_value<T: Plain>(&mut self, value: &T) -> Result<(), Error> {
        // SAFETY: `value` is borrowed, and has no padding (`Plain`).
        unsafe { self.push_from((&raw const *value).cast(), size_of::<T>()) }
    }

    /// Copies a plain value in as a message, and waits for room as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::push`].
    #[inline]
    pub fn push_value<T: Plain>(&mut self, value: &T, wait: Wait) -> Result<(), Error> {
        match self.try_push_value(value) {
            Err(Error::Full) => {}
            done => return done,
        }
        self.wait(size_of::<T>(), wait)?;
        self.try_push_value(value)
    }

    /// (P1) to (P6), if the room last seen is enough.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of `len` bytes.
    #[inline(always)]
    unsafe fn push_from(&mut self, from: *const u8, len: usize) -> Result<(), Error> {
        if !self.may_hold(len) || size(len as u64) + HEADER > self.room() {
            // SAFETY: The caller's promise.
            return unsafe { self.push_after_a_look(from, len) };
        }
        // SAFETY: The caller's promise; the length was checked.
        unsafe { self.push_into_room(from, len) };
        Ok(())
    }

    /// The same, after (P2).
    ///
    /// # Safety
    ///
    /// As for [`Producer::push_from`].
    #[cold]
    unsafe fn push_after_a_look(&mut self, from: *const u8, len: usize) -> Result<(), Error> {
        self.reserve(0, len)?;
        // SAFETY: The caller's promise; `reserve` checked the length.
        unsafe { self.push_into_room(from, len) };
        Ok(())
    }

    /// (P3) to (P6).
    ///
    /// # Safety
    ///
    /// As for [`Producer::push_from`]; the ring may hold so much, and there is room.
    #[inline(always)]
    unsafe fn push_into_room(&mut self, from: *const u8, len: usize) {
        // (P3)
        // SAFETY: The caller's promise.
        unsafe { self.ring.cells.write(self.tail, HEADER as usize, from, len) };
        self.count(1, len as u64);
        self.publish(size(len as u64), committed(len as u64));
    }

    #[inline(always)]
    fn count(&mut self, messages: u64, bytes: u64) {
        self.ring.counted.messages += messages;
        self.ring.counted.bytes += bytes;
    }

    /// Whether a message of this length fits this ring at all.
    #[inline(always)]
    fn may_hold(&self, len: usize) -> bool {
        len as u64 <= MAX_OF_ALL || len as u64 <= self.ring.max()
    }

    /// Waits until there is room for a message of `len` bytes.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::push`].
    pub fn wait(&mut self, len: usize, wait: Wait) -> Result<(), Error> {
        wait::wait(self, len, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no room yet for a message of `len` bytes, so
    /// that the consumer will write to its event ([`Consumer::set_event`]) when there is more. It
    /// may not be enough, so arm again.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`]; [`Error::System`]: `NOSYS`, without membarrier(2).
    pub fn arm(&mut self, len: usize) -> Result<bool, Error> {
        wait::arm(self, len)
    }

    /// What to write to when the consumer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.ring.waiter.set_event(event);
    }

    /// Room for a message of `len` bytes, to fill in place. Dropping the claim gives it up.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_, M>, Error> {
        self.reserve(0, len)?;
        let at = self.tail;
        Ok(Claim {
            producer: self,
            at,
            len: len as u64,
            is_batched: false,
        })
    }

    /// Begins a batch: messages that are published together.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, M> {
        self.batch = Pending::default();
        Batch { producer: self }
    }

    /// (P1) Makes sure of the room for a message, behind `used` bytes that a batch has.
    #[inline(always)]
    fn reserve(&mut self, used: u64, len: usize) -> Result<(), Error> {
        let needed = self.needed(used, len)?;
        if needed > self.room() {
            return self.make_room(needed);
        }
        Ok(())
    }

    /// What may be written from the tail on, as last seen.
    #[inline(always)]
    fn room(&self) -> u64 {
        self.limit.wrapping_sub(self.tail)
    }

    /// What a message takes behind `used` bytes, with the header that follows it.
    #[inline(always)]
    fn needed(&self, used: u64, len: usize) -> Result<u64, Error> {
        if !self.may_hold(len) {
            return Err(self.too_long());
        }
        Ok(used + size(len as u64) + HEADER)
    }

    #[cold]
    fn too_long(&self) -> Error {
        Error::TooLong {
            max: self.max_message(),
        }
    }

    #[cold]
    fn make_room(&mut self, needed: u64) -> Result<(), Error> {
        let made = self.look_for_room(needed);
        if let Err(Error::Full | Error::Closed) = made {
            self.ring.counted.refused += 1;
            self.ring.add_counted(|header| &header.tail);
        }
        made
    }

    /// (P2) Looks how far the consumer is.
    fn look_for_room(&mut self, needed: u64) -> Result<(), Error> {
        self.refresh()?;
        if needed <= self.room() {
            return Ok(());
        }
        let header = self.ring.header();
        match header.consumers.is_closed(1) {
            true => Err(Error::Closed),
            false => Err(Error::Full),
        }
    }

    fn refresh(&mut self) -> Result<(), Error> {
        // (P2) What is before it was read.
        let head = self.ring.header().head.position.load(Ordering::Acquire);
        let limit = head.wrapping_add(self.ring.capacity);
        let room = limit.wrapping_sub(self.tail);
        // No consumer goes back: a batch may have used the room last seen.
        if room > self.ring.capacity || room < self.room() || head % HEADER != 0 {
            return Err(Error::Corrupt);
        }
        // INVARIANT: What the consumer has read is nobody's.
        self.limit = limit;
        Ok(())
    }

    /// (P4) to (P6) for records of `size` bytes together, of which the first has the header `first`.
    #[inline(always)]
    fn publish(&mut self, size: u64, first: u64) {
        let Self { ring, tail, .. } = self;
        let end = tail.wrapping_add(size);
        // (P4) Relaxed: (P5) publishes it.
        ring.cells.word(end).store(0, Ordering::Relaxed);
        // (P5) The records, and the header behind them, are visible to (C1).
        ring.cells.word(*tail).store(first, Ordering::Release);
        // INVARIANT: (P4) cleared the header at the new tail, which is before the limit (P1).
        *tail = end;
        ring.cells.prefetch_write(end.wrapping_add(size.max(AHEAD)));
        // (P6)
        ring.waiter.ring(&ring.header().consumers);
    }
}

impl<M: Memory> Consumer<M> {
    /// Attaches to a ring of [`Kind::Spsc`], in place of a dead consumer if there is one.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::attach`], with the sides exchanged.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let ring = Ring::open(memory, Kind::Spsc, 0)?;
        let slot = ring.enter(|header| (&header.consumers, &header.producers), 1)?;
        // Dropped, and so left, if what follows fails.
        let mut consumer = Self {
            ring,
            head: 0,
            slot,
        };
        // Relaxed: (E3) orders the consumers.
        let head = consumer.ring.header().head.position.load(Ordering::Relaxed);
        if head % HEADER != 0 {
            return Err(AttachError::Corrupt);
        }
        consumer.head = head;
        Ok(consumer)
    }

    /// The length of the longest message.
    #[inline]
    pub fn max_message(&self) -> usize {
        self.ring.max() as usize
    }

    /// The bytes that the ring was made with.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.ring.capacity as usize
    }

    /// What has been popped since the ring was made.
    pub fn counters(&mut self) -> Counters {
        self.ring.counters(|header| &header.head)
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.ring.header().producers.peers(1)
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

    /// Copies the next message out; gives its length.
    ///
    /// # Errors
    ///
    /// - [`Error::Empty`]: there is no message now.
    /// - [`Error::Closed`]: there is none, and the producer has left.
    /// - [`Error::BufferLen`]: it is longer than `buf`. It stays.
    /// - [`Error::Corrupt`]: there is something that is no message.
    #[inline]
    pub fn try_pop(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let message = self.try_peek()?;
        let len = message.len();
        if len > buf.len() {
            return Err(Error::BufferLen { message: len });
        }
        message.message().copy_to(buf.as_mut_ptr());
        message.release();
        Ok(len)
    }

    /// Copies the next message out, and waits for it as `wait` says; gives its length.
    ///
    /// # Errors
    ///
    /// - [`Error::BufferLen`], [`Error::Corrupt`], [`Error::Closed`]: as of [`Consumer::try_pop`].
    /// - [`Error::TimedOut`]: there was none until the deadline of `wait`.
    /// - [`Error::PeerDead`]: the producer has died, and all that it committed was read.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn pop(&mut self, buf: &mut [u8], wait: Wait) -> Result<usize, Error> {
        match self.try_pop(buf) {
            Err(Error::Empty) => {}
            done => return done,
        }
        self.wait(wait)?;
        self.try_pop(buf)
    }

    /// Copies the next message out as a plain value.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`]; [`Error::BufferLen`] if the message has not the value's size.
    #[inline]
    pub fn try_pop_value<T: Plain>(&mut self) -> Result<T, Error> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: `value` has the size of a `T`.
        unsafe { self.pop_exact(value.as_mut_ptr().cast(), size_of::<T>()) }?;
        // SAFETY: All of its bytes were written, and any bytes are a `T` (`Plain`).
        Ok(unsafe { value.assume_init() })
    }

    /// Copies the next message out as a plain value, and waits for it as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::pop`]; [`Error::BufferLen`] if the message has not the value's size.
    #[inline]
    pub fn pop_value<T: Plain>(&mut self, wait: Wait) -> Result<T, Error> {
        match self.try_pop_value() {
            Err(Error::Empty) => {}
            done => return done,
        }
        self.wait(wait)?;
        self.try_pop_value()
    }

    /// Copies the next message into a plain value. Of a large one this is faster than
    /// [`Consumer::try_pop_value`], whose result is moved.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop_value`].
    #[inline]
    pub fn try_pop_to<T: Plain>(&mut self, value: &mut T) -> Result<(), Error> {
        // SAFETY: `value` has the size of a `T`, and any bytes are one (`Plain`).
        unsafe { self.pop_exact((&raw mut *value).cast(), size_of::<T>()) }
    }

    /// Copies the next message out, if it has exactly this length.
    ///
    /// # Safety
    ///
    /// `to` is valid for writes of `len` bytes.
    #[inline(always)]
    unsafe fn pop_exact(&mut self, to: *mut u8, len: usize) -> Result<(), Error> {
        self.observe_exact(self.head, len)?;
        // (C3)
        // SAFETY: The caller's promise; (C2).
        unsafe { self.ring.cells.read(self.head, HEADER as usize, to, len) };
        self.release(self.head.wrapping_add(size(len as u64)), 1, len as u64);
        Ok(())
    }

    /// Waits until there is a message.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::pop`].
    pub fn wait(&mut self, wait: Wait) -> Result<(), Error> {
        self.ring.add_counted(|header| &header.head);
        wait::wait(self, 0, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no message yet, so that the producer will
    /// write to its event ([`Producer::set_event`]) when there is.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`]; [`Error::System`]: `NOSYS`, without membarrier(2).
    pub fn arm(&mut self) -> Result<bool, Error> {
        wait::arm(self, 0)
    }

    /// What to write to when the producer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.ring.waiter.set_event(event);
    }

    /// The next message, to read in place. It stays until it is released.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_peek(&mut self) -> Result<Peek<'_, M>, Error> {
        let (at, len) = (self.head, self.observe(self.head)?);
        Ok(Peek {
            consumer: self,
            at,
            len,
        })
    }

    /// Begins a batch: messages that are released together.
    #[inline]
    pub fn batch(&mut self) -> Messages<'_, M> {
        Messages {
            next: self.head,
            messages: 0,
            bytes: 0,
            consumer: self,
        }
    }

    /// (C1), (C2): the length of the message at a position.
    #[inline(always)]
    fn observe(&self, at: u64) -> Result<u64, Error> {
        // (C1) What the header speaks of is visible now. It is read once.
        let word = self.ring.cells.word(at).load(Ordering::Acquire);
        // (C2)
        match committed_len(word, self.ring.max()) {
            Some(len) => Ok(len),
            None => Err(self.why_not(word, at)),
        }
    }

    /// The same, of a message that shall have this length.
    #[inline(always)]
    fn observe_exact(&self, at: u64, len: usize) -> Result<(), Error> {
        // (C1)
        let word = self.ring.cells.word(at).load(Ordering::Acquire);
        // (C2) One comparison says all: a whole message of this length, which fits this ring.
        let fits = len as u64 <= MAX_OF_ALL || len as u64 <= self.ring.max();
        if word == committed(len as u64) && fits {
            return Ok(());
        }
        Err(self.why_not_exact(word, at))
    }

    #[cold]
    fn why_not_exact(&self, word: u64, at: u64) -> Error {
        match committed_len(word, self.ring.max()) {
            Some(len) => Error::BufferLen {
                message: len as usize,
            },
            None => self.why_not(word, at),
        }
    }

    #[cold]
    fn why_not(&self, word: u64, at: u64) -> Error {
        if word != 0 {
            return Error::Corrupt;
        }
        if !self.ring.header().producers.is_closed(1) {
            return Error::Empty;
        }
        // Once more, since (E1) comes after all that was published. Relaxed: (E2) orders it, and (C1)
        // follows before anything is read.
        match self.ring.cells.word(at).load(Ordering::Relaxed) {
            0 => Error::Closed,
            _ => Error::Empty,
        }
    }

    /// (C4), (C5) for all before a position.
    #[inline(always)]
    fn release(&mut self, end: u64, messages: u64, bytes: u64) {
        let Self { ring, head, .. } = self;
        *head = end;
        ring.counted.messages += messages;
        ring.counted.bytes += bytes;
        let header = ring.header();
        // (C4) What was read from the records is read: (P2) may let them be written.
        header.head.position.store(end, Ordering::Release);
        // (C5)
        ring.waiter.ring(&header.producers);
    }
}

/// Room for a message. Dropping it gives it up.
#[derive(Debug)]
#[must_use]
pub struct Claim<'p, M: Memory> {
    producer: &'p mut Producer<M>,
    at: u64,
    len: u64,
    is_batched: bool,
}

#[allow(clippy::len_without_is_empty, reason = "an empty message is a message")]
impl<M: Memory> Claim<'_, M> {
    /// The length of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Makes the message shorter.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: it would be longer.
    #[inline]
    pub fn truncate(&mut self, len: usize) -> Result<(), Error> {
        if len > self.len() {
            return Err(Error::TooLong { max: self.len() });
        }
        self.len = len as u64;
        Ok(())
    }

    /// Copies bytes into the message.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: they would reach beyond its end.
    #[inline]
    pub fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        match offset.checked_add(bytes.len()) {
            Some(end) if end <= self.len() => {}
            _ => return Err(Error::TooLong { max: self.len() }),
        }
        let offset = HEADER as usize + offset;
        let cells = &self.producer.ring.cells;
        // SAFETY: `bytes` is borrowed; the message is no longer than half of the capacity
        // (`reserve`), and the bytes are within it.
        unsafe { cells.write(self.at, offset, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// (P3) Copies all of the message in.
    #[inline(always)]
    fn fill(&mut self, from: *const u8) {
        let cells = &self.producer.ring.cells;
        // SAFETY: The callers claimed the length of what they fill it with, which is no more than half
        // of the capacity (`reserve`).
        unsafe { cells.write(self.at, HEADER as usize, from, self.len as usize) };
    }

    /// The message in place, to be filled. It holds old bytes.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [u8]
    where
        M: Trust,
    {
        let start = self
            .producer
            .ring
            .cells
            .at(self.at)
            .wrapping_add(HEADER as usize);
        // SAFETY: The claim's bytes are within the mapping, and nobody's but ours until (P5), which
        // takes the claim (`Trusted`'s contract).
        unsafe { core::slice::from_raw_parts_mut(start, self.len as usize) }
    }

    /// Publishes the message; one of a batch with its batch.
    #[inline]
    pub fn commit(self) {
        let Self {
            producer,
            at,
            len,
            is_batched,
        } = self;
        let (size, header) = (size(len), committed(len));
        if !is_batched {
            producer.count(1, len);
            producer.publish(size, header);
            return;
        }
        if producer.batch.size == 0 {
            producer.batch.first = header;
        } else {
            // Relaxed: (P5) of the first record publishes it.
            producer
                .ring
                .cells
                .word(at)
                .store(header, Ordering::Relaxed);
        }
        producer.batch.size += size;
        producer.batch.messages += 1;
        producer.batch.bytes += len;
        let ahead = at.wrapping_add(size.max(AHEAD));
        producer.ring.cells.prefetch_write(ahead);
    }

    /// Gives the room up, as dropping does.
    #[inline]
    pub fn abort(self) {}
}

/// Messages that are published together. Dropping it gives them up.
#[derive(Debug)]
#[must_use]
pub struct Batch<'p, M: Memory> {
    producer: &'p mut Producer<M>,
}

impl<M: Memory> Batch<'_, M> {
    /// Copies one more message in, if there is room.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`]. The batch stays as it was.
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut claim = self.try_claim(message.len())?;
        claim.fill(message.as_ptr());
        claim.commit();
        Ok(())
    }

    /// Copies one more plain value in as a message, if there is room.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`]. The batch stays as it was.
    #[inline]
    pub fn try_push_value<T: Plain>(&mut self, value: &T) -> Result<(), Error> {
        let mut claim = self.try_claim(size_of::<T>())?;
        claim.fill((&raw const *value).cast());
        claim.commit();
        Ok(())
    }

    /// Room for one more message, to fill in place; committed with the batch.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_, M>, Error> {
        let used = self.producer.batch.size;
        self.producer.reserve(used, len)?;
        let at = self.producer.tail.wrapping_add(used);
        Ok(Claim {
            producer: self.producer,
            at,
            len: len as u64,
            is_batched: true,
        })
    }

    /// Publishes all of them at once.
    #[inline]
    pub fn commit(self) {
        let Pending {
            size,
            first,
            messages,
            bytes,
        } = self.producer.batch;
        if size > 0 {
            self.producer.count(messages, bytes);
            self.producer.publish(size, first);
        }
    }

    /// Gives all of them up, as dropping does.
    #[inline]
    pub fn abort(self) {}
}

/// A message that is read in place.
#[derive(Debug)]
pub struct Message<'c, M: Memory> {
    pub(super) ring: &'c Ring<M>,
    pub(super) at: u64,
    pub(super) len: u64,
}

#[allow(clippy::len_without_is_empty, reason = "an empty message is a message")]
impl<'c, M: Memory> Message<'c, M> {
    /// The length of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Copies bytes out of the message.
    ///
    /// # Errors
    ///
    /// [`Error::BufferLen`]: they would reach beyond its end.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        match offset.checked_add(to.len()) {
            Some(end) if end <= self.len() => {}
            _ => {
                return Err(Error::BufferLen {
                    message: self.len(),
                });
            }
        }
        let offset = HEADER as usize + offset;
        // SAFETY: `to` is borrowed; the message is no longer than half of the capacity (C2), and
        // the bytes are within it.
        unsafe {
            self.ring
                .cells
                .read(self.at, offset, to.as_mut_ptr(), to.len())
        };
        Ok(())
    }

    /// The message in place.
    #[inline]
    pub fn as_slice(&self) -> &'c [u8]
    where
        M: Trust,
    {
        let start = self.ring.cells.at(self.at).wrapping_add(HEADER as usize);
        // SAFETY: The message's bytes are within the mapping, and written by nobody until (C4),
        // which needs the consumer that is borrowed here (`Trusted`'s contract).
        unsafe { core::slice::from_raw_parts(start, self.len as usize) }
    }

    /// (C3) Copies all of the message out, if it is as long as a value.
    #[inline(always)]
    pub(super) fn copy_exactly<T: Plain>(&self, to: &mut MaybeUninit<T>) -> Result<(), Error> {
        let len = size_of::<T>();
        if self.len != len as u64 {
            return Err(Error::BufferLen {
                message: self.len(),
            });
        }
        let (cells, to) = (&self.ring.cells, to.as_mut_ptr().cast());
        // SAFETY: `to` has the value's size, which is the message's length; (C2).
        unsafe { cells.read(self.at, HEADER as usize, to, len) };
        Ok(())
    }

    /// (C3) Copies all of the message out.
    #[inline(always)]
    pub(super) fn copy_to(&self, to: *mut u8) {
        // SAFETY: The callers checked the length of what they copy to; (C2).
        unsafe {
            self.ring
                .cells
                .read(self.at, HEADER as usize, to, self.len as usize)
        };
    }
}

/// The next message, read in place. Dropping it leaves it in the ring.
#[derive(Debug)]
#[must_use]
pub struct Peek<'c, M: Memory> {
    consumer: &'c mut Consumer<M>,
    at: u64,
    len: u64,
}

#[allow(clippy::len_without_is_empty, reason = "an empty message is a message")]
impl<M: Memory> Peek<'_, M> {
    #[inline(always)]
    fn message(&self) -> Message<'_, M> {
        Message {
            ring: &self.consumer.ring,
            at: self.at,
            len: self.len,
        }
    }

    /// The length of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// [`Message::read`]
    ///
    /// # Errors
    ///
    /// Its.
    #[inline]
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.message().read(offset, to)
    }

    /// [`Message::as_slice`]
    #[inline]
    pub fn as_slice(&self) -> &[u8]
    where
        M: Trust,
    {
        self.message().as_slice()
    }

    /// Takes the message out of the ring: its room may be used again.
    #[inline]
    pub fn release(self) {
        let end = self.at.wrapping_add(size(self.len));
        self.consumer.release(end, 1, self.len);
    }
}

/// Messages that are released together. Dropping it leaves them in the ring.
#[derive(Debug)]
#[must_use]
pub struct Messages<'c, M: Memory> {
    consumer: &'c mut Consumer<M>,
    next: u64,
    messages: u64,
    bytes: u64,
}

impl<M: Memory> Messages<'_, M> {
    /// The next message, to read in place.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_next(&mut self) -> Result<Message<'_, M>, Error> {
        let (at, len) = (self.next, self.consumer.observe(self.next)?);
        self.advance(len)?;
        let ring = &self.consumer.ring;
        Ok(Message { ring, at, len })
    }

    #[inline(always)]
    fn advance(&mut self, len: u64) -> Result<(), Error> {
        let next = self.next.wrapping_add(size(len));
        // Else a producer could let a batch go round and round.
        if next.wrapping_sub(self.consumer.head) > self.consumer.ring.capacity {
            return Err(Error::Corrupt);
        }
        self.next = next;
        self.messages += 1;
        self.bytes += len;
        let ahead = next.wrapping_add(AHEAD);
        self.consumer.ring.cells.prefetch_read(ahead);
        Ok(())
    }

    /// Takes all that were read out of the ring.
    #[inline]
    pub fn release(self) {
        if self.messages > 0 {
            self.consumer.release(self.next, self.messages, self.bytes);
        }
    }
}

impl<M: Memory> End for Producer<M> {
    const IS_CONSUMER: bool = false;

    fn is_ready(&mut self, need: usize) -> Result<bool, Error> {
        let needed = self.needed(0, need)?;
        match self.look_for_room(needed) {
            Ok(()) => Ok(true),
            Err(Error::Full) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn waiter(&mut self) -> &mut Waiter {
        &mut self.ring.waiter
    }

    fn here(&self) -> &Side {
        &self.ring.header().producers
    }

    fn there(&self) -> (&Side, usize) {
        (&self.ring.header().consumers, 1)
    }
}

impl<M: Memory> End for Consumer<M> {
    const IS_CONSUMER: bool = true;

    fn is_ready(&mut self, _: usize) -> Result<bool, Error> {
        match self.observe(self.head) {
            Ok(_) => Ok(true),
            Err(Error::Empty) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn waiter(&mut self) -> &mut Waiter {
        &mut self.ring.waiter
    }

    fn here(&self) -> &Side {
        &self.ring.header().consumers
    }

    fn there(&self) -> (&Side, usize) {
        (&self.ring.header().producers, 1)
    }
}

impl<M: Memory> Drop for Producer<M> {
    fn drop(&mut self) {
        if !self.slot.is_ours() {
            return;
        }
        self.ring.add_counted(|header| &header.tail);
        let header = self.ring.header();
        self.ring
            .leave(&header.producers, self.slot, &header.consumers);
    }
}

impl<M: Memory> Drop for Consumer<M> {
    fn drop(&mut self) {
        if !self.slot.is_ours() {
            return;
        }
        self.ring.add_counted(|header| &header.head);
        let header = self.ring.header();
        self.ring
            .leave(&header.consumers, self.slot, &header.producers);
    }
}
