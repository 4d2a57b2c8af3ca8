//! Rings: messages through shared memory, without a system call while both sides are awake.
//!
//! Which one:
//!
//! | ring | producers | consumers | carries |
//! |---|---|---|---|
//! | [`spsc`] | 1 | 1 | messages of 0 bytes to half of the capacity |
//! | [`mpsc`] | up to [`MAX_ENDS`] | 1 | the same |
//! | [`mpmc`] | up to [`MAX_ENDS`] | up to [`MAX_ENDS`] | the same; each goes to one consumer |
//! | [`broadcast`] | 1 | any number | the same; each consumer gets all, or learns how many it missed |
//! | [`items`] | 1 | 1 | plain values of one type: the fastest for small ones |
//! | [`bytes`] | 1 | 1 | a stream of bytes |
//!
//! ```
//! use core::time::Duration;
//! use linipc_core::map::{Access, Region};
//! use linipc_core::ring::{self, Error, Kind, Wait, spsc};
//!
//! // Twice the memory of one descriptor, as two processes would map it.
//! let fd = ring::create_memfd(c"example", Kind::Spsc, 4096)?;
//! let mut producer = spsc::Producer::attach(ring::map(&fd)?)?;
//! let mut consumer = spsc::Consumer::attach(ring::map(&fd)?)?;
//!
//! producer.try_push(b"hello")?;
//! let mut message = [0; 64];
//! let len = consumer.pop(&mut message, Wait::SPIN_THEN_SLEEP.timeout(Duration::from_secs(1)))?;
//! assert_eq!(message.get(..len), Some(&b"hello"[..]));
//!
//! drop(producer);
//! assert_eq!(consumer.try_pop(&mut message), Err(Error::Closed));
//! # Ok::<(), Box<dyn core::error::Error>>(())
//! ```
//!
//! # The mapping
//!
//! ```text
//!      0 +--------------------------------------------------------------------+
//!        | magic "linipc=r"  version u32  kind u32  capacity u64  item u64    |  written once
//!    128 +--------------------------------------------------------------------+
//!        | producers: position u64 @128, second position u64 @136, counters   |  by producers (mpmc:
//!        | u64 × 4 @144, turn @176 (holder, alone, busy, each u32)            |  the head by both)
//!    256 +--------------------------------------------------------------------+
//!        | consumers: the same @256, @264, @272, @304                         |  by consumers
//!    384 +--------------------------------------------------------------------+
//!        | producers' side: bell u32 @384, slots u64 × 32 @448, generations   |  by who sleeps,
//!        | u32 × 32 @704, unreached u32 @832                                  |  wakes, enters, leaves
//!    896 +--------------------------------------------------------------------+
//!        | consumers' side: the same @896, @960, @1216, @1344                 |
//!   1408 +--------------------------------------------------------------------+
//!        | data: capacity bytes, where records begin                          |  by producers
//!        +--------------------------------------------------------------------+
//!        | half of the capacity and 64 bytes, into which the last record runs |  by producers
//!        +--------------------------------------------------------------------+
//! ```
//!
//! Positions count bytes (of [`items`]: items) from the beginning of time; modulo the capacity they
//! are places. A record that begins before the end of the capacity runs on past it, so every message
//! is contiguous, and there is no padding at a wrap. The layout is the same on 32 and 64 bit; numbers
//! are in the machine's byte order. The rest of a record is in the page of each ring.
//!
//! # Waiting
//!
//! Every waiting call takes a [`Wait`]: spin, spin and then sleep, or sleep, each with a deadline or
//! without. `arm` prepares a handle for poll(2), epoll(7), io_uring or an async runtime: an eventfd
//! that both sides were given (`set_event`) is written once when there is something, and only if
//! somebody armed.
//!
//! # Death
//!
//! Either side may be killed at any instruction. What was committed stays and is drained; then waiting
//! calls fail with [`Error::PeerDead`], within 100 ms if asleep. Somebody else can attach in place
//! of the dead, and the ring goes on. Who leaves in order (drop) closes: the other side sees
//! [`Error::Closed`] after it has drained. A message that a consumer had read and not released when it
//! died is there again for the next one.
//!
//! A handle belongs to the process that attached it. After fork(2) only one of the two copies may
//! be used; the child's never leaves, and if the parent dies, the child is taken for dead with it.
//! Before execve(2) drop it: the new program has it no more, and is still the process that attached.
//!
//! # Trust
//!
//! What the other side writes is copied out, read once, and checked: a hostile peer can make calls
//! return [`Error::Corrupt`], or wait until their deadline, and nothing else. An eventfd that it
//! shares (`set_event`) is the exception: who makes it blocking and fills it stops whoever writes to it. The memory must stay
//! mapped under us: [`map()`] takes only memory that is sealed against shrinking. [`Trusted`]
//! memory also lends slices in place.
//!
//! # Limits
//!
//! Positions are 64 bits. A capacity is a power of two from 64 bytes to 2 GiB (on 32 bit 1 GiB).

