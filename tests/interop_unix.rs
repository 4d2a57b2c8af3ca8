//! Unix sockets with Python and C at the other end.

mod support;

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use linipc::socket::cmsg::{CmsgExt, MAX_FDS};
use linipc::socket::unix::{Credentials, Seqpacket, UnixDatagram, UnixExt, UnixStream};
use linipc_core::socket::cmsg::{SPACE_CREDENTIALS, space, space_fds};
use linipc_core::socket::mmsg::WAIT_FOR_ONE;
use support::{compile_c, python, run};

/// A file with this text, to be read from its start.
fn file(text: &str) -> File {
    let fd = rustix::fs::memfd_create("text", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file
}

fn text(fd: OwnedFd) -> String {
    let mut text = String::new();
    let mut file = File::from(fd);
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

/// Starts a program whose standard input is one end of a socket.
fn start(command: &mut Command, socket: impl Into<OwnedFd>) -> Child {
    let child = command.stdin(Stdio::from(socket.into())).spawn().unwrap();
    // The command holds a copy of the socket, until it gets another one.
    command.stdin(Stdio::null());
    child
}

fn finish(mut child: Child) {
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}");
}

const PYTHON: &str = "
import array, os, socket, struct, sys
peer = socket.socket(fileno=0)
def read(fd):
    os.lseek(fd, 0, os.SEEK_SET)
    return os.read(fd, 100).decode()
def memfd(text):
    fd = os.memfd_create('text')
    os.write(fd, text.encode())
    return fd
RIGHTS = (socket.SOL_SOCKET, socket.SCM_RIGHTS)
";

fn python_with(script: &str) -> Command {
    python(&format!("{PYTHON}{script}"))
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_sends_and_receives_descriptors() {
    isolated!(|| {
        let script = "
data, fds, flags, address = socket.recv_fds(peer, 100, 5)
assert data == b'from rust', data
assert [read(fd) for fd in fds] == ['one', 'two'], fds
socket.send_fds(peer, [b'from ', b'python'], [memfd('three'), memfd('four')])
";
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = start(&mut python_with(script), theirs);
        let files = [file("one"), file("two")];
        assert_eq!(socket.send_with_fds(b"from rust", &files).unwrap(), 9);
        let mut bytes = [0; 100];
        let received = socket.recv_with_fds(&mut bytes, 2).unwrap();
        assert_eq!(&bytes[..received.len], b"from python");
        let texts: Vec<_> = received.fds.into_iter().map(text).collect();
        assert_eq!(texts, ["three", "four"]);
        finish(child);
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_follows_the_format_of_lists() {
    isolated!(|| {
        // Written from the page of `fd_list`, not from its code.
        let script = "
def send_list(fds):
    start = 0
    while True:
        part = fds[start:start + 253]
        header = struct.pack('<II', len(fds), start)
        peer.sendmsg([header], [RIGHTS + (array.array('i', part),)] if part else [])
        start += len(part)
        if start == len(fds):
            return
def receive_list():
    fds = []
    while True:
        header, part, flags, address = socket.recv_fds(peer, 8, 253)
        total, start = struct.unpack('<II', header)
        assert start == len(fds) and not flags & socket.MSG_CTRUNC
        fds += part
        if len(fds) == total:
            return fds
for count in [0, 1, 253, 254, 600]:
    fds = receive_list()
    assert [read(fd) for fd in fds] == [str(i) for i in range(count)]
    for fd in fds:
        os.close(fd)
    fds = [memfd(str(i)) for i in range(count)]
    send_list(fds)
    for fd in fds:
        os.close(fd)
";
        let pairs: [(OwnedFd, OwnedFd); 3] = [
            UnixStream::pair()
                .map(|(a, b)| (a.into(), b.into()))
                .unwrap(),
            UnixDatagram::pair()
                .map(|(a, b)| (a.into(), b.into()))
                .unwrap(),
            Seqpacket::pair()
                .map(|(a, b)| (a.into(), b.into()))
                .unwrap(),
        ];
        for (socket, theirs) in pairs {
            let child = start(&mut python_with(script), theirs);
            for count in [0, 1, MAX_FDS, MAX_FDS + 1, 600] {
                let files: Vec<_> = (0..count).map(|i| file(&i.to_string())).collect();
                socket.send_fds(&files).unwrap();
                drop(files);
                let fds = socket.recv_fds_deadline(count, support::PATIENCE).unwrap();
                let texts: Vec<_> = fds.into_iter().map(text).collect();
                let expected: Vec<_> = (0..count).map(|i| i.to_string()).collect();
                assert_eq!(texts, expected);
            }
            finish(child);
        }
    });
}

#[test]
#[cfg_attr(not(has_python), ignore = "python3 is missing")]
fn python_finds_abstract_names() {
    isolated!(|| {
        let listener = linipc::socket::unix::autobind_listener().unwrap();
        let name = linipc_core::socket::unix::local_address(&listener).unwrap();
        let name = std::str::from_utf8(name.abstract_name().unwrap()).unwrap();
        let script = format!(
            "
stream = socket.socket(socket.AF_UNIX)
stream.connect(b'\\x00{name}')
stream.sendall(b'through ' + stream.getpeername())
"
        );
        let (_keep, theirs) = UnixStream::pair().unwrap();
        let child = start(&mut python_with(&script), theirs);
        let (mut stream, _) = listener.accept().unwrap();
        assert_eq!(stream.peer_credentials().unwrap().pid, child.id() as i32);
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, format!("through \0{name}"));
        finish(child);
    });
}

const C: &str = r#"
#define _GNU_SOURCE
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Receives a message with two descriptors and credentials, and answers with the same. */
int main(void) {
    int on = 1;
    assert(setsockopt(0, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    /* Only now do messages come with credentials. */
    assert(send(0, "ready", 5, 0) == 5);

    char data[64];
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(2 * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec iov = { data, sizeof data };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1,
        .msg_control = control.bytes, .msg_controllen = sizeof control.bytes,
    };
    assert(recvmsg(0, &message, MSG_CMSG_CLOEXEC) == 9 && !memcmp(data, "from rust", 9));
    assert(!(message.msg_flags & MSG_CTRUNC));
    int fds[2] = { -1, -1 };
    struct ucred sender = { 0, 0, 0 };
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c)) {
        assert(c->cmsg_level == SOL_SOCKET);
        if (c->cmsg_type == SCM_RIGHTS) {
            assert(c->cmsg_len == CMSG_LEN(sizeof fds));
            memcpy(fds, CMSG_DATA(c), sizeof fds);
        } else if (c->cmsg_type == SCM_CREDENTIALS) {
            assert(c->cmsg_len == CMSG_LEN(sizeof sender));
            memcpy(&sender, CMSG_DATA(c), sizeof sender);
        }
    }
    assert(sender.pid == getppid() && sender.uid == getuid() && sender.gid == getgid());
    for (int i = 0; i < 2; i++) {
        assert(pread(fds[i], data, sizeof data, 0) == 3);
        assert(!memcmp(data, i ? "two" : "one", 3));
    }

    for (int i = 0; i < 2; i++) {
        fds[i] = memfd_create("text", 0);
        assert(write(fds[i], i ? "four" : "three", i ? 4 : 5) == (i ? 4 : 5));
    }
    memset(&control, 0, sizeof control);
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    message.msg_controllen = sizeof control.bytes;
    c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_CREDENTIALS;
    c->cmsg_len = CMSG_LEN(sizeof(struct ucred));
    struct ucred self = { getpid(), getuid(), getgid() };
    memcpy(CMSG_DATA(c), &self, sizeof self);
    c = CMSG_NXTHDR(&message, c);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fds);
    memcpy(CMSG_DATA(c), fds, sizeof fds);
    iov = (struct iovec){ "from C", 6 };
    assert(sendmsg(0, &message, 0) == 6);
    return 0;
}
"#;

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn c_sends_and_receives_descriptors_and_credentials() {
    isolated!(|| {
        let program = compile_c("cmsg", C);
        let pairs: [(OwnedFd, OwnedFd); 3] = [
            UnixStream::pair()
                .map(|(a, b)| (a.into(), b.into()))
                .unwrap(),
            UnixDatagram::pair()
                .map(|(a, b)| (a.into(), b.into()))
                .unwrap(),
            Seqpacket::pair()
                .map(|(a, b)| (a.into(), b.into()))
                .unwrap(),
        ];
        for (socket, theirs) in pairs {
            let child = start(&mut program.command(), theirs);
            let mut bytes = [0; 100];
            assert_eq!(socket.recv_with_fds(&mut bytes, 0).unwrap().len, 5);
            socket.set_pass_credentials(true).unwrap();
            let files = [file("one"), file("two")];
            assert_eq!(socket.send_with_fds(b"from rust", &files).unwrap(), 9);
            let received = socket.recv_with_fds(&mut bytes, 2).unwrap();
            assert_eq!(&bytes[..received.len], b"from C");
            let pid = child.id() as i32;
            let expected = Credentials {
                pid,
                ..Credentials::current()
            };
            assert_eq!(received.credentials, Some(expected));
            let texts: Vec<_> = received.fds.into_iter().map(text).collect();
            assert_eq!(texts, ["three", "four"]);
            finish(child);
        }
    });
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn sizes_and_numbers_are_those_of_the_headers() {
    let program = compile_c(
        "sizes",
        r#"
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <sys/socket.h>
        int main(void) {
            for (int n = 0; n < 2000; n++) printf("%zu ", CMSG_SPACE(n));
            printf("\n%zu %d\n", CMSG_SPACE(sizeof(struct ucred)), MSG_WAITFORONE);
        }
        "#,
    );
    let out = run(&mut program.command());
    let (spaces, numbers) = out.split_once('\n').unwrap();
    let word = size_of::<usize>();
    for (n, theirs) in spaces.split_whitespace().enumerate() {
        assert_eq!(space(n) * word, theirs.parse().unwrap(), "{n}");
    }
    assert_eq!(space_fds(3), space(12));
    let expected = format!("{} {}", SPACE_CREDENTIALS * word, WAIT_FOR_ONE.bits());
    assert_eq!(numbers, expected);
}
