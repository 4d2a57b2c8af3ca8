//! Sends without a copy, and the notices that they are done.

mod support;

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use linipc::error::errno;
use linipc::socket::inet::LOOPBACK;
use linipc::socket::zerocopy::{Completion, Notice, Sender};
use linipc_core::Errno;
use linipc_core::io::IoSlice;
use linipc_core::socket::{PollFd, PollFlags, SendFlags, poll, sockopt, zerocopy};
use support::{Peer, own_network, peer, until_asleep};

/// A TCP connection to a peer that runs `body` with the other end.
fn connected(body: impl FnOnce(TcpStream)) -> (TcpStream, Peer) {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let address = listener.local_addr().unwrap();
    let peer = peer(|| body(TcpStream::connect(address).unwrap()));
    (listener.accept().unwrap().0, peer)
}

/// Reads to the end; fails unless it is `len` bytes that each [`buffer`] has.
fn expect(mut stream: TcpStream, len: usize) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), len);
    for part in all.chunks(LEN) {
        assert!(part == &buffer()[..part.len()], "other bytes");
    }
}

const LEN: usize = 100_000;

fn buffer() -> Vec<u8> {
    (0..LEN).map(|i| (i % 251) as u8).collect()
}

/// A buffer that counts how many of its kind were freed.
struct Counted(Vec<u8>, Rc<Cell<usize>>);

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.1.set(self.1.get() + 1);
    }
}

#[test]
fn each_send_is_completed_exactly_once() {
    isolated!(|| {
        const SENDS: usize = 50;
        static BYTES: [u8; 20_000] = [7; 20_000];
        let (stream, peer) = connected(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert_eq!(all, vec![7; SENDS * BYTES.len()]);
        });
        zerocopy::enable(&stream).unwrap();
        assert_eq!(zerocopy::notice(&stream), Err(Errno::AGAIN));
        let (mut sends, mut bytes) = (0_u32, 0);
        while bytes < SENDS * BYTES.len() {
            let slice = IoSlice::new(&BYTES[bytes % BYTES.len()..]);
            // SAFETY: A constant is never changed or freed.
            bytes += unsafe { zerocopy::send(&stream, &[slice], SendFlags::NOSIGNAL) }.unwrap();
            sends += 1;
        }
        // Nothing to send has no number.
        // SAFETY: There is no byte.
        let sent = unsafe { zerocopy::send(&stream, &[], SendFlags::NOSIGNAL) };
        assert_eq!(sent, Ok(0));
        let mut seen = vec![0; sends as usize];
        while seen.contains(&0) {
            poll(&mut [PollFd::new(&stream, PollFlags::empty())], None).unwrap();
            let Notice::Completed(completion) = zerocopy::notice(&stream).unwrap() else {
                panic!("no completion")
            };
            assert!(completion.copied, "the loopback copies");
            assert_eq!(
                completion.count(),
                u64::from(completion.last - completion.first) + 1
            );
            for number in completion.first..=completion.last {
                assert!(completion.contains(number));
                seen[number as usize] += 1;
            }
        }
        assert_eq!(seen, vec![1; sends as usize]);
        assert_eq!(zerocopy::notice(&stream), Err(Errno::AGAIN));
        drop(stream);
        peer.join();
    });
}

#[test]
fn without_enabling_there_are_no_notices() {
    isolated!(|| {
        static BYTES: [u8; LEN] = [7; LEN];
        let (mut stream, peer) = connected(|mut stream| {
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
        });
        assert!(!zerocopy::is_enabled(&stream).unwrap());
        let slice = IoSlice::new(&BYTES);
        // SAFETY: A constant is never changed or freed.
        unsafe { zerocopy::send(&stream, &[slice], SendFlags::NOSIGNAL) }.unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The peer has got everything, so a notice would be here.
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert_eq!(zerocopy::notice(&stream), Err(Errno::AGAIN));
        zerocopy::enable(&stream).unwrap();
        assert!(zerocopy::is_enabled(&stream).unwrap());
        peer.join();
    });
}

#[test]
fn buffers_come_back_unchanged_and_in_place() {
    isolated!(|| {
        let (stream, peer) = connected(|stream| expect(stream, 20 * LEN));
        let mut sender = Sender::new(&stream).unwrap();
        let mut places = Vec::new();
        for _ in 0..20 {
            let buffer = buffer();
            places.push(buffer.as_ptr());
            sender.send(buffer).unwrap();
        }
        assert_eq!(sender.len(), 20);
        let mut back = Vec::new();
        while let Some(sent) = sender.reclaim().unwrap() {
            assert_eq!((sent.bytes, sent.copied), (LEN, true));
            assert!(sent.buffer == buffer());
            back.push(sent.buffer);
        }
        assert!(sender.is_empty());
        assert!(sender.try_reclaim().unwrap().is_none());
        let mut found: Vec<_> = back.iter().map(|buffer| buffer.as_ptr()).collect();
        found.sort();
        places.sort();
        assert_eq!(found, places);
        drop(sender);
        drop(stream);
        peer.join();
    });
}

