//! The ring of items, between two processes where two sides matter.

mod support;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use linipc::event::eventfd::EventFd;
use linipc_core::map::{Access, Region};
use linipc_core::ring::items::{self, Consumer, Producer};
use linipc_core::ring::{
    self, AttachError, Error, Kind, MAX_CAPACITY, Memory, Peers, Trusted, Wait,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{PATIENCE, Peer, SLOWNESS, eventually, peer, until_asleep};

const RW: Access = Access::READ.union(Access::WRITE);
/// Where the header has its fields (the picture in `ring`'s page).
const VERSION: usize = 8;
const CAPACITY: usize = 16;
const TAIL: usize = 128;
const HEAD: usize = 256;

const WAITS: [Wait; 3] = [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP];

fn ring(capacity: u64) -> OwnedFd {
    items::create_memfd::<u64>(c"test", capacity).unwrap()
}

fn map(fd: &OwnedFd) -> Region {
    ring::map(fd).unwrap()
}

fn producer(fd: &OwnedFd) -> Producer<u64, Region> {
    Producer::attach(map(fd)).unwrap()
}

fn consumer(fd: &OwnedFd) -> Consumer<u64, Region> {
    Consumer::attach(map(fd)).unwrap()
}

fn both(capacity: u64) -> (Producer<u64, Region>, Consumer<u64, Region>) {
    let fd = ring(capacity);
    (producer(&fd), consumer(&fd))
}

/// However the peer is scheduled, it is done before this.
fn patiently(wait: Wait) -> Wait {
    wait.timeout(PATIENCE)
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

    fn expect(&self, phase: u32) {
        eventually("the next phase", || {
            self.word().load(Ordering::Acquire) == phase
        });
    }
}

/// A process that runs `body`, and then does nothing until it is killed.
fn mortal(body: impl FnOnce()) -> Peer {
    let phase = Phase::new();
    let peer = peer(|| {
        // It leaves only if `body` drops its handles.
        body();
        phase.reach(1);
        loop {
            sleep(PATIENCE);
        }
    });
    phase.expect(1);
    peer
}

linipc_core::plain! {
    /// 20 bytes, so that items are neither aligned to their size nor fill the data.
    #[derive(Debug, PartialEq)]
    struct Odd {
        number: u32,
        copies: [u32; 4],
    }
}

impl Odd {
    fn new(number: u32) -> Self {
        let copies = std::array::from_fn(|i| number.wrapping_mul(i as u32 + 3));
        Self { number, copies }
    }
}

#[test]
fn a_million_items_arrive_in_order() {
    isolated!(|| {
        const ITEMS: u64 = 1_000_000 / SLOWNESS as u64;
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let writer = peer(|| {
            let mut producer = producer(&fd);
            for number in 0..ITEMS {
                producer.push(&number, patiently(WAITS[1])).unwrap();
            }
        });
        for number in 0..ITEMS {
            assert_eq!(consumer.pop(patiently(WAITS[1])), Ok(number));
        }
        assert_eq!(consumer.pop(patiently(WAITS[1])), Err(Error::Closed));
        assert_eq!(consumer.counters().messages, ITEMS);
        assert_eq!(consumer.counters().bytes, 8 * ITEMS);
        writer.join();
    });
}

#[test]
fn slices_of_every_length_arrive_in_order_by_every_way_of_waiting() {
    isolated!(|| {
        const ITEMS: u32 = 20_000;
        for (capacity, wait) in [(1, 1), (2, 0), (16, 1), (64, 2), (64, 1)] {
            let fd = items::create_memfd::<Odd>(c"test", capacity).unwrap();
            let wait = patiently(WAITS[wait]);
            let writer = peer(|| {
                let mut producer = Producer::<Odd, _>::attach(map(&fd)).unwrap();
                let mut next = 0;
                while next < ITEMS {
                    let len = next % 90;
                    let slice: Vec<Odd> = (next..ITEMS.min(next + len + 1)).map(Odd::new).collect();
                    let sent = producer.push_slice(&slice, wait).unwrap();
                    assert!((1..=slice.len().min(capacity as usize)).contains(&sent));
                    next += sent as u32;
                }
            });
            let mut consumer = Consumer::<Odd, _>::attach(map(&fd)).unwrap();
            let mut next = 0;
            while next < ITEMS {
                let mut slice = vec![Odd::new(u32::MAX); (next % 70) as usize + 1];
                let got = consumer.pop_slice(&mut slice, wait).unwrap();
                assert!((1..=slice.len()).contains(&got));
                for (i, item) in slice.iter().enumerate() {
                    let number = if i < got { next + i as u32 } else { u32::MAX };
                    assert_eq!(*item, Odd::new(number));
                }
                next += got as u32;
            }
            assert_eq!(
                consumer.pop_slice(&mut [Odd::new(0)], wait),
                Err(Error::Closed)
            );
            writer.join();
        }
    });
}

#[test]
fn as_many_go_as_there_is_room_for() {
    let (mut producer, mut consumer) = both(8);
    assert_eq!((producer.capacity(), consumer.capacity()), (8, 8));
    assert_eq!(producer.try_push_slice(&[]), Ok(0));
    assert_eq!(consumer.try_pop_slice(&mut []), Ok(0));
    assert_eq!(consumer.try_pop(), Err(Error::Empty));
    assert_eq!(consumer.try_pop_slice(&mut [0]), Err(Error::Empty));
    assert_eq!(producer.try_push_slice(&[0; 5]), Ok(5));
    assert_eq!((producer.free(), consumer.len()), (Ok(3), Ok(5)));
    assert_eq!(producer.try_push_slice(&[1; 5]), Ok(3));
    assert_eq!(producer.try_push(&2), Err(Error::Full));
    assert_eq!(producer.try_push_slice(&[2]), Err(Error::Full));
    assert_eq!((producer.free(), consumer.len()), (Ok(0), Ok(8)));
    let mut to = [9; 6];
    assert_eq!(consumer.try_pop_slice(&mut to), Ok(6));
    assert_eq!(to, [0, 0, 0, 0, 0, 1]);
    assert_eq!(producer.try_push_slice(&[3, 4, 5, 6, 7, 8, 9]), Ok(6));
    let mut to = [0; 20];
    assert_eq!(consumer.try_pop_slice(&mut to), Ok(8));
    assert_eq!(to[..9], [1, 1, 3, 4, 5, 6, 7, 8, 0]);
    let counted = producer.counters();
    assert_eq!((counted.messages, counted.bytes), (14, 112));
    assert_eq!((counted.refused, counted.lost), (2, 0));
}

#[test]
fn claims_and_peeks_are_in_place_and_end_where_the_ring_does() {
    let (mut producer, mut consumer) = both(8);
    let mut claim = producer.try_claim(6).unwrap();
    assert_eq!(claim.len(), 6);
    claim.write(0, &[1, 2]).unwrap();
    claim.write(2, &[3, 4, 5, 6]).unwrap();
    assert_eq!(claim.write(5, &[0, 0]), Err(Error::TooLong { max: 6 }));
    assert_eq!(
        claim.write(usize::MAX, &[0]),
        Err(Error::TooLong { max: 6 })
    );
    assert_eq!(claim.commit(7), Err(Error::TooLong { max: 6 }));
    assert_eq!(consumer.len(), Ok(0), "nothing was committed");
    producer.try_claim(6).unwrap().commit(5).unwrap();
    producer.try_claim(3).unwrap().abort();

    let peek = consumer.try_peek(100).unwrap();
    let mut to = [0; 3];
    peek.read(2, &mut to).unwrap();
    assert_eq!((peek.len(), to), (5, [3, 4, 5]));
    assert_eq!(peek.read(3, &mut to), Err(Error::BufferLen { message: 5 }));
    assert_eq!(
        peek.read(usize::MAX, &mut to),
        Err(Error::BufferLen { message: 5 })
    );
    assert_eq!(peek.release(6), Err(Error::BufferLen { message: 5 }));
    consumer.try_peek(5).unwrap().release(4).unwrap();

    // Places 5 to 7, then 0 to 3.
    let claim = producer.try_claim(100).unwrap();
    assert_eq!(claim.len(), 3);
    claim.commit(3).unwrap();
    let claim = producer.try_claim(100).unwrap();
    assert_eq!(claim.len(), 4);
    claim.commit(4).unwrap();
    assert_eq!(producer.try_claim(1).map(drop), Err(Error::Full));
    let peek = consumer.try_peek(100).unwrap();
    assert_eq!(peek.len(), 4);
    peek.release(4).unwrap();
    assert_eq!(consumer.try_peek(100).unwrap().len(), 4);
}

#[test]
fn trusted_memory_lends_items_in_place() {
    let fd = ring(8);
    // SAFETY: Only this test uses the memory, as the rules are.
    let trusted = || unsafe { Trusted::new(map(&fd)) };
    let mut producer = Producer::<u64, _>::attach(trusted()).unwrap();
    let mut consumer = Consumer::<u64, _>::attach(trusted()).unwrap();
    for round in 0..5 {
        let mut claim = producer.try_claim(6).unwrap();
        let len = claim.len();
        for (i, item) in claim.as_mut_slice().iter_mut().enumerate() {
            *item = 10 * round + i as u64;
        }
        claim.commit(len).unwrap();
        let peek = consumer.try_peek(8).unwrap();
        let expected: Vec<u64> = (0..len as u64).map(|i| 10 * round + i).collect();
        assert_eq!(peek.as_slice(), expected);
        peek.release(len).unwrap();
    }
}

#[test]
fn who_waits_for_room_waits_for_all_of_it() {
    isolated!(|| {
        let fd = ring(8);
        let mut producer = producer(&fd);
        assert_eq!(producer.try_push_slice(&[7; 8]), Ok(8));
        let soon = || Wait::SLEEP.timeout(Duration::from_millis(5));
        assert_eq!(producer.push(&8, soon()), Err(Error::TimedOut));
        assert_eq!(producer.push_slice(&[8], soon()), Err(Error::TimedOut));
        assert_eq!(producer.wait(9, soon()), Err(Error::TooLong { max: 8 }));
        assert_eq!(producer.arm(9), Err(Error::TooLong { max: 8 }));
        let parent = std::process::id() as i32;
        let reader = peer(|| {
            let mut consumer = consumer(&fd);
            until_asleep(parent);
            for _ in 0..8 {
                assert_eq!(consumer.pop(patiently(Wait::SLEEP)), Ok(7));
            }
            assert_eq!(consumer.pop(patiently(Wait::SLEEP)), Ok(9));
        });
        producer.wait(6, patiently(Wait::SLEEP)).unwrap();
        assert!(producer.free().unwrap() >= 6);
        producer.try_push(&9).unwrap();
        reader.join();
        assert_eq!(producer.wait(8, soon()), Ok(()));
        assert_eq!(producer.counters().refused, 2, "once for each push");
    });
}

#[test]
fn closing_is_seen_after_all_was_drained() {
    isolated!(|| {
        let fd = ring(8);
        let mut reading = consumer(&fd);
        peer(|| {
            let mut producer = producer(&fd);
            producer.try_push_slice(&[1, 2, 3]).unwrap();
        })
        .join();
        assert_eq!(reading.peers(), Peers::Closed);
        assert_eq!(reading.try_pop(), Ok(1));
        assert_eq!(reading.try_pop_slice(&mut [0; 8]), Ok(2));
        assert_eq!(reading.len(), Ok(0));
        assert_eq!(reading.try_pop(), Err(Error::Closed));
        assert_eq!(reading.try_pop_slice(&mut [0; 8]), Err(Error::Closed));
        assert_eq!(reading.try_peek(1).map(drop), Err(Error::Closed));
        assert_eq!(reading.pop(Wait::SLEEP), Err(Error::Closed));

        let mut writing = producer(&fd);
        drop(reading);
        assert_eq!(writing.try_push_slice(&[4; 9]), Ok(8));
        assert_eq!(writing.try_push(&5), Err(Error::Closed));
        assert_eq!(writing.push(&5, Wait::SLEEP), Err(Error::Closed));
        assert_eq!(consumer(&fd).try_pop(), Ok(4), "the next one finds them");
    });
}

#[test]
fn after_a_killed_producer_the_next_one_goes_on() {
    isolated!(|| {
        let fd = ring(8);
        let mut consumer = consumer(&fd);
        let victim = mortal(|| {
            let mut producer = producer(&fd);
            producer.try_push_slice(&[1, 2, 3]).unwrap();
            producer.try_claim(2).unwrap().write(0, &[8, 9]).unwrap();
            std::mem::forget(producer);
        });
        assert_eq!(
            Producer::<u64, _>::attach(map(&fd)).map(drop),
            Err(AttachError::InUse {
                pid: victim.pid() as u32
            })
        );
        assert_eq!(consumer.try_pop(), Ok(1));
        victim.kill();
        assert_eq!(consumer.peers(), Peers::Dead);
        let wait = patiently(Wait::SLEEP);
        assert_eq!(consumer.pop(wait), Ok(2));
        assert_eq!(consumer.pop(wait), Ok(3));
        assert_eq!(consumer.pop(wait), Err(Error::PeerDead));
        let mut producer = producer(&fd);
        assert_eq!(producer.try_push_slice(&[4; 9]), Ok(8));
        assert_eq!(consumer.pop(wait), Ok(4));
        assert_eq!(producer.counters().messages, 11);
    });
}

#[test]
fn after_a_killed_consumer_the_next_one_goes_on() {
    isolated!(|| {
        let fd = ring(8);
        let mut producer = producer(&fd);
        producer.try_push_slice(&[1, 2, 3, 4]).unwrap();
        let victim = mortal(|| {
            let mut consumer = consumer(&fd);
            assert_eq!(consumer.try_pop(), Ok(1));
            assert_eq!(consumer.try_peek(2).unwrap().len(), 2);
            std::mem::forget(consumer);
        });
        victim.kill();
        assert_eq!(producer.try_push_slice(&[5; 9]), Ok(5));
        let wait = patiently(Wait::SLEEP);
        assert_eq!(producer.push(&6, wait), Err(Error::PeerDead));
        let mut consumer = consumer(&fd);
        let mut to = [0; 8];
        assert_eq!(consumer.try_pop_slice(&mut to), Ok(8));
        assert_eq!(
            to,
            [2, 3, 4, 5, 5, 5, 5, 5],
            "what was only read is there again"
        );
    });
}

#[test]
fn whoever_is_killed_and_whenever_no_item_is_lost() {
    isolated!(|| {
        let fd = ring(16);
        let mut consumer = consumer(&fd);
        let mut expected = 0;
        for round in 0..100 {
            let victim = peer(|| {
                let mut producer = producer(&fd);
                let mut number = producer.counters().messages;
                loop {
                    let slice: Vec<u64> = (number..number + 1 + number % 5).collect();
                    number += producer.push_slice(&slice, patiently(WAITS[1])).unwrap() as u64;
                }
            });
            eventually("it is attached", || consumer.peers() == Peers::Alive);
            let until = expected + 10 * round;
            loop {
                let got = consumer.pop(patiently(WAITS[1]));
                assert_eq!(got, Ok(expected));
                expected += 1;
                if expected > until {
                    break;
                }
            }
            victim.kill();
        }
        // What the last one published before it died.
        loop {
            match consumer.pop(patiently(Wait::SLEEP)) {
                Ok(number) => assert_eq!(number, expected),
                Err(error) => {
                    assert_eq!(error, Error::PeerDead);
                    break;
                }
            }
            expected += 1;
        }
    });
}

fn is_readable(event: &EventFd) -> bool {
    let timeout = Timespec::try_from(PATIENCE).unwrap();
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

#[test]
fn who_is_armed_is_readable_when_there_is_something() {
    isolated!(|| {
        let (fd, phase) = (ring(4), Phase::new());
        let [items, room] = [EventFd::new(0).unwrap(), EventFd::new(0).unwrap()];
        let mut consumer = consumer(&fd);
        consumer.set_event(OwnedFd::from(room.try_clone().unwrap()));
        let writer = peer(|| {
            let mut producer = producer(&fd);
            producer.set_event(OwnedFd::from(items.try_clone().unwrap()));
            phase.expect(1);
            assert_eq!(producer.try_push_slice(&[1; 9]), Ok(4));
            assert_eq!(producer.arm(4), Ok(true));
            assert_eq!(producer.arm(0), Ok(false));
            phase.reach(2);
            assert!(is_readable(&room));
            assert_eq!(producer.push_slice(&[2], patiently(Wait::SLEEP)), Ok(1));
            phase.expect(3);
        });
        assert_eq!(consumer.arm(), Ok(true));
        assert!(items.try_take().is_err());
        phase.reach(1);
        assert!(is_readable(&items));
        phase.expect(2);
        assert_eq!(items.try_take().unwrap(), 1);
        assert_eq!(consumer.arm(), Ok(false));
        assert_eq!(consumer.try_pop_slice(&mut [0; 4]), Ok(4));
        assert_eq!(consumer.pop(patiently(Wait::SLEEP)), Ok(2));
        assert_eq!(consumer.arm(), Ok(true));
        phase.reach(3);
        assert!(is_readable(&items), "it has closed");
        writer.join();
        assert_eq!(consumer.arm(), Err(Error::Closed));
    });
}

#[test]
fn who_sleeps_is_woken() {
    isolated!(|| {
        let fd = ring(1);
        let sleeper = peer(|| {
            let mut consumer = consumer(&fd);
            for number in 0..50 {
                assert_eq!(consumer.pop(Wait::SLEEP), Ok(number));
            }
        });
        let mut producer = producer(&fd);
        for number in 0..50 {
            until_asleep(sleeper.pid());
            producer.try_push(&number).unwrap();
            // It is taken by the one who was woken.
            eventually("it is taken", || producer.free() == Ok(1));
        }
        sleeper.join();
    });
}

fn attach_both(memory: impl Memory + Copy) -> [Result<(), AttachError>; 2] {
    [
        Producer::<u64, _>::attach(memory).map(drop),
        Consumer::<u64, _>::attach(memory).map(drop),
    ]
}

#[test]
fn memory_without_this_ring_is_refused_by_name() {
    let region = Region::anonymous(16384, RW).unwrap();
    let bytes = region.bytes();
    let refused = |error: AttachError, says: [&str; 2]| {
        assert_eq!(attach_both(bytes), [Err(error); 2]);
        let said = error.to_string();
        assert!(says.iter().all(|text| said.contains(text)), "{said}");
    };
    refused(AttachError::NotARing, ["no ring", "memory"]);
    ring::create(bytes, Kind::Spsc, 1024).unwrap();
    let (found, expected) = (1, 5);
    refused(
        AttachError::Kind { found, expected },
        ["kind spsc", "not items"],
    );
    items::create::<[u8; 12]>(bytes, 64).unwrap();
    let (found, expected) = (12, 8);
    refused(
        AttachError::ItemSize { found, expected },
        ["12 bytes", "not 8"],
    );
    items::create::<u64>(bytes, 64).unwrap();
    bytes.write(VERSION, &7_u32.to_ne_bytes()).unwrap();
    let (found, expected) = (7, 1);
    refused(
        AttachError::Version { found, expected },
        ["version 7", "not 1"],
    );
    for capacity in [0, 3, 63, 1 << 29, 1 << 61, 1 << 63, u64::MAX] {
        items::create::<u64>(bytes, 64).unwrap();
        bytes.write(CAPACITY, &u64::to_ne_bytes(capacity)).unwrap();
        refused(AttachError::Corrupt, ["corrupt"; 2]);
    }
    items::create::<u64>(bytes, 64).unwrap();
    bytes.write(CAPACITY, &(1_u64 << 12).to_ne_bytes()).unwrap();
    let needed = items::len::<u64>(1 << 12).unwrap();
    refused(
        AttachError::TooSmall { needed },
        [&needed.to_string(), "bytes"],
    );
    let small = bytes.slice(0, items::len::<u64>(64).unwrap() - 1).unwrap();
    assert!(matches!(
        items::create::<u64>(small, 64),
        Err(AttachError::TooSmall { .. })
    ));
    items::create::<u64>(bytes, 64).unwrap();
    assert_eq!(attach_both(bytes), [Ok(()); 2]);
}

#[test]
fn a_capacity_that_cannot_be_is_told_the_nearest() {
    for (capacity, nearest) in [
        (0, 1),
        (3, 4),
        (5, 4),
        (1000, 1024),
        (MAX_CAPACITY / 8 + 1, MAX_CAPACITY / 8),
        (MAX_CAPACITY / 4, MAX_CAPACITY / 8),
        (u64::MAX, MAX_CAPACITY / 8),
    ] {
        let error = AttachError::Capacity { nearest };
        assert_eq!(items::len::<u64>(capacity), Err(error), "{capacity}");
        let created = items::create_memfd::<u64>(c"test", capacity);
        assert_eq!(created.map(drop), Err(error));
        assert!(error.to_string().contains(&nearest.to_string()));
        items::len::<u64>(nearest).unwrap();
    }
    let nearest = MAX_CAPACITY / 2;
    assert_eq!(
        items::len::<[u8; 2]>(MAX_CAPACITY),
        Err(AttachError::Capacity { nearest })
    );
}

#[test]
fn an_index_that_is_none_is_corrupt() {
    let region = Region::anonymous(16384, RW).unwrap();
    let bytes = region.bytes();
    let index = |offset, index: u64| bytes.write(offset, &index.to_ne_bytes()).unwrap();
    for bad in [9_u64, u64::MAX, 1 << 63] {
        items::create::<u64>(bytes, 8).unwrap();
        let mut producer = Producer::<u64, _>::attach(bytes).unwrap();
        let mut consumer = Consumer::<u64, _>::attach(bytes).unwrap();
        index(TAIL, bad);
        assert_eq!(consumer.try_pop(), Err(Error::Corrupt));
        assert_eq!(consumer.try_pop_slice(&mut [0; 3]), Err(Error::Corrupt));
        assert_eq!(consumer.len(), Err(Error::Corrupt));
        assert_eq!(consumer.pop(Wait::SLEEP), Err(Error::Corrupt));
        assert_eq!(consumer.arm(), Err(Error::Corrupt));
        drop((producer, consumer));
        assert_eq!(attach_both(bytes), [Err(AttachError::Corrupt); 2]);

        items::create::<u64>(bytes, 8).unwrap();
        producer = Producer::attach(bytes).unwrap();
        index(HEAD, bad);
        assert_eq!(producer.try_push_slice(&[0; 8]), Ok(8), "seen before");
        assert_eq!(producer.try_push(&0), Err(Error::Corrupt));
        assert_eq!(producer.free(), Err(Error::Corrupt));
        assert_eq!(producer.push(&0, Wait::SLEEP), Err(Error::Corrupt));
        drop(producer);
        assert_eq!(
            Producer::<u64, _>::attach(bytes).map(drop),
            Err(AttachError::Corrupt)
        );
    }
}

#[test]
fn a_peer_that_scribbles_hangs_and_hurts_nobody() {
    isolated!(|| {
        let fd = ring(64);
        let region = map(&fd);
        let words = region.bytes().len() / 8;
        let scribbler = |seed: u64| {
            let bytes = region.bytes();
            peer(move || {
                let mut random = seed;
                for _ in 0.. {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let place = match random % 3 {
                        0 => TAIL,
                        1 => HEAD,
                        _ => (random >> 8) as usize % words * 8,
                    };
                    // Now any number, now one that may be an index.
                    let word = match random >> 62 {
                        0 => random,
                        _ => random >> 56,
                    };
                    bytes.write(place, &word.to_ne_bytes()).unwrap();
                }
            })
        };
        let wait = || Wait::SPIN_THEN_SLEEP.timeout(Duration::from_millis(1));
        for seed in 1..=6 {
            items::create::<u64>(region.bytes(), 64).unwrap();
            let mut producer = producer(&fd);
            let mut consumer = consumer(&fd);
            let scribbler = scribbler(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
            let mut to = [0; 100];
            for _ in 0..3000 {
                let _ = producer.try_push(&1);
                let _ = producer.try_push_slice(&[2; 100]);
                let _ = producer.try_claim(7).map(|claim| claim.commit(3));
                let _ = consumer.try_pop();
                let _ = consumer.try_pop_slice(&mut to);
                let _ = consumer.try_peek(9).map(|peek| peek.release(2));
                let (_, _) = (producer.free(), consumer.len());
            }
            for _ in 0..20 {
                let _ = producer.push(&1, wait());
                let _ = consumer.pop(wait());
                let _ = (producer.peers(), consumer.peers());
                let _ = Producer::<u64, _>::attach(region.bytes());
                let _ = Consumer::<u64, _>::attach(region.bytes());
            }
            scribbler.kill();
        }
    });
}
