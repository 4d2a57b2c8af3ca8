//! System V message queues between two processes.

mod support;

use std::time::Duration;

use linipc::sysv::msg::{OpenOptions, Queue, Select};
use linipc::sysv::{Key, Owner};
use linipc_core::Errno;
use linipc_core::sysv::msg::{self, Message, Receive, Send};
use linipc_core::sysv::{Create, Mode, Visibility};
use support::{peer, until_asleep};

const KEY: Key = Key::new(0x6c69_6e69);

fn rw() -> Mode {
    Mode::RUSR | Mode::WUSR
}

/// The text of the message that `select` takes now.
fn take(id: msg::Id, select: Select) -> Result<Vec<u8>, Errno> {
    let mut message = Message::new(0, [0; 64]);
    let len = msg::receive(id, &mut message, select, Receive::NOWAIT)?;
    Ok(message.text[..len].to_vec())
}

#[test]
fn each_selection_takes_its_message() {
    isolated!(|| {
        let id = msg::get(KEY, Create::Exclusive(rw())).unwrap();
        peer(|| {
            let id = msg::get(KEY, Create::No).unwrap();
            for (kind, text) in [
                (5, b"five"),
                (3, b"thre"),
                (9, b"nine"),
                (3, b"more"),
                (7, b"sevn"),
            ] {
                msg::send(id, &Message::new(kind, *text), Send::empty()).unwrap();
            }
        })
        .join();
        assert_eq!(take(id, Select::Type(9)).unwrap(), b"nine");
        assert_eq!(take(id, Select::UpTo(6)).unwrap(), b"thre");
        assert_eq!(take(id, Select::Except(5)).unwrap(), b"more");
        assert_eq!(take(id, Select::First).unwrap(), b"five");
        assert_eq!(take(id, Select::UpTo(6)), Err(Errno::NOMSG));
        assert_eq!(take(id, Select::First).unwrap(), b"sevn");
        assert_eq!(take(id, Select::First), Err(Errno::NOMSG));
        msg::remove(id).unwrap();
    });
}

#[test]
fn a_selection_of_no_type_is_refused() {
    isolated!(|| {
        let id = msg::get(Key::PRIVATE, Create::Exclusive(rw())).unwrap();
        msg::send(id, &Message::new(1, *b"stays"), Send::empty()).unwrap();
        for kind in [0, -1] {
            assert_eq!(take(id, Select::Type(kind)), Err(Errno::INVAL));
            assert_eq!(take(id, Select::UpTo(kind)), Err(Errno::INVAL));
            assert_eq!(take(id, Select::Except(kind)), Err(Errno::INVAL));
        }
        let unsendable = Message::new(0, *b"type 0");
        assert_eq!(msg::send(id, &unsendable, Send::NOWAIT), Err(Errno::INVAL));
        assert_eq!(take(id, Select::First).unwrap(), b"stays");
        msg::remove(id).unwrap();
    });
}

#[test]
fn a_message_too_long_stays_and_is_cut_only_on_demand() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        queue.send(4, b"twelve bytes").unwrap();
        let mut small = [0; 6];
        let error = queue.receive(Select::First, &mut small).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::TOOBIG.raw_os_error()));
        assert_eq!(
            queue.peek(0, &mut small).unwrap_err().raw_os_error(),
            error.raw_os_error()
        );
        assert_eq!(queue.stat().unwrap().messages, 1);

        let received = queue.receive_truncated(Select::First, &mut small).unwrap();
        assert_eq!((received.kind, received.len, &small), (4, 6, b"twelve"));
        assert_eq!(queue.stat().unwrap().messages, 0);
    });
}

#[test]
fn peek_copies_the_nth_message_and_leaves_it() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let id = queue.id();
        peer(|| {
            let queue = Queue::from_id(id);
            queue.send(1, b"first").unwrap();
            queue.send(2, b"second").unwrap();
        })
        .join();
        let mut text = [0; 16];
        for _ in 0..2 {
            match queue.peek(1, &mut text) {
                Err(error) if error.raw_os_error() == Some(Errno::NOSYS.raw_os_error()) => {
                    return support::skip("MSG_COPY: this kernel has no CONFIG_CHECKPOINT_RESTORE");
                }
                peeked => assert_eq!(peeked.unwrap().kind, 2),
            }
            assert_eq!(&text[..6], b"second");
        }
        let error = queue.peek(2, &mut text).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::NOMSG.raw_os_error()));
        assert_eq!(queue.stat().unwrap().messages, 2);
        peer(|| {
            let mut text = [0; 16];
            let received = Queue::from_id(id).receive(Select::First, &mut text);
            assert_eq!((received.unwrap().kind, &text[..5]), (1, &b"first"[..]));
        })
        .join();
        assert_eq!(queue.peek(0, &mut text).unwrap().kind, 2, "it moved up");
    });
}

