//! Descriptors, credentials and process descriptors between two processes, over Unix sockets.

mod support;

use std::fs::{self, File};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use linipc::error::{Limit, errno};
use linipc::event::pidfd::PidFd;
use linipc::socket::cmsg::{CmsgExt, ListError};
use linipc::socket::unix::{Seqpacket, UnixExt, autobind_datagram};
use linipc_core::Errno;
use linipc_core::io::{FdFlags, fcntl_getfd};
use linipc_core::socket::cmsg::{
    Control, Error, MAX_FDS, Message, Messages, Raw, RawMessage, SPACE_CREDENTIALS, SPACE_PIDFD,
    recvmsg, recvmsg_unparsed, sendmsg, space, space_fds,
};
use linipc_core::socket::fd_list::{Receiver, Sender};
use linipc_core::socket::mmsg::{self, Incoming, Outgoing};
use linipc_core::socket::unix::{self, Credentials};
use linipc_core::socket::{RecvFlags, ReturnFlags, SendFlags, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{peer, until_asleep};

const KINDS: [SocketType; 3] = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM];

/// How many descriptors this process has open.
fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// `count` files, each with its number as its size.
fn files(count: usize) -> Vec<OwnedFd> {
    // Without privileges it bounds what all tests of this user have in flight together.
    raise_limit();
    (0..count)
        .map(|i| {
            let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            rustix::fs::ftruncate(&file, i as u64).unwrap();
            file
        })
        .collect()
}

/// Asserts that these are the descriptors of `files(count)`, in order and close-on-exec.
fn check_files(fds: &[OwnedFd], count: usize) {
    assert_eq!(fds.len(), count);
    for (i, fd) in fds.iter().enumerate() {
        assert_eq!(rustix::fs::fstat(fd).unwrap().st_size, i as i64);
        assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
    }
}

/// As many descriptors as the system lets this process have.
fn raise_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    limit_fds(maximum);
}

fn limit_fds(current: Option<u64>) {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
}

fn drop_privileges() {
    let none = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets).unwrap();
}

/// Sends `data` with `fds` in one message.
fn send(socket: impl AsFd, data: &[u8], fds: &[OwnedFd]) -> Result<usize, Errno> {
    let mut words = [0; space_fds(300)];
    let mut control = Control::new(&mut words);
    control.push_fds(fds)?;
    sendmsg(socket, &[IoSlice::new(data)], &control, SendFlags::NOSIGNAL)
}

/// Receives with a control buffer of `words`; gives how many bytes, and the descriptors.
fn receive(socket: impl AsFd, words: usize) -> Result<(usize, Vec<OwnedFd>), Error> {
    let (mut bytes, mut words) = ([0; 64], vec![0; words]);
    let data = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(socket, data, &mut words, RecvFlags::empty())?;
    let mut fds = Vec::new();
    for message in received.control {
        if let Message::Rights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok((received.bytes, fds))
}

fn inner<T: std::error::Error + Copy + 'static>(error: &io::Error) -> T {
    *error.get_ref().unwrap().downcast_ref::<T>().unwrap()
}

#[test]
fn one_message_carries_none_one_or_253_descriptors() {
    isolated!(|| {
        for kind in KINDS {
            let (a, b) = unix::pair(kind).unwrap();
            let sender = peer(|| {
                let files = files(MAX_FDS + 1);
                for count in [1, MAX_FDS, 0] {
                    assert_eq!(send(&a, b"with", &files[..count]), Ok(4));
                }
                assert_eq!(send(&a, b"with", &files), Err(Errno::INVAL));
            });
            for count in [1, MAX_FDS, 0] {
                let (len, fds) = receive(&b, space_fds(MAX_FDS)).unwrap();
                assert_eq!(len, 4);
                check_files(&fds, count);
            }
            sender.join();
        }
    });
}

#[test]
fn a_buffer_for_too_few_is_an_error_and_leaks_nothing() {
    isolated!(|| {
        for credentials in [false, true] {
            let (a, b) = unix::pair(SocketType::SEQPACKET).unwrap();
            unix::set_pass_credentials(&b, credentials).unwrap();
            let enough = space_fds(8) + if credentials { SPACE_CREDENTIALS } else { 0 };
            let files = files(8);
            let before = open_fds();
            for room in 0..enough {
                send(&a, b"x", &files).unwrap();
                assert_eq!(receive(&b, room).unwrap_err(), Error::Truncated, "{room}");
                assert_eq!(open_fds(), before);
            }
            send(&a, b"x", &files).unwrap();
            check_files(&receive(&b, enough).unwrap().1, 8);
            assert_eq!(open_fds(), before);
        }
    });
}

