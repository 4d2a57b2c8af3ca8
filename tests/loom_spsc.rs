//! Models of the ring for one producer and one consumer: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_spsc`
#![cfg(loom)]

use linipc_core::ring::spsc::{Consumer, Producer};
use linipc_core::ring::{self, Error, Kind, Wait};
use linipc_core::sync::Heap;
use loom::thread;

const BOUND: usize = 3;

fn model(body: impl Fn(Producer<Heap>, Consumer<Heap>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(BOUND);
    builder.check(move || {
        let heap = Heap::new(64);
        ring::create(heap.clone(), Kind::Spsc, 64).unwrap();
        let producer = Producer::attach(heap.clone()).unwrap();
        let consumer = Consumer::attach(heap).unwrap();
        body(producer, consumer);
    });
}

/// Takes the next number, looking until it is there.
fn next(consumer: &mut Consumer<Heap>) -> u64 {
    loop {
        match consumer.try_pop_value() {
            Ok(number) => return number,
            Err(Error::Empty) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn messages_arrive_whole_and_in_order_over_a_wrap() {
    model(|mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            for number in 1..=5_u64 {
                while producer.try_push_value(&number) == Err(Error::Full) {
                    thread::yield_now();
                }
            }
            producer
        });
        for number in 1..=5 {
            assert_eq!(next(&mut consumer), number);
        }
        pushing.join().unwrap();
    });
}

#[test]
fn a_consumer_that_goes_to_sleep_is_woken() {
    model(|mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            producer.try_push_value(&7_u64).unwrap();
            producer
        });
        let mut message = [0; 8];
        assert_eq!(consumer.pop(&mut message, Wait::SLEEP), Ok(8));
        assert_eq!(u64::from_le_bytes(message), 7);
        drop(pushing.join().unwrap());
    });
}
