//! The ring for one producer and one consumer, between two processes where two sides matter.

mod support;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linipc::event::eventfd::EventFd;
use linipc::socket::cmsg::CmsgExt;
use linipc_core::Errno;
use linipc_core::map::{Access, Region};
use linipc_core::memfd::{self, SealFlags};
use linipc_core::posix;
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{
    self, AttachError, Error, Kind, MAX_CAPACITY, Memory, Peers, Trusted, Wait,
};
use linipc_core::sysv;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, kill_process};
use support::{PATIENCE, Peer, catch_signals, caught, eventually, peer, until_asleep};

const RW: Access = Access::READ.union(Access::WRITE);
/// Where the header has its fields (the picture in `ring`'s page).
const VERSION: usize = 8;
const KIND: usize = 12;
const CAPACITY: usize = 16;
const ITEM: usize = 24;
const HEAD: usize = 256;
const DATA: usize = 1408;

const WAITS: [Wait; 3] = [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP];

fn ring(capacity: u64) -> OwnedFd {
    ring::create_memfd(c"test", Kind::Spsc, capacity).unwrap()
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

fn both(capacity: u64) -> (Producer<Region>, Consumer<Region>) {
    let fd = ring(capacity);
    (producer(&fd), consumer(&fd))
}

/// However the peer is scheduled, it is done before this.
fn patiently(wait: Wait) -> Wait {
    wait.timeout(PATIENCE)
}

/// What message `number` of `len` bytes says.
fn text(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|i| (number * 31 + i * 7 + 1) as u8).collect()
}

fn pop(consumer: &mut Consumer<impl Memory>) -> Result<Vec<u8>, Error> {
    let mut buf = vec![0; consumer.max_message()];
    let len = consumer.try_pop(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

/// As [`pop`], but waits.
fn next(consumer: &mut Consumer<impl Memory>, wait: Wait) -> Result<Vec<u8>, Error> {
    let mut buf = vec![0; consumer.max_message()];
    let len = consumer.pop(&mut buf, wait)?;
    buf.truncate(len);
    Ok(buf)
}

/// Pushes empty messages until there is no room; gives how many.
fn fill(producer: &mut Producer<impl Memory>) -> usize {
    let mut messages = 0;
    while producer.free().unwrap() > 0 {
        producer.try_push(b"").unwrap();
        messages += 1;
    }
    messages
}

/// How far a peer is, in memory that it shares with us.
struct Phase(Region);

impl Phase {
    fn new() -> Self {
        Self(Region::anonymous(4096, RW).unwrap())
    }

    fn word(&self) -> &AtomicU32 {
        self.0.bytes().atomic_u32(0).unwrap()
    }

    fn reach(&self, phase: u32) {
        self.word().store(phase, Ordering::Release);
    }

    fn is(&self, phase: u32) -> bool {
        self.word().load(Ordering::Acquire) == phase
    }

    fn expect(&self, phase: u32) {
        eventually("the next phase", || self.is(phase));
    }
}

/// A process that runs `body`, and then does nothing until it is killed.
fn mortal(body: impl FnOnce(&Phase)) -> Peer {
    let phase = Phase::new();
    let peer = peer(|| {
        body(&phase);
        phase.reach(u32::MAX);
        loop {
            sleep(PATIENCE);
        }
    });
    phase.expect(u32::MAX);
    peer
}

#[test]
fn messages_of_every_length_arrive_whole_at_every_place() {
    isolated!(|| {
        for (capacity, step) in [(64, 1), (256, 1), (4096, 3)] {
            let fd = ring(capacity);
            let lengths = || (0..4).flat_map(|_| (0..=capacity as usize / 2).step_by(step));
            let mut producer = producer(&fd);
            assert_eq!(producer.max_message(), capacity as usize / 2);
            assert_eq!(producer.capacity(), capacity as usize);
            let reader = peer(|| {
                let mut consumer = consumer(&fd);
                assert_eq!(consumer.max_message(), capacity as usize / 2);
                assert_eq!(consumer.capacity(), capacity as usize);
                for (number, len) in lengths().enumerate() {
                    let message = next(&mut consumer, patiently(Wait::SPIN_THEN_SLEEP)).unwrap();
                    assert_eq!(message, text(number, len), "{len} bytes, the {number}th");
                }
            });
            for (number, len) in lengths().enumerate() {
                let message = text(number, len);
                producer
                    .push(&message, patiently(Wait::SPIN_THEN_SLEEP))
                    .unwrap();
            }
            reader.join();
        }
    });
}

#[test]
fn the_longest_message_fits_an_empty_ring_wherever_it_begins() {
    let (mut producer, mut consumer) = both(64);
    for number in 0..40 {
        assert_eq!(producer.free(), Ok(56), "the ring is empty");
        producer.try_push(&text(number, 32)).unwrap();
        assert_eq!(pop(&mut consumer), Ok(text(number, 32)));
        // So that the next one begins 8 bytes further on than the last one ended.
        producer.try_push(b"").unwrap();
        assert_eq!(pop(&mut consumer), Ok(vec![]));
    }
}

#[test]
fn what_is_too_long_is_told_the_longest() {
    let (mut producer, mut consumer) = both(256);
    let too_long = Err(Error::TooLong { max: 128 });
    assert_eq!(producer.try_push(&[0; 129]), too_long);
    assert_eq!(producer.push(&[0; 129], Wait::SLEEP), too_long);
    assert_eq!(producer.try_push_value(&[0_u8; 129]), too_long);
    assert_eq!(producer.wait(129, Wait::SLEEP), too_long);
    assert_eq!(producer.arm(129).map(drop), too_long);
    assert_eq!(producer.try_claim(129).map(drop), too_long);
    assert_eq!(producer.try_claim(usize::MAX).map(drop), too_long);
    assert_eq!(producer.batch().try_push(&[0; 129]), too_long);
    assert_eq!(pop(&mut consumer), Err(Error::Empty));
    producer.try_push(&[5; 128]).unwrap();
    assert_eq!(pop(&mut consumer), Ok(vec![5; 128]));
}

#[test]
fn room_is_counted_to_the_byte() {
    let (mut producer, mut consumer) = both(256);
    let mut free = 248;
    for (len, takes) in [
        (0, 8),
        (1, 16),
        (7, 16),
        (8, 16),
        (9, 24),
        (16, 24),
        (17, 32),
    ] {
        assert_eq!(producer.free(), Ok(free));
        producer.try_push(&text(len, len)).unwrap();
        free -= takes;
    }
    assert_eq!(producer.free(), Ok(112));
    assert_eq!(producer.try_push(&[0; 105]), Err(Error::Full));
    producer.try_push(&[1; 104]).unwrap();
    assert_eq!(producer.free(), Ok(0));
    assert_eq!(producer.try_push(b""), Err(Error::Full));
    assert_eq!(producer.try_claim(0).map(drop), Err(Error::Full));

    assert_eq!(pop(&mut consumer), Ok(vec![]));
    assert_eq!(producer.free(), Ok(8), "what was released, at once");
    assert_eq!(producer.try_push(&[0]), Err(Error::Full));
    producer.try_push(b"").unwrap();
    assert_eq!(producer.try_push(b""), Err(Error::Full));
    for len in [1, 7, 8, 9, 16, 17] {
        assert_eq!(pop(&mut consumer), Ok(text(len, len)));
    }
    assert_eq!(pop(&mut consumer), Ok(vec![1; 104]));
    assert_eq!(pop(&mut consumer), Ok(vec![]));
    assert_eq!(pop(&mut consumer), Err(Error::Empty));
    assert_eq!(producer.free(), Ok(248));
    assert_eq!(fill(&mut producer), 31);
}

#[test]
fn a_claim_is_a_message_when_it_is_committed_and_not_before() {
    let (mut producer, mut consumer) = both(256);
    let free = producer.free();

    let mut claim = producer.try_claim(10).unwrap();
    assert_eq!(claim.len(), 10);
    claim.write(0, b"0123").unwrap();
    claim.write(4, b"456789").unwrap();
    claim.write(10, b"").unwrap();
    for (offset, bytes) in [(10, 1), (0, 11), (11, 0), (usize::MAX, 2)] {
        let beyond = claim.write(offset, &vec![0; bytes]);
        assert_eq!(beyond, Err(Error::TooLong { max: 10 }), "{offset}");
    }
    assert_eq!(pop(&mut consumer), Err(Error::Empty));
    claim.commit();
    assert_eq!(pop(&mut consumer), Ok(b"0123456789".to_vec()));

    producer.try_claim(100).unwrap().abort();
    drop(producer.try_claim(100).unwrap());
    assert_eq!(
        producer.free(),
        free,
        "nothing is taken by what was given up"
    );
    assert_eq!(pop(&mut consumer), Err(Error::Empty));
    assert_eq!(producer.counters().messages, 1);

    let mut claim = producer.try_claim(100).unwrap();
    claim.write(0, b"short").unwrap();
    assert_eq!(claim.truncate(101), Err(Error::TooLong { max: 100 }));
    claim.truncate(6).unwrap();
    assert_eq!(claim.truncate(7), Err(Error::TooLong { max: 6 }));
    claim.truncate(5).unwrap();
    assert_eq!(claim.write(5, b"x"), Err(Error::TooLong { max: 5 }));
    claim.commit();
    assert_eq!(producer.free(), Ok(248 - 16), "what was cut off is free");
    producer.try_push(b"behind").unwrap();
    assert_eq!(pop(&mut consumer), Ok(b"short".to_vec()));
    assert_eq!(pop(&mut consumer), Ok(b"behind".to_vec()));
}

#[test]
fn a_peek_leaves_the_message_and_a_release_takes_it() {
    let (mut producer, mut consumer) = both(256);
    assert_eq!(consumer.try_peek().map(drop), Err(Error::Empty));
    producer.try_push(b"0123456789").unwrap();
    producer.try_push(b"next").unwrap();
    let free = producer.free();
    for _ in 0..3 {
        let message = consumer.try_peek().unwrap();
        assert_eq!(message.len(), 10);
        let mut part = [0; 4];
        message.read(6, &mut part).unwrap();
        assert_eq!(&part, b"6789");
        message.read(10, &mut []).unwrap();
        let beyond = Err(Error::BufferLen { message: 10 });
        assert_eq!(message.read(7, &mut part), beyond);
        assert_eq!(message.read(11, &mut []), beyond);
        assert_eq!(message.read(usize::MAX, &mut part), beyond);
    }
    assert_eq!(producer.free(), free);
    consumer.try_peek().unwrap().release();
    assert_eq!(producer.free(), free.map(|free| free + 24));
    assert_eq!(pop(&mut consumer), Ok(b"next".to_vec()));
}

#[test]
fn a_message_stays_if_the_buffer_is_shorter() {
    let (mut producer, mut consumer) = both(256);
    producer.try_push(b"four").unwrap();
    let short = Err(Error::BufferLen { message: 4 });
    assert_eq!(consumer.try_pop(&mut [0; 3]), short);
    assert_eq!(consumer.pop(&mut [], Wait::SLEEP), short);
    let mut buf = [9; 6];
    assert_eq!(consumer.try_pop(&mut buf), Ok(4));
    assert_eq!(&buf, b"four\x09\x09", "the rest is as it was");
}

#[test]
fn plain_values_go_as_messages_of_their_size() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        peer(|| {
            let mut producer = producer(&fd);
            producer.try_push_value(&0x1122_3344_5566_7788_u64).unwrap();
            producer.try_push_value(&[1.5_f32, -0.0, 2.0]).unwrap();
            producer.try_push(&[7, 0, 0]).unwrap();
        })
        .join();
        let other = Err(Error::BufferLen { message: 8 });
        assert_eq!(consumer.try_pop_value::<u32>().map(drop), other);
        assert_eq!(consumer.try_pop_value::<u128>().map(drop), other);
        assert_eq!(consumer.try_pop_value(), Ok(0x1122_3344_5566_7788_u64));
        assert_eq!(consumer.try_pop_value(), Ok([1.5_f32, -0.0, 2.0]));
        let other = Err(Error::BufferLen { message: 3 });
        assert_eq!(consumer.try_pop_value::<u16>().map(drop), other);
        assert_eq!(consumer.try_pop_value(), Ok([7_u8, 0, 0]));
    });
}

