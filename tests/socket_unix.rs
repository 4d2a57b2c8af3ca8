//! Unix sockets between two processes: addresses, peers, packets and socket files.

mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use linipc::error::errno;
use linipc::socket::unix::{
    BindOptions, Credentials, Seqpacket, SeqpacketListener, UnixDatagram, UnixExt, UnixListener,
    UnixStream, abstract_address, autobind_datagram, autobind_listener,
};
use linipc_core::Errno;
use linipc_core::io::{FdFlags, OFlags, fcntl_getfd, fcntl_getfl};
use linipc_core::socket::unix::{self, SocketAddrUnix, local_address, peer_address};
use linipc_core::socket::{
    self, AddressFamily, RecvFlags, SendFlags, SocketAddrArg, SocketFlags, SocketType, accept,
    bind, connect, listen,
};
use support::{Peer, peer, until_asleep};

const KINDS: [SocketType; 3] = [SocketType::STREAM, SocketType::SEQPACKET, SocketType::DGRAM];

const SOON: Duration = Duration::from_millis(5);

fn is_errno<T>(result: io::Result<T>, expected: Errno) -> bool {
    errno(&result.err().expect("an error")) == Some(expected)
}

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("linipc-{name}-{}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// An abstract name of this process. They are of the network namespace, which tests share.
fn name(tail: &[u8]) -> Vec<u8> {
    [format!("linipc-test-{}-", process::id()).as_bytes(), tail].concat()
}

fn bound(kind: SocketType, address: &impl SocketAddrArg) -> Result<OwnedFd, Errno> {
    let socket = unix::socket(kind)?;
    bind(&socket, address)?;
    if kind != SocketType::DGRAM {
        listen(&socket, 1)?;
    }
    Ok(socket)
}

fn connected(kind: SocketType, address: &impl SocketAddrArg) -> Result<OwnedFd, Errno> {
    let socket = unix::socket(kind)?;
    connect(&socket, address)?;
    Ok(socket)
}

#[test]
fn every_socket_is_close_on_exec() {
    let closes = |fd: &OwnedFd| fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC);
    for kind in KINDS {
        let (a, b) = unix::pair(kind).unwrap();
        assert!(closes(&unix::socket(kind).unwrap()) && closes(&a) && closes(&b));
    }
    let listener = bound(SocketType::STREAM, &SocketAddrUnix::new_unnamed()).unwrap();
    for _ in 0..2 {
        let _client = connected(SocketType::STREAM, &local_address(&listener).unwrap()).unwrap();
        assert!(closes(&accept(&listener).unwrap()));
        let _client = connected(SocketType::STREAM, &local_address(&listener).unwrap()).unwrap();
        assert!(closes(&socket::acceptfrom(&listener).unwrap().0));
    }
}

#[test]
fn a_socket_has_the_flags_that_were_said() {
    let read = |socket: &OwnedFd| {
        (
            fcntl_getfd(socket).unwrap().contains(FdFlags::CLOEXEC),
            fcntl_getfl(socket).unwrap().contains(OFlags::NONBLOCK),
        )
    };
    let (cloexec, nonblock) = (SocketFlags::CLOEXEC, SocketFlags::NONBLOCK);
    for flags in [SocketFlags::empty(), cloexec, nonblock, cloexec | nonblock] {
        let said = (flags.contains(cloexec), flags.contains(nonblock));
        for kind in KINDS {
            let one = socket::socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
            let (a, b) = socket::socketpair_with(AddressFamily::UNIX, kind, flags, None).unwrap();
            assert_eq!([&one, &a, &b].map(read), [said; 3]);
            socket::send(&a, b"to b", SendFlags::NOSIGNAL).unwrap();
            let mut bytes = [0; 8];
            assert_eq!(
                socket::recv(&b, &mut bytes[..], RecvFlags::empty()),
                Ok((4, 4))
            );
            assert_eq!(&bytes[..4], b"to b");
            for (socket, expected) in [(one, kind), (a, kind), (b, kind)] {
                assert_eq!(socket::sockopt::socket_type(&socket), Ok(expected));
            }
        }
    }
    let wrong = SocketFlags::from_bits_retain(1 << 30);
    let result = socket::socket_with(AddressFamily::UNIX, SocketType::STREAM, wrong, None);
    assert_eq!(result.unwrap_err(), Errno::INVAL);
    let pair = socket::socketpair_with(AddressFamily::INET, SocketType::STREAM, cloexec, None);
    assert_eq!(pair.unwrap_err(), Errno::OPNOTSUPP);
}