#[test]
fn the_handles_enforce_the_number_exactly() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let files = files(8);
        let before = open_fds();
        for max in 0..8 {
            a.send_with_fds(b"x", &files[..=max]).unwrap();
            let error = b.recv_with_fds(&mut [0; 8], max).unwrap_err();
            assert_eq!(inner::<Error>(&error), Error::Truncated);
            assert_eq!(open_fds(), before);
            a.send_with_fds(b"x", &files[..max]).unwrap();
            check_files(&b.recv_with_fds(&mut [0; 8], max).unwrap().fds, max);
        }
    });
}

#[test]
fn a_receiver_at_its_limit_gets_an_error_and_leaks_nothing() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let files = files(5);
        let before = open_fds();
        for count in 0..5 {
            for room in [space_fds(5), space_fds(100)] {
                raise_limit();
                send(&a, b"x", &files).unwrap();
                leave_free(count);
                assert_eq!(receive(&b, room).unwrap_err(), Error::Refused, "{count}");
                raise_limit();
                assert_eq!(open_fds(), before);
            }
        }
        a.send_with_fds(b"x", &files).unwrap();
        leave_free(0);
        let value = getrlimit(Resource::Nofile).current.unwrap();
        let error = b.recv_with_fds(&mut [0; 8], 5).unwrap_err();
        raise_limit();
        assert_eq!(errno(&error), Some(Errno::MFILE));
        let limit: Limit = inner(&error);
        assert_eq!((limit.setting, limit.value), ("RLIMIT_NOFILE", value));
        assert_eq!(open_fds(), before);
    });
}

/// Lowers the limit so that `count` more descriptors can be opened.
fn leave_free(count: usize) {
    let is_free = |n: &u64| fs::symlink_metadata(format!("/proc/self/fd/{n}")).is_err();
    limit_fds((0..).filter(is_free).nth(count));
}

/// Asks for descriptors of senders; whether the kernel has them.
fn passes_pidfds(socket: impl AsFd) -> bool {
    match unix::set_pass_pidfd(socket, true) {
        Err(Errno::NOPROTOOPT) => {
            support::skip("this kernel has no SO_PASSPIDFD");
            false
        }
        done => {
            done.unwrap();
            true
        }
    }
}

#[test]
fn messages_that_are_not_taken_out_are_closed() {
    isolated!(|| {
        let (a, b) = unix::pair(SocketType::SEQPACKET).unwrap();
        if !passes_pidfds(&b) {
            return;
        }
        let files = files(4);
        let before = open_fds();
        let (mut bytes, mut words) = ([0; 8], [0; space_fds(4) + SPACE_PIDFD]);
        for taken in 0..4 {
            send(&a, b"x", &files).unwrap();
            let data = &mut [IoSliceMut::new(&mut bytes)];
            let mut received = recvmsg(&b, data, &mut words, RecvFlags::empty()).unwrap();
            assert_eq!(open_fds(), before + 5);
            if taken > 0 {
                let Some(Message::Rights(mut fds)) = received.control.next() else {
                    panic!("descriptors come first");
                };
                assert_eq!(fds.len(), 4);
                let kept: Vec<_> = fds.by_ref().take(taken).collect();
                assert_eq!(fds.len(), 4 - taken);
                drop(fds);
                assert_eq!(open_fds(), before + 1 + kept.len());
            }
            drop(received);
            assert_eq!(open_fds(), before);
        }
    });
}

#[test]
fn each_look_makes_duplicates_of_its_own() {
    isolated!(|| {
        let (a, b) = unix::pair(SocketType::DGRAM).unwrap();
        send(&a, b"x", &files(1)).unwrap();
        let before = open_fds();
        for flags in [RecvFlags::PEEK, RecvFlags::PEEK, RecvFlags::empty()] {
            let (mut bytes, mut words) = ([0; 8], [0; space_fds(1)]);
            let data = &mut [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&b, data, &mut words, flags).unwrap();
            assert_eq!((received.bytes, open_fds()), (1, before + 1));
        }
        assert_eq!(open_fds(), before);
    });
}

/// The process that a process descriptor means: 0 is not seen, -1 is reaped.
fn pid_of(pidfd: &impl AsRawFd) -> i32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    pid.unwrap().trim().parse().unwrap()
}

/// Whether the kernel gives a descriptor of a process that was reaped already.
fn knows_the_dead() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|n| n.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(16))
}

