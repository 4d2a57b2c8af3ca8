//! Models of the ring for one producer and any number of consumers.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_broadcast`
#![cfg(loom)]

use std::mem::forget;

use linipc_core::ring::broadcast::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Wait};
use linipc_core::sync::{Fault, Heap, with};
use loom::thread;

const BOUND: usize = 3;
const CAPACITY: u64 = 64;
/// Of three of these, the third overwrites the first.
type Message = [u64; 3];

/// Nobody sleeps. The light fence, which is a real one here, would hide what is missing elsewhere.
fn model(body: impl Fn(Heap, Producer<Heap>, Consumer<Heap>) + Sync + Send + 'static) {
    with(Fault::NoLightFence, || model_of_sleepers(body));
}

fn model_of_sleepers(body: impl Fn(Heap, Producer<Heap>, Consumer<Heap>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(BOUND);
    builder.check(move || {
        let heap = Heap::new(CAPACITY);
        ring::create(heap.clone(), Kind::Broadcast, CAPACITY).unwrap();
        let producer = Producer::attach(heap.clone()).unwrap();
        let consumer = Consumer::attach(heap.clone()).unwrap();
        body(heap, producer, consumer);
    });
}

fn push(producer: &mut Producer<Heap>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        producer.try_push_value(&[number; 3]).unwrap();
    }
}

/// Reads until `end` messages were read or missed, of which the first is number `next`: all whole, and
/// the missed ones counted exactly.
fn follow(consumer: &mut Consumer<Heap>, mut next: u64, end: u64) {
    while next < end {
        match consumer.try_pop_value::<Message>() {
            Ok(message) => {
                assert_eq!(message, [next; 3]);
                next += 1;
            }
            Err(Error::Missed { messages }) => {
                assert!(messages > 0);
                next += messages;
            }
            Err(Error::Empty | Error::Busy) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next, end);
}

#[test]
fn messages_arrive_whole_and_in_order() {
    model(|_, mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            push(&mut producer, 0..2);
            producer
        });
        follow(&mut consumer, 0, 2);
        drop(pushing.join().unwrap());
        assert_eq!(consumer.try_pop_value::<Message>(), Err(Error::Closed));
    });
}

#[test]
fn who_is_overtaken_reads_a_whole_message_or_misses_it() {
    model(|_, mut producer, mut consumer| {
        push(&mut producer, 0..1);
        let pushing = thread::spawn(move || {
            push(&mut producer, 1..3);
            producer
        });
        follow(&mut consumer, 0, 3);
        drop(pushing.join().unwrap());
    });
}

#[test]
fn who_catches_up_counts_all_that_were_missed() {
    model(|_, mut producer, mut consumer| {
        push(&mut producer, 0..3);
        let pushing = thread::spawn(move || {
            push(&mut producer, 3..5);
            producer
        });
        // While the mark moves; the rest is looked at when it does not any more.
        let next = match consumer.try_pop_value::<Message>() {
            Err(Error::Missed { messages }) => messages,
            other => {
                assert_eq!(other, Err(Error::Busy));
                0
            }
        };
        drop(pushing.join().unwrap());
        follow(&mut consumer, next, 5);
    });
}

#[test]
fn a_peek_is_overtaken_or_whole() {
    model(|_, mut producer, mut consumer| {
        push(&mut producer, 0..1);
        let pushing = thread::spawn(move || {
            push(&mut producer, 1..3);
            producer
        });
        let mut next = 0;
        if let Ok(mut peek) = consumer.try_peek() {
            let mut message = [0; 24];
            match peek.read(0, &mut message) {
                Ok(()) => {
                    assert_eq!(message, [0; 24]);
                    next = 1;
                }
                Err(Error::Missed { messages }) => next = messages,
                Err(error) => assert_eq!(error, Error::Busy),
            }
            if next > 0 {
                peek.release();
            }
            follow(&mut consumer, next, 3);
        }
        drop(pushing.join().unwrap());
    });
}

