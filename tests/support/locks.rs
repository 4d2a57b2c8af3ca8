//! What the tests of locks in shared memory have in common: the memory, those who hold and those who
//! sleep, and kills, of one after another at random and at every step of an operation.

#![allow(dead_code, reason = "each test file uses its part")]

#[path = "step.rs"]
pub mod step;

use std::array;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use linipc_core::futex::{Clock, Deadline};
use linipc_core::map::{Access, Region};
use linipc_core::pshared::mutex::{Guard, Inconsistent, LockError};
use linipc_core::pshared::{Error, Process};
use linipc_core::robust::Thread;

use self::step::Stage;
use crate::support::{PATIENCE, Peer, count, eventually, peer, until_asleep};

/// Memory for a lock, and for what it guards.
pub fn memory() -> Region {
    Region::anonymous(8192, Access::READ | Access::WRITE).unwrap()
}

/// A word of the memory.
pub fn word(memory: &Region, at: usize) -> &AtomicU32 {
    memory.bytes().atomic_u32(at).unwrap()
}

pub fn this_process() -> Process {
    Process::current().unwrap()
}

pub fn this_thread() -> Thread {
    Thread::current().unwrap()
}

/// Why a mutex is not locked.
pub fn failed<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Error {
    match result {
        Err(LockError::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A mutex whose last owner died.
pub fn inconsistent<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Inconsistent<'a> {
    match result {
        Err(LockError::OwnerDied(guard)) => guard,
        other => panic!("{other:?}"),
    }
}

/// A mutex whose last owner may have died.
pub fn healthy<'a>(result: Result<Guard<'a>, LockError<'a>>) -> Guard<'a> {
    match result {
        Ok(guard) => guard,
        Err(LockError::OwnerDied(guard)) => guard.mark_consistent(),
        Err(failed) => panic!("{failed}"),
    }
}

/// For what is not to be had.
pub fn soon() -> Deadline {
    Deadline::after(Clock::Monotonic, Duration::from_millis(20))
}

/// For what must come: it hangs if it does not.
pub fn patiently() -> Deadline {
    Deadline::after(Clock::Realtime, PATIENCE)
}

/// A process that has what `lock` gives, and does nothing.
pub fn holder<T>(lock: impl FnOnce() -> T) -> Peer {
    let memory = memory();
    let ready = word(&memory, 0);
    let holder = peer(|| {
        let _guard = lock();
        ready.store(1, Relaxed);
        loop {
            std::thread::park();
        }
    });
    eventually("the peer has it", || ready.load(Relaxed) == 1);
    holder
}

/// A process that does something when what it waits for, asleep, is there.
pub fn sleeper(body: impl FnOnce()) -> Peer {
    let sleeper = peer(body);
    until_asleep(sleeper.pid());
    sleeper
}

/// Numbers that look random, the same each time.
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(1)
    }

    pub fn next(&mut self) -> u64 {
        // Of Knuth's MMIX.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 8) % end
    }
}

/// Calls what must not hang while another process writes, again and again, what it likes.
pub fn scribbled(mut scribble: impl FnMut(), calls: usize, mut call: impl FnMut()) {
    let scribbler = peer(|| {
        loop {
            scribble();
        }
    });
    patient(calls, &mut call);
    scribbler.kill();
}

/// Calls it so often; that takes too long only if a call hangs, or does not heed its deadline.
pub fn patient(calls: usize, mut call: impl FnMut()) {
    let begin = Instant::now();
    for done in 0..calls {
        call();
        assert!(begin.elapsed() < PATIENCE, "{done} calls of {calls}");
    }
}

/// `N` processes at work with each of so many locks. In each round one of each is killed, at a random
/// moment, and another one takes its place; what `before` and `after` do is around that. When the rounds
/// are over it goes on until `after` says that the kills have shown enough.
pub fn killed_at_random<const N: usize>(
    locks: usize,
    rounds: usize,
    work: impl Fn(usize, u64),
    mut before: impl FnMut(usize),
    mut after: impl FnMut(usize) -> bool,
) {
    let begin = Instant::now();
    let mut random = Random::new();
    let start = |lock, seed| peer(|| work(lock, seed));
    let mut workers: Vec<[Peer; N]> = (0..locks)
        .map(|lock| array::from_fn(|seed| start(lock, seed as u64)))
        .collect();
    let mut done = 0;
    for round in 0.. {
        before(round);
        for _ in 0..random.below(5_000) {
            std::hint::spin_loop();
        }
        for (lock, workers) in workers.iter_mut().enumerate() {
            // The successor comes when that one is at work, or dies just now, or is dead.
            let successor = start(lock, random.next());
            std::mem::replace(&mut workers[round % N], successor).kill();
        }
        let is_enough = after(round);
        done = round + 1;
        if done >= rounds && is_enough {
            break;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "{done} rounds of {rounds}, {is_enough}"
        );
    }
    workers.into_iter().flatten().for_each(Peer::kill);
    count(&format!("{} kills at random", done * locks));
}

/// Kills a process at every step of what it does with a lock, from when it says that it begins; in each
/// of the memories at the same time, since death may be noticed late. `others` begin when it is stopped at
/// its first step; `after` its death, all must be well.
pub fn killed_at_every_step<'a, L: Copy, T>(
    memories: &'a [Region],
    make: impl Fn(&'a Region) -> L,
    dies: impl Fn(L, &dyn Fn()),
    others: impl Fn(L, &Peer) -> T,
    mut after: impl FnMut(L, T),
) {
    let begin = |memory: &'a Region| {
        let (lock, stage) = (make(memory), Stage::new());
        let victim = peer(|| {
            dies(lock, &|| stage.begin());
            stage.end();
        });
        stage.expect_begin(&victim);
        let others = others(lock, &victim);
        (lock, stage, victim, others)
    };
    let (lock, stage, victim, there) = begin(&memories[0]);
    let plan = stage.plan(&memories[0], &victim);
    victim.kill();
    after(lock, there);
    for steps in plan.chunks(memories.len()) {
        let scenes: Vec<_> = steps
            .iter()
            .zip(memories)
            .map(|(steps, memory)| {
                let (lock, stage, victim, there) = begin(memory);
                stage.steps(&victim, *steps);
                victim.kill();
                (lock, there)
            })
            .collect();
        for (lock, there) in scenes {
            after(lock, there);
        }
    }
    let last = plan.last().copied().unwrap_or_default();
    count(&format!("killed at {} of {last} steps", plan.len()));
}

/// Memories for [`killed_at_every_step`].
pub fn memories() -> [Region; 16] {
    array::from_fn(|_| memory())
}

/// Waits until the one that is stepped sleeps in what it does, or is dead.
pub fn until_asleep_or_dead(stepped: i32) {
    eventually("it sleeps or is dead", || {
        std::fs::read_to_string(format!("/proc/{stepped}/stat"))
            .map_or(true, |stat| stat.contains(") S") || stat.contains(") Z"))
    });
}

/// Two who come when the one that is stepped sleeps, or is dead: the next one, and when that sleeps too,
/// behind it, the last one, who does what they wait for.
pub fn behind(stepped: &Peer, next: impl FnOnce(), last: impl FnOnce()) -> [Peer; 2] {
    let stepped = stepped.pid();
    let memory = memory();
    let comes = word(&memory, 0);
    let next = peer(|| {
        until_asleep_or_dead(stepped);
        comes.store(1, Relaxed);
        next();
    });
    let last = peer(|| {
        eventually("the next one comes", || comes.load(Relaxed) == 1);
        until_asleep(next.pid());
        last();
    });
    [next, last]
}
