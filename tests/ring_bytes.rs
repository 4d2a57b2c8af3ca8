//! The ring as a stream of bytes, between two processes where two sides matter.

mod support;

use std::os::fd::OwnedFd;
use std::time::Duration;

use linipc::event::eventfd::EventFd;
use linipc_core::map::Region;
use linipc_core::ring::bytes::{self, Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Peers, Wait, items};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{PATIENCE, eventually, peer, until_asleep};

fn stream(capacity: u64) -> OwnedFd {
    bytes::create_memfd(c"test", capacity).unwrap()
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

/// What byte number `i` of the stream is.
fn byte(i: usize) -> u8 {
    (i * 31 + i / 256 * 7) as u8
}

#[test]
fn a_stream_arrives_whole_whatever_the_pieces() {
    isolated!(|| {
        const LEN: usize = 300_000;
        for (capacity, wait) in [
            (64, Wait::SLEEP),
            (256, Wait::SPIN_THEN_SLEEP),
            (4096, Wait::SPIN_THEN_SLEEP),
            (1 << 16, Wait::SLEEP),
        ] {
            let wait = patiently(wait);
            let fd = stream(capacity);
            let writer = peer(|| {
                let mut producer = producer(&fd);
                let all: Vec<u8> = (0..LEN).map(byte).collect();
                let (mut at, mut len) = (0, 0);
                while at < LEN {
                    len = (len * 5 + 1) % 5000;
                    let piece = &all[at..LEN.min(at + len)];
                    if len % 3 == 0 {
                        producer.write_all(piece, wait).unwrap();
                        at += piece.len();
                    } else {
                        at += producer.write(piece, wait).unwrap();
                    }
                }
            });
            let mut consumer = consumer(&fd);
            let (mut at, mut len) = (0, 0);
            loop {
                len = (len * 7 + 1) % 6000;
                let mut buf = vec![0; len];
                match consumer.read(&mut buf, wait) {
                    Ok(read) => {
                        assert!(
                            buf.iter()
                                .take(read)
                                .enumerate()
                                .all(|(i, b)| *b == byte(at + i))
                        );
                        assert!(read > 0 || len == 0);
                        at += read;
                    }
                    Err(error) => {
                        assert_eq!((error, at), (Error::Closed, LEN));
                        break;
                    }
                }
            }
            assert_eq!(consumer.counters().bytes, LEN as u64);
            writer.join();
        }
    });
}

#[test]
fn as_much_goes_as_there_is_room_for() {
    let fd = stream(64);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    assert_eq!((producer.capacity(), consumer.capacity()), (64, 64));
    let mut buf = [0; 100];
    assert_eq!(consumer.try_read(&mut buf), Err(Error::Empty));
    assert_eq!(consumer.try_read(&mut []), Ok(0));
    assert_eq!(producer.try_write(b""), Ok(0));
    assert_eq!(producer.try_write(&[7; 60]), Ok(60));
    assert_eq!((producer.free(), consumer.len()), (Ok(4), Ok(60)));
    let soon = || Wait::SLEEP.timeout(Duration::from_millis(1));
    assert_eq!(producer.write_all(b"123456", soon()), Err(Error::TimedOut));
    assert_eq!(
        producer.try_write(b"-"),
        Err(Error::Full),
        "four were written"
    );
    assert_eq!(consumer.try_read(&mut buf[..59]), Ok(59));
    assert_eq!(consumer.read(&mut buf, soon()), Ok(5));
    assert_eq!(&buf[..5], b"\x071234");
    assert_eq!(consumer.read(&mut buf, soon()), Err(Error::TimedOut));
}

#[test]
fn chunks_are_filled_and_read_in_place() {
    let fd = stream(64);
    let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
    let mut claim = producer.try_claim(48).unwrap();
    claim.write(0, &[1; 48]).unwrap();
    claim.commit(40).unwrap();
    let peek = consumer.try_peek(64).unwrap();
    let mut buf = [0; 40];
    peek.read(0, &mut buf).unwrap();
    assert_eq!((peek.len(), buf), (40, [1; 40]));
    peek.release(40).unwrap();
    let claim = producer.try_claim(64).unwrap();
    assert_eq!(claim.len(), 24, "up to the end of the ring");
    claim.commit(24).unwrap();
    assert_eq!(producer.try_claim(64).unwrap().len(), 40);
}

fn is_readable(event: &EventFd) -> bool {
    let timeout = Timespec::try_from(PATIENCE).unwrap();
    let mut fds = [PollFd::new(event, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() == 1
}

#[test]
fn who_waits_is_woken() {
    isolated!(|| {
        let fd = stream(64);
        let mut producer = producer(&fd);
        let reader = peer(|| {
            let mut consumer = consumer(&fd);
            assert_eq!(consumer.read(&mut [0; 64], Wait::SLEEP), Ok(1));
            consumer.wait(Wait::SLEEP).unwrap();
            assert_eq!(consumer.len(), Ok(64));
            assert_eq!(consumer.read(&mut [0; 64], Wait::SLEEP), Ok(64));
        });
        until_asleep(reader.pid());
        producer.try_write(b"a").unwrap();
        producer.wait(64, patiently(Wait::SLEEP)).unwrap();
        assert_eq!(producer.try_write(&[2; 65]), Ok(64));
        producer.wait(64, patiently(Wait::SLEEP)).unwrap();
        reader.join();
    });
}

#[test]
fn who_is_armed_is_readable() {
    isolated!(|| {
        let fd = stream(64);
        let (bytes, room) = (EventFd::new(0).unwrap(), EventFd::new(0).unwrap());
        let mut consumer = consumer(&fd);
        consumer.set_event(OwnedFd::from(room.try_clone().unwrap()));
        assert_eq!(consumer.arm(), Ok(true));
        let writer = peer(|| {
            let mut producer = producer(&fd);
            producer.set_event(OwnedFd::from(bytes.try_clone().unwrap()));
            assert_eq!(producer.try_write(&[1; 65]), Ok(64));
            assert_eq!(producer.arm(64), Ok(true));
            assert!(is_readable(&room));
            assert_eq!(producer.arm(64), Ok(false));
        });
        assert!(is_readable(&bytes));
        assert_eq!(consumer.arm(), Ok(false));
        // It polls, and so it is armed.
        until_asleep(writer.pid());
        assert_eq!(consumer.try_read(&mut [0; 64]), Ok(64));
        writer.join();
    });
}

#[test]
fn the_stream_goes_on_after_a_killed_writer() {
    isolated!(|| {
        let fd = stream(64);
        let mut consumer = consumer(&fd);
        let victim = peer(|| {
            let mut producer = producer(&fd);
            let mut at = 0;
            loop {
                let piece: Vec<u8> = (at..at + 13).map(byte).collect();
                at += producer
                    .write(&piece, patiently(Wait::SPIN_THEN_SLEEP))
                    .unwrap();
            }
        });
        eventually("it is attached", || consumer.peers() == Peers::Alive);
        let (mut at, wait) = (0, patiently(Wait::SLEEP));
        let mut check = |consumer: &mut Consumer<Region>| {
            let mut buf = [0; 17];
            let read = consumer.read(&mut buf, wait)?;
            for b in buf.iter().take(read) {
                assert_eq!(*b, byte(at));
                at += 1;
            }
            Ok::<_, Error>(at)
        };
        while check(&mut consumer).unwrap() < 10_000 {}
        victim.kill();
        assert_eq!(consumer.peers(), Peers::Dead);
        let end = loop {
            if let Err(error) = check(&mut consumer) {
                break error;
            }
        };
        assert_eq!(end, Error::PeerDead);
        let mut producer = producer(&fd);
        let begin = producer.counters().bytes as usize;
        let piece: Vec<u8> = (begin..begin + 5).map(byte).collect();
        producer.write_all(&piece, wait).unwrap();
        assert_eq!(check(&mut consumer), Ok(begin + 5));
    });
}

#[test]
fn what_is_no_stream_is_refused_by_name() {
    let fd = items::create_memfd::<u64>(c"test", 64).unwrap();
    let refused = AttachError::ItemSize {
        found: 8,
        expected: 1,
    };
    assert_eq!(Producer::attach(map(&fd)).map(drop), Err(refused));
    assert_eq!(Consumer::attach(map(&fd)).map(drop), Err(refused));
    let fd = ring::create_memfd(c"test", ring::Kind::Broadcast, 64).unwrap();
    let refused = AttachError::Kind {
        found: 4,
        expected: 5,
    };
    assert_eq!(Producer::attach(map(&fd)).map(drop), Err(refused));
    let nearest = AttachError::Capacity { nearest: 1024 };
    assert_eq!(bytes::len(1000), Err(nearest));
    assert_eq!(bytes::create_memfd(c"test", 1000).map(drop), Err(nearest));
    let fd = stream(64);
    let _producer = producer(&fd);
    let pid = std::process::id();
    assert_eq!(
        Producer::attach(map(&fd)).map(drop),
        Err(AttachError::InUse { pid })
    );
}
