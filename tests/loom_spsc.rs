//! Models of the ring for one producer and one consumer: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_spsc`
#![cfg(loom)]

use std::mem::forget;

use linipc_core::Errno;
use linipc_core::event::eventfd;
use linipc_core::io;
use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Kind, Peers, Wait};
use linipc_core::sync::{Fault, Heap, with};
use loom::thread;

/// How often a thread is interrupted where it need not be, in models that are too large for all.
const SOME: Option<usize> = Some(3);
const ALL: Option<usize> = None;

const CAPACITY: u64 = 64;
/// Messages of one word that fill a ring.
const FULL: u64 = 3;

type Ends = (Producer<Heap>, Consumer<Heap>);

/// Runs `body` on a new ring with each interleaving that has at most `preemptions`.
fn asleep(preemptions: Option<usize>, body: impl Fn(Heap, Ends) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        let heap = Heap::exclusive(CAPACITY);
        ring::create(heap.clone(), Kind::Spsc, CAPACITY).unwrap();
        let producer = Producer::attach(heap.clone()).unwrap();
        let consumer = Consumer::attach(heap.clone()).unwrap();
        body(heap, (producer, consumer));
    });
}

/// The same where nobody sleeps: there a light fence orders nothing.
fn awake(preemptions: Option<usize>, body: impl Fn(Heap, Ends) + Sync + Send + 'static) {
    with(Fault::NoLightFence, || asleep(preemptions, body));
}

/// Calls again and again until the other side has done something.
fn retry<T>(mut call: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    loop {
        match call() {
            Err(Error::Empty | Error::Full) => thread::yield_now(),
            done => return done,
        }
    }
}

/// The next message of one word, looking until it is there.
fn next(consumer: &mut Consumer<Heap>) -> u64 {
    retry(|| consumer.try_pop_value()).unwrap()
}

/// The next message of one word, sleeping until it is there.
fn sleep(consumer: &mut Consumer<Heap>) -> Result<u64, Error> {
    let mut message = [0; 8];
    let len = consumer.pop(&mut message, Wait::SLEEP)?;
    assert_eq!(len, 8);
    Ok(u64::from_le_bytes(message))
}

fn fill(producer: &mut Producer<Heap>) {
    for number in 1..=FULL {
        producer.try_push_value(&number).unwrap();
    }
    assert_eq!(producer.try_push_value(&0_u64), Err(Error::Full));
}

#[test]
fn a_message_arrives_whole() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || producer.try_push(&[7; 24]).unwrap());
        let mut message = [0; 32];
        assert_eq!(retry(|| consumer.try_pop(&mut message)), Ok(24));
        assert_eq!(message[..24], [7; 24]);
        pushing.join().unwrap();
    });
}

#[test]
fn a_ring_is_made_in_one_process_and_entered_in_another() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = ALL;
    builder.check(|| {
        let heap = Heap::exclusive(CAPACITY);
        let theirs = heap.clone();
        let making = thread::spawn(move || {
            ring::create(theirs.clone(), Kind::Spsc, CAPACITY).unwrap();
        });
        let mut producer = loop {
            match Producer::attach(heap.clone()) {
                Err(AttachError::NotARing) => thread::yield_now(),
                producer => break producer.unwrap(),
            }
        };
        producer.try_push_value(&1_u64).unwrap();
        let mut consumer = Consumer::attach(heap).unwrap();
        assert_eq!(consumer.try_pop_value(), Ok(1_u64));
        making.join().unwrap();
    });
}

#[test]
fn a_full_ring_refuses_until_it_is_drained() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            for number in 1..=FULL {
                producer.try_push_value(&number).unwrap();
            }
            let fits = producer.try_push_value(&4_u64);
            assert!(matches!(fits, Ok(()) | Err(Error::Full)));
            (producer, fits)
        });
        assert_eq!(next(&mut consumer), 1);
        assert_eq!(next(&mut consumer), 2);
        assert_eq!(next(&mut consumer), 3);
        let (mut producer, fits) = pushing.join().unwrap();
        assert_eq!(consumer.try_pop_value::<u64>().is_ok(), fits.is_ok());
        fill(&mut producer);
    });
}

#[test]
fn a_message_waits_for_room() {
    awake(SOME, |_, (mut producer, mut consumer)| {
        fill(&mut producer);
        let pushing = thread::spawn(move || {
            retry(|| producer.try_push_value(&4_u64)).unwrap();
            retry(|| producer.try_push_value(&5_u64)).unwrap();
        });
        for number in 1..=5 {
            assert_eq!(next(&mut consumer), number);
        }
        pushing.join().unwrap();
    });
}

