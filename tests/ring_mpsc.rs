//! The ring for many producers and one consumer, between processes where several matter.

mod support;

#[path = "support/step.rs"]
mod step;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use linipc::event::eventfd::EventFd;
use linipc_core::map::{Access, Region};
use linipc_core::ring::mpsc::{Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Kind, MAX_ENDS, Peers, Trusted, Wait, spsc};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use step::{Comes, Stage};
use support::{PATIENCE, Peer, SLOWNESS, eventually, peer, until_asleep};

const RW: Access = Access::READ.union(Access::WRITE);

fn ring(capacity: u64) -> OwnedFd {
    ring::create_memfd(c"test", Kind::Mpsc, capacity).unwrap()
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

#[test]
fn a_million_messages_arrive_once_and_each_producers_in_order() {
    const PRODUCERS: usize = 4;
    const MESSAGES: u64 = 260_000 / SLOWNESS as u64;
    isolated!(|| {
        let fd = ring(4096);
        let mut consumer = consumer(&fd);
        let mut holding = producer(&fd);
        let peers: Vec<Peer> = (0..PRODUCERS)
            .map(|id| {
                peer(|| {
                    let mut producer = producer(&fd);
                    let mut number = 0;
                    while number < MESSAGES {
                        let wait = patiently(Wait::SPIN_THEN_SLEEP);
                        match number % 16 {
                            0 => {
                                let texts = [0, 1, 2].map(|n| message(id, number + n));
                                let texts = texts.each_ref().map(|text| &text[..]);
                                producer.wait(64, wait).unwrap();
                                match producer.try_push_all(&texts) {
                                    Ok(count) => number += count as u64,
                                    Err(Error::Full | Error::Busy) => {}
                                    Err(error) => panic!("{error}"),
                                }
                            }
                            8 => {
                                let text = message(id, number);
                                producer.wait(64, wait).unwrap();
                                let Ok(mut claim) = producer.try_claim(60) else {
                                    continue;
                                };
                                if number % 3 == 0 {
                                    claim.abort();
                                    producer.push(&text, wait).unwrap();
                                } else {
                                    claim.write(0, &text).unwrap();
                                    claim.truncate(text.len()).unwrap();
                                    claim.commit();
                                }
                                number += 1;
                            }
                            _ => {
                                producer.push(&message(id, number), wait).unwrap();
                                number += 1;
                            }
                        }
                    }
                    assert_eq!(producer.counters().lost, 0);
                })
            })
            .collect();
        let (mut numbers, mut buf) = ([0; PRODUCERS], [0; 64]);
        let mut take = |text: &[u8]| {
            let (id, number) = read(text);
            assert_eq!(number, numbers[id], "of producer {id}");
            numbers[id] += 1;
        };
        let mut left = PRODUCERS as u64 * MESSAGES;
        while left > 0 {
            let wait = patiently(Wait::SPIN_THEN_SLEEP);
            let len = consumer.pop(&mut buf, wait).unwrap();
            take(&buf[..len]);
            left -= 1;
            if left.is_multiple_of(64) {
                let mut batch = consumer.batch();
                while let Ok(message) = batch.try_next() {
                    let len = message.len();
                    message.read(0, &mut buf[..len]).unwrap();
                    take(&buf[..len]);
                    left -= 1;
                }
                batch.release();
            }
        }
        for peer in peers {
            peer.join();
        }
        assert_eq!(pop(&mut consumer), Err(Error::Empty), "one is attached");
        assert_eq!(holding.counters().messages, PRODUCERS as u64 * MESSAGES);
        assert_eq!(consumer.counters().messages, PRODUCERS as u64 * MESSAGES);
        assert_eq!(consumer.counters().bytes, holding.counters().bytes);
        assert_eq!(holding.free(), Ok(4096 - 8), "all room is there again");
        drop(holding);
        assert_eq!(pop(&mut consumer), Err(Error::Closed));
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

/// Kills a producer at every step of `push`: what it pushes is there as a whole or not at all, and
/// neither another producer, whenever that comes, nor the consumer is held up. Gives how many died with a
/// claim.
fn kill_producers(place: u64, texts: &[&[u8]], push: impl Fn(&mut Producer<Region>)) -> u64 {
    [Comes::Before, Comes::Meanwhile, Comes::After]
        .map(|comes| kill_each(comes, place, texts, &push))
        .iter()
        .sum()
}

fn kill_each(
    comes: Comes,
    place: u64,
    texts: &[&[u8]],
    push: &impl Fn(&mut Producer<Region>),
) -> u64 {
    let begin = || {
        let (fd, stage) = (worn_ring(place), Stage::new());
        let consumer = consumer(&fd);
        let other = (comes == Comes::Before).then(|| producer(&fd));
        let child = peer(|| {
            let mut producer = producer(&fd);
            stage.begin();
            push(&mut producer);
            stage.end();
        });
        stage.expect_begin(&child);
        (fd, stage, consumer, other, child)
    };
    let (fd, stage, _, _, child) = begin();
    let plan = stage.plan(&map(&fd), &child);
    drop(child);
    let (mut effects, mut skipped) = (Vec::new(), 0);
    for steps in &plan {
        let (fd, stage, mut consumer, other, child) = begin();
        let is_done = stage.steps(&child, *steps);
        assert_eq!(is_done, Some(steps) == plan.last(), "at {steps}");
        let other = match comes {
            Comes::Meanwhile => Some(producer(&fd)),
            _ => other,
        };
        child.kill();
        let mut other = other.unwrap_or_else(|| producer(&fd));

        // The turn may be the dead one's, and the claim.
        other.try_push(b"from another").unwrap();
        let mut arrived = Vec::new();
        let end = Instant::now() + PATIENCE;
        while arrived.last().is_none_or(|text| text != b"from another") {
            let popped = match steps % 16 {
                0 => next(&mut consumer, patiently(Wait::SLEEP)),
                _ => pop(&mut consumer),
            };
            match popped {
                Ok(text) => arrived.push(text),
                Err(Error::Empty) => assert!(Instant::now() < end, "at {steps}"),
                Err(error) => panic!("{error} at {steps}"),
            }
        }
        arrived.pop();
        assert_eq!(pop(&mut consumer), Err(Error::Empty), "at {steps}");
        effects.push(arrived.len());
        if !arrived.is_empty() {
            assert_eq!(arrived, texts, "whole, at {steps}");
        }
        let lost = consumer.counters().lost;
        assert!(lost <= u64::from(arrived.is_empty()), "at {steps}");
        skipped += lost;
        assert_eq!(other.free(), Ok(256 - 8), "all room, at {steps}");
        for number in 0..20_u8 {
            let text = vec![number; usize::from(number) * 3];
            other.try_push(&text).unwrap();
            assert_eq!(pop(&mut consumer), Ok(text));
        }
        drop(other);
        if steps % 16 == 0 {
            let end = next(&mut consumer, patiently(Wait::SLEEP));
            // Who comes later has the place of the dead one.
            let expected = match comes {
                Comes::After => Error::Closed,
                _ => Error::PeerDead,
            };
            assert_eq!(end, Err(expected), "at {steps}");
        }
    }
    let first = effects.iter().position(|effect| *effect > 0).unwrap();
    assert!(first > 0, "no effect at the beginning");
    assert!(effects[first..].iter().all(|effect| *effect == texts.len()));
    skipped
}

#[test]
fn a_push_is_done_or_not_begun_and_holds_nobody_up() {
    isolated!(|| {
        let skipped = kill_producers(64, &[b"one message in flight"], |producer| {
            producer.try_push(b"one message in flight").unwrap();
        });
        assert_eq!(skipped, 0, "short ones are not claimed");
    });
}

#[test]
fn a_claim_is_committed_or_skipped_and_holds_nobody_up() {
    isolated!(|| {
        // The record begins 16 bytes before the end.
        let skipped = kill_producers(256 - 16, &[b"filled in two parts"], |producer| {
            let mut claim = producer.try_claim(40).unwrap();
            claim.write(0, b"filled in").unwrap();
            claim.write(9, b" two parts").unwrap();
            claim.truncate(19).unwrap();
            claim.commit();
        });
        assert!(skipped > 0);
    });
}

#[test]
fn a_batch_is_pushed_as_a_whole_or_not_at_all_and_holds_nobody_up() {
    isolated!(|| {
        let texts: [&[u8]; 3] = [b"first", b"", b"the third one of it"];
        let skipped = kill_producers(256 - 32, &texts, |producer| {
            // More than they take.
            let mut batch = producer.try_batch(100).unwrap();
            for text in texts {
                batch.try_push(text).unwrap();
            }
            batch.commit();
        });
        assert!(skipped > 0);
    });
}

#[test]
fn a_consumer_that_dies_leaves_what_it_did_not_release() {
    isolated!(|| {
        let fd = ring(256);
        let mut producer = producer(&fd);
        for number in 0..3 {
            producer.try_push(&[number; 20]).unwrap();
        }
        let reader = mortal(|| {
            let mut consumer = consumer(&fd);
            assert_eq!(pop(&mut consumer), Ok(vec![0; 20]));
            drop(consumer.try_peek().unwrap());
            std::mem::forget(consumer);
        });
        reader.kill();
        assert_eq!(producer.peers(), Peers::Dead);
        let mut consumer = consumer(&fd);
        assert_eq!(pop(&mut consumer), Ok(vec![1; 20]));
        assert_eq!(pop(&mut consumer), Ok(vec![2; 20]));
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
    });
}

/// Pushes message after message in all forms, until it is killed: before each it says that it may be
/// there from now on, and behind it, that it is.
fn push_until_killed(fd: &OwnedFd, id: usize, begun: &Numbers, done: &Numbers, stop: &Numbers) {
    let mut producer = producer(fd);
    let mut number = 0;
    while stop.get(0) == 0 {
        let wait = [Wait::SLEEP, Wait::SPIN_THEN_SLEEP][number as usize / 8 % 2];
        let wait = patiently(wait);
        let mut end = number + 1;
        match number % 4 {
            0 => {
                end = number + 3;
                begun.set(id, end);
                let texts = [0, 1, 2].map(|n| message(id, number + n));
                let texts = texts.each_ref().map(|text| &text[..]);
                match producer.try_push_all(&texts) {
                    Ok(count) => end = number + count as u64,
                    Err(Error::Full | Error::Busy) => {
                        begun.set(id, number + 1);
                        producer.push(texts[0], wait).unwrap();
                        end = number + 1;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            1 => {
                producer.wait(60, wait).unwrap();
                begun.set(id, end);
                let text = message(id, number);
                let Ok(mut claim) = producer.try_claim(60) else {
                    continue;
                };
                claim.write(0, &text).unwrap();
                claim.truncate(text.len()).unwrap();
                claim.commit();
            }
            _ => {
                begun.set(id, end);
                producer.push(&message(id, number), wait).unwrap();
            }
        }
        number = end;
        begun.set(id, number);
        done.set(id, number);
    }
}

#[test]
fn producers_killed_at_random_lose_only_what_they_had_not_committed() {
    const ALIVE: usize = 3;
    const ROUNDS: usize = 500 / SLOWNESS;
    /// How many microseconds there are between two kills at most.
    const LONGEST: u64 = 2000 * SLOWNESS as u64;
    isolated!(|| {
        let fd = worn_ring(0);
        let mut consumer = consumer(&fd);
        let [begun, done, stop] = [(); 3].map(|()| Numbers::new());
        let mut random = Random::new();
        let mut arrived = [0_u64; ALIVE + ROUNDS];
        let mut buf = [0; 128];
        let start = |id: usize| {
            let (fd, begun, done, stop) = (&fd, &begun, &done, &stop);
            (
                id,
                peer(move || push_until_killed(fd, id, begun, done, stop)),
            )
        };
        // Not all are dead while the next one comes.
        let holding = producer(&fd);
        let mut alive: Vec<(usize, Peer)> = (0..ALIVE).map(&start).collect();
        let mut take = |text: &[u8]| {
            let (id, number) = read(text);
            assert_eq!(number, arrived[id], "of producer {id}");
            arrived[id] += 1;
        };
        for round in 0..ROUNDS {
            let (since, life) = (Instant::now(), Duration::from_micros(random.below(LONGEST)));
            // Some are killed while they sleep because there is no room.
            let reads_until = life.mul_f32(random.below(4) as f32 / 3.0);
            while since.elapsed() < life {
                if since.elapsed() >= reads_until {
                    continue;
                }
                match consumer.try_pop(&mut buf) {
                    Ok(len) => take(&buf[..len]),
                    Err(Error::Empty) => {}
                    Err(error) => panic!("{error} in round {round}"),
                }
            }
            let (_, victim) = alive.swap_remove(random.below(ALIVE as u64) as usize);
            victim.kill();
            // It is never for ever that nothing comes.
            for _ in 0..10 {
                let len = consumer.pop(&mut buf, patiently(Wait::SPIN_THEN_SLEEP));
                take(&buf[..len.unwrap()]);
            }
            alive.push(start(ALIVE + round));
        }
        stop.set(0, 1);
        drop(holding);
        loop {
            match consumer.pop(&mut buf, patiently(Wait::SPIN_THEN_SLEEP)) {
                Ok(len) => take(&buf[..len]),
                // Closed, if others came and left in all places of dead ones.
                Err(Error::PeerDead | Error::Closed) => break,
                Err(error) => panic!("{error}"),
            }
        }
        for (_, peer) in alive {
            peer.join();
        }
        for (id, arrived) in arrived.into_iter().enumerate() {
            let range = done.get(id)..=begun.get(id);
            assert!(range.contains(&arrived), "{arrived} of {range:?}, {id}");
        }
        let total: u64 = arrived.iter().sum();
        println!("{total} messages, {} lost", consumer.counters().lost);
        let mut producer = producer(&fd);
        assert_eq!(producer.free(), Ok(256 - 8), "all room is there again");
        producer.try_push(b"on").unwrap();
        assert_eq!(pop(&mut consumer), Ok(b"on".to_vec()));
    });
}

#[test]
fn a_sleeping_consumer_skips_the_claim_of_a_dead_producer() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let mut other = producer(&fd);
        let claiming = mortal(|| {
            let mut producer = producer(&fd);
            std::mem::forget(producer.try_claim(50).unwrap());
            std::mem::forget(producer);
        });
        other.try_push(b"behind").unwrap();
        let wait = Wait::SLEEP.timeout(Duration::from_millis(300));
        assert_eq!(next(&mut consumer, wait), Err(Error::TimedOut), "it lives");
        claiming.kill();
        let text = next(&mut consumer, patiently(Wait::SLEEP));
        assert_eq!(text, Ok(b"behind".to_vec()));
        assert_eq!(consumer.counters().lost, 1);
    });
}

#[test]
fn a_stopped_producer_is_not_dead_and_its_claim_not_skipped() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let go = Numbers::new();
        let claiming = peer(|| {
            let mut producer = producer(&fd);
            let mut claim = producer.try_claim(5).unwrap();
            claim.write(0, b"first").unwrap();
            go.set(0, 1);
            eventually("go on", || go.get(0) == 2);
            claim.commit();
        });
        eventually("it has claimed", || go.get(0) == 1);
        let pid = Pid::from_raw(claiming.pid()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let mut other = producer(&fd);
        other.try_push(b"second").unwrap();
        for _ in 0..5000 {
            assert_eq!(pop(&mut consumer), Err(Error::Empty));
        }
        go.set(0, 2);
        kill_process(pid, Signal::CONT).unwrap();
        let wait = patiently(Wait::SLEEP);
        assert_eq!(next(&mut consumer, wait), Ok(b"first".to_vec()));
        assert_eq!(next(&mut consumer, wait), Ok(b"second".to_vec()));
        claiming.join();
        assert_eq!(consumer.counters().lost, 0);
    });
}

#[test]
fn a_stopped_holder_of_the_turn_makes_others_busy_until_their_deadline() {
    isolated!(|| {
        let fd = ring(256);
        let mut other = producer(&fd);
        let stage = Stage::new();
        let child = peer(|| {
            let mut producer = producer(&fd);
            stage.begin();
            producer.try_push(b"slow").unwrap();
            stage.end();
        });
        stage.expect_begin(&child);
        // The turn's word: the tail is at 128, the turn 48 behind.
        let region = map(&fd);
        let turn = region.bytes().atomic_u32(176).unwrap();
        while turn.load(Ordering::SeqCst) == 0 {
            assert!(!stage.steps(&child, 1), "it takes the turn");
        }
        assert_eq!(other.try_push(b"other"), Err(Error::Busy));
        let wait = Wait::SPIN_THEN_SLEEP.timeout(Duration::from_millis(20));
        assert_eq!(other.push(b"other", wait), Err(Error::TimedOut));
        while turn.load(Ordering::SeqCst) != 0 {
            assert!(!stage.steps(&child, 1), "it gives the turn back");
        }
        other.try_push(b"other").unwrap();
        child.kill();
    });
}

#[test]
fn who_enters_beside_one_that_is_stopped_in_its_turn_alone_is_busy_until_its_deadline() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let stage = Stage::new();
        let child = peer(|| {
            let mut producer = producer(&fd);
            stage.begin();
            producer.try_push(b"slow").unwrap();
            stage.end();
        });
        stage.expect_begin(&child);
        // Who is alone and busy: the third word of the turn.
        let region = map(&fd);
        let busy = region.bytes().atomic_u32(184).unwrap();
        let header = region.bytes().atomic_u64(1408).unwrap();
        while header.load(Ordering::SeqCst) == 0 {
            assert!(!stage.steps(&child, 1), "it publishes its message");
        }
        assert_ne!(busy.load(Ordering::SeqCst), 0, "in its turn");
        let mut other = producer(&fd);
        assert_eq!(other.try_push(b"other"), Err(Error::Busy));
        let wait = Wait::SPIN_THEN_SLEEP.timeout(Duration::from_millis(20));
        assert_eq!(other.push(b"other", wait), Err(Error::TimedOut));
        while busy.load(Ordering::SeqCst) != 0 {
            assert!(!stage.steps(&child, 1), "it gives the turn back");
        }
        other.try_push(b"other").unwrap();
        child.kill();
        for text in ["slow", "other"] {
            assert_eq!(pop(&mut consumer), Ok(text.as_bytes().to_vec()));
        }
    });
}