#[test]
fn a_path_may_have_108_bytes_and_no_more() {
    isolated!(|| {
        // Relative, so that all of the 108 bytes are the test's.
        std::env::set_current_dir("/dev/shm").unwrap();
        let long = "p".repeat(108);
        let address = unix::path(&long).unwrap();
        let listener = bound(SocketType::STREAM, &address).unwrap();
        let own = local_address(&listener).unwrap();
        assert_eq!(own.path_bytes(), Some(long.as_bytes()));
        let client = connected(SocketType::STREAM, &own).unwrap();
        assert_eq!(
            peer_address(&client).unwrap().path_bytes(),
            Some(long.as_bytes())
        );
        assert!(is_errno(Seqpacket::connect(&long), Errno::PROTOTYPE));
        let listener = SeqpacketListener::from(listener);
        assert_eq!(
            listener.local_addr().unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        fs::remove_file(&long).unwrap();

        assert_eq!(unix::path("p".repeat(109)), Err(Errno::NAMETOOLONG));
        assert!(is_errno(
            BindOptions::new().listener("p".repeat(109)),
            Errno::NAMETOOLONG
        ));
        assert_eq!(unix::path(""), Err(Errno::INVAL));
        assert_eq!(unix::path("a\0b"), Err(Errno::INVAL));
        assert!(is_errno(Seqpacket::connect("nobody"), Errno::NOENT));
    });
}

#[test]
fn an_abstract_name_may_have_any_bytes() {
    isolated!(|| {
        let longest = name(&[0xff; 107]);
        let names = [name(b""), name(b"\0"), name(b"\0b"), name(b"/\0\xff")];
        let listeners: Vec<_> = names
            .iter()
            .chain([&longest[..107].to_vec()])
            .map(|name| {
                let address = SocketAddrUnix::new_abstract_name(name).unwrap();
                let listener = bound(SocketType::SEQPACKET, &address).unwrap();
                let own = local_address(&listener).unwrap();
                assert_eq!(own.abstract_name(), Some(&name[..]));
                assert_eq!(
                    bound(SocketType::SEQPACKET, &own).unwrap_err(),
                    Errno::ADDRINUSE
                );
                (own, listener)
            })
            .collect();
        for (address, listener) in &listeners {
            let client = connected(SocketType::SEQPACKET, address).unwrap();
            let server = accept(listener).unwrap();
            socket::send(
                &client,
                address.abstract_name().unwrap(),
                SendFlags::NOSIGNAL,
            )
            .unwrap();
            let mut text = [0; 128];
            let (_, len) = socket::recv(&server, &mut text, RecvFlags::empty()).unwrap();
            assert_eq!(&text[..len], address.abstract_name().unwrap());
        }
        let gone = listeners[0].0.clone();
        drop(listeners);
        assert_eq!(
            connected(SocketType::SEQPACKET, &gone).unwrap_err(),
            Errno::CONNREFUSED
        );
        let too_long = SocketAddrUnix::new_abstract_name(&longest[..108]);
        assert_eq!(too_long, Err(Errno::NAMETOOLONG));
        assert!(abstract_address(&longest[..108]).is_err());
    });
}

#[test]
fn the_kernel_chooses_a_free_name() {
    isolated!(|| {
        let listener = autobind_listener().unwrap();
        let other = autobind_listener().unwrap();
        let address = listener.local_addr().unwrap();
        let chosen = |socket: &UnixListener| local_address(socket).unwrap();
        let name = chosen(&listener).abstract_name().unwrap().to_vec();
        assert_eq!(name.len(), 5);
        assert!(name.iter().all(u8::is_ascii_hexdigit), "{name:?}");
        assert_ne!(Some(&name[..]), chosen(&other).abstract_name());
        let client = peer(|| {
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            stream.write_all(b"found you").unwrap();
        });
        let mut text = String::new();
        listener
            .accept()
            .unwrap()
            .0
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "found you");
        client.join();

        let datagram = autobind_datagram().unwrap();
        assert_eq!(
            local_address(&datagram)
                .unwrap()
                .abstract_name()
                .unwrap()
                .len(),
            5
        );
        let packets = SeqpacketListener::bind_addr(&unnamed()).unwrap();
        let client = Seqpacket::connect_addr(&packets.local_addr().unwrap()).unwrap();
        client.send(b"here").unwrap();
        assert_eq!(packets.accept().unwrap().recv(&mut [0; 8]).unwrap(), 4);
    });
}

