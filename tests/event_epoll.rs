//! epoll(7) over descriptors that another process makes ready.

mod support;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use linipc::event::epoll::{Epoll, Event, EventFlags, NONE};
use linipc::event::eventfd::EventFd;
use linipc::event::pidfd::{PidFd, Signal};
use linipc::event::signalfd::{SignalFd, SignalSet};
use linipc::event::timerfd::{First, TimerFd};
use linipc_core::Errno;
use linipc_core::event::epoll;
use linipc_core::io::{FdFlags, fcntl_getfd};
use rustix::process::{Pid, getpid, kill_process};
use support::{catch_signals, caught, interrupt, peer, until_asleep};

/// The keys and flags of what is ready now.
fn ready(epoll: &Epoll) -> Vec<(u64, EventFlags)> {
    let mut room = [NONE; 16];
    let events = epoll.wait(&mut room, Duration::ZERO).unwrap();
    let mut ready: Vec<_> = events
        .iter()
        .map(|event| (event.data.u64(), event.flags))
        .collect();
    ready.sort_by_key(|(key, _)| *key);
    ready
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<Errno> {
    linipc::error::errno(&result.unwrap_err())
}

#[test]
fn a_waiter_sleeps_until_a_peer_makes_one_ready() {
    isolated!(|| {
        let events = [EventFd::new(0).unwrap(), EventFd::new(0).unwrap()];
        let waiter = peer(|| {
            let epoll = Epoll::new().unwrap();
            epoll.add(&events[0], 10, EventFlags::IN).unwrap();
            epoll.add(&events[1], u64::MAX, EventFlags::IN).unwrap();
            let mut room = [NONE; 4];
            let ready = epoll.wait(&mut room, support::PATIENCE).unwrap();
            let keys: Vec<u64> = ready.iter().map(|event| event.data.u64()).collect();
            assert_eq!(keys, [u64::MAX]);
        });
        until_asleep(waiter.pid());
        events[1].add(1).unwrap();
        waiter.join();
    });
}

#[test]
fn level_repeats_edge_tells_changes_and_one_shot_tells_once() {
    isolated!(|| {
        let pipes: Vec<_> = (0..3).map(|_| io::pipe().unwrap()).collect();
        let epoll = Epoll::new().unwrap();
        let kinds = [EventFlags::empty(), EventFlags::ET, EventFlags::ONESHOT];
        for (key, (pipe, kind)) in pipes.iter().zip(kinds).enumerate() {
            epoll
                .add(&pipe.0, key as u64, EventFlags::IN | kind)
                .unwrap();
        }
        let write_all = || {
            for (_, writer) in &pipes {
                (&*writer).write_all(b"x").unwrap();
            }
        };
        assert_eq!(ready(&epoll), []);
        peer(write_all).join();
        let keys = || {
            ready(&epoll)
                .iter()
                .map(|(key, _)| *key)
                .collect::<Vec<_>>()
        };
        assert_eq!(keys(), [0, 1, 2]);
        assert_eq!(keys(), [0]);
        peer(write_all).join();
        assert_eq!(keys(), [0, 1]);
        epoll
            .modify(&pipes[2].0, 22, EventFlags::IN | EventFlags::ONESHOT)
            .unwrap();
        assert_eq!(keys(), [0, 22]);
        assert_eq!(keys(), [0]);
        (&pipes[0].0).read_exact(&mut [0; 2]).unwrap();
        assert_eq!(keys(), [] as [u64; 0]);
    });
}

#[test]
fn all_kinds_of_events_are_waited_for_together() {
    // In a process with one thread: the test's own has a second one, which blocks nothing.
    let alone = || {
        let signals = SignalFd::block(SignalSet::EMPTY.with(Signal::USR1)).unwrap();
        let (event, timer) = (EventFd::new(0).unwrap(), TimerFd::new().unwrap());
        let (reader, writer) = io::pipe().unwrap();
        let me = getpid();
        let (mut go, mut goer) = io::pipe().unwrap();
        let other = peer(|| {
            go.read_exact(&mut [0]).unwrap();
            event.add(1).unwrap();
            (&writer).write_all(b"x").unwrap();
            kill_process(me, Signal::USR1).unwrap();
        });
        let process = PidFd::open(Pid::from_raw(other.pid()).unwrap()).unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&event, 0, EventFlags::IN).unwrap();
        epoll.add(&signals, 1, EventFlags::IN).unwrap();
        epoll.add(&timer, 2, EventFlags::IN).unwrap();
        epoll.add(&process, 3, EventFlags::IN).unwrap();
        epoll.add(&reader, 4, EventFlags::IN).unwrap();
        assert_eq!(ready(&epoll), []);
        goer.write_all(b"!").unwrap();
        timer
            .start(First::After(Duration::from_millis(1)), None)
            .unwrap();
        let mut keys = [false; 5];
        while keys != [true; 5] {
            let mut room = [NONE; 2];
            for event in epoll.wait(&mut room, support::PATIENCE).unwrap() {
                keys[event.data.u64() as usize] = true;
            }
        }
        other.join();
        assert_eq!(signals.try_read().unwrap().signal(), Some(Signal::USR1));
    };
    isolated!(|| peer(alone).join());
}

