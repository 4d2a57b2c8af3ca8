//! One producer, any number of consumers: each gets every message, or learns how many it missed.
//!
//! # What it promises
//!
//! - The producer never waits and never finds the ring full: no consumer can slow it.
//! - A consumer gets whole messages, each once and in order. One that is overtaken is told exactly how
//!   many messages it missed ([`Error::Missed`]), and goes on with one of the newest. No torn message
//!   is ever returned.
//! - Nothing is missed by a consumer whose unread messages, with the one that is being pushed, take at
//!   most ⅞ of the capacity, less 8 bytes. Of a large ring that is all but 64 KiB.
//! - A push makes no system call, unless somebody sleeps and is to be woken: then all are.
//! - The producer may be killed at any instruction. What was committed stays, and another can go on.
//!   Consumers come and go without a trace.
//!
//! A new consumer begins with what is pushed from then on.
//!
//! # The life of a message
//!
//! | producer | consumer |
//! |---|---|
//! | (P1) moves the front, if the record does not fit before it | (C1) finds the header |
//! | (P2) copies the message in | (C2) checks the length and the number |
//! | (P3) clears the header behind the record | (C3) copies the message out |
//! | (P4) publishes the record by its header | (C4) looks where the front is: was it overtaken? |
//! | (P5) moves the mark, if it is far behind | |
//! | (P6) wakes sleeping consumers | |
//!
//! The front is ahead of all that the producer writes. What lies more than the capacity before it may
//! be overwritten already, so a copy is good if it begins less than that before the front as seen after the
//! copy: a seqlock whose writer never waits, and whose counter is a position. Each message has a
//! number, whose low bits are in its header. The mark is the place and the number of one of the newest
//! messages: where an overtaken consumer, a new one, or a new producer goes on. Front and mark move in
//! steps of ⅛ of the capacity, at most 64 KiB, so that their cache line stays with the consumers, and
//! a push touches no line but the message's own.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (P4) a record's header | (C1) the header | the record, all of its batch, the cleared header behind, and the fronts so far |
//! | (P1) the fence behind the front | (C4) the fence before the front | the front, to who has read a byte that was written behind it |
//! | (P5) the mark's number | (C5) the number | the marks before it, and what they speak of |
//! | (P5) the mark | (C5) the mark | its number, and what is there |
//!
//! Wake-ups are argued in [`Wait`]'s module; attaching and leaving where the sides are.
//!
//! ```
//! use linipc_core::ring::{self, Error, Kind, broadcast};
//!
//! let fd = ring::create_memfd(c"example", Kind::Broadcast, 1024)?;
//! let mut producer = broadcast::Producer::attach(ring::map(&fd)?)?;
//! let mut one = broadcast::Consumer::attach(ring::map(&fd)?)?;
//! let mut two = broadcast::Consumer::attach(ring::map(&fd)?)?;
//!
//! producer.try_push_value(&1_u64)?;
//! assert_eq!(one.try_pop_value(), Ok(1_u64));
//! for number in 2..=100_u64 {
//!     producer.try_push_value(&number)?;
//! }
//! // There was room for fewer.
//! let mut missed = 0;
//! let mut got = 0;
//! loop {
//!     match two.try_pop_value::<u64>() {
//!         Ok(_) => got += 1,
//!         Err(Error::Missed { messages }) => missed += messages,
//!         Err(error) => break assert_eq!(error, Error::Empty),
//!     }
//! }
//! assert!(got > 0);
//! assert_eq!(got + missed, 100);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # Limits
//!
//! Messages are copied, and not lent: a slice that the producer overwrites while it is read would be
//! undefined. For the same reason there is none to fill, and a consumer's batch is copied out as well
//! ([`Consumer::try_pop_all`]).
//!
//! A consumer that finds the newest messages overwritten each time it looks for them, because the ring
//! is small and the producer fast, gets [`Error::Busy`], and may try again.

use core::mem::MaybeUninit;

