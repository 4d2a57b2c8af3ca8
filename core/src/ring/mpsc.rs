//! Many producers, one consumer: messages of 0 bytes to half of the capacity.
//!
//! # What it promises
//!
//! - Messages arrive whole and once, those of one producer in order. None is overwritten.
//! - A message is contiguous in memory, wherever it lies.
//! - A try makes no system call, unless the other side sleeps and is to be woken, or the same claim or
//!   turn is in the way for long.
//! - Any process may be killed at any instruction. What was committed stays, what was claimed and not
//!   committed is skipped and counted as lost, and nobody else is held up for ever.
//!
//! A message whose consumer died between reading and releasing it is there again for the next
//! consumer.
//!
//! # What it does not
//!
//! - Producers claim one after the other: each has the turn for some nanoseconds, which include the copy
//!   of a message of at most 128 bytes, and of no longer one. One that is stopped or loses its CPU in its
//!   turn holds the others up; their tries fail with [`Error::Busy`].
//! - A producer that is alone has all turns, which makes it several times as fast. Once a second one has
//!   attached beside it, turns are exchanged, also after that one has left. To end it takes membarrier(2):
//!   who is refused that does not attach beside one who is alone.
//! - The consumer takes messages in the order of the claims. One that is not committed yet holds up those
//!   behind it. So does a [`Claim`] or [`Batch`] that was forgotten ([`core::mem::forget`]), until its
//!   producer is dropped.
//! - A dead producer of another PID namespace counts as alive, and what it holds is held for good.
//!
//! # The life of a message
//!
//! | producer | consumer |
//! |---|---|
//! | (P1) takes the turn | (C1) finds the header |
//! | (P2) looks where the consumer is, if the room last seen is used up | (C2) checks state and length |
//! | (P3) clears the header behind the record | (C3) copies the message out |
//! | (P4) claims the record by its header | (C4) releases the record |
//! | (P5) moves the tail behind it, and releases the turn | (C5) wakes sleeping producers |
//! | (P6) copies the message in | |
//! | (P7) publishes the record by its header | |
//! | (P8) wakes a sleeping consumer | |
//!
//! A message of at most 128 bytes that is copied in is published in the turn, without (P4): (P3), (P6),
//! (P7), (P5). Longer ones, and all that are filled in place, are claimed.
//!
//! A header is 0, then claimed, then committed or aborted. The consumer steps over what is aborted.
//! A batch claims one record, which it fills with several that are published with the first one's
//! header; what it leaves over becomes an aborted record.
//!
//! # A dead producer
//!
//! It has died in its turn: the next producer takes the turn over (`turn.rs`) and begins at the
//! tail, which is where it was before (P5), or behind a record that is claimed; if a message was published
//! there already, the next producer first moves the tail behind it, as everyone looks in its first turn.
//! Or it has died with a claim: the consumer aborts it once (C6) says that it is for good:
//!
//! 1. who is in the header is gone,
//! 2. then the tail is past the record, so that nobody claims it anew,
//! 3. then the header is still the same.
//!
//! None of the three changes any more once it holds. (C6) asks the kernel, so it is left out until the
//! same claim was found in the way several times, or a wait has taken some time.
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (P7) a record's header | (C1) the header | the record, all of its batch, and the cleared header behind |
//! | (P5) the tail | (C6) the tail | the cleared header behind a claim, and who claimed last |
//! | (C4) the head | (P2) the head | that the consumer has read what is before it |
//!
//! The turn's edges are in `turn.rs`. Wake-ups are argued in [`Wait`]'s module; attaching and
//! leaving where the sides are.
//!
//! ```
//! use linipc_core::ring::{self, Kind, mpsc};
//!
//! let fd = ring::create_memfd(c"example", Kind::Mpsc, 4096)?;
//! let mut one = mpsc::Producer::attach(ring::map(&fd)?)?;
//! let mut other = mpsc::Producer::attach(ring::map(&fd)?)?;
//! let mut consumer = mpsc::Consumer::attach(ring::map(&fd)?)?;
//!
//! one.try_push(b"copied")?;
//! // In place.
//! let mut claim = other.try_claim(8)?;
//! claim.write(0, b"in place")?;
//! claim.commit();
//! // Several at once.
//! assert_eq!(one.try_push_all(&[b"three", b"four"])?, 2);
//!
//! let message = consumer.try_peek()?;
//! let mut text = [0; 6];
//! message.read(0, &mut text)?;
//! assert_eq!(&text, b"copied");
//! message.release();
//! let mut batch = consumer.batch();
//! let mut lens = [0; 3];
//! for len in &mut lens {
//!     *len = batch.try_next()?.len();
//! }
//! batch.release();
//! assert_eq!(lens, [8, 5, 4]);
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::mem::{self, MaybeUninit};

