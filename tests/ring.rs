//! `linipc::ring`: the owned handles. The rings themselves are tested in `ring_*.rs`.

mod support;

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use linipc::error::errno;
use linipc::event::epoll::{Epoll, EventFlags, NONE};
use linipc::event::eventfd::EventFd;
use linipc::memfd::{Memfd, MemfdOptions, SealFlags};
use linipc::posix::shm::{OpenOptions, SharedMemory};
use linipc::ring::spsc::{self, Consumer, Producer};
use linipc::ring::{
    AttachError, Counters, Error, MAX_CAPACITY, Peers, Trusted, Wait, io_error, map,
};
use linipc::socket::cmsg::CmsgExt;
use linipc::{Deadline, Errno};
use support::{PATIENCE, eventually, interrupt, peer, until_asleep};

/// A deadline of which a test waits for the end.
const SHORT: Duration = Duration::from_millis(5);

fn both(capacity: u64) -> (Producer, Consumer) {
    let memfd = spsc::create(capacity).unwrap();
    (
        Producer::attach(&memfd).unwrap(),
        Consumer::attach(&memfd).unwrap(),
    )
}

/// The kind of an error, and the ring's error in it.
#[track_caller]
fn kind_and_inner<T: std::fmt::Debug>(done: io::Result<T>) -> (ErrorKind, Option<Error>) {
    let error = done.unwrap_err();
    let inner = error.get_ref().map(|inner| *inner.downcast_ref().unwrap());
    (error.kind(), inner)
}

#[track_caller]
fn attach_error<T: std::fmt::Debug>(done: io::Result<T>) -> (ErrorKind, AttachError) {
    let error = done.unwrap_err();
    (error.kind(), error.downcast().unwrap())
}

#[test]
fn handles_are_sent_to_threads() {
    fn owned<T: Send + Sync + 'static>(_: &T) {}
    let (mut producer, mut consumer) = both(64);
    owned(&producer);
    owned(&consumer);
    let sender = std::thread::spawn(move || {
        for n in 0..1000_u32 {
            producer.push_value(&n).unwrap();
        }
    });
    for n in 0..1000_u32 {
        assert_eq!(consumer.pop_value::<u32>().unwrap(), n);
    }
    sender.join().unwrap();
}

#[test]
fn each_error_has_its_kind() {
    isolated!(|| {
        let (mut producer, mut consumer) = both(64);
        let mut buf = [0; 32];
        let no_inner = |kind| (kind, None);
        assert_eq!(
            kind_and_inner(consumer.try_pop(&mut buf)),
            no_inner(ErrorKind::WouldBlock)
        );
        assert_eq!(
            errno(&consumer.try_pop_vec().unwrap_err()),
            Some(Errno::AGAIN)
        );
        assert_eq!(
            kind_and_inner(consumer.pop_deadline(&mut buf, SHORT)),
            no_inner(ErrorKind::TimedOut)
        );
        let (kind, inner) = kind_and_inner(producer.push(&[0; 33]));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert_eq!(inner, Some(Error::TooLong { max: 32 }));
        let text = producer.push(&[0; 33]).unwrap_err().to_string();
        assert!(text.contains("32 bytes"), "{text}");

        producer.push(&[7; 32]).unwrap();
        assert_eq!(
            kind_and_inner(producer.try_push(&[0; 32])),
            no_inner(ErrorKind::WouldBlock)
        );
        assert_eq!(
            kind_and_inner(producer.push_deadline(&[0; 32], SHORT)),
            no_inner(ErrorKind::TimedOut)
        );
        let too_short = (
            ErrorKind::InvalidInput,
            Some(Error::BufferLen { message: 32 }),
        );
        assert_eq!(kind_and_inner(consumer.pop(&mut buf[..31])), too_short);
        assert_eq!(kind_and_inner(consumer.pop_value::<u32>()), too_short);
        assert_eq!(consumer.pop(&mut buf).unwrap(), 32);

        drop(producer);
        let end = (ErrorKind::UnexpectedEof, Some(Error::Closed));
        assert_eq!(kind_and_inner(consumer.pop(&mut buf)), end);
        assert_eq!(kind_and_inner(consumer.try_pop(&mut buf)), end);
        assert_eq!(kind_and_inner(consumer.pop_vec()), end);
        assert_eq!(kind_and_inner(consumer.pop_value::<u8>()), end);
        assert_eq!(kind_and_inner(consumer.wait(Wait::SLEEP)), end);
        assert_eq!(kind_and_inner(consumer.arm()), end);
        assert_eq!(kind_and_inner(consumer.try_peek()), end);

        let (mut producer, consumer) = both(64);
        drop(consumer);
        producer.push(&[0; 32]).unwrap();
        let broken = (ErrorKind::BrokenPipe, Some(Error::Closed));
        assert_eq!(kind_and_inner(producer.push(&[0; 32])), broken);
        assert_eq!(kind_and_inner(producer.push_value(&[0_u8; 32])), broken);

        // What a claim says is turned into the same.
        let missed = io_error(Error::Missed { messages: 3 });
        assert_eq!(missed.kind(), ErrorKind::Other);
        assert_eq!(io_error(Error::Busy).kind(), ErrorKind::WouldBlock);
        assert_eq!(
            errno(&io_error(Error::System(Errno::NOSYS))),
            Some(Errno::NOSYS)
        );
    });
}

