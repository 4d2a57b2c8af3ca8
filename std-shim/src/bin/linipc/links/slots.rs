//! A few slots in shared memory each way, filled and emptied in turn.
//!
//! ```text
//! 0         128       256       384            4096
//! +---------+---------+---------+---------+-----+----------------------+----------------------+
//! | full    | empty   | full    | empty   |     | slots to the         | slots to the         |
//! | there   | there   | back    | back    |     | receiver             | sender               |
//! +---------+---------+---------+---------+-----+----------------------+----------------------+
//! ```
//!
//! Each way has two semaphores: one counts the slots that are full, one those that are empty. The
//! semaphores order the accesses to the slots, so the copies need no atomics.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering, fence};
use std::{hint, io};

use linipc::core::shared::SharedBytes;
use linipc::futex::{self, Futex};

use super::{Link, Side};

const SLOTS: u32 = 4;
const SLOT: usize = 1 << 17;
const HEADER: usize = 4096;
const WAY: usize = SLOTS as usize * SLOT;

/// The length of the memory.
pub(crate) const LEN: usize = HEADER + 2 * WAY;

/// How many semaphores there are, and their first values.
pub(crate) const INITIAL: [u32; 4] = [0, SLOTS, 0, SLOTS];

/// The place of a semaphore that lives in the memory: no two share a cache line, nor the one that
/// is fetched with it.
pub(crate) const fn place(index: usize) -> usize {
    index * 128
}

/// Shared memory of any kind.
pub(crate) trait Memory: Debug {
    /// All of it.
    fn bytes(&self) -> SharedBytes<'_>;
}

/// A counting semaphore, used by one process to post and by one to wait.
pub(crate) trait Semaphore: Debug {
    /// Waits until the count is not 0, and takes one.
    fn wait(&mut self, memory: SharedBytes<'_>) -> io::Result<()>;

    /// Adds one.
    fn post(&mut self, memory: SharedBytes<'_>) -> io::Result<()>;
}

/// The link.
#[derive(Debug)]
pub(crate) struct Slots<M, S> {
    memory: M,
    out: Way<S>,
    back: Way<S>,
}

/// The slots of one way.
#[derive(Debug)]
struct Way<S> {
    start: usize,
    next: usize,
    full: S,
    empty: S,
}

impl<M: Memory, S: Semaphore> Slots<M, S> {
    /// One end, with the four semaphores in the order of the picture.
    pub(crate) fn new(side: Side, memory: M, semaphores: [S; 4]) -> Self {
        let [full_there, empty_there, full_back, empty_back] = semaphores;
        let way = |start, full, empty| Way {
            start,
            next: 0,
            full,
            empty,
        };
        let there = way(HEADER, full_there, empty_there);
        let back = way(HEADER + WAY, full_back, empty_back);
        let [out, back] = side.order([there, back]);
        Self { memory, out, back }
    }
}

impl<S> Way<S> {
    /// The place of the next slot.
    fn advance(&mut self) -> usize {
        let slot = self.next;
        self.next = (self.next + 1) % SLOTS as usize;
        self.start + slot * SLOT
    }
}

impl<M: Memory, S: Semaphore> Link for Slots<M, S> {
    fn max_message(&self) -> usize {
        SLOT
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let memory = self.memory.bytes();
        self.out.empty.wait(memory)?;
        memory.write(self.out.advance(), message)?;
        self.out.full.post(memory)
    }

    fn receive(&mut self, message: &mut [u8]) -> io::Result<()> {
        let memory = self.memory.bytes();
        self.back.full.wait(memory)?;
        memory.read(self.back.advance(), message)?;
        self.back.empty.post(memory)
    }
}

/// How often to look before sleeping: for longer than it takes to wake a sleeper on another CPU,
/// about 40 µs, so that one sleep does not bring on the next.
const SPINS: u32 = 4000;
/// Looking in vain halves the number of looks, since the poster may need this very CPU. One wait
/// of so many has them all again.
const RETRY: u32 = 256;

/// A semaphore made of two words, without a system call unless somebody sleeps.
///
/// The word `posted` counts the posts, and only the poster writes it; the word `asleep` is 1 while
/// the waiter may sleep, and only the waiter writes it. Either side remembers its own count.
///
/// | release | acquire | publishes |
/// |---|---|---|
/// | (P) `post` stores `posted` | (W) `wait` loads it | what was done to the slot before |
///
/// No post is slept through, since each side has a fence between its store and its load of the
/// other's word:
///
/// | waiter | poster |
/// |---|---|
/// | stores 1 in `asleep` | (P) stores `posted` |
/// | fence (F) | fence (G) |
/// | (W) loads `posted`, and sleeps if it is the old one | loads `asleep`, and wakes if it is 1 |
///
/// The fences have an order. If (F) is first, what comes after (G) sees the 1; if (G) is first, what
/// comes after (F) sees the post. So it is never that one sleeps and the other does not wake.
#[derive(Debug)]
pub(crate) struct Words {
    at: usize,
    posted: u32,
    taken: u32,
    /// How often to look now.
    spins: u32,
}

impl Words {
    /// The four of a link, in memory that was all zero at first.
    pub(crate) fn four() -> [Self; 4] {
        std::array::from_fn(|index| Self {
            at: place(index),
            posted: 0,
            // As many are left to take as there are at first.
            taken: 0_u32.wrapping_sub(INITIAL[index]),
            spins: SPINS,
        })
    }

    /// Whether there is something to take within the looks that this wait has.
    fn spin(&mut self, posted: &AtomicU32) -> bool {
        if self.taken.is_multiple_of(RETRY) {
            self.spins = SPINS;
        }
        for _ in 0..=self.spins {
            // (W)
            if posted.load(Ordering::Acquire) != self.taken {
                self.spins = SPINS;
                return true;
            }
            hint::spin_loop();
        }
        self.spins /= 2;
        false
    }
}

impl Semaphore for Words {
    fn wait(&mut self, memory: SharedBytes<'_>) -> io::Result<()> {
        let posted = memory.atomic_u32(self.at)?;
        if !self.spin(posted) {
            let asleep = memory.atomic_u32(self.at + 4)?;
            // Relaxed: (F) orders it before (W).
            asleep.store(1, Ordering::Relaxed);
            // (F) If it comes before (G), the poster sees the 1 and wakes us; else (W) sees the post.
            fence(Ordering::SeqCst);
            // (W) A post after it is no reason to sleep: the kernel looks at the word again.
            while posted.load(Ordering::Acquire) == self.taken {
                futex::wait(Futex::shared(posted), self.taken)?;
            }
            // Relaxed: who still sees 1 only wakes nobody.
            asleep.store(0, Ordering::Relaxed);
        }
        self.taken = self.taken.wrapping_add(1);
        Ok(())
    }

    fn post(&mut self, memory: SharedBytes<'_>) -> io::Result<()> {
        let posted = memory.atomic_u32(self.at)?;
        self.posted = self.posted.wrapping_add(1);
        // (P)
        posted.store(self.posted, Ordering::Release);
        // (G) If it comes before (F), the waiter's (W) sees the post; else we see the 1 and wake.
        fence(Ordering::SeqCst);
        // Relaxed: (G) orders it after (P).
        if memory.atomic_u32(self.at + 4)?.load(Ordering::Relaxed) != 0 {
            Futex::shared(posted).wake(1)?;
        }
        Ok(())
    }
}