use super::end::{Side, Slot};
use super::record::{HEADER, Holder, State, committed, committed_len, decode, encode, size};
use super::turn::Ticket;
use super::wait::{self, End, Waiter, until_done};
use super::{AttachError, Counters, Error, Kind, Memory, Peers, Ring, Trust, Wait, kind_of};
use crate::fd::OwnedFd;
use crate::shared::variable::Plain;
use crate::sync::{ENDS, Ordering, fence};

pub use super::spsc::Message;

/// A message of up to so many bytes is copied in the turn: that takes hardly longer than to claim it.
pub(super) const SHORT: u64 = 128;

/// How far ahead cache lines are asked for: of the tail to write them, of a batch to read them.
const AHEAD: u64 = 1024;

/// One of those who write. It leaves when it is dropped; when all have, the ring is closed.
#[derive(Debug)]
pub struct Producer<M: Memory> {
    ring: Ring<M>,
    /// How far the consumers were, as last seen.
    head: u64,
    /// [`SHORT`], or the longest message if that is shorter.
    short: u64,
    /// How many consumers there may be: with more than one, room is reclaimed by the producers.
    consumers: usize,
    batch: Block,
    ticket: Ticket,
    slot: Slot,
}

/// A claimed record that is filled with several.
#[derive(Debug, Default)]
struct Block {
    at: u64,
    size: u64,
    /// What is filled.
    used: u64,
    messages: u64,
    bytes: u64,
    /// The header of the first record.
    first: u64,
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
    patience: Patience,
    slot: Slot,
}

impl<M: Memory> Producer<M> {
    /// Attaches to a ring of [`Kind::Mpsc`] or [`Kind::Mpmc`], in place of a dead producer if there is
    /// no room beside it.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`]: there are [`MAX_ENDS`](super::MAX_ENDS) producers, all alive.
    /// - [`AttachError::NotARing`], [`AttachError::Version`], [`AttachError::Kind`]: not this ring.
    /// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the
    ///   memory that it was made in.
    /// - [`AttachError::Corrupt`]: no peer that keeps to the rules wrote this.
    /// - [`AttachError::System`]: `NOSYS`, there is one producer that needs membarrier(2), which the kernel
    ///   grants it and refuses us; `AGAIN`, others come and go all the time.
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let (kind, consumers) = match kind_of(&memory)? {
            kind if kind == Kind::Mpmc as u32 => (Kind::Mpmc, ENDS),
            _ => (Kind::Mpsc, 1),
        };
        let ring = Ring::open(memory, kind, 0)?;
        let (slot, ticket) = ring.enter_in_turns(
            |header| (&header.producers, &header.consumers),
            |header| &header.tail.turn,
        )?;
        let mut producer = Self {
            short: ring.max().min(SHORT),
            ring,
            head: 0,
            consumers,
            batch: Block::default(),
            ticket,
            slot,
        };
        // (P2)
        producer.head = producer.reclaim(0).map_err(|_| AttachError::Corrupt)?;
        Ok(producer)
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
    /// [`Error::Corrupt`]: the positions are none.
    pub fn free(&mut self) -> Result<usize, Error> {
        // A header that is 0 follows the last record.
        let room = self.room(self.ring.capacity)?;
        Ok(room.saturating_sub(HEADER) as usize)
    }

