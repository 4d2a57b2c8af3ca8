//! The ring for one producer and any number of consumers, between processes where sides matter.

mod support;

use std::collections::VecDeque;
use std::mem::forget;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use linipc::event::eventfd::EventFd;
use linipc_core::map::{Access, Region};
use linipc_core::ring::broadcast::{Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Kind, Memory, Peers, Wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{PATIENCE, Peer, eventually, peer, until_asleep};

const RW: Access = Access::READ.union(Access::WRITE);
/// Where the header has its fields (the picture in `ring`'s page).
const VERSION: usize = 8;
const MARK: usize = 128;
const FRONT: usize = 136;
const NUMBER: usize = 144;
const DATA: usize = 1408;

fn ring(capacity: u64) -> OwnedFd {
    ring::create_memfd(c"test", Kind::Broadcast, capacity).unwrap()
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

/// However the peer is scheduled, it is done before this.
fn patiently(wait: Wait) -> Wait {
    wait.timeout(PATIENCE)
}

/// Up to which length the messages of the tests go, of a ring that holds longer ones.
const MAX: usize = 200;

/// What message `number` says: itself, and bytes that follow from it.
fn text(number: u64, max: usize) -> Vec<u8> {
    let len = number.wrapping_mul(0x9e37_79b9) as usize % (max - 7);
    let mut text = number.to_ne_bytes().to_vec();
    text.extend((0..len).map(|i| number as u8 ^ (i as u8).wrapping_mul(3)));
    text
}

/// The number of a message, which must be whole.
fn number_in(message: &[u8], max: usize) -> u64 {
    let number = u64::from_ne_bytes(message[..8].try_into().unwrap());
    assert!(message == text(number, max), "torn: {number}");
    number
}

fn pop(consumer: &mut Consumer<impl Memory>) -> Result<Vec<u8>, Error> {
    let mut buf = vec![0; consumer.max_message()];
    let len = consumer.try_pop(&mut buf)?;
    buf.truncate(len);
    Ok(buf)
}

/// A consumer that knows which number comes next.
struct Follower<M: Memory> {
    consumer: Consumer<M>,
    buf: Vec<u8>,
    next: u64,
    missed: u64,
}

impl<M: Memory> Follower<M> {
    fn new(consumer: Consumer<M>, next: u64) -> Self {
        let buf = vec![0; consumer.max_message().min(MAX)];
        Self {
            consumer,
            buf,
            next,
            missed: 0,
        }
    }

    /// One call: whole, in order, and with what was missed counted exactly.
    fn step(&mut self, wait: Wait) -> Result<(), Error> {
        match self.consumer.pop(&mut self.buf, wait) {
            Ok(len) => {
                let number = number_in(&self.buf[..len], self.buf.len());
                assert_eq!(number, self.next, "after {} missed", self.missed);
                self.next += 1;
            }
            Err(Error::Missed { messages }) => {
                assert!(messages > 0);
                self.next += messages;
                self.missed += messages;
            }
            Err(Error::Busy) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Goes on until there is nothing any more, and gives the reason.
    fn drain(&mut self, wait: Wait) -> Error {
        loop {
            if let Err(error) = self.step(wait) {
                return error;
            }
        }
    }
}

fn push(producer: &mut Producer<impl Memory>, number: u64) {
    let max = producer.max_message().min(MAX);
    producer.try_push(&text(number, max)).unwrap();
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

    fn advance(&self) {
        self.word().fetch_add(1, Ordering::AcqRel);
    }

    fn expect(&self, phase: u32) {
        eventually("the next phase", || {
            self.word().load(Ordering::Acquire) >= phase
        });
    }
}

/// A process that runs `body`, and then does nothing until it is killed.
fn mortal(body: impl FnOnce()) -> Peer {
    let phase = Phase::new();
    let peer = peer(|| {
        body();
        phase.advance();
        loop {
            sleep(PATIENCE);
        }
    });
    phase.expect(1);
    peer
}

#[test]
fn three_consumers_get_all_or_know_exactly_what_they_missed() {
    isolated!(|| {
        const MESSAGES: u64 = 200_000;
        for (capacity, wait) in [
            (128, Wait::SPIN_THEN_SLEEP),
            (4096, Wait::SLEEP),
            (1 << 16, Wait::SPIN_THEN_SLEEP),
        ] {
            let (fd, phase) = (ring(capacity), Phase::new());
            let readers = [None, Some(97), Some(5000)].map(|pause: Option<u64>| {
                peer(|| {
                    let mut follower = Follower::new(consumer(&fd), 0);
                    phase.advance();
                    let mut calls = 0;
                    let end = loop {
                        if let Err(error) = follower.step(patiently(wait)) {
                            break error;
                        }
                        calls += 1;
                        if pause.is_some_and(|pause| calls % pause == 0) {
                            sleep(Duration::from_millis(1));
                        }
                    };
                    assert_eq!((end, follower.next), (Error::Closed, MESSAGES));
                })
            });
            phase.expect(3);
            let mut producer = producer(&fd);
            for number in 0..MESSAGES {
                push(&mut producer, number);
            }
            assert_eq!(producer.counters().messages, MESSAGES);
            drop(producer);
            readers.into_iter().for_each(Peer::join);
            let counted = consumer(&fd).counters();
            assert_eq!(counted.messages + counted.lost, 3 * MESSAGES);
        }
    });
}

#[test]
fn who_keeps_up_misses_nothing() {
    isolated!(|| {
        const MESSAGES: u64 = 20_000;
        let fd = ring(1024);
        // The producer goes no further ahead of the other side than the promise says.
        let (read, mut unread) = (Phase::new(), VecDeque::new());
        let mut producer = producer(&fd);
        let consumer = consumer(&fd);
        let reader = peer(|| {
            let mut follower = Follower::new(consumer, 0);
            while follower.next < MESSAGES {
                follower.step(patiently(Wait::SPIN_THEN_SLEEP)).unwrap();
                read.advance();
            }
            assert_eq!(follower.missed, 0);
        });
        let (mut ahead, mut seen) = (0, 0);
        for number in 0..MESSAGES {
            let message = text(number, MAX);
            let size = (message.len() + 8).next_multiple_of(8);
            while ahead + size > 1024 / 8 * 7 - 8 {
                let now = read.word().load(Ordering::Acquire);
                while seen < now {
                    ahead -= unread.pop_front().unwrap();
                    seen += 1;
                }
                std::hint::spin_loop();
            }
            ahead += size;
            unread.push_back(size);
            producer.try_push(&message).unwrap();
        }
        reader.join();
    });
}

#[test]
fn the_missed_are_counted_beyond_the_bits_of_a_header() {
    const MESSAGES: u64 = (1 << 24) + 12_345;
    let fd = ring(4096);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    for _ in 0..MESSAGES {
        producer.try_push(b"").unwrap();
    }
    let Err(Error::Missed { messages }) = pop(&mut consumer) else {
        panic!("nothing missed");
    };
    let mut got = 0;
    while pop(&mut consumer) == Ok(vec![]) {
        got += 1;
    }
    assert_eq!(messages + got, MESSAGES);
    assert!(got > 0, "the newest is there");
}

#[test]
fn the_newest_is_there_after_a_miss() {
    for capacity in [64, 256, 4096, 1 << 20] {
        let fd = ring(capacity);
        let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
        let message = [7; 24];
        for _ in 0..3 * capacity / 32 {
            producer.try_push(&message).unwrap();
        }
        producer.try_push(b"newest").unwrap();
        assert!(matches!(pop(&mut consumer), Err(Error::Missed { .. })));
        let mut last = vec![];
        let mut bytes = 0;
        while let Ok(message) = pop(&mut consumer) {
            bytes += 8 + message.len() as u64;
            last = message;
        }
        assert_eq!(last, b"newest");
        assert!(bytes <= capacity / 8 + 64, "not far behind");
    }
}

#[test]
fn a_new_consumer_begins_with_what_comes() {
    let fd = ring(4096);
    let mut early = Follower::new(consumer(&fd), 0);
    let mut producer = producer(&fd);
    for number in 0..1000 {
        let mut new = Follower::new(consumer(&fd), number);
        assert_eq!(pop(&mut new.consumer), Err(Error::Empty));
        push(&mut producer, number);
        assert_eq!(
            new.drain(Wait::SLEEP.timeout(Duration::ZERO)),
            Error::TimedOut
        );
        assert_eq!((new.next, new.missed), (number + 1, 0));
    }
    assert_eq!(
        early.drain(Wait::SLEEP.timeout(Duration::ZERO)),
        Error::TimedOut
    );
    assert_eq!(early.next, 1000);
    drop(producer);
    assert_eq!(pop(&mut consumer(&fd)), Err(Error::Closed));
}

#[test]
fn a_new_consumer_begins_between_messages_while_they_come() {
    isolated!(|| {
        let fd = ring(512);
        let writer = peer(|| {
            let mut producer = producer(&fd);
            for number in 0.. {
                push(&mut producer, number);
            }
        });
        eventually("it writes", || consumer(&fd).peers() == Peers::Alive);
        let mut last = 0;
        for _ in 0..500 {
            let Ok(mut consumer) = Consumer::attach(map(&fd)) else {
                continue;
            };
            let mut buf = [0; MAX];
            for _ in 0..50 {
                match consumer.pop(&mut buf, patiently(Wait::SPIN_THEN_SLEEP)) {
                    Ok(len) => {
                        let number = number_in(&buf[..len], MAX);
                        assert!(number >= last);
                        last = number;
                    }
                    Err(error) => assert!(matches!(error, Error::Missed { .. } | Error::Busy)),
                }
            }
        }
        assert!(last > 0);
        writer.kill();
    });
}

#[test]
fn lengths_are_judged() {
    let fd = ring(64);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    assert_eq!((producer.max_message(), producer.capacity()), (32, 64));
    assert_eq!((consumer.max_message(), consumer.capacity()), (32, 64));
    assert_eq!(producer.try_push(&[0; 33]), Err(Error::TooLong { max: 32 }));
    for len in (0..=32).chain((0..=32).rev()) {
        producer.try_push(&vec![len as u8; len]).unwrap();
        if let Some(shorter) = len.checked_sub(1) {
            let short = consumer.try_pop(&mut vec![0; shorter]);
            assert_eq!(short, Err(Error::BufferLen { message: len }));
            let other = consumer.try_pop_value::<[u8; 33]>();
            assert_eq!(other, Err(Error::BufferLen { message: len }));
        }
        assert_eq!(pop(&mut consumer), Ok(vec![len as u8; len]));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
    }
    producer.try_push_value(&[1_u32, 2]).unwrap();
    assert_eq!(consumer.try_pop_value(), Ok([1_u32, 2]));
    let bytes = 2 * (32 * 33 / 2) + 8;
    let counted = producer.counters();
    assert_eq!((counted.messages, counted.bytes), (67, bytes));
    let counted = consumer.counters();
    assert_eq!(
        (counted.messages, counted.bytes, counted.lost),
        (67, bytes, 0)
    );
}

#[test]
fn a_short_buffer_for_an_overwritten_message_is_a_miss() {
    let fd = ring(64);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    for _ in 0..3 {
        producer.try_push(&[5; 32]).unwrap();
    }
    assert!(matches!(
        consumer.try_pop(&mut []),
        Err(Error::Missed { .. })
    ));
}

#[test]
fn a_claim_is_a_message_when_it_is_committed_and_not_before() {
    let fd = ring(256);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    for round in 0..20 {
        let mut claim = producer.try_claim(20).unwrap();
        assert_eq!(claim.write(18, b"abc"), Err(Error::TooLong { max: 20 }));
        assert_eq!(
            claim.write(usize::MAX, b"a"),
            Err(Error::TooLong { max: 20 })
        );
        claim.write(0, b"never seen").unwrap();
        claim.abort();
        let mut claim = producer.try_claim(20).unwrap();
        claim.write(0, b"hel").unwrap();
        claim.write(3, b"lo, and more").unwrap();
        assert_eq!(claim.truncate(21), Err(Error::TooLong { max: 20 }));
        claim.truncate(5).unwrap();
        assert_eq!(pop(&mut consumer), Err(Error::Empty), "round {round}");
        producer.try_claim(5).unwrap().abort();
        let mut claim = producer.try_claim(5).unwrap();
        claim.write(0, b"hello").unwrap();
        claim.commit();
        assert_eq!(pop(&mut consumer), Ok(b"hello".to_vec()));
    }
}

#[test]
fn a_batch_is_seen_as_a_whole_or_not_at_all() {
    let fd = ring(256);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    for round in 0..20 {
        let mut batch = producer.batch();
        batch.try_push(b"never").unwrap();
        batch.abort();
        producer.batch().commit();
        let mut batch = producer.batch();
        batch.try_push(b"one").unwrap();
        let mut claim = batch.try_claim(3).unwrap();
        claim.write(0, b"two").unwrap();
        claim.commit();
        batch.try_claim(3).unwrap().abort();
        batch.try_push(&[round; 30]).unwrap();
        assert_eq!(batch.try_push(&[0; 129]), Err(Error::TooLong { max: 128 }));
        batch.commit();
        assert_eq!(pop(&mut consumer), Ok(b"one".to_vec()));
        assert_eq!(pop(&mut consumer), Ok(b"two".to_vec()));
        assert_eq!(pop(&mut consumer), Ok(vec![round; 30]));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
    }
    let counted = producer.counters();
    assert_eq!((counted.messages, counted.bytes), (60, 20 * 36));
}

#[test]
fn a_batch_takes_plain_values() {
    let fd = ring(256);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    let mut batch = producer.batch();
    batch.try_push_value(&7_u32).unwrap();
    batch.try_push_value(&[8_u64; 3]).unwrap();
    let too_long = Err(Error::TooLong { max: 128 });
    assert_eq!(batch.try_push_value(&[0_u64; 17]), too_long);
    assert_eq!(pop(&mut consumer), Err(Error::Empty));
    batch.commit();
    assert_eq!(consumer.try_pop_value(), Ok(7_u32));
    assert_eq!(consumer.try_pop_value(), Ok([8_u64; 3]));
}

#[test]
fn several_messages_are_copied_out_at_once() {
    let fd = ring(256);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    let (mut buf, mut lens) = ([0; 16], [0; 4]);
    assert_eq!(consumer.try_pop_all(&mut buf, &mut lens), Err(Error::Empty));
    for message in ["one", "", "three", "longer than what is left", "five"] {
        producer.try_push(message.as_bytes()).unwrap();
    }
    assert_eq!(consumer.try_pop_all(&mut buf, &mut []), Ok(0));
    assert_eq!(consumer.try_pop_all(&mut buf, &mut lens[..2]), Ok(2));
    assert_eq!((&buf[..3], &lens[..2]), (&b"one"[..], &[3, 0][..]));
    assert_eq!(consumer.try_pop_all(&mut buf, &mut lens), Ok(1));
    assert_eq!((&buf[..5], lens[0]), (&b"three"[..], 5));
    let too_short = Err(Error::BufferLen { message: 24 });
    assert_eq!(consumer.try_pop_all(&mut buf, &mut lens), too_short);
    let mut buf = [0; 64];
    assert_eq!(consumer.try_pop_all(&mut buf, &mut lens), Ok(2));
    assert_eq!(&buf[..28], b"longer than what is leftfive");
    // The first two are overwritten, the others not.
    for number in 0..12 {
        producer.try_push(&[number; 16]).unwrap();
    }
    let Err(Error::Missed { messages }) = consumer.try_pop_all(&mut buf, &mut lens) else {
        panic!("read what is overwritten");
    };
    assert_eq!(consumer.try_pop_all(&mut buf, &mut lens[..1]), Ok(1));
    assert_eq!(&buf[..16], [messages as u8; 16]);
    drop(producer);
    while consumer.try_pop_all(&mut buf, &mut lens).is_ok() {}
    assert_eq!(
        consumer.try_pop_all(&mut buf, &mut lens),
        Err(Error::Closed)
    );
    assert_eq!(consumer.counters().messages + consumer.counters().lost, 17);
}

#[test]
fn a_batch_holds_what_consumers_can_keep_up_with() {
    for capacity in [64, 256, 4096] {
        let fd = ring(capacity);
        let (mut producer, mut reading) = (producer(&fd), consumer(&fd));
        for _ in 0..7 {
            let mut batch = producer.batch();
            let mut messages = 0;
            while batch.try_push(&[messages as u8; 8]).is_ok() {
                messages += 1;
            }
            assert_eq!(batch.try_push(&[0; 8]), Err(Error::Full));
            // Without a mark, nobody could begin meanwhile.
            assert_eq!(pop(&mut consumer(&fd)), Err(Error::Empty));
            assert!(messages * 16 + 8 >= capacity * 7 / 8 - 16, "{messages}");
            batch.commit();
            for message in 0..messages {
                assert_eq!(pop(&mut reading), Ok(vec![message as u8; 8]));
            }
            assert_eq!(pop(&mut reading), Err(Error::Empty));
        }
    }
}

#[test]
fn a_peek_copies_and_tells_when_it_was_overtaken() {
    let fd = ring(64);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    producer.try_push(b"hello").unwrap();
    let mut peek = consumer.try_peek().unwrap();
    let mut to = [0; 3];
    assert_eq!(peek.len(), 5);
    peek.read(2, &mut to).unwrap();
    assert_eq!(&to, b"llo");
    assert_eq!(peek.read(3, &mut to), Err(Error::BufferLen { message: 5 }));
    assert_eq!(
        peek.read(usize::MAX, &mut to),
        Err(Error::BufferLen { message: 5 })
    );
    drop(peek);
    consumer.try_peek().unwrap().release();
    assert_eq!(consumer.try_peek().map(drop), Err(Error::Empty));

    producer.try_push(b"hello").unwrap();
    let mut peek = consumer.try_peek().unwrap();
    for _ in 0..4 {
        producer.try_push(&[1; 16]).unwrap();
    }
    let Err(Error::Missed { messages }) = peek.read(0, &mut to) else {
        panic!("it was overwritten");
    };
    assert_eq!(peek.read(0, &mut to), Err(Error::Missed { messages: 0 }));
    peek.release();
    let mut got = 0;
    while pop(&mut consumer) == Ok(vec![1; 16]) {
        got += 1;
    }
    assert_eq!(messages + got, 5);
    assert_eq!(consumer.counters().lost, messages);
}

#[test]
fn all_who_sleep_are_woken() {
    isolated!(|| {
        let fd = ring(4096);
        let mut producer = producer(&fd);
        let sleepers = [0, 1, 2].map(|_| {
            let consumer = consumer(&fd);
            peer(|| {
                let mut follower = Follower::new(consumer, 0);
                assert_eq!(follower.drain(patiently(Wait::SLEEP)), Error::Closed);
                assert_eq!((follower.next, follower.missed), (5, 0));
            })
        });
        for number in 0..5 {
            sleepers
                .iter()
                .for_each(|sleeper| until_asleep(sleeper.pid()));
            push(&mut producer, number);
        }
        sleepers
            .iter()
            .for_each(|sleeper| until_asleep(sleeper.pid()));
        drop(producer);
        sleepers.into_iter().for_each(Peer::join);
    });
}

#[test]
fn who_waits_for_nothing_has_a_deadline() {
    let fd = ring(64);
    let mut consumer = consumer(&fd);
    assert_eq!(consumer.peers(), Peers::None);
    for wait in [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP] {
        let soon = || wait.timeout(Duration::from_millis(2));
        assert_eq!(consumer.pop(&mut [0; 32], soon()), Err(Error::TimedOut));
        assert_eq!(consumer.wait(soon()), Err(Error::TimedOut));
    }
}

fn is_readable(event: &EventFd, timeout: Duration) -> bool {
    let timeout = Timespec::try_from(timeout).unwrap();
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

#[test]
fn who_is_armed_is_readable() {
    isolated!(|| {
        let (fd, phase) = (ring(64), Phase::new());
        let event = EventFd::new(0).unwrap();
        let mut consumer = consumer(&fd);
        let writer = peer(|| {
            let mut producer = producer(&fd);
            producer.set_event(OwnedFd::from(event.try_clone().unwrap()));
            producer.try_push(b"nobody is armed").unwrap();
            phase.advance();
            phase.expect(2);
            producer.try_push(b"armed").unwrap();
            producer.try_push(b"not any more").unwrap();
            phase.expect(3);
        });
        phase.expect(1);
        assert!(event.try_take().is_err());
        assert_eq!(consumer.arm(), Ok(false));
        assert_eq!(pop(&mut consumer), Ok(b"nobody is armed".to_vec()));
        assert_eq!(consumer.arm(), Ok(true));
        phase.advance();
        assert!(is_readable(&event, PATIENCE));
        assert_eq!(consumer.arm(), Ok(false));
        eventually("both are there", || {
            pop(&mut consumer) == Ok(b"not any more".to_vec())
        });
        // Twice if we armed again before the second push.
        assert!(event.try_take().unwrap() <= 2);
        assert_eq!(consumer.arm(), Ok(true));
        phase.advance();
        assert!(is_readable(&event, PATIENCE), "it has closed");
        writer.join();
        assert_eq!(consumer.arm(), Err(Error::Closed));
    });
}

#[test]
fn another_producer_goes_on_in_place_of_a_dead_one() {
    isolated!(|| {
        let fd = ring(256);
        let mut follower = Follower::new(consumer(&fd), 0);
        let victim = mortal(|| {
            let mut producer = producer(&fd);
            push(&mut producer, 0);
            push(&mut producer, 1);
            let mut claim = producer.try_claim(100).unwrap();
            claim.write(0, &[9; 100]).unwrap();
            let mut batch = producer.batch();
            batch.try_push(b"never").unwrap();
            batch.try_push(b"never").unwrap();
            forget(producer);
        });
        let pid = victim.pid() as u32;
        let second = Producer::attach(map(&fd)).map(drop);
        assert_eq!(second, Err(AttachError::InUse { pid }));
        victim.kill();
        assert_eq!(follower.consumer.peers(), Peers::Dead);
        assert_eq!(follower.drain(patiently(Wait::SLEEP)), Error::PeerDead);
        assert_eq!((follower.next, follower.missed), (2, 0));
        let mut producer = producer(&fd);
        assert_eq!(producer.counters().messages, 2);
        for number in 2..10 {
            push(&mut producer, number);
        }
        drop(producer);
        assert_eq!(follower.drain(patiently(Wait::SLEEP)), Error::Closed);
        assert_eq!(follower.next, 10);
    });
}

#[test]
fn wherever_a_producer_is_killed_another_one_goes_on() {
    isolated!(|| {
        for capacity in [128, 2048] {
            let fd = ring(capacity);
            let mut follower = Follower::new(consumer(&fd), 0);
            for round in 0..100 {
                let victim = peer(|| {
                    let mut producer = producer(&fd);
                    let (mut number, max) = (
                        producer.counters().messages,
                        producer.max_message().min(MAX),
                    );
                    loop {
                        if number % 3 == 0 {
                            let mut batch = producer.batch();
                            while batch.try_push(&text(number, max)).is_ok() && number % 7 != 0 {
                                number += 1;
                            }
                            batch.commit();
                            number = producer.counters().messages;
                        } else {
                            push(&mut producer, number);
                            number += 1;
                        }
                    }
                });
                eventually("it is attached", || {
                    follower.consumer.peers() == Peers::Alive
                });
                let until = follower.next + 20 * (round % 10);
                while follower.next <= until {
                    follower.step(patiently(Wait::SPIN_THEN_SLEEP)).unwrap();
                }
                victim.kill();
            }
            assert_eq!(follower.drain(patiently(Wait::SLEEP)), Error::PeerDead);
            let mut producer = producer(&fd);
            assert_eq!(producer.counters().messages, follower.next);
        }
    });
}

#[test]
fn a_killed_consumer_leaves_no_trace() {
    isolated!(|| {
        let fd = ring(256);
        let mut producer = producer(&fd);
        for _ in 0..3 {
            let victim = mortal(|| {
                let mut follower = Follower::new(consumer(&fd), 0);
                assert_eq!(
                    follower.drain(Wait::SLEEP.timeout(Duration::ZERO)),
                    Error::TimedOut
                );
                forget(follower);
            });
            victim.kill();
            for _ in 0..20 {
                producer.try_push(&[1; 100]).unwrap();
            }
        }
    });
}

#[test]
fn a_death_while_the_mark_moves_is_mended() {
    let fd = ring(4096);
    let region = map(&fd);
    let bytes = region.bytes();
    let read = |at| bytes.atomic_u64(at).unwrap().load(Ordering::Relaxed);
    let mut pushing = producer(&fd);
    let mut number = 0;
    for _ in 0..300 {
        push(&mut pushing, number);
        number += 1;
    }
    drop(pushing);
    // The number of a later mark, as it is before the mark's place is stored.
    let of_mark = read(NUMBER);
    bytes.write(NUMBER, &(of_mark + 3).to_ne_bytes()).unwrap();
    let mut pushing = producer(&fd);
    assert_eq!(pushing.counters().messages, number);
    let mut follower = Follower::new(consumer(&fd), number);
    for _ in 0..300 {
        push(&mut pushing, number);
        number += 1;
    }
    drop(pushing);
    assert_eq!(follower.drain(Wait::SLEEP), Error::Closed);
    assert_eq!(follower.next, number);
}

fn attach_both(memory: impl Memory + Copy) -> [Result<(), AttachError>; 2] {
    [
        Producer::attach(memory).map(drop),
        Consumer::attach(memory).map(drop),
    ]
}

#[test]
fn memory_without_this_ring_is_refused_by_name() {
    let region = Region::anonymous(8192, RW).unwrap();
    let bytes = region.bytes();
    let refused = |error: AttachError, says: [&str; 2]| {
        assert_eq!(attach_both(bytes), [Err(error); 2]);
        let said = error.to_string();
        assert!(says.iter().all(|text| said.contains(text)), "{said}");
    };
    refused(AttachError::NotARing, ["no ring", "memory"]);
    ring::create(bytes, Kind::Spsc, 1024).unwrap();
    let (found, expected) = (1, 4);
    refused(
        AttachError::Kind { found, expected },
        ["kind spsc", "not broadcast"],
    );
    ring::create(bytes, Kind::Broadcast, 1024).unwrap();
    bytes.write(VERSION, &7_u32.to_ne_bytes()).unwrap();
    let (found, expected) = (7, 1);
    refused(
        AttachError::Version { found, expected },
        ["version 7", "not 1"],
    );
    ring::create(bytes, Kind::Broadcast, 1024).unwrap();
    assert_eq!(attach_both(bytes), [Ok(()); 2]);
}

#[test]
fn what_no_producer_wrote_is_corrupt() {
    let region = Region::anonymous(8192, RW).unwrap();
    let bytes = region.bytes();
    let word = |at: usize, word: u64| bytes.write(at, &word.to_ne_bytes()).unwrap();
    let fresh = || {
        ring::create(bytes, Kind::Broadcast, 1024).unwrap();
        let mut producer = Producer::attach(bytes).unwrap();
        producer.try_push(b"message").unwrap();
        Consumer::attach(bytes).unwrap()
    };
    // At the end there is a header of another number, or of none.
    for header in [
        1 << 56,
        1 << 56 | 2 << 32,
        1 << 56 | 1 << 32 | 513,
        7,
        u64::MAX,
    ] {
        let mut consumer = fresh();
        word(DATA + 16, header);
        assert_eq!(pop(&mut consumer), Err(Error::Corrupt));
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Corrupt));
        assert_eq!(consumer.try_peek().map(drop), Err(Error::Corrupt));
        assert_eq!(consumer.pop(&mut [0; 8], Wait::SLEEP), Err(Error::Corrupt));
        drop(consumer);
        assert_eq!(Producer::attach(bytes).map(drop), Err(AttachError::Corrupt));
    }
    // The mark is in the middle of a word, or what it says comes before what was read.
    let mut consumer = fresh();
    word(FRONT, 4096);
    word(MARK, 4090);
    assert_eq!(pop(&mut consumer), Err(Error::Corrupt));
    word(MARK, 4096);
    word(NUMBER, 0);
    word(DATA, 0);
    assert_eq!(pop(&mut consumer), Err(Error::Corrupt));
    // It never comes after what is overwritten.
    word(MARK, 0);
    assert_eq!(pop(&mut consumer), Err(Error::Busy));
    assert_eq!(consumer.pop(&mut [0; 8], Wait::SLEEP), Err(Error::Busy));
    assert_eq!(Producer::attach(bytes).map(drop), Err(AttachError::Corrupt));
    let again = AttachError::System(linipc_core::Errno::AGAIN);
    assert_eq!(Consumer::attach(bytes).map(drop), Err(again));
}

#[test]
fn a_peer_that_scribbles_hangs_and_hurts_nobody() {
    isolated!(|| {
        let fd = ring(512);
        let region = map(&fd);
        let words = region.bytes().len() / 8;
        for seed in 1..=6_u64 {
            ring::create(region.bytes(), Kind::Broadcast, 512).unwrap();
            let mut producer = producer(&fd);
            let mut consumers = [consumer(&fd), consumer(&fd)];
            let scribbler = peer(|| {
                let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                loop {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let place = match random % 4 {
                        0 => MARK + 8 * (random >> 8) as usize % 24,
                        1 => (random >> 8) as usize % words * 8,
                        _ => DATA + 8 * ((random >> 8) as usize % 64),
                    };
                    // Now any number, now one that may be a place, now a header.
                    let word = match random >> 62 {
                        0 => random,
                        1 => random >> 50 & !7,
                        _ => 1 << 56 | (random >> 20 & 0x3ff) << 32 | random >> 10 & 0x1ff,
                    };
                    region.bytes().write(place, &word.to_ne_bytes()).unwrap();
                }
            });
            let wait = || Wait::SPIN_THEN_SLEEP.timeout(Duration::from_millis(1));
            let mut buf = [0; 256];
            for round in 0..3000_usize {
                producer.try_push(&vec![1; round % 257]).unwrap();
                let mut batch = producer.batch();
                let _ = batch.try_push(&[2; 100]);
                batch.commit();
                for consumer in &mut consumers {
                    let _ = consumer.try_pop(&mut buf);
                    let _ = consumer.try_pop_value::<u64>();
                    if let Ok(mut peek) = consumer.try_peek() {
                        let len = peek.len();
                        assert!(len <= 256);
                        let _ = peek.read(0, &mut buf[..len]);
                        peek.release();
                    }
                }
            }
            for _ in 0..20 {
                let [one, two] = &mut consumers;
                let _ = (one.pop(&mut buf, wait()), two.wait(wait()));
                let _ = (one.peers(), two.arm());
                let _ = Producer::attach(region.bytes());
                let _ = Consumer::attach(region.bytes()).map(|mut new| new.try_pop(&mut buf));
            }
            assert!(producer.counters().messages >= 6000);
            scribbler.kill();
        }
    });
}