#[test]
fn a_corrupt_ring_is_invalid_data() {
    isolated!(|| {
        let memfd = spsc::create(64).unwrap();
        let mut consumer = Consumer::attach(&memfd).unwrap();
        // The first record's header, as no producer writes it.
        let memory = map(&memfd).unwrap();
        memory.bytes().write(1408, &[0xff; 8]).unwrap();
        let corrupt = (ErrorKind::InvalidData, Some(Error::Corrupt));
        assert_eq!(kind_and_inner(consumer.try_pop(&mut [0; 32])), corrupt);
        assert_eq!(kind_and_inner(consumer.pop_vec()), corrupt);
    });
}

#[test]
fn what_is_not_the_ring_is_refused() {
    isolated!(|| {
        let name = std::env::temp_dir().join(format!("linipc-ring-{}", std::process::id()));
        let options = || File::options().read(true).write(true).clone();
        let file = options().create_new(true).open(&name).unwrap();
        fs::remove_file(&name).unwrap();
        file.set_len(1 << 16).unwrap();
        let unsealed = (ErrorKind::InvalidData, AttachError::Unsealed);
        assert_eq!(attach_error(Producer::attach(&file)), unsealed);

        // A memfd: not sealed, then sealed and empty of a ring, then one that is too short.
        let memfd = MemfdOptions::new().size(1 << 16).create("ring").unwrap();
        assert_eq!(attach_error(Consumer::attach(&memfd)), unsealed);
        memfd.add_seals(SealFlags::SHRINK).unwrap();
        let foreign = (ErrorKind::InvalidData, AttachError::NotARing);
        assert_eq!(attach_error(Consumer::attach(&memfd)), foreign);
        let short = MemfdOptions::new()
            .size(64)
            .seals(Memfd::FIXED_LENGTH)
            .create("ring");
        let (kind, error) = attach_error(Consumer::attach(short.unwrap()));
        assert_eq!(kind, ErrorKind::InvalidData);
        assert!(matches!(error, AttachError::TooSmall { .. }), "{error}");

        // What is no memory at all.
        let pipe = io::pipe().unwrap();
        assert_eq!(attach_error(Producer::attach(&pipe.0)), unsealed);

        // For reading only.
        let ring = spsc::create(64).unwrap();
        let read_only = format!("/proc/self/fd/{}", {
            use std::os::fd::AsRawFd;
            ring.as_file().as_raw_fd()
        });
        let read_only = File::open(read_only).unwrap();
        let error = Producer::attach(&read_only).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::ACCESS));
        let region = Memfd::from(read_only).map_read().unwrap();
        let refused = attach_error(Producer::attach_memory(region));
        assert_eq!(
            refused,
            (ErrorKind::PermissionDenied, AttachError::ReadOnly)
        );

        // Two producers.
        let _first = Producer::attach(&ring).unwrap();
        let in_use = AttachError::InUse {
            pid: std::process::id(),
        };
        let refused = attach_error(Producer::attach(&ring));
        assert_eq!(refused, (ErrorKind::ResourceBusy, in_use));

        for (asked, nearest) in [
            (0, 64),
            (63, 64),
            (100, 128),
            (5000, 4096),
            (u64::MAX, MAX_CAPACITY),
        ] {
            let refused = attach_error(spsc::create(asked));
            assert_eq!(
                refused,
                (ErrorKind::InvalidInput, AttachError::Capacity { nearest })
            );
            let named = spsc::open_named("/x", asked, OpenOptions::new().create(true));
            assert_eq!(attach_error(named).1, AttachError::Capacity { nearest });
        }
    });
}

#[test]
fn two_processes_meet_at_a_name() {
    isolated!(|| {
        let name = "/linipc-ring";
        let missing = Consumer::open(name).unwrap_err();
        assert_eq!(errno(&missing), Some(Errno::NOENT));

        let mut options = OpenOptions::new();
        options.create_new(true).unlink_on_drop(true);
        let mut segment = spsc::open_named(name, 4096, &options).unwrap();
        let exists = spsc::open_named(name, 4096, &options).unwrap_err();
        assert_eq!(errno(&exists), Some(Errno::EXIST));
        // An existing ring is found as it is, also by who would make it.
        let found = spsc::open_named(name, 64, OpenOptions::new().create(true)).unwrap();
        assert_eq!(found.size().unwrap(), segment.size().unwrap());
        // It cannot be sealed, which `attach` insists on.
        let refused = attach_error(Producer::attach(&segment));
        assert_eq!(refused.1, AttachError::Unsealed);

        let child = peer(|| {
            let mut producer = Producer::open(name).unwrap();
            assert_eq!(producer.capacity(), 4096);
            producer.push(b"by name").unwrap();
        });
        let mut consumer = Consumer::attach_memory(segment.map().unwrap()).unwrap();
        assert_eq!(consumer.pop_vec_deadline(PATIENCE).unwrap(), b"by name");
        child.join();

        // The name goes with the handle that was to unlink it, the ring with its last user.
        segment.persist();
        drop(segment);
        let segment = SharedMemory::open(name).unwrap();
        drop(segment);
        let again = OpenOptions::new().unlink_on_drop(true).clone();
        drop(spsc::open_named(name, 64, &again).unwrap());
        assert_eq!(
            errno(&Consumer::open(name).unwrap_err()),
            Some(Errno::NOENT)
        );
        assert_eq!(consumer.capacity(), 4096);
    });
}