    /// What all producers have pushed since the ring was made, and how often there was no room.
    pub fn counters(&mut self) -> Counters {
        self.ring.counters(|header| &header.tail)
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.ring.header().consumers.peers(self.consumers)
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
    /// - [`Error::Closed`]: there is no room, and all consumers have left.
    /// - [`Error::Busy`]: another producer is in its turn, and does not get on.
    /// - [`Error::TooLong`]: it is longer than half of the capacity.
    /// - [`Error::Corrupt`]: the positions are none.
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
    /// - [`Error::TimedOut`]: there was no room, or no turn, until the deadline of `wait`.
    /// - [`Error::Closed`], [`Error::PeerDead`]: there is no room, and nobody to make some.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn push(&mut self, message: &[u8], wait: Wait) -> Result<(), Error> {
        until_done(self, message.len(), wait, |producer| {
            producer.try_push(message)
        })
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
        until_done(self, size_of::<T>(), wait, |producer| {
            producer.try_push_value(value)
        })
    }

    /// Copies messages in, the first ones for which there is room, and publishes them at once: the
    /// consumer sees all of them or none. Gives how many; at most as many as together have half of the
    /// capacity and 8 bytes, with 8 to 15 bytes for each beside its length.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`], for the first message.
    pub fn try_push_all(&mut self, messages: &[&[u8]]) -> Result<usize, Error> {
        let Some(first) = messages.first() else {
            return Ok(0);
        };
        let most = self.ring.max() + HEADER;
        let (mut count, mut needed) = fitting(messages, most);
        if count == 0 {
            return Err(self.too_long());
        }
        // Others may use the room before the claim: then the claim says so.
        let room = self.room(needed)?.saturating_sub(HEADER);
        if needed > room {
            (count, needed) = fitting(messages, room.max(size(first.len() as u64)));
        }
        let mut batch = self.claim_block(needed)?;
        for message in messages.iter().take(count) {
            batch.try_push(message)?;
        }
        batch.commit();
        Ok(count)
    }

    /// Waits until there is room for a message of `len` bytes. Another producer may be faster to use it.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::push`].
    pub fn wait(&mut self, len: usize, wait: Wait) -> Result<(), Error> {
        wait::wait(self, len, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no room yet for a message of `len` bytes, so
    /// that a consumer will write to its event ([`Consumer::set_event`]) when there is more. It
    /// may not be enough, so arm again. All producers that arm wait for the same event.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`]; [`Error::System`]: `NOSYS`, without membarrier(2).
    pub fn arm(&mut self, len: usize) -> Result<bool, Error> {
        wait::arm(self, len)
    }

    /// What to write to when a consumer has armed.
    pub fn set_event(&mut self, event: OwnedFd) {
        self.ring.waiter.set_event(event);
    }

    /// Room for a message of `len` bytes, to fill in place. Dropping the claim gives it up. The
    /// consumer sees no message behind it meanwhile.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`].
    #[inline]
    pub fn try_claim(&mut self, len: usize) -> Result<Claim<'_, M>, Error> {
        if len as u64 > self.ring.max() {
            return Err(self.too_long());
        }
        let size = size(len as u64);
        let at = self.claim(size)?;
        Ok(Claim {
            producer: self,
            at,
            len: len as u64,
            size,
            is_batched: false,
        })
    }

    /// Claims room for a batch: messages that are published together, and that take no more than
    /// `room` bytes. Each takes its length, 8 bytes, and up to 7 more. Dropping the batch gives it up.
    ///
    /// # Errors
    ///
    /// Those of [`Producer::try_push`]; the most room is half of the capacity and 8 bytes.
    pub fn try_batch(&mut self, room: usize) -> Result<Batch<'_, M>, Error> {
        if room as u64 > self.ring.max() + HEADER {
            let max = self.max_message() + HEADER as usize;
            return Err(Error::TooLong { max });
        }
        self.claim_block((room.max(1) as u64).next_multiple_of(HEADER))
    }