#[test]
fn a_batch_is_seen_as_a_whole_or_not_at_all() {
    let (mut producer, mut consumer) = both(256);
    for round in 0..20 {
        let mut batch = producer.batch();
        batch.try_push(&text(round, 9)).unwrap();
        let mut claim = batch.try_claim(40).unwrap();
        claim.write(0, &text(round, 20)).unwrap();
        claim.truncate(20).unwrap();
        claim.commit();
        batch.try_claim(30).unwrap().abort();
        batch.try_push(b"").unwrap();
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
        batch.commit();
        assert_eq!(pop(&mut consumer), Ok(text(round, 9)));
        assert_eq!(pop(&mut consumer), Ok(text(round, 20)));
        assert_eq!(pop(&mut consumer), Ok(vec![]));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));

        let mut batch = producer.batch();
        batch.try_push(b"never").unwrap();
        batch.try_push(b"seen").unwrap();
        match round % 2 {
            0 => batch.abort(),
            _ => drop(batch),
        }
        producer.batch().commit();
        assert_eq!(producer.counters().messages, 3 * (round as u64 + 1));
        assert_eq!(producer.free(), Ok(248));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
    }
}

#[test]
fn a_batch_that_finds_no_more_room_is_committed_with_what_it_has() {
    let (mut producer, mut consumer) = both(64);
    for _ in 0..9 {
        let mut batch = producer.batch();
        batch.try_push(&[1; 16]).unwrap();
        batch.try_push(&[2; 8]).unwrap();
        assert_eq!(batch.try_push(&[3; 9]), Err(Error::Full));
        assert_eq!(batch.try_claim(32).map(drop), Err(Error::Full));
        assert_eq!(
            batch.try_push(&[3; 33]),
            Err(Error::TooLong { max: 32 }),
            "which does not depend on the batch"
        );
        batch.try_push(&[4; 8]).unwrap();
        assert_eq!(batch.try_push(&[]), Err(Error::Full));
        batch.commit();
        assert_eq!(producer.free(), Ok(0));
        assert_eq!(pop(&mut consumer), Ok(vec![1; 16]));
        assert_eq!(pop(&mut consumer), Ok(vec![2; 8]));
        assert_eq!(pop(&mut consumer), Ok(vec![4; 8]));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
    }
}