#[test]
fn a_process_descriptor_means_the_sender_also_when_it_is_dead() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        if !passes_pidfds(&b) {
            return;
        }
        assert_eq!(unix::pass_pidfd(&b), Ok(true));
        assert_eq!(unix::pass_pidfd(&a), Ok(false));
        let sender = peer(|| {
            (&a).write_all(b"alive").unwrap();
            (&a).read_exact(&mut [0]).unwrap();
            (&a).write_all(b"dead").unwrap();
        });
        let pid = sender.pid();
        let mut text = [0; 8];
        let received = b.recv_with_fds(&mut text, 0).unwrap();
        let pidfd = received.pidfd.unwrap().unwrap();
        assert_eq!(
            (&text[..received.len], pid_of(&pidfd)),
            (&b"alive"[..], pid)
        );
        assert!(fcntl_getfd(&pidfd).unwrap().contains(FdFlags::CLOEXEC));
        (&b).write_all(b"!").unwrap();
        sender.join();
        let received = b.recv_with_fds(&mut text, 0).unwrap();
        assert_eq!(&text[..received.len], b"dead");
        match received.pidfd.unwrap() {
            Ok(dead) => {
                assert_eq!(pid_of(&dead), -1);
                let inode = |fd: &PidFd| rustix::fs::fstat(fd).unwrap().st_ino;
                assert_eq!(inode(&dead), inode(&pidfd));
            }
            Err(error) => {
                assert!(!knows_the_dead());
                // Linux 6.12 says INVAL.
                let why = errno(&error);
                assert!(matches!(why, Some(Errno::SRCH | Errno::INVAL)), "{why:?}");
            }
        }
    });
}

#[test]
fn a_process_descriptor_without_room_or_a_free_number_is_an_error() {
    isolated!(|| {
        let (a, b) = unix::pair(SocketType::DGRAM).unwrap();
        if !passes_pidfds(&b) {
            return;
        }
        let before = open_fds();
        send(&a, b"x", &[]).unwrap();
        assert_eq!(receive(&b, SPACE_PIDFD - 1).unwrap_err(), Error::Truncated);
        assert_eq!(open_fds(), before);

        send(&a, b"x", &[]).unwrap();
        leave_free(0);
        let (mut bytes, mut words) = ([0; 8], [0; SPACE_PIDFD]);
        let data = &mut [IoSliceMut::new(&mut bytes)];
        let mut received = recvmsg(&b, data, &mut words, RecvFlags::empty()).unwrap();
        let Some(Message::Pidfd(pidfd)) = received.control.next() else {
            panic!("a process descriptor was expected");
        };
        raise_limit();
        assert_eq!(pidfd.unwrap_err(), Errno::MFILE);
    });
}

#[test]
fn credentials_are_true_and_lies_are_refused() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_pass_credentials(true).unwrap();
        assert_eq!(unix::pass_credentials(&b), Ok(true));
        let sender = peer(|| {
            (&a).write_all(b"silent").unwrap();
            let truth = Credentials::current();
            assert_eq!(truth.pid as u32, std::process::id());
            (&a).read_exact(&mut [0]).unwrap();
            a.send_with_credentials(b"said", truth).unwrap();
            drop_privileges();
            for lie in [
                Credentials { pid: 1, ..truth },
                Credentials {
                    uid: 12345,
                    ..truth
                },
                Credentials {
                    gid: 12345,
                    ..truth
                },
            ] {
                let error = a.send_with_credentials(b"lie", lie).unwrap_err();
                // Ids that a user namespace does not know are invalid rather than forbidden.
                assert!(matches!(errno(&error), Some(Errno::PERM | Errno::INVAL)));
            }
        });
        let truth = Credentials {
            pid: sender.pid(),
            ..Credentials::current()
        };
        for _ in 0..2 {
            let received = b.recv_with_fds(&mut [0; 64], 0).unwrap();
            assert_eq!(received.credentials, Some(truth));
            let _ = (&b).write_all(b"!");
        }
        sender.join();
    });
}

