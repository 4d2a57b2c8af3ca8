//! Ten million random operations on a ring against a `VecDeque`.
//!
//! Two processes, the producer and the consumer, draw the same operations from the same seed, and
//! each keeps the same model of what is in the ring. They take turns; whose turn it is does its
//! operations on the ring too, and compares every outcome with the model's.
//!
//! A failure prints the seed; `LINIPC_SEED=… cargo test --test ring_differential` does the same again.

mod support;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use linipc_core::map::{Access, Region};
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Counters, Error, Kind, Wait};
use support::{PATIENCE, peer};

const OPERATIONS: u64 = 10_000_000;
/// So small that the ring is full or empty every few operations, and wraps all the time.
const CAPACITY: usize = 256;
const MAX: usize = CAPACITY / 2;

/// Numbers without a pattern (xorshift64*).
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as usize % bound
    }

    /// The length of a message, now and then of none that fits.
    fn len(&mut self) -> usize {
        match self.below(32) {
            0 => 0,
            1 => MAX,
            2 => MAX + 1 + self.below(9),
            3..8 => self.below(MAX + 1),
            _ => self.below(33),
        }
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

/// What is in the ring: where the text of each message is in `TEXT`, and how long it is.
struct Model {
    messages: VecDeque<(usize, usize)>,
    used: usize,
    pushed: Counters,
    popped: Counters,
    text: Vec<u8>,
}

impl Model {
    fn new(random: &mut Random) -> Self {
        Self {
            messages: VecDeque::new(),
            used: 0,
            pushed: Counters::default(),
            popped: Counters::default(),
            text: (0..4096).map(|_| random.below(256) as u8).collect(),
        }
    }

    fn text(&self, (at, len): (usize, usize)) -> &[u8] {
        &self.text[at..at + len]
    }

    fn free(&self) -> usize {
        CAPACITY - 8 - self.used
    }

    fn size(len: usize) -> usize {
        8 + len.next_multiple_of(8)
    }

    /// Whether a message can be pushed behind `more` bytes that are not in the ring yet.
    fn may_push(&mut self, more: usize, len: usize) -> Result<(), Error> {
        if len > MAX {
            return Err(Error::TooLong { max: MAX });
        }
        if more + Self::size(len) > self.free() {
            self.pushed.refused += 1;
            return Err(Error::Full);
        }
        Ok(())
    }

    fn push(&mut self, message: (usize, usize)) {
        self.messages.push_back(message);
        self.used += Self::size(message.1);
        self.pushed.messages += 1;
        self.pushed.bytes += message.1 as u64;
    }

    fn next(&self, index: usize) -> Result<(usize, usize), Error> {
        self.messages.get(index).copied().ok_or(Error::Empty)
    }

    fn pop(&mut self) {
        let (_, len) = self.messages.pop_front().unwrap();
        self.used -= Self::size(len);
        self.popped.messages += 1;
        self.popped.bytes += len as u64;
    }
}

/// One of all the things that a producer does, on the model, and on the ring if there is one.
fn produce(random: &mut Random, model: &mut Model, ring: Option<&mut Producer<Region>>) {
    let operation = random.below(64);
    let message = (random.below(3900), random.len());
    let (at, len) = message;
    match operation {
        // Copied.
        0..24 => {
            let expected = model.may_push(0, len);
            if let Some(ring) = ring {
                assert_eq!(ring.try_push(model.text(message)), expected);
            }
            if expected.is_ok() {
                model.push(message);
            }
        }
        24..30 => {
            let expected = model.may_push(0, 24);
            if let Some(ring) = ring {
                let value: [u8; 24] = model.text((at, 24)).try_into().unwrap();
                assert_eq!(ring.try_push_value(&value), expected);
            }
            if expected.is_ok() {
                model.push((at, 24));
            }
        }
        // In place: in two parts, cut short, committed or not.
        30..46 => {
            let expected = model.may_push(0, len);
            let (split, end) = (random.below(len + 1), random.below(len + 1));
            let is_committed = operation < 40;
            if let Some(ring) = ring {
                match ring.try_claim(len) {
                    Ok(mut claim) => {
                        assert_eq!(expected, Ok(()));
                        assert_eq!(claim.len(), len);
                        let (first, second) = model.text(message).split_at(split);
                        claim.write(0, first).unwrap();
                        claim.write(split, second).unwrap();
                        claim.truncate(end).unwrap();
                        if is_committed {
                            claim.commit();
                        }
                    }
                    Err(error) => assert_eq!(Err(error), expected),
                }
            }
            if expected.is_ok() && is_committed {
                model.push((at, end));
            }
        }
        // A batch of up to seven, committed or not.
        46..60 => {
            let mut batch = ring.map(|ring| ring.batch());
            let (mut messages, mut used) = ([(0, 0); 7], 0);
            let mut count = 0;
            for _ in 0..random.below(8) {
                let message = (random.below(3900), random.len());
                let expected = model.may_push(used, message.1);
                if let Some(batch) = &mut batch {
                    assert_eq!(batch.try_push(model.text(message)), expected);
                }
                if expected.is_ok() {
                    messages[count] = message;
                    count += 1;
                    used += Model::size(message.1);
                }
            }
            if operation < 57 {
                if let Some(batch) = batch {
                    batch.commit();
                }
                for message in &messages[..count] {
                    model.push(*message);
                }
            }
        }
        60 | 61 => {
            if let Some(ring) = ring {
                assert_eq!(ring.free(), Ok(model.free()));
            }
        }
        _ => {
            if let Some(ring) = ring {
                assert_eq!(ring.counters(), model.pushed);
            }
        }
    }
}

/// One of all the things that a consumer does.
fn consume(random: &mut Random, model: &mut Model, ring: Option<&mut Consumer<Region>>) {
    let operation = random.below(64);
    let first = model.next(0);
    let mut buf = [0; MAX];
    match operation {
        // Copied.
        0..24 => {
            if let Some(ring) = ring {
                let popped = match operation {
                    0 if first.is_ok() => ring.pop(&mut buf, Wait::SLEEP),
                    _ => ring.try_pop(&mut buf),
                };
                let popped = popped.map(|len| &buf[..len]);
                assert_eq!(popped, first.map(|message| model.text(message)));
            }
            if first.is_ok() {
                model.pop();
            }
        }
        // Into a buffer that may be too short.
        24..28 => {
            let room = random.below(40);
            let expected = first.and_then(|(_, message)| match message <= room {
                true => Ok(message),
                false => Err(Error::BufferLen { message }),
            });
            if let Some(ring) = ring {
                assert_eq!(ring.try_pop(&mut buf[..room]), expected);
            }
            if expected.is_ok() {
                model.pop();
            }
        }
        28..32 => {
            let expected = first.and_then(|(_, message)| match message == 24 {
                true => Ok(()),
                false => Err(Error::BufferLen { message }),
            });
            if let Some(ring) = ring {
                let value = ring.try_pop_value::<[u8; 24]>();
                assert_eq!(value.map(drop), expected);
                if let (Ok(value), Ok(message)) = (value, first) {
                    assert_eq!(value, model.text(message));
                }
            }
            if expected.is_ok() {
                model.pop();
            }
        }
        // In place, left or taken.
        32..44 => {
            let is_released = operation < 38;
            if let Some(ring) = ring {
                match ring.try_peek() {
                    Ok(message) => {
                        let expected = model.text(first.unwrap());
                        assert_eq!(message.len(), expected.len());
                        let half = expected.len() / 2;
                        message.read(half, &mut buf[half..expected.len()]).unwrap();
                        message.read(0, &mut buf[..half]).unwrap();
                        assert_eq!(&buf[..expected.len()], expected);
                        if is_released {
                            message.release();
                        }
                    }
                    Err(error) => assert_eq!(Err(error), first.map(drop)),
                }
            }
            if first.is_ok() && is_released {
                model.pop();
            }
        }
        // A batch, left or taken.
        44..62 => {
            let mut batch = ring.map(|ring| ring.batch());
            let mut count = 0;
            for _ in 0..random.below(8) {
                let expected = model.next(count);
                if let Some(batch) = &mut batch {
                    let read = batch.try_next().map(|message| {
                        message.read(0, &mut buf[..message.len()]).unwrap();
                        &buf[..message.len()]
                    });
                    assert_eq!(read, expected.map(|message| model.text(message)));
                }
                count += usize::from(expected.is_ok());
            }
            if operation < 58 {
                if let Some(batch) = batch {
                    batch.release();
                }
                (0..count).for_each(|_| model.pop());
            }
        }
        _ => {
            if let Some(ring) = ring {
                assert_eq!(ring.counters(), model.popped);
            }
        }
    }
}

/// Plays all operations, as the producer or as the consumer.
fn play(seed: u64, turn: &Turn, fd: &OwnedFd, is_producer: bool) {
    let mut random = Random(seed);
    let mut model = Model::new(&mut random);
    let attach_producer = || Producer::attach(ring::map(fd).unwrap()).unwrap();
    let attach_consumer = || Consumer::attach(ring::map(fd).unwrap()).unwrap();
    let mut producer = is_producer.then(attach_producer);
    let mut consumer = (!is_producer).then(attach_consumer);
    let mut operations = 0;
    for now in 2.. {
        let is_ours = (now % 2 == 0) == is_producer;
        if is_ours {
            turn.expect(now);
        }
        let most = [4, 16, 64][random.below(3)];
        for _ in 0..=random.below(most) {
            operations += 1;
            match now % 2 {
                0 => produce(&mut random, &mut model, producer.as_mut()),
                _ => consume(&mut random, &mut model, consumer.as_mut()),
            }
        }
        // Now and then somebody else takes the place.
        if random.below(1000) == 0 && is_ours {
            if is_producer {
                drop(producer.take());
                producer = Some(attach_producer());
            } else {
                drop(consumer.take());
                consumer = Some(attach_consumer());
            }
        }
        if is_ours {
            turn.give(now + 1);
        }
        if operations >= OPERATIONS {
            // Nobody leaves before the other one is done.
            turn.expect(now + 1);
            break;
        }
    }
    let counted = model.popped.messages;
    assert!(
        counted > OPERATIONS / 10,
        "hardly anything was popped: {counted}"
    );
}

#[test]
fn ten_million_operations_do_what_they_do_to_a_queue() {
    isolated!(|| {
        let seed = match std::env::var("LINIPC_SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1,
        };
        println!("LINIPC_SEED={seed}");
        let fd = ring::create_memfd(c"test", Kind::Spsc, CAPACITY as u64).unwrap();
        let turn = Turn(Region::anonymous(4096, Access::READ | Access::WRITE).unwrap());
        let ready = Turn(Region::anonymous(4096, Access::READ | Access::WRITE).unwrap());
        let consumer = peer(|| {
            ready.give(1);
            play(seed, &turn, &fd, false);
        });
        ready.expect(1);
        turn.give(2);
        play(seed, &turn, &fd, true);
        consumer.join();
    });
}