#[test]
fn nobody_sees_a_half_made_ring() {
    isolated!(|| {
        // Each of the two makes it, or finds it whole; one attaches as the producer.
        for round in 0..200 {
            let name = &format!("/linipc-ring-{round}");
            let make = || {
                let mut options = OpenOptions::new();
                let segment = spsc::open_named(name, 64, options.create(true)).unwrap();
                segment.map().unwrap()
            };
            let child = peer(|| {
                Producer::attach_memory(make()).unwrap().push(b"x").unwrap();
            });
            let mut consumer = Consumer::attach_memory(make()).unwrap();
            assert_eq!(consumer.pop_vec_deadline(PATIENCE).unwrap(), b"x");
            child.join();
            linipc::posix::shm::unlink(name).unwrap();
        }
    });
}

#[test]
fn a_ring_is_sent_over_a_unix_socket() {
    isolated!(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let child = peer(|| {
            let [memfd]: [OwnedFd; 1] = there.recv_fds(1).unwrap().try_into().unwrap();
            let mut consumer = Consumer::attach(memfd).unwrap();
            assert_eq!(consumer.pop_value_deadline::<u64>(PATIENCE).unwrap(), 42);
        });
        let memfd = spsc::create(64).unwrap();
        let mut producer = Producer::attach(&memfd).unwrap();
        here.send_fds(&[memfd.as_fd()]).unwrap();
        producer.push_value(&42_u64).unwrap();
        child.join();
        assert_eq!(producer.peers(), Peers::Closed);
    });
}

#[test]
fn deadlines_pass_and_messages_come_before_them() {
    isolated!(|| {
        let (mut producer, mut consumer) = both(64);
        let mut buf = [0; 32];
        let timed_out = |done: io::Result<()>| {
            assert_eq!(done.unwrap_err().kind(), ErrorKind::TimedOut);
        };
        timed_out(consumer.pop_deadline(&mut buf, SHORT).map(drop));
        timed_out(consumer.pop_vec_deadline(SHORT).map(drop));
        timed_out(consumer.pop_value_deadline::<u8>(SHORT).map(drop));
        for wait in [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP] {
            timed_out(consumer.pop_wait(&mut buf, wait.timeout(SHORT)).map(drop));
            timed_out(consumer.pop_vec_wait(wait.timeout(SHORT)).map(drop));
            timed_out(consumer.pop_value_wait::<u8>(wait.timeout(SHORT)).map(drop));
            timed_out(consumer.wait(wait.timeout(SHORT)));
        }
        producer.push_deadline(&[1; 32], SHORT).unwrap();
        // One that has passed is no reason not to take what is there.
        let passed = Duration::ZERO;
        timed_out(producer.push_deadline(&[2; 32], passed));
        timed_out(producer.push_value_deadline(&[2_u8; 32], SHORT));
        timed_out(producer.push_wait(&[2; 32], Wait::SLEEP.timeout(SHORT)));
        timed_out(producer.push_value_wait(&[2_u8; 32], Wait::SLEEP.timeout(SHORT)));
        timed_out(producer.wait(32, Wait::SLEEP.timeout(SHORT)));
        assert_eq!(consumer.pop_deadline(&mut buf, passed).unwrap(), 32);
        producer
            .push_value_deadline(&3_u8, Deadline::NEVER)
            .unwrap();
        assert_eq!(consumer.pop_value_deadline::<u8>(passed).unwrap(), 3);
        producer.push(b"").unwrap();
        assert_eq!(consumer.pop_vec_deadline(passed).unwrap(), b"");
    });
}

#[test]
fn a_waiting_call_goes_on_after_a_signal() {
    isolated!(|| {
        let memfd = spsc::create(64).unwrap();
        let mut producer = Producer::attach(&memfd).unwrap();
        let child = peer(|| {
            support::catch_signals();
            let mut consumer = Consumer::attach(&memfd).unwrap();
            assert_eq!(consumer.pop(&mut [0; 8]).unwrap(), 3);
            assert_eq!(support::caught(), 1);
            assert_eq!(consumer.pop_vec().unwrap(), b"two");
            assert_eq!(support::caught(), 2);
        });
        for word in [b"one", b"two"] {
            interrupt(&child);
            producer.push(word).unwrap();
            eventually("it is read", || producer.free().unwrap() == 64 - 8);
        }
        child.join();
    });
}

#[test]
fn what_a_killed_peer_committed_is_drained_first() {
    isolated!(|| {
        let memfd = spsc::create(4096).unwrap();
        let mut consumer = Consumer::attach(&memfd).unwrap();
        let child = peer(|| {
            let mut producer = Producer::attach(&memfd).unwrap();
            for n in 0..3_u64 {
                producer.push_value(&n).unwrap();
            }
            let _claim = producer.try_claim(100).unwrap();
            loop {
                std::thread::park();
            }
        });
        eventually("three are there", || {
            consumer.peers() == Peers::Alive && {
                let mut batch = consumer.batch();
                (0..3).all(|_| batch.try_next().is_ok())
            }
        });
        until_asleep(child.pid());
        child.kill();
        for n in 0..3_u64 {
            assert_eq!(consumer.pop_value::<u64>().unwrap(), n);
        }
        let dead = (ErrorKind::ConnectionReset, Some(Error::PeerDead));
        assert_eq!(kind_and_inner(consumer.pop_vec()), dead);
        assert_eq!(kind_and_inner(consumer.pop(&mut [0; 8])), dead);
        assert_eq!(
            kind_and_inner(consumer.pop_value_wait::<u8>(Wait::SLEEP)),
            dead
        );
        assert_eq!(consumer.peers(), Peers::Dead);

        // Somebody else takes its place.
        let mut producer = Producer::attach(&memfd).unwrap();
        producer.push(b"again").unwrap();
        assert_eq!(consumer.pop_vec().unwrap(), b"again");
    });
}