use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::end::{Side, Slot};
use super::record::{HEADER, NUMBER, number_of, numbered, numbered_len, size};
use super::wait::{self, End, Waiter};
use super::{AttachError, Counters, Error, Kind, Memory, Peers, Ring, Wait};
use crate::fd::OwnedFd;
use crate::shared::variable::Plain;
use crate::sync::{Ordering, fence, spin};

/// How far ahead of the tail cache lines are asked for.
const AHEAD: u64 = 1024;
/// The longest step of the front and the mark.
const STEP: u64 = 64 << 10;
/// How often to look for the mark, or to read on from it, while it moves on.
const TRIES: u32 = 64;
/// The most messages of a batch: with those of a step, fewer than a header's bits can count, so that
/// the number of a mark can be told from that of the next.
const MAX_BATCH: u64 = 1 << 20;

/// How far the front and the mark move at a time.
const fn step(capacity: u64) -> u64 {
    if capacity / 8 < STEP {
        capacity / 8
    } else {
        STEP
    }
}

/// The side that writes. It leaves, and so closes, when it is dropped.
///
/// # Invariants
///
/// `tail` is a multiple of 8, and the header there is 0. What lies from there to `front` is at most the
/// capacity, and no consumer takes what was there before for a message.
#[derive(Debug)]
pub struct Producer<M: Memory> {
    ring: Ring<M>,
    /// Where the next record begins.
    tail: u64,
    /// The number of the next message, from 0 on.
    number: u64,
    /// What must not be passed: the front as the consumers see it.
    front: u64,
    /// The mark as the consumers see it.
    mark: u64,
    batch: Records,
    slot: Slot,
}

/// Records that are not published yet.
#[derive(Debug, Clone, Copy, Default)]
struct Records {
    /// Their length together.
    size: u64,
    messages: u64,
    /// Of the messages alone.
    bytes: u64,
    /// The header of the first one, which is written last.
    first: u64,
    /// Where the last one begins, from the first one.
    last: u64,
}

/// A side that reads. Any number of them may attach.
///
/// # Invariants
///
/// `at` is a multiple of 8.
#[derive(Debug)]
pub struct Consumer<M: Memory> {
    ring: Ring<M>,
    /// Where the next record begins.
    at: u64,
    /// The number of the next message.
    number: u64,
    /// The process that attached it.
    process: Pid,
}

