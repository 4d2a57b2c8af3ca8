//! Models of the ring of items: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_items`
#![cfg(loom)]

use linipc_core::ring::items::{self, Consumer, Producer};
use linipc_core::ring::{Error, Wait};
use linipc_core::sync::{Fault, Heap, with};
use loom::thread;

const BOUND: usize = 3;

/// Nobody sleeps. The light fence, which is a real one here, would hide what is missing elsewhere.
fn model(body: impl Fn(Heap, Producer<u64, Heap>, Consumer<u64, Heap>) + Sync + Send + 'static) {
    with(Fault::NoLightFence, || model_of_sleepers(body));
}

/// Two items are the capacity.
fn model_of_sleepers(
    body: impl Fn(Heap, Producer<u64, Heap>, Consumer<u64, Heap>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(BOUND);
    builder.check(move || {
        let heap = Heap::exclusive(64);
        items::create::<u64>(heap.clone(), 2).unwrap();
        let producer = Producer::attach(heap.clone()).unwrap();
        let consumer = Consumer::attach(heap.clone()).unwrap();
        body(heap, producer, consumer);
    });
}

/// Looks until there is something.
fn until<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(Error::Empty | Error::Full) => thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn items_arrive_whole_and_in_order_over_a_wrap() {
    model(|_, mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            for number in 1..=4 {
                until(|| producer.try_push(&number));
            }
            producer
        });
        for number in 1..=4 {
            assert_eq!(until(|| consumer.try_pop()), number);
        }
        drop(pushing.join().unwrap());
    });
}

#[test]
fn slices_arrive_in_order_over_a_wrap() {
    model(|_, mut producer, mut consumer| {
        producer.try_push(&1).unwrap();
        let pushing = thread::spawn(move || {
            let mut left: &[u64] = &[2, 3, 4];
            while !left.is_empty() {
                let sent = until(|| producer.try_push_slice(left));
                left = &left[sent..];
            }
            producer
        });
        let mut got = [0; 4];
        let mut n = 0;
        while n < 4 {
            n += until(|| consumer.try_pop_slice(&mut got[n..]));
        }
        assert_eq!(got, [1, 2, 3, 4]);
        drop(pushing.join().unwrap());
    });
}

#[test]
fn a_consumer_that_goes_to_sleep_is_woken() {
    a_sleeper_waits();
}

#[test]
fn a_producer_that_goes_to_sleep_is_woken() {
    model_of_sleepers(|_, mut producer, mut consumer| {
        assert_eq!(producer.try_push_slice(&[1, 2]), Ok(2));
        let popping = thread::spawn(move || {
            assert_eq!(consumer.try_pop(), Ok(1));
            consumer
        });
        assert_eq!(producer.push(&3, Wait::SLEEP), Ok(()));
        let mut consumer = popping.join().unwrap();
        assert_eq!(consumer.try_pop(), Ok(2));
        assert_eq!(consumer.try_pop(), Ok(3));
    });
}

#[test]
fn what_was_pushed_before_the_close_is_drained() {
    model(|_, mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            producer.try_push(&1).unwrap();
            drop(producer);
        });
        let mut drained = 0;
        loop {
            match consumer.try_pop() {
                Ok(number) => drained = number,
                Err(Error::Empty) => thread::yield_now(),
                Err(error) => {
                    assert_eq!((error, drained), (Error::Closed, 1));
                    break;
                }
            }
        }
        pushing.join().unwrap();
    });
}

#[test]
fn after_a_death_the_rest_is_drained_and_another_goes_on() {
    model_of_sleepers(|heap, mut producer, mut consumer| {
        let theirs = heap.clone();
        let pushing = thread::spawn(move || {
            producer.try_push(&1).unwrap();
            std::mem::forget(producer);
            theirs.kill_producer(0);
        });
        assert_eq!(consumer.pop(Wait::SLEEP), Ok(1));
        assert_eq!(consumer.pop(Wait::SLEEP), Err(Error::PeerDead));
        let mut producer = Producer::<u64, _>::attach(heap).unwrap();
        producer.try_push(&2).unwrap();
        assert_eq!(consumer.try_pop(), Ok(2));
        pushing.join().unwrap();
    });
}

fn a_sleeper_waits() {
    model_of_sleepers(|_, mut producer, mut consumer| {
        let pushing = thread::spawn(move || {
            producer.try_push(&7).unwrap();
            producer
        });
        assert_eq!(consumer.pop(Wait::SLEEP), Ok(7));
        drop(pushing.join().unwrap());
    });
}

#[test]
#[should_panic = "deadlock"]
fn without_the_light_fence_a_wake_up_is_lost() {
    with(Fault::NoLightFence, a_sleeper_waits);
}

#[test]
#[should_panic = "deadlock"]
fn without_the_heavy_fence_a_wake_up_is_lost() {
    with(Fault::NoHeavyFence, a_sleeper_waits);
}