#[test]
fn several_at_once_are_overtaken_or_whole() {
    model(|_, mut producer, mut consumer| {
        push(&mut producer, 0..2);
        let pushing = thread::spawn(move || {
            push(&mut producer, 2..4);
            producer
        });
        let (mut messages, mut lens) = ([0; 48], [0; 2]);
        let next = match consumer.try_pop_all(&mut messages, &mut lens) {
            Ok(count) => {
                assert_eq!((count, lens), (2, [24; 2]));
                let number = |at: usize| u64::from_ne_bytes(*messages[at..].first_chunk().unwrap());
                let numbers = [0, 8, 16, 24, 32, 40].map(number);
                assert_eq!(numbers, [0, 0, 0, 1, 1, 1]);
                2
            }
            Err(Error::Missed { messages }) => messages,
            Err(error) => {
                assert_eq!(error, Error::Busy);
                0
            }
        };
        drop(pushing.join().unwrap());
        follow(&mut consumer, next, 4);
    });
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    model(|_, mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            let mut batch = producer.batch();
            batch.try_push(&[1; 8]).unwrap();
            batch.try_push(&[2; 8]).unwrap();
            batch.commit();
            producer
        });
        let mut message = [0; 8];
        if consumer.try_pop(&mut message).is_ok() {
            assert_eq!(message, [1; 8]);
            assert_eq!(consumer.try_pop(&mut message), Ok(8));
            assert_eq!(message, [2; 8]);
        }
        drop(pushing.join().unwrap());
    });
}

#[test]
fn a_new_consumer_begins_between_two_messages() {
    model(|heap, mut producer, consumer| {
        drop(consumer);
        push(&mut producer, 0..1);
        let pushing = thread::spawn(move || {
            push(&mut producer, 1..3);
            producer
        });
        let mut consumer = Consumer::attach(heap).unwrap();
        let producer = pushing.join().unwrap();
        // Where it began is told by how far it was from the end.
        let mut numbers = Vec::new();
        loop {
            match consumer.try_pop_value::<Message>() {
                Ok([number, again, once_more]) => {
                    assert_eq!([again, once_more], [number; 2]);
                    numbers.push(Some(number));
                }
                Err(Error::Missed { messages }) => {
                    numbers.extend((0..messages).map(|_| None));
                }
                Err(error) => break assert_eq!(error, Error::Empty),
            }
        }
        assert!(numbers.len() <= 2);
        for (number, back) in numbers.iter().rev().zip(1..) {
            assert!(number.is_none_or(|number: u64| number == 3 - back));
        }
        drop(producer);
    });
}

#[test]
fn what_was_pushed_before_the_close_is_drained() {
    model(|_, mut producer, mut consumer| {
        push(&mut producer, 0..2);
        let pushing = thread::spawn(move || {
            push(&mut producer, 2..3);
            drop(producer);
        });
        let mut next = 0;
        let end = loop {
            match consumer.try_pop_value::<Message>() {
                Ok(_) => next += 1,
                Err(Error::Missed { messages }) => next += messages,
                Err(Error::Empty | Error::Busy) => thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert_eq!((end, next), (Error::Closed, 3));
        pushing.join().unwrap();
    });
}

#[test]
fn another_producer_goes_on_after_a_death() {
    model(|heap, mut producer, mut consumer| {
        let theirs = heap.clone();
        let pushing = thread::spawn(move || {
            push(&mut producer, 0..1);
            forget(producer);
            theirs.kill_producer(0);
            let mut producer = Producer::attach(theirs).unwrap();
            push(&mut producer, 1..2);
            producer
        });
        follow(&mut consumer, 0, 2);
        drop(pushing.join().unwrap());
    });
}

fn two_sleepers_wait() {
    model_of_sleepers(|heap, mut producer, mut one| {
        let mut two = Consumer::attach(heap).unwrap();
        let sleeping = thread::spawn(move || {
            let mut message = [0; 8];
            assert_eq!(two.pop(&mut message, Wait::SLEEP), Ok(8));
        });
        let pushing = thread::spawn(move || {
            producer.try_push(&[1; 8]).unwrap();
            producer
        });
        let mut message = [0; 8];
        assert_eq!(one.pop(&mut message, Wait::SLEEP), Ok(8));
        sleeping.join().unwrap();
        drop(pushing.join().unwrap());
    });
}

#[test]
fn all_who_sleep_are_woken() {
    two_sleepers_wait();
}

#[test]
#[should_panic = "deadlock"]
fn without_the_light_fence_a_wake_up_is_lost() {
    with(Fault::NoLightFence, two_sleepers_wait);
}

#[test]
#[should_panic = "deadlock"]
fn without_the_heavy_fence_a_wake_up_is_lost() {
    with(Fault::NoHeavyFence, two_sleepers_wait);
}