#[test]
fn empty_messages_and_messages_of_the_largest_size_arrive() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let max = msg::limits().unwrap().message_bytes;
        let largest: Vec<u8> = (0..max).map(|i| i as u8).collect();
        let id = queue.id();
        let sender = peer(|| {
            let queue = Queue::from_id(id);
            queue.send(1, b"").unwrap();
            queue.send(2, &largest).unwrap();
        });
        let mut text = vec![0; max];
        assert_eq!(queue.receive(Select::First, &mut text).unwrap().len, 0);
        assert_eq!(queue.receive(Select::First, &mut text).unwrap().len, max);
        assert_eq!(text, largest);
        sender.join();
    });
}

#[test]
fn a_receiver_sleeps_until_its_type_comes() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let id = queue.id();
        let receiver = peer(|| {
            let mut text = [0; 16];
            let received = Queue::from_id(id)
                .receive(Select::Type(8), &mut text)
                .unwrap();
            assert_eq!(&text[..received.len], b"wake up");
        });
        until_asleep(receiver.pid());
        queue.send(7, b"not for you").unwrap();
        queue.send(8, b"wake up").unwrap();
        receiver.join();
        assert_eq!(queue.stat().unwrap().messages, 1);
    });
}

#[test]
fn a_full_queue_refuses_or_times_out_and_loses_nothing() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let stat = queue.stat().unwrap();
        let half = vec![7; stat.max_bytes / 2];
        queue.send(1, &half).unwrap();
        queue.send(1, &half).unwrap();
        let error = queue.try_send(1, b"x").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::AGAIN.raw_os_error()));
        let soon = Duration::from_millis(5);
        let error = queue.send_deadline(1, b"x", soon).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let mut text = [0; 1];
        let error = queue
            .receive_deadline(Select::Type(2), &mut text, soon)
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        let stat = queue.stat().unwrap();
        assert_eq!((stat.messages, stat.bytes), (2, stat.max_bytes));
    });
}

#[test]
fn a_deadline_call_ends_when_a_peer_makes_it_possible() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let id = queue.id();
        let sender = peer(|| {
            std::thread::sleep(Duration::from_millis(20));
            Queue::from_id(id).send(1, b"late").unwrap();
        });
        let mut text = [0; 8];
        let received = queue
            .receive_deadline(Select::First, &mut text, support::PATIENCE)
            .unwrap();
        assert_eq!(&text[..received.len], b"late");
        sender.join();
    });
}

#[test]
fn removal_wakes_who_waits() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let id = queue.id();
        let receiver = peer(|| {
            let error = Queue::from_id(id)
                .receive(Select::First, &mut [0; 8])
                .unwrap_err();
            assert_eq!(error.raw_os_error(), Some(Errno::IDRM.raw_os_error()));
        });
        until_asleep(receiver.pid());
        queue.remove().unwrap();
        receiver.join();
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        assert_eq!(msg::get(KEY, Create::No), Err(Errno::NOENT));
        let made = msg::get(KEY, Create::Open(rw())).unwrap();
        assert_eq!(msg::get(KEY, Create::Open(rw())), Ok(made));
        assert_eq!(msg::get(KEY, Create::Exclusive(rw())), Err(Errno::EXIST));
        assert_eq!(msg::get(Key::PRIVATE, Create::No), Err(Errno::NOENT));
        for (id, _) in linipc::sysv::msg::list().unwrap() {
            msg::remove(id).unwrap();
        }
        assert_eq!(msg::remove(made), Err(Errno::INVAL));
    });
}

#[test]
fn stat_tells_who_did_what() {
    isolated!(|| {
        let id = msg::get(KEY, Create::Exclusive(Mode::RUSR | Mode::WUSR | Mode::RGRP)).unwrap();
        let before = msg::stat(id).unwrap();
        assert_eq!(before.permissions.key, KEY);
        assert_eq!(
            before.permissions.mode,
            Mode::RUSR | Mode::WUSR | Mode::RGRP
        );
        assert_eq!(
            (before.last_send, before.last_receive, before.last_sender),
            (None, None, 0)
        );
        assert!(before.last_change.is_some());
        let sender = peer(|| msg::send(id, &Message::new(1, *b"12345"), Send::empty()).unwrap());
        let sender_pid = sender.pid();
        sender.join();
        let after = msg::stat(id).unwrap();
        assert_eq!(
            (after.messages, after.bytes, after.last_sender),
            (1, 5, sender_pid)
        );
        assert!(after.last_send.is_some());
        take(id, Select::First).unwrap();
        assert_eq!(
            msg::stat(id).unwrap().last_receiver,
            std::process::id() as i32
        );
        msg::remove(id).unwrap();
        assert_eq!(msg::stat(id), Err(Errno::INVAL));
    });
}

