//! TCP and UDP between two processes.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use linipc::error::errno;
use linipc::socket::inet::{KeepAlive, LOOPBACK, TcpExt, TcpOptions, UdpExt, name_to_index};
use linipc_core::Errno;
use linipc_core::io::{self, FdFlags, IoSlice, OFlags};
use linipc_core::socket::{self, AddressFamily, SendFlags, inet, sockopt};
use support::{own_network, peer, until_asleep};

const LOOPBACK_V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 0);
const SOON: Duration = Duration::from_millis(5);

fn is_cloexec(fd: impl AsFd) -> bool {
    io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
}

/// A UDP socket at a port of its own, and its address.
fn bound(at: SocketAddr) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn core_alone_makes_a_connection_of_either_family() {
    isolated!(|| {
        own_network();
        for at in [LOOPBACK, LOOPBACK_V6] {
            let listener = inet::tcp(inet::family(&at)).unwrap();
            socket::bind(&listener, &at).unwrap();
            socket::listen(&listener, 1).unwrap();
            let address = inet::local_address(&listener).unwrap();
            assert_eq!(address.ip(), at.ip());
            assert_ne!(address.port(), 0);
            let client = peer(|| {
                let client = inet::tcp(inet::family(&at)).unwrap();
                assert!(is_cloexec(&client));
                assert_eq!(inet::peer_address(&client), Err(Errno::NOTCONN));
                socket::connect(&client, &address).unwrap();
                assert_eq!(inet::peer_address(&client), Ok(address));
                io::write(&client, b"over the loopback").unwrap();
            });
            let server = socket::accept(&listener).unwrap();
            assert!(is_cloexec(&server));
            assert_eq!(inet::local_address(&server), Ok(address));
            let mut bytes = [0; 32];
            let len = io::read(&server, &mut bytes).unwrap();
            assert_eq!(&bytes[..len], b"over the loopback");
            client.join();
            assert_eq!(io::read(&server, &mut bytes), Ok(0));
        }
    });
}

#[test]
fn addresses_of_other_families_are_refused() {
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(inet::local_address(&socket), Err(Errno::AFNOSUPPORT));
    assert!(inet::peer_address(&socket).is_err());
    assert_eq!(
        inet::tcp(AddressFamily::UNIX).unwrap_err(),
        Errno::PROTONOSUPPORT
    );
    assert!(is_cloexec(inet::udp(AddressFamily::INET).unwrap()));
}

#[test]
fn connections_inherit_what_their_listener_has() {
    isolated!(|| {
        own_network();
        let keep_alive = KeepAlive {
            idle: Duration::from_millis(9500),
            interval: Duration::from_secs(3),
            count: 4,
        };
        let rounded = KeepAlive {
            idle: Duration::from_secs(10),
            ..keep_alive
        };
        let mut options = TcpOptions::new();
        options.no_delay(true).keep_alive(keep_alive);
        let listener = options.listen(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        let client = peer(|| {
            let stream = options.connect(address).unwrap();
            assert!(stream.nodelay().unwrap());
            assert_eq!(stream.keep_alive().unwrap(), Some(rounded));
            assert!(is_cloexec(&stream));
            // It waits again, though the connection was made without waiting.
            assert!(!io::fcntl_getfl(&stream).unwrap().contains(OFlags::NONBLOCK));
            assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 3);
        });
        let (mut server, _) = listener.accept().unwrap();
        assert!(server.nodelay().unwrap());
        assert_eq!(server.keep_alive().unwrap(), Some(rounded));
        until_asleep(client.pid());
        server.write_all(b"bye").unwrap();
        client.join();

        let plain = TcpOptions::new().listen(LOOPBACK).unwrap();
        let stream = TcpOptions::new().connect(plain.local_addr().unwrap());
        assert!(!stream.as_ref().unwrap().nodelay().unwrap());
        assert_eq!(stream.unwrap().keep_alive().unwrap(), None);
    });
}