impl<M: Memory> Producer<M> {
    /// Attaches to a ring of [`Kind::Broadcast`], in place of a dead producer if there is one.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`]: there is a producer, and it is alive.
    /// - [`AttachError::NotARing`], [`AttachError::Version`], [`AttachError::Kind`]: not this ring.
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory that it was made in.
    /// - [`AttachError::Corrupt`]: no peer that keeps to the rules wrote this.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let ring = Ring::open(memory, Kind::Broadcast, 0)?;
        let slot = ring.enter(|header| (&header.producers, &header.consumers), 1)?;
        let mut producer = Self {
            ring,
            tail: 0,
            number: 0,
            front: 0,
            mark: 0,
            batch: Records::default(),
            slot,
        };
        producer.recover()?;
        Ok(producer)
    }

    /// Finds the end of what the last producer committed.
    fn recover(&mut self) -> Result<(), AttachError> {
        let tail = &self.ring.header().tail;
        // Relaxed, all here: (E3) orders the producers.
        self.mark = tail.position.load(Ordering::Relaxed);
        self.number = tail.messages.load(Ordering::Relaxed);
        self.front = tail.second.load(Ordering::Relaxed);
        self.tail = self.mark;
        let ahead = self.front.wrapping_sub(self.mark);
        if ahead > self.ring.capacity || self.mark % HEADER != 0 {
            return Err(AttachError::Corrupt);
        }
        let mut word = self.ring.cells.word(self.mark).load(Ordering::Relaxed);
        if word != 0 {
            // It may have died in (P5): then the number is that of a message after the mark.
            let after = self.number.wrapping_sub(number_of(word)) & NUMBER;
            self.number = self.number.wrapping_sub(after);
            self.set_mark(self.mark, self.number);
        }
        let mut used = 0;
        while word != 0 {
            let len = numbered_len(word, self.ring.max(), self.number);
            used += size(len.ok_or(AttachError::Corrupt)?);
            if used + HEADER > ahead {
                return Err(AttachError::Corrupt);
            }
            // INVARIANT: The loop ends where the header is 0, before the front.
            self.tail = self.mark.wrapping_add(used);
            self.number = self.number.wrapping_add(1);
            word = self.ring.cells.word(self.tail).load(Ordering::Relaxed);
        }
        Ok(())
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

    /// What has been pushed since the ring was made.
    pub fn counters(&mut self) -> Counters {
        Counters {
            messages: self.number,
            ..self.ring.counters(|header| &header.tail)
        }
    }

    /// Copies a message in.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: it is longer than half of the capacity.
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut claim = self.try_claim(message.len())?;
        // SAFETY: `message` is borrowed, and so much was claimed.
        unsafe { claim.fill(message.as_ptr()) };
        claim.commit();
        Ok(())
    }

    /// Copies a plain value in as a message.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_push_value<T: Plain>(&mut self, value: &T) -> Result<(), Error> {
        let mut claim = self.try_claim(size_of::<T>())?;
        // SAFETY: `value` is borrowed, has no padding (`Plain`), and so much was claimed.
        unsafe { claim.fill((&raw const *value).cast()) };
        claim.commit();
        Ok(())
    }

    /// What to write to when consumers have armed. All of them wait for the same eventfd.
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
        Ok(Claim {
            at: self.tail,
            producer: self,
            len: len as u64,
            is_batched: false,
        })
    }

    /// Begins a batch: messages that are published together.
    #[inline]
    pub fn batch(&mut self) -> Batch<'_, M> {
        self.batch = Records::default();
        Batch { producer: self }
    }

    /// Makes sure that a message, behind `used` bytes that a batch has, lies before the front.
    #[inline(always)]
    fn reserve(&mut self, used: u64, len: usize) -> Result<(), Error> {
        if len as u64 > self.ring.max() {
            return Err(Error::TooLong {
                max: self.max_message(),
            });
        }
        let needed = used + size(len as u64) + HEADER;
        if needed > self.front.wrapping_sub(self.tail) {
            return self.advance(needed);
        }
        Ok(())
    }

    /// (P1) Moves the front to `needed` bytes behind the tail, or further.
    #[cold]
    fn advance(&mut self, needed: u64) -> Result<(), Error> {
        let (capacity, step) = (self.ring.capacity, step(self.ring.capacity));
        // One message is never so long.
        if needed + step > capacity {
            return Err(Error::Full);
        }
        let front = self.tail.wrapping_add(needed + step - 1) & !(step - 1);
        if front.wrapping_sub(self.mark) > capacity {
            self.set_mark(self.tail, self.number);
        }
        // (P1) Relaxed: the fence publishes it with whatever is written behind it.
        self.ring
            .header()
            .tail
            .second
            .store(front, Ordering::Relaxed);
        fence(Ordering::Release);
        // INVARIANT: It is less than `needed` and the step from the tail.
        self.front = front;
        Ok(())
    }

    /// (P5) A message begins there, or will, and has this number.
    fn set_mark(&mut self, at: u64, number: u64) {
        let tail = &self.ring.header().tail;
        // (P5) Who sees this number sees that the mark before it is that of another message.
        tail.messages.store(number, Ordering::Release);
        // (P5) Who sees this place sees its number.
        tail.position.store(at, Ordering::Release);
        self.mark = at;
    }

    /// (P3) to (P6)
    #[inline(always)]
    fn publish(&mut self, records: Records) {
        let cells = &self.ring.cells;
        let newest = self.tail.wrapping_add(records.last);
        let end = self.tail.wrapping_add(records.size);
        // (P3) Relaxed: (P4) publishes it.
        cells.word(end).store(0, Ordering::Relaxed);
        // (P4) The records, and the header behind them, are visible to (C1).
        cells
            .word(self.tail)
            .store(records.first, Ordering::Release);
        cells.prefetch_write(end.wrapping_add(AHEAD));
        // INVARIANT: (P3) cleared the header at the new tail, which is before the front (P1).
        self.tail = end;
        self.number = self.number.wrapping_add(records.messages);
        self.ring.counted.bytes += records.bytes;
        if newest.wrapping_sub(self.mark) >= step(self.ring.capacity) {
            self.set_mark(newest, self.number.wrapping_sub(1));
        }
        // (P6)
        self.ring.waiter.ring(&self.ring.header().consumers);
    }
}