#[test]
fn a_try_that_would_wait_is_would_block() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        queue
            .set(queue.stat().unwrap().permissions.into(), 1)
            .unwrap();
        queue.try_send(1, b"x").unwrap();
        let would_block = |error: std::io::Error| {
            assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        };
        would_block(queue.try_send(1, b"y").unwrap_err());
        let mut text = [0; 1];
        would_block(queue.try_receive(Select::Type(2), &mut text).unwrap_err());
        queue.try_receive(Select::Type(1), &mut text).unwrap();
        would_block(queue.try_receive(Select::First, &mut text).unwrap_err());
    });
}

#[test]
fn set_changes_mode_and_size() {
    isolated!(|| {
        let queue = Queue::private().unwrap();
        let owner = Owner {
            mode: Mode::RUSR,
            ..queue.stat().unwrap().permissions.into()
        };
        queue.set(owner, 100).unwrap();
        let stat = queue.stat().unwrap();
        assert_eq!((stat.permissions.mode, stat.max_bytes), (Mode::RUSR, 100));
        assert!(queue.try_send(1, &[0; 101]).is_err());
        queue.try_send(1, &[0; 100]).unwrap();
    });
}

#[test]
fn enumeration_shows_every_queue() {
    isolated!(|| {
        let queues: Vec<Queue> = (0..3).map(|_| Queue::private().unwrap()).collect();
        queues[1].send(1, b"1234").unwrap();
        let mut listed: Vec<_> = linipc::sysv::msg::list().unwrap();
        listed.sort_by_key(|(id, _)| id.number());
        let ids: Vec<_> = listed.iter().map(|(id, _)| *id).collect();
        let mut expected: Vec<_> = queues.iter().map(Queue::id).collect();
        expected.sort_by_key(|id| id.number());
        assert_eq!(ids, expected);
        let usage = msg::usage().unwrap();
        assert_eq!((usage.queues, usage.messages, usage.bytes), (3, 1, 4));
        let readable = msg::stat_index(0, Visibility::Readable).unwrap();
        assert!(expected.contains(&readable.0));
        assert_eq!(
            msg::stat_index(usage.highest_index + 1, Visibility::Any),
            Err(Errno::INVAL)
        );
        assert_eq!(
            msg::stat_index(usize::MAX, Visibility::Any),
            Err(Errno::INVAL)
        );
    });
}

#[test]
fn a_limit_is_named() {
    isolated!(|| {
        use linipc::error::{Limit, errno};
        let limit =
            |error: &std::io::Error| *error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
        std::fs::write("/proc/sys/kernel/msgmni", "2").unwrap();
        let queues = [Queue::private().unwrap(), Queue::private().unwrap()];
        let error = Queue::private().unwrap_err();
        assert_eq!(
            (limit(&error).setting, limit(&error).value),
            ("kernel.msgmni", 2)
        );
        assert_eq!(errno(&error), Some(Errno::NOSPC));
        assert!(
            error
                .to_string()
                .ends_with("at most 2 message queues (kernel.msgmni)")
        );

        std::fs::write("/proc/sys/kernel/msgmax", "10").unwrap();
        let error = queues[0].send(1, &[0; 11]).unwrap_err();
        assert_eq!(
            (limit(&error).setting, limit(&error).value),
            ("kernel.msgmax", 10)
        );
        let error = queues[0].send(0, b"").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    });
}

#[test]
fn a_handle_removes_its_queue_or_lets_it_live() {
    isolated!(|| {
        drop(
            OpenOptions::new()
                .create_new(true)
                .remove_on_drop(true)
                .open(KEY)
                .unwrap(),
        );
        assert!(Queue::open(KEY).is_err());
        drop(OpenOptions::new().create(true).open(KEY).unwrap());
        drop(Queue::open(KEY).unwrap());
        let mut queue = OpenOptions::new().remove_on_drop(true).open(KEY).unwrap();
        queue.persist();
        drop(queue);
        Queue::open(KEY).unwrap().remove().unwrap();
        assert!(Queue::open(KEY).is_err());
    });
}

#[test]
fn caller_given_words_carry_any_length() {
    assert!(Message::from_words(&mut [], 0).is_none());
    assert!(Message::from_words(&mut [0; 2], 2 * size_of::<usize>()).is_none());
    let words = &mut [0; 3];
    let message = Message::from_words(words, size_of::<usize>() + 1).unwrap();
    assert_eq!(
        (message.text.len(), size_of_val(message)),
        (size_of::<usize>() + 1, 3 * size_of::<usize>())
    );
}