#[test]
fn what_a_batch_read_stays_until_it_is_released() {
    let (mut producer, mut consumer) = both(256);
    for round in 0..20 {
        for i in 0..3 {
            producer.try_push(&text(round, i * 10)).unwrap();
        }
        let free = producer.free().unwrap();
        for is_last in [false, true] {
            let mut batch = consumer.batch();
            for i in 0..3 {
                let message = batch.try_next().unwrap();
                let mut bytes = vec![0; message.len()];
                message.read(0, &mut bytes).unwrap();
                assert_eq!(bytes, text(round, i * 10));
                let beyond = message.read(1, &mut bytes);
                let expected = match i {
                    0 => Err(Error::BufferLen { message: 0 }),
                    _ => Err(Error::BufferLen { message: i * 10 }),
                };
                assert_eq!(beyond, expected);
            }
            assert_eq!(batch.try_next().map(drop), Err(Error::Empty));
            match is_last {
                false => drop(batch),
                true => batch.release(),
            }
            let released = if is_last { 8 + 24 + 32 } else { 0 };
            assert_eq!(producer.free(), Ok(free + released));
        }
        consumer.batch().release();
        assert_eq!(consumer.counters().messages, 3 * (round as u64 + 1));
    }
}

#[test]
fn trusted_memory_lends_messages_in_place() {
    isolated!(|| {
        let fd = ring(256);
        // SAFETY: Both processes use this crate's rings only.
        let trusted = || unsafe { Trusted::new(map(&fd)) };
        let mut consumer = Consumer::attach(trusted()).unwrap();
        let writer = peer(|| {
            let mut producer = Producer::attach(trusted()).unwrap();
            for number in 0..100 {
                let wait = patiently(Wait::SPIN_THEN_SLEEP);
                producer.wait(number, wait).unwrap();
                let mut claim = producer.try_claim(number).unwrap();
                claim.as_mut_slice().copy_from_slice(&text(number, number));
                claim.commit();
            }
        });
        for number in 0..100 {
            consumer.wait(patiently(Wait::SPIN_THEN_SLEEP)).unwrap();
            if number % 2 == 0 {
                let message = consumer.try_peek().unwrap();
                assert_eq!(message.as_slice(), text(number, number));
                message.release();
            } else {
                let mut batch = consumer.batch();
                let message = batch.try_next().unwrap();
                assert_eq!(message.as_slice(), text(number, number));
                batch.release();
            }
        }
        writer.join();
    });
}

#[test]
fn counters_go_on_from_one_handle_to_the_next() {
    isolated!(|| {
        let fd = ring(64);
        let mut reader = consumer(&fd);
        for round in 1..=3 {
            peer(|| {
                let mut producer = producer(&fd);
                producer.try_push(&[1; 16]).unwrap();
                producer.try_push(&[2; 20]).unwrap();
                assert_eq!(producer.try_push(b"x"), Err(Error::Full));
                let counters = producer.counters();
                assert_eq!(counters.messages, 2 * round);
                assert_eq!(counters.bytes, 36 * round);
                assert_eq!(counters.refused, round);
                assert_eq!(counters.lost, 0);
            })
            .join();
            assert_eq!(pop(&mut reader), Ok(vec![1; 16]));
            reader = {
                drop(reader);
                consumer(&fd)
            };
            let mut batch = reader.batch();
            batch.try_next().unwrap();
            batch.release();
            let counters = reader.counters();
            assert_eq!((counters.messages, counters.bytes), (2 * round, 36 * round));
            assert_eq!((counters.refused, counters.lost), (0, 0));
        }
    });
}

#[test]
fn a_push_that_waits_is_refused_once() {
    let (mut producer, _consumer) = both(64);
    fill(&mut producer);
    for (refused, wait) in (1..).zip(WAITS) {
        let wait = wait.timeout(Duration::from_millis(20));
        assert_eq!(producer.push(b"", wait), Err(Error::TimedOut));
        assert_eq!(producer.counters().refused, refused);
    }
    assert_eq!(producer.arm(0), Ok(true));
    assert_eq!(producer.counters().refused, 3, "it was not pushed");
}

#[test]
fn closing_is_seen_after_all_was_drained() {
    isolated!(|| {
        for wait in WAITS {
            let fd = ring(256);
            let mut consumer = consumer(&fd);
            assert_eq!(consumer.peers(), Peers::None);
            peer(|| {
                let mut producer = producer(&fd);
                assert_eq!(producer.peers(), Peers::Alive);
                for number in 0..3 {
                    producer.try_push(&text(number, 20)).unwrap();
                }
            })
            .join();
            assert_eq!(consumer.peers(), Peers::Closed);
            assert_eq!(pop(&mut consumer), Ok(text(0, 20)));
            assert_eq!(next(&mut consumer, wait), Ok(text(1, 20)));
            assert_eq!(consumer.arm(), Ok(false), "there is one more");
            consumer.wait(wait).unwrap();
            let mut batch = consumer.batch();
            batch.try_next().unwrap();
            assert_eq!(batch.try_next().map(drop), Err(Error::Closed));
            batch.release();
            assert_eq!(pop(&mut consumer), Err(Error::Closed));
            assert_eq!(next(&mut consumer, wait), Err(Error::Closed));
            assert_eq!(consumer.wait(wait), Err(Error::Closed));
            assert_eq!(consumer.arm(), Err(Error::Closed));
            assert_eq!(consumer.try_peek().map(drop), Err(Error::Closed));

            // Somebody else opens it again.
            let mut producer = producer(&fd);
            assert_eq!(pop(&mut consumer), Err(Error::Empty));
            producer.try_push(b"again").unwrap();
            assert_eq!(next(&mut consumer, wait), Ok(b"again".to_vec()));
        }
    });
}

#[test]
fn a_producer_learns_that_the_ring_is_closed_when_there_is_no_room() {
    isolated!(|| {
        for wait in WAITS {
            let fd = ring(64);
            let mut producer = producer(&fd);
            peer(|| drop(consumer(&fd))).join();
            assert_eq!(producer.peers(), Peers::Closed);
            producer.try_push(&[1; 32]).unwrap();
            assert_eq!(producer.try_push(&[2; 32]), Err(Error::Closed));
            assert_eq!(producer.push(&[2; 32], wait), Err(Error::Closed));
            assert_eq!(producer.wait(32, wait), Err(Error::Closed));
            let mut consumer = consumer(&fd);
            assert_eq!(producer.try_push(&[2; 32]), Err(Error::Full));
            assert_eq!(pop(&mut consumer), Ok(vec![1; 32]));
        }
    });
}

#[test]
fn who_sleeps_is_woken_by_a_close() {
    isolated!(|| {
        let (fd, phase) = (ring(64), Phase::new());
        let producer = producer(&fd);
        let sleeper = peer(|| {
            let mut consumer = consumer(&fd);
            phase.reach(1);
            assert_eq!(next(&mut consumer, Wait::SLEEP), Err(Error::Closed));
        });
        phase.expect(1);
        until_asleep(sleeper.pid());
        drop(producer);
        sleeper.join();

        let consumer = consumer(&fd);
        let sleeper = peer(|| {
            let mut producer = self::producer(&fd);
            fill(&mut producer);
            phase.reach(2);
            assert_eq!(producer.push(b"", Wait::SLEEP), Err(Error::Closed));
        });
        phase.expect(2);
        until_asleep(sleeper.pid());
        drop(consumer);
        sleeper.join();
    });
}