/// Lets the kernel refuse membarrier(2) to this process, as it does without CONFIG_MEMBARRIER.
fn refuse_membarrier() {
    let step = |code: u32, jt, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf: 0,
        k,
    };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            1,
            libc::SYS_membarrier as u32,
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
        ),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: The call takes no pointers.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: The program and its filter live until the call is done.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn who_is_refused_membarrier_enters_where_nobody_is_alone() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        let mut one = producer(&fd);
        let before = map(&fd)
            .bytes()
            .atomic_u64(832)
            .unwrap()
            .load(Ordering::SeqCst);
        peer(|| {
            refuse_membarrier();
            let refused = Producer::attach(map(&fd)).map(drop);
            assert_eq!(refused, Err(AttachError::System(Errno::NOSYS)));
        })
        .join();
        let after = map(&fd)
            .bytes()
            .atomic_u64(832)
            .unwrap()
            .load(Ordering::SeqCst);
        assert_eq!(before, after, "nobody is unreached");
        one.try_push(b"one").unwrap();
        drop(one);
        peer(|| {
            refuse_membarrier();
            let mut two = producer(&fd);
            let mut three = producer(&fd);
            two.try_push(b"two").unwrap();
            three.try_push(b"three").unwrap();
        })
        .join();
        producer(&fd).try_push(b"four").unwrap();
        for text in ["one", "two", "three", "four"] {
            assert_eq!(pop(&mut consumer), Ok(text.as_bytes().to_vec()));
        }
    });
}

