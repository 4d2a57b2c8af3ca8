//! Models of the ring for many producers and one consumer: every interleaving, every permitted value.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom_mpsc`
#![cfg(loom)]

use std::mem::forget;

use linipc_core::ring::mpsc::{Consumer, Producer};
use linipc_core::ring::{self, AttachError, Error, Kind, Wait};
use linipc_core::sync::{Fault, Heap, Left, with};
use loom::thread;
use rustix::io::Errno;

const BOUND: usize = 3;
const CAPACITY: u64 = 64;

type Ends = ([Producer<Heap>; 2], Consumer<Heap>);

/// Runs `body` on a new ring with two producers, the first one in slot 0.
fn model(preemptions: usize, body: impl Fn(Heap, Ends) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(move || {
        let heap = Heap::exclusive(CAPACITY);
        ring::create(heap.clone(), Kind::Mpsc, CAPACITY).unwrap();
        let producers = [(); 2].map(|()| Producer::attach(heap.clone()).unwrap());
        let consumer = Consumer::attach(heap.clone()).unwrap();
        body(heap, (producers, consumer));
    });
}

/// The same where nobody sleeps: there a light fence orders nothing.
fn awake(preemptions: usize, body: impl Fn(Heap, Ends) + Sync + Send + 'static) {
    with(Fault::NoLightFence, || model(preemptions, body));
}

/// Runs `body` on a new ring with one producer, which is alone, in slot 0.
fn alone(body: impl Fn(Heap, Producer<Heap>, Consumer<Heap>) + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(BOUND);
    builder.max_branches = 10_000;
    builder.check(move || {
        let heap = Heap::exclusive(CAPACITY);
        ring::create(heap.clone(), Kind::Mpsc, CAPACITY).unwrap();
        let producer = Producer::attach(heap.clone()).unwrap();
        let consumer = Consumer::attach(heap.clone()).unwrap();
        body(heap, producer, consumer);
    });
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

/// Pushes messages of one word in place.
fn push_in_place(producer: &mut Producer<Heap>, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        retry(|| {
            let mut claim = producer.try_claim(8)?;
            claim.write(0, &number.to_le_bytes())?;
            claim.commit();
            Ok(())
        });
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
fn two_producers_push_and_each_message_arrives_once() {
    awake(BOUND, |_, ([mut one, mut two], mut consumer)| {
        let pushing = thread::spawn(move || push_in_place(&mut one, [1]));
        push(&mut two, [2]);
        let seen = [next(&mut consumer), next(&mut consumer)];
        assert!(matches!(seen, [1, 2] | [2, 1]), "{seen:?}");
        pushing.join().unwrap();
        drop(two);
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Closed));
    });
}

#[test]
fn each_producers_messages_stay_in_order_over_a_wrap() {
    awake(2, |_, ([mut one, mut two], mut consumer)| {
        push(&mut two, [20, 21]);
        let pushing = thread::spawn(move || push_in_place(&mut one, [10, 11]));
        let (mut ones, mut twos) = (10, 20);
        for count in 0..5 {
            if count == 2 {
                push(&mut two, [22]);
            }
            let number = next(&mut consumer);
            let expected = if number < 20 { &mut ones } else { &mut twos };
            assert_eq!(number, *expected);
            *expected += 1;
        }
        pushing.join().unwrap();
    });
}

#[test]
fn a_batch_is_seen_as_a_whole() {
    awake(BOUND, |_, ([mut one, mut two], mut consumer)| {
        let pushing = thread::spawn(move || {
            let [a, b] = [1_u64, 2].map(u64::to_le_bytes);
            // 40 bytes are claimed, and 32 used.
            let mut batch = one.try_batch(40).unwrap();
            batch.try_push(&a).unwrap();
            batch.try_push(&b).unwrap();
            batch.commit();
        });
        assert_eq!(next(&mut consumer), 1);
        assert_eq!(consumer.try_pop_value(), Ok(2_u64));
        pushing.join().unwrap();
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Empty));
        push(&mut two, [3]);
        assert_eq!(consumer.try_pop_value(), Ok(3_u64));
    });
}