fn unnamed() -> linipc::socket::unix::SocketAddr {
    UnixDatagram::unbound().unwrap().local_addr().unwrap()
}

#[test]
fn an_unnamed_socket_is_unnamed() {
    let (a, b) = Seqpacket::pair().unwrap();
    assert!(local_address(&a).unwrap().is_unnamed());
    assert!(peer_address(&a).unwrap().is_unnamed());
    assert!(b.local_addr().unwrap().is_unnamed());
    let inet = socket::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
    assert_eq!(local_address(&inet), Err(Errno::AFNOSUPPORT));
    let alone = unix::socket(SocketType::STREAM).unwrap();
    assert_eq!(peer_address(&alone), Err(Errno::NOTCONN));
}

#[test]
fn both_ends_know_each_other() {
    isolated!(|| {
        let groups: Vec<u32> = (1000..1100).collect();
        let gids: Vec<_> = groups
            .iter()
            .map(|id| rustix::process::Gid::from_raw(*id))
            .collect();
        let may_set_groups = rustix::thread::set_thread_groups(&gids).is_ok();
        let listener = autobind_listener().unwrap();
        let address = listener.local_addr().unwrap();
        let own = Credentials::current();
        let client = peer(|| {
            let mut stream = UnixStream::connect_addr(&address).unwrap();
            let server = stream.peer_credentials().unwrap();
            assert_eq!(server, own);
            stream.read_exact(&mut [0]).unwrap();
        });
        let (mut server, _) = listener.accept().unwrap();
        let pid = client.pid();
        assert_eq!(
            server.peer_credentials().unwrap(),
            Credentials { pid, ..own }
        );

        let pidfd = server.peer_pidfd();
        if !matches!(&pidfd, Err(error) if errno(error) == Some(Errno::NOPROTOOPT)) {
            let pidfd = pidfd.unwrap();
            assert!(fcntl_getfd(&pidfd).unwrap().contains(FdFlags::CLOEXEC));
            let signal = rustix::process::Signal::CONT;
            rustix::process::pidfd_send_signal(&pidfd, signal).unwrap();
            server.write_all(b"!").unwrap();
            client.join();
            let error = rustix::process::pidfd_send_signal(&pidfd, signal).unwrap_err();
            assert_eq!(error, Errno::SRCH);
        } else {
            support::skip("this kernel has no SO_PEERPIDFD");
            server.write_all(b"!").unwrap();
            client.join();
        }

        if may_set_groups {
            assert_eq!(server.peer_groups().unwrap(), groups);
            assert_eq!(unix::peer_groups(&server, &mut [0; 99]), Err(Errno::RANGE));
            assert_eq!(unix::peer_groups(&server, &mut [0; 100]), Ok(&groups[..]));
        } else {
            let own = rustix::process::getgroups().unwrap();
            let own: Vec<u32> = own.iter().map(|gid| gid.as_raw()).collect();
            assert_eq!(server.peer_groups().unwrap(), own);
        }
    });
}

#[test]
fn a_socket_without_a_peer_has_no_credentials() {
    for kind in KINDS {
        let alone = unix::socket(kind).unwrap();
        assert_eq!(unix::peer_credentials(&alone), Err(Errno::NODATA));
        // As of a kernel that has no SO_PEERPIDFD.
        let refused = unix::peer_pidfd(&alone).unwrap_err();
        assert!(matches!(refused, Errno::NODATA | Errno::NOPROTOOPT));
        assert_eq!(unix::peer_groups(&alone, &mut [0; 8]), Err(Errno::NODATA));
    }
    let file = fs::File::open("/dev/null").unwrap();
    assert_eq!(unix::peer_credentials(&file), Err(Errno::NOTSOCK));
    assert_eq!(unix::peer_pidfd(&file).unwrap_err(), Errno::NOTSOCK);
    assert_eq!(unix::set_pass_pidfd(&file, true), Err(Errno::NOTSOCK));
}