#[test]
fn a_dead_producer_is_seen_after_all_was_drained() {
    isolated!(|| {
        for wait in WAITS {
            let fd = ring(256);
            let mut consumer = consumer(&fd);
            let writer = mortal(|_| {
                let mut producer = producer(&fd);
                for number in 0..3 {
                    producer.try_push(&text(number, 20)).unwrap();
                }
                let mut claim = producer.try_claim(20).unwrap();
                claim.write(0, b"unfinished").unwrap();
                std::mem::forget(producer);
            });
            assert_eq!(consumer.peers(), Peers::Alive);
            writer.kill();
            assert_eq!(consumer.peers(), Peers::Dead);
            for number in 0..3 {
                assert_eq!(next(&mut consumer, wait), Ok(text(number, 20)));
            }
            assert_eq!(pop(&mut consumer), Err(Error::Empty));
            assert_eq!(next(&mut consumer, wait), Err(Error::PeerDead));
            assert_eq!(next(&mut consumer, patiently(wait)), Err(Error::PeerDead));
        }
    });
}

#[test]
fn a_dead_consumer_is_seen_when_there_is_no_room() {
    isolated!(|| {
        for wait in WAITS {
            let fd = ring(64);
            let mut producer = producer(&fd);
            mortal(|_| std::mem::forget(consumer(&fd))).kill();
            producer.push(&[1; 32], wait).unwrap();
            assert_eq!(producer.try_push(&[2; 32]), Err(Error::Full));
            assert_eq!(producer.push(&[2; 32], wait), Err(Error::PeerDead));
            assert_eq!(producer.wait(32, wait), Err(Error::PeerDead));
            producer.push(&[3; 8], wait).unwrap();
        }
    });
}

#[test]
fn who_sleeps_without_a_deadline_notices_a_death() {
    isolated!(|| {
        for wait in WAITS {
            let (fd, phase) = (ring(64), Phase::new());
            let writer = mortal(|_| std::mem::forget(producer(&fd)));
            let sleeper = peer(|| {
                let mut consumer = consumer(&fd);
                phase.reach(1);
                assert_eq!(next(&mut consumer, wait), Err(Error::PeerDead));
            });
            phase.expect(1);
            if wait != Wait::SPIN {
                until_asleep(sleeper.pid());
            }
            writer.kill();
            sleeper.join();

            let reader = mortal(|_| std::mem::forget(consumer(&fd)));
            let sleeper = peer(|| {
                let mut producer = producer(&fd);
                fill(&mut producer);
                phase.reach(2);
                assert_eq!(producer.push(b"", wait), Err(Error::PeerDead));
            });
            phase.expect(2);
            if wait != Wait::SPIN {
                until_asleep(sleeper.pid());
            }
            reader.kill();
            sleeper.join();
        }
    });
}

#[test]
fn who_is_only_stopped_is_not_dead() {
    isolated!(|| {
        let fd = ring(64);
        let mut consumer = consumer(&fd);
        let writer = mortal(|_| std::mem::forget(producer(&fd)));
        kill_process(pid(&writer), Signal::STOP).unwrap();
        for wait in WAITS {
            let wait = wait.timeout(Duration::from_millis(120));
            assert_eq!(next(&mut consumer, wait), Err(Error::TimedOut));
        }
        assert_eq!(consumer.peers(), Peers::Alive);
        let taken = Producer::attach(map(&fd)).map(drop);
        let alive = writer.pid() as u32;
        assert_eq!(taken, Err(AttachError::InUse { pid: alive }));
        writer.kill();
    });
}

fn pid(peer: &Peer) -> rustix::process::Pid {
    rustix::process::Pid::from_raw(peer.pid()).unwrap()
}

#[test]
fn a_new_producer_goes_on_in_place_of_a_dead_one() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let mut expected = 0;
        for round in 0..20 {
            mortal(|_| {
                let mut producer = producer(&fd);
                for number in 0..3 {
                    producer.try_push(&text(3 * round + number, 30)).unwrap();
                }
                // As much as there is room for, but never published.
                let mut batch = producer.batch();
                while batch.try_push(&[0xff; 16]).is_ok() {}
                std::mem::forget(producer);
            })
            .kill();
            // So that the new one finds something unread, from where on it looks for the end.
            for _ in 0..3 - usize::from(round == 0) {
                assert_eq!(pop(&mut consumer), Ok(text(expected, 30)));
                expected += 1;
            }
        }
        assert_eq!(pop(&mut consumer), Ok(text(expected, 30)));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
    });
}

#[test]
fn a_new_consumer_goes_on_in_place_of_a_dead_one() {
    isolated!(|| {
        let fd = ring(256);
        let mut producer = producer(&fd);
        for round in 0..20 {
            for number in 0..3 {
                producer.try_push(&text(round + number, 30)).unwrap();
            }
            mortal(|_| {
                let mut consumer = consumer(&fd);
                assert_eq!(pop(&mut consumer), Ok(text(round, 30)));
                let mut batch = consumer.batch();
                batch.try_next().unwrap();
                batch.try_next().unwrap();
                std::mem::forget(consumer);
            })
            .kill();
            let mut consumer = consumer(&fd);
            assert_eq!(pop(&mut consumer), Ok(text(round + 1, 30)));
            drop(consumer);
            let mut consumer = self::consumer(&fd);
            assert_eq!(pop(&mut consumer), Ok(text(round + 2, 30)));
            assert_eq!(pop(&mut consumer), Err(Error::Empty));
        }
    });
}

#[test]
fn a_second_one_on_a_side_is_refused() {
    isolated!(|| {
        let fd = ring(64);
        let me = std::process::id();
        let (first, second) = (producer(&fd), consumer(&fd));
        let refused = || {
            let in_use = Err(AttachError::InUse { pid: me });
            assert_eq!(Producer::attach(map(&fd)).map(drop), in_use);
            assert_eq!(Consumer::attach(map(&fd)).map(drop), in_use);
        };
        refused();
        peer(refused).join();
        drop((first, second));
        drop((producer(&fd), consumer(&fd)));
    });
}

#[test]
fn of_many_who_attach_at_once_one_does() {
    isolated!(|| {
        for _ in 0..100 {
            let (fd, begin, end) = (ring(64), Phase::new(), Phase::new());
            let winner = Phase::new();
            let rivals: [Peer; 3] = std::array::from_fn(|_| {
                peer(|| {
                    let memory = map(&fd);
                    begin.word().fetch_add(1, Ordering::Relaxed);
                    while begin.word().load(Ordering::Relaxed) < 3 {
                        std::thread::yield_now();
                    }
                    let attached = Producer::attach(memory);
                    if attached.is_ok() {
                        winner.reach(std::process::id());
                    }
                    end.word().fetch_add(1, Ordering::Relaxed);
                    // Nobody leaves before all have tried.
                    end.expect(3);
                    if let Err(error) = attached {
                        let pid = winner.word().load(Ordering::Relaxed);
                        assert_eq!(error, AttachError::InUse { pid });
                    }
                })
            });
            rivals.into_iter().for_each(Peer::join);
            assert!(!winner.is(0), "somebody attached");
        }
    });
}

