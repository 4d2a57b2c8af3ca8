//! `kill -9` at every instruction of a push and of a pop, and at random ones.
//!
//! A child is stopped right before the operation, stepped through `n` instructions of it, and
//! killed there; then we look at what it left, for every `n` until the operation is done. Where it
//! has too many instructions for that, some are left out, but never around one that changed the ring's
//! memory: between two of those a death leaves the same. Which they are is found by stepping through
//! the operation once and comparing the memory after each.

#[path = "support/step.rs"]
mod step;
mod support;

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use linipc_core::map::{Access, Region};
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Peers, Wait};
use step::Stage;
use support::{PATIENCE, Peer, SLOWNESS, eventually, peer, until_asleep};

const CAPACITY: u64 = 256;
/// Where the identities are, which differ from run to run.
const SLOTS: [Range<usize>; 2] = [448..832, 960..1344];
/// How many sleepers of earlier rounds may be left to notice a death.
const SLEEPERS: usize = 24;

fn map(fd: &OwnedFd) -> Region {
    ring::map(fd).unwrap()
}

fn producer(fd: &OwnedFd) -> Producer<Region> {
    Producer::attach(map(fd)).unwrap()
}

fn consumer(fd: &OwnedFd) -> Consumer<Region> {
    Consumer::attach(map(fd)).unwrap()
}

fn patiently(wait: Wait) -> Wait {
    wait.timeout(PATIENCE)
}

fn next(consumer: &mut Consumer<Region>) -> Result<Vec<u8>, Error> {
    let mut buf = [0; CAPACITY as usize / 2];
    let len = consumer.pop(&mut buf, patiently(Wait::SLEEP))?;
    Ok(buf[..len].to_vec())
}

/// A ring in which every word has been used, and looks like the header of a message; the next
/// record begins at `place`, a multiple of 16.
fn worn_ring(place: u64) -> OwnedFd {
    let fd = ring::create_memfd(c"test", Kind::Spsc, CAPACITY).unwrap();
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    for _ in 0..(3 * CAPACITY + place) / 16 {
        producer.try_push_value(&(1_u64 << 56 | 8)).unwrap();
        consumer.try_pop(&mut [0; 8]).unwrap();
    }
    fd
}

/// Goes on with the ring: a few rounds of messages through the two.
fn goes_on(producer: &mut Producer<Region>, consumer: &mut Consumer<Region>) {
    for number in 0..20_u8 {
        let message = vec![number; usize::from(number) * 3];
        producer.try_push(&message).unwrap();
        assert_eq!(next(consumer).unwrap(), message);
    }
    assert_eq!(consumer.try_pop(&mut []), Err(Error::Empty));
}

fn plan(fd: &OwnedFd, stage: &Stage, child: &Peer) -> Vec<usize> {
    stage.plan_but_for(&SLOTS, &map(fd), child)
}

/// How many of the messages in flight took effect, from one step to the next: none, and from some
/// step on all.
#[derive(Default)]
struct Effect(Vec<usize>);

impl Effect {
    fn add(&mut self, messages: usize) {
        self.0.push(messages);
    }

    fn check(self, all: usize) {
        let first = self.0.iter().position(|effect| *effect > 0);
        let first = first.expect("the whole operation has its effect");
        assert!(first > 0, "none at its beginning");
        assert!(self.0[first..].iter().all(|effect| *effect == all));
    }
}

/// Whether to wait until a death is noticed, which takes a while, at this step.
fn waits(steps: usize) -> bool {
    steps.is_multiple_of(16)
}