#[test]
fn what_is_given_up_holds_nobody_up() {
    model(2, |_, ([mut one, mut two], mut consumer)| {
        let pushing = thread::spawn(move || {
            if let Ok(mut claim) = one.try_claim(8) {
                claim.write(0, &[7; 8]).unwrap();
                claim.abort();
            }
        });
        let other = thread::spawn(move || push(&mut two, [2]));
        assert_eq!(sleep(&mut consumer), Ok(2));
        pushing.join().unwrap();
        other.join().unwrap();
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Closed));
    });
}

#[test]
fn the_claim_of_a_dead_producer_is_skipped() {
    model(2, |heap, ([mut one, mut two], mut consumer)| {
        let dying = thread::spawn(move || {
            if let Ok(mut claim) = one.try_claim(8) {
                claim.write(0, &[7; 8]).unwrap();
                forget(claim);
            }
            heap.kill_producer(0);
        });
        let other = thread::spawn(move || push(&mut two, [2]));
        assert_eq!(sleep(&mut consumer), Ok(2));
        dying.join().unwrap();
        other.join().unwrap();
        assert_eq!(sleep(&mut consumer), Err(Error::PeerDead));
    });
}

#[test]
fn the_message_of_a_producer_that_died_behind_it_is_not_skipped() {
    model(BOUND, |heap, ([mut one, two], mut consumer)| {
        let dying = thread::spawn(move || {
            push(&mut one, [1]);
            heap.kill_producer(0);
        });
        assert_eq!(sleep(&mut consumer), Ok(1));
        assert_eq!(consumer.counters().lost, 0);
        dying.join().unwrap();
        drop(two);
        assert_eq!(sleep(&mut consumer), Err(Error::PeerDead));
    });
}

#[test]
fn the_turn_of_a_dead_producer_is_taken_over() {
    model(2, |heap, ([_one, mut two], mut consumer)| {
        let dying = thread::spawn(move || heap.kill_producer_in_turn(0, Left::Nothing));
        let other = thread::spawn(move || push(&mut two, [2]));
        assert_eq!(sleep(&mut consumer), Ok(2));
        dying.join().unwrap();
        other.join().unwrap();
        assert_eq!(consumer.counters().lost, 0);
    });
}

#[test]
fn what_a_dead_producer_claimed_in_its_turn_is_claimed_anew() {
    for claimed in [8, 24] {
        model(BOUND, move |heap, ([_one, mut two], mut consumer)| {
            heap.kill_producer_in_turn(0, Left::Claim(claimed));
            let other = thread::spawn(move || push(&mut two, [2]));
            assert_eq!(sleep(&mut consumer), Ok(2));
            other.join().unwrap();
            assert_eq!(consumer.counters().lost, 0);
        });
    }
}

#[test]
fn what_a_dead_producer_published_in_its_turn_stays() {
    model(2, move |heap, ([_one, mut two], mut consumer)| {
        let dying = thread::spawn(move || heap.kill_producer_in_turn(0, Left::Message));
        // Before it, or behind.
        let other = thread::spawn(move || push(&mut two, [2]));
        let mut message = [0; 8];
        let lens = [(); 2].map(|()| consumer.pop(&mut message, Wait::SLEEP).unwrap());
        assert!(matches!(lens, [0, 8] | [8, 0]), "{lens:?}");
        assert_eq!(u64::from_le_bytes(message), 2);
        dying.join().unwrap();
        other.join().unwrap();
        assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Empty));
    });
}

#[test]
fn there_is_room_where_a_message_was_read_that_is_still_in_the_turn() {
    model(BOUND, move |heap, ([_one, mut two], mut consumer)| {
        heap.kill_producer_in_turn(0, Left::Message);
        let popping = thread::spawn(move || {
            assert_eq!(consumer.pop(&mut [], Wait::SLEEP), Ok(0));
            consumer
        });
        let free = two.free().unwrap();
        assert!(free == 64 - 8 || free == 64 - 16, "{free}");
        push(&mut two, [2]);
        let mut consumer = popping.join().unwrap();
        assert_eq!(consumer.try_pop_value(), Ok(2_u64));
        assert_eq!(two.free(), Ok(64 - 8));
    });
}