#[test]
fn all_kinds_come_in_one_message() {
    isolated!(|| {
        let (a, b) = unix::pair(SocketType::SEQPACKET).unwrap();
        unix::set_pass_credentials(&b, true).unwrap();
        if !passes_pidfds(&b) {
            return;
        }
        let sender = peer(|| {
            let files = files(3);
            let mut words = [0; space_fds(3) + SPACE_CREDENTIALS];
            let mut control = Control::new(&mut words);
            control.push_fds(&files).unwrap();
            control.push_credentials(Credentials::current()).unwrap();
            assert_eq!(control.push(1, 99, b""), Err(Errno::NOBUFS));
            sendmsg(&a, &[IoSlice::new(b"all")], &control, SendFlags::NOSIGNAL).unwrap();
        });
        let (mut bytes, mut words) = ([0; 8], [0; space_fds(3) + SPACE_CREDENTIALS + SPACE_PIDFD]);
        let data = &mut [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&b, data, &mut words, RecvFlags::empty()).unwrap();
        let mut seen = [false; 3];
        for message in received.control {
            match message {
                Message::Rights(fds) => {
                    check_files(&fds.collect::<Vec<_>>(), 3);
                    seen[0] = true;
                }
                Message::Credentials(who) => {
                    assert_eq!(who.pid, sender.pid());
                    seen[1] = true;
                }
                Message::Pidfd(pidfd) => {
                    assert_eq!(pid_of(&pidfd.unwrap()), sender.pid());
                    seen[2] = true;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [true; 3]);
        sender.join();
    });
}

#[test]
fn what_was_cut_off_is_told() {
    for kind in [SocketType::DGRAM, SocketType::SEQPACKET] {
        let (a, b) = unix::pair(kind).unwrap();
        for (flags, len) in [(RecvFlags::empty(), 4), (RecvFlags::TRUNC, 6)] {
            send(&a, b"longer", &[]).unwrap();
            let mut bytes = [0; 4];
            let data = &mut [IoSliceMut::new(&mut bytes)];
            let received = recvmsg(&b, data, &mut [], flags).unwrap();
            assert!(received.flags.contains(ReturnFlags::TRUNC));
            assert_eq!((received.bytes, &bytes), (len, b"long"));
        }
        send(&a, b"fits", &[]).unwrap();
        let mut bytes = [0; 4];
        let data = &mut [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&b, data, &mut [], RecvFlags::empty()).unwrap();
        assert!(!received.flags.contains(ReturnFlags::TRUNC));
        send(&a, b"longer", &[]).unwrap();
        let received = b.recv_with_fds(&mut bytes, 0).unwrap();
        assert_eq!((received.len, received.truncated), (4, true));
    }
}

#[test]
fn control_data_can_be_left_to_the_caller() {
    isolated!(|| {
        // Length, level and type.
        const HEADER: usize = size_of::<usize>() + 8;
        let before = open_fds();
        let sent = files(2);
        let (a, b) = unix::pair(SocketType::SEQPACKET).unwrap();
        for (flags, closes) in [(RecvFlags::CMSG_CLOEXEC, true), (RecvFlags::empty(), false)] {
            // Room for none, for one, and for both, and more.
            for (room, fit) in [(0, 0), (HEADER + 4, 1), (HEADER + 8, 2), (HEADER + 64, 2)] {
                send(&a, b"longer", &sent).unwrap();
                let (mut bytes, mut room) = ([0; 4], vec![0; room]);
                let data = &mut [IoSliceMut::new(&mut bytes)];
                let received = recvmsg_unparsed(&b, data, &mut room, flags).unwrap();
                assert_eq!((received.bytes, &bytes), (4, b"long"));
                assert!(received.flags.contains(ReturnFlags::TRUNC));
                assert_eq!(received.flags.contains(ReturnFlags::CTRUNC), fit < 2);
                let written = if fit == 0 { 0 } else { HEADER + 4 * fit };
                assert_eq!(received.control, written);
                // SAFETY: The kernel wrote them, and they are parsed this once.
                let messages = unsafe { Messages::new(&room[..received.control]) };
                let mut fds = Vec::new();
                for message in messages {
                    match message {
                        Message::Rights(rights) => fds.extend(rights),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(fds.len(), fit);
                for (i, fd) in fds.iter().enumerate() {
                    assert_eq!(rustix::fs::fstat(fd).unwrap().st_size, i as i64);
                    assert_eq!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC), closes);
                }
            }
        }
        let nothing = recvmsg_unparsed(&b, &mut [], &mut [], RecvFlags::DONTWAIT);
        assert_eq!(nothing.unwrap_err(), Errno::AGAIN);
        drop((sent, a, b));
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn descriptors_go_with_an_empty_datagram_but_not_with_an_empty_stream() {
    isolated!(|| {
        let files = files(2);
        let (a, b) = unix::pair(SocketType::DGRAM).unwrap();
        assert_eq!(a.send_with_fds(b"", &files).unwrap(), 0);
        let received = b.recv_with_fds(&mut [0; 8], 2).unwrap();
        assert_eq!(received.len, 0);
        check_files(&received.fds, 2);

        let (a, b) = UnixStream::pair().unwrap();
        let error = a.send_with_fds(b"", &files).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL));
        assert_eq!(a.send_with_fds(b"", &files[..0]).unwrap(), 0);
        // This is what the handles protect from.
        assert_eq!(send(&a, b"", &files), Ok(0));
        drop(a);
        assert_eq!(receive(&b, space_fds(2)).unwrap().1.len(), 0);
    });
}

#[test]
fn forged_descriptors_cannot_be_pushed() {
    let mut words = [0; 32];
    let mut control = Control::new(&mut words);
    assert_eq!(control.push(1, 1, &3_i32.to_ne_bytes()), Err(Errno::INVAL));
    // SOL_RDS, whose payloads are addresses.
    assert_eq!(control.push(276, 2, &[0; 8]), Err(Errno::INVAL));
    assert_eq!(control.push(1, 3, &[0; 1000]), Err(Errno::NOBUFS));
    assert_eq!(Control::default().push_fds(&files(1)), Err(Errno::NOBUFS));
    assert_eq!(Control::default().push_fds(&files(0)), Ok(()));
}

#[test]
fn a_datagram_tells_who_sent_it() {
    let server = autobind_datagram().unwrap();
    let client = autobind_datagram().unwrap();
    let address = server.local_addr().unwrap();
    client
        .send_with_fds_to(b"hello", &files(1), &address)
        .unwrap();
    let received = server.recv_with_fds(&mut [0; 8], 1).unwrap();
    assert_eq!((received.len, received.fds.len()), (5, 1));
    let sender = received.address.unwrap();
    assert_eq!(
        format!("{sender:?}"),
        format!("{:?}", client.local_addr().unwrap())
    );
    server.send_with_fds_to(b"hi", &files(0), &sender).unwrap();
    assert_eq!(client.recv_with_fds(&mut [0; 8], 0).unwrap().len, 2);
}

#[test]
fn deadlines_end_the_wait() {
    let (a, b) = UnixStream::pair().unwrap();
    let soon = Duration::from_millis(5);
    let late = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    late(b.recv_with_fds_deadline(&mut [0; 8], 1, soon).unwrap_err());
    late(b.recv_fds_deadline(1, soon).unwrap_err());
    while a
        .send_with_fds_deadline(&[0; 4096], &files(1), soon)
        .is_ok()
    {}
    late(
        a.send_with_fds_deadline(&[0; 4096], &files(1), soon)
            .unwrap_err(),
    );
    late(a.send_fds_deadline(&files(1), soon).unwrap_err());
    let received = b.recv_with_fds_deadline(&mut [0; 8], 1, soon).unwrap();
    assert_eq!((received.len, received.fds.len()), (8, 1));
}

#[test]
fn a_deadline_call_ends_when_a_peer_makes_it_possible() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let receiver = peer(|| {
            let received = b
                .recv_with_fds_deadline(&mut [0; 8], 1, support::PATIENCE)
                .unwrap();
            check_files(&received.fds, 1);
            check_files(&b.recv_fds_deadline(300, support::PATIENCE).unwrap(), 300);
        });
        until_asleep(receiver.pid());
        a.send_with_fds_deadline(b"x", &files(1), support::PATIENCE)
            .unwrap();
        until_asleep(receiver.pid());
        a.send_fds_deadline(&files(300), support::PATIENCE).unwrap();
        receiver.join();
    });
}