#[test]
fn one_shared_buffer_goes_to_many() {
    isolated!(|| {
        let shared: Arc<[u8]> = buffer().into();
        let ends: Vec<_> = (0..3)
            .map(|_| connected(|stream| expect(stream, LEN)))
            .collect();
        let mut peers = Vec::new();
        for (stream, peer) in ends {
            let mut sender = Sender::new(stream).unwrap();
            sender.send(shared.clone()).unwrap();
            peers.push((sender, peer));
        }
        for (mut sender, peer) in peers {
            assert!(sender.reclaim().unwrap().is_some());
            // The peers that were forked later have this end too.
            sender.get_ref().shutdown(Shutdown::Write).unwrap();
            peer.join();
        }
        assert_eq!(Arc::strong_count(&shared), 1);
    });
}

#[test]
fn every_datagram_has_a_number_the_empty_one_too() {
    isolated!(|| {
        let receiver = UdpSocket::bind(LOOPBACK).unwrap();
        receiver.set_read_timeout(Some(support::PATIENCE)).unwrap();
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket.connect(receiver.local_addr().unwrap()).unwrap();
        zerocopy::enable(&socket).unwrap();
        let long = buffer()[..30_000].to_vec();
        let peer = peer(|| {
            let mut bytes = vec![0; 1 << 16];
            for len in [long.len(), 0, 3] {
                assert_eq!(receiver.recv(&mut bytes).unwrap(), len);
                assert_eq!(bytes[..len], long[..len]);
            }
        });
        for len in [long.len(), 0, 3] {
            let data = [IoSlice::new(&long[..len])];
            // SAFETY: `long` is not changed, and lives until all three are completed.
            assert_eq!(
                unsafe { zerocopy::send(&socket, &data, SendFlags::empty()) },
                Ok(len)
            );
        }
        let mut completed = [false; 3];
        support::eventually("all completions", || {
            if let Ok(Notice::Completed(completion)) = zerocopy::notice(&socket) {
                for (number, completed) in completed.iter_mut().enumerate() {
                    *completed |= completion.contains(number as u32);
                }
            }
            completed == [true; 3]
        });
        peer.join();
    });
}

#[test]
fn a_sender_that_gives_buffers_back_wants_a_stream() {
    let socket = UdpSocket::bind(LOOPBACK).unwrap();
    let error = Sender::<_, Vec<u8>>::new(&socket).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::OPNOTSUPP));
    assert_eq!(zerocopy::is_enabled(&socket), Ok(false));
}

#[test]
fn a_copying_send_never_becomes_a_zero_copy_one() {
    use linipc_core::socket::cmsg::{self, Control};
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _peer = listener.accept().unwrap();
    zerocopy::enable(&stream).unwrap();
    let smuggled = SendFlags::from_bits_retain(libc::MSG_ZEROCOPY as u32);
    let data = [IoSlice::new(b"copied")];
    cmsg::sendmsg(&stream, &data, &Control::default(), smuggled).unwrap();
    linipc_core::socket::send(&stream, b"copied", smuggled).unwrap();
    // SAFETY: Static bytes never change.
    unsafe { zerocopy::send(&stream, &data, SendFlags::empty()) }.unwrap();
    let Ok(Notice::Completed(completion)) = zerocopy::notice(&stream) else {
        panic!("a send over the loopback is completed when it was received");
    };
    assert_eq!(
        (completion.first, completion.last),
        (0, 0),
        "only one send has a number"
    );
}

#[test]
fn a_unix_socket_has_no_notices_and_loses_no_message() {
    let (a, b) = std::os::unix::net::UnixDatagram::pair().unwrap();
    a.send(b"stays").unwrap();
    assert_eq!(zerocopy::notice(&b), Err(Errno::OPNOTSUPP));
    assert_eq!(b.recv(&mut [0; 8]).unwrap(), 5);
}

/// More than the buffers of the connection hold.
const TOO_MUCH: usize = 1 << 19;

/// A sender whose peer does not read until it is told, with a buffer of [`TOO_MUCH`] on its way; how
/// many buffers were freed; and what tells the peer.
fn stalled() -> (
    Sender<TcpStream, Counted>,
    Rc<Cell<usize>>,
    std::io::PipeWriter,
    Peer,
) {
    let (mut wait, go) = std::io::pipe().unwrap();
    let (stream, peer) = connected(|mut stream| {
        sockopt::set_socket_recv_buffer_size(&stream, 1 << 15).unwrap();
        wait.read_exact(&mut [0]).unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes.iter().all(|&byte| byte == 7));
    });
    sockopt::set_socket_send_buffer_size(&stream, 1 << 15).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut sender = Sender::new(stream).unwrap();
    let freed = Rc::new(Cell::new(0));
    let error = sender
        .send(Counted(vec![7; TOO_MUCH], freed.clone()))
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    (sender, freed, go, peer)
}