    fn claim_block(&mut self, size: u64) -> Result<Batch<'_, M>, Error> {
        let at = self.claim(size)?;
        self.batch = Block {
            at,
            size,
            ..Block::default()
        };
        Ok(Batch { producer: self })
    }

    #[cold]
    fn too_long(&self) -> Error {
        Error::TooLong {
            max: self.max_message(),
        }
    }

    /// Pushes a message.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of `len` bytes.
    #[inline(always)]
    unsafe fn push_from(&mut self, from: *const u8, len: usize) -> Result<(), Error> {
        if len as u64 > self.short {
            let mut claim = self.try_claim(len)?;
            // SAFETY: The caller's promise; so much was claimed.
            unsafe { claim.fill(from) };
            claim.commit();
            return Ok(());
        }
        let size = size(len as u64);
        let at = self.take_turn(size)?;
        let end = at.wrapping_add(size);
        let ring = &mut self.ring;
        // (P3) Relaxed: (P7) publishes it.
        ring.cells.word(end).store(0, Ordering::Relaxed);
        // (P6)
        // SAFETY: The caller's promise; the length is no more than half of any capacity.
        unsafe { ring.cells.write(at, HEADER as usize, from, len) };
        let header = committed(len as u64);
        // (P7) The message, and the header behind it, are visible to (C1).
        ring.cells.word(at).store(header, Ordering::Release);
        ring.counted.messages += 1;
        ring.counted.bytes += len as u64;
        self.end_turn(end);
        // (P8)
        let ring = &self.ring;
        ring.waiter.ring(&ring.header().consumers);
        Ok(())
    }

    /// (P1) to (P5): claims a record of `size` bytes, a multiple of 8 and no more than those of the
    /// longest message; gives its position, a multiple of 8.
    #[inline(always)]
    fn claim(&mut self, size: u64) -> Result<u64, Error> {
        let at = self.take_turn(size)?;
        let end = at.wrapping_add(size);
        let cells = &self.ring.cells;
        // (P3) Relaxed: (P5) and (P7) publish it.
        cells.word(end).store(0, Ordering::Relaxed);
        let claimed = encode(State::Claimed(self.slot.holder()), size - HEADER);
        // (P4) Relaxed: it says who is to be waited for, and nothing else until (P5) publishes it.
        cells.word(at).store(claimed, Ordering::Relaxed);
        self.end_turn(end);
        Ok(at)
    }

    /// (P1), (P2): takes the turn, if there is room for a record of `size` bytes; gives the tail, a
    /// multiple of 8.
    #[inline(always)]
    fn take_turn(&mut self, size: u64) -> Result<u64, Error> {
        let header = self.ring.header();
        // (P1) (T2)
        if header
            .tail
            .turn
            .acquire(&mut self.ticket, &header.producers)?
        {
            self.inherit();
        }
        // Relaxed: it is written in turns only.
        let at = self.ring.header().tail.position.load(Ordering::Relaxed);
        // (P2)
        let used = at.wrapping_sub(self.head);
        if used > self.ring.capacity - size - HEADER || at % HEADER != 0 {
            self.make_room(at, size)?;
        }
        Ok(at)
    }

    /// (P1) Moves the tail behind the message that a dead one published in its turn, if it did.
    #[cold]
    fn inherit(&self) {
        let position = &self.ring.header().tail.position;
        // Relaxed: it is written in turns only.
        let at = position.load(Ordering::Relaxed);
        // Relaxed: (T3) shows what the dead one wrote, and consumers write no other length.
        let word = self.ring.cells.word(at).load(Ordering::Relaxed);
        match decode(word, self.ring.max()) {
            None | Some((State::Empty | State::Claimed(_), _)) => {}
            // (P5) As in `end_turn`, loom cannot see it.
            Some((_, len)) => position.store(at.wrapping_add(size(len)), Ordering::Release),
        }
    }

    /// (P5)
    #[inline(always)]
    fn end_turn(&self, end: u64) {
        let tail = &self.ring.header().tail;
        // (P5) Who sees the tail sees whose the record before it is, and the cleared header.
        // It matters a lap after a death, and no model goes so far: loom cannot see it.
        tail.position.store(end, Ordering::Release);
        // (T1)
        tail.turn.release(&self.ticket);
        self.ring.cells.prefetch_write(end.wrapping_add(AHEAD));
    }

    /// (P2) in our turn, which is over if there is no room.
    #[cold]
    fn make_room(&mut self, at: u64, size: u64) -> Result<(), Error> {
        let room = self.reclaim(size + HEADER).and_then(|head| {
            self.head = head;
            let used = at.wrapping_sub(head);
            // Nothing moves the tail meanwhile, and nobody who keeps to the rules the head past it.
            if used > self.ring.capacity || at % HEADER != 0 {
                return Err(Error::Corrupt);
            }
            Ok(self.ring.capacity - used)
        });
        let is_enough = match room {
            Ok(room) => room >= size + HEADER,
            Err(_) => false,
        };
        if is_enough {
            return Ok(());
        }
        let header = self.ring.header();
        // (T1)
        header.tail.turn.release(&self.ticket);
        room?;
        let is_closed = header.consumers.is_closed(self.consumers);
        self.ring.counted.refused += 1;
        self.ring.add_counted(|header| &header.tail);
        match is_closed {
            true => Err(Error::Closed),
            false => Err(Error::Full),
        }
    }

    /// (P7), (P8) for a claim in which there is no message; not in a child after fork(2), whose the claim
    /// is not.
    #[cold]
    fn abort(&self, at: u64, size: u64) {
        if self.slot.is_ours() {
            let aborted = encode(State::Aborted, size - HEADER);
            publish(&self.ring, at, size, size, aborted);
        }
    }

    /// (P2) How far the consumers are. With several, released records up to `enough` bytes, or a
    /// quarter of the capacity, are reclaimed first.
    fn reclaim(&self, enough: u64) -> Result<u64, Error> {
        let head = if self.consumers > 1 {
            super::mpmc::reclaim(&self.ring, enough)?
        } else {
            // (P2) What is before it was read.
            self.ring.header().head.position.load(Ordering::Acquire)
        };
        if head % HEADER != 0 {
            return Err(Error::Corrupt);
        }
        // (F1) Release: who reads what is now written before that sees that the head has moved. Reads
        // of what others write fail a model by themselves: loom cannot see it.
        fence(Ordering::Release);
        Ok(head)
    }

    /// The bytes of room, out of turn: reclaimed until there are `enough`.
    fn room(&self, enough: u64) -> Result<u64, Error> {
        let mut head = self.reclaim(enough)?;
        for _ in 0..LOOKS {
            // Relaxed: (P2) shows the tail as it was when the head was there, less one message, or later.
            let tail = self.ring.header().tail.position.load(Ordering::Relaxed);
            let used = tail.wrapping_sub(head);
            if used <= self.ring.capacity {
                return Ok(self.ring.capacity - used);
            }
            // A message is read, and (P5) is still to come.
            if used.wrapping_neg() <= size(self.short) {
                return Ok(self.ring.capacity);
            }
            // The tail may have gone on with the head while we did not look.
            let now = self.reclaim(enough)?;
            if now == head {
                return Err(Error::Corrupt);
            }
            head = now;
        }
        Ok(0)
    }
}