use core::error;
use core::ffi::CStr;
use core::fmt;

use linux_raw_sys::general::TMPFS_MAGIC;
use rustix::io::Errno;

use crate::fd::{AsFd, OwnedFd};
use crate::map::{self, Access, Region};
use crate::memfd::{self, SealFlags};
use crate::shared::SharedBytes;
use crate::sync::{AtomicU32, AtomicU64, Cells, ENDS, Ordering, cells_of, header_of, layout};

pub use self::end::Peers;
pub use self::wait::Wait;

pub mod broadcast;
pub mod bytes;
pub(crate) mod end;
pub(crate) mod identity;
pub mod items;
pub mod mpmc;
pub mod mpsc;
pub(crate) mod record;
pub mod spsc;
pub(crate) mod turn;
mod wait;

use self::end::{Side, Slot};
use self::identity::me;
use self::turn::{Ticket, Turn};
use self::wait::Waiter;

/// The most producers, and the most consumers, of one ring.
pub const MAX_ENDS: usize = ENDS;

/// The smallest capacity.
pub const MIN_CAPACITY: u64 = 64;
/// The largest capacity: 2 GiB, or 1 GiB on 32 bit, where no more could be mapped.
pub const MAX_CAPACITY: u64 = 1 << if size_of::<usize>() == 4 { 30 } else { 31 };

const MAGIC: u64 = u64::from_ne_bytes(*b"linipc=r");
const VERSION: u32 = 1;

/// Where the data begins.
pub(crate) const DATA: usize = 1408;
/// What follows the data and its half.
pub(crate) const SLACK: u64 = 64;

/// The kinds of rings, as their number in the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// [`spsc`]
    Spsc = 1,
    /// [`mpsc`]
    Mpsc = 2,
    /// [`mpmc`]
    Mpmc = 3,
    /// [`broadcast`]
    Broadcast = 4,
    /// [`items`], and [`bytes`], whose item has 1 byte
    Items = 5,
}

/// A kind by its number, as a reader knows it.
struct KindName(u32);

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("spsc"),
            2 => f.write_str("mpsc"),
            3 => f.write_str("mpmc"),
            4 => f.write_str("broadcast"),
            5 => f.write_str("items"),
            number => write!(f, "number {number}"),
        }
    }
}

/// What a ring's memory begins with.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Header {
    /// [`MAGIC`], stored last.
    magic: AtomicU64,
    /// [`VERSION`]
    version: AtomicU32,
    /// A [`Kind`].
    kind: AtomicU32,
    /// The capacity: a power of two, in bytes (of [`items`]: in items).
    capacity: AtomicU64,
    /// The size of an item; 0 for messages.
    item: AtomicU64,
    /// Of the producers: the next position to write.
    pub(crate) tail: Progress,
    /// Of the consumers: the next position to read.
    pub(crate) head: Progress,
    pub(crate) producers: Side,
    pub(crate) consumers: Side,
}

