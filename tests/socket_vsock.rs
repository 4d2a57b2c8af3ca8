//! vsock: addresses everywhere, streams where the kernel has the loopback.

mod support;

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use linipc::error::errno;
use linipc::socket::vsock::{Address, Cid, PORT_ANY, VsockListener, VsockStream};
use linipc_core::Errno;
use linipc_core::io::{self, FdFlags, OFlags};
use linipc_core::socket::{self, SocketAddrAny, vsock};
use support::{peer, skip, until_asleep};

/// A new stream socket, unless the kernel has no vsock.
fn stream() -> Option<OwnedFd> {
    match vsock::stream() {
        Ok(socket) => Some(socket),
        Err(Errno::AFNOSUPPORT) => {
            skip("this kernel has no vsock");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn addresses_survive_the_kernels_form() {
    for (cid, port, to_host) in [
        (Cid::HOST, 1, false),
        (Cid::ANY, PORT_ANY, false),
        (Cid::new(0x0102_0304), 0x0506_0708, true),
    ] {
        let address = Address { cid, port, to_host };
        let any = SocketAddrAny::from(address);
        assert_eq!((any.address_family(), any.addr_len()), (vsock::FAMILY, 16));
        assert_eq!(Address::try_from(any), Ok(address));
    }
    let other = SocketAddrAny::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
    assert_eq!(Address::try_from(other), Err(Errno::AFNOSUPPORT));
    let mut storage = std::mem::MaybeUninit::<socket::SocketAddrStorage>::zeroed();
    // SAFETY: The first two bytes are the family.
    unsafe {
        storage
            .as_mut_ptr()
            .cast::<u16>()
            .write(vsock::FAMILY.as_raw())
    };
    // SAFETY: Two bytes are initialised, and more.
    let short = unsafe { SocketAddrAny::new(storage, 2) };
    assert_eq!(Address::try_from(short), Err(Errno::INVAL));
}

#[test]
fn ids_show_their_names() {
    let all = [
        Cid::ANY,
        Cid::HYPERVISOR,
        Cid::LOCAL,
        Cid::HOST,
        Cid::new(3),
    ];
    assert_eq!(format!("{all:?}"), "[ANY, HYPERVISOR, LOCAL, HOST, 3]");
    assert_eq!(all.map(Cid::number), [u32::MAX, 0, 1, 2, 3]);
}

#[test]
fn the_kernel_chooses_a_port_and_tells_it() {
    let Some(socket) = stream() else { return };
    assert!(io::fcntl_getfd(&socket).unwrap().contains(FdFlags::CLOEXEC));
    assert_eq!(vsock::peer_address(&socket), Err(Errno::NOTCONN));
    socket::bind(&socket, &Address::new(Cid::ANY, PORT_ANY)).unwrap();
    let address = vsock::local_address(&socket).unwrap();
    assert_eq!((address.cid, address.to_host), (Cid::ANY, false));
    assert_ne!(address.port, PORT_ANY);

    let error = VsockListener::bind(address).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::ADDRINUSE));
    // No machine has the hypervisor's id.
    let error = VsockListener::bind(Address::new(Cid::HYPERVISOR, PORT_ANY)).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::ADDRNOTAVAIL));
}

#[test]
fn this_machines_id_can_be_bound() {
    let cid = match linipc::socket::vsock::local_cid() {
        Ok(cid) => cid,
        Err(error) if errno(&error) == Some(Errno::NOENT) => {
            return skip("there is no /dev/vsock");
        }
        Err(error) if errno(&error) == Some(Errno::ACCESS) => {
            return skip("/dev/vsock is for root only");
        }
        Err(error) => panic!("{error}"),
    };
    let listener = VsockListener::bind(Address::new(cid, PORT_ANY)).unwrap();
    assert_eq!(listener.local_addr().unwrap().cid, cid);
}

