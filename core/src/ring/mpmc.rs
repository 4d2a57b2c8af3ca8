//! Many producers, many consumers: each message goes to one of the consumers.
//!
//! The producers are those of [`mpsc`](super::mpsc), with the steps (P1) to (P8) and what is said
//! there of dead ones.
//!
//! # What it promises
//!
//! - Messages arrive whole, each at one consumer. None is overwritten.
//! - Messages of one producer are taken in order. Different consumers may be done with them in another.
//! - A message is contiguous in memory, wherever it lies.
//! - A try makes no system call, unless the other side sleeps and is to be woken, or the same claim or
//!   turn is in the way for long.
//! - Any process may be killed at any instruction. What was committed stays, what was claimed and not
//!   committed is skipped and counted as lost, and nobody else is held up for ever.
//!
//! # What it does not
//!
//! - A message that a consumer had taken and not released when it died, or when it was dropped, is
//!   given to another consumer: out of order, and perhaps for the second time. That one finds it
//!   once there is no other message for it.
//! - A message that was peeked at and not released stays with this consumer. It gets it again
//!   with its next call, before all others.
//! - Consumers take one after the other, as producers claim: one that is stopped in its turn holds
//!   the others up, whose tries fail with [`Error::Busy`]. One that is alone has all turns, as a producer.
//! - Room comes back in order: a message that is taken and not released holds up the room behind it.
//!
//! # The life of a message
//!
//! | consumer | producers, without room |
//! |---|---|
//! | (C1) looks for a header at the cursor, out of turn | (P2) look how far the consumers are |
//! | (C2) takes the turn, and checks state and length of the header | (R1) find released records behind the head |
//! | (C3) marks the record taken | (R2) move the head behind them |
//! | (C4) moves the cursor behind it, and releases the turn | |
//! | (C5) copies the message out | |
//! | (C6) marks the record released | |
//! | (C7) wakes sleeping producers | |
//!
//! A message of at most 128 bytes that is copied out is not taken, if all before it are released: it is
//! copied in the turn, and (C6) moves the head behind it: (C1), (C2), (C5), (C6), (C7). Then no header is
//! written, and (R1) has none to find. The cursor is the second position, or the head where it has come
//! past that. (R2) moves the head up to the cursor, and (C6) from there.
//!
//! A header is 0, then claimed, committed, taken, released; or claimed and aborted. The head is behind
//! the cursor, that behind the tail. A record at the cursor that is taken was taken by one who died
//! before (C4), and is taken anew. A consumer that finds nothing for some time, or whose
//! wait has taken some, looks from the head to the cursor for what the dead have (C8).
//!
//! # Ordering
//!
//! | release | acquire | publishes |
//! |---|---|---|
//! | (P7) a record's header | (C2) the header | the record, all of its batch, and the cleared header behind |
//! | (C4) the cursor | (C1), (R1), (C8) the cursor | that the headers before it and at it are headers |
//! | (C6) a record's header | (R1) the header | that the consumer has read the record |
//! | (C6) the head | (P2), (C1), (R1), (C8) the head | the same, and that there is a header at it |
//! | (R2) the head | (P2), (R1), (C6), (C8) the head | that the records before it were released |
//! | (F1) fence behind (P2) | (F2) fence behind (C1), (C8), (R1) | to who has read what was written over a header, that the head has moved, and the cursor with it |
//!
//! The turns' edges are in `turn.rs`. Wake-ups are argued in [`Wait`]'s module; attaching and
//! leaving where the sides are.
//!
//! ```
//! use linipc_core::ring::{self, Kind, mpmc};
//!
//! let fd = ring::create_memfd(c"example", Kind::Mpmc, 4096)?;
//! let mut producer = mpmc::Producer::attach(ring::map(&fd)?)?;
//! let mut one = mpmc::Consumer::attach(ring::map(&fd)?)?;
//! let mut other = mpmc::Consumer::attach(ring::map(&fd)?)?;
//!
//! producer.try_push_all(&[b"first", b"second", b"third"])?;
//! let mut text = [0; 6];
//! let message = one.try_peek()?;
//! assert_eq!(other.try_pop(&mut text)?, 6);
//! assert_eq!(message.len(), 5);
//! message.release();
//!
//! // Several at once.
//! let mut batch = other.try_batch(10)?;
//! assert_eq!(batch.try_next()?.len(), 5);
//! batch.release();
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```

use core::mem::MaybeUninit;

use super::end::{Side, Slot};
use super::mpsc::{Patience, SHORT, is_abandoned};
use super::record::{Holder, State, committed, committed_len, decode, encode, size};
use super::turn::Ticket;
use super::wait::{self, End, Waiter, until_done};
use super::{
    AttachError, Counters, Error, Header, Kind, Memory, Peers, Progress, Ring, Trust, Wait,
};
use crate::fd::OwnedFd;
use crate::shared::variable::Plain;
use crate::sync::{ENDS, Ordering, fence};

pub use super::mpsc::{Batch, Claim, Message, Producer};

/// One of those who read. It leaves when it is dropped; when all have, the ring is closed.
#[derive(Debug)]
pub struct Consumer<M: Memory> {
    ring: Ring<M>,
    /// From where to where messages are that we have taken and not released, perhaps with aborted records
    /// between them.
    held: (u64, u64),
    /// [`SHORT`], or the longest message if that is shorter.
    short: u64,
    patience: Patience,
    ticket: Ticket,
    slot: Slot,
}

/// A length that no message has.
const ANY: u64 = u32::MAX as u64;

/// How often the head is read again if it moves.
const LOOKS: u32 = 64;

/// (R1), (R2): reclaims released records, up to `enough` bytes or a quarter of the capacity; gives the
/// head.
pub(super) fn reclaim<M: Memory>(ring: &Ring<M>, enough: u64) -> Result<u64, Error> {
    let progress = &ring.header().head;
    let enough = enough.max(ring.capacity / 4);
    // (P2) What is before it was released. Here and in all loads of the loop (F2) would do alone, so
    // loom cannot see what each is for.
    let mut head = progress.position.load(Ordering::Acquire);
    for _ in 0..LOOKS {
        // (R1) From the head to it there are headers, as long as the head does not move. (F2) too,
        // so loom cannot see it.
        let cursor = cursor_from(head, progress, Ordering::Acquire);
        let taken = cursor.wrapping_sub(head);
        let mut freed = 0;
        // Most headers are as the one before: then the place of the next is known before this one is.
        let (mut last, mut last_size) = (0, 0);
        while freed < enough.min(taken) && taken <= ring.capacity {
            let at = head.wrapping_add(freed);
            // (R1) What the consumer read from the record is read. (F2) too: loom cannot see it.
            let word = ring.cells.word(at).load(Ordering::Acquire);
            if word != last || last == 0 {
                let Some((State::Released | State::Aborted, len)) = decode(word, ring.max()) else {
                    break;
                };
                (last, last_size) = (word, size(len));
            }
            freed += last_size;
        }
        let end = head.wrapping_add(freed);
        // (F2) Acquire: if a header was written over, it is seen that the head has moved. The loads make
        // the edges that models have: loom cannot see it.
        fence(Ordering::Acquire);
        // (R2) If the head has not moved, what was read is headers. Else (P2) says where it is.
        let moved = if freed > 0 {
            // The turns that follow make the same edge, and (F2) when it fails: loom cannot see it.
            progress
                .position
                .compare_exchange(head, end, Ordering::Release, Ordering::Acquire)
        } else {
            // As when the exchange fails: loom cannot see it.
            match progress.position.load(Ordering::Acquire) {
                now if now == head => Ok(head),
                now => Err(now),
            }
        };
        match moved {
            Ok(_) if freed > taken || taken > ring.capacity => return Err(Error::Corrupt),
            Ok(_) => return Ok(end),
            Err(now) => head = now,
        }
    }
    Ok(head)
}

/// The cursor, if the head is there: the second position, or the head where it has come past that.
#[inline(always)]
fn cursor_from(head: u64, progress: &Progress, ordering: Ordering) -> u64 {
    let second = progress.second.load(ordering);
    match second.wrapping_sub(head) as i64 {
        1.. => second,
        _ => head,
    }
}

impl<M: Memory> Consumer<M> {
    /// Attaches to a ring of [`Kind::Mpmc`], in place of a dead consumer if there is no room beside it.
    ///
    /// # Errors
    ///
    /// - [`AttachError::InUse`]: there are [`MAX_ENDS`](super::MAX_ENDS) consumers, all alive.
    /// - The others of [`Producer::attach`]; `NOSYS` if there is one consumer that needs membarrier(2).
    pub fn attach(memory: M) -> Result<Self, AttachError> {
        let ring = Ring::open(memory, Kind::Mpmc, 0)?;
        let (slot, ticket) = ring.enter_in_turns(
            |header| (&header.consumers, &header.producers),
            |header| &header.head.turn,
        )?;
        Ok(Self {
            short: ring.max().min(SHORT),
            ring,
            held: (0, 0),
            patience: Patience::default(),
            ticket,
            slot,
        })
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

    /// What all consumers have popped since the ring was made. Lost are claims of dead producers; a
    /// batch is one claim.
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
    /// - [`Error::Closed`]: there is none, and all producers have left. Other consumers may have some
    ///   that they have not released.
    /// - [`Error::Busy`]: another consumer is in its turn, and does not get on.
    /// - [`Error::BufferLen`]: it is longer than `buf`. It is the next one again.
    /// - [`Error::Corrupt`]: there is something that is no message.
    #[inline]
    pub fn try_pop(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        self.pop_with(ANY, |message| {
            let len = message.len();
            if len > buf.len() {
                return Err(Error::BufferLen { message: len });
            }
            message.copy_to(buf.as_mut_ptr());
            Ok(len)
        })
    }

    /// Copies the next message out, and waits for it as `wait` says; gives its length.
    ///
    /// # Errors
    ///
    /// - [`Error::BufferLen`], [`Error::Corrupt`], [`Error::Closed`]: as of [`Consumer::try_pop`].
    /// - [`Error::TimedOut`]: there was none, or no turn, until the deadline of `wait`.
    /// - [`Error::PeerDead`]: no producer is left, not all have left in order, and all that they
    ///   committed was taken.
    /// - [`Error::System`]: `INTR`, a signal was caught during a sleep.
    #[inline]
    pub fn pop(&mut self, buf: &mut [u8], wait: Wait) -> Result<usize, Error> {
        until_done(self, 0, wait, |consumer| consumer.try_pop(buf))
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
        self.pop_with(size_of::<T>() as u64, |message| message.copy_exactly(to))
    }

    /// (C1) to (C7): copies a message out. Where it has the length that is expected, the place of the next
    /// one is known before its header is.
    #[inline(always)]
    fn pop_with<R>(
        &mut self,
        expected: u64,
        mut copy: impl FnMut(Message<'_, M>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if self.held.0 != self.held.1 || !self.may_be_worth_a_turn() {
            let taken = self.take(1);
            return self.pop_taken(taken, copy);
        }
        self.take_turn()?;
        let header = self.ring.header();
        let progress = &header.head;
        // (R2) What is before it was read, as (C6) is to say. Turns make the same edge between consumers:
        // loom cannot see it.
        let head = progress.position.load(Ordering::Acquire);
        // Relaxed: it is written in turns only.
        let at = cursor_from(head, progress, Ordering::Relaxed);
        // (C2) What the header speaks of is visible now. It is read once.
        let word = self.ring.cells.word(at).load(Ordering::Acquire);
        let len = match word == committed(expected) && expected <= self.short {
            true => Some(expected),
            false => committed_len(word, self.short),
        };
        let ring = &self.ring;
        if let Some(len) = len.filter(|_| at == head) {
            // (C5)
            if let Ok(copied) = copy(Message { ring, at, len }) {
                // (C6) What was read from the record is read: (P2) may let it be written.
                let end = at.wrapping_add(size(len));
                progress.position.store(end, Ordering::Release);
                // (T1)
                progress.turn.release(&self.ticket);
                // (C7)
                ring.waiter.ring(&header.producers);
                self.ring.counted.messages += 1;
                self.ring.counted.bytes += len;
                return Ok(copied);
            }
        }
        let taken = self.take_or_look_behind(1);
        self.pop_taken(taken, copy)
    }

    /// The same for a message that is taken first: because it is long, does not fit, or is not the first
    /// one that is not released.
    #[inline(never)]
    fn pop_taken<R>(
        &mut self,
        taken: Result<(u64, u64), Error>,
        mut copy: impl FnMut(Message<'_, M>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let (at, len) = taken?;
        let message = Peek {
            consumer: self,
            at,
            len,
        };
        let copied = copy(message.message())?;
        message.release();
        // So that the next message may be the first one; whether it is corrupt is told then.
        let _ = reclaim(&self.ring, self.ring.capacity);
        Ok(copied)
    }

    /// Waits until there is a message. Another consumer may be faster to take it.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::pop`].
    pub fn wait(&mut self, wait: Wait) -> Result<(), Error> {
        self.ring.add_counted(|header| &header.head);
        wait::wait(self, 0, wait)
    }

    /// Prepares for poll(2) and its kin: `true` if there is no message yet, so that a producer will
    /// write to its event ([`Producer::set_event`]) when there is. One that dies writes nothing. All
    /// consumers that arm wait for the same event.
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

    /// The next message, to read in place. It is taken; if it is not released, it is the next one
    /// again.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_peek(&mut self) -> Result<Peek<'_, M>, Error> {
        let (at, len) = self.take(1)?;
        Ok(Peek {
            consumer: self,
            at,
            len,
        })
    }

    /// Takes up to `most` messages at once, at least one; or those that were taken before and not
    /// released.
    ///
    /// # Errors
    ///
    /// Those of [`Consumer::try_pop`].
    #[inline]
    pub fn try_batch(&mut self, most: usize) -> Result<Messages<'_, M>, Error> {
        let (next, _) = self.take(most.max(1))?;
        Ok(Messages {
            consumer: self,
            next,
            read: 0,
        })
    }

    /// (C1) to (C4): takes messages; gives position and length of the first.
    #[inline(always)]
    fn take(&mut self, most: usize) -> Result<(u64, u64), Error> {
        if let Some((at, len)) = self.held_from(self.held.0)? {
            self.held.0 = at;
            return Ok((at, len));
        }
        if !self.may_be_something() {
            return self.look_behind(false);
        }
        self.take_turn()?;
        self.take_or_look_behind(most)
    }

    /// (C2) (T2)
    #[inline(always)]
    fn take_turn(&mut self) -> Result<(), Error> {
        let header = self.ring.header();
        let turn = &header.head.turn;
        turn.acquire(&mut self.ticket, &header.consumers)?;
        Ok(())
    }

    /// In our turn, which is over then.
    #[inline(always)]
    fn take_or_look_behind(&mut self, most: usize) -> Result<(u64, u64), Error> {
        match self.take_in_turn(most, false) {
            Err(Error::Empty) => self.look_behind(false),
            done => done,
        }
    }

    /// The first message that we hold from a position on.
    #[inline(always)]
    fn held_from(&self, from: u64) -> Result<Option<(u64, u64)>, Error> {
        match from == self.held.1 {
            true => Ok(None),
            false => self.held_behind(from),
        }
    }

    #[cold]
    fn held_behind(&self, from: u64) -> Result<Option<(u64, u64)>, Error> {
        let mut at = from;
        loop {
            let left = self.held.1.wrapping_sub(at);
            if left == 0 {
                return Ok(None);
            }
            // Relaxed: we have written it, or seen it in our turn.
            let word = self.ring.cells.word(at).load(Ordering::Relaxed);
            match decode(word, self.ring.max()) {
                Some((State::Taken(_), len)) if size(len) <= left => return Ok(Some((at, len))),
                Some((State::Aborted, len)) if size(len) <= left => at = at.wrapping_add(size(len)),
                _ => return Err(Error::Corrupt),
            }
        }
    }

    /// Where the next message is: behind all that were taken, and all that were copied out in turn.
    fn cursor(&self, ordering: Ordering) -> u64 {
        let progress = &self.ring.header().head;
        cursor_from(progress.position.load(ordering), progress, ordering)
    }

    /// Whether to look for a message in turn: where a turn costs no exchange, always.
    #[inline(always)]
    fn may_be_worth_a_turn(&self) -> bool {
        self.ticket.is_alone() || self.may_be_something()
    }

    /// (C1) Whether it is worth a turn to take a message. Errors are not told here, but in turn.
    #[inline(always)]
    fn may_be_something(&self) -> bool {
        // (C1) What is at it was a header then. Nothing is read by this look: loom cannot see its use.
        let at = self.cursor(Ordering::Acquire);
        // Relaxed: (C2) reads it again.
        let word = self.ring.cells.word(at).load(Ordering::Relaxed);
        // (F2) Acquire: if the header was written over, it is seen that the head has moved. Else a turn
        // is taken in vain, or later: loom cannot see it.
        fence(Ordering::Acquire);
        // Relaxed: (F2).
        if self.cursor(Ordering::Relaxed) != at {
            return true;
        }
        !matches!(
            decode(word, self.ring.max()),
            Some((State::Empty | State::Claimed(_), _))
        )
    }

    /// (C2) to (C4) in our turn, which is over then. `asks`: the kernel is asked about a claim in the way.
    #[inline]
    fn take_in_turn(&mut self, most: usize, asks: bool) -> Result<(u64, u64), Error> {
        let me = self.slot.holder();
        let header = self.ring.header();
        // Relaxed: it moves in turns only.
        let from = self.cursor(Ordering::Relaxed);
        let (mut at, mut taken) = (from, 0);
        // The first message; from where to where they are.
        let (mut first, mut held) = (None, (0, 0));
        let (mut skipped, mut lost) = (0, 0);
        let why_not = loop {
            if taken == most || at.wrapping_sub(from) > self.ring.capacity {
                break Error::Empty;
            }
            // (C2) What the header speaks of is visible now. It is read once.
            let word = self.ring.cells.word(at).load(Ordering::Acquire);
            let Some((state, len)) = decode(word, self.ring.max()) else {
                break Error::Corrupt;
            };
            match state {
                State::Committed | State::Taken(_) => {
                    // (C3) Relaxed: who reads it comes behind us by the turn.
                    self.mark(at, State::Taken(me), len, Ordering::Relaxed);
                    let (begin, _) = *first.get_or_insert((at, len));
                    held = (begin, at.wrapping_add(size(len)));
                    taken += 1;
                }
                State::Aborted => skipped += 1,
                State::Claimed(dead) if asks && is_abandoned(&self.ring, at, word, dead) => {
                    // Release: (R1) shows that the dead one has written what it wrote. It matters a lap
                    // after the death, where no model comes: loom cannot see it.
                    self.mark(at, State::Aborted, len, Ordering::Release);
                    lost += 1;
                }
                State::Claimed(_) | State::Empty => break Error::Empty,
                State::Released => break Error::Corrupt,
            }
            at = at.wrapping_add(size(len));
        };
        // (C4) Who sees the cursor sees that (C2) has found headers up to it, and one at it. What was
        // there a lap before could be seen else, where no model comes: loom cannot see it.
        header.head.second.store(at, Ordering::Release);
        // (T1)
        header.head.turn.release(&self.ticket);
        if lost > 0 {
            // What was behind the claims is there for the others too.
            self.ring.waiter.ring_own(&header.consumers);
        }
        if skipped + lost > 0 {
            // The room of what was aborted can be reclaimed.
            self.ring.waiter.ring(&header.producers);
        }
        self.ring.counted.lost += lost;
        let first = first.ok_or(why_not)?;
        self.held = held;
        Ok(first)
    }

    #[inline(always)]
    fn mark(&self, at: u64, state: State, len: u64, ordering: Ordering) {
        self.ring.cells.word(at).store(encode(state, len), ordering);
    }

    /// Finds no message at the cursor: if it is time for that, looks what dead ones have left.
    #[cold]
    fn look_behind(&mut self, asks: bool) -> Result<(u64, u64), Error> {
        let header = self.ring.header();
        let is_closed = header.producers.is_closed(ENDS);
        // Relaxed: only to see whether it is the same as before.
        let cursor = self.cursor(Ordering::Relaxed);
        if asks || is_closed || self.patience.is_over(cursor) {
            // (C2) once more, since (E1) comes after all that was published.
            self.take_turn()?;
            match self.take_in_turn(1, true) {
                Err(Error::Empty) => {}
                done => return done,
            }
            self.rescue()?;
            if let Some(held) = self.held_from(self.held.0)? {
                return Ok(held);
            }
        }
        match is_closed {
            true => Err(Error::Closed),
            false => Err(Error::Empty),
        }
    }

    /// (C8) Takes what a consumer that is gone had taken, if there is something: one message, and what
    /// follows it.
    fn rescue(&mut self) -> Result<(), Error> {
        // What is released needs not be looked at.
        reclaim(&self.ring, self.ring.capacity)?;
        // Only in turn a taken record may change hands.
        self.take_turn()?;
        let found = self.find_left_behind(self.slot.holder());
        // (T1)
        self.ring.header().head.turn.release(&self.ticket);
        if let Some(held) = found? {
            self.held = held;
        }
        Ok(())
    }

    /// (C8) in our turn, so that the cursor stays.
    fn find_left_behind(&self, me: Holder) -> Result<Option<(u64, u64)>, Error> {
        let Header {
            head: progress,
            consumers,
            ..
        } = self.ring.header();
        // (C8) What is before it was released. As for (F2) below, loom cannot see it.
        let mut at = progress.position.load(Ordering::Acquire);
        // Relaxed: it moves in turns only.
        let cursor = cursor_from(at, progress, Ordering::Relaxed);
        let mut held = None;
        let mut asked = None;
        loop {
            let left = cursor.wrapping_sub(at);
            if left > self.ring.capacity {
                return Err(Error::Corrupt);
            }
            if left == 0 {
                break;
            }
            let word = self.ring.cells.word(at).load(Ordering::Relaxed);
            let state = decode(word, self.ring.max());
            let is_gone = match state {
                Some((State::Taken(holder), _)) => match asked {
                    Some((last, is_gone)) if last == holder => is_gone,
                    _ => {
                        let is_gone = consumers.is_gone(holder);
                        asked = Some((holder, is_gone));
                        is_gone
                    }
                },
                _ => false,
            };
            // Relaxed: once its holder is gone, this is what it left.
            let again = self.ring.cells.word(at).load(Ordering::Relaxed);
            // (F2) Acquire: if the header was written over, it is seen that the head has moved. It takes a
            // third one, who writes, beside a death: loom cannot see it.
            fence(Ordering::Acquire);
            // (C8) Too.
            let head = progress.position.load(Ordering::Acquire);
            if cursor.wrapping_sub(head) < left {
                // What is before the head is released, and no header any more.
                at = head;
                if held.is_some() {
                    return Err(Error::Corrupt);
                }
                continue;
            }
            let (state, len) = state.ok_or(Error::Corrupt)?;
            match state {
                State::Taken(_) if is_gone && again == word => {
                    // (C3) Relaxed: who reads it comes behind us by the turn.
                    self.mark(at, State::Taken(me), len, Ordering::Relaxed);
                    let (begin, _) = held.unwrap_or((at, at));
                    held = Some((begin, at.wrapping_add(size(len))));
                }
                State::Aborted => {}
                State::Taken(_) | State::Released if held.is_none() => {}
                State::Taken(_) | State::Released => break,
                _ => return Err(Error::Corrupt),
            }
            at = at.wrapping_add(size(len));
        }
        Ok(held)
    }

    /// (C6) for the first message that we hold.
    #[inline(always)]
    fn let_go(&mut self, at: u64, len: u64) {
        // Before (C6): then what is aborted behind it may be reclaimed with it.
        self.held.0 = match self.held_from(at.wrapping_add(size(len))) {
            Ok(Some((next, _))) => next,
            _ => self.held.1,
        };
        self.ring.counted.messages += 1;
        self.ring.counted.bytes += len;
        // (C6) What was read from the record is read: (R1) may let it be written.
        self.mark(at, State::Released, len, Ordering::Release);
    }
}