impl<M: Memory> Consumer<M> {
    /// Attaches to a ring of [`Kind::Broadcast`], behind the newest message.
    ///
    /// # Errors
    ///
    /// - [`AttachError::NotARing`], [`AttachError::Version`], [`AttachError::Kind`]: not this ring.
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory that it was made in.
    /// - [`AttachError::Corrupt`]: no peer that keeps to the rules wrote this.
    /// - [`AttachError::System`]: `AGAIN`, the newest messages were overwritten each time we looked.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let ring = Ring::open(memory, Kind::Broadcast, 0)?;
        // No slot: nobody need know of it.
        let mut consumer = Self {
            ring,
            at: 0,
            number: 0,
            process: getpid(),
        };
        for _ in 0..TRIES {
            if consumer.begin()? {
                return Ok(consumer);
            }
        }
        Err(AttachError::System(Errno::AGAIN))
    }

    /// Goes to the end, or at least behind all that was there when it was called. Whether what it
    /// went along was not overwritten meanwhile.
    fn begin(&mut self) -> Result<bool, AttachError> {
        let (mark, number) = self.find_mark().map_err(|error| match error {
            Error::Busy => AttachError::System(Errno::AGAIN),
            _ => AttachError::Corrupt,
        })?;
        (self.at, self.number) = (mark, number);
        // So many can be behind the mark's message before there is another mark.
        for _ in 0..step(self.ring.capacity) / HEADER + 2 {
            // Relaxed: no message is read, and (C4) orders the headers.
            let word = self.ring.cells.word(self.at).load(Ordering::Relaxed);
            let Some(len) = numbered_len(word, self.ring.max(), self.number) else {
                break;
            };
            self.at = self.at.wrapping_add(size(len));
            self.number = self.number.wrapping_add(1);
        }
        Ok(!self.is_overwritten(mark))
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

    /// What all consumers together have popped and missed since the ring was made.
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
    /// After an error, what `buf` has is no message.
    ///
    /// - [`Error::Empty`]: there is no message now.
    /// - [`Error::Closed`]: there is none, and the producer has left.
    /// - [`Error::Missed`]: so many were overwritten before they were read. The next call goes on with
    ///   one of the newest.
    /// - [`Error::Busy`]: they were overwritten, and so were the newest each time we looked.
    /// - [`Error::BufferLen`]: it is longer than `buf`. It stays, as long as it is not overwritten.
    /// - [`Error::Corrupt`]: there is something that is no message.
    #[inline]
    pub fn try_pop(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let len = self.observe()?;
        if len as usize > buf.len() {
            self.verify()?;
            return Err(Error::BufferLen {
                message: len as usize,
            });
        }
        self.copy_to(len, buf.as_mut_ptr());
        self.verify()?;
        self.advance(len);
        Ok(len as usize)
    }

    /// Copies the next messages out, one behind the other: as many as there are and `buf` and `lens` hold,
    /// whose lengths are written to `lens`; gives how many, at least 1 if `lens` holds any. The front is
    /// looked at once for all of them.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`], of the first message. If it was overwritten meanwhile, none is
    /// taken, and all of them are among the [`Error::Missed`] that the mark is past.
    pub fn try_pop_all(&mut self, buf: &mut [u8], lens: &mut [usize]) -> Result<usize, Error> {
        let (mut end, mut number) = (self.at, self.number);
        let mut used = 0;
        for to in &mut *lens {
            // (C1) What the header speaks of is visible now. It is read once.
            let word = self.ring.cells.word(end).load(Ordering::Acquire);
            // (C2)
            let len = numbered_len(word, self.ring.max(), number);
            let Some(room) = len.and_then(|len| buf.get_mut(used..)?.get_mut(..len as usize))
            else {
                break;
            };
            *to = room.len();
            // (C3)
            // SAFETY: `room` is borrowed; the message is no longer than half of the capacity (C2).
            unsafe {
                self.ring
                    .cells
                    .read(end, HEADER as usize, room.as_mut_ptr(), room.len())
            };
            end = end.wrapping_add(size(room.len() as u64));
            number = number.wrapping_add(1);
            used += room.len();
        }
        if number == self.number {
            let Some(to) = lens.first_mut() else {
                return Ok(0);
            };
            *to = self.try_pop(buf)?;
            return Ok(1);
        }
        // (C4) What is not overwritten at the first one is not overwritten behind it.
        self.verify()?;
        let messages = number.wrapping_sub(self.number);
        (self.at, self.number) = (end, number);
        self.ring.counted.messages += messages;
        self.ring.counted.bytes += used as u64;
        Ok(messages as usize)
    }

    /// Copies the next message out, and waits for it as `wait` says; gives its length.
    ///
    /// # Errors
    ///
    /// - [`Error::Missed`], [`Error::Busy`], [`Error::BufferLen`], [`Error::Corrupt`],
    ///   [`Error::Closed`]: as of [`Consumer::try_pop`].
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
        let len = self.observe()?;
        if len as usize != size_of::<T>() {
            self.verify()?;
            return Err(Error::BufferLen {
                message: len as usize,
            });
        }
        let mut value = MaybeUninit::<T>::uninit();
        self.copy_to(len, value.as_mut_ptr().cast());
        self.verify()?;
        self.advance(len);
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

    /// Waits until there is a message, or it was overwritten.
    ///
    /// # Errors
    ///
    /// [`Error::TimedOut`], [`Error::Closed`], [`Error::PeerDead`] and [`Error::System`], as of
    /// [`Consumer::pop`].
    pub fn wait(&mut self, wait: Wait) -> Result<(), Error> {
        self.ring.add_counted(|header| &header.head);
        wait::wait(self, 0, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no message yet, so that the producer will
    /// write to its event ([`Producer::set_event`]) when there is. All consumers share the event: it is
    /// written once, and who reads it takes it from the others.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`]: there is no message, and the producer has left. [`Error::System`]: `NOSYS`,
    /// without membarrier(2).
    pub fn arm(&mut self) -> Result<bool, Error> {
        wait::arm(self, 0)
    }

    /// The next message, to be read in place. Dropping the peek leaves it for the next call.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_peek(&mut self) -> Result<Peek<'_, M>, Error> {
        let len = self.observe()?;
        // The length is that of a message, and not of what has overwritten it.
        self.verify()?;
        Ok(Peek {
            at: self.at,
            consumer: self,
            len,
        })
    }

    /// (C1), (C2): the length of the next message, if it is not overwritten ([`Consumer::verify`]).
    #[inline(always)]
    fn observe(&mut self) -> Result<u64, Error> {
        // (C1) What the header speaks of is visible now. It is read once.
        let word = self.ring.cells.word(self.at).load(Ordering::Acquire);
        // (C2)
        match numbered_len(word, self.ring.max(), self.number) {
            Some(len) => Ok(len),
            None => Err(self.why_not(word)),
        }
    }

    #[cold]
    fn why_not(&mut self, word: u64) -> Error {
        match self.verify() {
            Err(error) => error,
            Ok(()) if word != 0 => Error::Corrupt,
            Ok(()) => self.why_empty(),
        }
    }

    fn why_empty(&self) -> Error {
        if !self.ring.header().producers.is_closed(1) {
            return Error::Empty;
        }
        // Once more, since (E1) comes after all that was published. Relaxed: (E2) orders it, and (C1)
        // follows before a message is read.
        let word = self.ring.cells.word(self.at).load(Ordering::Relaxed);
        match word == 0 && !self.is_overwritten(self.at) {
            true => Error::Closed,
            false => Error::Empty,
        }
    }

    /// (C3) Copies all of the next message out.
    #[inline(always)]
    fn copy_to(&self, len: u64, to: *mut u8) {
        // SAFETY: The callers compared the length with what they copy to; (C2).
        unsafe {
            self.ring
                .cells
                .read(self.at, HEADER as usize, to, len as usize)
        };
    }

    /// (C4) Whether what was read so far of the next message was one, and not overwritten.
    #[inline(always)]
    fn verify(&mut self) -> Result<(), Error> {
        match self.is_overwritten(self.at) {
            true => Err(self.catch_up()),
            false => Ok(()),
        }
    }

    /// (C4) Whether what was read from a position on may have been overwritten.
    #[inline(always)]
    fn is_overwritten(&self, at: u64) -> bool {
        // (C4) If a byte that was read so far was written behind a front, that front is seen.
        fence(Ordering::Acquire);
        let front = self.ring.header().tail.second.load(Ordering::Relaxed);
        front.wrapping_sub(at) > self.ring.capacity
    }

    /// Goes behind a message.
    #[inline(always)]
    fn advance(&mut self, len: u64) {
        self.at = self.at.wrapping_add(size(len));
        self.number = self.number.wrapping_add(1);
        self.ring.counted.messages += 1;
        self.ring.counted.bytes += len;
    }

    /// Goes on at the mark, after the next message was overwritten.
    #[cold]
    fn catch_up(&mut self) -> Error {
        let (at, number) = match self.find_mark() {
            Ok(mark) => mark,
            Err(error) => return error,
        };
        let messages = number.wrapping_sub(self.number);
        // The mark is never behind what was overwritten.
        if messages > u64::MAX / 2 {
            return Error::Corrupt;
        }
        (self.at, self.number) = (at, number);
        self.ring.counted.lost = self.ring.counted.lost.wrapping_add(messages);
        Error::Missed { messages }
    }

    /// (C5) Where the mark is, and the number of the message that begins there.
    fn find_mark(&self) -> Result<(u64, u64), Error> {
        let tail = &self.ring.header().tail;
        for _ in 0..TRIES {
            // (C5) Each is read once.
            let at = tail.position.load(Ordering::Acquire);
            let number = tail.messages.load(Ordering::Acquire);
            if at % HEADER != 0 {
                return Err(Error::Corrupt);
            }
            // Relaxed: the number orders it. If it is not this mark's, it is the next one's: then the
            // message here is published, and has another number.
            let is_still = tail.position.load(Ordering::Relaxed) == at;
            // Relaxed: (C4) orders it, and (C1) follows before the message is read.
            let word = self.ring.cells.word(at).load(Ordering::Relaxed);
            let is_its = word == 0 || numbered_len(word, self.ring.max(), number).is_some();
            if is_still && is_its && !self.is_overwritten(at) {
                return Ok((at, number));
            }
            spin();
        }
        Err(Error::Busy)
    }
}

/// Room for a message. Dropping it gives it up.
///
/// # Invariants
///
/// The record lies between the tail and the front.
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
        // (P2)
        // SAFETY: `bytes` is borrowed; the message is no longer than half of the capacity
        // (`reserve`), and the bytes are within it.
        unsafe { cells.write(self.at, offset, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// (P2) Copies all of the message in.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of so many bytes.
    #[inline(always)]
    unsafe fn fill(&mut self, from: *const u8) {
        let cells = &self.producer.ring.cells;
        // SAFETY: The caller's promise; the length is no more than half of the capacity (`reserve`).
        unsafe { cells.write(self.at, HEADER as usize, from, self.len as usize) };
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
        if !is_batched {
            producer.publish(Records {
                size: size(len),
                messages: 1,
                bytes: len,
                first: numbered(len, producer.number),
                last: 0,
            });
            return;
        }
        let batch = &mut producer.batch;
        let header = numbered(len, producer.number.wrapping_add(batch.messages));
        if batch.messages == 0 {
            batch.first = header;
        } else {
            // Relaxed: (P4) of the first record publishes it.
            let word = producer.ring.cells.word(at);
            word.store(header, Ordering::Relaxed);
        }
        batch.last = batch.size;
        batch.size += size(len);
        batch.messages += 1;
        batch.bytes += len;
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
    /// Copies one more message in, if the batch may have it.
    ///
    /// # Errors
    ///
    /// - [`Error::Full`]: the batch would not fit the ring, or have more than a million messages.
    ///   Commit it, and begin another.
    /// - [`Error::TooLong`]: as of [`Producer::try_push`].
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut claim = self.try_claim(message.len())?;
        // SAFETY: `message` is borrowed, and so much was claimed.
        unsafe { claim.fill(message.as_ptr()) };
        claim.commit();
        Ok(())
    }

    /// Copies one more plain value in as a message, if the batch may have it.
    ///
    /// # Errors
    ///
    /// Those of [`Batch::try_push`].
    #[inline]
    pub fn try_push_value<T: Plain>(&mut self, value: &T) -> Result<(), Error> {
        let mut claim = self.try_claim(size_of::<T>())?;
        // SAFETY: `value` is borrowed, has no padding (`Plain`), and so much was claimed.
        unsafe { claim.fill((&raw const *value).cast()) };
        claim.commit();
        Ok(())
    }

    /// Room for one more message, to fill in place; committed with the batch.
    ///
    /// # Errors
    ///
    /// Those of [`Batch::try_push`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_, M>, Error> {
        let Records { size, messages, .. } = self.producer.batch;
        if messages >= MAX_BATCH {
            return Err(Error::Full);
        }
        self.producer.reserve(size, len)?;
        Ok(Claim {
            at: self.producer.tail.wrapping_add(size),
            producer: self.producer,
            len: len as u64,
            is_batched: true,
        })
    }

    /// Publishes all of them at once.
    #[inline]
    pub fn commit(self) {
        let records = self.producer.batch;
        if records.messages > 0 {
            self.producer.publish(records);
        }
    }

    /// Gives all of them up, as dropping does.
    #[inline]
    pub fn abort(self) {}
}

/// The next message, read in place. Dropping it leaves it for the next call.
#[derive(Debug)]
#[must_use]
pub struct Peek<'c, M: Memory> {
    consumer: &'c mut Consumer<M>,
    at: u64,
    len: u64,
}