#[test]
fn a_peer_of_another_pid_namespace_has_pid_0() {
    isolated!(|| {
        let (a, b) = UnixStream::pair().unwrap();
        // The namespace is that of the children; `b` was made by us, outside of it.
        let flags = rustix::thread::UnshareFlags::NEWPID;
        // SAFETY: No descriptor table or memory is unshared.
        unsafe { rustix::thread::unshare_unsafe(flags) }.unwrap();
        peer(|| {
            assert_eq!(process::id(), 1);
            assert_eq!(b.peer_credentials().unwrap().pid, 0);
        })
        .join();
        drop(a);
    });
}

#[test]
fn packets_keep_their_borders() {
    isolated!(|| {
        let (a, b) = Seqpacket::pair().unwrap();
        let sender = peer(|| {
            for packet in [&b"one"[..], b"two and more", b"three", b"4444"] {
                a.send(packet).unwrap();
            }
        });
        sender.join();
        let mut text = [0; 8];
        assert_eq!(b.peek_len().unwrap(), 3);
        assert_eq!(b.recv(&mut text).unwrap(), 3);
        assert_eq!(&text[..3], b"one");
        assert_eq!(b.peek_len().unwrap(), 12);
        assert!(is_errno(b.recv(&mut text), Errno::MSGSIZE));
        assert_eq!(b.try_recv(&mut text).unwrap(), 5);
        assert_eq!(&text[..5], b"three");
        assert!(is_errno(
            b.recv_deadline(&mut text[..3], SOON),
            Errno::MSGSIZE
        ));
        assert!(is_errno(b.try_recv(&mut text), Errno::AGAIN));
        drop(a);
        assert_eq!(b.recv(&mut text).unwrap(), 0, "the end");
        assert_eq!(b.peek_len().unwrap(), 0);
        assert!(is_errno(b.send(b"x"), Errno::PIPE));
        assert!(is_errno(b.try_send(b"x"), Errno::PIPE));
        assert!(is_errno(b.send_deadline(b"x", SOON), Errno::PIPE));
    });
}

#[test]
fn empty_datagrams_and_packets_arrive() {
    for kind in [SocketType::DGRAM, SocketType::SEQPACKET] {
        let (a, b) = unix::pair(kind).unwrap();
        for text in [&b""[..], b"x", b""] {
            socket::send(&a, text, SendFlags::NOSIGNAL).unwrap();
        }
        let mut text = [0; 8];
        for len in [0, 1, 0] {
            let (_, all) = socket::recv(&b, &mut text, RecvFlags::DONTWAIT).unwrap();
            assert_eq!(all, len);
        }
        let error = socket::recv(&b, &mut text, RecvFlags::DONTWAIT).unwrap_err();
        assert_eq!(error, Errno::AGAIN);
    }
}

#[test]
fn packet_calls_wait_for_their_peer_or_the_deadline() {
    isolated!(|| {
        let (a, b) = Seqpacket::pair().unwrap();
        let timed_out = |result: io::Result<usize>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
        };
        timed_out(b.recv_deadline(&mut [0; 8], SOON));
        while a.try_send(&[7; 1000]).is_ok() {}
        assert!(is_errno(a.try_send(&[7; 1000]), Errno::AGAIN));
        timed_out(a.send_deadline(&[7; 1000], SOON).map(|()| 0));
        a.set_nonblocking(true).unwrap();
        assert!(is_errno(a.send(&[7; 1000]), Errno::AGAIN));
        a.set_nonblocking(false).unwrap();
        assert!(is_errno(a.send(&vec![0; 1 << 26]), Errno::MSGSIZE));

        let sender = peer(|| a.send_deadline(b"last", support::PATIENCE).unwrap());
        until_asleep(sender.pid());
        let mut text = [0; 1000];
        while b.recv_deadline(&mut text, support::PATIENCE).unwrap() == 1000 {}
        assert_eq!(&text[..4], b"last");
        sender.join();

        let receiver = peer(|| assert_eq!(b.recv(&mut [0; 8]).unwrap(), 4));
        until_asleep(receiver.pid());
        a.send_deadline(b"wake", support::PATIENCE).unwrap();
        receiver.join();
    });
}