#[test]
fn a_copy_in_a_forked_child_does_not_leave() {
    isolated!(|| {
        let fd = ring(64);
        let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
        producer.try_push(b"counted").unwrap();
        let (producer_copy, consumer_copy) = {
            // SAFETY: Only the child uses the copies.
            let copies = unsafe { (std::ptr::read(&producer), std::ptr::read(&consumer)) };
            (
                std::mem::ManuallyDrop::new(copies.0),
                std::mem::ManuallyDrop::new(copies.1),
            )
        };
        peer(|| {
            drop(std::mem::ManuallyDrop::into_inner(producer_copy));
            drop(std::mem::ManuallyDrop::into_inner(consumer_copy));
        })
        .join();
        assert_eq!(consumer.peers(), Peers::Alive);
        assert_eq!(producer.peers(), Peers::Alive);
        assert_eq!(pop(&mut consumer), Ok(b"counted".to_vec()));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
        assert_eq!(producer.counters().messages, 1, "counted once");
        assert_eq!(consumer.counters().messages, 1, "counted once");
    });
}

/// A ring in anonymous memory, and views of it.
fn memory(len: usize) -> Region {
    Region::anonymous(len, RW).unwrap()
}

fn attach_both(memory: impl Memory + Copy) -> [Result<(), AttachError>; 2] {
    [
        Producer::attach(memory).map(drop),
        Consumer::attach(memory).map(drop),
    ]
}

#[test]
fn memory_without_this_ring_is_refused_by_name() {
    let region = memory(8192);
    let bytes = region.bytes();
    let refused = |error| assert_eq!(attach_both(bytes), [Err(error); 2]);
    refused(AttachError::NotARing);
    bytes.write(0, b"linipc-r").unwrap();
    refused(AttachError::NotARing);

    for kind in [Kind::Mpsc, Kind::Mpmc, Kind::Broadcast] {
        ring::create(bytes, kind, 1024).unwrap();
        refused(AttachError::Kind {
            found: kind as u32,
            expected: 1,
        });
    }
    let not_of_messages = ring::create(bytes, Kind::Items, 1024);
    assert!(matches!(not_of_messages, Err(AttachError::Kind { .. })));

    let fresh = || ring::create(bytes, Kind::Spsc, 1024).unwrap();
    fresh();
    bytes.write(VERSION, &7_u32.to_ne_bytes()).unwrap();
    refused(AttachError::Version {
        found: 7,
        expected: 1,
    });
    let said = Producer::attach(bytes).unwrap_err().to_string();
    assert!(said.contains('7') && said.contains('1'), "{said}");
    fresh();
    bytes.write(KIND, &99_u32.to_ne_bytes()).unwrap();
    refused(AttachError::Kind {
        found: 99,
        expected: 1,
    });
    fresh();
    bytes.write(ITEM, &4_u64.to_ne_bytes()).unwrap();
    refused(AttachError::ItemSize {
        found: 4,
        expected: 0,
    });
    for capacity in [0, 8, 32, 100, 1023, 1 << 32, u64::MAX] {
        fresh();
        bytes.write(CAPACITY, &capacity.to_ne_bytes()).unwrap();
        refused(AttachError::Corrupt);
    }
    fresh();
    bytes.write(CAPACITY, &8192_u64.to_ne_bytes()).unwrap();
    refused(AttachError::TooSmall {
        needed: ring::len(8192).unwrap(),
    });
    fresh();
    assert_eq!(attach_both(bytes), [Ok(()); 2]);
}

#[test]
fn memory_that_no_ring_can_be_in_is_refused_by_name() {
    let region = memory(8192);
    let bytes = region.bytes();
    let needed = ring::len(1024).unwrap();
    let part = |offset, len| bytes.slice(offset, len).unwrap();
    let refused = |memory, error| {
        assert_eq!(ring::create(memory, Kind::Spsc, 1024), Err(error));
        assert_eq!(attach_both(memory), [Err(error); 2]);
    };
    for len in [0, 1, DATA - 1] {
        refused(part(0, len), AttachError::TooSmall { needed: DATA });
    }
    ring::create(bytes, Kind::Spsc, 1024).unwrap();
    for len in [DATA, needed - 1] {
        refused(part(0, len), AttachError::TooSmall { needed });
    }
    assert_eq!(attach_both(part(0, needed)), [Ok(()); 2]);
    for offset in [1, 8, 64, 127] {
        refused(part(offset, 8000), AttachError::Unaligned);
    }
    ring::create(part(128, needed), Kind::Spsc, 1024).unwrap();
    assert_eq!(attach_both(part(128, needed)), [Ok(()); 2]);

    let fd = ring(1024);
    let readable = Region::shared(&fd, 0, needed, Access::READ).unwrap();
    refused(readable.bytes(), AttachError::ReadOnly);
}

#[test]
fn a_capacity_that_cannot_be_is_told_the_nearest() {
    let region = memory(8192);
    for (capacity, nearest) in [
        (0, 64),
        (1, 64),
        (63, 64),
        (65, 64),
        (95, 64),
        (96, 128),
        (100, 128),
        (1000, 1024),
        (MAX_CAPACITY + 1, MAX_CAPACITY),
        (u64::MAX, MAX_CAPACITY),
    ] {
        let error = AttachError::Capacity { nearest };
        assert_eq!(ring::len(capacity), Err(error), "{capacity}");
        let created = ring::create(region.bytes(), Kind::Spsc, capacity);
        assert_eq!(created, Err(error));
        let created = ring::create_memfd(c"test", Kind::Spsc, capacity);
        assert_eq!(created.map(drop), Err(error));
        assert!(error.to_string().contains(&nearest.to_string()));
    }
}

#[test]
fn a_descriptor_whose_length_may_change_is_refused() {
    let memfd = memfd::create(c"test", memfd::Flags::empty()).unwrap();
    rustix::fs::ftruncate(&memfd, 8192).unwrap();
    assert_eq!(ring::map(&memfd).map(drop), Err(AttachError::Unsealed));
    memfd::fcntl_add_seals(&memfd, SealFlags::GROW).unwrap();
    assert_eq!(ring::map(&memfd).map(drop), Err(AttachError::Unsealed));
    memfd::fcntl_add_seals(&memfd, SealFlags::SHRINK).unwrap();
    let attached = Producer::attach(ring::map(&memfd).unwrap()).map(drop);
    assert_eq!(attached, Err(AttachError::NotARing));

    match memfd::create(c"test", memfd::Flags::HUGETLB) {
        Ok(huge) => {
            rustix::fs::ftruncate(&huge, 2 << 20).unwrap();
            memfd::fcntl_add_seals(&huge, SealFlags::SHRINK | SealFlags::GROW).unwrap();
            assert_eq!(ring::map(&huge).map(drop), Err(AttachError::Unsealed));
        }
        Err(error) => support::skip(&format!("no memfd of huge pages: {error}")),
    }

    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    assert_eq!(ring::map(&file).map(drop), Err(AttachError::Unsealed));

    let empty = memfd::create(c"test", memfd::Flags::empty()).unwrap();
    memfd::fcntl_add_seals(&empty, SealFlags::SHRINK).unwrap();
    let needed = AttachError::TooSmall { needed: DATA };
    assert_eq!(ring::map(&empty).map(drop), Err(needed));

    let fd = ring(1024);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
    let readable = std::fs::File::open(path).unwrap();
    let refused = AttachError::System(Errno::ACCESS);
    assert_eq!(ring::map(&readable).map(drop), Err(refused));
}