/// How far a side is. Written by that side only; of mpmc, the head by both.
#[repr(C, align(128))]
#[derive(Debug)]
pub(crate) struct Progress {
    /// In bytes (of [`items`]: in items).
    pub(crate) position: AtomicU64,
    /// A second position; each ring says which.
    pub(crate) second: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost: AtomicU64,
    /// Whose turn it is to move the side, where several can: three words of 32 bits.
    pub(crate) turn: Turn,
}

layout! {
    Header: size 1408, align 128;
    Header { magic: 0, version: 8, kind: 12, capacity: 16, item: 24, tail: 128, head: 256, producers: 384, consumers: 896 }
    Progress { position: 0, second: 8, messages: 16, bytes: 24, refused: 32, lost: 40, turn: 48 }
}

/// What has gone through one side of a ring since it was made, over all processes.
///
/// A handle counts privately, and adds to what the others see when it waits, looks for room, is asked
/// or is dropped. What one counted after that is lost when it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Messages pushed or popped.
    pub messages: u64,
    /// Their bytes, without headers and padding.
    pub bytes: u64,
    /// Pushes for which there was no room.
    pub refused: u64,
    /// Messages that a dead peer left unfinished, or that were overwritten before they were read.
    pub lost: u64,
}

impl Progress {
    #[allow(dead_code, reason = "mappings are formatted; models make theirs")]
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            position: zero(),
            second: zero(),
            messages: zero(),
            bytes: zero(),
            refused: zero(),
            lost: zero(),
            turn: Turn::new(),
        }
    }

    fn counters(&self) -> Counters {
        // Relaxed: numbers for people, which order nothing.
        let get = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Counters {
            messages: get(&self.messages),
            bytes: get(&self.bytes),
            refused: get(&self.refused),
            lost: get(&self.lost),
        }
    }

    /// Adds what a handle has counted.
    fn add(&self, counted: Counters) {
        // Relaxed: numbers for people, which order nothing.
        let add = |number: &AtomicU64, n: u64| {
            if n > 0 {
                number.fetch_add(n, Ordering::Relaxed);
            }
        };
        add(&self.messages, counted.messages);
        add(&self.bytes, counted.bytes);
        add(&self.refused, counted.refused);
        add(&self.lost, counted.lost);
    }
}

impl Header {
    /// Nothing.
    #[allow(dead_code, reason = "mappings are formatted; models make theirs")]
    pub(crate) fn new() -> Self {
        Self {
            magic: AtomicU64::new(0),
            version: AtomicU32::new(0),
            kind: AtomicU32::new(0),
            capacity: AtomicU64::new(0),
            item: AtomicU64::new(0),
            tail: Progress::new(),
            head: Progress::new(),
            producers: Side::new(),
            consumers: Side::new(),
        }
    }
}

/// The bytes of memory that a ring needs.
///
/// # Errors
///
/// [`AttachError::Capacity`]: the capacity is not a power of two within the limits.
pub const fn len(capacity: u64) -> Result<usize, AttachError> {
    if !capacity.is_power_of_two() || capacity < MIN_CAPACITY || capacity > MAX_CAPACITY {
        return Err(AttachError::Capacity {
            nearest: nearest_power_of_two(capacity, MIN_CAPACITY, MAX_CAPACITY),
        });
    }
    Ok((DATA as u64 + capacity + capacity / 2 + SLACK) as usize)
}

/// The nearest to a number, from `min` to `max`, which are some.
const fn nearest_power_of_two(number: u64, min: u64, max: u64) -> u64 {
    if number <= min {
        return min;
    }
    if number >= max {
        return max;
    }
    let above = number.next_power_of_two();
    let below = above / 2;
    if number - below < above - number {
        below
    } else {
        above
    }
}