/// How often positions that do not fit together are read again, if they move.
const LOOKS: u32 = 64;

/// How many messages fit `room` one behind the other, and what they take.
fn fitting(messages: &[&[u8]], room: u64) -> (usize, u64) {
    let mut used = 0;
    for (count, message) in messages.iter().enumerate() {
        let len = message.len() as u64;
        if len > room || used + size(len) > room {
            return (count, used);
        }
        used += size(len);
    }
    (messages.len(), used)
}

/// How often a consumer has found the same record in its way.
#[derive(Debug, Default)]
pub(super) struct Patience {
    at: u64,
    looks: u32,
}

impl Patience {
    /// Counts one more time; whether it is time to ask the kernel: rarely, since that takes microseconds.
    pub(super) fn is_over(&mut self, at: u64) -> bool {
        if self.at != at {
            *self = Self { at, looks: 0 };
        }
        self.looks = self.looks.wrapping_add(1);
        self.looks % 1024 == 0 || self.looks >= 16 && self.looks.is_power_of_two()
    }
}

/// (C6) Whether a record, whose header was `word`, is claimed for good by who is gone. What that one
/// and those before it did is visible then.
pub(super) fn is_abandoned<M: Memory>(ring: &Ring<M>, at: u64, word: u64, holder: Holder) -> bool {
    let header = ring.header();
    // 1.
    if !header.producers.is_gone(holder) {
        return false;
    }
    // 2. Who is now past the record has not claimed it, or its claim is visible by (P5), of which
    // loom cannot see the use.
    let tail = header.tail.position.load(Ordering::Acquire);
    let past = tail.wrapping_sub(at);
    // 3. Relaxed: (P5) orders it behind other claims, and the holder's end behind its commit.
    past != 0 && past <= ring.capacity && ring.cells.word(at).load(Ordering::Relaxed) == word
}