#[test]
fn a_producer_learns_of_its_killed_consumer() {
    isolated!(|| {
        let memfd = spsc::create(64).unwrap();
        let mut producer = Producer::attach(&memfd).unwrap();
        let child = peer(|| {
            let _consumer = Consumer::attach(&memfd).unwrap();
            loop {
                std::thread::park();
            }
        });
        eventually("it is there", || producer.peers() == Peers::Alive);
        producer.push(&[0; 32]).unwrap();
        child.kill();
        let dead = (ErrorKind::ConnectionReset, Some(Error::PeerDead));
        assert_eq!(kind_and_inner(producer.push(&[0; 32])), dead);
        assert_eq!(kind_and_inner(producer.push_value(&[0_u8; 32])), dead);
    });
}

/// Waits for the event in epoll(7), and takes it.
fn wait_for(epoll: &Epoll, event: &EventFd) {
    let mut events = [NONE; 4];
    assert_eq!(epoll.wait(&mut events, PATIENCE).unwrap().len(), 1);
    event.try_take().unwrap();
}

#[test]
fn both_sides_wait_in_epoll() {
    isolated!(|| {
        const MESSAGES: u64 = 10_000;
        let memfd = spsc::create(64).unwrap();
        let [messages, room] = [(); 2].map(|()| EventFd::new(0).unwrap());
        let child = peer(|| {
            let mut producer = Producer::attach(&memfd).unwrap();
            producer.set_event(messages.try_clone().unwrap());
            let epoll = Epoll::new().unwrap();
            epoll.add(&room, 0, EventFlags::IN).unwrap();
            for n in 0..MESSAGES {
                while let Err(error) = producer.try_push_value(&n) {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    if producer.arm(8).unwrap() {
                        wait_for(&epoll, &room);
                    }
                }
            }
        });
        let mut consumer = Consumer::attach(&memfd).unwrap();
        consumer.set_event(room.try_clone().unwrap());
        let epoll = Epoll::new().unwrap();
        epoll.add(&messages, 0, EventFlags::IN).unwrap();
        let mut expected = 0;
        let end = loop {
            match consumer.try_pop_value::<u64>() {
                Ok(n) => {
                    assert_eq!(n, expected);
                    expected += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => match consumer.arm() {
                    Ok(true) => wait_for(&epoll, &messages),
                    Ok(false) => {}
                    Err(error) => break error,
                },
                Err(error) => break error,
            }
        };
        assert_eq!((end.kind(), expected), (ErrorKind::UnexpectedEof, MESSAGES));
        child.join();
    });
}

#[test]
fn counters_and_room() {
    isolated!(|| {
        let (mut producer, mut consumer) = both(128);
        assert_eq!((producer.capacity(), consumer.capacity()), (128, 128));
        assert_eq!((producer.max_message(), consumer.max_message()), (64, 64));
        let free = producer.free().unwrap();
        producer.push(&[0; 9]).unwrap();
        assert_eq!(producer.free().unwrap(), free - 24);
        producer.push(&[0; 64]).unwrap();
        producer.try_push(&[0; 64]).unwrap_err();
        assert_eq!(
            producer.counters(),
            Counters {
                messages: 2,
                bytes: 73,
                refused: 1,
                lost: 0
            }
        );
        consumer.pop(&mut [0; 64]).unwrap();
        assert_eq!(
            consumer.counters(),
            Counters {
                messages: 1,
                bytes: 9,
                refused: 0,
                lost: 0
            }
        );
        assert_eq!(
            (producer.peers(), consumer.peers()),
            (Peers::Alive, Peers::Alive)
        );
    });
}

#[test]
fn trusted_memory_lends_slices() {
    isolated!(|| {
        let memfd = spsc::create(4096).unwrap();
        // SAFETY: Only the two handles of this test use the ring.
        let trusted = || unsafe { Trusted::new(map(&memfd).unwrap()) };
        let mut producer = Producer::attach_memory(trusted()).unwrap();
        let mut consumer = Consumer::attach_memory(trusted()).unwrap();
        let mut claim = producer.try_claim(5).unwrap();
        claim.as_mut_slice().copy_from_slice(b"place");
        claim.commit();
        let message = consumer.try_peek().unwrap();
        assert_eq!(message.as_slice(), b"place");
        message.release();
        assert_eq!(
            consumer.try_pop_vec().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    });
}

/// Rings with many on a side.
mod many {
    use std::io::ErrorKind;

    use linipc::posix::shm::OpenOptions;
    use linipc::ring::{AttachError, Error, Peers, mpmc, mpsc};

    use super::{PATIENCE, attach_error, kind_and_inner};
    use crate::isolated;
    use crate::support::{eventually, peer};

    const EACH: u64 = 2000;

    #[test]
    fn three_producers_to_one_consumer() {
        isolated!(|| {
            let memfd = mpsc::create(256).unwrap();
            let mut consumer = mpsc::Consumer::attach(&memfd).unwrap();
            let until_all_are_there = mpsc::Producer::attach(&memfd).unwrap();
            let children = [0, 1, 2].map(|id| {
                peer(|| {
                    let mut producer = mpsc::Producer::attach(&memfd).unwrap();
                    for n in 0..EACH {
                        producer.push_value(&[id, n]).unwrap();
                    }
                })
            });
            let mut next = [0; 3];
            for _ in 0..3 * EACH {
                let [id, n] = consumer.pop_value_deadline::<[u64; 2]>(PATIENCE).unwrap();
                assert_eq!(n, next[id as usize]);
                next[id as usize] += 1;
            }
            assert_eq!(next, [EACH; 3]);
            children.into_iter().for_each(super::support::Peer::join);
            drop(until_all_are_there);
            let end = (ErrorKind::UnexpectedEof, Some(Error::Closed));
            assert_eq!(kind_and_inner(consumer.pop_vec()), end);
        });
    }

    #[test]
    fn each_message_goes_to_one_of_three_consumers() {
        isolated!(|| {
            let [memfd, results] = [mpmc::create(256).unwrap(), mpsc::create(256).unwrap()];
            let mut producer = mpmc::Producer::attach(&memfd).unwrap();
            let mut sums = mpsc::Consumer::attach(&results).unwrap();
            let _until_all_are_there = mpsc::Producer::attach(&results).unwrap();
            let children = [(); 3].map(|()| {
                peer(|| {
                    let mut consumer = mpmc::Consumer::attach(&memfd).unwrap();
                    let mut report = mpsc::Producer::attach(&results).unwrap();
                    let mut of_mine = [0_u64; 2];
                    let end = loop {
                        match consumer.pop_vec() {
                            Ok(message) => {
                                of_mine[0] += 1;
                                of_mine[1] += u64::from_ne_bytes(message.try_into().unwrap());
                            }
                            Err(end) => break end,
                        }
                    };
                    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
                    report.push_value(&of_mine).unwrap();
                })
            });
            for n in 0..EACH {
                producer.push_value_deadline(&n, PATIENCE).unwrap();
            }
            drop(producer);
            let mut all = [0; 2];
            for _ in 0..3 {
                let [count, sum] = sums.pop_value_deadline::<[u64; 2]>(PATIENCE).unwrap();
                all = [all[0] + count, all[1] + sum];
            }
            assert_eq!(all, [EACH, EACH * (EACH - 1) / 2]);
            children.into_iter().for_each(super::support::Peer::join);
        });
    }

    #[test]
    fn a_killed_producer_holds_nobody_up() {
        isolated!(|| {
            let memfd = mpsc::create(4096).unwrap();
            let mut consumer = mpsc::Consumer::attach(&memfd).unwrap();
            let mut other = mpsc::Producer::attach(&memfd).unwrap();
            let before = other.free().unwrap();
            let child = peer(|| {
                let mut producer = mpsc::Producer::attach(&memfd).unwrap();
                let _claim = producer.try_claim(100).unwrap();
                loop {
                    std::thread::park();
                }
            });
            eventually("the claim", || other.free().unwrap() < before);
            other.push(b"behind it").unwrap();
            child.kill();
            assert_eq!(consumer.pop_vec_deadline(PATIENCE).unwrap(), b"behind it");
            assert_eq!(consumer.counters().lost, 1);
            assert_eq!(consumer.peers(), Peers::Alive);
        });
    }

    #[test]
    fn kinds_are_told_apart_and_named() {
        isolated!(|| {
            let memfd = mpsc::create(64).unwrap();
            let refused = attach_error(mpmc::Consumer::attach(&memfd));
            assert_eq!(refused.0, ErrorKind::InvalidData);
            assert!(matches!(refused.1, AttachError::Kind { .. }));
            let name = "/linipc-many";
            let mut options = OpenOptions::new();
            options.create_new(true).unlink_on_drop(true);
            let _segment = mpmc::open_named(name, 256, &options).unwrap();
            let mut producer = mpmc::Producer::open(name).unwrap();
            let mut consumer = mpmc::Consumer::open(name).unwrap();
            assert_eq!(producer.try_push_all(&[b"one", b"two"]).unwrap(), 2);
            let mut batch = consumer.try_batch(5).unwrap();
            assert_eq!(batch.try_next().unwrap().len(), 3);
            assert_eq!(batch.try_next().unwrap().len(), 3);
            batch.release();
            assert_eq!(
                consumer.try_pop_vec().unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
        });
    }
}

mod broadcast {
    use std::io::ErrorKind;

    use linipc::event::eventfd::EventFd;
    use linipc::ring::broadcast::{self, Consumer, Producer};
    use linipc::ring::{AttachError, Error, Peers};

    use super::{PATIENCE, attach_error, kind_and_inner};
    use crate::isolated;
    use crate::support::{Peer, eventually, peer};

    #[test]
    fn each_of_three_consumers_gets_all() {
        isolated!(|| {
            const MESSAGES: u64 = 10_000;
            let memfd = broadcast::create(1 << 20).unwrap(); // room for all of them
            let mut producer = Producer::attach(&memfd).unwrap();
            let attached = EventFd::new(0).unwrap();
            let children = [(); 3].map(|()| {
                peer(|| {
                    let mut consumer = Consumer::attach(&memfd).unwrap();
                    attached.add(1).unwrap();
                    for n in 0..MESSAGES {
                        assert_eq!(consumer.pop_value_deadline::<u64>(PATIENCE).unwrap(), n);
                    }
                    let end = (ErrorKind::UnexpectedEof, Some(Error::Closed));
                    assert_eq!(kind_and_inner(consumer.pop_vec()), end);
                })
            });
            let mut ready = 0;
            while ready < 3 {
                ready += attached.take_deadline(PATIENCE).unwrap();
            }
            for n in 0..MESSAGES {
                producer.push_value(&n).unwrap();
            }
            drop(producer);
            children.into_iter().for_each(Peer::join);
        });
    }

    #[test]
    fn who_is_overtaken_learns_by_how_many() {
        isolated!(|| {
            let memfd = broadcast::create(64).unwrap();
            let mut producer = Producer::attach(&memfd).unwrap();
            let mut consumer = Consumer::attach(&memfd).unwrap();
            assert_eq!(
                consumer.try_pop_vec().unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            for n in 0..1000_u64 {
                producer.push_value(&n).unwrap();
            }
            let (kind, inner) = kind_and_inner(consumer.pop_vec());
            let Some(Error::Missed { messages }) = inner else {
                panic!("{inner:?}");
            };
            assert_eq!(kind, ErrorKind::Other);
            assert!(messages > 900);
            for n in messages..1000 {
                assert_eq!(consumer.try_pop_value::<u64>().unwrap(), n);
            }
            assert_eq!(consumer.counters().lost, messages);
            assert_eq!(producer.counters().messages, 1000);
            let too_long = (ErrorKind::InvalidInput, Some(Error::TooLong { max: 32 }));
            assert_eq!(kind_and_inner(producer.push(&[0; 33])), too_long);
            assert_eq!(kind_and_inner(producer.try_claim(33)), too_long);
        });
    }

    #[test]
    fn a_killed_producer_is_reported_after_its_messages() {
        isolated!(|| {
            let memfd = broadcast::create(1024).unwrap();
            let mut consumers = [(); 2].map(|()| Consumer::attach(&memfd).unwrap());
            let child = peer(|| {
                let mut producer = Producer::attach(&memfd).unwrap();
                let mut batch = producer.batch();
                batch.try_push(b"one").unwrap();
                batch.try_push(b"two").unwrap();
                batch.commit();
                loop {
                    std::thread::park();
                }
            });
            eventually("they are there", || consumers[0].try_peek().is_ok());
            child.kill();
            for consumer in &mut consumers {
                assert_eq!(consumer.pop_vec().unwrap(), b"one");
                assert_eq!(consumer.pop_vec().unwrap(), b"two");
                let dead = (ErrorKind::ConnectionReset, Some(Error::PeerDead));
                assert_eq!(kind_and_inner(consumer.pop_vec()), dead);
                assert_eq!(consumer.peers(), Peers::Dead);
            }
            let _next = Producer::attach(&memfd).unwrap();
            let in_use = attach_error(Producer::attach(&memfd));
            assert_eq!(in_use.0, ErrorKind::ResourceBusy);
            assert!(matches!(in_use.1, AttachError::InUse { .. }));
        });
    }
}

mod items {
    use std::io::ErrorKind;
    use std::time::Duration;

    use linipc::posix::shm::OpenOptions;
    use linipc::ring::items::{self, Consumer, Producer};
    use linipc::ring::{AttachError, Counters, Error, Peers, Wait};

    use super::{PATIENCE, SHORT, attach_error, kind_and_inner};
    use crate::isolated;
    use crate::support::peer;

    #[test]
    fn slices_and_single_items_between_processes() {
        isolated!(|| {
            const ITEMS: u64 = 100_000;
            let memfd = items::create::<[u64; 2]>(64).unwrap();
            let child = peer(|| {
                let mut producer = Producer::<[u64; 2]>::attach(&memfd).unwrap();
                let mut n = 0;
                while n < ITEMS {
                    producer.push(&[n, !n]).unwrap();
                    let more: Vec<_> = (n + 1..(n + 100).min(ITEMS)).map(|n| [n, !n]).collect();
                    n += 1 + more.len() as u64;
                    let mut left = &more[..];
                    while !left.is_empty() {
                        let pushed = producer.push_slice_deadline(left, PATIENCE).unwrap();
                        left = &left[pushed..];
                    }
                }
            });
            let mut consumer = Consumer::<[u64; 2]>::attach(&memfd).unwrap();
            let mut n = 0;
            let end = loop {
                let mut buf = [[0; 2]; 50];
                match consumer.pop_slice(&mut buf) {
                    Ok(popped) => {
                        for item in &buf[..popped] {
                            assert_eq!(item, &[n, !n]);
                            n += 1;
                        }
                    }
                    Err(error) => break kind_and_inner::<()>(Err(error)),
                }
                match consumer.try_pop() {
                    Ok(item) => {
                        assert_eq!(item, [n, !n]);
                        n += 1;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => break kind_and_inner::<()>(Err(error)),
                }
            };
            assert_eq!(end, (ErrorKind::UnexpectedEof, Some(Error::Closed)));
            assert_eq!(n, ITEMS);
            child.join();
            assert_eq!(consumer.counters().messages, ITEMS);
        });
    }

    #[test]
    fn what_cannot_be_is_refused() {
        isolated!(|| {
            let memfd = items::create::<u32>(4).unwrap();
            let found = AttachError::ItemSize {
                found: 4,
                expected: 8,
            };
            let refused = attach_error(Producer::<u64>::attach(&memfd));
            assert_eq!(refused, (ErrorKind::InvalidData, found));
            let capacity = AttachError::Capacity { nearest: 4 };
            let refused = attach_error(items::create::<u32>(5));
            assert_eq!(refused, (ErrorKind::InvalidInput, capacity));

            let mut producer = Producer::<u32>::attach(&memfd).unwrap();
            let mut consumer = Consumer::<u32>::attach(&memfd).unwrap();
            let no_inner = |kind| (kind, None);
            let would_block = no_inner(ErrorKind::WouldBlock);
            let timed_out = no_inner(ErrorKind::TimedOut);
            let mut buf = [0; 4];
            assert_eq!(kind_and_inner(consumer.try_pop()), would_block);
            assert_eq!(
                kind_and_inner(consumer.try_pop_slice(&mut buf)),
                would_block
            );
            assert_eq!(kind_and_inner(consumer.pop_deadline(SHORT)), timed_out);
            assert_eq!(
                kind_and_inner(consumer.pop_slice_deadline(&mut buf, SHORT)),
                timed_out
            );
            assert!(consumer.arm().unwrap());
            assert_eq!(producer.push_slice(&[1, 2, 3, 4, 5]).unwrap(), 4);
            assert_eq!((producer.free().unwrap(), consumer.len().unwrap()), (0, 4));
            assert!(!consumer.arm().unwrap());
            assert!(producer.arm(1).unwrap());
            assert_eq!(kind_and_inner(producer.try_push(&5)), would_block);
            assert_eq!(kind_and_inner(producer.try_push_slice(&[5])), would_block);
            assert_eq!(kind_and_inner(producer.push_deadline(&5, SHORT)), timed_out);
            assert_eq!(
                kind_and_inner(producer.push_slice_deadline(&[5], Duration::ZERO)),
                timed_out
            );
            let too_many = (ErrorKind::InvalidInput, Some(Error::TooLong { max: 4 }));
            assert_eq!(kind_and_inner(producer.wait(5, Wait::SLEEP)), too_many);
            assert_eq!(consumer.pop_slice(&mut buf).unwrap(), 4);
            assert_eq!(buf, [1, 2, 3, 4]);
            let counters = producer.counters();
            assert!(counters.refused > 0);
            assert_eq!(
                counters,
                Counters {
                    messages: 4,
                    bytes: 16,
                    ..counters
                }
            );
        });
    }

    #[test]
    fn by_name_and_in_place() {
        isolated!(|| {
            let name = "/linipc-items";
            let mut options = OpenOptions::new();
            options.create_new(true).unlink_on_drop(true);
            let _segment = items::open_named::<u16>(name, 8, &options).unwrap();
            let mut producer = Producer::<u16>::open(name).unwrap();
            let mut consumer = Consumer::<u16>::open(name).unwrap();
            assert_eq!((producer.capacity(), consumer.peers()), (8, Peers::Alive));
            let mut claim = producer.try_claim(3).unwrap();
            claim.write(0, &[1, 2, 3]).unwrap();
            claim.commit(2).unwrap();
            let peek = consumer.try_peek(8).unwrap();
            assert_eq!(peek.len(), 2);
            peek.release(1).unwrap();
            assert_eq!(consumer.pop().unwrap(), 2);
        });
    }
}

mod bytes {
    use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

    use linipc::event::epoll::{Epoll, EventFlags};
    use linipc::event::eventfd::EventFd;
    use linipc::posix::shm::OpenOptions;
    use linipc::ring::bytes::{self, Consumer, Producer};
    use linipc::ring::{Error, Peers, Wait};

    use super::{PATIENCE, SHORT, kind_and_inner, wait_for};
    use crate::isolated;
    use crate::support::{eventually, peer};

    /// A few MiB in which no two places look alike.
    fn content() -> Vec<u8> {
        let mut state = 1_u64;
        let next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 56) as u8
        };
        std::iter::repeat_with(next).take(5_000_011).collect()
    }

    #[test]
    fn std_copies_between_processes() {
        isolated!(|| {
            let memfd = bytes::create(1 << 14).unwrap();
            let child = peer(|| {
                let mut producer = Producer::attach(&memfd).unwrap();
                let copied = io::copy(&mut &content()[..], &mut producer).unwrap();
                assert_eq!(copied, 5_000_011);
                producer.flush().unwrap();
            });
            let mut consumer = Consumer::attach(&memfd).unwrap();
            let mut arrived = Vec::new();
            io::copy(&mut consumer, &mut arrived).unwrap();
            assert!(arrived == content());
            // The end stays the end.
            assert_eq!(consumer.read(&mut [0; 8]).unwrap(), 0);
            assert_eq!(consumer.try_read(&mut [0; 8]).unwrap(), 0);
            assert_eq!(consumer.read_deadline(&mut [0; 8], SHORT).unwrap(), 0);
            assert!(!consumer.arm().unwrap());
            consumer.wait(Wait::SLEEP).unwrap();
            let end = (ErrorKind::UnexpectedEof, Some(Error::Closed));
            assert_eq!(kind_and_inner(consumer.try_peek(1)), end);
            child.join();
        });
    }

    #[test]
    fn lines_by_name() {
        isolated!(|| {
            let name = "/linipc-bytes";
            let mut options = OpenOptions::new();
            options.create_new(true).unlink_on_drop(true);
            let _segment = bytes::open_named(name, 64, &options).unwrap();
            let child = peer(|| {
                let mut producer = Producer::open(name).unwrap();
                for n in 0..100 {
                    writeln!(producer, "line number {n}").unwrap();
                }
            });
            let lines = BufReader::new(Consumer::open(name).unwrap()).lines();
            let lines: Vec<String> = lines.map(Result::unwrap).collect();
            assert_eq!(lines.len(), 100);
            assert_eq!(lines[99], "line number 99");
            child.join();
        });
    }

    #[test]
    fn tries_deadlines_and_ends() {
        isolated!(|| {
            let memfd = bytes::create(64).unwrap();
            let mut producer = Producer::attach(&memfd).unwrap();
            let mut consumer = Consumer::attach(&memfd).unwrap();
            let mut buf = [0; 64];
            let no_inner = |kind| (kind, None);
            let would_block = no_inner(ErrorKind::WouldBlock);
            let timed_out = no_inner(ErrorKind::TimedOut);
            assert_eq!(kind_and_inner(consumer.try_read(&mut buf)), would_block);
            assert_eq!(
                kind_and_inner(consumer.read_deadline(&mut buf, SHORT)),
                timed_out
            );
            assert_eq!(consumer.read(&mut []).unwrap(), 0);
            assert_eq!(producer.write(&[]).unwrap(), 0);
            assert_eq!(
                kind_and_inner(producer.write_all_deadline(&[1; 65], SHORT)),
                timed_out
            );
            assert_eq!((producer.free().unwrap(), consumer.len().unwrap()), (0, 64));
            assert_eq!(kind_and_inner(producer.try_write(&[1])), would_block);
            assert_eq!(
                kind_and_inner(producer.write_deadline(&[1], SHORT)),
                timed_out
            );
            assert_eq!(consumer.read(&mut buf).unwrap(), 64);
            assert_eq!(buf, [1; 64]);

            drop(consumer);
            producer.write_all(&[0; 64]).unwrap();
            let broken = (ErrorKind::BrokenPipe, Some(Error::Closed));
            assert_eq!(kind_and_inner(producer.write(&[0])), broken);
        });
    }

    #[test]
    fn a_killed_producer_is_no_end_of_the_stream() {
        isolated!(|| {
            let memfd = bytes::create(64).unwrap();
            let mut consumer = Consumer::attach(&memfd).unwrap();
            let child = peer(|| {
                let mut producer = Producer::attach(&memfd).unwrap();
                producer.write_all(b"half").unwrap();
                loop {
                    std::thread::park();
                }
            });
            eventually("it is written", || consumer.len().unwrap() == 4);
            child.kill();
            let mut text = String::new();
            let dead = (ErrorKind::ConnectionReset, Some(Error::PeerDead));
            assert_eq!(kind_and_inner(consumer.read_to_string(&mut text)), dead);
            assert_eq!((&*text, consumer.peers()), ("half", Peers::Dead));
        });
    }

    #[test]
    fn the_end_wakes_epoll() {
        isolated!(|| {
            let (memfd, event) = (bytes::create(64).unwrap(), EventFd::new(0).unwrap());
            let [go, gone] = [(); 2].map(|()| EventFd::new(0).unwrap());
            let child = peer(|| {
                let mut producer = Producer::attach(&memfd).unwrap();
                producer.set_event(event.try_clone().unwrap());
                gone.add(1).unwrap();
                go.take_deadline(PATIENCE).unwrap();
            });
            gone.take_deadline(PATIENCE).unwrap();
            let mut consumer = Consumer::attach(&memfd).unwrap();
            let epoll = Epoll::new().unwrap();
            epoll.add(&event, 0, EventFlags::IN).unwrap();
            assert!(consumer.arm().unwrap());
            go.add(1).unwrap();
            wait_for(&epoll, &event);
            assert_eq!(consumer.try_read(&mut [0; 8]).unwrap(), 0);
            child.join();
        });
    }
}

/// Typed by zerocopy: what its derives accept goes through a ring and a shared variable.
mod typed {
    use crate::isolated;
    use linipc::shared::{Shared, Zerocopy};
    use zerocopy::{FromBytes, Immutable, IntoBytes, big_endian};

    #[derive(Debug, Clone, Copy, PartialEq, FromBytes, IntoBytes, Immutable)]
    #[repr(C)]
    struct Reading {
        sensor: [u8; 4],
        value: big_endian::U32,
    }

    const READING: Reading = Reading {
        sensor: *b"temp",
        value: big_endian::U32::from_bytes([0, 0, 1, 2]),
    };

    #[test]
    fn values_of_zerocopy() {
        isolated!(|| {
            let (mut producer, mut consumer) = super::both(64);
            producer.push_value(&Zerocopy(READING)).unwrap();
            producer.push(b"tide\0\0\0\x09").unwrap();
            assert_eq!(consumer.pop_vec().unwrap(), b"temp\0\0\x01\x02");
            let Zerocopy(tide) = consumer.pop_value::<Zerocopy<Reading>>().unwrap();
            assert_eq!((&tide.sensor, tide.value.get()), (b"tide", 9));

            let mut shared = Shared::anonymous(Zerocopy(READING)).unwrap();
            assert_eq!(shared.get().unwrap().0, READING);
        });
    }
}

/// The README shows the example as it is, which the crate's documentation runs.
#[test]
fn the_readme_has_the_example() {
    let readme = include_str!("../README.md");
    let example = include_str!("../std-shim/examples/ring.rs");
    assert!(readme.contains(example));
}