/// Makes a ring of messages in memory. Whoever attached to what was there before must be gone.
///
/// # Errors
///
/// - [`AttachError::Capacity`]: not a power of two within the limits.
/// - [`AttachError::TooSmall`], [`AttachError::Unaligned`], [`AttachError::ReadOnly`]: not the memory
///   for it.
/// - [`AttachError::Kind`]: of [`Kind::Items`], which [`items::create`] makes.
pub fn create(memory: impl Memory, kind: Kind, capacity: u64) -> Result<(), AttachError> {
    len_of_messages(kind, capacity)?;
    format(&memory, kind, capacity, 0, capacity)
}

fn len_of_messages(kind: Kind, capacity: u64) -> Result<usize, AttachError> {
    if kind == Kind::Items {
        return Err(AttachError::Kind {
            found: kind as u32,
            expected: Kind::Spsc as u32,
        });
    }
    len(capacity)
}

/// Writes the header. `size` is the capacity in bytes, a power of two.
fn format(
    memory: &impl Memory,
    kind: Kind,
    capacity: u64,
    item: u64,
    size: u64,
) -> Result<(), AttachError> {
    let header = header_of(memory)?;
    let cells = cells_of(memory, size)?;
    // SAFETY: `header_of` checked that a header fits, and it is reached by atomics only.
    let header = unsafe { header.as_ref() };
    // Relaxed: (M1) publishes them.
    header.magic.store(0, Ordering::Relaxed);
    for progress in [&header.tail, &header.head] {
        for number in [
            &progress.position,
            &progress.second,
            &progress.messages,
            &progress.bytes,
            &progress.refused,
            &progress.lost,
        ] {
            number.store(0, Ordering::Relaxed);
        }
        progress.turn.clear();
    }
    header.producers.clear();
    header.consumers.clear();
    cells.word(0).store(0, Ordering::Relaxed);
    describe(header, kind, capacity, item);
    Ok(())
}

/// Says in a header of zeros what the ring is.
fn describe(header: &Header, kind: Kind, capacity: u64, item: u64) {
    // Relaxed: (M1) publishes them.
    header.version.store(VERSION, Ordering::Relaxed);
    header.kind.store(kind as u32, Ordering::Relaxed);
    header.capacity.store(capacity, Ordering::Relaxed);
    header.item.store(item, Ordering::Relaxed);
    // (M1) Who sees the magic sees the rest.
    header.magic.store(MAGIC, Ordering::Release);
}

/// A memfd with a ring of messages in it, sealed so that its length stays.
///
/// # Errors
///
/// - [`AttachError::Capacity`], [`AttachError::Kind`]: as of [`create`].
/// - [`AttachError::System`]: `NOSPC`, `MFILE` and what else [`memfd::create`] and
///   [`map::reserve`] say.
pub fn create_memfd(name: &CStr, kind: Kind, capacity: u64) -> Result<OwnedFd, AttachError> {
    sealed_memfd(name, len_of_messages(kind, capacity)?, kind, capacity, 0)
}

/// A memfd of zeros but for the header of a ring, sealed.
fn sealed_memfd(
    name: &CStr,
    len: usize,
    kind: Kind,
    capacity: u64,
    item: u64,
) -> Result<OwnedFd, AttachError> {
    let fd = memfd::create(name, memfd::Flags::empty())?;
    map::reserve(&fd, len as u64)?;
    memfd::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    let memory = map(&fd)?;
    // SAFETY: `header_of` checks that a header fits into `memory`, which outlives this reference, and it is
    // reached by atomics only.
    let header = unsafe { header_of(&memory)?.as_ref() };
    describe(header, kind, capacity, item);
    Ok(fd)
}

