//! Random operations on each ring, between two processes, against a queue: ten million of `spsc`, a
//! million of each of the others.
//!
//! One process has up to three producers, the other one up to three consumers. Now and then, also in the
//! midst of a claim or a batch, the first has the second do something. Both write down each call with its
//! answer, and the model in the first one judges all of them in their order ([`ring_model`]).
//!
//! A failure prints the seed; `LINIPC_SEED=… cargo test --test ring_differential` does the same again.

mod ring_model;
mod support;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use linipc_core::map::{Access, Region};
use linipc_core::ring::{self, items};
use ring_model::{Broadcast, Draw, Event, Handles, Items, Model, Mpmc, Mpsc, Ring, Spsc, Value};
use support::{PATIENCE, SLOWNESS, peer};

/// Numbers without a pattern (xorshift64*).
#[derive(Clone)]
struct Random(u64);

impl Draw for Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as usize % bound
    }
}

/// Whose turn it is.
struct Turn(Region);

impl Turn {
    fn word(&self) -> &AtomicU32 {
        self.0.bytes().atomic_u32(0).unwrap()
    }

    fn expect(&self, turn: u32) {
        let is_it = || self.word().load(Ordering::Acquire) == turn;
        for _ in 0..200 {
            if is_it() {
                return;
            }
            std::hint::spin_loop();
        }
        let end = Instant::now() + PATIENCE;
        while !is_it() {
            assert!(Instant::now() < end, "the peer is gone");
            std::thread::yield_now();
        }
    }

    fn give(&self, turn: u32) {
        self.word().store(turn, Ordering::Release);
    }
}

fn seed() -> u64 {
    let seed = match std::env::var("LINIPC_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
    };
    println!("LINIPC_SEED={seed}");
    seed
}

/// Where the process with the consumers finds what it is asked, and writes what its handles said.
struct Desk {
    turn: Turn,
    memory: Region,
}

/// A seed, the number of events, and the events.
#[repr(C)]
struct Sheet {
    seed: u64,
    count: usize,
    events: [Event; 10_000],
}

const STOP: u64 = 0;
const MINE: u32 = 1;
const THEIRS: u32 = 2;

impl Desk {
    fn new() -> Self {
        let anonymous = |len| Region::anonymous(len, Access::READ | Access::WRITE).unwrap();
        Self {
            turn: Turn(anonymous(4096)),
            memory: anonymous(size_of::<Sheet>()),
        }
    }

    fn sheet(&self) -> *mut Sheet {
        self.memory.as_ptr().cast()
    }

    /// Has the other process do something, and adds what was said to the log.
    fn ask(&self, seed: u64, log: &mut Vec<Event>) {
        // SAFETY: The sheet is mapped, and ours until the turn is given.
        unsafe { (*self.sheet()).seed = seed };
        self.turn.give(THEIRS);
        if seed == STOP {
            return;
        }
        self.turn.expect(MINE);
        // SAFETY: The sheet is ours again; the other process has written the number.
        let count = unsafe { (*self.sheet()).count };
        for i in 0..count {
            // SAFETY: The same program, forked, has written so many events; they have no pointers.
            log.push(unsafe { (*self.sheet()).events[i] });
        }
    }

    /// Does what it is asked, until it is told to stop.
    fn answer<R: Ring>(&self, handles: &mut Handles<'_, R>) {
        loop {
            self.turn.expect(THEIRS);
            // SAFETY: The sheet is ours until the turn is given back.
            let seed = unsafe { (*self.sheet()).seed };
            if seed == STOP {
                return;
            }
            let mut random = Random(seed);
            for _ in 0..=random.below(16) {
                handles.act(&mut random);
            }
            let mut count = 0;
            for event in handles.take_log() {
                // SAFETY: The sheet is ours, and the index is checked.
                unsafe { (*self.sheet()).events[count] = event };
                count += 1;
            }
            // SAFETY: The sheet is ours.
            unsafe { (*self.sheet()).count = count };
            self.turn.give(MINE);
        }
    }
}

/// Has two processes do `events` things and more with a ring, and judges what they said.
fn compare<R: Ring>(fd: &OwnedFd, capacity: u64, events: u64) {
    let events = events / SLOWNESS.pow(2) as u64;
    let mut random = Random(seed());
    let memory = ring::map(fd).unwrap();
    let desk = Desk::new();
    let other = peer(|| {
        let memory = ring::map(fd).unwrap();
        desk.answer(&mut Handles::<R>::consumers(memory.bytes()));
    });
    let ask = |seed, log: &mut Vec<Event>| desk.ask(seed, log);
    let mut handles = Handles::<R>::producers(memory.bytes(), &ask);
    let mut model = Model::of::<R>(capacity);
    let mut judged = 0;
    while judged < events {
        handles.act(&mut random);
        for event in handles.take_log() {
            model.judge(event);
            judged += 1;
        }
    }
    desk.ask(STOP, &mut Vec::new());
    other.join();
    drop(handles);
    let [pushed, popped] = ring_model::counters::<R>(memory.bytes());
    assert_eq!(pushed, model.pushed);
    assert_eq!(popped, model.popped);
    let messages = popped.messages;
    assert!(
        messages > events / 20,
        "hardly anything was popped: {messages}"
    );
}

fn compare_messages<R: Ring>(capacity: u64, events: u64) {
    let fd = ring::create_memfd(c"test", R::KIND, capacity).unwrap();
    compare::<R>(&fd, capacity, events);
}

#[test]
fn spsc_is_a_queue() {
    isolated!(|| compare_messages::<Spsc>(256, 10_000_000));
}

#[test]
fn mpsc_is_a_queue_with_claims() {
    isolated!(|| compare_messages::<Mpsc>(256, 1_000_000));
}

#[test]
fn mpmc_is_a_queue_that_is_shared_out() {
    isolated!(|| compare_messages::<Mpmc>(256, 1_000_000));
}

#[test]
fn broadcast_gives_all_or_says_how_many_are_missing() {
    isolated!(|| compare_messages::<Broadcast>(256, 1_000_000));
}

#[test]
fn items_are_a_queue() {
    isolated!(|| {
        let fd = items::create_memfd::<Value>(c"test", 8).unwrap();
        compare::<Items>(&fd, 8, 1_000_000);
    });
}