#[test]
fn messages_run_past_the_end_of_the_capacity() {
    awake(SOME, |_, (mut producer, mut consumer)| {
        let mut message = [0; 32];
        // The next record begins 16 bytes before the end.
        for len in [24, 8] {
            producer.try_push(&message[..len]).unwrap();
            consumer.try_pop(&mut message).unwrap();
        }
        let lens = [32, 5, 24];
        let pushing = thread::spawn(move || {
            for (n, len) in (1..).zip(lens) {
                retry(|| producer.try_push(&[n; 32][..len])).unwrap();
            }
        });
        for (n, len) in (1..).zip(lens) {
            assert_eq!(retry(|| consumer.try_pop(&mut message)), Ok(len));
            assert_eq!(message[..len], [n; 32][..len]);
        }
        pushing.join().unwrap();
    });
}

#[test]
fn a_batch_is_published_as_a_whole() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            let mut batch = producer.batch();
            batch.try_push(&[1; 8]).unwrap();
            batch.try_push(&[2; 8]).unwrap();
            batch.commit();
        });
        let mut message = [0; 8];
        let mut batch = consumer.batch();
        loop {
            match batch.try_next() {
                Ok(first) => break first.read(0, &mut message).unwrap(),
                Err(error) => assert_eq!(error, Error::Empty),
            }
            thread::yield_now();
        }
        assert_eq!(message, [1; 8]);
        batch.try_next().unwrap().read(0, &mut message).unwrap();
        assert_eq!(message, [2; 8]);
        batch.release();
        pushing.join().unwrap();
    });
}

#[test]
fn a_batch_is_released_as_a_whole() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        fill(&mut producer);
        let pushing = thread::spawn(move || {
            let mut batch = producer.batch();
            retry(|| batch.try_push(&4_u64.to_le_bytes())).unwrap();
            // All three were released together.
            batch.try_push(&5_u64.to_le_bytes()).unwrap();
            batch.commit();
        });
        let mut batch = consumer.batch();
        for number in 1..=FULL {
            let mut message = [0; 8];
            batch.try_next().unwrap().read(0, &mut message).unwrap();
            assert_eq!(u64::from_le_bytes(message), number);
        }
        batch.release();
        assert_eq!(next(&mut consumer), 4);
        assert_eq!(next(&mut consumer), 5);
        pushing.join().unwrap();
    });
}

#[test]
fn what_was_given_up_is_never_seen() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            let mut claim = producer.try_claim(16).unwrap();
            claim.write(0, &[1; 16]).unwrap();
            claim.abort();
            let mut batch = producer.batch();
            batch.try_push(&[2; 8]).unwrap();
            batch.try_push(&[2; 8]).unwrap();
            drop(batch);
            producer.try_push_value(&3_u64).unwrap();
            producer
        });
        assert_eq!(next(&mut consumer), 3);
        let _producer = pushing.join().unwrap();
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Empty));
    });
}

#[test]
fn a_consumer_drains_before_it_is_told_of_the_end() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            producer.try_push_value(&1_u64).unwrap();
            producer.try_push_value(&2_u64).unwrap();
        });
        assert_eq!(next(&mut consumer), 1);
        assert_eq!(next(&mut consumer), 2);
        let end = retry(|| consumer.try_pop_value::<u64>());
        assert_eq!(end, Err(Error::Closed));
        pushing.join().unwrap();
    });
}

#[test]
fn a_producer_that_was_seen_to_have_left_has_published_all() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || producer.try_push_value(&1_u64).unwrap());
        while consumer.peers() == Peers::Alive {
            thread::yield_now();
        }
        assert_eq!(consumer.peers(), Peers::Closed);
        assert_eq!(consumer.try_pop_value(), Ok(1_u64));
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Closed));
        pushing.join().unwrap();
    });
}

#[test]
fn a_producer_without_room_is_told_of_the_end() {
    awake(ALL, |_, (mut producer, mut consumer)| {
        fill(&mut producer);
        let popping = thread::spawn(move || {
            assert_eq!(consumer.try_pop_value(), Ok(1_u64));
        });
        let end = retry(|| producer.try_push(&[4; 32]));
        assert_eq!(end, Err(Error::Closed));
        popping.join().unwrap();
    });
}

fn a_sleeper_is_woken() {
    asleep(ALL, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            producer.try_push_value(&1_u64).unwrap();
            producer
        });
        assert_eq!(sleep(&mut consumer), Ok(1));
        pushing.join().unwrap();
    });
}

#[test]
fn a_consumer_that_goes_to_sleep_is_woken() {
    a_sleeper_is_woken();
}

#[test]
fn a_consumer_that_may_miss_a_wake_up_looks_again() {
    with(Fault::NoRegistration, a_sleeper_is_woken);
    with(Fault::HeavyFenceRefused, a_sleeper_is_woken);
}