#[test]
fn who_finds_a_corrupt_ring_leaves_its_place() {
    let fd = ring(1024);
    let patch = map(&fd);
    let set = |at, word: u64| patch.bytes().write(at, &word.to_ne_bytes()).unwrap();
    let producer_is = |expected| {
        assert_eq!(Producer::attach(map(&fd)).map(drop), expected);
    };
    for head in [1, 3, 12, u64::MAX] {
        set(HEAD, head);
        assert_eq!(
            attach_both(patch.bytes()),
            [Err(AttachError::Corrupt); 2],
            "{head}"
        );
    }
    set(HEAD, 0);
    assert_eq!(attach_both(patch.bytes()), [Ok(()); 2]);

    // A record that no producer wrote: too long, of no known state, claimed.
    for header in [1 << 56 | 513, 9 << 56, 2 << 56 | 8, 1, u64::MAX] {
        set(DATA, header);
        producer_is(Err(AttachError::Corrupt));
        let mut consumer = consumer(&fd);
        assert_eq!(pop(&mut consumer), Err(Error::Corrupt), "{header:#x}");
        let waited = next(&mut consumer, Wait::SLEEP);
        assert_eq!(waited, Err(Error::Corrupt), "not to be waited out");
        assert_eq!(consumer.batch().try_next().map(drop), Err(Error::Corrupt));
        assert_eq!(consumer.arm(), Err(Error::Corrupt));
    }
    // Records without an end.
    for at in (0..1024).step_by(8) {
        set(DATA + at, 1 << 56);
    }
    producer_is(Err(AttachError::Corrupt));
    set(DATA + 1016, 0);
    producer_is(Ok(()));
}

#[test]
fn a_batch_of_records_without_an_end_ends() {
    let fd = ring(1024);
    let patch = map(&fd);
    let mut consumer = consumer(&fd);
    for at in (0..1024).step_by(8) {
        let word = (1_u64 << 56).to_ne_bytes();
        patch.bytes().write(DATA + at, &word).unwrap();
    }
    let mut batch = consumer.batch();
    let mut messages = 0;
    let end = loop {
        match batch.try_next() {
            Ok(_) => messages += 1,
            Err(error) => break error,
        }
        assert!(messages <= 128, "more than there is room for");
    };
    assert_eq!(end, Error::Corrupt);
}

#[test]
fn a_position_that_is_none_is_corrupt() {
    let fd = ring(64);
    let patch = map(&fd);
    let mut producer = producer(&fd);
    fill(&mut producer);
    for head in [16_u64.wrapping_neg(), 4, 57, 64, 1 << 40, u64::MAX] {
        let word = head.to_ne_bytes();
        patch.bytes().write(HEAD, &word).unwrap();
        assert_eq!(producer.try_push(b""), Err(Error::Corrupt), "{head}");
        assert_eq!(producer.push(b"", Wait::SLEEP), Err(Error::Corrupt));
        assert_eq!(producer.wait(0, Wait::SPIN), Err(Error::Corrupt));
        assert_eq!(producer.arm(0), Err(Error::Corrupt));
        assert_eq!(producer.free(), Err(Error::Corrupt));
    }
}

#[test]
fn a_consumer_that_goes_back_takes_no_room_from_a_batch() {
    let fd = ring(64);
    let patch = map(&fd);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    fill(&mut producer);
    while pop(&mut consumer).is_ok() {}
    assert_eq!(producer.free(), Ok(56));
    let mut batch = producer.batch();
    batch.try_push(&[1; 32]).unwrap();
    patch.bytes().write(HEAD, &[0; 8]).unwrap();
    assert_eq!(batch.try_push(&[2; 32]), Err(Error::Corrupt));
    batch.commit();
    let messages = (0..100).take_while(|_| producer.try_push(b"").is_ok());
    assert_eq!(messages.count(), 2, "as many as there was room for");
}

#[test]
fn who_waits_for_a_peer_that_never_comes_has_a_deadline() {
    for wait in WAITS {
        let fd = ring(64);
        let timeout = Duration::from_millis(60);
        let begun = Instant::now();
        let mut consumer = consumer(&fd);
        let waited = next(&mut consumer, wait.timeout(timeout));
        assert_eq!(waited, Err(Error::TimedOut));
        assert!(begun.elapsed() >= timeout, "it ended early");
        assert_eq!(consumer.peers(), Peers::None);
        drop(consumer);

        let fd = ring(64);
        let begun = Instant::now();
        let mut producer = producer(&fd);
        fill(&mut producer);
        let waited = producer.push(b"", wait.timeout(timeout));
        assert_eq!(waited, Err(Error::TimedOut));
        assert!(begun.elapsed() >= timeout, "it ended early");
        assert_eq!(producer.peers(), Peers::None);
    }
}

#[test]
fn who_has_seen_the_end_can_wait_for_a_new_peer() {
    isolated!(|| {
        let fd = ring(4096);
        let mut consumer = consumer(&fd);
        let soon = Wait::SLEEP.timeout(Duration::from_millis(5));
        assert_eq!(consumer.wait_peer(soon), Err(Error::TimedOut));
        producer(&fd).try_push(b"first").unwrap();
        assert_eq!(pop(&mut consumer).unwrap(), b"first");
        assert_eq!(pop(&mut consumer), Err(Error::Closed));
        assert_eq!(consumer.wait_peer(soon), Err(Error::TimedOut));
        let killed = mortal(|_| std::mem::forget(producer(&fd)));
        consumer.wait_peer(patiently(Wait::SLEEP)).unwrap();
        killed.kill();
        assert_eq!(consumer.wait_peer(soon), Err(Error::TimedOut));
        let new = peer(|| {
            // The other one sleeps, so that it has to be woken.
            until_asleep(std::os::unix::process::parent_id() as i32);
            let mut producer = producer(&fd);
            producer.try_push(b"second").unwrap();
            producer.wait_peer(patiently(Wait::SLEEP)).unwrap();
        });
        consumer.wait_peer(patiently(Wait::SLEEP)).unwrap();
        let message = next(&mut consumer, patiently(Wait::SLEEP));
        assert_eq!(message.unwrap(), b"second");
        new.join();
    });
}

#[test]
fn an_expired_deadline_still_takes_what_is_there() {
    let (mut producer, mut consumer) = both(64);
    for wait in WAITS {
        let wait = wait.timeout(Duration::ZERO);
        assert_eq!(next(&mut consumer, wait), Err(Error::TimedOut));
        producer.push(b"there", wait).unwrap();
        assert_eq!(next(&mut consumer, wait), Ok(b"there".to_vec()));
    }
}