#[test]
fn a_peer_that_does_not_read_keeps_the_buffer() {
    isolated!(|| {
        let (mut sender, freed, mut go, peer) = stalled();
        let soon = Duration::from_millis(5);
        let error = sender.reclaim_deadline(soon).err().unwrap();
        assert_eq!(errno(&error), Some(Errno::TIMEDOUT));
        let error = sender.try_reclaim().err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!((sender.len(), freed.get()), (1, 0));
        go.write_all(&[1]).unwrap();
        let sent = sender.reclaim().unwrap().unwrap();
        assert!(sent.bytes > 0 && sent.bytes < TOO_MUCH, "{}", sent.bytes);
        assert_eq!(freed.get(), 0);
        drop(sent);
        assert_eq!(freed.get(), 1);
        drop(sender);
        peer.join();
    });
}

#[test]
fn dropping_waits_for_the_kernel() {
    isolated!(|| {
        let (mut sender, freed, mut go, peer) = stalled();
        sender.set_linger(support::PATIENCE);
        let here = std::process::id() as i32;
        let helper = support::peer(|| {
            until_asleep(here);
            go.write_all(&[1]).unwrap();
        });
        drop(sender);
        assert_eq!(freed.get(), 1);
        helper.join();
        peer.join();
    });
}

#[test]
fn dropping_leaks_rather_than_frees_too_early() {
    isolated!(|| {
        let (mut sender, freed, mut go, peer) = stalled();
        sender.set_linger(Duration::from_millis(5));
        let stream = sender.get_ref().try_clone().unwrap();
        drop(sender);
        assert_eq!(freed.get(), 0);
        // What was taken still arrives as it was.
        go.write_all(&[1]).unwrap();
        drop(stream);
        peer.join();
        assert_eq!(freed.get(), 0);
    });
}

#[test]
fn a_connection_that_breaks_gives_the_buffers_back() {
    isolated!(|| {
        let (mut sender, freed, go, peer) = stalled();
        // It dies with bytes that it has not read: the connection is reset.
        peer.kill();
        drop(go);
        let sent = sender.reclaim().unwrap().unwrap();
        assert!(sent.bytes > 0);
        drop(sent);
        assert_eq!(freed.get(), 1);
        support::eventually("sending fails", || {
            let result = sender.send(Counted(vec![1; 10], freed.clone()));
            let back = sender.reclaim().unwrap().unwrap();
            match result {
                Ok(()) => false,
                Err(error) => {
                    assert_eq!(back.bytes, 0);
                    assert!(
                        [Some(Errno::PIPE), Some(Errno::CONNRESET)].contains(&errno(&error)),
                        "{error}"
                    );
                    true
                }
            }
        });
    });
}

#[test]
fn too_much_pinned_memory_is_waited_for_or_refused() {
    isolated!(|| {
        own_network();
        let setting = "/proc/sys/net/core/optmem_max";
        if !std::path::Path::new(setting).exists() || std::fs::write(setting, "2000").is_err() {
            support::skip("net.core.optmem_max cannot be set for one network namespace");
            return;
        }
        // Each notice takes some hundred bytes of them until it is read.
        let (stream, peer) = connected(|stream| expect(stream, 100 * LEN));
        let mut sender = Sender::new(stream).unwrap();
        for _ in 0..100 {
            sender.send(buffer()).unwrap();
        }
        while sender.reclaim().unwrap().is_some() {}

        std::fs::write(setting, "1").unwrap();
        let error = sender.send(buffer()).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::NOBUFS));
        let back = sender.try_reclaim().unwrap().unwrap();
        assert_eq!((back.bytes, back.buffer.len()), (0, LEN));
        drop(sender);
        peer.join();
    });
}