#[test]
fn keep_alive_is_switched_and_bounded() {
    let listener = TcpListener::bind(LOOPBACK).unwrap();
    let good = KeepAlive {
        idle: Duration::from_secs(32767),
        interval: Duration::from_secs(1),
        count: 127,
    };
    listener.set_keep_alive(Some(good)).unwrap();
    assert_eq!(listener.keep_alive().unwrap(), Some(good));
    listener.set_keep_alive(None).unwrap();
    assert_eq!(listener.keep_alive().unwrap(), None);
    let (zero, long) = (Duration::ZERO, Duration::from_secs(32768));
    for bad in [
        KeepAlive { idle: zero, ..good },
        KeepAlive { idle: long, ..good },
        KeepAlive {
            interval: zero,
            ..good
        },
        KeepAlive {
            interval: Duration::MAX,
            ..good
        },
        KeepAlive { count: 0, ..good },
        KeepAlive { count: 128, ..good },
    ] {
        let error = listener.set_keep_alive(Some(bad)).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL), "{bad:?}");
        assert_eq!(listener.keep_alive().unwrap(), None);
    }
    let (udp, _) = bound(LOOPBACK);
    let refused = inet::set_keep_alive(&udp, Some(good));
    assert_eq!(refused, Err(Errno::NOPROTOOPT));
}

#[test]
fn connecting_fails_or_times_out() {
    isolated!(|| {
        own_network();
        let listener = TcpOptions::new().backlog(0).listen(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        // A queue of "0" holds one; who comes then gets no answer.
        let first = TcpOptions::new().connect(address).unwrap();
        let error = TcpOptions::new()
            .connect_deadline(address, SOON)
            .unwrap_err();
        assert_eq!(errno(&error), Some(Errno::TIMEDOUT));
        let error = TcpOptions::new().listen(address).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::ADDRINUSE));
        drop(first);
        drop(listener);
        let error = TcpOptions::new().connect(address).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::CONNREFUSED));
        TcpOptions::new().listen(address).unwrap();
    });
}

#[test]
fn fast_open_sends_data_with_the_request() {
    isolated!(|| {
        own_network();
        std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").unwrap();
        let mut options = TcpOptions::new();
        options.fast_open(true);
        let listener = options.listen(LOOPBACK).unwrap();
        let address = listener.local_addr().unwrap();
        // The first connection gets the cookie that the second one shows.
        let client = peer(|| {
            for used in [false, true] {
                let mut stream = options.connect(address).unwrap();
                stream.write_all(b"at once").unwrap();
                let mut answer = [0; 2];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(&answer, b"ok");
                assert_eq!(stream.fast_open_used().unwrap(), used);
            }
        });
        for used in [false, true] {
            let (mut server, _) = listener.accept().unwrap();
            let mut text = [0; 7];
            server.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"at once");
            assert_eq!(server.fast_open_used().unwrap(), used);
            server.write_all(b"ok").unwrap();
        }
        client.join();

        let stream = TcpStream::connect(address).unwrap();
        let late = inet::set_fast_open_connect(&stream, true);
        assert_eq!(late, Err(Errno::INVAL));
        assert_eq!(inet::set_fast_open(&stream, 1), Err(Errno::INVAL));
        std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "0").unwrap();
        let error = options.connect(address).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::OPNOTSUPP));
    });
}

/// A socket that has joined `group` through the loopback, and its address there.
fn joined(at: SocketAddr, group: IpAddr) -> (UdpSocket, SocketAddr) {
    let socket = inet::udp(inet::family(&at)).unwrap();
    sockopt::set_socket_reuseaddr(&socket, true).unwrap();
    socket::bind(&socket, &at).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let lo = name_to_index(&socket, "lo").unwrap();
    socket.join(group, lo).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::new(group, port))
}