/// A message that was taken, read in place. Dropping it keeps it for the next call of its consumer.
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
        self.consumer.let_go(self.at, self.len);
        // (C7)
        let ring = &self.consumer.ring;
        ring.waiter.ring(&ring.header().producers);
    }
}

/// Messages that were taken together. Dropping it keeps them for the next call of their consumer.
#[derive(Debug)]
#[must_use]
pub struct Messages<'c, M: Memory> {
    consumer: &'c mut Consumer<M>,
    next: u64,
    read: usize,
}

impl<M: Memory> Messages<'_, M> {
    /// The next message, to read in place.
    ///
    /// # Errors
    ///
    /// - [`Error::Empty`]: those that were taken are through.
    /// - [`Error::Corrupt`]: somebody has written over one.
    #[inline]
    pub fn try_next(&mut self) -> Result<Message<'_, M>, Error> {
        let held = self.consumer.held_from(self.next)?;
        let (at, len) = held.ok_or(Error::Empty)?;
        self.next = at.wrapping_add(size(len));
        self.read += 1;
        Ok(Message {
            ring: &self.consumer.ring,
            at,
            len,
        })
    }

    /// Takes all that were read out of the ring. The others are what the consumer gets next.
    #[inline]
    pub fn release(self) {
        let Self { consumer, read, .. } = self;
        for _ in 0..read {
            let Ok(Some((at, len))) = consumer.held_from(consumer.held.0) else {
                break;
            };
            consumer.let_go(at, len);
        }
        // (C7)
        let ring = &consumer.ring;
        ring.waiter.ring(&ring.header().producers);
    }
}

impl<M: Memory> End for Consumer<M> {
    const IS_CONSUMER: bool = true;

    fn is_ready(&mut self, _: usize) -> Result<bool, Error> {
        if self.held.0 != self.held.1 || self.may_be_something() {
            return Ok(true);
        }
        match self.ring.header().producers.is_closed(ENDS) {
            true => self.look_for_dead(),
            false => Ok(false),
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
        if self.held.0 != self.held.1 {
            return Ok(true);
        }
        match self.look_behind(true) {
            // Without a turn it is not known.
            Ok(_) | Err(Error::Busy) => Ok(true),
            Err(Error::Empty) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl<M: Memory> Drop for Consumer<M> {
    fn drop(&mut self) {
        if !self.slot.is_ours() {
            return;
        }
        self.ring.add_counted(|header| &header.head);
        self.ring.header().head.turn.leave(&self.ticket);
        let header = self.ring.header();
        self.ring
            .leave(&header.consumers, self.slot, &header.producers);
    }
}