#[test]
fn a_buffer_beyond_the_limit_of_locked_memory_is_sent_in_parts() {
    isolated!(|| {
        const LIMIT: usize = 1 << 18;
        let (stream, reader) = connected(|mut stream| {
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap();
        });
        let writer = peer(|| {
            // Who has `CAP_IPC_LOCK` has no limit.
            rustix::thread::set_capabilities(
                None,
                rustix::thread::CapabilitySets {
                    effective: rustix::thread::CapabilitySet::empty(),
                    permitted: rustix::thread::CapabilitySet::empty(),
                    inheritable: rustix::thread::CapabilitySet::empty(),
                },
            )
            .unwrap();
            let limit = rustix::process::Rlimit {
                current: Some(LIMIT as u64),
                maximum: Some(LIMIT as u64),
            };
            rustix::process::setrlimit(rustix::process::Resource::Memlock, limit).unwrap();
            let mut sender = Sender::new(stream.try_clone().unwrap()).unwrap();
            // Other processes of this user may take all that the limit permits, for a while.
            support::eventually("there is room", || {
                let result = sender.send(vec![7; 10 * LIMIT]);
                let back = sender.reclaim().unwrap().unwrap();
                match result {
                    Ok(()) => assert_eq!(back.bytes, 10 * LIMIT),
                    Err(ref error) => assert_eq!(errno(error), Some(Errno::NOBUFS)),
                }
                result.is_ok()
            });
        });
        drop(stream);
        writer.join();
        reader.join();
    });
}

#[test]
fn a_socket_has_one_sender_in_its_life() {
    isolated!(|| {
        let (stream, peer) = connected(|mut stream| {
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let first: Sender<_, Vec<u8>> = Sender::new(stream.try_clone().unwrap()).unwrap();
        let error = Sender::<_, Vec<u8>>::new(&stream).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::BUSY));
        drop(first);
        let error = Sender::<_, Vec<u8>>::new(&stream).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::BUSY));
        drop(stream);
        peer.join();
    });
}

#[test]
fn a_socket_that_cannot_refuses() {
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    // Older kernels say ENOTSUPP (524), which is not meant for programs.
    let error = zerocopy::enable(&socket).unwrap_err();
    assert!([95, 524].contains(&error.raw_os_error()), "{error}");
    assert!(Sender::<_, Vec<u8>>::new(&socket).is_err());
    let (reader, _writer) = std::io::pipe().unwrap();
    assert_eq!(zerocopy::is_enabled(&reader), Err(Errno::NOTSOCK));
    assert_eq!(zerocopy::notice(&reader), Err(Errno::NOTSOCK));
}

#[test]
fn other_entries_of_the_error_queue_are_told() {
    isolated!(|| {
        own_network();
        let gone = UdpSocket::bind(LOOPBACK).unwrap();
        let address = gone.local_addr().unwrap();
        drop(gone);
        let socket = UdpSocket::bind(LOOPBACK).unwrap();
        socket.connect(address).unwrap();
        let on = 1_i32;
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
        // SAFETY: The call reads one `int`.
        let done = unsafe {
            libc::setsockopt(
                fd,
                libc::IPPROTO_IP,
                libc::IP_RECVERR,
                (&raw const on).cast(),
                4,
            )
        };
        assert_eq!(done, 0);
        zerocopy::enable(&socket).unwrap();
        let bytes = buffer();
        let data = [IoSlice::new(&bytes[..1000])];
        // SAFETY: `bytes` is not changed, and lives until the send is completed.
        unsafe { zerocopy::send(&socket, &data, SendFlags::empty()) }.unwrap();
        // One notice is the refusal, the other the completion, in either order.
        let icmp = 2;
        let (mut refused, mut completed) = (0, 0);
        support::eventually("both notices", || {
            match zerocopy::notice(&socket) {
                Ok(Notice::Completed(_)) => completed += 1,
                Ok(Notice::Other { errno, origin, .. }) => {
                    assert_eq!((errno, origin), (libc::ECONNREFUSED as u32, icmp));
                    refused += 1;
                }
                Err(error) => assert!(matches!(error, Errno::AGAIN | Errno::CONNREFUSED)),
            }
            refused + completed == 2
        });
        assert_eq!((refused, completed), (1, 1));
    });
}

#[test]
fn numbers_wrap_around() {
    let completion = |first, last| Completion {
        first,
        last,
        copied: false,
    };
    let wrapped = completion(u32::MAX - 1, 2);
    assert_eq!(wrapped.count(), 5);
    for (number, is_in) in [
        (u32::MAX - 2, false),
        (u32::MAX, true),
        (0, true),
        (2, true),
        (3, false),
    ] {
        assert_eq!(wrapped.contains(number), is_in, "{number}");
    }
    assert_eq!(completion(0, u32::MAX).count(), 1 << 32);
    // Of sends from `first`, `count` of them.
    for (first, count, expected) in [
        (u32::MAX - 1, 5, 5),
        (u32::MAX - 9, 20, 5),
        (u32::MAX - 9, 9, 1),
        (u32::MAX - 9, 8, 0),
        (1, 1, 1),
        (2, 10, 1),
        (3, 10, 0),
        (u32::MAX, 2, 2),
        (0, 0, 0),
    ] {
        assert_eq!(wrapped.count_of(first, count), expected, "{first} {count}");
    }
}