/// Kills a producer at every step of `push`, while nobody waits.
fn kill_producers(place: u64, messages: &[&[u8]], push: impl Fn(&mut Producer<Region>, &[&[u8]])) {
    let begin = || {
        let (fd, stage) = (worn_ring(place), Stage::new());
        let consumer = consumer(&fd);
        let child = peer(|| {
            let mut producer = producer(&fd);
            producer.try_push(b"committed before").unwrap();
            stage.begin();
            push(&mut producer, messages);
            stage.end();
        });
        stage.expect_begin(&child);
        (fd, stage, consumer, child)
    };
    let (fd, stage, _, child) = begin();
    let plan = plan(&fd, &stage, &child);
    drop(child);
    let mut effect = Effect::default();
    for steps in &plan {
        let (fd, stage, mut consumer, child) = begin();
        let is_done = stage.steps(&child, *steps);
        assert_eq!(is_done, Some(steps) == plan.last(), "at {steps}");
        child.kill();

        assert_eq!(next(&mut consumer).unwrap(), b"committed before");
        let (mut arrived, mut buf) = (Vec::new(), [0; CAPACITY as usize / 2]);
        let end = loop {
            match consumer.try_pop(&mut buf) {
                Ok(len) => arrived.push(buf[..len].to_vec()),
                Err(error) => break error,
            }
        };
        assert_eq!(end, Error::Empty, "at {steps}");
        assert_eq!(consumer.peers(), Peers::Dead);
        if waits(*steps) {
            assert_eq!(next(&mut consumer), Err(Error::PeerDead), "at {steps}");
        }
        effect.add(arrived.len());
        if !arrived.is_empty() {
            assert_eq!(arrived, messages, "whole, at {steps}");
        }
        goes_on(&mut producer(&fd), &mut consumer);
    }
    effect.check(messages.len());
}

fn push_one(producer: &mut Producer<Region>, messages: &[&[u8]]) {
    producer.try_push(messages[0]).unwrap();
}

#[test]
fn a_push_is_done_or_not_begun() {
    isolated!(|| kill_producers(64, &[b"one message in flight"], push_one));
}

#[test]
fn a_push_across_the_end_is_done_or_not_begun() {
    // With what was committed before it, the record begins 16 bytes before the end.
    isolated!(|| kill_producers(CAPACITY - 48, &[&[7; 100]], push_one));
}

#[test]
fn a_batch_is_pushed_as_a_whole_or_not_at_all() {
    isolated!(|| {
        let messages: [&[u8]; 3] = [b"first", b"", b"the third one of it"];
        kill_producers(CAPACITY - 64, &messages, |producer, messages| {
            let mut batch = producer.batch();
            for message in messages {
                batch.try_push(message).unwrap();
            }
            batch.commit();
        });
    });
}

#[test]
fn a_claim_is_committed_or_not_there() {
    isolated!(|| {
        kill_producers(128, &[b"filled in two parts"], |producer, messages| {
            let mut claim = producer.try_claim(40).unwrap();
            let (start, end) = messages[0].split_at(9);
            claim.write(0, start).unwrap();
            claim.write(9, end).unwrap();
            claim.truncate(messages[0].len()).unwrap();
            claim.commit();
        });
    });
}

/// What a process that sleeps on the ring says when it is awake.
struct Sleeper {
    peer: Peer,
    fd: OwnedFd,
    /// 0: not asleep yet, 1: about to sleep; then, of its call, 2: done, 3: the peer is dead.
    result: Stage,
}

impl Sleeper {
    fn until_asleep(&self) {
        eventually("it begins", || self.result.is() == 1);
        until_asleep(self.peer.pid());
    }

    /// Whether what it waited for came, or the peer was dead.
    fn join(self) -> (OwnedFd, bool) {
        self.peer.join();
        assert!(self.result.is() >= 2);
        (self.fd, self.result.is() == 2)
    }
}

fn sleeper(fd: OwnedFd, body: impl FnOnce(&OwnedFd, &Stage) -> Result<(), Error>) -> Sleeper {
    let result = Stage::new();
    let peer = peer(|| {
        let done = body(&fd, &result);
        assert!(matches!(done, Ok(()) | Err(Error::PeerDead)), "{done:?}");
        let word = if done.is_ok() { 2 } else { 3 };
        result.word().store(word, Ordering::SeqCst);
    });
    Sleeper { peer, fd, result }
}

/// Kills a child at every step of an operation that wakes a sleeper, and calls `check` with what
/// each left: whether the sleeper's call was done, and how many messages took effect then.
fn kill_wakers(
    begin: impl Fn() -> (Stage, Sleeper, Peer),
    mut check: impl FnMut(OwnedFd, bool) -> usize,
) {
    let (stage, sleeper, child) = begin();
    let plan = plan(&sleeper.fd, &stage, &child);
    drop((sleeper, child));
    let mut effect = Effect::default();
    // To notice a death takes a sleeper some milliseconds, so there are always several.
    for steps in plan.chunks(SLEEPERS) {
        let sleepers: Vec<Sleeper> = steps
            .iter()
            .map(|steps| {
                let (stage, sleeper, child) = begin();
                let is_done = stage.steps(&child, *steps);
                assert_eq!(is_done, Some(steps) == plan.last(), "at {steps}");
                child.kill();
                sleeper
            })
            .collect();
        for sleeper in sleepers {
            let (fd, done) = sleeper.join();
            effect.add(check(fd, done));
        }
    }
    effect.check(1);
}