/// Maps the memfd of a ring, whoever made it: all of it, if its length is sealed.
///
/// # Errors
///
/// - [`AttachError::Unsealed`]: somebody could cut it off under the mapping, which would kill us with
///   `SIGBUS`. Also of memory of huge pages, which no seal keeps.
/// - [`AttachError::System`]: what mmap(2) says; `ACCESS` of a descriptor that is not open for
///   reading and writing.
pub fn map(fd: impl AsFd) -> Result<Region, AttachError> {
    let seals = match memfd::fcntl_get_seals(&fd) {
        Err(Errno::INVAL) => SealFlags::empty(),
        seals => seals?,
    };
    // Of huge pages a hole may find no page to be filled with again, whatever the seals say.
    let fs = rustix::fs::fstatfs(&fd)?;
    let is_tmpfs = fs.f_type as u32 == TMPFS_MAGIC;
    if !seals.contains(SealFlags::SHRINK) || !is_tmpfs {
        return Err(AttachError::Unsealed);
    }
    let len = rustix::fs::fstat(&fd)?.st_size;
    let len = usize::try_from(len).map_err(|_| Errno::NOMEM)?;
    if len == 0 {
        return Err(AttachError::TooSmall { needed: DATA });
    }
    Ok(Region::shared(fd, 0, len, Access::READ | Access::WRITE)?)
}

/// Memory that a handle keeps for as long as it lives: a mapping, or a view of one.
///
/// # Safety
///
/// [`Memory::bytes`] gives the same bytes at each call, also after the value has moved; they stay mapped
/// until it is dropped.
pub unsafe trait Memory {
    /// The bytes.
    fn bytes(&self) -> SharedBytes<'_>;
}

/// A ring's memory, checked: the part of a handle that is the same for all.
#[derive(Debug)]
pub(crate) struct Ring<M> {
    pub(crate) cells: Cells,
    /// In bytes (of [`items`]: in items).
    pub(crate) capacity: u64,
    /// The length of the longest message.
    pub(crate) max: u64,
    pub(crate) waiter: Waiter,
    /// What this handle has done, and not yet added to its side.
    pub(crate) counted: Counters,
    /// Keeps what the two point to.
    _memory: M,
}

// SAFETY: The pointers lead to memory that only atomics and racing copies touch, and that the owner
// of the memory keeps wherever it is.
unsafe impl<M: Send> Send for Ring<M> {}
// SAFETY: As for `Send`; what a shared reference permits is atomic.
unsafe impl<M: Sync> Sync for Ring<M> {}

/// The [`Kind`] that a ring says it is of: nothing is checked yet.
pub(crate) fn kind_of(memory: &impl Memory) -> Result<u32, AttachError> {
    let header = header_of(memory)?;
    // SAFETY: `header_of` checked that a header fits, and it is reached by atomics only.
    let header = unsafe { header.as_ref() };
    // Relaxed: [`Ring::open`] reads and checks it again.
    Ok(header.kind.load(Ordering::Relaxed))
}

impl<M: Memory> Ring<M> {
    /// Checks that there is a ring of this kind.
    pub(crate) fn open(memory: M, kind: Kind, item: u64) -> Result<Self, AttachError> {
        let header = header_of(&memory)?;
        // SAFETY: `header_of` checked that a header fits, and it is reached by atomics only.
        let header = unsafe { header.as_ref() };
        // (M2)
        if header.magic.load(Ordering::Acquire) != MAGIC {
            return Err(AttachError::NotARing);
        }
        // Relaxed: (M2) orders them. Each is read once, and the copy is checked.
        let version = header.version.load(Ordering::Relaxed);
        if version != VERSION {
            return Err(AttachError::Version {
                found: version,
                expected: VERSION,
            });
        }
        let found = header.kind.load(Ordering::Relaxed);
        if found != kind as u32 {
            return Err(AttachError::Kind {
                found,
                expected: kind as u32,
            });
        }
        let found = header.item.load(Ordering::Relaxed);
        if found != item {
            return Err(AttachError::ItemSize {
                found,
                expected: item,
            });
        }
        let capacity = header.capacity.load(Ordering::Relaxed);
        let size = match kind {
            Kind::Items => items::size(capacity, item).ok_or(AttachError::Corrupt)?,
            _ => capacity,
        };
        let cells = cells_of(&memory, size).map_err(|error| match error {
            AttachError::Capacity { .. } => AttachError::Corrupt,
            error => error,
        })?;
        Ok(Self {
            cells,
            capacity,
            max: capacity / 2,
            waiter: Waiter::new(),
            counted: Counters::default(),
            _memory: memory,
        })
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        self.cells.header()
    }