#[test]
fn closing_is_seen_after_all_have_left_and_all_was_drained() {
    isolated!(|| {
        let fd = ring(256);
        let mut consumer = consumer(&fd);
        assert_eq!(consumer.peers(), Peers::None);
        assert_eq!(
            pop(&mut consumer),
            Err(Error::Empty),
            "nobody was there yet"
        );
        let (mut one, mut two) = (producer(&fd), producer(&fd));
        one.try_push(b"one").unwrap();
        drop(one);
        two.try_push(b"two").unwrap();
        assert_eq!(pop(&mut consumer), Ok(b"one".to_vec()));
        assert_eq!(consumer.peers(), Peers::Alive);
        drop(two);
        assert_eq!(consumer.peers(), Peers::Closed);
        assert_eq!(pop(&mut consumer), Ok(b"two".to_vec()));
        assert_eq!(pop(&mut consumer), Err(Error::Closed));
        let wait = patiently(Wait::SLEEP);
        assert_eq!(next(&mut consumer, wait), Err(Error::Closed));
        let mut again = producer(&fd);
        again.try_push(b"again").unwrap();
        assert_eq!(pop(&mut consumer), Ok(b"again".to_vec()));

        drop(consumer);
        while again.try_push(&[0; 8]) == Ok(()) {}
        assert_eq!(again.try_push(&[0; 8]), Err(Error::Closed));
        assert_eq!(again.push(&[0; 8], wait), Err(Error::Closed));
    });
}