#[test]
fn a_list_of_any_length_is_one_list() {
    isolated!(|| {
        raise_limit();
        for kind in KINDS {
            for nonblocking in [false, true] {
                let (a, b) = unix::pair(kind).unwrap();
                rustix::io::ioctl_fionbio(&a, nonblocking).unwrap();
                rustix::io::ioctl_fionbio(&b, nonblocking).unwrap();
                let counts = [0, 1, MAX_FDS, MAX_FDS + 1, 1000, 2 * MAX_FDS];
                let sender = peer(|| {
                    for count in counts {
                        a.send_fds(&files(count)).unwrap();
                    }
                });
                for count in counts {
                    check_files(&b.recv_fds(count).unwrap(), count);
                }
                sender.join();
            }
        }
    });
}

#[test]
fn a_receiver_of_a_list_may_pass_credentials() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        b.set_pass_credentials(true).unwrap();
        if !passes_pidfds(&b) {
            return;
        }
        let sender = peer(|| a.send_fds(&files(300)).unwrap());
        let before = open_fds();
        let fds = b.recv_fds(300).unwrap();
        check_files(&fds, 300);
        assert_eq!(open_fds(), before + 300);
        sender.join();
    });
}

#[test]
fn a_list_over_the_limit_is_refused_and_leaks_nothing() {
    isolated!(|| {
        for kind in KINDS {
            let (a, b) = unix::pair(kind).unwrap();
            let files = files(300);
            let before = open_fds();
            a.send_fds(&files).unwrap();
            let error = b.recv_fds(299).unwrap_err();
            assert_eq!(inner::<ListError>(&error), ListError::TooLong { len: 300 });
            assert_eq!(open_fds(), before);
        }
    });
}

#[test]
fn a_sender_that_is_killed_within_a_list_leaves_nothing() {
    isolated!(|| {
        for kind in KINDS {
            let (a, b) = unix::pair(kind).unwrap();
            let before = open_fds();
            let (mut told, mut tell) = io::pipe().unwrap();
            let sender = peer(|| {
                let files = files(300);
                let mut sender = Sender::new(&files).unwrap();
                assert_eq!(sender.step(&a, SendFlags::empty()), Ok(false));
                tell.write_all(b"!").unwrap();
                loop {
                    std::thread::park();
                }
            });
            drop((a, tell));
            told.read_exact(&mut [0]).unwrap();
            drop(told);
            sender.kill();
            let error = b
                .recv_fds_deadline(300, Duration::from_millis(50))
                .unwrap_err();
            if kind == SocketType::DGRAM {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            } else {
                assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
                assert_eq!(inner::<ListError>(&error), ListError::Closed);
            }
            assert_eq!(
                open_fds(),
                before - 1,
                "only the other end of the socket is gone"
            );
        }
    });
}