    /// The length of the longest message.
    #[inline(always)]
    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Takes a slot of the first of two sides, and wakes the second one, which may wait for that.
    pub(crate) fn enter(
        &self,
        of: fn(&Header) -> (&Side, &Side),
        limit: usize,
    ) -> Result<Slot, AttachError> {
        let (here, there) = of(self.header());
        let slot = here.enter(limit, me()?)?;
        // (R1) is (E3).
        self.waiter.ring(there);
        Ok(slot)
    }

    /// The same of a side that takes turns: refused beside one who is alone and cannot be told so.
    pub(crate) fn enter_in_turns(
        &self,
        of: fn(&Header) -> (&Side, &Side),
        turn: fn(&Header) -> &Turn,
    ) -> Result<(Slot, Ticket), AttachError> {
        let (here, there) = of(self.header());
        let turn = turn(self.header());
        if turn.is_barred(here) {
            return Err(Errno::NOSYS.into());
        }
        let slot = self.enter(of, ENDS)?;
        match turn.enter(slot.holder(), here) {
            Ok(ticket) => Ok((slot, ticket)),
            Err(errno) => {
                self.leave(here, slot, there);
                Err(errno.into())
            }
        }
    }

    /// The side's counters, with what this handle has done.
    pub(crate) fn counters(&mut self, of: fn(&Header) -> &Progress) -> Counters {
        self.add_counted(of);
        of(self.header()).counters()
    }

    /// Shows the others what this handle has done.
    pub(crate) fn add_counted(&mut self, of: fn(&Header) -> &Progress) {
        let counted = core::mem::take(&mut self.counted);
        of(self.header()).add(counted);
    }

    /// Leaves a side, if we were not taken for dead meanwhile, and wakes the other one, which sees it.
    pub(crate) fn leave(&self, here: &Side, slot: Slot, there: &Side) {
        if here.leave(slot) {
            // (R1) is (E1).
            self.waiter.ring(there);
        }
    }
}

/// Memory whose other users are trusted to keep to the rules of the ring, so that messages may be
/// lent in place.
#[derive(Debug)]
pub struct Trusted<M>(M);

impl<M: Memory> Trusted<M> {
    /// Trusts the others.
    ///
    /// # Safety
    ///
    /// All processes that map the memory access it through this crate's rings only, or in the same way;
    /// none writes to a message after it was committed and before it was released.
    pub const unsafe fn new(memory: M) -> Self {
        Self(memory)
    }
}

// SAFETY: The bytes are the inner memory's.
unsafe impl<M: Memory> Memory for Trusted<M> {
    #[inline]
    fn bytes(&self) -> SharedBytes<'_> {
        self.0.bytes()
    }
}

/// Memory that is [`Trusted`].
pub trait Trust: Memory + sealed::Trust {}

impl<M: Memory> Trust for Trusted<M> {}

mod sealed {
    pub trait Trust {}
    impl<M> Trust for super::Trusted<M> {}
}

