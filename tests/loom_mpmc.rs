//! Models of the ring for many producers and many consumers: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_mpmc`
#![cfg(loom)]

use std::mem::forget;

use linipc_core::ring::mpmc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Wait};
use linipc_core::sync::{Fault, Heap, Left, with};
use loom::thread;

const BOUND: usize = 3;
const CAPACITY: u64 = 64;

type Ends = ([Producer<Heap>; 2], [Consumer<Heap>; 2]);

/// Runs `body` on a new ring with two producers and two consumers, the first ones in slot 0.
fn model(preemptions: usize, body: impl Fn(Heap, Ends) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        let heap = Heap::exclusive(CAPACITY);
        ring::create(heap.clone(), Kind::Mpmc, CAPACITY).unwrap();
        let producers = [(); 2].map(|()| Producer::attach(heap.clone()).unwrap());
        let consumers = [(); 2].map(|()| Consumer::attach(heap.clone()).unwrap());
        body(heap, (producers, consumers));
    });
}

/// The same where nobody sleeps: there a light fence orders nothing.
fn awake(preemptions: usize, body: impl Fn(Heap, Ends) + Sync + Send + 'static) {
    with(Fault::NoLightFence, || model(preemptions, body));
}

/// Calls again and again until the others have done something.
fn retry<T>(mut call: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match call() {
            Err(Error::Empty | Error::Full | Error::Busy) => thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}

/// Pushes messages of one word.
fn push(producer: &mut Producer<Heap>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        retry(|| producer.try_push_value(&number));
    }
}

/// The next message of one word, looking until it is there.
fn next(consumer: &mut Consumer<Heap>) -> u64 {
    retry(|| consumer.try_pop_value())
}

/// The next message of one word, sleeping until it is there.
fn sleep(consumer: &mut Consumer<Heap>) -> Result<u64, Error> {
    let mut message = [0; 8];
    assert_eq!(consumer.pop(&mut message, Wait::SLEEP)?, 8);
    Ok(u64::from_le_bytes(message))
}

#[test]
fn each_of_two_consumers_gets_other_messages() {
    awake(2, |_, ([mut one, mut two], [mut first, mut second])| {
        push(&mut one, [1]);
        let pushing = thread::spawn(move || push(&mut two, [2]));
        let popping = thread::spawn(move || next(&mut first));
        let numbers = [next(&mut second), popping.join().unwrap()];
        assert!(matches!(numbers, [1, 2] | [2, 1]), "{numbers:?}");
        pushing.join().unwrap();
        assert_eq!(second.try_pop_value::<u64>(), Err(Error::Empty));
    });
}

#[test]
fn two_producers_and_two_consumers() {
    model(1, |_, ([mut one, mut two], [mut first, mut second])| {
        let pushing = thread::spawn(move || push(&mut one, [1]));
        let popping = thread::spawn(move || sleep(&mut first));
        push(&mut two, [2]);
        let numbers = [
            sleep(&mut second).unwrap(),
            popping.join().unwrap().unwrap(),
        ];
        assert!(matches!(numbers, [1, 2] | [2, 1]), "{numbers:?}");
        pushing.join().unwrap();
    });
}

#[test]
fn room_is_reclaimed_and_no_message_written_over() {
    awake(BOUND, |_, ([mut one, mut two], [mut first, mut second])| {
        push(&mut two, [1, 2, 3]);
        let popping = thread::spawn(move || [next(&mut first), next(&mut first)]);
        push(&mut one, [4, 5]);
        let [a, b] = popping.join().unwrap();
        let mut numbers = [
            a,
            b,
            next(&mut second),
            next(&mut second),
            next(&mut second),
        ];
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
        assert_eq!(second.try_pop_value::<u64>(), Err(Error::Empty));
    });
}

#[test]
fn what_was_peeked_at_is_read_before_it_is_written_over() {
    awake(BOUND, |_, ([mut one, mut two], [mut first, _second])| {
        push(&mut two, [1, 2, 3]);
        let popping = thread::spawn(move || {
            // Of one taking: what follows the first message's release makes no edge for it.
            let mut batch = first.try_batch(2).unwrap();
            let numbers = [(); 2].map(|()| {
                let mut number = [0; 8];
                batch.try_next().unwrap().read(0, &mut number).unwrap();
                u64::from_le_bytes(number)
            });
            batch.release();
            numbers
        });
        push(&mut one, [4, 5]);
        assert_eq!(popping.join().unwrap(), [1, 2]);
    });
}