#[test]
fn a_list_at_the_limit_of_descriptors_is_an_error_and_leaks_nothing() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let files = files(300);
        let before = open_fds();
        a.send_fds(&files).unwrap();
        leave_free(280);
        let error = b.recv_fds(300).unwrap_err();
        raise_limit();
        assert_eq!(errno(&error), Some(Errno::MFILE));
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn hostile_parts_of_a_list_are_corrupt_and_leak_nothing() {
    isolated!(|| {
        let files = files(260);
        let part = |total: u32, start: u32| [total.to_le_bytes(), start.to_le_bytes()].concat();
        let first = (part(300, 0), 253);
        let ends_at_first: [(Vec<u8>, usize); 9] = [
            // Right, if what is missing were zeros.
            (vec![2, 0, 0, 0], 2),
            (part(2, 0), 1),
            (part(2, 0), 3),
            (part(2, 0), 0),
            (part(0, 0), 1),
            (part(2, 2), 0),
            (part(300, 253), 47),
            (part(300, 0), 252),
            (b"nonsense".to_vec(), 2),
        ];
        let ends_at_second: [(Vec<u8>, usize); 6] = [
            (part(301, 253), 48),
            (part(300, 0), 253),
            (part(300, 252), 48),
            (part(300, 253), 46),
            (part(300, 253), 48),
            (part(u32::MAX, u32::MAX), 0),
        ];
        let cases = ends_at_first
            .iter()
            .map(|case| vec![case])
            .chain(ends_at_second.iter().map(|case| vec![&first, case]));
        for parts in cases {
            for kind in KINDS {
                let (a, b) = unix::pair(kind).unwrap();
                let before = open_fds();
                for (header, count) in &parts {
                    send(&a, header, &files[..*count]).unwrap();
                }
                let error = b.recv_fds_deadline(1000, support::PATIENCE).unwrap_err();
                assert_eq!(inner::<ListError>(&error), ListError::Corrupt, "{parts:?}");
                assert_eq!(open_fds(), before);
            }
        }
        for kind in [SocketType::SEQPACKET, SocketType::DGRAM] {
            let (a, b) = unix::pair(kind).unwrap();
            let before = open_fds();
            send(&a, &[part(2, 0), vec![0]].concat(), &files[..2]).unwrap();
            let error = b.recv_fds(1000).unwrap_err();
            assert_eq!(inner::<ListError>(&error), ListError::Corrupt, "too long");
            assert_eq!(open_fds(), before);
        }
        let (a, b) = UnixStream::pair().unwrap();
        send(&a, &part(u32::MAX, 0), &files[..253]).unwrap();
        let error = b.recv_fds(1000).unwrap_err();
        let len = u32::MAX as usize;
        assert_eq!(inner::<ListError>(&error), ListError::TooLong { len });
    });
}

#[test]
fn a_step_that_would_wait_can_be_made_again() {
    let (a, b) = unix::pair(SocketType::SEQPACKET).unwrap();
    let files = files(300);
    let mut sender = Sender::new(&files).unwrap();
    let mut receiver = Receiver::new(300);
    let mut fds = Vec::new();
    let mut take = || receiver.step(&b, RecvFlags::DONTWAIT, |fd| fds.push(fd));
    assert_eq!(take(), Err(Errno::AGAIN.into()));
    assert_eq!(sender.step(&a, SendFlags::DONTWAIT), Ok(false));
    assert_eq!(take(), Ok(false));
    assert_eq!(take(), Err(Errno::AGAIN.into()));
    assert_eq!(sender.step(&a, SendFlags::DONTWAIT), Ok(true));
    assert_eq!(take(), Ok(true));
    check_files(&fds, 300);
}

#[test]
fn too_many_descriptors_in_flight_name_their_limit() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        peer(|| {
            let file = files(1);
            drop_privileges();
            limit_fds(Some(20));
            let error = (0..100)
                .find_map(|_| a.send_with_fds(b"x", &file).err())
                .unwrap();
            assert_eq!(errno(&error), Some(Errno::TOOMANYREFS));
            let limit: Limit = inner(&error);
            assert_eq!((limit.setting, limit.value), ("RLIMIT_NOFILE", 20));
            assert_eq!(
                errno(&a.send_fds(&file).unwrap_err()),
                Some(Errno::TOOMANYREFS)
            );
        })
        .join();
        drop(b);
    });
}