#[test]
fn messages_go_to_and_fro_by_every_way_of_waiting() {
    isolated!(|| {
        for (there, back) in [(0, 0), (1, 1), (2, 2), (0, 2), (2, 0), (1, 2)] {
            let (there, back) = (patiently(WAITS[there]), patiently(WAITS[back]));
            let (requests, answers) = (ring(64), ring(64));
            let mut asks = producer(&requests);
            let mut hears = consumer(&answers);
            let answerer = peer(|| {
                let mut hears = consumer(&requests);
                let mut answers = producer(&answers);
                for _ in 0..500 {
                    let message = next(&mut hears, back).unwrap();
                    answers.push(&message, back).unwrap();
                }
            });
            for number in 0..500 {
                asks.push(&text(number, number % 32), there).unwrap();
                let answer = next(&mut hears, there).unwrap();
                assert_eq!(answer, text(number, number % 32));
            }
            answerer.join();
        }
    });
}

#[test]
fn a_stream_of_messages_passes_by_every_way_of_waiting() {
    isolated!(|| {
        for (writes, reads) in [(0, 0), (1, 1), (2, 2), (0, 2), (2, 0)] {
            let (writes, reads) = (patiently(WAITS[writes]), patiently(WAITS[reads]));
            // So small that both sides wait.
            let fd = ring(64);
            let mut consumer = consumer(&fd);
            let writer = peer(|| {
                let mut producer = producer(&fd);
                for number in 0..2000 {
                    let message = text(number, number % 33);
                    producer.push(&message, writes).unwrap();
                }
            });
            for number in 0..2000 {
                let message = next(&mut consumer, reads).unwrap();
                assert_eq!(message, text(number, number % 33));
            }
            assert_eq!(next(&mut consumer, reads), Err(Error::Closed));
            writer.join();
        }
    });
}

#[test]
fn a_signal_ends_a_sleep() {
    isolated!(|| {
        let phase = Phase::new();
        let consumer_sleeps = || {
            let mut consumer = consumer(&ring(64));
            phase.reach(1);
            next(&mut consumer, Wait::SLEEP).map(drop)
        };
        let producer_sleeps = || {
            let mut producer = producer(&ring(64));
            fill(&mut producer);
            phase.reach(1);
            producer.push(b"", Wait::SLEEP)
        };
        let sleeps: [&dyn Fn() -> Result<(), Error>; 2] = [&consumer_sleeps, &producer_sleeps];
        for sleeps in sleeps {
            phase.reach(0);
            let sleeper = peer(|| {
                catch_signals();
                assert_eq!(sleeps(), Err(Error::System(Errno::INTR)));
                assert!(caught() > 0);
                phase.reach(2);
            });
            phase.expect(1);
            // Now and then it looks whether its peer is alive; a signal then ends nothing.
            eventually("the sleep ends", || {
                kill_process(pid(&sleeper), Signal::USR1).unwrap();
                phase.is(2)
            });
            sleeper.join();
        }
    });
}