/// Makes the kernel find IPv6 groups on the loopback: unlike for IPv4, it needs a route.
fn route_v6_groups() {
    /// `struct in6_rtmsg` of `<linux/ipv6_route.h>`.
    #[repr(C)]
    #[derive(Default)]
    struct Route {
        addresses: [[u8; 16]; 3],
        kind: u32,
        dst_len: u16,
        src_len: u16,
        metric: u32,
        info: std::ffi::c_ulong,
        flags: u32,
        interface: i32,
    }
    const SIOCADDRT: u32 = 0x890b;
    let (socket, _) = bound(LOOPBACK_V6);
    let mut route = Route {
        dst_len: 8,
        metric: 1,
        flags: 0x8000_0001, // RTF_UP, RTF_LOCAL
        interface: name_to_index(&socket, "lo").unwrap() as i32,
        ..Route::default()
    };
    route.addresses[0][0] = 0xff;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: The call reads one `in6_rtmsg`.
    let done = unsafe { libc::ioctl(fd, SIOCADDRT as _, &raw const route) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn every_member_of_a_group_gets_its_datagrams() {
    isolated!(|| {
        own_network();
        route_v6_groups();
        let v4 = IpAddr::V4(Ipv4Addr::new(239, 7, 7, 7));
        let v6 = IpAddr::V6("ff01::7".parse().unwrap());
        let any = |group: IpAddr, port| match group {
            IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        };
        for group in [v4, v6] {
            let (here, address) = joined(any(group, 0), group);
            let (mut ready, mut joined_too) = std::io::pipe().unwrap();
            let member = peer(|| {
                let (there, _) = joined(any(group, address.port()), group);
                joined_too.write_all(&[1]).unwrap();
                let mut bytes = [0; 16];
                let len = there.recv(&mut bytes).unwrap();
                assert_eq!(&bytes[..len], b"to all");
            });
            ready.read_exact(&mut [0]).unwrap();
            let sender = UdpSocket::bind(any(group, 0)).unwrap();
            let lo = name_to_index(&sender, "lo").unwrap();
            sender.set_multicast_interface(lo).unwrap();
            sender.send_to(b"to all", address).unwrap();
            let mut bytes = [0; 16];
            assert_eq!(here.recv(&mut bytes).unwrap(), 6);
            member.join();

            // Who has left gets no more of them.
            here.leave(group, lo).unwrap();
            sender.send_to(b"to nobody", address).unwrap();
            let unicast = match group {
                IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
                IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
            };
            bound(any(group, 0)).0.send_to(b"to you", unicast).unwrap();
            let len = here.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..len], b"to you");
        }
    });
}

#[test]
fn the_interface_of_what_is_sent_to_groups_can_be_unchosen() {
    isolated!(|| {
        own_network();
        let (socket, _) = bound(LOOPBACK_V6);
        for index in [1, 0] {
            socket.set_multicast_interface(index).unwrap();
            assert_eq!(sockopt::ipv6_multicast_if(&socket), Ok(index));
        }
        let (socket, _) = bound(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        let group = (Ipv4Addr::new(239, 7, 7, 7), 9);
        socket.set_multicast_interface(1).unwrap();
        socket.send_to(b"x", group).unwrap();
        socket.set_multicast_interface(0).unwrap();
        let error = socket.send_to(b"x", group).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::NETUNREACH), "no route");
    });
}

#[test]
fn wrong_groups_are_refused() {
    isolated!(|| {
        own_network();
        let v4 = IpAddr::V4(Ipv4Addr::new(239, 7, 7, 7));
        let v6 = IpAddr::V6("ff01::7".parse().unwrap());
        for (at, group, other) in [(LOOPBACK, v4, v6), (LOOPBACK_V6, v6, v4)] {
            let (socket, _) = bound(at);
            let error = |result: std::io::Result<()>| errno(&result.unwrap_err());
            assert_eq!(error(socket.leave(group, 1)), Some(Errno::ADDRNOTAVAIL));
            socket.join(group, 1).unwrap();
            assert_eq!(error(socket.join(group, 1)), Some(Errno::ADDRINUSE));
            assert_eq!(error(socket.join(group, 99)), Some(Errno::NODEV));
            assert_eq!(error(socket.join(at.ip(), 1)), Some(Errno::INVAL));
            let missing = error(socket.set_multicast_interface(99)).unwrap();
            assert!([Errno::NODEV, Errno::ADDRNOTAVAIL].contains(&missing));
            socket.leave(group, 1).unwrap();
            // IPv6 sockets take IPv4's options.
            if at.is_ipv4() {
                assert_eq!(error(socket.join(other, 1)), Some(Errno::NOPROTOOPT));
            }
        }
    });
}