#[test]
fn a_claim_that_was_forgotten_goes_with_its_producer() {
    isolated!(|| {
        let fd = ring(256);
        let (mut consumer, mut one, mut two) = (consumer(&fd), producer(&fd), producer(&fd));
        std::mem::forget(one.try_claim(8).unwrap());
        two.try_push(b"behind").unwrap();
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
        drop(one);
        eventually("it is skipped", || {
            pop(&mut consumer) == Ok(b"behind".to_vec())
        });
        std::mem::forget(two.try_claim(8).unwrap());
        drop(two);
        assert_eq!(pop(&mut consumer), Err(Error::Closed), "at once");
        assert_eq!(consumer.counters().lost, 2);
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
            producer.try_push(b"two").unwrap();
            std::mem::forget(producer.try_claim(8).unwrap());
            std::mem::forget(producer);
        });
        let leaving = producer(&fd);
        dying.kill();
        assert_eq!(consumer.peers(), Peers::Alive);
        drop(leaving);
        assert_eq!(consumer.peers(), Peers::Dead);
        let wait = patiently(Wait::SPIN_THEN_SLEEP);
        assert_eq!(next(&mut consumer, wait), Ok(b"one".to_vec()));
        assert_eq!(next(&mut consumer, wait), Ok(b"two".to_vec()));
        for wait in [Wait::SPIN, Wait::SPIN_THEN_SLEEP, Wait::SLEEP] {
            let end = next(&mut consumer, patiently(wait));
            assert_eq!(end, Err(Error::PeerDead));
        }
        // Another one comes in its place.
        producer(&fd).try_push(b"three").unwrap();
        assert_eq!(pop(&mut consumer), Ok(b"three".to_vec()));
    });
}