#[test]
fn packets_have_a_socket_type() {
    if stream().is_none() {
        return;
    }
    match vsock::seqpacket() {
        Ok(socket) => {
            socket::bind(&socket, &Address::new(Cid::ANY, PORT_ANY)).unwrap();
            assert_ne!(vsock::local_address(&socket).unwrap().port, PORT_ANY);
        }
        Err(Errno::SOCKTNOSUPPORT) => skip("this kernel has no vsock packets"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_listener_need_not_wait() {
    if stream().is_none() {
        return;
    }
    let listener = VsockListener::bind(Address::new(Cid::ANY, PORT_ANY)).unwrap();
    listener.set_nonblocking(true).unwrap();
    assert!(
        io::fcntl_getfl(&listener)
            .unwrap()
            .contains(OFlags::NONBLOCK)
    );
    let error = listener.accept().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let error = listener.incoming().next().unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn two_processes_talk_over_the_loopback() {
    isolated!(|| {
        if stream().is_none() {
            return;
        }
        let listener = match VsockListener::bind(Address::new(Cid::LOCAL, PORT_ANY)) {
            Ok(listener) => listener,
            Err(error) if errno(&error) == Some(Errno::ADDRNOTAVAIL) => {
                return skip("this kernel has no vsock loopback (vsock_loopback)");
            }
            Err(error) => panic!("{error}"),
        };
        let address = listener.local_addr().unwrap();
        assert_eq!(address.cid, Cid::LOCAL);
        let client = peer(|| {
            let mut stream = VsockStream::connect(address).unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
            stream.write_all(b"ping").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            assert_eq!(text, "pong");
        });
        let (mut stream, from) = listener.accept().unwrap();
        assert_eq!(from, stream.peer_addr().unwrap());
        assert_eq!(from.cid, Cid::LOCAL);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ping");
        stream.write_all(b"pong").unwrap();
        drop(stream);
        client.join();
        drop(listener);
        let error = VsockStream::connect(address).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::CONNRESET));
    });
}

/// A stream is a stream: what needs no address is tried with a Unix socket, which every kernel has.
#[test]
fn a_stream_reads_writes_and_shuts_down() {
    isolated!(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let mut stream = VsockStream::from(OwnedFd::from(here));
        let child = peer(|| {
            let stream = VsockStream::from(OwnedFd::from(there.try_clone().unwrap()));
            let mut text = [[0; 2]; 2];
            let [a, b] = &mut text;
            let read = (&stream).read_vectored(&mut [IoSliceMut::new(a), IoSliceMut::new(b)]);
            assert_eq!(read.unwrap(), 4);
            assert_eq!(text.as_flattened(), b"four");
            (&stream).write_all(b"and back").unwrap();
            assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
            stream.shutdown(Shutdown::Both).unwrap();
        });
        until_asleep(child.pid());
        let slices = [IoSlice::new(b"fo"), IoSlice::new(b"ur")];
        assert_eq!(stream.write_vectored(&slices).unwrap(), 4);
        stream.flush().unwrap();
        let mut second = stream.try_clone().unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        drop(there);
        let mut text = String::new();
        second.read_to_string(&mut text).unwrap();
        assert_eq!(text, "and back");
        // No SIGPIPE, and an address of another family is not one of ours.
        let error = stream.write(b"x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        let error = stream.local_addr().unwrap_err();
        assert_eq!(errno(&error), Some(Errno::AFNOSUPPORT));
        child.join();
    });
}

#[test]
fn a_stream_can_refuse_to_wait() {
    let (here, _there) = UnixStream::pair().unwrap();
    let mut stream = VsockStream::from(OwnedFd::from(here));
    let would_block = |result: std::io::Result<usize>| {
        assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    };
    let soon = Some(Duration::from_millis(5));
    stream.set_read_timeout(soon).unwrap();
    would_block(stream.read(&mut [0]));
    stream.set_write_timeout(soon).unwrap();
    would_block(
        (0..)
            .find_map(|_| stream.write(&[0; 1 << 16]).err())
            .map_or(Ok(0), Err),
    );
    stream.set_read_timeout(None).unwrap();
    stream.set_nonblocking(true).unwrap();
    would_block(stream.read(&mut [0]));
    let output = Command::new("true").stdin(Stdio::from(stream)).status();
    assert!(output.unwrap().success());
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_sees_our_address_and_we_its() {
    if stream().is_none() {
        return;
    }
    let listener = VsockListener::bind(Address::new(Cid::ANY, PORT_ANY)).unwrap();
    let address = listener.local_addr().unwrap();
    let fd = OwnedFd::from(listener);
    let script = "import socket; print(*socket.socket(fileno=0).getsockname())";
    let child = support::python(script)
        .stdin(Stdio::from(fd.as_fd().try_clone_to_owned().unwrap()))
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&child.stdout);
    assert_eq!(seen.trim_end(), format!("{} {}", u32::MAX, address.port));

    // Python binds a socket of ours, and we ask where it is.
    let socket = vsock::stream().unwrap();
    let script = "import socket; s = socket.socket(fileno=0); \
        s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)); print(*s.getsockname())";
    let child = support::python(script)
        .stdin(Stdio::from(socket.try_clone().unwrap()))
        .output()
        .unwrap();
    let seen = String::from_utf8_lossy(&child.stdout);
    let ours = vsock::local_address(&socket).unwrap();
    assert_eq!(
        seen.trim_end(),
        format!("{} {}", ours.cid.number(), ours.port)
    );
}