#[allow(clippy::len_without_is_empty, reason = "an empty message is a message")]
impl<M: Memory> Peek<'_, M> {
    /// The length of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Copies bytes out of the message.
    ///
    /// # Errors
    ///
    /// - [`Error::BufferLen`]: they would reach beyond its end.
    /// - [`Error::Missed`], [`Error::Busy`]: it was overwritten, and what `to` has is not of the
    ///   message. This is said once for all that were missed, and again with 0 of them.
    #[inline]
    pub fn read(&mut self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        match offset.checked_add(to.len()) {
            Some(end) if end <= self.len() => {}
            _ => {
                return Err(Error::BufferLen {
                    message: self.len(),
                });
            }
        }
        if self.is_gone() {
            return Err(Error::Missed { messages: 0 });
        }
        let offset = HEADER as usize + offset;
        let cells = &self.consumer.ring.cells;
        // (C3)
        // SAFETY: `to` is borrowed; the message is no longer than half of the capacity (C2), and
        // the bytes are within it.
        unsafe { cells.read(self.at, offset, to.as_mut_ptr(), to.len()) };
        self.consumer.verify()
    }

    /// Whether the consumer has gone on elsewhere.
    fn is_gone(&self) -> bool {
        self.consumer.at != self.at
    }

    /// Goes behind the message.
    #[inline]
    pub fn release(self) {
        if !self.is_gone() {
            self.consumer.advance(self.len);
        }
    }
}

impl<M: Memory> End for Consumer<M> {
    const IS_CONSUMER: bool = true;

    fn is_ready(&mut self, _: usize) -> Result<bool, Error> {
        // Relaxed: (C4) orders it, and (C1) follows before a message is read.
        let word = self.ring.cells.word(self.at).load(Ordering::Relaxed);
        if word != 0 || self.is_overwritten(self.at) {
            return Ok(true);
        }
        match self.why_empty() {
            Error::Empty => Ok(false),
            error => Err(error),
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
        // Not what a forked child has a copy of.
        if self.process == getpid() {
            self.ring.add_counted(|header| &header.head);
        }
    }
}