#[test]
fn more_events_than_room_come_in_turns() {
    let events: Vec<EventFd> = (0..5).map(|_| EventFd::new(1).unwrap()).collect();
    let epoll = Epoll::new().unwrap();
    for (key, event) in events.iter().enumerate() {
        epoll.add(event, key as u64, EventFlags::IN).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..5 {
        let mut room = [NONE; 2];
        let got: &[Event] = epoll.wait(&mut room, Duration::ZERO).unwrap();
        assert_eq!(got.len(), 2);
        seen.extend(got.iter().map(|event| event.data.u64()));
    }
    assert_eq!(seen.len(), 5, "none starves");
    assert_eq!(
        errno(epoll.wait(&mut [], Duration::ZERO).map(<[_]>::len)),
        Some(Errno::INVAL)
    );
}

#[test]
fn the_list_refuses_what_it_cannot_hold() {
    let event = EventFd::new(1).unwrap();
    let (epoll, outer) = (Epoll::new().unwrap(), Epoll::new().unwrap());
    assert_eq!(errno(epoll.delete(&event)), Some(Errno::NOENT));
    assert_eq!(
        errno(epoll.modify(&event, 1, EventFlags::IN)),
        Some(Errno::NOENT)
    );
    epoll.add(&event, 1, EventFlags::IN).unwrap();
    assert_eq!(
        errno(epoll.add(&event, 2, EventFlags::IN)),
        Some(Errno::EXIST)
    );
    epoll.delete(&event).unwrap();
    assert_eq!(ready(&epoll), []);

    let file = File::open("/proc/self/exe").unwrap();
    assert_eq!(
        errno(epoll.add(&file, 1, EventFlags::IN)),
        Some(Errno::PERM)
    );
    assert_eq!(
        errno(epoll.add(&epoll, 1, EventFlags::IN)),
        Some(Errno::INVAL)
    );
    assert_eq!(
        errno(Epoll::from(OwnedFd::from(file)).add(&event, 1, EventFlags::IN)),
        Some(Errno::INVAL)
    );
    outer.add(&epoll, 1, EventFlags::IN).unwrap();
    assert_eq!(
        errno(epoll.add(&outer, 1, EventFlags::IN)),
        Some(Errno::LOOP)
    );
}

#[test]
fn an_exclusive_entry_is_woken_and_cannot_be_modified() {
    isolated!(|| {
        let event = EventFd::semaphore(0).unwrap();
        let waiter = || {
            let peer = peer(|| {
                let epoll = Epoll::new().unwrap();
                let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
                epoll.add(&event, 1, flags).unwrap();
                let refused = epoll.modify(&event, 1, flags);
                assert_eq!(errno(refused), Some(Errno::INVAL));
                while event.try_take().is_err() {
                    epoll.wait(&mut [NONE], support::PATIENCE).unwrap();
                }
            });
            until_asleep(peer.pid());
            peer
        };
        let waiters = [waiter(), waiter()];
        event.add(1).unwrap();
        event.add(1).unwrap();
        waiters.into_iter().for_each(support::Peer::join);
    });
}

#[test]
fn an_entry_lives_until_the_last_duplicate_is_closed() {
    isolated!(|| {
        let epoll = Epoll::new().unwrap();
        let event = EventFd::new(1).unwrap();
        epoll.add(&event, 1, EventFlags::IN).unwrap();
        let copy = event.try_clone().unwrap();
        drop(event);
        assert_eq!(ready(&epoll), [(1, EventFlags::IN)]);
        // A copy in another process is enough.
        let holder = peer(|| std::thread::sleep(support::PATIENCE));
        drop(copy);
        assert_eq!(ready(&epoll), [(1, EventFlags::IN)]);
        holder.kill();
        assert_eq!(ready(&epoll), []);
    });
}

#[test]
fn a_signalfd_in_the_list_belongs_to_who_added_it() {
    isolated!(|| {
        let signals = SignalFd::block(SignalSet::EMPTY.with(Signal::USR1)).unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&signals, 1, EventFlags::IN).unwrap();
        peer(|| {
            kill_process(getpid(), Signal::USR1).unwrap();
            assert_eq!(ready(&epoll), []);
            assert_eq!(signals.try_read().unwrap().signal(), Some(Signal::USR1));
        })
        .join();
    });
}

#[test]
fn a_deadline_that_passes_gives_none() {
    let epoll = Epoll::new().unwrap();
    let end = std::time::Instant::now() + Duration::from_micros(1500);
    assert!(epoll.wait(&mut [NONE], end).unwrap().is_empty());
    assert!(std::time::Instant::now() >= end, "too early");
}

#[test]
fn a_signal_interrupts_core_and_not_the_shim() {
    isolated!(|| {
        let event = EventFd::new(0).unwrap();
        let list = || {
            catch_signals();
            let epoll = Epoll::new().unwrap();
            epoll.add(&event, 1, EventFlags::IN).unwrap();
            epoll
        };
        let waiter = peer(|| {
            assert_eq!(epoll::wait(list(), &mut [NONE], None), Err(Errno::INTR));
        });
        interrupt(&waiter);
        waiter.join();
        let waiter = peer(|| {
            let mut room = [NONE];
            assert_eq!(list().wait(&mut room, support::PATIENCE).unwrap().len(), 1);
            assert_eq!(caught(), 1);
        });
        interrupt(&waiter);
        event.add(1).unwrap();
        waiter.join();
    });
}

#[test]
fn it_is_close_on_exec() {
    let epoll = epoll::create().unwrap();
    assert!(fcntl_getfd(&epoll).unwrap().contains(FdFlags::CLOEXEC));
}