impl<M: Memory> Consumer<M> {
    /// Attaches to a ring of [`Kind::Mpsc`], in place of a dead consumer if there is one.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`]: there is a consumer, and it is alive.
    /// - The others of [`Producer::attach`].
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let ring = Ring::open(memory, Kind::Mpsc, 0)?;
        let slot = ring.enter(|header| (&header.consumers, &header.producers), 1)?;
        // Dropped, and so left, if what follows fails.
        let mut consumer = Self {
            ring,
            head: 0,
            patience: Patience::default(),
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

    /// What has been popped since the ring was made. Lost are claims of dead producers; a batch is
    /// one claim.
    pub fn counters(&mut self) -> Counters {
        self.ring.counters(|header| &header.head)
    }

    /// Who is on the other side.
    pub fn peers(&self) -> Peers {
        self.ring.header().producers.peers(ENDS)
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
    /// - [`Error::Empty`]: there is no message now, or the next one is not committed.
    /// - [`Error::Closed`]: there is none, and all producers have left.
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
    /// - [`Error::PeerDead`]: no producer is left, not all have left in order, and all that they
    ///   committed was read.
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
        self.pop_exact(&mut value)?;
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
        until_done(self, 0, wait, Self::try_pop_value)
    }

    /// Copies the next message into a plain value. Of a large one this is faster than
    /// [`Consumer::try_pop_value`], whose result is moved.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop_value`].
    #[inline]
    pub fn try_pop_to<T: Plain>(&mut self, value: &mut T) -> Result<(), Error> {
        let value: *mut T = value;
        // SAFETY: It stays initialized, since it is written with bytes of a message only, and any are a
        // `T` (`Plain`).
        self.pop_exact(unsafe { &mut *value.cast::<MaybeUninit<T>>() })
    }

    #[inline(always)]
    fn pop_exact<T: Plain>(&mut self, to: &mut MaybeUninit<T>) -> Result<(), Error> {
        let len = size_of::<T>() as u64;
        // (C1)
        let word = self.ring.cells.word(self.head).load(Ordering::Acquire);
        if word != committed(len) || len > self.ring.max() {
            return self.pop_exact_behind(to);
        }
        // (C2) So the place of the next message is known before this one's header is.
        let message = Message {
            ring: &self.ring,
            at: self.head,
            len,
        };
        // (C3)
        message.copy_exactly(to)?;
        self.release(self.head.wrapping_add(size(len)), 1, len);
        Ok(())
    }

    #[cold]
    fn pop_exact_behind<T: Plain>(&mut self, to: &mut MaybeUninit<T>) -> Result<(), Error> {
        let message = self.try_peek()?;
        message.message().copy_exactly(to)?;
        message.release();
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

    /// Prepares for poll(2) and its kin: `true` if there is no message yet, so that a producer will
    /// write to its event ([`Producer::set_event`]) when there is. One that dies writes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`]; [`Error::System`]: `NOSYS`, without membarrier(2).
    pub fn arm(&mut self) -> Result<bool, Error> {
        wait::arm(self, 0)
    }

    /// What to write to when a producer has armed.
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
        let (at, len) = self.find(self.head)?;
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

    /// (C1), (C2): position and length of the first message at a position or behind.
    #[inline(always)]
    fn find(&mut self, from: u64) -> Result<(u64, u64), Error> {
        // (C1) What the header speaks of is visible now. It is read once.
        let word = self.ring.cells.word(from).load(Ordering::Acquire);
        // (C2)
        match committed_len(word, self.ring.max()) {
            Some(len) => Ok((from, len)),
            None => self.find_behind(word, from, false),
        }
    }

    /// The same from a record on that is no message. `asks`: the kernel is asked about a claim.
    #[cold]
    fn find_behind(&mut self, mut word: u64, from: u64, asks: bool) -> Result<(u64, u64), Error> {
        let mut at = from;
        let mut is_closed = false;
        let why_not = loop {
            // (C2)
            let Some((state, len)) = decode(word, self.ring.max()) else {
                break Error::Corrupt;
            };
            match state {
                State::Committed => return Ok((at, len)),
                State::Aborted => at = at.wrapping_add(size(len)),
                State::Claimed(holder)
                    if (asks || is_closed || self.patience.is_over(at))
                        && is_abandoned(&self.ring, at, word, holder) =>
                {
                    self.ring.counted.lost += 1;
                    let aborted = encode(State::Aborted, len);
                    // Relaxed: whoever reads it comes behind this consumer, by (E3) or (C4).
                    self.ring.cells.word(at).store(aborted, Ordering::Relaxed);
                    at = at.wrapping_add(size(len));
                }
                State::Empty | State::Claimed(_) if is_closed => break Error::Closed,
                State::Empty | State::Claimed(_) => {
                    is_closed = self.ring.header().producers.is_closed(ENDS);
                    if !is_closed {
                        break Error::Empty;
                    }
                }
                State::Taken(_) | State::Released => break Error::Corrupt,
            }
            if at.wrapping_sub(from) > self.ring.capacity {
                break Error::Corrupt;
            }
            // (C1) If they have closed, once more, since (E1) comes after all that was published.
            word = self.ring.cells.word(at).load(Ordering::Acquire);
        };
        if at != from && from == self.head {
            self.release(at, 0, 0);
        }
        Err(why_not)
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
    /// What was claimed; of a batch, only what this message takes of it.
    size: u64,
    is_batched: bool,
}

#[allow(clippy::len_without_is_empty, reason = "an empty message is a message")]
impl<M: Memory> Claim<'_, M> {
    /// The length of the message.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Makes the message shorter. What it leaves over stays claimed until the message is read, except in
    /// a batch.
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
        // (`try_claim`), and the bytes are within it.
        unsafe { cells.write(self.at, offset, bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// (P6) Copies all of the message in.
    ///
    /// # Safety
    ///
    /// `from` is valid for reads of so many bytes.
    #[inline(always)]
    unsafe fn fill(&mut self, from: *const u8) {
        let cells = &self.producer.ring.cells;
        // SAFETY: The caller's promise; the length is no more than half of the capacity (`try_claim`).
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
        // SAFETY: The claim's bytes are within the mapping, since its position is a multiple of 8
        // (`Producer::claim`), and nobody's but ours until (P7), which takes the claim
        // (`Trusted`'s contract).
        unsafe { core::slice::from_raw_parts_mut(start, self.len as usize) }
    }

    /// Publishes the message; one of a batch with its batch.
    #[inline]
    pub fn commit(self) {
        let (at, size, used, header) = (self.at, self.size, size(self.len), committed(self.len));
        let Producer { ring, batch, .. } = &mut *self.producer;
        if !self.is_batched {
            ring.counted.messages += 1;
            ring.counted.bytes += self.len;
            publish(ring, at, size, used, header);
        } else {
            if batch.used == 0 {
                batch.first = header;
            } else {
                // Relaxed: (P7) of the first record publishes it.
                ring.cells.word(at).store(header, Ordering::Relaxed);
            }
            batch.used += used;
            batch.messages += 1;
            batch.bytes += self.len;
        }
        mem::forget(self);
    }

    /// Gives the room up, as dropping does.
    #[inline]
    pub fn abort(self) {}
}

impl<M: Memory> Drop for Claim<'_, M> {
    fn drop(&mut self) {
        if !self.is_batched {
            self.producer.abort(self.at, self.size);
        }
    }
}

/// (P7), (P8) for a claim of `size` bytes, of which `used` have records, the first with the header `first`.
#[inline(always)]
fn publish<M: Memory>(ring: &Ring<M>, at: u64, size: u64, used: u64, first: u64) {
    if used < size {
        let rest = encode(State::Aborted, size - used - HEADER);
        // Relaxed: (P7) publishes it.
        ring.cells
            .word(at.wrapping_add(used))
            .store(rest, Ordering::Relaxed);
    }
    // (P7) The records, and the header behind them, are visible to (C1).
    ring.cells.word(at).store(first, Ordering::Release);
    // (P8)
    ring.waiter.ring(&ring.header().consumers);
}

/// Messages that are published together. Dropping it gives them up.
#[derive(Debug)]
#[must_use]
pub struct Batch<'p, M: Memory> {
    producer: &'p mut Producer<M>,
}

impl<M: Memory> Batch<'_, M> {
    /// Copies one more message in, if the batch has room.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`]: it is longer than what is left; [`Error::Full`]: not even an empty one has
    /// room. The batch stays as it was.
    #[inline]
    pub fn try_push(&mut self, message: &[u8]) -> Result<(), Error> {
        let mut claim = self.try_claim(message.len())?;
        // SAFETY: `message` is borrowed, and so much was claimed.
        unsafe { claim.fill(message.as_ptr()) };
        claim.commit();
        Ok(())
    }

    /// Copies one more plain value in as a message, if the batch has room.
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
        let Block {
            at,
            size: all,
            used,
            ..
        } = self.producer.batch;
        let Some(max) = (all - used).checked_sub(HEADER) else {
            return Err(Error::Full);
        };
        // INVARIANT: What is claimed is no larger than the longest message's record.
        if len as u64 > max {
            return Err(Error::TooLong { max: max as usize });
        }
        Ok(Claim {
            producer: self.producer,
            at: at.wrapping_add(used),
            len: len as u64,
            size: size(len as u64),
            is_batched: true,
        })
    }

