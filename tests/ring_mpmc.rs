//! The ring for many producers and many consumers, between processes where several matter.

mod support;

#[path = "support/step.rs"]
mod step;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linipc::event::eventfd::EventFd;
use linipc_core::map::{Access, Region};
use linipc_core::ring::mpmc::{Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Kind, MAX_ENDS, Peers, Trusted, Wait, mpsc};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use step::{Comes, Stage};
use support::{PATIENCE, Peer, SLOWNESS, eventually, peer, until_asleep};

const RW: Access = Access::READ.union(Access::WRITE);

fn ring(capacity: u64) -> OwnedFd {
    ring::create_memfd(c"test", Kind::Mpmc, capacity).unwrap()
}

fn map(fd: &OwnedFd) -> Region {
    ring::map(fd).unwrap()
}

fn producer(fd: &OwnedFd) -> Producer<Region> {
    Producer::attach(map(fd)).unwrap()
}

fn consumer(fd: &OwnedFd) -> Consumer<Region> {
    Consumer::attach(map(fd)).unwrap()
}

/// However the peers are scheduled, they are done before this.
fn patiently(wait: Wait) -> Wait {
    wait.timeout(PATIENCE)
}

fn pop(consumer: &mut Consumer<Region>) -> Result<Vec<u8>, Error> {
    let mut buf = vec![0; consumer.max_message()];
    let len = consumer.try_pop(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

/// As [`pop`], but waits.
fn next(consumer: &mut Consumer<Region>, wait: Wait) -> Result<Vec<u8>, Error> {
    let mut buf = vec![0; consumer.max_message()];
    let len = consumer.pop(&mut buf, wait)?;
    buf.truncate(len);
    Ok(buf)
}

/// A process that runs `body`, and then does nothing until it is killed.
fn mortal(body: impl FnOnce()) -> Peer {
    let done = Numbers::new();
    let peer = peer(|| {
        body();
        done.set(0, 1);
        loop {
            sleep(PATIENCE);
        }
    });
    eventually("it is done", || done.get(0) == 1);
    peer
}

/// Numbers that processes share.
struct Numbers(Region);

impl Numbers {
    fn new() -> Self {
        Self(Region::anonymous(1 << 16, RW).unwrap())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.0.bytes().atomic_u64(8 * index).unwrap()
    }

    fn set(&self, index: usize, number: u64) {
        self.word(index).store(number, Ordering::SeqCst);
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }
}

/// Numbers without a pattern (xorshift64).
struct Random(u64);

impl Random {
    fn new() -> Self {
        let seed = std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64 | 1;
        println!("seed {seed:#x}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A message of a length that depends on its number.
fn message(producer: usize, number: u64) -> Vec<u8> {
    let mut message = ((producer as u64) << 40 | number).to_ne_bytes().to_vec();
    message.resize(8 + (producer + number as usize * 5) % 40, number as u8);
    message
}

/// Who has pushed a message, and as the how-manieth.
fn read(text: &[u8]) -> (usize, u64) {
    let number = u64::from_ne_bytes(text[..8].try_into().unwrap());
    let (producer, number) = ((number >> 40) as usize, number & ((1 << 40) - 1));
    assert_eq!(text, message(producer, number), "whole");
    (producer, number)
}

/// How many messages of one producer can be told apart.
const MOST: u64 = 1 << 16;

/// How often each message was read, by all consumers.
struct Reads(Region);

impl Reads {
    fn new(producers: usize) -> Self {
        Self(Region::anonymous(producers * MOST as usize * 4, RW).unwrap())
    }

    fn of(&self, producer: usize, number: u64) -> &std::sync::atomic::AtomicU32 {
        let index = producer * MOST as usize + number as usize;
        self.0.bytes().atomic_u32(4 * index).unwrap()
    }

    fn add(&self, text: &[u8]) {
        let (producer, number) = read(text);
        self.of(producer, number).fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_million_messages_arrive_at_one_consumer_each_and_in_order() {
    const PRODUCERS: usize = 3;
    const CONSUMERS: usize = 3;
    const MESSAGES: u64 = 340_000 / SLOWNESS as u64;
    isolated!(|| {
        let fd = ring(4096);
        let (mut holding, sums) = (producer(&fd), Numbers::new());
        let readers: Vec<Peer> = (0..CONSUMERS)
            .map(|reader| {
                peer(|| {
                    let mut consumer = consumer(&fd);
                    let (mut last, mut buf) = ([None; PRODUCERS], [0; 64]);
                    let mut take = |text: &[u8]| {
                        let (id, number) = read(text);
                        assert!(last[id] < Some(number), "in order");
                        last[id] = Some(number);
                        sums.word(id).fetch_add(1, Ordering::SeqCst);
                        let hash = number.wrapping_mul(number + 1);
                        sums.word(PRODUCERS + id).fetch_add(hash, Ordering::SeqCst);
                    };
                    for turn in 0_u64.. {
                        let wait = patiently(Wait::SPIN_THEN_SLEEP);
                        if turn % 5 == 0 {
                            let Ok(mut batch) = consumer.try_batch(7) else {
                                continue;
                            };
                            while let Ok(message) = batch.try_next() {
                                let len = message.len();
                                message.read(0, &mut buf[..len]).unwrap();
                                take(&buf[..len]);
                            }
                            batch.release();
                        }
                        match consumer.pop(&mut buf, wait) {
                            Ok(len) => take(&buf[..len]),
                            Err(Error::Closed) => break,
                            Err(error) => panic!("{error} at {reader}"),
                        }
                    }
                })
            })
            .collect();
        let writers: Vec<Peer> = (0..PRODUCERS)
            .map(|id| {
                peer(|| {
                    let mut producer = producer(&fd);
                    for number in 0..MESSAGES {
                        let wait = patiently(Wait::SPIN_THEN_SLEEP);
                        producer.push(&message(id, number), wait).unwrap();
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join();
        }
        assert_eq!(holding.counters().messages, PRODUCERS as u64 * MESSAGES);
        drop(holding);
        for reader in readers {
            reader.join();
        }
        for id in 0..PRODUCERS {
            assert_eq!(sums.get(id), MESSAGES, "of producer {id}");
            let hash = (0..MESSAGES).fold(0_u64, |hash, number| {
                hash.wrapping_add(number.wrapping_mul(number + 1))
            });
            assert_eq!(sums.get(PRODUCERS + id), hash, "each once");
        }
        let mut consumer = consumer(&fd);
        assert_eq!(consumer.counters().messages, PRODUCERS as u64 * MESSAGES);
        assert_eq!(
            producer(&fd).free(),
            Ok(4096 - 8),
            "all room is there again"
        );
    });
}

/// A ring in which every word has been used, and looks like the header of a message; the next
/// record begins at `place`, a multiple of 16.
fn worn_ring(place: u64) -> OwnedFd {
    let fd = ring(256);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    for _ in 0..(3 * 256 + place) / 16 {
        producer.try_push_value(&(1_u64 << 56 | 8)).unwrap();
        consumer.try_pop(&mut [0; 8]).unwrap();
    }
    fd
}

/// Kills a consumer at every step of `pop`, which takes `taken` of five messages: another one gets all
/// that was not released, and neither it nor the producer is held up, whenever it comes. Gives how many
/// messages the dead had taken.
fn kill_consumers(taken: usize, pop_some: impl Fn(&mut Consumer<Region>)) -> u32 {
    [Comes::Before, Comes::Meanwhile, Comes::After]
        .map(|comes| kill_each(comes, taken, &pop_some))
        .iter()
        .sum()
}

fn kill_each(comes: Comes, taken: usize, pop_some: &impl Fn(&mut Consumer<Region>)) -> u32 {
    const COMMITTED: u8 = 5;
    let begin = || {
        // The third record lies across the end.
        let (fd, stage) = (worn_ring(256 - 80), Stage::new());
        let mut producer = producer(&fd);
        let other = (comes == Comes::Before).then(|| consumer(&fd));
        for number in 0..COMMITTED {
            producer.try_push(&[number; 24]).unwrap();
        }
        let child = peer(|| {
            let mut consumer = consumer(&fd);
            stage.begin();
            pop_some(&mut consumer);
            stage.end();
        });
        stage.expect_begin(&child);
        (fd, stage, producer, other, child)
    };
    let (fd, stage, _, _, child) = begin();
    let plan = stage.plan(&map(&fd), &child);
    drop(child);
    let (mut effects, mut late) = (Vec::new(), 0);
    for steps in &plan {
        let (fd, stage, mut producer, other, child) = begin();
        let is_done = stage.steps(&child, *steps);
        assert_eq!(is_done, Some(steps) == plan.last(), "at {steps}");
        let other = match comes {
            Comes::Meanwhile => Some(consumer(&fd)),
            _ => other,
        };
        child.kill();
        let mut other = other.unwrap_or_else(|| consumer(&fd));

        producer.try_push(&[COMMITTED; 24]).unwrap();
        let mut arrived = Vec::new();
        let mut empty = 0;
        while empty < 40 {
            // The turn may be the dead one's.
            match pop(&mut other) {
                Ok(text) => {
                    assert_eq!(text, [text[0]; 24], "whole");
                    arrived.push(text[0]);
                    late += u32::from(empty > 0);
                    empty = 0;
                }
                Err(Error::Empty) => empty += 1,
                Err(error) => panic!("{error} at {steps}"),
            }
        }
        assert!(arrived.contains(&COMMITTED));
        arrived.sort_unstable();
        let released = usize::from(arrived[0]);
        effects.push(released);
        let expected: Vec<u8> = (released as u8..=COMMITTED).collect();
        assert_eq!(arrived, expected, "each once, at {steps}");
        assert_eq!(producer.free(), Ok(256 - 8), "all room, at {steps}");
        for number in 0..20_u8 {
            let text = vec![number; usize::from(number) * 3];
            producer.try_push(&text).unwrap();
            assert_eq!(pop(&mut other), Ok(text));
        }
    }
    assert!(effects.is_sorted() && effects[0] == 0, "{effects:?}");
    assert_eq!(effects.last(), Some(&taken));
    late
}

#[test]
fn a_pop_is_done_or_another_one_gets_the_message() {
    isolated!(|| {
        let late = kill_consumers(1, |consumer| {
            consumer.try_pop(&mut [0; 24]).unwrap();
        });
        assert_eq!(late, 0, "short ones are not taken");
    });
}

#[test]
fn a_pop_behind_a_message_that_was_peeked_at_is_done_or_not() {
    isolated!(|| {
        let late = kill_consumers(2, |consumer| {
            consumer.try_peek().unwrap().release();
            consumer.try_pop(&mut [0; 24]).unwrap();
        });
        assert!(late > 0, "some died with a message");
    });
}

#[test]
fn of_a_batch_another_one_gets_what_was_not_released() {
    isolated!(|| {
        let late = kill_consumers(3, |consumer| {
            let mut batch = consumer.try_batch(3).unwrap();
            for _ in 0..3 {
                batch.try_next().unwrap().read(0, &mut [0; 24]).unwrap();
            }
            batch.release();
        });
        assert!(late > 0, "some died with a message");
    });
}

#[test]
fn a_producer_that_dies_while_it_reclaims_room_holds_nobody_up() {
    isolated!(|| {
        let begin = || {
            let (fd, stage) = (worn_ring(0), Stage::new());
            let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
            for number in 0..15_u8 {
                producer.try_push(&[number; 8]).unwrap();
            }
            for number in 0..12 {
                assert_eq!(pop(&mut consumer), Ok(vec![number; 8]));
            }
            let child = peer(|| {
                let mut producer = self::producer(&fd);
                stage.begin();
                producer.try_push(&[99; 100]).unwrap();
                stage.end();
            });
            stage.expect_begin(&child);
            (fd, stage, producer, consumer, child)
        };
        let (fd, stage, _, _, child) = begin();
        let plan = stage.plan(&map(&fd), &child);
        drop(child);
        for steps in &plan {
            let (_fd, stage, mut producer, mut consumer, child) = begin();
            stage.steps(&child, *steps);
            child.kill();
            producer.try_push(&[15; 8]).unwrap();
            let mut arrived = Vec::new();
            let end = Instant::now() + PATIENCE;
            while arrived.last() != Some(&15) {
                match pop(&mut consumer) {
                    Ok(text) => arrived.push(text[0]),
                    Err(Error::Empty) => assert!(Instant::now() < end, "at {steps}"),
                    Err(error) => panic!("{error} at {steps}"),
                }
            }
            arrived.retain(|number| *number != 99);
            assert_eq!(arrived, [12, 13, 14, 15], "at {steps}");
            assert_eq!(producer.free(), Ok(256 - 8), "all room, at {steps}");
        }
    });
}

/// Pushes message after message until it is killed: before each it says that it may be there from
/// now on, and behind it, that it is.
fn push_until_killed(fd: &OwnedFd, id: usize, begun: &Numbers, done: &Numbers, stop: &Numbers) {
    let mut producer = producer(fd);
    for number in 0..MOST {
        if stop.get(0) == 1 {
            return;
        }
        let wait = [Wait::SLEEP, Wait::SPIN_THEN_SLEEP][number as usize / 8 % 2];
        begun.set(id, number + 1);
        let text = message(id, number);
        producer.push(&text, patiently(wait)).unwrap();
        done.set(id, number + 1);
    }
    eventually("the end", || stop.get(0) == 1);
}

/// Pops message after message in all forms, until it is killed or there are no more.
fn pop_until_killed(fd: &OwnedFd, reads: &Reads) {
    let mut consumer = consumer(fd);
    let mut buf = [0; 128];
    for turn in 0_usize.. {
        let wait = patiently([Wait::SLEEP, Wait::SPIN_THEN_SLEEP][turn / 8 % 2]);
        if let Err(error) = consumer.wait(wait) {
            assert!(matches!(error, Error::Closed | Error::PeerDead), "{error}");
            return;
        }
        match turn % 3 {
            0 => {
                let Ok(mut batch) = consumer.try_batch(3) else {
                    continue;
                };
                while let Ok(message) = batch.try_next() {
                    let len = message.len();
                    message.read(0, &mut buf[..len]).unwrap();
                    reads.add(&buf[..len]);
                }
                batch.release();
            }
            _ => {
                let Ok(message) = consumer.try_peek() else {
                    continue;
                };
                let len = message.len();
                message.read(0, &mut buf[..len]).unwrap();
                if turn % 9 == 1 {
                    // It is the next one again.
                    drop(message);
                    continue;
                }
                reads.add(&buf[..len]);
                message.release();
            }
        }
    }
}

#[test]
fn whoever_is_killed_at_random_no_message_is_lost_that_was_committed() {
    const ALIVE: usize = 3;
    const ROUNDS: usize = 400 / SLOWNESS;
    /// How many microseconds there are between two kills at most.
    const LONGEST: u64 = 3000 * SLOWNESS as u64;
    isolated!(|| {
        let fd = worn_ring(0);
        let [begun, done, stop] = [(); 3].map(|()| Numbers::new());
        let reads = Reads::new(ALIVE + ROUNDS);
        let mut random = Random::new();
        let write = |id: usize| {
            let (fd, begun, done, stop) = (&fd, &begun, &done, &stop);
            peer(move || push_until_killed(fd, id, begun, done, stop))
        };
        let read = || peer(|| pop_until_killed(&fd, &reads));
        // Those who come last are not to find that all others are dead.
        let holding = (producer(&fd), consumer(&fd));
        let mut writers: Vec<Peer> = (0..ALIVE).map(write).collect();
        let mut readers: Vec<Peer> = (0..ALIVE).map(|_| read()).collect();
        let (mut next, mut killed) = (ALIVE, 0);
        let total = || (0..ALIVE + ROUNDS).map(|id| done.get(id)).sum::<u64>();
        for _ in 0..ROUNDS {
            sleep(Duration::from_micros(random.below(LONGEST)));
            let victim = random.below(ALIVE as u64) as usize;
            if random.below(2) == 0 {
                writers.swap_remove(victim).kill();
                writers.push(write(next));
                next += 1;
            } else {
                readers.swap_remove(victim).kill();
                readers.push(read());
                killed += 1;
            }
            // It is never for ever that nobody gets on.
            let before = total();
            eventually("somebody gets on", || total() >= before + 10);
        }
        stop.set(0, 1);
        drop(holding);
        for peer in writers.into_iter().chain(readers) {
            peer.join();
        }
        let (mut again, mut all) = (0, 0);
        for id in 0..next {
            let (done, begun) = (done.get(id), begun.get(id));
            for number in 0..MOST {
                let count = reads.of(id, number).load(Ordering::SeqCst);
                assert!(count > 0 || number >= done, "{number} of {id} is lost");
                assert!(
                    count == 0 || number < begun,
                    "{number} of {id} came from nowhere"
                );
                again += count.saturating_sub(1);
                all += u64::from(count > 0);
            }
        }
        println!("{all} messages, {again} came again after {killed} deaths");
        assert!(again <= 3 * killed, "as many as they had");
        let mut producer = producer(&fd);
        assert_eq!(producer.free(), Ok(256 - 8), "all room is there again");
    });
}

#[test]
fn a_sleeping_consumer_gets_what_a_dead_one_had() {
    isolated!(|| {
        let fd = ring(256);
        let mut producer = producer(&fd);
        producer.try_push_all(&[b"one", b"two", b"three"]).unwrap();
        let taking = mortal(|| {
            let mut consumer = consumer(&fd);
            drop(consumer.try_batch(2).unwrap());
            std::mem::forget(consumer);
        });
        let mut other = consumer(&fd);
        assert_eq!(pop(&mut other), Ok(b"three".to_vec()));
        let wait = Wait::SLEEP.timeout(Duration::from_millis(300));
        assert_eq!(next(&mut other, wait), Err(Error::TimedOut), "it lives");
        taking.kill();
        let wait = patiently(Wait::SLEEP);
        assert_eq!(next(&mut other, wait), Ok(b"one".to_vec()));
        assert_eq!(next(&mut other, wait), Ok(b"two".to_vec()));
        drop(producer);
        assert_eq!(next(&mut other, wait), Err(Error::Closed));
    });
}

#[test]
fn what_was_not_released_comes_again_and_goes_on_when_its_consumer_leaves() {
    isolated!(|| {
        let fd = ring(256);
        let mut producer = producer(&fd);
        producer.try_push_all(&[b"one", b"two", b"three"]).unwrap();
        let (mut consumer, mut other) = (consumer(&fd), consumer(&fd));
        drop(consumer.try_peek().unwrap());
        assert_eq!(pop(&mut other), Ok(b"two".to_vec()));
        let short = Err(Error::BufferLen { message: 3 });
        assert_eq!(consumer.try_pop(&mut [0; 2]), short);
        assert_eq!(pop(&mut consumer), Ok(b"one".to_vec()));

        let mut batch = consumer.try_batch(9).unwrap();
        assert_eq!(batch.try_next().unwrap().len(), 5);
        assert_eq!(batch.try_next().map(drop), Err(Error::Empty));
        drop(batch);
        assert_eq!(pop(&mut other), Err(Error::Empty));
        drop(consumer);
        eventually("the other one gets it", || {
            pop(&mut other) == Ok(b"three".to_vec())
        });

        // Of a batch the rest is next.
        producer.try_push_all(&[b"1", b"2", b"3", b"4"]).unwrap();
        let mut batch = other.try_batch(3).unwrap();
        batch.try_next().unwrap();
        batch.release();
        for text in [b"2", b"3", b"4"] {
            assert_eq!(pop(&mut other), Ok(text.to_vec()));
        }
        // Before the end is told, too.
        producer.try_push(b"last").unwrap();
        let mut leaving = self::consumer(&fd);
        drop(leaving.try_peek().unwrap());
        drop(leaving);
        drop(producer);
        assert_eq!(pop(&mut other), Ok(b"last".to_vec()));
        assert_eq!(pop(&mut other), Err(Error::Closed));
    });
}

#[test]
fn who_holds_messages_around_an_aborted_claim_keeps_the_second() {
    isolated!(|| {
        let fd = ring(256);
        let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
        producer.try_push(b"first").unwrap();
        producer.try_claim(100).unwrap().abort();
        producer.try_push(b"second").unwrap();
        // Both are taken, and the claim between them with them.
        drop(consumer.try_batch(2).unwrap());
        assert_eq!(pop(&mut consumer), Ok(b"first".to_vec()));
        // The room of the claim is used again.
        while producer.try_push(&[0xff; 50]).is_ok() {}
        let mut batch = consumer.try_batch(2).unwrap();
        assert_eq!(batch.try_next().unwrap().len(), 6);
        batch.release();
        assert_eq!(pop(&mut consumer), Ok(vec![0xff; 50]));
    });
}

#[test]
fn death_is_seen_after_all_was_drained() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let dying = mortal(|| {
            let mut producer = producer(&fd);
            producer.try_push(b"one").unwrap();
            std::mem::forget(producer.try_claim(8).unwrap());
            producer.try_push(b"two").unwrap();
            std::mem::forget(producer);
        });
        dying.kill();
        let taking = mortal(|| {
            let mut consumer = self::consumer(&fd);
            drop(consumer.try_peek().unwrap());
            std::mem::forget(consumer);
        });
        taking.kill();
        let wait = patiently(Wait::SPIN_THEN_SLEEP);
        let mut both = [0, 1].map(|_| next(&mut consumer, wait).unwrap());
        both.sort();
        assert_eq!(both, [b"one".to_vec(), b"two".to_vec()]);
        for wait in [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP] {
            let end = next(&mut consumer, patiently(wait));
            assert_eq!(end, Err(Error::PeerDead));
        }
        assert_eq!(consumer.counters().lost, 1);
    });
}

#[test]
fn those_who_sleep_are_woken() {
    isolated!(|| {
        let fd = ring(64);
        let mut filling = producer(&fd);
        let readers = [(); 3].map(|()| {
            peer(|| {
                let mut consumer = consumer(&fd);
                let text = next(&mut consumer, patiently(Wait::SLEEP)).unwrap();
                assert_eq!(text, [0; 8]);
            })
        });
        for reader in &readers {
            until_asleep(reader.pid());
        }
        for _ in 0..3 {
            filling.push(&[0; 8], patiently(Wait::SLEEP)).unwrap();
        }
        for reader in readers {
            reader.join();
        }
        let mut consumer = consumer(&fd);
        while filling.try_push(&[0; 8]) == Ok(()) {}
        let writers =
            [(); 3].map(|()| peer(|| producer(&fd).push(&[1; 8], patiently(Wait::SLEEP)).unwrap()));
        for writer in &writers {
            until_asleep(writer.pid());
        }
        for number in [0, 0, 0, 1, 1, 1] {
            let text = next(&mut consumer, patiently(Wait::SLEEP));
            assert_eq!(text, Ok(vec![number; 8]));
        }
        for writer in writers {
            writer.join();
        }
    });
}

#[test]
fn closing_is_seen_when_all_of_a_side_have_left() {
    isolated!(|| {
        let fd = ring(64);
        let (one, mut two) = (producer(&fd), producer(&fd));
        let (mut first, second) = (consumer(&fd), consumer(&fd));
        two.try_push(b"two").unwrap();
        drop((one, two));
        assert_eq!(first.peers(), Peers::Closed);
        assert_eq!(pop(&mut first), Ok(b"two".to_vec()));
        assert_eq!(pop(&mut first), Err(Error::Closed));
        let wait = patiently(Wait::SLEEP);
        assert_eq!(next(&mut first, wait), Err(Error::Closed));
        let mut producer = producer(&fd);
        while producer.try_push(&[0; 8]) == Ok(()) {}
        drop(first);
        assert_eq!(producer.try_push(&[0; 8]), Err(Error::Full));
        drop(second);
        assert_eq!(producer.push(&[0; 8], wait), Err(Error::Closed));
    });
}

#[test]
fn a_ring_is_full_of_consumers_until_one_leaves_or_dies() {
    isolated!(|| {
        let fd = ring(64);
        let dying = mortal(|| std::mem::forget(consumer(&fd)));
        let mut others: Vec<_> = (1..MAX_ENDS).map(|_| consumer(&fd)).collect();
        let refused = || match Consumer::attach(map(&fd)) {
            Err(AttachError::InUse { pid }) => pid,
            other => panic!("{other:?}"),
        };
        let ours = std::process::id();
        assert!([ours, dying.pid() as u32].contains(&refused()));
        others.pop();
        others.push(consumer(&fd));
        refused();
        dying.kill();
        others.push(consumer(&fd));
        assert_eq!(refused(), ours);
    });
}

#[test]
fn rings_of_other_kinds_are_refused() {
    isolated!(|| {
        for other in [Kind::Spsc, Kind::Mpsc, Kind::Broadcast] {
            let fd = ring::create_memfd(c"test", other, 64).unwrap();
            let attached = Consumer::attach(map(&fd)).map(drop);
            let (found, expected) = (other as u32, Kind::Mpmc as u32);
            assert_eq!(attached, Err(AttachError::Kind { found, expected }));
        }
        let fd = ring(64);
        let attached = mpsc::Consumer::attach(map(&fd)).map(drop);
        let (found, expected) = (Kind::Mpmc as u32, Kind::Mpsc as u32);
        assert_eq!(attached, Err(AttachError::Kind { found, expected }));
    });
}

#[test]
fn trusted_memory_lends_messages_in_place() {
    isolated!(|| {
        let fd = ring(256);
        // SAFETY: Only the two rings reach the memory.
        let mut producer = Producer::attach(unsafe { Trusted::new(map(&fd)) }).unwrap();
        // SAFETY: As above.
        let mut consumer = Consumer::attach(unsafe { Trusted::new(map(&fd)) }).unwrap();
        for number in 0..20 {
            let mut claim = producer.try_claim(100).unwrap();
            claim.as_mut_slice().fill(number);
            claim.commit();
            let message = consumer.try_peek().unwrap();
            assert_eq!(message.as_slice(), [number; 100]);
            message.release();
        }
    });
}

#[test]
fn an_event_is_written_when_somebody_armed() {
    isolated!(|| {
        let fd = ring(64);
        let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
        let event = EventFd::new(0).unwrap();
        consumer.set_event(event.try_clone().unwrap().into());
        let is_written = || {
            let mut fds = [PollFd::new(&event, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
        };
        assert_eq!(producer.arm(8), Ok(false), "there is room");
        while producer.try_push(&[0; 8]) == Ok(()) {}
        assert_eq!(producer.arm(8), Ok(true));
        assert_eq!(consumer.arm(), Ok(false), "there is something");
        assert!(!is_written());
        pop(&mut consumer).unwrap();
        assert!(is_written());
    });
}

/// Writes at random, or what could be true, over the ring, and keeps to the rules in between.
fn attack(fd: &OwnedFd) {
    let region = map(fd);
    let bytes = region.bytes();
    let mut random = Random::new();
    let mut producer = None;
    loop {
        let at = match random.below(4) {
            // Tail, turns, head, cursor, bells, first slots.
            0 => [128, 176, 256, 264, 304, 384, 448, 896, 960][random.below(9) as usize],
            1 => {
                let head = bytes.atomic_u64(256).unwrap().load(Ordering::Relaxed);
                let ahead = 8 * random.below(8);
                1408 + (head.wrapping_add(ahead) % 256) as usize / 8 * 8
            }
            2 => 8 * random.below(1408 / 8) as usize,
            _ => 8 * random.below(bytes.len() as u64 / 8) as usize,
        };
        let word = bytes.atomic_u64(at).unwrap();
        let (old, len) = (word.load(Ordering::Relaxed), random.below(256));
        let new = match random.below(8) {
            0 => random.next() << 16 ^ random.next(),
            1 => 0,
            2 => old.wrapping_add(8 * len),
            3 => old.wrapping_sub(8 * len),
            4 => 1 << 56 | len,
            5 => random.below(8) << 56 | random.below(40) << 48 | random.below(4) << 32 | len,
            6 => random.below(4) << 8 | random.below(40),
            _ => old ^ 1 << random.below(64),
        };
        word.store(new, Ordering::Relaxed);
        for _ in 0..random.below(60) {
            let producer = producer.get_or_insert_with(|| Producer::attach(map(fd)).ok());
            let pushed = producer
                .as_mut()
                .map(|producer| producer.try_push(&[1; 20]));
            if !matches!(pushed, Some(Ok(()) | Err(Error::Full))) {
                break;
            }
        }
        if random.below(8) == 0 {
            producer = None;
        }
    }
}

#[test]
fn a_hostile_peer_gets_values_and_errors() {
    isolated!(|| {
        let fd = ring(256);
        let hostile = peer(|| attack(&fd));
        let mut random = Random::new();
        let (mut popped, mut pushed, mut corrupt) = (0, 0, 0);
        let end = Instant::now() + Duration::from_secs(3);
        while Instant::now() < end {
            ring::create(map(&fd), Kind::Mpmc, 256).unwrap();
            let (Ok(mut consumer), Ok(mut producer)) =
                (Consumer::attach(map(&fd)), Producer::attach(map(&fd)))
            else {
                continue;
            };
            for _ in 0..200 {
                let wait = [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP];
                let wait = wait[random.below(3) as usize];
                let wait = wait.timeout(Duration::from_micros(random.below(300)));
                let mut buf = [0; 256];
                let result = match random.below(64) {
                    0 => consumer.pop(&mut buf, wait).map(|len| assert!(len <= 128)),
                    1 => producer.push(&[2; 30], wait),
                    2 => producer.wait(random.below(140) as usize, wait),
                    3 => consumer.wait(wait),
                    4 => producer.free().map(|free| assert!(free <= 248)),
                    5..10 => consumer
                        .try_batch(random.below(100) as usize)
                        .map(|mut batch| {
                            let mut messages = 0;
                            while let Ok(message) = batch.try_next() {
                                let len = message.len();
                                assert_eq!(message.read(0, &mut buf[..len]), Ok(()));
                                messages += 1;
                                assert!(messages <= 50, "more than there can be");
                            }
                            if random.below(2) == 0 {
                                batch.release();
                            }
                        }),
                    10..16 => producer.try_push_all(&[&buf[..9]; 12]).map(drop),
                    16..24 => match producer.try_claim(random.below(130) as usize) {
                        Ok(mut claim) => {
                            let _ = claim.write(0, &buf[..random.below(130) as usize]);
                            claim.commit();
                            Ok(())
                        }
                        Err(error) => Err(error),
                    },
                    24..40 => producer.try_push(&buf[..random.below(128) as usize]),
                    _ => {
                        let popped_one = consumer.try_pop(&mut buf);
                        popped += u32::from(popped_one.is_ok());
                        popped_one.map(|len| assert!(len <= 128))
                    }
                };
                pushed += u32::from(result.is_ok());
                corrupt += u32::from(result == Err(Error::Corrupt));
            }
        }
        hostile.kill();
        println!("{popped} popped, {pushed} done, {corrupt} corrupt");
        assert!(popped > 0 && pushed > 0 && corrupt > 0);
    });
}

#[test]
fn who_clears_a_claim_away_takes_no_event_from_those_who_armed() {
    isolated!(|| {
        let fd = ring(256);
        let (mut clearing, mut armed) = (consumer(&fd), consumer(&fd));
        let mut producer = producer(&fd);
        mortal(|| {
            let mut producer = self::producer(&fd);
            std::mem::forget(producer.try_claim(8).unwrap());
            std::mem::forget(producer);
        })
        .kill();
        let [of_consumers, of_producers] = [(); 2].map(|()| EventFd::new(0).unwrap());
        producer.set_event(of_consumers.try_clone().unwrap().into());
        clearing.set_event(of_producers.try_clone().unwrap().into());
        assert_eq!(armed.arm(), Ok(true));
        // Long enough to look for the dead.
        let wait = Wait::SLEEP.timeout(Duration::from_millis(200));
        assert_eq!(next(&mut clearing, wait), Err(Error::TimedOut));
        assert_eq!(clearing.counters().lost, 1);
        producer.try_push(b"for who armed").unwrap();
        assert_eq!(of_consumers.try_take().unwrap(), 1);
        assert!(of_producers.try_take().is_err());
        assert_eq!(pop(&mut armed).unwrap(), b"for who armed");
    });
}