/// `len` bytes that differ.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn one_send_becomes_many_datagrams() {
    isolated!(|| {
        own_network();
        for at in [LOOPBACK, LOOPBACK_V6] {
            let (receiver, address) = bound(at);
            let bytes = pattern(10_100);
            let sender = peer(|| {
                let (socket, _) = bound(at);
                assert_eq!(
                    socket.send_segments_to(&bytes, 1000, address).unwrap(),
                    10_100
                );
                socket.connect(address).unwrap();
                assert_eq!(socket.send_segments(b"abcde", 2).unwrap(), 5);
                inet::set_segment_size(&socket, 3).unwrap();
                assert_eq!(socket.send(b"fghij").unwrap(), 5);
                inet::set_segment_size(&socket, 0).unwrap();
                assert_eq!(socket.send(b"klmno").unwrap(), 5);
            });
            let sizes = [[1000; 10].as_slice(), &[100, 2, 2, 1, 3, 2, 5]].concat();
            let mut all = Vec::new();
            for size in sizes {
                let mut datagram = [0; 2000];
                let got = receiver.receive_segments(&mut datagram).unwrap();
                assert_eq!((got.len, got.segment, got.truncated), (size, None, false));
                assert_eq!(got.from.unwrap().ip(), at.ip());
                assert_eq!(
                    got.split(&datagram).collect::<Vec<_>>(),
                    [&datagram[..size]]
                );
                all.extend_from_slice(&datagram[..size]);
            }
            assert_eq!(all, [&bytes, b"abcdefghijklmno".as_slice()].concat());
            sender.join();
        }
    });
}

#[test]
fn one_receive_takes_many_datagrams() {
    isolated!(|| {
        own_network();
        let (receiver, address) = bound(LOOPBACK);
        receiver.set_coalescing(true).unwrap();
        let bytes = pattern(10_100);
        peer(|| {
            let (socket, _) = bound(LOOPBACK);
            socket.send_segments_to(&bytes, 1000, address).unwrap();
            socket.send_to(b"alone", address).unwrap();
            socket.send_segments_to(&bytes, 1000, address).unwrap();
        })
        .join();
        let mut buffer = vec![0; 1 << 16];
        let got = receiver.receive_segments(&mut buffer).unwrap();
        assert_eq!((got.len, got.segment), (10_100, Some(1000)));
        assert_eq!(
            got.split(&buffer).collect::<Vec<_>>(),
            bytes.chunks(1000).collect::<Vec<_>>()
        );
        let got = receiver.receive_segments(&mut buffer).unwrap();
        assert_eq!((got.len, got.segment), (5, None));
        let got = receiver.receive_segments(&mut buffer[..1500]).unwrap();
        assert_eq!((got.len, got.truncated), (1500, true));
        let error = receiver.receive_segments_deadline(&mut buffer, SOON);
        assert_eq!(errno(&error.unwrap_err()), Some(Errno::TIMEDOUT));
    });
}

#[test]
fn many_segments_go_in_several_calls() {
    isolated!(|| {
        own_network();
        let (receiver, address) = bound(LOOPBACK);
        let bytes = pattern(150 * 70);
        let (socket, _) = bound(LOOPBACK);
        let sender = peer(|| {
            assert_eq!(
                socket.send_segments_to(&bytes, 70, address).unwrap(),
                bytes.len()
            );
        });
        for expected in bytes.chunks(70) {
            let mut datagram = [0; 1000];
            let got = receiver
                .receive_segments_deadline(&mut datagram, support::PATIENCE)
                .unwrap();
            assert_eq!(&datagram[..got.len], expected);
        }
        sender.join();
    });
}