#[test]
fn packet_connections_are_accepted_or_time_out() {
    isolated!(|| {
        let address = abstract_address(name(b"backlog")).unwrap();
        let core_address = SocketAddrUnix::new_abstract_name(&name(b"backlog")).unwrap();
        let socket = unix::socket(SocketType::SEQPACKET).unwrap();
        bind(&socket, &core_address).unwrap();
        assert!(is_errno(
            Seqpacket::connect_addr(&address),
            Errno::CONNREFUSED
        ));
        listen(&socket, 0).unwrap();
        let listener = SeqpacketListener::from(socket);
        let late = |error: io::Error| assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        linipc::event::set_nonblocking(&listener, true).unwrap();
        assert!(is_errno(listener.try_accept(), Errno::AGAIN));
        late(listener.accept_deadline(SOON).unwrap_err());

        let first = Seqpacket::connect_addr_deadline(&address, SOON).unwrap();
        late(Seqpacket::connect_addr_deadline(&address, SOON).unwrap_err());
        let second = peer(|| {
            let socket = Seqpacket::connect_addr_deadline(&address, support::PATIENCE).unwrap();
            // It waits again now, whatever it did to connect.
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 5);
        });
        let server = listener.accept_deadline(support::PATIENCE).unwrap();
        first.send(b"first").unwrap();
        assert_eq!(server.recv(&mut [0; 8]).unwrap(), 5);
        let server = listener.accept().unwrap();
        until_asleep(second.pid());
        server.send(b"later").unwrap();
        second.join();
        assert_eq!(
            SeqpacketListener::bind_addr(&address).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    });
}