#[test]
fn a_push_that_wakes_a_sleeper_is_done_or_not_begun() {
    isolated!(|| {
        let begin = || {
            let (fd, stage) = (worn_ring(48), Stage::new());
            let child = peer(|| {
                let mut producer = producer(&fd);
                stage.begin();
                producer.try_push(b"wake up").unwrap();
                stage.end();
            });
            stage.expect_begin(&child);
            let sleeper = sleeper(fd, |fd, begun| {
                let mut consumer = consumer(fd);
                let mut message = [0; 8];
                begun.word().store(1, Ordering::SeqCst);
                let len = consumer.pop(&mut message, Wait::SLEEP)?;
                assert_eq!(message[..len], *b"wake up");
                let end = consumer.pop(&mut message, Wait::SLEEP);
                assert_eq!(end, Err(Error::PeerDead), "and not before");
                Ok(())
            });
            sleeper.until_asleep();
            (stage, sleeper, child)
        };
        kill_wakers(begin, |fd, was_there| {
            goes_on(&mut producer(&fd), &mut consumer(&fd));
            usize::from(was_there)
        });
    });
}

#[test]
fn a_pop_that_wakes_a_sleeper_is_done_or_not_begun() {
    const MESSAGES: u8 = 15;
    isolated!(|| {
        let begin = || {
            let (fd, stage) = (worn_ring(48), Stage::new());
            let mut filler = producer(&fd);
            for number in 0..MESSAGES {
                filler.try_push(&[number; 8]).unwrap();
            }
            assert_eq!(filler.try_push(&[MESSAGES; 8]), Err(Error::Closed));
            drop(filler);
            let child = peer(|| {
                let mut consumer = consumer(&fd);
                stage.begin();
                consumer.try_pop(&mut [0; 8]).unwrap();
                stage.end();
            });
            stage.expect_begin(&child);
            let sleeper = sleeper(fd, |fd, begun| {
                let mut producer = producer(fd);
                begun.word().store(1, Ordering::SeqCst);
                let pushed = producer.push(&[MESSAGES; 8], Wait::SLEEP);
                assert_eq!(producer.push(&[0; 8], Wait::SLEEP), Err(Error::PeerDead));
                pushed
            });
            sleeper.until_asleep();
            (stage, sleeper, child)
        };
        kill_wakers(begin, |fd, had_room| {
            let mut consumer = consumer(&fd);
            let taken = u8::from(had_room);
            for number in taken..MESSAGES + taken {
                assert_eq!(next(&mut consumer).unwrap(), [number; 8]);
            }
            goes_on(&mut producer(&fd), &mut consumer);
            usize::from(taken)
        });
    });
}