#[test]
fn producers_that_sleep_for_room_are_woken_and_learn_of_a_death() {
    isolated!(|| {
        let fd = ring(64);
        let mut consumer = consumer(&fd);
        let mut filling = producer(&fd);
        while filling.try_push(&[0; 8]) == Ok(()) {}
        let peers =
            [(); 3].map(|()| peer(|| producer(&fd).push(&[1; 8], patiently(Wait::SLEEP)).unwrap()));
        for peer in &peers {
            until_asleep(peer.pid());
        }
        for number in [0, 0, 0, 1, 1, 1] {
            let text = next(&mut consumer, patiently(Wait::SLEEP));
            assert_eq!(text, Ok(vec![number; 8]));
        }
        for peer in peers {
            peer.join();
        }
        drop(consumer);
        let dying = mortal(|| std::mem::forget(self::consumer(&fd)));
        while filling.try_push(&[0; 8]) == Ok(()) {}
        dying.kill();
        let wait = patiently(Wait::SLEEP);
        assert_eq!(filling.push(&[0; 8], wait), Err(Error::PeerDead));
    });
}

#[test]
fn a_ring_is_full_of_producers_until_one_leaves_or_dies() {
    isolated!(|| {
        let fd = ring(64);
        let dying = mortal(|| std::mem::forget(producer(&fd)));
        let mut others: Vec<_> = (1..MAX_ENDS).map(|_| producer(&fd)).collect();
        let refused = || match Producer::attach(map(&fd)) {
            Err(AttachError::InUse { pid }) => pid,
            other => panic!("{other:?}"),
        };
        let ours = std::process::id();
        assert!([ours, dying.pid() as u32].contains(&refused()));
        others.pop();
        others.push(producer(&fd));
        refused();
        dying.kill();
        others.push(producer(&fd));
        assert_eq!(refused(), ours);
        let _consumer = consumer(&fd);
        let second = Consumer::attach(map(&fd)).map(drop);
        assert_eq!(second, Err(AttachError::InUse { pid: ours }));
    });
}