#[test]
fn who_comes_too_late_for_a_connection_keeps_its_deadline() {
    isolated!(|| {
        let path = Path::new("/dev/shm/socket");
        for listener in [
            SeqpacketListener::bind(path).unwrap(),
            SeqpacketListener::bind_addr(&abstract_address(name(b"late")).unwrap()).unwrap(),
        ] {
            let rivals = [(); 4].map(|()| {
                peer(
                    || match listener.accept_deadline(Duration::from_millis(200)) {
                        Ok(socket) => socket.send(b"x").unwrap(),
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
                    },
                )
            });
            rivals.iter().for_each(|rival| until_asleep(rival.pid()));
            // It wakes all of them.
            let _client = Seqpacket::connect_addr(&listener.local_addr().unwrap()).unwrap();
            rivals.into_iter().for_each(Peer::join);
        }
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn a_packet_connection_to_a_path_times_out() {
    isolated!(|| {
        let path = Path::new("/dev/shm/socket");
        let listener = SeqpacketListener::bind(path).unwrap();
        listen(&listener, 0).unwrap();
        let _first = Seqpacket::connect_deadline(path, SOON).unwrap();
        let late = Seqpacket::connect_deadline(path, SOON).unwrap_err();
        assert_eq!(late.kind(), io::ErrorKind::TimedOut);
        listener.try_accept().unwrap();
        Seqpacket::connect_deadline(path, SOON).unwrap();
        fs::remove_file(path).unwrap();
    });
}

#[test]
fn one_direction_can_be_shut_down() {
    let (a, b) = Seqpacket::pair().unwrap();
    a.shutdown(Shutdown::Write).unwrap();
    assert!(is_errno(a.send(b"x"), Errno::PIPE));
    assert_eq!(b.recv(&mut [0; 8]).unwrap(), 0);
    b.send(b"back").unwrap();
    assert_eq!(a.try_clone().unwrap().recv(&mut [0; 8]).unwrap(), 4);
    let fd = OwnedFd::from(b);
    assert_eq!(
        socket::sockopt::socket_type(fd.as_fd()),
        Ok(SocketType::SEQPACKET)
    );
}

/// Binds each kind of socket to a path; gives what is to be kept.
fn bind_kind(kind: SocketType, how: &BindOptions, path: &Path) -> io::Result<Box<dyn AsFd>> {
    Ok(match kind {
        SocketType::STREAM => Box::new(how.listener(path)?.persist()),
        SocketType::DGRAM => Box::new(how.datagram(path)?.persist()),
        _ => Box::new(how.seqpacket(path)?.persist()),
    })
}

#[test]
fn a_stale_file_is_replaced_and_a_live_one_is_not() {
    isolated!(|| {
        let folder = Folder::new("stale");
        let path = folder.0.join("socket");
        let (plain, replace) = (
            BindOptions::new(),
            BindOptions::new().replace_stale(true).clone(),
        );
        for kind in KINDS {
            drop(bind_kind(kind, &plain, &path).unwrap());
            assert!(is_errno(bind_kind(kind, &plain, &path), Errno::ADDRINUSE));
            let inode = || fs::metadata(&path).unwrap().ino();
            let live = bind_kind(kind, &replace, &path).unwrap();
            let before = inode();
            for other in KINDS {
                assert!(is_errno(
                    bind_kind(other, &replace, &path),
                    Errno::ADDRINUSE
                ));
            }
            assert_eq!(inode(), before);
            connected(kind, &unix::path(&path).unwrap()).unwrap();
            drop(live);
            fs::remove_file(&path).unwrap();
            // Nothing there is as good as something stale.
            drop(bind_kind(kind, &replace, &path).unwrap());
            fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn a_full_backlog_is_not_stale() {
    isolated!(|| {
        let folder = Folder::new("full");
        let path = folder.0.join("socket");
        let address = unix::path(&path).unwrap();
        let listener = unix::socket(SocketType::STREAM).unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        let _waits = connected(SocketType::STREAM, &address).unwrap();
        let error = BindOptions::new().replace_stale(true).listener(&path);
        assert!(is_errno(error, Errno::ADDRINUSE));
    });
}

#[test]
fn what_is_not_a_socket_is_never_replaced() {
    isolated!(|| {
        let folder = Folder::new("not-a-socket");
        let path = folder.0.join("file");
        fs::write(&path, "precious").unwrap();
        let link = folder.0.join("link");
        let stale = folder.0.join("stale");
        drop(BindOptions::new().listener(&stale).unwrap());
        std::os::unix::fs::symlink(&stale, &link).unwrap();
        for path in [&path, &link, &folder.0] {
            let error = BindOptions::new().replace_stale(true).listener(path);
            assert!(is_errno(error, Errno::ADDRINUSE), "{path:?}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    });
}

#[test]
fn of_many_that_replace_a_stale_file_one_wins() {
    isolated!(|| {
        let folder = Folder::new("race");
        let path = folder.0.join("socket");
        for _ in 0..5 {
            drop(BindOptions::new().listener(&path).unwrap());
            let (mut results, mut result) = io::pipe().unwrap();
            let (mut end, ended) = io::pipe().unwrap();
            let mut peers: Vec<_> = (0..8)
                .map(|_| {
                    peer(|| {
                        let bound = BindOptions::new().replace_stale(true).listener(&path);
                        result.write_all(&[u8::from(bound.is_ok())]).unwrap();
                        match bound {
                            // Lives until the test has looked.
                            Ok(_listener) => drop(end.read(&mut [0])),
                            error => assert!(is_errno(error, Errno::ADDRINUSE)),
                        }
                    })
                })
                .collect();
            let mut won = [0; 8];
            results.read_exact(&mut won).unwrap();
            assert_eq!(won.iter().sum::<u8>(), 1, "{won:?}");
            let stream = UnixStream::connect(&path).unwrap();
            let winner = stream.peer_credentials().unwrap().pid;
            assert!(peers.iter().any(|peer| peer.pid() == winner));
            // The winner holds this end too, so it is told by a signal.
            let at = peers.iter().position(|peer| peer.pid() == winner).unwrap();
            peers.remove(at).kill();
            drop(ended);
            peers.into_iter().for_each(support::Peer::join);
            fs::remove_file(&path).unwrap();
        }
    });
}

#[test]
fn who_replaces_waits_for_the_lock_on_the_directory() {
    isolated!(|| {
        let folder = Folder::new("lock");
        let path = folder.0.join("socket");
        drop(BindOptions::new().listener(&path).unwrap());
        let lives = || UnixStream::connect(&path).is_ok();
        let lock = fs::File::open(&folder.0).unwrap();
        lock.lock().unwrap();
        let (mut end, ended) = io::pipe().unwrap();
        let replacer = peer(|| {
            // Not by a descriptor that it shares with the test.
            fs::File::open(&folder.0).unwrap().try_lock().unwrap_err();
            let _socket = BindOptions::new()
                .replace_stale(true)
                .listener(&path)
                .unwrap();
            end.read_exact(&mut [0]).unwrap();
        });
        until_asleep(replacer.pid());
        assert!(!lives());
        // The peer has a copy of the descriptor.
        lock.unlock().unwrap();
        support::eventually("it is replaced", lives);
        (&ended).write_all(b"!").unwrap();
        replacer.join();
    });
}

#[test]
fn the_file_goes_with_the_socket_if_that_is_chosen() {
    isolated!(|| {
        let folder = Folder::new("unlink");
        let path = folder.0.join("socket");
        let mut bind = BindOptions::new();
        bind.unlink_on_drop(true);
        drop(bind.listener(&path).unwrap());
        assert!(!path.exists());
        drop(bind.datagram(&path).unwrap());
        assert!(!path.exists());

        let socket = bind.seqpacket(&path).unwrap().persist();
        drop(socket);
        assert!(path.exists());
        fs::remove_file(&path).unwrap();

        let mine = bind.listener(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop(mine);
        assert!(path.exists(), "it was another's file");
        drop(other);
        fs::remove_file(&path).unwrap();

        // A relative path means the same file later.
        std::env::set_current_dir(&folder.0).unwrap();
        let relative = bind.listener("socket").unwrap();
        std::env::set_current_dir("/").unwrap();
        drop(relative);
        assert!(!path.exists());
        std::env::set_current_dir(&folder.0).unwrap();
        drop(BindOptions::new().listener("socket").unwrap());
        drop(bind.replace_stale(true).listener("socket").unwrap());
        assert!(!path.exists());
        std::env::set_current_dir("/").unwrap();
    });
}

#[test]
fn the_mode_holds_from_the_first_moment() {
    isolated!(|| {
        let folder = Folder::new("mode");
        let path = folder.0.join("socket");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        for (chosen, given) in [(0o600, 0o600), (0o666, 0o644)] {
            let _socket = BindOptions::new()
                .mode(chosen)
                .unlink_on_drop(true)
                .datagram(&path)
                .unwrap();
            assert_eq!(mode(), given);
        }
        let _socket = BindOptions::new()
            .unlink_on_drop(true)
            .datagram(&path)
            .unwrap();
        assert_eq!(mode(), 0o755);
    });
}

#[test]
fn the_option_that_rustix_gets_wrong_is_ours() {
    use linipc_core::socket::{SocketType, sockopt, unix};
    let lonely = unix::socket(SocketType::STREAM).unwrap();
    assert_eq!(sockopt::socket_peercred(&lonely), Err(Errno::NODATA));
}

#[test]
fn options_are_bytes_too() {
    use linipc_core::socket::{getsockopt, setsockopt, sockopt};

    const SOL_SOCKET: u32 = libc::SOL_SOCKET as u32;
    const SO_RCVTIMEO: u32 = libc::SO_RCVTIMEO as u32;
    let (socket, _) = unix::pair(SocketType::STREAM).unwrap();
    // SAFETY: An option without addresses, as all here.
    let set = |value: &[u8]| unsafe { setsockopt(&socket, SOL_SOCKET, SO_RCVTIMEO, value) };
    // `struct __kernel_old_timeval`.
    let time = [3, 500_000].map(libc::c_long::to_ne_bytes);
    set(time.as_flattened()).unwrap();
    let typed = sockopt::socket_timeout(&socket, sockopt::Timeout::Recv).unwrap();
    assert_eq!(typed, Some(Duration::from_millis(3500)));
    let mut room = [7; 24];
    // SAFETY: As above.
    let len = unsafe { getsockopt(&socket, SOL_SOCKET, SO_RCVTIMEO, &mut room) }.unwrap();
    assert_eq!(
        (&room[..len], &room[len..]),
        (time.as_flattened(), &[7; 24][len..])
    );
    assert_eq!(set(&[0; 3]), Err(Errno::INVAL));
    // SAFETY: As above.
    let unknown = unsafe { getsockopt(&socket, SOL_SOCKET, 9999, &mut room) };
    assert_eq!(unknown, Err(Errno::NOPROTOOPT));
}