#[test]
fn nobody_arms_who_may_miss_a_wake_up() {
    for fault in [Fault::NoRegistration, Fault::HeavyFenceRefused] {
        with(fault, || {
            asleep(ALL, |_, (_producer, mut consumer)| {
                assert_eq!(consumer.arm(), Err(Error::System(Errno::NOSYS)));
            });
        });
    }
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_light_fence_a_wake_up_is_lost() {
    with(Fault::NoLightFence, a_sleeper_is_woken);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_heavy_fence_a_wake_up_is_lost() {
    with(Fault::NoHeavyFence, a_sleeper_is_woken);
}

#[test]
fn a_consumer_that_sleeps_again_is_woken_again() {
    asleep(SOME, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            producer.try_push_value(&1_u64).unwrap();
            producer.try_push_value(&2_u64).unwrap();
            producer
        });
        assert_eq!(sleep(&mut consumer), Ok(1));
        assert_eq!(sleep(&mut consumer), Ok(2));
        pushing.join().unwrap();
    });
}

#[test]
fn a_sleeping_consumer_is_woken_by_the_end() {
    asleep(SOME, |_, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || producer.try_push_value(&1_u64).unwrap());
        assert_eq!(sleep(&mut consumer), Ok(1));
        assert_eq!(sleep(&mut consumer), Err(Error::Closed));
        pushing.join().unwrap();
    });
}

#[test]
fn a_sleeping_producer_is_woken_by_room() {
    asleep(SOME, |_, (mut producer, mut consumer)| {
        fill(&mut producer);
        let pushing = thread::spawn(move || {
            // Room for it is made in two steps.
            producer.push(&[4; 16], Wait::SLEEP).unwrap();
            producer
        });
        assert_eq!(next(&mut consumer), 1);
        assert_eq!(next(&mut consumer), 2);
        pushing.join().unwrap();
        assert_eq!(next(&mut consumer), 3);
        assert_eq!(consumer.try_pop_value(), Ok([4_u8; 16]));
    });
}

#[test]
fn a_sleeping_producer_is_woken_by_the_end() {
    asleep(SOME, |_, (mut producer, mut consumer)| {
        fill(&mut producer);
        let popping = thread::spawn(move || {
            assert_eq!(consumer.try_pop_value(), Ok(1_u64));
        });
        assert_eq!(producer.push(&[4; 32], Wait::SLEEP), Err(Error::Closed));
        popping.join().unwrap();
    });
}

#[test]
fn the_event_of_a_consumer_that_has_armed_is_written() {
    asleep(ALL, |_, (mut producer, mut consumer)| {
        let event = eventfd::create(0, eventfd::Flags::NONBLOCK).unwrap();
        producer.set_event(io::dup(&event).unwrap());
        let pushing = thread::spawn(move || {
            producer.try_push_value(&1_u64).unwrap();
            producer
        });
        let is_armed = consumer.arm().unwrap();
        let _producer = pushing.join().unwrap();
        assert!(!is_armed || eventfd::read(&event) == Ok(1));
        assert_eq!(consumer.try_pop_value(), Ok(1_u64));
    });
}

#[test]
fn the_event_of_a_producer_that_has_armed_is_written() {
    asleep(ALL, |_, (mut producer, mut consumer)| {
        let event = eventfd::create(0, eventfd::Flags::NONBLOCK).unwrap();
        consumer.set_event(io::dup(&event).unwrap());
        fill(&mut producer);
        let popping = thread::spawn(move || {
            assert_eq!(consumer.try_pop_value(), Ok(1_u64));
            consumer
        });
        let is_armed = producer.arm(8).unwrap();
        let _consumer = popping.join().unwrap();
        assert!(!is_armed || eventfd::read(&event) == Ok(1));
        producer.try_push_value(&4_u64).unwrap();
    });
}

#[test]
fn a_sleeping_consumer_drains_before_it_is_told_of_a_death() {
    asleep(SOME, |heap, (mut producer, mut consumer)| {
        let pushing = thread::spawn(move || {
            producer.try_push_value(&1_u64).unwrap();
            producer.try_push_value(&2_u64).unwrap();
            heap.kill_producer(0);
            forget(producer);
        });
        assert_eq!(sleep(&mut consumer), Ok(1));
        assert_eq!(sleep(&mut consumer), Ok(2));
        assert_eq!(sleep(&mut consumer), Err(Error::PeerDead));
        pushing.join().unwrap();
    });
}

#[test]
fn a_sleeping_producer_is_told_of_a_death() {
    asleep(SOME, |heap, (mut producer, mut consumer)| {
        fill(&mut producer);
        let popping = thread::spawn(move || {
            assert_eq!(consumer.try_pop_value(), Ok(1_u64));
            heap.kill_consumer(0);
            forget(consumer);
        });
        producer.push(&[4; 8], Wait::SLEEP).unwrap();
        let end = producer.push(&[5; 8], Wait::SLEEP);
        assert_eq!(end, Err(Error::PeerDead));
        popping.join().unwrap();
    });
}