#[test]
fn many_messages_go_in_one_call_each_way() {
    isolated!(|| {
        let (a, b) = unix::pair(SocketType::DGRAM).unwrap();
        let sender = peer(|| {
            let files = files(3);
            let mut words = [0; space_fds(3)];
            let mut control = Control::new(&mut words);
            control.push_fds(&files).unwrap();
            let none = Control::default();
            let (one, two) = ([IoSlice::new(b"one")], [IoSlice::new(b"with files")]);
            let mut messages = [
                Outgoing::new(&one, &none),
                Outgoing::new(&two, &control),
                Outgoing::new(&[], &none),
            ];
            assert_eq!(mmsg::sendmmsg(&a, &mut messages, SendFlags::empty()), Ok(3));
            assert_eq!(messages.each_ref().map(Outgoing::sent), [3, 10, 0]);
        });
        sender.join();
        let mut bytes = [[0; 16]; 4];
        let mut words = [[0; space_fds(3)]; 4];
        let mut data = bytes.each_mut().map(|bytes| [IoSliceMut::new(bytes)]);
        let mut words = words.iter_mut();
        let incoming = data
            .each_mut()
            .map(|data| Incoming::new(data, words.next().unwrap()));
        let batch = mmsg::recvmmsg(&b, incoming, mmsg::WAIT_FOR_ONE).unwrap();
        assert_eq!(&bytes[1][..10], b"with files");
        assert_eq!(batch.len(), 3);
        let mut lens = Vec::new();
        for received in batch {
            let received = received.unwrap();
            lens.push(received.bytes);
            for message in received.control {
                let Message::Rights(fds) = message else {
                    panic!("{message:?}");
                };
                assert_eq!(lens.len(), 2);
                check_files(&fds.collect::<Vec<_>>(), 3);
            }
        }
        assert_eq!(lens, [3, 10, 0]);
    });
}

#[test]
fn a_batch_that_is_dropped_or_cut_off_leaks_nothing() {
    isolated!(|| {
        let (a, b) = unix::pair(SocketType::DGRAM).unwrap();
        let files = files(3);
        let before = open_fds();
        for taken in 0..4 {
            for count in [3, 2, 3] {
                send(&a, b"x", &files[..count]).unwrap();
            }
            let mut bytes = [[0; 8]; 4];
            let mut data = bytes.each_mut().map(|bytes| [IoSliceMut::new(bytes)]);
            // The second message does not fit: two words hold one header, without a descriptor.
            let (mut first, mut second, mut third) = ([0; space_fds(3)], [0; 2], [0; space_fds(3)]);
            let mut rooms = [&mut first[..], &mut second[..], &mut third[..], &mut []].into_iter();
            let incoming = data
                .each_mut()
                .map(|data| Incoming::new(data, rooms.next().unwrap()));
            let mut batch = mmsg::recvmmsg(&b, incoming, RecvFlags::DONTWAIT).unwrap();
            assert_eq!((batch.len(), open_fds()), (3, before + 6));
            for i in 0..taken {
                match (i, batch.next()) {
                    (0 | 2, Some(Ok(_))) | (1, Some(Err(Error::Truncated))) | (3, None) => {}
                    (_, other) => panic!("{i}: {other:?}"),
                }
            }
            drop(batch);
            assert_eq!(open_fds(), before);
        }
        let none: [Incoming<'_, '_, '_>; 1] = [Incoming::new(&mut [], &mut [])];
        let error = mmsg::recvmmsg(&b, none, RecvFlags::DONTWAIT).unwrap_err();
        assert_eq!(error, Errno::AGAIN);
    });
}

#[test]
fn a_batch_tells_who_sent_what() {
    let server = autobind_datagram().unwrap();
    let client = autobind_datagram().unwrap();
    let to = rustix::net::getsockname(&server).unwrap();
    let none = Control::default();
    let data = [IoSlice::new(b"x")];
    let mut messages = [Outgoing::new(&data, &none).to(&to)];
    assert_eq!(
        mmsg::sendmmsg(&client, &mut messages, SendFlags::empty()),
        Ok(1)
    );
    let mut bytes = [0; 8];
    let mut address = linipc_core::socket::cmsg::AddressBuffer::uninit();
    let mut data = [IoSliceMut::new(&mut bytes)];
    let incoming = [Incoming {
        address: Some(&mut address),
        ..Incoming::new(&mut data, &mut [])
    }];
    let mut batch = mmsg::recvmmsg(&server, incoming, RecvFlags::empty()).unwrap();
    let address = batch.next().unwrap().unwrap().address.unwrap();
    assert_eq!(unix::address(&address), unix::local_address(&client));
}

/// The raw form of a message.
fn raw(level: u32, kind: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; space(payload.len()) * size_of::<usize>()];
    let header = size_of::<usize>() + 8;
    bytes[..size_of::<usize>()].copy_from_slice(&(header + payload.len()).to_ne_bytes());
    bytes[header - 8..header - 4].copy_from_slice(&level.to_ne_bytes());
    bytes[header - 4..header].copy_from_slice(&kind.to_ne_bytes());
    bytes[header..header + payload.len()].copy_from_slice(payload);
    bytes
}