#[test]
fn rings_of_other_kinds_are_refused() {
    isolated!(|| {
        let kind = |found: Kind, expected: Kind| {
            Err(AttachError::Kind {
                found: found as u32,
                expected: expected as u32,
            })
        };
        for other in [Kind::Spsc, Kind::Broadcast] {
            let fd = ring::create_memfd(c"test", other, 64).unwrap();
            let attached = Producer::attach(map(&fd)).map(drop);
            assert_eq!(attached, kind(other, Kind::Mpsc));
            let attached = Consumer::attach(map(&fd)).map(drop);
            assert_eq!(attached, kind(other, Kind::Mpsc));
        }
        let fd = ring(64);
        let attached = spsc::Producer::attach(map(&fd)).map(drop);
        assert_eq!(attached, kind(Kind::Mpsc, Kind::Spsc));
        let zeros = Region::anonymous(4096, RW).unwrap();
        let attached = Producer::attach(zeros).map(drop);
        assert_eq!(attached, Err(AttachError::NotARing));
    });
}

#[test]
fn what_is_too_long_is_told_the_longest() {
    isolated!(|| {
        let fd = ring(256);
        let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
        assert_eq!(producer.max_message(), 128);
        assert_eq!(consumer.max_message(), 128);
        let too_long = Err(Error::TooLong { max: 128 });
        assert_eq!(producer.try_push(&[0; 129]), too_long);
        assert_eq!(producer.push(&[0; 129], Wait::SLEEP), too_long);
        assert_eq!(producer.wait(129, Wait::SLEEP), too_long);
        assert_eq!(producer.arm(129).map(drop), too_long);
        assert_eq!(producer.try_claim(usize::MAX).map(drop), too_long);
        let too_much = Err(Error::TooLong { max: 136 });
        assert_eq!(producer.try_batch(137).map(drop), too_much);
        assert_eq!(producer.try_push_all(&[&[0; 129]]).map(drop), too_long);
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
        producer.try_push(&[5; 128]).unwrap();
        assert_eq!(pop(&mut consumer), Ok(vec![5; 128]));

        producer.try_push(&[6; 20]).unwrap();
        let short = Err(Error::BufferLen { message: 20 });
        assert_eq!(consumer.try_pop(&mut [0; 19]), short);
        assert_eq!(
            consumer.try_pop_value::<[u8; 24]>().map(drop),
            short.map(drop)
        );
        assert_eq!(consumer.try_pop_value(), Ok([6_u8; 20]));
    });
}