#[test]
fn who_sleeps_until_there_is_a_peer_is_woken_by_it() {
    asleep(ALL, |heap, (producer, mut consumer)| {
        drop(producer);
        let coming = thread::spawn(move || Producer::attach(heap).unwrap());
        assert_eq!(consumer.wait_peer(Wait::SLEEP), Ok(()));
        assert_eq!(consumer.peers(), Peers::Alive);
        coming.join().unwrap();
    });
    asleep(ALL, |heap, (mut producer, consumer)| {
        drop(consumer);
        let coming = thread::spawn(move || Consumer::attach(heap).unwrap());
        assert_eq!(producer.wait_peer(Wait::SLEEP), Ok(()));
        assert_eq!(producer.peers(), Peers::Alive);
        coming.join().unwrap();
    });
}

#[test]
fn a_peer_that_left_a_message_has_been_there() {
    asleep(SOME, |heap, (producer, mut consumer)| {
        drop(producer);
        let coming = thread::spawn(move || {
            let mut producer = Producer::attach(heap).unwrap();
            producer.try_push_value(&1_u64).unwrap();
        });
        assert_eq!(consumer.wait_peer(Wait::SLEEP), Ok(()));
        assert_eq!(sleep(&mut consumer), Ok(1));
        assert_eq!(sleep(&mut consumer), Err(Error::Closed));
        coming.join().unwrap();
    });
}

/// `leaving` loses its producer, and another one takes its place, while the consumer drains.
fn take_over(leaving: fn(Heap, Producer<Heap>)) {
    awake(SOME, move |heap, (mut producer, mut consumer)| {
        let theirs = heap.clone();
        let leaving = thread::spawn(move || {
            producer.try_push_value(&1_u64).unwrap();
            leaving(theirs, producer);
        });
        let draining = thread::spawn(move || {
            let looks = [(); 2].map(|()| consumer.try_pop_value::<u64>());
            (consumer, looks)
        });
        let mut producer = loop {
            match Producer::attach(heap.clone()) {
                Err(AttachError::InUse { .. }) => thread::yield_now(),
                producer => break producer.unwrap(),
            }
        };
        producer.try_push_value(&2_u64).unwrap();
        leaving.join().unwrap();
        let (mut consumer, looks) = draining.join().unwrap();
        let rest = core::iter::from_fn(|| consumer.try_pop_value().ok());
        let messages: Vec<u64> = looks.into_iter().flatten().chain(rest).collect();
        assert_eq!(messages, [1, 2]);
    });
}

#[test]
fn a_producer_takes_the_place_of_a_dead_one() {
    take_over(|heap, mut producer| {
        let mut claim = producer.try_claim(8).unwrap();
        claim.write(0, &[9; 8]).unwrap();
        heap.kill_producer(0);
        forget(producer);
    });
}

#[test]
fn a_producer_takes_the_place_of_one_that_left() {
    take_over(|_, producer| drop(producer));
}

#[test]
fn the_next_producer_writes_only_where_the_consumer_has_read() {
    awake(ALL, |heap, (mut producer, mut consumer)| {
        fill(&mut producer);
        drop(producer);
        let popping = thread::spawn(move || {
            assert_eq!(consumer.try_pop_value(), Ok(1_u64));
            assert_eq!(consumer.try_pop_value(), Ok(2_u64));
            consumer
        });
        let mut producer = Producer::attach(heap).unwrap();
        // If both find room, the second one lies where the first message was.
        let pushed = [4, 5].into_iter();
        let pushed: Vec<u64> = pushed
            .filter(|number| producer.try_push_value(number).is_ok())
            .collect();
        let mut consumer = popping.join().unwrap();
        assert_eq!(consumer.try_pop_value(), Ok(3_u64));
        let rest: Vec<u64> = core::iter::from_fn(|| consumer.try_pop_value().ok()).collect();
        assert_eq!(rest, pushed);
    });
}

#[test]
fn a_consumer_takes_the_place_of_one_that_left() {
    awake(ALL, |heap, (mut producer, mut consumer)| {
        fill(&mut producer);
        let leaving = thread::spawn(move || {
            assert_eq!(consumer.try_pop_value(), Ok(1_u64));
        });
        let mut consumer = loop {
            match Consumer::attach(heap.clone()) {
                Err(AttachError::InUse { .. }) => thread::yield_now(),
                consumer => break consumer.unwrap(),
            }
        };
        assert_eq!(consumer.try_pop_value(), Ok(2_u64));
        leaving.join().unwrap();
    });
}