#[test]
fn wrong_segments_are_refused() {
    isolated!(|| {
        own_network();
        let (socket, address) = bound(LOOPBACK);
        let send = |len: usize, segment, to| {
            let bytes = vec![0; len];
            inet::send_segments(
                &socket,
                &[IoSlice::new(&bytes)],
                segment,
                to,
                SendFlags::empty(),
            )
        };
        assert_eq!(send(10, 5, None), Err(Errno::DESTADDRREQ));
        assert_eq!(send(128, 1, Some(&address)), Ok(128));
        assert_eq!(send(129, 1, Some(&address)), Err(Errno::INVAL));
        assert_eq!(send(65_507, 1000, Some(&address)), Ok(65_507));
        assert_eq!(send(65_508, 1000, Some(&address)), Err(Errno::MSGSIZE));
        assert_eq!(send(10, 0, Some(&address)), Ok(10));
        let error = socket.send_segments_to(b"abc", 0, address).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL));
        let listener = TcpListener::bind(LOOPBACK).unwrap();
        let refused = inet::set_coalescing(&listener, true);
        assert_eq!(refused, Err(Errno::NOPROTOOPT));
        let refused = inet::set_segment_size(&listener, 1);
        assert_eq!(refused, Err(Errno::NOPROTOOPT));
    });
}

#[test]
fn a_datagram_to_nobody_is_refused_later() {
    isolated!(|| {
        own_network();
        let (socket, _) = bound(LOOPBACK);
        let (gone, address) = bound(LOOPBACK);
        drop(gone);
        socket.connect(address).unwrap();
        socket.send_segments(b"abc", 1).unwrap();
        let error = socket.receive_segments(&mut [0; 8]).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::CONNREFUSED));
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_understands_our_segments_and_we_its() {
    const SCRIPT: &str = r#"
import socket, struct, sys
UDP_SEGMENT, UDP_GRO, SOL_UDP = 103, 104, 17
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(60)
s.bind(("127.0.0.1", 0))
s.setsockopt(SOL_UDP, UDP_GRO, 1)
print(s.getsockname()[1], flush=True)
data, control, flags, peer = s.recvmsg(65536, 64)
(level, kind, value), = control
print(len(data), (level, kind) == (SOL_UDP, UDP_GRO), struct.unpack("i", value)[0], flush=True)
s.sendmsg([data], [(SOL_UDP, UDP_SEGMENT, struct.pack("H", 700))], 0, peer)
"#;
    isolated!(|| {
        own_network();
        let mut child = support::python(SCRIPT)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port: u16 = lines.next().unwrap().unwrap().parse().unwrap();
        let (socket, _) = bound(LOOPBACK);
        socket.set_coalescing(true).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let bytes = pattern(5000);
        socket.send_segments(&bytes, 900).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "5000 True 900");
        let mut buffer = vec![0; 1 << 16];
        let got = socket.receive_segments(&mut buffer).unwrap();
        assert_eq!((got.len, got.segment), (5000, Some(700)));
        assert_eq!(buffer[..5000], bytes);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_sees_our_tcp_options() {
    const OPTIONS: &str = r#"
import socket
l = socket.socket(fileno=0)
tcp = lambda name: l.getsockopt(socket.IPPROTO_TCP, name)
print(tcp(socket.TCP_NODELAY), tcp(socket.TCP_KEEPIDLE), tcp(socket.TCP_KEEPINTVL),
      tcp(socket.TCP_KEEPCNT), tcp(socket.TCP_FASTOPEN),
      l.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
"#;
    isolated!(|| {
        own_network();
        std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "3").unwrap();
        let listener = TcpOptions::new()
            .no_delay(true)
            .fast_open(true)
            .backlog(17)
            .keep_alive(KeepAlive {
                idle: Duration::from_secs(11),
                interval: Duration::from_secs(12),
                count: 13,
            })
            .listen(LOOPBACK)
            .unwrap();
        let output = support::python(OPTIONS)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.trim_end(), "1 11 12 13 17 1", "{output:?}");
    });
}
