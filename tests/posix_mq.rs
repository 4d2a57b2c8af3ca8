//! POSIX message queues between two processes.

mod support;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::time::Duration;

use linipc::error::{Limit, errno};
use linipc::posix::mq::{MAX_PRIORITY, Notification, OpenOptions, Queue};
use linipc_core::Errno;
use linipc_core::posix::mq::{self, Capacity, DONT_WAIT, Flags, Received, Timespec};
use linipc_core::posix::{Create, Mode};
use rustix::event::{PollFd, PollFlags, epoll, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use support::{mqueue_dir, peer, until_asleep};

const NAME: &str = "/linipc-test";
const BOTH: Flags = Flags::READ.union(Flags::WRITE);
const NEW: Create = Create::Exclusive(Mode::RUSR.union(Mode::WUSR));

/// A new queue of 3 messages of 16 bytes, unlinked on drop.
fn small() -> Queue {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .capacity(3, 16)
        .unlink_on_drop(true)
        .open(NAME)
        .unwrap()
}

/// The queue that `small` made, from another process.
fn found() -> Queue {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(NAME)
        .unwrap()
}

fn fill(queue: &Queue) {
    for _ in 0..3 {
        queue.try_send(b"fill", 0).unwrap();
    }
}

/// The first message, if there is one now.
fn take(queue: &Queue) -> io::Result<(u32, Vec<u8>)> {
    let mut message = [0; 16];
    let received = queue.try_receive(&mut message)?;
    Ok((received.priority, message[..received.len].to_vec()))
}

#[track_caller]
fn limit(error: &io::Error) -> Limit {
    *error.get_ref().unwrap().downcast_ref().unwrap()
}

#[test]
fn messages_come_by_priority_and_of_one_priority_in_order() {
    isolated!(|| {
        let queue = OpenOptions::new()
            .read(true)
            .create_new(true)
            .capacity(8, 16)
            .unlink_on_drop(true)
            .open(NAME)
            .unwrap();
        peer(|| {
            let queue = OpenOptions::new().write(true).open(NAME).unwrap();
            for (text, priority) in [
                ("low 1", 1),
                ("high 1", 9),
                ("low 2", 1),
                ("", 0),
                ("high 2", 9),
                ("highest", MAX_PRIORITY),
            ] {
                queue.send(text.as_bytes(), priority).unwrap();
            }
        })
        .join();
        let order: Vec<_> = std::iter::from_fn(|| take(&queue).ok()).collect();
        let expected = [
            (MAX_PRIORITY, "highest"),
            (9, "high 1"),
            (9, "high 2"),
            (1, "low 1"),
            (1, "low 2"),
            (0, ""),
        ];
        assert_eq!(
            order,
            expected.map(|(priority, text)| (priority, text.as_bytes().to_vec()))
        );
    });
}

#[test]
fn a_receiver_sleeps_until_a_message_comes_and_a_sender_until_there_is_room() {
    isolated!(|| {
        let queue = small();
        let receiver = peer(|| {
            let mut message = [0; 16];
            let received = found().receive(&mut message).unwrap();
            assert_eq!((received.priority, received.len), (5, 7));
        });
        until_asleep(receiver.pid());
        queue.send(b"wake up", 5).unwrap();
        receiver.join();

        fill(&queue);
        let sender = peer(|| found().send(b"last", 0).unwrap());
        until_asleep(sender.pid());
        take(&queue).unwrap();
        sender.join();
        assert_eq!(queue.attributes().unwrap().messages, 3);
    });
}

#[test]
fn who_may_not_wait_is_refused_and_nothing_is_lost() {
    isolated!(|| {
        let queue = small();
        assert_eq!(take(&queue).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(
            mq::receive(&queue, &mut [0; 16], Some(DONT_WAIT)),
            Err(Errno::TIMEDOUT)
        );
        fill(&queue);
        let error = queue.try_send(b"x", 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(
            mq::send(&queue, b"x", 0, Some(DONT_WAIT)),
            Err(Errno::TIMEDOUT)
        );

        queue.set_nonblocking(true).unwrap();
        let error = queue.send(b"x", 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error = queue.send_deadline(b"x", 0, support::PATIENCE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert_eq!(queue.attributes().unwrap().messages, 3);
        for _ in 0..3 {
            assert_eq!(take(&queue).unwrap(), (0, b"fill".to_vec()));
        }
        let error = queue.receive(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_deadline_ends_the_wait() {
    isolated!(|| {
        let queue = small();
        let soon = Duration::from_millis(5);
        let before = std::time::Instant::now();
        let error = queue.receive_deadline(&mut [0; 16], soon).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(before.elapsed() >= soon);
        fill(&queue);
        let error = queue.send_deadline(b"x", 0, before).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(errno(&error), Some(Errno::TIMEDOUT));
    });
}

#[test]
fn a_deadline_that_has_passed_does_not_matter_if_there_is_no_need_to_wait() {
    isolated!(|| {
        let queue = small();
        let past = std::time::Instant::now();
        queue.send_deadline(b"sent", 0, past).unwrap();
        assert_eq!(queue.receive_deadline(&mut [0; 16], past).unwrap().len, 4);
    });
}

#[test]
fn a_peer_ends_a_wait_before_its_deadline() {
    isolated!(|| {
        let queue = small();
        for deadline in [support::PATIENCE, Duration::MAX] {
            let receiver = peer(|| {
                let received = found().receive_deadline(&mut [0; 16], deadline).unwrap();
                assert_eq!(received.len, 4);
            });
            until_asleep(receiver.pid());
            queue.send(b"late", 0).unwrap();
            receiver.join();
        }
        fill(&queue);
        let sender = peer(|| {
            found()
                .send_deadline(b"late", 9, support::PATIENCE)
                .unwrap();
        });
        until_asleep(sender.pid());
        take(&queue).unwrap();
        sender.join();
        assert_eq!(take(&queue).unwrap(), (9, b"late".to_vec()));
    });
}

#[test]
fn a_time_that_is_none_is_refused() {
    isolated!(|| {
        let queue = small();
        for (tv_sec, tv_nsec) in [(-1, 0), (0, -1), (0, 1_000_000_000)] {
            let deadline = Some(Timespec { tv_sec, tv_nsec });
            let sent = mq::send(&queue, b"x", 0, deadline);
            assert_eq!(sent, Err(Errno::INVAL));
            let received = mq::receive(&queue, &mut [0; 16], deadline);
            assert_eq!(received, Err(Errno::INVAL));
        }
    });
}

#[test]
fn a_signal_interrupts_core_and_not_the_shim() {
    extern "C" fn nothing(_: libc::c_int) {}
    isolated!(|| {
        let queue = small();
        // SAFETY: All zeros are no flags (no SA_RESTART) and an empty mask.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as *const () as usize;
        // SAFETY: The handler does nothing.
        unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
        let (mut said, mut say) = io::pipe().unwrap();
        let receiver = peer(|| {
            let queue = found();
            let mut message = [0; 16];
            let received = mq::receive(&queue, &mut message, None);
            assert_eq!(received, Err(Errno::INTR));
            say.write_all(b"i").unwrap();
            queue.receive(&mut message).unwrap();
            queue
                .receive_deadline(&mut message, support::PATIENCE)
                .unwrap();
        });
        let interrupt = || {
            until_asleep(receiver.pid());
            // SAFETY: kill(2) takes no pointers.
            unsafe { libc::kill(receiver.pid(), libc::SIGUSR1) };
        };
        interrupt();
        said.read_exact(&mut [0]).unwrap();
        for _ in 0..2 {
            interrupt();
            until_asleep(receiver.pid());
            queue.send(b"now", 0).unwrap();
            support::eventually("the message is taken", || {
                queue.attributes().unwrap().messages == 0
            });
        }
        receiver.join();
    });
}

#[test]
fn a_message_or_a_priority_too_large_is_refused() {
    isolated!(|| {
        let queue = small();
        queue.send(&[1; 16], MAX_PRIORITY).unwrap();
        for error in [
            queue.send(&[1; 17], 0).unwrap_err(),
            queue.try_send(&[1; 17], 0).unwrap_err(),
            queue
                .send_deadline(&[1; 17], 0, Duration::ZERO)
                .unwrap_err(),
        ] {
            assert_eq!(errno(&error), Some(Errno::MSGSIZE));
            assert_eq!(
                (limit(&error).value, limit(&error).setting),
                (16, "mq_msgsize of the queue")
            );
        }
        let error = queue.send(b"x", MAX_PRIORITY + 1).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL));
        assert_eq!(queue.attributes().unwrap().messages, 1);
    });
}

#[test]
fn a_buffer_smaller_than_any_message_may_be_is_refused_and_the_message_stays() {
    isolated!(|| {
        let queue = small();
        queue.send(b"short", 0).unwrap();
        for len in [0, 5, 15] {
            let error = queue.receive(&mut vec![0; len]).unwrap_err();
            assert_eq!(errno(&error), Some(Errno::MSGSIZE));
        }
        let mut large = [0; 100];
        assert_eq!(
            mq::receive(&queue, &mut large, None),
            Ok(Received {
                priority: 0,
                len: 5
            })
        );
        assert_eq!(&large[..5], b"short");
    });
}

#[test]
fn what_is_not_a_queue_or_not_opened_for_it_is_refused() {
    isolated!(|| {
        let queue = small();
        let reader = OpenOptions::new().read(true).open(NAME).unwrap();
        let writer = OpenOptions::new().write(true).open(NAME).unwrap();
        assert_eq!(errno(&reader.send(b"x", 0).unwrap_err()), Some(Errno::BADF));
        queue.send(b"x", 0).unwrap();
        assert_eq!(
            errno(&writer.receive(&mut [0; 16]).unwrap_err()),
            Some(Errno::BADF)
        );
        let neither = OpenOptions::new().open(NAME).unwrap_err();
        assert_eq!(errno(&neither), Some(Errno::INVAL));

        let (pipe, _writer) = io::pipe().unwrap();
        assert_eq!(mq::send(&pipe, b"", 0, None), Err(Errno::BADF));
        assert_eq!(mq::receive(&pipe, &mut [], None), Err(Errno::BADF));
        assert_eq!(mq::getattr(&pipe), Err(Errno::BADF));
        assert_eq!(mq::setattr(&pipe, true), Err(Errno::BADF));
        assert_eq!(mq::notify(&pipe, None), Err(Errno::BADF));
        let error = Queue::try_from(OwnedFd::from(pipe)).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::BADF));
    });
}

#[test]
fn a_name_has_one_slash_and_up_to_255_bytes() {
    isolated!(|| {
        let open = |name: &str| mq::open(name, BOTH, NEW, None).map(drop);
        for (name, error) in [
            ("", Errno::INVAL),
            ("no-slash", Errno::INVAL),
            ("/", Errno::NOENT),
            ("/.", Errno::ACCESS),
            ("/..", Errno::ACCESS),
            ("//two", Errno::ACCESS),
            ("/in/side", Errno::ACCESS),
            ("/null\0byte", Errno::INVAL),
        ] {
            assert_eq!(open(name), Err(error), "{name:?}");
            assert_eq!(
                OpenOptions::new()
                    .read(true)
                    .create(true)
                    .open(name)
                    .map_err(|error| errno(&error))
                    .err(),
                Some(Some(error))
            );
            if error != Errno::ACCESS {
                assert_eq!(mq::unlink(name), Err(error), "{name:?}");
            }
        }
        let longest = format!("/{}", "n".repeat(255));
        assert_eq!(open(&longest), Ok(()));
        assert_eq!(mq::unlink(&*support::c_string(&longest)), Ok(()));
        let longer = format!("{longest}n");
        assert_eq!(open(&longer), Err(Errno::NAMETOOLONG));
        assert_eq!(mq::unlink(longer.as_str()), Err(Errno::NAMETOOLONG));
        assert_eq!(mq::unlink(NAME), Err(Errno::NOENT));
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        let capacity = |messages, message_bytes| Capacity {
            messages,
            message_bytes,
        };
        let open = |create, capacity| mq::open(NAME, Flags::READ, create, capacity);
        assert_eq!(open(Create::No, None).unwrap_err(), Errno::NOENT);
        let mode = Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::WOTH;
        let made = open(Create::Open(mode), Some(capacity(2, 20))).unwrap();
        // The one that exists keeps what it has.
        let same = open(Create::Open(Mode::RUSR), Some(capacity(5, 50))).unwrap();
        for queue in [made, same, open(Create::No, None).unwrap()] {
            assert_eq!(mq::getattr(&queue).unwrap().capacity, capacity(2, 20));
        }
        assert_eq!(open(NEW, None).unwrap_err(), Errno::EXIST);
        let metadata = fs::metadata(mqueue_dir().join(&NAME[1..])).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640, "umask 022");
        mq::unlink(NAME).unwrap();

        fs::write("/proc/sys/fs/mqueue/msg_default", "4").unwrap();
        fs::write("/proc/sys/fs/mqueue/msgsize_default", "512").unwrap();
        let default = open(NEW, None).unwrap();
        assert_eq!(mq::getattr(&default).unwrap().capacity, capacity(4, 512));
        mq::unlink(NAME).unwrap();

        for wrong in [
            capacity(0, 1),
            capacity(1, 0),
            capacity(usize::MAX, 1),
            capacity(1, usize::MAX),
        ] {
            assert_eq!(open(NEW, Some(wrong)).unwrap_err(), Errno::INVAL);
        }
    });
}

#[test]
fn permissions_refuse() {
    isolated!(|| {
        let queue = OpenOptions::new()
            .read(true)
            .create_new(true)
            .capacity(1, 1)
            .mode(0o400)
            .open(NAME)
            .unwrap();
        let peer = peer(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            OpenOptions::new().read(true).open(NAME).unwrap();
            let error = OpenOptions::new().write(true).open(NAME).unwrap_err();
            assert_eq!(errno(&error), Some(Errno::ACCESS));
        });
        peer.join();
        drop(queue);
        linipc::posix::mq::unlink(NAME).unwrap();
    });
}

#[test]
fn the_descriptor_is_closed_on_exec() {
    isolated!(|| {
        let queue = small();
        let flags = rustix::io::fcntl_getfd(&queue).unwrap();
        assert_eq!(flags, rustix::io::FdFlags::CLOEXEC);
    });
}

#[test]
fn not_waiting_belongs_to_the_open_queue() {
    isolated!(|| {
        let queue = OpenOptions::new()
            .read(true)
            .create_new(true)
            .capacity(1, 1)
            .nonblocking(true)
            .unlink_on_drop(true)
            .open(NAME)
            .unwrap();
        let opened_again = OpenOptions::new().read(true).open(NAME).unwrap();
        assert!(queue.attributes().unwrap().nonblocking);
        assert!(!opened_again.attributes().unwrap().nonblocking);
        let copy = queue.as_fd().try_clone_to_owned().unwrap();
        peer(|| assert!(mq::setattr(&copy, false).unwrap().nonblocking)).join();
        assert!(!queue.attributes().unwrap().nonblocking);
    });
}

#[test]
fn poll_sees_messages_and_room() {
    isolated!(|| {
        let queue = small();
        let state = || {
            let mut fds = [PollFd::new(&queue, PollFlags::IN | PollFlags::OUT)];
            poll(&mut fds, Some(&DONT_WAIT)).unwrap();
            fds[0].revents()
        };
        assert_eq!(state(), PollFlags::OUT);
        queue.send(b"x", 0).unwrap();
        assert_eq!(state(), PollFlags::IN | PollFlags::OUT);
        fill_up(&queue);
        assert_eq!(state(), PollFlags::IN);

        while take(&queue).is_ok() {}
        let waiter = peer(|| {
            let queue = found();
            let mut fds = [PollFd::new(&queue, PollFlags::IN)];
            assert_eq!(poll(&mut fds, None).unwrap(), 1);
            assert_eq!(take(&queue).unwrap(), (3, b"polled".to_vec()));
        });
        until_asleep(waiter.pid());
        queue.send(b"polled", 3).unwrap();
        waiter.join();
    });
}

fn fill_up(queue: &Queue) {
    while queue.try_send(b"x", 0).is_ok() {}
}

#[test]
fn epoll_sees_messages_and_room() {
    isolated!(|| {
        let queue = small();
        let waiter = peer(|| {
            let queue = found();
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let data = epoll::EventData::new_u64(7);
            epoll::add(&epoll, &queue, data, epoll::EventFlags::IN).unwrap();
            let mut events = Vec::with_capacity(4);
            let spare = rustix::buffer::spare_capacity(&mut events);
            epoll::wait(&epoll, spare, None).unwrap();
            assert_eq!(
                (events.len(), { events[0].flags }),
                (1, epoll::EventFlags::IN)
            );
            assert_eq!(take(&queue).unwrap(), (3, b"polled".to_vec()));

            fill_up(&queue);
            epoll::modify(&epoll, &queue, data, epoll::EventFlags::OUT).unwrap();
            let mut none = Vec::with_capacity(4);
            let spare = rustix::buffer::spare_capacity(&mut none);
            assert_eq!(epoll::wait(&epoll, spare, Some(&DONT_WAIT)).unwrap(), 0);
            take(&queue).unwrap();
            let spare = rustix::buffer::spare_capacity(&mut none);
            assert_eq!(epoll::wait(&epoll, spare, None).unwrap(), 1);
        });
        until_asleep(waiter.pid());
        queue.send(b"polled", 3).unwrap();
        waiter.join();
    });
}

fn signal_set(number: i32) -> libc::sigset_t {
    // SAFETY: `sigemptyset` makes any memory an empty set.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is writable.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: `set` is an initialised set.
    unsafe { libc::sigaddset(&raw mut set, number) };
    set
}

fn block(number: i32) {
    let set = signal_set(number);
    // SAFETY: `set` is an initialised set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for a blocked signal; `None` if it does not come in time.
fn await_signal(number: i32, patience: Duration) -> Option<libc::siginfo_t> {
    let set = signal_set(number);
    // SAFETY: All zeros are a `siginfo_t`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let timeout = libc::timespec {
        tv_sec: patience.as_secs() as _,
        tv_nsec: 0,
    };
    // SAFETY: All three are of the right types and borrowed.
    let got = unsafe { libc::sigtimedwait(&raw const set, &raw mut info, &raw const timeout) };
    (got == number).then_some(info)
}

#[test]
fn a_signal_can_bring_a_pointer() {
    isolated!(|| {
        // In a process of one thread, to which the signal comes.
        peer(|| {
            let queue = small();
            let (number, pointer) = (libc::SIGUSR1, usize::MAX / 7);
            block(number);
            let _registration = queue
                .notify(Notification::SignalPointer { number, pointer })
                .unwrap();
            queue.send(b"one", 0).unwrap();
            let info = await_signal(number, support::PATIENCE).expect("a signal");
            // SAFETY: A signal of a queue has a value.
            assert_eq!(unsafe { info.si_value() }.sival_ptr.addr(), pointer);
            take(&queue).unwrap();
            let nothing = Notification::SignalPointer { number: 0, pointer };
            assert!(queue.notify(nothing).is_err());
        })
        .join();
    });
}

#[test]
fn a_signal_tells_the_process_that_registered_once() {
    isolated!(|| {
        const SI_MESGQ: i32 = -3;
        let queue = small();
        for number in [libc::SIGUSR1, libc::SIGRTMIN() + 3] {
            let (mut ready, mut say_ready) = io::pipe().unwrap();
            let sender = std::process::id() as i32;
            let told = peer(|| {
                block(number);
                let queue = found();
                let registration = queue
                    .notify(Notification::Signal { number, value: -77 })
                    .unwrap();
                say_ready.write_all(b"r").unwrap();
                let info = await_signal(number, support::PATIENCE).expect("a signal");
                assert_eq!(info.si_code, SI_MESGQ);
                // SAFETY: A signal of this code has a sender.
                assert_eq!(unsafe { info.si_pid() }, sender);
                // SAFETY: A signal of this code has a value.
                let value = unsafe { info.si_value() };
                // SAFETY: It is a union with an integer, which is at its beginning.
                assert_eq!(unsafe { (&raw const value).cast::<i32>().read() }, -77);

                // Only once, and only into the empty queue.
                take(&queue).unwrap();
                queue.send(b"not told", 0).unwrap();
                registration.renew().unwrap();
                queue.send(b"not empty", 0).unwrap();
                assert!(await_signal(number, Duration::ZERO).is_none());
                while take(&queue).is_ok() {}
                queue.send(b"told", 0).unwrap();
                assert!(await_signal(number, support::PATIENCE).is_some());
                while take(&queue).is_ok() {}
            });
            ready.read_exact(&mut [0]).unwrap();
            queue.send(b"one", 0).unwrap();
            told.join();
        }
    });
}

#[test]
fn one_process_at_a_time_is_registered() {
    isolated!(|| {
        let queue = small();
        let silent = || queue.notify(Notification::Silent);
        let registration = silent().unwrap();
        assert_eq!(errno(&silent().unwrap_err()), Some(Errno::BUSY));
        peer(|| {
            assert_eq!(errno(&silent().unwrap_err()), Some(Errno::BUSY));
            // It cannot end what another process registered.
            mq::notify(&queue, None).unwrap();
        })
        .join();
        let error = registration.renew().unwrap_err();
        assert_eq!(errno(&error), Some(Errno::BUSY));
        drop(registration);
        peer(|| drop(silent().unwrap())).join();

        // A message ends it too.
        let registration = silent().unwrap();
        queue.send(b"x", 0).unwrap();
        peer(|| drop(silent().unwrap())).join();
        registration.renew().unwrap();
        drop(registration);

        // And so does closing any descriptor of the queue.
        let registration = silent().unwrap();
        drop(queue.as_fd().try_clone_to_owned().unwrap());
        registration.renew().unwrap();
    });
}

#[test]
fn a_registration_that_was_dropped_tells_nothing() {
    isolated!(|| {
        let queue = small();
        peer(|| {
            block(libc::SIGUSR1);
            let signal = Notification::Signal {
                number: libc::SIGUSR1,
                value: 0,
            };
            drop(queue.notify(signal).unwrap());
            queue.send(b"x", 0).unwrap();
            assert!(await_signal(libc::SIGUSR1, Duration::ZERO).is_none());
            take(&queue).unwrap();
            let _registration = queue.notify(signal).unwrap();
            queue.send(b"x", 0).unwrap();
            assert!(await_signal(libc::SIGUSR1, support::PATIENCE).is_some());
        })
        .join();
    });
}

#[test]
fn a_receiver_that_waits_gets_the_message_and_nobody_is_told() {
    isolated!(|| {
        let queue = small();
        let registration = queue.notify(Notification::Silent).unwrap();
        let receiver = peer(|| {
            found().receive(&mut [0; 16]).unwrap();
        });
        until_asleep(receiver.pid());
        queue.send(b"x", 0).unwrap();
        receiver.join();
        assert_eq!(errno(&registration.renew().unwrap_err()), Some(Errno::BUSY));
    });
}

#[test]
fn a_signal_that_is_none_is_refused() {
    isolated!(|| {
        let queue = small();
        for number in [-1, 0, 65, i32::MAX] {
            let error = queue
                .notify(Notification::Signal { number, value: 0 })
                .unwrap_err();
            assert_eq!(errno(&error), Some(Errno::INVAL), "{number}");
        }
        queue.notify(Notification::Silent).unwrap();
    });
}

#[test]
fn an_unlinked_queue_lives_until_it_is_closed() {
    isolated!(|| {
        let queue = small();
        linipc::posix::mq::unlink(NAME).unwrap();
        let other = small();
        peer(|| queue.send(b"still here", 0).unwrap()).join();
        assert_eq!(take(&queue).unwrap().1, b"still here");
        assert_eq!(take(&other).unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn a_handle_unlinks_its_name_or_lets_it_live() {
    isolated!(|| {
        let exists = || mqueue_dir().join(&NAME[1..]).exists();
        drop(small());
        assert!(!exists());
        small().persist();
        drop(found());
        assert!(exists());
        drop(
            OpenOptions::new()
                .write(true)
                .create(true)
                .unlink_on_drop(true)
                .open(NAME)
                .unwrap(),
        );
        assert!(!exists());

        let fd = OwnedFd::from(small());
        assert!(!exists());
        let queue = Queue::try_from(fd).unwrap();
        queue.send(b"without a name", 0).unwrap();
        assert_eq!(take(&queue).unwrap().1, b"without a name");
    });
}

#[test]
fn the_queue_file_tells_what_is_in_it() {
    isolated!(|| {
        let queue = small();
        queue.send(b"12345", 0).unwrap();
        let file = File::open(mqueue_dir().join(&NAME[1..])).unwrap();
        let mut text = [0; 9];
        file.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"QSIZE:5  ");
        let state = || {
            let text = fs::read_to_string(mqueue_dir().join(&NAME[1..])).unwrap();
            let fields: Vec<_> = text.split_whitespace().collect();
            fields[1..].join(" ")
        };
        assert_eq!(state(), "NOTIFY:0 SIGNO:0 NOTIFY_PID:0");
        let id = std::process::id();
        let silent = queue.notify(Notification::Silent).unwrap();
        assert_eq!(state(), format!("NOTIFY:1 SIGNO:0 NOTIFY_PID:{id}"));
        drop(silent);
        let signal = Notification::Signal {
            number: libc::SIGUSR1,
            value: 0,
        };
        let _signal = queue.notify(signal).unwrap();
        let number = libc::SIGUSR1;
        assert_eq!(state(), format!("NOTIFY:0 SIGNO:{number} NOTIFY_PID:{id}"));
    });
}

/// Sets a sysctl of the IPC namespace.
fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/fs/mqueue/{name}"), value).unwrap();
}

fn without_capabilities(body: impl FnOnce()) {
    peer(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::DAC_OVERRIDE;
        set_capabilities(None, sets).unwrap();
        body();
    })
    .join();
}

/// The limit that refuses a new queue of this capacity.
fn refused(messages: usize, message_bytes: usize) -> (Option<Errno>, u64, &'static str) {
    let error = OpenOptions::new()
        .read(true)
        .create_new(true)
        .capacity(messages, message_bytes)
        .open("/refused")
        .unwrap_err();
    let limit = limit(&error);
    (errno(&error), limit.value, limit.setting)
}

#[test]
fn the_limits_of_the_namespace_are_named() {
    isolated!(|| {
        sysctl("queues_max", "1");
        sysctl("msg_max", "5");
        sysctl("msgsize_max", "200");
        let _queue = small();
        without_capabilities(|| {
            assert_eq!(
                refused(1, 1),
                (Some(Errno::NOSPC), 1, "fs.mqueue.queues_max")
            );
        });
        sysctl("queues_max", "9");
        without_capabilities(|| {
            assert_eq!(refused(6, 1), (Some(Errno::INVAL), 5, "fs.mqueue.msg_max"));
            assert_eq!(
                refused(1, 201),
                (Some(Errno::INVAL), 200, "fs.mqueue.msgsize_max")
            );
            let error = OpenOptions::new()
                .read(true)
                .create(true)
                .capacity(0, 1)
                .open("/refused")
                .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
            // To open what exists has no such limit.
            let error = OpenOptions::new()
                .capacity(6, 1)
                .open("refused")
                .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
        });
    });
}

#[test]
fn who_may_exceed_the_sysctls_is_told_the_limit_of_the_kernel() {
    isolated!(|| {
        sysctl("msg_max", "5");
        let exceeding = OpenOptions::new()
            .read(true)
            .create_new(true)
            .capacity(6, 1)
            .unlink_on_drop(true)
            .open(NAME);
        let expected = match exceeding {
            Ok(_) => (65536, "HARD_MSGMAX", 16 << 20, "HARD_MSGSIZEMAX"),
            // In a user namespace nobody may.
            Err(_) => (5, "fs.mqueue.msg_max", 8192, "fs.mqueue.msgsize_max"),
        };
        let (messages, messages_setting, bytes, bytes_setting) = expected;
        assert_eq!(
            refused(65537, 1),
            (Some(Errno::INVAL), messages, messages_setting)
        );
        assert_eq!(
            refused(1, (16 << 20) + 1),
            (Some(Errno::INVAL), bytes, bytes_setting)
        );
    });
}

#[test]
fn the_limits_of_the_kernel_are_as_the_sysctls_have_them() {
    isolated!(|| {
        for (name, most) in [("msg_max", 65536), ("msgsize_max", 16 << 20)] {
            sysctl(name, &most.to_string());
            let path = format!("/proc/sys/fs/mqueue/{name}");
            fs::write(path, (most + 1).to_string()).unwrap_err();
        }
        let (_, messages, _) = refused(65537, 1);
        let (_, bytes, _) = refused(1, (16 << 20) + 1);
        assert_eq!((messages, bytes), (65536, 16 << 20));
    });
}

#[test]
fn the_limits_of_the_process_are_named() {
    isolated!(|| {
        let set = |resource, value| {
            let limit = Rlimit {
                current: Some(value),
                maximum: rustix::process::getrlimit(resource).maximum,
            };
            setrlimit(resource, limit).unwrap();
        };
        peer(|| {
            // Also who may not look at the root.
            support::mount_tmpfs("/dev/shm", "mode=0700");
            std::os::unix::fs::chroot("/dev/shm").unwrap();
            std::env::set_current_dir("/").unwrap();
            // The limit is of a user, in all IPC namespaces: where we may, be one that nobody else is.
            let nobody_else = rustix::process::Uid::from_raw(0x1000_0000 + std::process::id());
            let _ = rustix::thread::set_thread_uid(nobody_else);
            set(Resource::Msgqueue, 2000);
            assert_eq!(
                refused(3, 1000),
                (Some(Errno::MFILE), 2000, "RLIMIT_MSGQUEUE")
            );
            drop(small());
        })
        .join();
        peer(|| {
            let fd = File::open("/").unwrap();
            let used = std::os::fd::AsRawFd::as_raw_fd(&fd) as u64;
            drop(fd);
            set(Resource::Nofile, used);
            assert_eq!(refused(1, 1), (Some(Errno::MFILE), used, "RLIMIT_NOFILE"));
        })
        .join();
    });
}