/// Why a call on a ring did not do what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// There is no room now.
    Full,
    /// There is no message now.
    Empty,
    /// The message is longer than any that fits.
    TooLong {
        /// The length of the longest message.
        max: usize,
    },
    /// The buffer is shorter than the message, or of a typed call: not as long. The message stays.
    BufferLen {
        /// The message's length.
        message: usize,
    },
    /// A broadcast overtook this consumer, which now stands at one of the newest messages.
    Missed {
        /// How many messages were overwritten unread.
        messages: u64,
    },
    /// The other side left in order, and what it had committed is drained.
    Closed,
    /// The other side died, and what it had committed is drained.
    PeerDead,
    /// The deadline has passed.
    TimedOut,
    /// Another producer or consumer is in the middle of a claim, for longer than a try may wait.
    Busy,
    /// The memory says what no peer that keeps to the rules would have written.
    Corrupt,
    /// The kernel refused; `INTR`: a signal was caught during a sleep.
    System(Errno),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the ring is full"),
            Self::Empty => f.write_str("the ring is empty"),
            Self::TooLong { max } => write!(f, "the message is longer than {max} bytes"),
            Self::BufferLen { message } => {
                write!(f, "the buffer is not for a message of {message} bytes")
            }
            Self::Missed { messages } => write!(f, "{messages} messages were overwritten unread"),
            Self::Closed => f.write_str("the other side has closed the ring"),
            Self::PeerDead => f.write_str("the other side has died"),
            Self::TimedOut => f.write_str("the deadline has passed"),
            Self::Busy => f.write_str("another process is in the middle of a claim"),
            Self::Corrupt => f.write_str("the ring is corrupt"),
            Self::System(errno) => errno.fmt(f),
        }
    }
}

impl error::Error for Error {}

/// Why memory is not the ring that was expected, or cannot be made one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachError {
    /// The memory is too short for the ring that is, or shall be, in it.
    TooSmall {
        /// The bytes that it needs.
        needed: usize,
    },
    /// The memory's address is not a multiple of 128.
    Unaligned,
    /// The memory is not mapped for reading and writing.
    ReadOnly,
    /// The memfd is not sealed against shrinking.
    Unsealed,
    /// No ring has this capacity.
    Capacity {
        /// The nearest that one can have.
        nearest: u64,
    },
    /// There is no ring in this memory, or not yet.
    NotARing,
    /// The ring was made by another version of this crate.
    Version {
        /// The ring's.
        found: u32,
        /// This crate's.
        expected: u32,
    },
    /// A ring of another [`Kind`].
    Kind {
        /// The ring's.
        found: u32,
        /// The expected one.
        expected: u32,
    },
    /// Items of another size.
    ItemSize {
        /// The ring's.
        found: u64,
        /// The expected one.
        expected: u64,
    },
    /// Everybody whom the side has room for is attached, and alive.
    InUse {
        /// The process id of one of them, in its PID namespace.
        pid: u32,
    },
    /// The memory says what no peer that keeps to the rules would have written.
    Corrupt,
    /// The kernel refused.
    System(Errno),
}

impl From<Errno> for AttachError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooSmall { needed } => write!(f, "the ring needs {needed} bytes of memory"),
            Self::Unaligned => f.write_str("the memory is not aligned to 128 bytes"),
            Self::ReadOnly => f.write_str("the memory is not mapped for reading and writing"),
            Self::Unsealed => f.write_str("the memory is not sealed against shrinking"),
            Self::Capacity { nearest } => write!(
                f,
                "a capacity is a power of two, and within the limits: the nearest is {nearest}"
            ),
            Self::NotARing => f.write_str("there is no ring in this memory"),
            Self::Version { found, expected } => {
                write!(f, "the ring has version {found}, and not {expected}")
            }
            Self::Kind { found, expected } => {
                let (found, expected) = (KindName(*found), KindName(*expected));
                write!(f, "the ring is of kind {found}, and not {expected}")
            }
            Self::ItemSize { found, expected } => {
                write!(f, "the ring's items have {found} bytes, and not {expected}")
            }
            Self::InUse { pid } => write!(f, "process {pid} is attached, and alive"),
            Self::Corrupt => f.write_str("the ring is corrupt"),
            Self::System(errno) => errno.fmt(f),
        }
    }
}

impl error::Error for AttachError {}

// SAFETY: A view is an address, which stays when the view moves.
unsafe impl Memory for SharedBytes<'_> {
    #[inline]
    fn bytes(&self) -> SharedBytes<'_> {
        *self
    }
}

// SAFETY: A mapping stays where it is when its owner moves.
unsafe impl Memory for Region {
    #[inline]
    fn bytes(&self) -> SharedBytes<'_> {
        self.bytes()
    }
}