#[test]
fn a_batch_is_as_many_as_fit_and_seen_as_a_whole() {
    isolated!(|| {
        let fd = ring(256);
        let (mut producer, mut consumer) = (producer(&fd), consumer(&fd));
        assert_eq!(producer.try_push_all(&[]), Ok(0));
        // 136 bytes are the most: 8 records of 16.
        let texts: [&[u8]; 10] = [&[7; 8]; 10];
        assert_eq!(producer.try_push_all(&texts), Ok(8));
        // What is left, less the header behind.
        assert_eq!(producer.free(), Ok(256 - 128 - 8));
        assert_eq!(producer.try_push_all(&texts), Ok(7));
        assert_eq!(producer.try_push_all(&texts), Err(Error::Full));
        for _ in 0..15 {
            assert_eq!(pop(&mut consumer), Ok(vec![7; 8]));
        }
        assert_eq!(pop(&mut consumer), Err(Error::Empty));

        let mut batch = producer.try_batch(60).unwrap();
        batch.try_push(b"one").unwrap();
        let left = Err(Error::TooLong { max: 40 });
        assert_eq!(batch.try_push(&[0; 41]), left);
        let mut claim = batch.try_claim(30).unwrap();
        claim.write(0, b"two").unwrap();
        claim.truncate(3).unwrap();
        claim.commit();
        batch.try_claim(5).unwrap().abort();
        batch.try_push(b"three").unwrap();
        assert_eq!(pop(&mut consumer), Err(Error::Empty), "not yet");
        batch.commit();
        for text in ["one", "two", "three"] {
            assert_eq!(pop(&mut consumer), Ok(text.as_bytes().to_vec()));
        }
        assert_eq!(pop(&mut consumer), Err(Error::Empty));

        let mut batch = producer.try_batch(60).unwrap();
        batch.try_push(b"given up").unwrap();
        drop(batch);
        producer.try_batch(0).unwrap().commit();
        assert_eq!(pop(&mut consumer), Err(Error::Empty));
        assert_eq!(producer.free(), Ok(248));
    });
}