fn is_readable(event: &EventFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

#[test]
fn an_armed_consumer_is_readable_when_there_is_a_message() {
    isolated!(|| {
        let (fd, phase) = (ring(256), Phase::new());
        let event = EventFd::new(0).unwrap();
        let mut consumer = consumer(&fd);
        let writer = peer(|| {
            let mut producer = producer(&fd);
            producer.set_event(OwnedFd::from(event.try_clone().unwrap()));
            for step in [1, 3, 5, 7] {
                phase.expect(step);
                producer.try_push(b"message").unwrap();
                producer.try_push(b"another").unwrap();
                phase.reach(step + 1);
            }
            phase.expect(9);
        });
        let mut drain = || {
            for expected in [b"message", b"another"] {
                assert_eq!(pop(&mut consumer).as_deref(), Ok(&expected[..]));
            }
            consumer.arm()
        };
        // Nobody is armed: nothing is written.
        phase.reach(1);
        phase.expect(2);
        assert!(event.try_take().is_err());
        assert_eq!(drain(), Ok(true));
        for step in [3, 5] {
            assert!(event.try_take().is_err());
            phase.reach(step);
            assert!(is_readable(&event, PATIENCE));
            phase.expect(step + 1);
            assert_eq!(event.try_take().unwrap(), 1, "once for both messages");
            if step == 3 {
                assert_eq!(drain(), Ok(true));
            }
        }
        // It was armed once, and is not any more.
        phase.reach(7);
        phase.expect(8);
        assert!(event.try_take().is_err());

        assert_eq!(consumer.arm(), Ok(false), "there are messages");
        while pop(&mut consumer).is_ok() {}
        assert_eq!(consumer.arm(), Ok(true));
        phase.reach(9);
        assert!(is_readable(&event, PATIENCE), "it has closed");
        writer.join();
        assert_eq!(consumer.arm(), Err(Error::Closed));
    });
}

#[test]
fn an_armed_producer_is_readable_when_there_is_room() {
    isolated!(|| {
        let (fd, phase) = (ring(64), Phase::new());
        let event = EventFd::new(0).unwrap();
        let mut producer = producer(&fd);
        let reader = peer(|| {
            let mut consumer = consumer(&fd);
            consumer.set_event(OwnedFd::from(event.try_clone().unwrap()));
            for step in [1, 3, 5] {
                phase.expect(step);
                pop(&mut consumer).unwrap();
                pop(&mut consumer).unwrap();
                phase.reach(step + 1);
            }
            phase.expect(7);
        });
        let messages = fill(&mut producer);
        phase.reach(1);
        phase.expect(2);
        assert!(event.try_take().is_err(), "nobody is armed");
        assert_eq!(fill(&mut producer), 2);
        assert_eq!(producer.arm(0), Ok(true));
        assert!(event.try_take().is_err(), "nothing has changed");
        phase.reach(3);
        assert!(is_readable(&event, PATIENCE));
        phase.expect(4);
        assert_eq!(event.try_take().unwrap(), 1, "once for both messages");
        assert_eq!(producer.arm(8), Ok(false));
        assert_eq!(producer.arm(32), Ok(true), "not enough for so much");
        phase.reach(5);
        phase.expect(6);
        assert_eq!(event.try_take().unwrap(), 1);
        assert_eq!(producer.arm(32), Ok(true), "still not enough");
        phase.reach(7);
        assert!(is_readable(&event, PATIENCE), "it has closed");
        reader.join();
        assert_eq!(producer.arm(32), Err(Error::Closed));
        assert_eq!(messages, 7);
    });
}

#[test]
fn a_full_counter_or_no_event_stops_nobody() {
    let (mut producer, mut consumer) = both(256);
    assert_eq!(consumer.arm(), Ok(true));
    producer.try_push(b"no event").unwrap();
    pop(&mut consumer).unwrap();
    let event = EventFd::new(0).unwrap();
    event.add(linipc::event::eventfd::MAX).unwrap();
    producer.set_event(OwnedFd::from(event));
    assert_eq!(consumer.arm(), Ok(true));
    producer.try_push(b"full event").unwrap();
    assert_eq!(pop(&mut consumer), Ok(b"full event".to_vec()));
}

/// From now on a system call kills this process, but for exit.
fn forbid_calls() {
    use libc::{
        BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, PR_SET_NO_NEW_PRIVS,
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS,
        SYS_exit_group, prctl, sock_filter, sock_fprog,
    };
    let op = |code: u32, jt, k: u32| sock_filter {
        code: code as u16,
        jt,
        jf: 0,
        k,
    };
    let mut filter = [
        op(BPF_LD | BPF_W | BPF_ABS, 0, 0),
        op(BPF_JMP | BPF_JEQ | BPF_K, 1, SYS_exit_group as u32),
        op(BPF_RET | BPF_K, 0, SECCOMP_RET_KILL_PROCESS),
        op(BPF_RET | BPF_K, 0, SECCOMP_RET_ALLOW),
    ];
    let program = sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: The call takes no pointers.
    let done = unsafe { prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0);
    // SAFETY: The call reads the program.
    let done = unsafe { prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

fn exit() -> ! {
    // SAFETY: The process of a peer ends here, without a call but this one.
    unsafe { libc::_exit(0) }
}

#[test]
fn while_both_are_awake_neither_makes_a_system_call() {
    isolated!(|| {
        let fd = ring(256);
        let writer = peer(|| {
            let mut producer = producer(&fd);
            forbid_calls();
            for number in 0..20_000_u64 {
                match number % 3 {
                    0 => while producer.try_push_value(&number) == Err(Error::Full) {},
                    1 => loop {
                        if let Ok(mut claim) = producer.try_claim(8) {
                            claim.write(0, &number.to_ne_bytes()).unwrap();
                            break claim.commit();
                        }
                    },
                    _ => loop {
                        let mut batch = producer.batch();
                        if batch.try_push(&number.to_ne_bytes()).is_ok() {
                            break batch.commit();
                        }
                    },
                }
            }
            exit()
        });
        let reader = peer(|| {
            let mut consumer = consumer(&fd);
            forbid_calls();
            for number in 0..20_000_u64 {
                let mut message = [0; 8];
                match number % 3 {
                    0 => while consumer.try_pop(&mut message) != Ok(8) {},
                    1 => loop {
                        if let Ok(peek) = consumer.try_peek() {
                            peek.read(0, &mut message).unwrap();
                            break peek.release();
                        }
                    },
                    _ => loop {
                        let mut batch = consumer.batch();
                        if let Ok(next) = batch.try_next() {
                            next.read(0, &mut message).unwrap();
                            break batch.release();
                        }
                    },
                }
                assert_eq!(u64::from_ne_bytes(message), number);
            }
            exit()
        });
        writer.join();
        reader.join();
    });
}

#[test]
fn only_a_sleeper_costs_a_system_call() {
    isolated!(|| {
        let (fd, phase) = (ring(256), Phase::new());
        let sleeper = peer(|| {
            let mut consumer = consumer(&fd);
            for _ in 0..2 {
                phase.reach(1);
                next(&mut consumer, patiently(Wait::SLEEP)).unwrap();
            }
        });
        phase.expect(1);
        until_asleep(sleeper.pid());
        let pushed = Phase::new();
        let writer = peer(|| {
            let mut producer = producer(&fd);
            // Attaching woke it.
            sleep(Duration::from_millis(5));
            until_asleep(sleeper.pid());
            forbid_calls();
            producer.try_push(b"wakes").unwrap();
            pushed.reach(1);
            exit()
        });
        eventually("it is killed", || {
            let status = std::fs::read_to_string(format!("/proc/{}/stat", writer.pid())).unwrap();
            status.rsplit(") ").next().unwrap().starts_with('Z')
        });
        assert!(!pushed.is(1), "the call that wakes is the last one");
        drop(writer);
        producer(&fd).try_push(b"the second").unwrap();
        sleeper.join();
    });
}

#[test]
fn a_ring_lies_in_a_system_v_segment() {
    isolated!(|| {
        use sysv::shm;
        let mode = sysv::Mode::RUSR | sysv::Mode::WUSR;
        let create = sysv::Create::Exclusive(mode);
        let len = ring::len(256).unwrap();
        let id = shm::get(sysv::Key::PRIVATE, len, create, shm::Memory::USUAL).unwrap();
        let attach = || shm::attach(id, None, shm::Attach::empty()).unwrap();
        let ours = attach();
        ring::create(ours.bytes(), Kind::Spsc, 256).unwrap();
        let mut consumer = Consumer::attach(ours.bytes()).unwrap();
        let writer = peer(|| {
            let theirs = attach();
            let mut producer = Producer::attach(theirs.bytes()).unwrap();
            for number in 0..100 {
                let wait = patiently(Wait::SLEEP);
                producer.push(&text(number, number), wait).unwrap();
            }
        });
        for number in 0..100 {
            let message = next(&mut consumer, patiently(Wait::SLEEP));
            assert_eq!(message, Ok(text(number, number)));
        }
        writer.join();
        shm::remove(id).unwrap();
    });
}

#[test]
fn a_ring_lies_in_a_posix_segment() {
    isolated!(|| {
        use posix::{Create, Mode, shm};
        const NAME: &str = "/linipc-ring";
        let len = ring::len(256).unwrap();
        let object = shm::open(NAME, RW, Create::Exclusive(Mode::RUSR | Mode::WUSR)).unwrap();
        shm::resize(&object, len as u64).unwrap();
        let refused = ring::map(&object).map(drop);
        assert_eq!(
            refused,
            Err(AttachError::Unsealed),
            "only memfds have seals"
        );
        let region = Region::shared(&object, 0, len, RW).unwrap();
        ring::create(region.bytes(), Kind::Spsc, 256).unwrap();
        let mut producer = Producer::attach(region).unwrap();
        let reader = peer(|| {
            let object = shm::open(NAME, RW, Create::No).unwrap();
            let region = Region::shared(&object, 0, len, RW).unwrap();
            let mut consumer = Consumer::attach(region).unwrap();
            for number in 0..100 {
                let message = next(&mut consumer, patiently(Wait::SPIN_THEN_SLEEP));
                assert_eq!(message, Ok(text(number, number)));
            }
        });
        for number in 0..100 {
            let wait = patiently(Wait::SPIN_THEN_SLEEP);
            producer.push(&text(number, number), wait).unwrap();
        }
        reader.join();
        shm::unlink(NAME).unwrap();
    });
}

#[test]
fn a_ring_is_attached_by_a_descriptor_from_a_socket() {
    isolated!(|| {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let reader = peer(|| {
            let fds = theirs.recv_fds(1).unwrap();
            let mut consumer = consumer(&fds[0]);
            let message = next(&mut consumer, patiently(Wait::SLEEP));
            assert_eq!(message, Ok(b"over there".to_vec()));
            assert_eq!(
                next(&mut consumer, patiently(Wait::SLEEP)),
                Err(Error::Closed)
            );
        });
        let fd = ring(256);
        ours.send_fds(&[&fd]).unwrap();
        producer(&fd).try_push(b"over there").unwrap();
        reader.join();
    });
}

#[test]
fn a_death_is_seen_without_proc() {
    isolated!(|| {
        support::without_proc(|| {
            let (fd, phase) = (ring(64), Phase::new());
            let mut consumer = consumer(&fd);
            let writer = peer(|| {
                let mut producer = producer(&fd);
                producer.try_push(b"last").unwrap();
                phase.reach(1);
                loop {
                    sleep(PATIENCE);
                }
            });
            phase.expect(1);
            assert_eq!(consumer.peers(), Peers::Alive);
            writer.kill();
            assert_eq!(next(&mut consumer, Wait::SLEEP), Ok(b"last".to_vec()));
            assert_eq!(next(&mut consumer, Wait::SLEEP), Err(Error::PeerDead));
        });
    });
}