#[test]
fn the_decoder_reads_what_is_there_and_stops_where_it_is_cut_off() {
    let whole = [
        raw(1, 2, b"twelve bytes"),
        raw(7, 8, b""),
        raw(1, 1, &[9; 5]),
    ]
    .concat();
    let message = |level, kind, payload| RawMessage {
        level,
        kind,
        payload,
    };
    let all = [
        message(1, 2, &b"twelve bytes"[..]),
        message(7, 8, b""),
        message(1, 1, &[9; 5]),
    ];
    assert!(Raw::new(&whole).eq(all));
    for len in 0..whole.len() {
        let read: Vec<_> = Raw::new(&whole[..len]).collect();
        assert_eq!(read, all[..read.len()], "a message or nothing");
    }
    let header = size_of::<usize>() + 8;
    for wrong in [
        0,
        1,
        header - 1,
        whole.len() + 1,
        usize::MAX,
        usize::MAX - 7,
    ] {
        let mut bytes = whole.clone();
        bytes[..size_of::<usize>()].copy_from_slice(&wrong.to_ne_bytes());
        assert_eq!(Raw::new(&bytes).next(), None, "{wrong}");
    }
}

#[test]
fn the_decoder_stays_within_arbitrary_bytes() {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut messages = 0;
    for _ in 0..100_000 {
        let len = random() as usize % 128;
        let mut bytes: Vec<u8> = (0..len).map(|_| random() as u8).collect();
        // Lengths that are nearly right, so that the decoder gets past the first one.
        for at in (0..len.saturating_sub(8)).step_by(8) {
            if random() % 2 == 0 {
                let length = (random() % 48) as usize;
                bytes[at..at + size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            }
        }
        let range = bytes.as_ptr_range();
        let mut end = range.start;
        for message in Raw::new(&bytes) {
            let payload = message.payload.as_ptr_range();
            assert!(end <= payload.start && payload.end <= range.end);
            end = payload.end;
            messages += 1;
        }
    }
    assert!(messages > 10_000, "{messages}");
}

#[test]
fn a_stream_gives_descriptors_with_their_bytes() {
    let (a, b) = UnixStream::pair().unwrap();
    let error = a.send_with_fds(b"x", &files(300)).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::INVAL));
    (&a).write_all(b"before").unwrap();
    a.send_with_fds(b"with", &files(1)).unwrap();
    (&a).write_all(b"after").unwrap();
    a.send_with_fds(b"more", &files(2)).unwrap();
    let mut text = [0; 64];
    let received = b.recv_with_fds(&mut text, 2).unwrap();
    assert_eq!(&text[..received.len], b"beforewith");
    assert_eq!(received.fds.len(), 1);
    let received = b.recv_with_fds(&mut text, 2).unwrap();
    assert_eq!(&text[..received.len], b"aftermore");
    assert_eq!(received.fds.len(), 2);
}

#[test]
fn a_received_descriptor_works() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let child = peer(|| {
            let mut received = b.recv_with_fds(&mut [0; 8], 1).unwrap();
            let mut pipe = File::from(received.fds.pop().unwrap());
            pipe.write_all(b"from the peer").unwrap();
        });
        a.send_with_fds(b"x", &[writer]).unwrap();
        drop(a);
        let mut text = String::new();
        child.join();
        drop(b);
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the peer");
    });
}

#[test]
fn a_lost_peer_is_an_error_and_no_signal() {
    isolated!(|| {
        peer(|| {
            // SAFETY: The default action is no handler of ours.
            unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
            let (a, _) = UnixStream::pair().unwrap();
            let broken = [
                a.send_with_fds(b"x", &files(1)),
                a.send_with_fds_deadline(b"x", &files(1), support::PATIENCE),
                a.send_with_credentials(b"x", Credentials::current()),
                a.send_fds(&files(1)).map(|()| 0),
            ];
            let (a, _) = Seqpacket::pair().unwrap();
            let packets = [
                a.send(b"x"),
                a.try_send(b"x"),
                a.send_deadline(b"x", support::PATIENCE),
            ];
            let packets = packets.into_iter().map(|sent| sent.map(|()| 0));
            for sent in broken.into_iter().chain(packets) {
                assert_eq!(errno(&sent.unwrap_err()), Some(Errno::PIPE));
            }
        })
        .join();
    });
}
