//! Many datagrams in one call, between two processes.

mod support;

use std::fs;
use std::io::{ErrorKind, Read, Write, pipe};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use linipc::error::errno;
use linipc::socket::cmsg::{Error, MAX_FDS};
use linipc::socket::inet::LOOPBACK;
use linipc::socket::mmsg::{MmsgExt, Outgoing};
use linipc::socket::unix::{Seqpacket, autobind_datagram};
use linipc_core::Errno;
use linipc_core::io::{FdFlags, fcntl_getfd};
use support::{PATIENCE, catch_signals, caught, interrupt, own_network, peer, until_asleep};

const SOON: Duration = Duration::from_millis(5);

/// How many descriptors this process has open.
fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn bytes_descriptors_and_addresses_arrive_in_order() {
    isolated!(|| {
        let server = autobind_datagram().unwrap();
        let to = server.local_addr().unwrap();
        let client = autobind_datagram().unwrap();
        let from = client.local_addr().unwrap();
        let (mut reader, writer) = pipe().unwrap();
        peer(|| {
            let fds = [writer.as_fd(), writer.as_fd()];
            let messages = [
                Outgoing::new(b"one").to(&to),
                Outgoing::new(b"with two descriptors")
                    .to(&to)
                    .with_fds(&fds),
                Outgoing::new(b"").to(&to),
            ];
            assert_eq!(client.send_many(&messages).unwrap(), 3);
        })
        .join();
        drop(writer);

        let mut buffers = [[0; 8]; 4];
        let received = server.recv_many(&mut buffers, 2).unwrap();
        assert_eq!(received.len(), 3, "what is there, without waiting for more");
        let expected = [(3, false, 0), (8, true, 2), (0, false, 0)];
        for (received, (len, truncated, fds)) in received.into_iter().zip(expected) {
            let received = received.unwrap();
            assert_eq!((received.len, received.truncated), (len, truncated));
            let address = received.address.unwrap();
            assert_eq!(address.as_pathname(), None);
            assert_eq!(format!("{address:?}"), format!("{from:?}"));
            assert_eq!(received.fds.len(), fds);
            for fd in received.fds {
                assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
                fs::File::from(fd).write_all(b"x").unwrap();
            }
        }
        assert_eq!(&buffers[..2], [*b"one\0\0\0\0\0", *b"with two"]);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "xx", "and no descriptor is left");
    });
}

#[test]
fn udp_datagrams_arrive_with_their_senders() {
    isolated!(|| {
        own_network();
        let server = UdpSocket::bind(LOOPBACK).unwrap();
        let to = server.local_addr().unwrap();
        let client = UdpSocket::bind(LOOPBACK).unwrap();
        let from = client.local_addr().unwrap();
        let texts: Vec<[u8; 2]> = (0..40).map(u16::to_ne_bytes).collect();
        let sender = peer(|| {
            let messages: Vec<_> = texts
                .iter()
                .map(|text| Outgoing::new(text).to(&to))
                .collect();
            assert_eq!(client.send_many(&messages).unwrap(), 40);
        });
        let mut all = Vec::new();
        while all.len() < 40 {
            let mut buffers = [[0; 2]; 16];
            let received = server
                .recv_many_deadline(&mut buffers, 0, PATIENCE)
                .unwrap();
            for (received, buffer) in received.into_iter().zip(buffers) {
                assert_eq!(received.unwrap().address, Some(from));
                all.push(buffer);
            }
        }
        assert_eq!(all, texts);
        sender.join();
    });
}

#[test]
fn more_messages_than_the_kernel_takes_at_once_are_all_sent() {
    isolated!(|| {
        let (a, b) = UnixDatagram::pair().unwrap();
        for deadline in [false, true] {
            let texts: Vec<[u8; 2]> = (0..1500).map(u16::to_ne_bytes).collect();
            let sender = peer(|| {
                let messages: Vec<_> = texts.iter().map(|text| Outgoing::new(text)).collect();
                let sent = match deadline {
                    false => a.send_many(&messages),
                    true => a.send_many_deadline(&messages, PATIENCE),
                };
                assert_eq!(sent.unwrap(), 1500);
            });
            let mut all = Vec::new();
            while all.len() < 1500 {
                let mut buffers = [[0; 2]; 4];
                let received = b.recv_many(&mut buffers, 0).unwrap();
                all.extend_from_slice(&buffers[..received.len()]);
            }
            assert_eq!(all, texts);
            sender.join();
        }
    });
}