#[test]
fn who_looks_for_the_dead_is_not_misled_by_what_is_written_over_headers() {
    model(2, |_, ([mut one, _two], [mut first, mut second])| {
        push(&mut one, [1, 2, 3]);
        let mut batch = first.try_batch(3).unwrap();
        while batch.try_next().is_ok() {}
        forget(batch);
        let popping = thread::spawn(move || {
            let mut batch = first.try_batch(3).unwrap();
            while batch.try_next().is_ok() {}
            batch.release();
            // What is no header comes where headers were.
            one.try_push(&[0xff; 32]).unwrap();
            (one, first)
        });
        let mut message = [0; 32];
        assert_eq!(second.pop(&mut message, Wait::SLEEP), Ok(32));
        assert_eq!(message, [0xff; 32]);
        popping.join().unwrap();
    });
}

#[test]
fn two_producers_that_sleep_for_room_are_woken() {
    model(2, |_, ([mut one, mut two], [mut first, _second])| {
        push(&mut two, [1, 2, 3]);
        let pushing = thread::spawn(move || one.push(&[4; 8], Wait::SLEEP).unwrap());
        let other = thread::spawn(move || two.push(&[4; 8], Wait::SLEEP).unwrap());
        assert_eq!(next(&mut first), 1);
        assert_eq!(next(&mut first), 2);
        pushing.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn two_consumers_that_sleep_are_woken() {
    model(1, |_, ([mut one, _two], [mut first, mut second])| {
        let popping = thread::spawn(move || sleep(&mut first));
        let other = thread::spawn(move || sleep(&mut second));
        push(&mut one, [1, 2]);
        let sum = popping.join().unwrap().unwrap() + other.join().unwrap().unwrap();
        assert_eq!(sum, 3);
    });
}

#[test]
fn the_message_of_a_dead_consumer_is_given_to_another() {
    model(BOUND, |heap, ([mut one, _two], [mut first, mut second])| {
        push(&mut one, [1]);
        let dying = thread::spawn(move || {
            if let Ok(peek) = first.try_peek() {
                forget(peek);
            }
            heap.kill_consumer(0);
        });
        assert_eq!(sleep(&mut second), Ok(1));
        dying.join().unwrap();
    });
}

#[test]
fn what_a_dead_consumer_released_is_not_given_again() {
    model(BOUND, |heap, ([mut one, two], [mut first, mut second])| {
        push(&mut one, [1, 2]);
        let dying = thread::spawn(move || {
            let number = first.try_pop_value::<u64>();
            heap.kill_consumer(0);
            number
        });
        let number = sleep(&mut second).unwrap();
        let other = dying.join().unwrap();
        match other {
            Ok(other) => assert_eq!(number + other, 3),
            Err(error) => assert!(matches!(error, Error::Busy | Error::Empty)),
        }
        drop((one, two));
        let rest = sleep(&mut second);
        assert_eq!(
            rest,
            if other.is_ok() {
                Err(Error::Closed)
            } else {
                Ok(2)
            }
        );
    });
}

#[test]
fn the_turn_of_a_dead_consumer_is_taken_over() {
    for has_taken in [false, true] {
        model(
            BOUND,
            move |heap, ([mut one, _two], [_first, mut second])| {
                push(&mut one, [1, 2]);
                let dying = thread::spawn(move || heap.kill_consumer_in_turn(0, has_taken));
                assert_eq!(sleep(&mut second), Ok(1));
                assert_eq!(sleep(&mut second), Ok(2));
                dying.join().unwrap();
            },
        );
    }
}

#[test]
fn what_a_dead_producer_published_in_its_turn_stays() {
    model(2, |heap, ([_one, mut two], [mut first, _second])| {
        heap.kill_producer_in_turn(0, Left::Message);
        // It may be reclaimed before the tail is behind it.
        let popping = thread::spawn(move || {
            let mut message = [0; 8];
            assert_eq!(first.pop(&mut message, Wait::SLEEP), Ok(0));
            for number in 1..=3_u64 {
                assert_eq!(sleep(&mut first), Ok(number));
            }
        });
        push(&mut two, [1, 2, 3]);
        popping.join().unwrap();
        assert_eq!(two.free(), Ok(64 - 8));
    });
}

#[test]
fn the_claim_of_a_dead_producer_is_skipped_by_either() {
    model(1, |heap, ([mut one, mut two], [mut first, mut second])| {
        forget(one.try_claim(8).unwrap());
        push(&mut two, [1, 2]);
        let dying = thread::spawn(move || heap.kill_producer(0));
        let popping = thread::spawn(move || sleep(&mut first));
        let sum = sleep(&mut second).unwrap() + popping.join().unwrap().unwrap();
        assert_eq!(sum, 3);
        dying.join().unwrap();
    });
}

#[test]
fn a_message_that_was_peeked_at_comes_again() {
    awake(2, |_, ([mut one, _two], [mut first, mut second])| {
        push(&mut one, [1, 2]);
        let popping = thread::spawn(move || {
            retry(|| first.try_batch(2).map(drop));
            next(&mut first)
        });
        let other = second.try_pop_value::<u64>();
        let number = popping.join().unwrap();
        assert!(
            matches!((number, other), (1, Ok(2) | Err(_)) | (2, Ok(1))),
            "{number} {other:?}"
        );
    });
}

/// Runs `body` on a new ring with one producer and one consumer, which are alone, in slots 0.
fn alone(body: impl Fn(Heap, Producer<Heap>, Consumer<Heap>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(BOUND);
    builder.max_branches = 10_000;
    builder.check(move || {
        let heap = Heap::exclusive(CAPACITY);
        ring::create(heap.clone(), Kind::Mpmc, CAPACITY).unwrap();
        let producer = Producer::attach(heap.clone()).unwrap();
        let consumer = Consumer::attach(heap.clone()).unwrap();
        body(heap, producer, consumer);
    });
}

#[test]
fn a_consumer_that_enters_takes_nothing_that_the_one_alone_takes() {
    alone(|heap, mut producer, mut first| {
        push(&mut producer, [1, 2, 3]);
        let entering = thread::spawn(move || {
            let mut second = Consumer::attach(heap).unwrap();
            next(&mut second)
        });
        let mut numbers = [next(&mut first), next(&mut first), entering.join().unwrap()];
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
    });
}

#[test]
#[should_panic]
fn without_the_light_fence_two_consumers_are_in_their_turn() {
    with(
        Fault::NoLightFence,
        a_consumer_that_enters_takes_nothing_that_the_one_alone_takes,
    );
}

#[test]
#[should_panic]
fn without_the_heavy_fence_two_consumers_are_in_their_turn() {
    with(
        Fault::NoHeavyFence,
        a_consumer_that_enters_takes_nothing_that_the_one_alone_takes,
    );
}

#[test]
fn who_comes_after_a_consumer_that_died_alone_gets_what_it_left() {
    for has_taken in [false, true] {
        alone(move |heap, mut producer, mut first| {
            push(&mut producer, [1, 2]);
            let theirs = heap.clone();
            let dying = thread::spawn(move || {
                assert_eq!(first.try_pop_value(), Ok(1_u64));
                theirs.kill_consumer_in_turn(0, has_taken);
                forget(first);
            });
            let mut second = Consumer::attach(heap).unwrap();
            dying.join().unwrap();
            push(&mut producer, [3]);
            assert_eq!([sleep(&mut second), sleep(&mut second)], [Ok(2), Ok(3)]);
        });
    }
}

#[test]
fn what_one_still_reads_is_not_written_over_because_another_one_pops() {
    awake(BOUND, |_, ([mut one, _two], [mut first, mut second])| {
        push(&mut one, [1, 2]);
        forget(first.try_peek().unwrap());
        let reading = thread::spawn(move || {
            assert_eq!(next(&mut first), 1);
            first
        });
        assert_eq!(next(&mut second), 2);
        // The latter where the first one was.
        push(&mut one, [3, 4]);
        let _first = reading.join().unwrap();
        assert_eq!([next(&mut second), next(&mut second)], [3, 4]);
    });
}