    /// Publishes all of them at once.
    #[inline]
    pub fn commit(self) {
        let Producer { ring, batch, .. } = &mut *self.producer;
        if batch.used > 0 {
            ring.counted.messages += batch.messages;
            ring.counted.bytes += batch.bytes;
            publish(ring, batch.at, batch.size, batch.used, batch.first);
            mem::forget(self);
        }
    }

    /// Gives all of them up, as dropping does.
    #[inline]
    pub fn abort(self) {}
}

impl<M: Memory> Drop for Batch<'_, M> {
    fn drop(&mut self) {
        let Block { at, size, .. } = self.producer.batch;
        self.producer.abort(at, size);
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
        if self.messages == 0 {
            // What was skipped before the first message is released.
            self.next = self.consumer.head;
        }
        let (at, len) = self.consumer.find(self.next)?;
        let next = at.wrapping_add(size(len));
        // Else a producer could let a batch go round and round.
        if next.wrapping_sub(self.consumer.head) > self.consumer.ring.capacity {
            return Err(Error::Corrupt);
        }
        self.next = next;
        self.messages += 1;
        self.bytes += len;
        let ring = &self.consumer.ring;
        ring.cells.prefetch_read(self.next.wrapping_add(AHEAD));
        Ok(Message { ring, at, len })
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
        if need as u64 > self.ring.max() {
            return Err(self.too_long());
        }
        let needed = size(need as u64) + HEADER;
        if self.room(needed)? >= needed {
            return Ok(true);
        }
        match self.ring.header().consumers.is_closed(self.consumers) {
            true => Err(Error::Closed),
            false => Ok(false),
        }
    }

    fn waiter(&mut self) -> &mut Waiter {
        &mut self.ring.waiter
    }

    fn here(&self) -> &Side {
        &self.ring.header().producers
    }

    fn there(&self) -> (&Side, usize) {
        (&self.ring.header().consumers, self.consumers)
    }
}

impl<M: Memory> End for Consumer<M> {
    const IS_CONSUMER: bool = true;

    fn is_ready(&mut self, _: usize) -> Result<bool, Error> {
        match self.find(self.head) {
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
        (&self.ring.header().producers, ENDS)
    }

    fn look_for_dead(&mut self) -> Result<bool, Error> {
        // (C1) Who finds something there comes here again before it is read: loom cannot see it.
        let word = self.ring.cells.word(self.head).load(Ordering::Acquire);
        match self.find_behind(word, self.head, true) {
            Ok(_) => Ok(true),
            Err(Error::Empty) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<M: Memory> Drop for Producer<M> {
    fn drop(&mut self) {
        if !self.slot.is_ours() {
            return;
        }
        self.ring.add_counted(|header| &header.tail);
        self.ring.header().tail.turn.leave(&self.ticket);
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