/// Kills a consumer at every step of `pop`, which copies `messages` messages of 24 bytes.
fn kill_consumers(messages: usize, pop: impl Fn(&mut Consumer<Region>, &mut [u8])) {
    const COMMITTED: u8 = 5;
    let begin = || {
        // The third record lies across the end.
        let (fd, stage) = (worn_ring(CAPACITY - 80), Stage::new());
        let mut producer = producer(&fd);
        for number in 0..COMMITTED {
            producer.try_push(&[number; 24]).unwrap();
        }
        let child = peer(|| {
            let mut consumer = consumer(&fd);
            assert_eq!(next(&mut consumer).unwrap(), [0; 24]);
            let buffer = stage.buffer();
            stage.begin();
            pop(&mut consumer, buffer);
            stage.end();
        });
        stage.expect_begin(&child);
        (fd, stage, producer, child)
    };
    let (fd, stage, _, child) = begin();
    let plan = plan(&fd, &stage, &child);
    drop(child);
    let mut effect = Effect::default();
    for steps in &plan {
        let (fd, stage, mut producer, child) = begin();
        let is_done = stage.steps(&child, *steps);
        assert_eq!(is_done, Some(steps) == plan.last(), "at {steps}");
        child.kill();

        assert_eq!(producer.peers(), Peers::Dead);
        let mut pushed = COMMITTED;
        let end = loop {
            match producer.try_push(&[pushed; 24]) {
                Ok(()) => pushed += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(end, Error::Full, "at {steps}");
        if waits(*steps) {
            let waited = producer.push(&[pushed; 24], patiently(Wait::SLEEP));
            assert_eq!(waited, Err(Error::PeerDead), "at {steps}");
        }
        let mut consumer = consumer(&fd);
        let first = next(&mut consumer).unwrap();
        let taken = usize::from(first[0]) - 1;
        effect.add(taken);
        for (number, read) in (1..=taken).zip(stage.buffer().chunks(24)) {
            assert_eq!(
                read, [number as u8; 24],
                "what is taken was read, at {steps}"
            );
        }
        assert_eq!(usize::from(pushed), 8 + taken, "all the room that there is");
        assert_eq!(first, [1 + taken as u8; 24]);
        for number in first[0] + 1..pushed {
            assert_eq!(next(&mut consumer).unwrap(), [number; 24], "at {steps}");
        }
        goes_on(&mut producer, &mut consumer);
    }
    effect.check(messages);
}

#[test]
fn a_pop_is_done_or_not_begun() {
    isolated!(|| {
        kill_consumers(1, |consumer, buffer| {
            consumer.try_pop(buffer).unwrap();
        });
    });
}

#[test]
fn a_peek_is_released_or_still_there() {
    isolated!(|| {
        kill_consumers(1, |consumer, buffer| {
            let message = consumer.try_peek().unwrap();
            message.read(0, &mut buffer[..24]).unwrap();
            message.release();
        });
    });
}

#[test]
fn a_batch_is_popped_as_a_whole_or_not_at_all() {
    isolated!(|| {
        kill_consumers(3, |consumer, buffer| {
            let mut batch = consumer.batch();
            for buffer in buffer.chunks_exact_mut(24).take(3) {
                batch.try_next().unwrap().read(0, buffer).unwrap();
            }
            batch.release();
        });
    });
}

/// How many children are killed at random.
const ROUNDS: u64 = 2500 / SLOWNESS as u64;
/// How many microseconds the longest of them lives.
const LONGEST: u64 = 1500 * SLOWNESS as u64;

/// The numbers of what a child has done: written before and after each operation.
struct Progress(Region);

impl Progress {
    fn new() -> Self {
        Self(Region::anonymous(4096, Access::READ | Access::WRITE).unwrap())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.0.bytes().atomic_u64(8 * index).unwrap()
    }

    /// Something between the two numbers is done.
    fn begin(&self, number: u64) {
        self.word(0).store(number, Ordering::SeqCst);
    }

    fn end(&self, number: u64) {
        self.word(1).store(number, Ordering::SeqCst);
    }

    /// How much was done at least, and at most: all or nothing of what was begun.
    fn done(&self) -> [u64; 2] {
        [1, 0].map(|index| self.word(index).load(Ordering::SeqCst))
    }
}

/// A message that says its number, and is of a length that depends on it.
fn numbered(number: u64) -> Vec<u8> {
    let mut message = number.to_ne_bytes().to_vec();
    message.resize(8 + number as usize % 25, number as u8);
    message
}

fn number_of(message: &[u8]) -> u64 {
    let number = u64::from_ne_bytes(message[..8].try_into().unwrap());
    assert_eq!(message, numbered(number), "whole");
    number
}

/// Numbers without a pattern (xorshift64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap();
        Self(now.as_nanos() as u64 | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// Pushes number after number in all forms, until it is killed.
fn push_numbers(fd: &OwnedFd, progress: &Progress, mut number: u64) {
    let mut producer = producer(fd);
    for turn in 0.. {
        let wait = patiently([Wait::SLEEP, Wait::SPIN_THEN_SLEEP][turn / 3 % 2]);
        let end = number + if turn % 3 == 0 { 3 } else { 1 };
        match turn % 3 {
            0 => {
                // Enough for all three.
                producer.wait(128, wait).unwrap();
                progress.begin(end);
                let mut batch = producer.batch();
                for number in number..end {
                    batch.try_push(&numbered(number)).unwrap();
                }
                batch.commit();
            }
            1 => {
                producer.wait(100, wait).unwrap();
                progress.begin(end);
                let message = numbered(number);
                let mut claim = producer.try_claim(100).unwrap();
                claim.write(0, &message).unwrap();
                claim.truncate(message.len()).unwrap();
                claim.commit();
            }
            _ => {
                progress.begin(end);
                producer.push(&numbered(number), wait).unwrap();
            }
        }
        number = end;
        progress.end(number);
    }
}

#[test]
fn producers_killed_at_random_lose_nothing_that_was_committed() {
    isolated!(|| {
        let fd = worn_ring(0);
        let (mut consumer, progress) = (consumer(&fd), Progress::new());
        let mut random = Random::new();
        let (mut number, mut buf) = (0, [0; 128]);
        let mut round = 0;
        while round < ROUNDS || number <= ROUNDS {
            round += 1;
            progress.begin(number);
            progress.end(number);
            let child = peer(|| push_numbers(&fd, &progress, number));
            let (begun, life) = (Instant::now(), Duration::from_micros(random.below(LONGEST)));
            // Some are killed while they attach, others while they sleep because there is no room.
            let reads_until = life.mul_f32(random.below(4) as f32 / 3.0);
            while begun.elapsed() < life {
                if begun.elapsed() < reads_until
                    && let Ok(len) = consumer.try_pop(&mut buf)
                {
                    assert_eq!(number_of(&buf[..len]), number, "in round {round}");
                    number += 1;
                }
            }
            child.kill();
            while let Ok(len) = consumer.try_pop(&mut buf) {
                assert_eq!(number_of(&buf[..len]), number, "in round {round}");
                number += 1;
            }
            let done = progress.done();
            assert!(
                done.contains(&number),
                "{number}, {done:?}, in round {round}"
            );
        }
        assert_eq!(consumer.counters().messages, number + 3 * CAPACITY / 16);
        goes_on(&mut producer(&fd), &mut consumer);
    });
}

/// Pops number after number in all forms, until it is killed or the ring is closed.
fn pop_numbers(fd: &OwnedFd, progress: &Progress) {
    let mut consumer = consumer(fd);
    let mut buf = [0; 128];
    let done = progress.done();
    consumer.wait(patiently(Wait::SPIN_THEN_SLEEP)).unwrap();
    let mut first = [0; 8];
    consumer.try_peek().unwrap().read(0, &mut first).unwrap();
    let mut number = u64::from_ne_bytes(first);
    assert!(done.contains(&number), "{number} after {done:?}");
    progress.begin(number);
    progress.end(number);
    loop {
        if number % 3 == 0 {
            let mut batch = consumer.batch();
            let mut last = number;
            for _ in 0..3 {
                let Ok(message) = batch.try_next() else { break };
                message.read(0, &mut buf[..message.len()]).unwrap();
                assert_eq!(number_of(&buf[..message.len()]), last);
                last += 1;
            }
            progress.begin(last);
            batch.release();
            number = last;
        }
        progress.end(number);
        progress.begin(number + 1);
        let wait = [Wait::SLEEP, Wait::SPIN_THEN_SLEEP][number as usize / 8 % 2];
        match consumer.pop(&mut buf, patiently(wait)) {
            Ok(len) => assert_eq!(number_of(&buf[..len]), number),
            Err(Error::Closed) => break progress.begin(number),
            Err(error) => panic!("{error}"),
        }
        number += 1;
        progress.end(number);
    }
}

#[test]
fn consumers_killed_at_random_lose_nothing_that_they_did_not_take() {
    isolated!(|| {
        let fd = worn_ring(0);
        let (mut producer, progress) = (producer(&fd), Progress::new());
        let failed = Stage::new();
        let mut random = Random::new();
        let mut number = 0;
        let child = || {
            peer(|| {
                let popping = std::panic::AssertUnwindSafe(|| pop_numbers(&fd, &progress));
                if let Err(panic) = std::panic::catch_unwind(popping) {
                    failed.word().store(1, Ordering::SeqCst);
                    std::panic::resume_unwind(panic);
                }
            })
        };
        let mut round = 0;
        while round < ROUNDS || number <= ROUNDS {
            round += 1;
            let child = child();
            let (begun, life) = (Instant::now(), Duration::from_micros(random.below(LONGEST)));
            let writes_until = life.mul_f32(random.below(4) as f32 / 3.0);
            while begun.elapsed() < life {
                if begun.elapsed() < writes_until && producer.try_push(&numbered(number)).is_ok() {
                    number += 1;
                }
            }
            child.kill();
            assert_eq!(
                failed.is(),
                0,
                "a message too few or too many, in round {round}"
            );
        }
        let last = child();
        let message = numbered(number);
        eventually("there is room", || producer.try_push(&message).is_ok());
        number += 1;
        drop(producer);
        last.join();
        assert_eq!(progress.done(), [number; 2], "all that was pushed");
    });
}