#[test]
fn a_producer_that_sleeps_for_room_is_woken() {
    model(BOUND, |_, ([mut one, mut two], mut consumer)| {
        push(&mut two, [1, 2, 3]);
        let pushing = thread::spawn(move || one.push(&[4; 8], Wait::SLEEP).unwrap());
        assert_eq!(next(&mut consumer), 1);
        pushing.join().unwrap();
    });
}

#[test]
fn two_producers_that_sleep_for_room_are_woken() {
    model(2, |_, ([mut one, mut two], mut consumer)| {
        push(&mut two, [1, 2, 3]);
        let pushing = thread::spawn(move || one.push(&[4; 8], Wait::SLEEP).unwrap());
        let other = thread::spawn(move || two.push(&[4; 8], Wait::SLEEP).unwrap());
        assert_eq!(next(&mut consumer), 1);
        assert_eq!(next(&mut consumer), 2);
        pushing.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_consumer_that_sleeps_is_woken_by_either() {
    model(2, |_, ([mut one, mut two], mut consumer)| {
        let pushing = thread::spawn(move || push(&mut one, [1]));
        let other = thread::spawn(move || push_in_place(&mut two, [2]));
        let sum = sleep(&mut consumer).unwrap() + sleep(&mut consumer).unwrap();
        assert_eq!(sum, 3);
        pushing.join().unwrap();
        other.join().unwrap();
    });
}

#[test]
fn a_ring_is_not_closed_while_one_comes_before_the_other_leaves() {
    model(BOUND, |heap, ([first, second], mut consumer)| {
        drop(first);
        let handing_over = thread::spawn(move || {
            // Into the slot of the first one.
            let mut third = Producer::attach(heap).unwrap();
            drop(second);
            push(&mut third, [7]);
            third
        });
        // Neither `Closed` nor anything else.
        assert_eq!(next(&mut consumer), 7);
        drop(handing_over.join().unwrap());
    });
}

#[test]
fn the_turn_of_one_who_has_just_come_is_not_taken() {
    model(BOUND, |heap, ([one, mut two], mut consumer)| {
        // Its slot has had another generation.
        drop(one);
        let pushing = thread::spawn(move || {
            let mut producer = Producer::attach(heap).unwrap();
            push(&mut producer, [1]);
            producer
        });
        push(&mut two, [2]);
        let _one = pushing.join().unwrap();
        let mut popped = [(); 2].map(|()| consumer.try_pop_value::<u64>().unwrap());
        popped.sort_unstable();
        assert_eq!(popped, [1, 2]);
    });
}

#[test]
fn who_enters_waits_until_the_one_that_was_alone_is_not_in_its_turn() {
    alone(|heap, mut one, mut consumer| {
        let entering = thread::spawn(move || {
            let mut two = Producer::attach(heap).unwrap();
            push(&mut two, [20]);
            two
        });
        push(&mut one, [10, 11]);
        let mut two = entering.join().unwrap();
        let mut numbers = [(); 3].map(|()| consumer.try_pop_value::<u64>().unwrap());
        assert!(numbers.iter().position(|n| *n == 10) < numbers.iter().position(|n| *n == 11));
        numbers.sort_unstable();
        assert_eq!(numbers, [10, 11, 20]);
        push(&mut two, [21]);
        assert_eq!(consumer.try_pop_value(), Ok(21_u64));
    });
}

#[test]
#[should_panic]
fn without_the_light_fence_two_are_in_their_turn() {
    with(
        Fault::NoLightFence,
        who_enters_waits_until_the_one_that_was_alone_is_not_in_its_turn,
    );
}

#[test]
#[should_panic]
fn without_the_heavy_fence_two_are_in_their_turn() {
    with(
        Fault::NoHeavyFence,
        who_enters_waits_until_the_one_that_was_alone_is_not_in_its_turn,
    );
}

#[test]
fn who_comes_after_one_that_left_or_died_alone_goes_on() {
    for left in [
        None,
        Some(Left::Nothing),
        Some(Left::Claim(8)),
        Some(Left::Message),
    ] {
        alone(move |heap, mut one, mut consumer| {
            let theirs = heap.clone();
            let leaving = thread::spawn(move || {
                push(&mut one, [1]);
                match left {
                    Some(left) => {
                        theirs.kill_producer_in_turn(0, left);
                        // Its place may be another one's now.
                        forget(one);
                    }
                    None => drop(one),
                }
            });
            let mut two = Producer::attach(heap).unwrap();
            push(&mut two, [2]);
            leaving.join().unwrap();
            let mut message = [0; 8];
            let mut numbers = vec![];
            let end = loop {
                match consumer.try_pop(&mut message) {
                    Ok(len) => numbers.extend((len == 8).then(|| u64::from_le_bytes(message))),
                    Err(error) => break error,
                }
            };
            numbers.sort_unstable();
            assert_eq!((&numbers[..], end), (&[1, 2][..], Error::Empty), "{left:?}");
            push(&mut two, [3]);
            assert_eq!(next(&mut consumer), 3);
        });
    }
}

#[test]
fn what_one_left_that_died_alone_is_found_by_the_first_of_two_that_come() {
    alone(|heap, one, mut consumer| {
        heap.kill_producer_in_turn(0, Left::Message);
        forget(one);
        let theirs = heap.clone();
        let entering = thread::spawn(move || {
            let mut producer = Producer::attach(theirs).unwrap();
            push(&mut producer, [1]);
            producer
        });
        let mut two = Producer::attach(heap).unwrap();
        push(&mut two, [2]);
        let _one = entering.join().unwrap();
        assert_eq!(consumer.try_pop(&mut [0; 8]), Ok(0));
        let mut numbers = [(); 2].map(|()| consumer.try_pop_value::<u64>().unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
    });
}

#[test]
fn who_was_alone_leaves_while_another_one_comes() {
    alone(|heap, mut one, mut consumer| {
        let leaving = thread::spawn(move || {
            push(&mut one, [1]);
            drop(one);
        });
        let mut two = Producer::attach(heap.clone()).unwrap();
        push(&mut two, [2]);
        leaving.join().unwrap();
        let mut three = Producer::attach(heap).unwrap();
        push(&mut three, [3]);
        let mut numbers = [(); 3].map(|()| consumer.try_pop_value::<u64>().unwrap());
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2, 3]);
    });
}

#[test]
fn who_is_refused_the_heavy_fence_does_not_enter_beside_one_that_is_alone() {
    with(Fault::HeavyFenceRefused, || {
        alone(|heap, mut one, mut consumer| {
            let entering = thread::spawn(move || {
                let refused = Producer::attach(heap.clone());
                assert_eq!(refused.err(), Some(AttachError::System(Errno::NOSYS)));
                heap
            });
            push(&mut one, [1]);
            let heap = entering.join().unwrap();
            push(&mut one, [2]);
            drop(one);
            let mut two = Producer::attach(heap).unwrap();
            push(&mut two, [3]);
            assert_eq!([(); 3].map(|()| next(&mut consumer)), [1, 2, 3]);
            drop(two);
            assert_eq!(consumer.try_pop_value::<u64>(), Err(Error::Closed));
        });
    });
}

#[test]
fn where_nobody_is_registered_nobody_is_alone() {
    with(Fault::NoRegistration, || {
        alone(|heap, mut one, mut consumer| {
            let entering = thread::spawn(move || {
                let mut two = Producer::attach(heap).unwrap();
                push(&mut two, [2]);
                two
            });
            push(&mut one, [1]);
            let _two = entering.join().unwrap();
            let mut numbers = [next(&mut consumer), next(&mut consumer)];
            numbers.sort_unstable();
            assert_eq!(numbers, [1, 2]);
        });
    });
}

#[test]
fn who_is_refused_the_heavy_fence_enters_when_who_was_alone_has_left() {
    alone(|heap, mut one, _consumer| {
        drop(Producer::attach(heap.clone()).unwrap());
        push(&mut one, [1]);
        drop(one);
        with(Fault::HeavyFenceRefused, || {
            assert!(Producer::attach(heap.clone()).is_ok());
        });
    });
}

#[test]
fn who_is_refused_the_heavy_fence_enters_when_who_was_alone_has_died() {
    alone(|heap, one, _consumer| {
        drop(Producer::attach(heap.clone()).unwrap());
        heap.kill_producer(0);
        forget(one);
        with(Fault::HeavyFenceRefused, || {
            assert!(Producer::attach(heap.clone()).is_ok());
        });
    });
}