#[test]
fn a_full_batch_takes_not_even_an_empty_message() {
    isolated!(|| {
        let fd = ring(256);
        let (mut one, mut other, mut consumer) = (producer(&fd), producer(&fd), consumer(&fd));
        let mut batch = one.try_batch(24).unwrap();
        other.try_push(b"behind").unwrap();
        batch.try_push(&[1; 16]).unwrap();
        assert_eq!(batch.try_push(b""), Err(Error::Full));
        assert_eq!(batch.try_push(&[2; 8]), Err(Error::Full));
        batch.commit();
        assert_eq!(pop(&mut consumer), Ok(vec![1; 16]));
        assert_eq!(pop(&mut consumer), Ok(b"behind".to_vec()));
    });
}

#[test]
fn what_a_batch_gives_up_is_not_counted() {
    isolated!(|| {
        let fd = ring(256);
        let mut producer = producer(&fd);
        let mut batch = producer.try_batch(24).unwrap();
        batch.try_push(b"given up").unwrap();
        batch.abort();
        let mut batch = producer.try_batch(24).unwrap();
        batch.try_push(b"kept").unwrap();
        batch.commit();
        let counted = producer.counters();
        assert_eq!((counted.messages, counted.bytes), (1, 4));
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
        producer.set_event(event.try_clone().unwrap().into());
        let is_written = || {
            let mut fds = [PollFd::new(&event, PollFlags::IN)];
            poll(&mut fds, Some(&Timespec::default())).unwrap() == 1
        };
        producer.try_push(&[0; 8]).unwrap();
        assert!(!is_written(), "nobody armed");
        assert_eq!(consumer.arm(), Ok(false), "there is something");
        pop(&mut consumer).unwrap();
        assert_eq!(consumer.arm(), Ok(true));
        producer.try_push(&[0; 8]).unwrap();
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
            // Tail, turn of the producers, head, bells, first slots.
            0 => [128, 176, 256, 384, 448, 896, 960][random.below(7) as usize],
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
            ring::create(map(&fd), Kind::Mpsc, 256).unwrap();
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
                    5..10 => {
                        let mut batch = consumer.batch();
                        let mut messages = 0;
                        while let Ok(message) = batch.try_next() {
                            let len = message.len();
                            assert_eq!(message.read(0, &mut buf[..len]), Ok(()));
                            messages += 1;
                            assert!(messages <= 32, "more than there can be");
                        }
                        batch.release();
                        Ok(())
                    }
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