#[test]
fn a_full_socket_takes_what_it_can() {
    isolated!(|| {
        let (a, b) = UnixDatagram::pair().unwrap();
        let messages = [Outgoing::new(b"x"); 5000];
        let sent = a.try_send_many(&messages).unwrap();
        assert!((1..5000).contains(&sent), "{sent}");
        let error = a.try_send_many(&messages).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error = a.send_many_deadline(&messages, SOON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        let sender = peer(|| assert_eq!(a.send_many(&messages[..3]).unwrap(), 3));
        until_asleep(sender.pid());
        let mut left = sent + 3;
        while left > 0 {
            left -= b.recv_many(&mut [[0; 1]; 16], 0).unwrap().len();
        }
        sender.join();
        let error = b.try_recv_many(&mut [[0; 1]; 16], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        let error = b.recv_many_deadline(&mut [[0; 1]], 0, SOON).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);

        let (mut go, mut goes) = pipe().unwrap();
        let part = peer(|| {
            let sent = a.send_many_deadline(&messages, SOON).unwrap();
            goes.write_all(&sent.to_ne_bytes()).unwrap();
        });
        let mut sent = [0; size_of::<usize>()];
        go.read_exact(&mut sent).unwrap();
        let mut left = usize::from_ne_bytes(sent);
        assert!(
            (1..5000).contains(&left),
            "those that were sent in time: {left}"
        );
        part.join();
        while left > 0 {
            left -= b.try_recv_many(&mut [[0; 1]; 16], 0).unwrap().len();
        }
    });
}

#[test]
fn a_signal_does_not_end_the_wait() {
    isolated!(|| {
        let (a, b) = UnixDatagram::pair().unwrap();
        let (mut ready, mut is_ready) = pipe().unwrap();
        let receiver = peer(|| {
            catch_signals();
            is_ready.write_all(&[1]).unwrap();
            let mut buffers = [[0; 8]; 2];
            assert_eq!(b.recv_many(&mut buffers, 0).unwrap().len(), 1);
            is_ready.write_all(&[1]).unwrap();
            let received = b.recv_many_deadline(&mut buffers, 0, PATIENCE);
            assert_eq!(received.unwrap().len(), 1);
            assert_eq!(caught(), 2);
        });
        for _ in 0..2 {
            ready.read_exact(&mut [0]).unwrap();
            interrupt(&receiver);
            until_asleep(receiver.pid());
            a.send(b"x").unwrap();
        }
        receiver.join();
    });
}

#[test]
fn too_many_descriptors_lose_one_message_and_leak_nothing() {
    isolated!(|| {
        let (a, b) = Seqpacket::pair().unwrap();
        let file = fs::File::open("/dev/null").unwrap();
        let before = open_fds();
        peer(|| {
            let fds = [file.as_fd(); 3];
            let messages = [3, 2, 3].map(|count| Outgoing::new(b"x").with_fds(&fds[..count]));
            assert_eq!(a.send_many(&messages).unwrap(), 3);
        })
        .join();
        let received = b.recv_many(&mut [[0; 1]; 4], 2).unwrap();
        let counts: Vec<_> = received
            .iter()
            .map(|one| one.as_ref().map(|one| one.fds.len()).map_err(truncated))
            .collect();
        assert_eq!(counts, [Err(true), Ok(2), Err(true)]);
        assert_eq!(open_fds(), before + 2);
        drop(received);
        assert_eq!(open_fds(), before);

        drop(a);
        let end = b.recv_many(&mut [[0; 1]; 4], 2).unwrap();
        assert!(end.into_iter().all(|one| one.unwrap().len == 0));
    });
}

fn truncated(error: &std::io::Error) -> bool {
    let error = error.get_ref().unwrap().downcast_ref::<Error>();
    error == Some(&Error::Truncated)
}

#[test]
fn what_cannot_be_sent_is_refused() {
    isolated!(|| {
        own_network();
        let file = fs::File::open("/dev/null").unwrap();
        let fds: Vec<BorrowedFd<'_>> = vec![file.as_fd(); MAX_FDS + 1];
        let (a, b) = UnixDatagram::pair().unwrap();
        let error = a
            .send_many(&[Outgoing::new(b"x").with_fds(&fds)])
            .unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL));
        let most = Outgoing::new(b"x").with_fds(&fds[1..]);
        assert_eq!(a.send_many(&[most]).unwrap(), 1);
        assert_eq!(a.send_many(&[]).unwrap(), 0);

        let udp = UdpSocket::bind(LOOPBACK).unwrap();
        let to = udp.local_addr().unwrap();
        let with_fds = Outgoing::new(b"x").to(&to).with_fds(&fds[..1]);
        let error = udp.send_many(&[with_fds]).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL), "UDP would lose it");
        let large = [0; 1 << 16];
        let [small, large] = [&large[..1], &large].map(|data| Outgoing::new(data).to(&to));
        assert_eq!(udp.send_many(&[small, large, small]).unwrap(), 1);
        let error = udp.send_many(&[large]).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::MSGSIZE));
        let error = udp.send_many(&[Outgoing::new(b"x")]).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::DESTADDRREQ));

        drop(b);
        let error = a.send_many(&[Outgoing::new(b"x")]).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::CONNREFUSED));
    });
}
