//! The memory of another process.

mod support;

use std::io::{BufRead, IoSlice, IoSliceMut, Read, Write};
use std::process::{Command, Stdio};

use linipc::error::errno;
use linipc::pipe::PipeOptions;
use linipc::process_vm::{IOV_MAX, Memory, Remote};
use linipc_core::map::{Access, Region};
use linipc_core::{Errno, process_vm};
use rustix::process::{DumpableBehavior, Pid, getpid, set_dumpable_behavior};
use support::{Peer, peer};

/// A peer with something in its memory.
struct Talk {
    peer: Peer,
    address: usize,
    go: std::io::PipeWriter,
}

impl Talk {
    /// Forks a peer that tells an address with `prepare`, waits for [`Talk::done`], and then runs
    /// `check` on what `prepare` gave.
    fn new<T>(prepare: impl FnOnce() -> (usize, T), check: impl FnOnce(T)) -> Self {
        let (mut told, mut tell) = PipeOptions::new().open().unwrap();
        let (mut wait, go) = PipeOptions::new().open().unwrap();
        let peer = peer(|| {
            let (address, state) = prepare();
            tell.write_all(&address.to_ne_bytes()).unwrap();
            wait.read_exact(&mut [0]).unwrap();
            check(state);
        });
        let mut address = [0; size_of::<usize>()];
        told.read_exact(&mut address).unwrap();
        Self {
            peer,
            address: usize::from_ne_bytes(address),
            go,
        }
    }

    fn memory(&self) -> Memory {
        Memory::of(self.peer.pid() as u32).unwrap()
    }

    fn done(mut self) {
        self.go.write_all(&[1]).unwrap();
        self.peer.join();
    }
}

const PAGE: usize = 4096;

/// Three pages of which the second cannot be accessed.
fn with_a_hole(fill: u8) -> (usize, Region) {
    let pages = Region::anonymous(3 * PAGE, Access::READ | Access::WRITE).unwrap();
    pages.bytes().write(0, &[fill; 3 * PAGE]).unwrap();
    let second = pages.as_ptr().wrapping_add(PAGE);
    // SAFETY: The page belongs to the region, which this process does not touch again.
    let done = unsafe { libc::mprotect(second.cast(), PAGE, libc::PROT_NONE) };
    assert_eq!(done, 0);
    (pages.as_ptr() as usize, pages)
}

#[test]
fn a_peers_bytes_are_read_in_place() {
    isolated!(|| {
        // The bytes are made after the fork, so this process does not have them.
        let talk = Talk::new(
            || {
                let text = format!("made by {}", std::process::id()).into_bytes();
                (text.as_ptr() as usize, text)
            },
            drop,
        );
        let expected = format!("made by {}", talk.peer.pid());
        let mut copy = vec![0; expected.len()];
        let pid = Pid::from_raw(talk.peer.pid()).unwrap();
        let read = process_vm::read(pid, talk.address, &mut copy);
        assert_eq!(read, Ok(copy.len()));
        assert_eq!(copy, expected.as_bytes());
        copy.fill(0);
        talk.memory()
            .read_exact_at(&mut copy, talk.address)
            .unwrap();
        assert_eq!(copy, expected.as_bytes());
        talk.done();
    });
}

#[test]
fn a_peers_bytes_are_written_in_place() {
    isolated!(|| {
        let talk = Talk::new(
            || {
                let region = Region::anonymous(PAGE, Access::READ | Access::WRITE).unwrap();
                (region.as_ptr() as usize, region)
            },
            |region| {
                let mut found = [0; 12];
                region.bytes().read(0, &mut found).unwrap();
                assert_eq!(&found, b"\0for a peer\0");
            },
        );
        let memory = talk.memory();
        // SAFETY: The peer expects any bytes in its region.
        unsafe { memory.write_all_at(b"for a peer", talk.address + 1) }.unwrap();
        talk.done();
    });
}

#[test]
fn ranges_are_scattered_and_gathered() {
    isolated!(|| {
        let talk = Talk::new(
            || {
                let region = Region::anonymous(PAGE, Access::READ | Access::WRITE).unwrap();
                region.bytes().write(0, b"abcdefghij").unwrap();
                (region.as_ptr() as usize, region)
            },
            |region| {
                let mut found = [0; 10];
                region.bytes().read(0, &mut found).unwrap();
                assert_eq!(&found, b"12cdefgh34");
            },
        );
        let remote = |offset: usize, len| Remote {
            address: talk.address + offset,
            len,
        };
        let (mut first, mut second) = ([0; 3], [0; 4]);
        let read = talk.memory().read_vectored(
            &mut [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)],
            &[remote(8, 2), remote(0, 0), remote(0, 3)],
        );
        assert_eq!(read.unwrap(), 5);
        assert_eq!((&first, &second), (b"ija", b"bc\0\0"));
        // SAFETY: The peer expects any bytes in its region.
        let written = unsafe {
            talk.memory().write_vectored(
                &[
                    IoSlice::new(b"1"),
                    IoSlice::new(b"23"),
                    IoSlice::new(b"456"),
                ],
                &[remote(0, 2), remote(8, 2)],
            )
        };
        assert_eq!(written.unwrap(), 4);
        talk.done();
    });
}

#[test]
fn a_transfer_ends_at_an_inaccessible_page() {
    isolated!(|| {
        let talk = Talk::new(|| with_a_hole(7), drop);
        let memory = talk.memory();
        let mut copy = [0; 2 * PAGE];
        let start = talk.address + PAGE - 100;
        assert_eq!(memory.read_at(&mut copy, start).unwrap(), 100);
        assert_eq!(copy[..101], [[7; 100].as_slice(), &[0]].concat());
        // SAFETY: The peer expects any bytes in its region.
        let written = unsafe { memory.write_at(&[8; 200], start) };
        assert_eq!(written.unwrap(), 100);

        let error = memory.read_exact_at(&mut copy, start).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::FAULT));
        let error = memory.read_at(&mut copy, talk.address + PAGE).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::FAULT));
        // SAFETY: As above.
        let written = unsafe { memory.write_all_at(&[8; 200], start) };
        assert_eq!(errno(&written.unwrap_err()), Some(Errno::FAULT));
        // SAFETY: Nothing is mapped there.
        let written = unsafe { memory.write_at(&[8], 0) };
        assert_eq!(errno(&written.unwrap_err()), Some(Errno::FAULT));
        talk.done();
    });
}

#[test]
fn read_only_pages_are_not_written() {
    isolated!(|| {
        let talk = Talk::new(
            || {
                let region = Region::anonymous(PAGE, Access::READ).unwrap();
                (region.as_ptr() as usize, region)
            },
            drop,
        );
        assert_eq!(talk.memory().read_at(&mut [1], talk.address).unwrap(), 1);
        // SAFETY: The call is expected to fail.
        let written = unsafe { talk.memory().write_at(&[1], talk.address) };
        assert_eq!(errno(&written.unwrap_err()), Some(Errno::FAULT));
        talk.done();
    });
}

#[test]
fn a_process_that_may_not_be_traced_refuses() {
    isolated!(|| {
        let talk = Talk::new(
            || {
                set_dumpable_behavior(DumpableBehavior::NotDumpable).unwrap();
                (PAGE, ())
            },
            drop,
        );
        let memory = talk.memory();
        // Privileges would permit it all the same: a process without them asks.
        peer(|| {
            rustix::thread::set_capabilities(
                None,
                rustix::thread::CapabilitySets {
                    effective: rustix::thread::CapabilitySet::empty(),
                    permitted: rustix::thread::CapabilitySet::empty(),
                    inheritable: rustix::thread::CapabilitySet::empty(),
                },
            )
            .unwrap();
            let error = memory.read_at(&mut [0], PAGE).unwrap_err();
            assert_eq!(errno(&error), Some(Errno::PERM));
            // SAFETY: The call is expected to fail.
            let error = unsafe { memory.write_at(&[0], PAGE) }.unwrap_err();
            assert_eq!(errno(&error), Some(Errno::PERM));
        })
        .join();
        talk.done();
    });
}

#[test]
fn a_dead_process_has_no_memory() {
    isolated!(|| {
        let mut child = Command::new("true").stdin(Stdio::null()).spawn().unwrap();
        let memory = Memory::try_from(&child).unwrap();
        support::eventually("the child is dead", || {
            let error = memory.read_at(&mut [0], PAGE);
            matches!(error, Err(error) if errno(&error) == Some(Errno::SRCH))
        });
        child.wait().unwrap();
        let error = memory.read_at(&mut [0], PAGE).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::SRCH));
    });
}

#[test]
fn wrong_arguments_are_refused() {
    let value = 7_u8;
    let remote = Remote {
        address: &raw const value as usize,
        len: 1,
    };
    let mut byte = [0];
    let mut local = [IoSliceMut::new(&mut byte)];
    let read = process_vm::readv(getpid(), &mut local, &[remote; IOV_MAX]);
    assert_eq!(read, Ok(1));
    let read = process_vm::readv(getpid(), &mut local, &[remote; IOV_MAX + 1]);
    assert_eq!(read, Err(Errno::INVAL));
    let endless = Remote {
        len: usize::MAX,
        ..remote
    };
    let read = process_vm::readv(getpid(), &mut local, &[endless]);
    assert_eq!(read, Err(Errno::INVAL));
    assert_eq!(process_vm::readv(getpid(), &mut [], &[]), Ok(0));
    assert_eq!(byte, [7]);
    for pid in [0, u32::MAX] {
        let error = Memory::of(pid).unwrap_err();
        assert_eq!(errno(&error), Some(Errno::INVAL));
    }
}

#[test]
#[cfg_attr(not(has_gcc), ignore = "gcc is missing")]
fn a_c_program_reads_ours_and_we_write_its() {
    const SOURCE: &str = r#"
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <stdlib.h>
        #include <sys/uio.h>
        static char ours[16] = "made in C";
        int main(int argc, char **argv) {
            char copy[16];
            if (argc != 3) return 2;
            struct iovec local = { copy, 15 };
            struct iovec remote = { (void *)strtoull(argv[2], NULL, 10), 15 };
            ssize_t n = process_vm_readv(atoi(argv[1]), &local, 1, &remote, 1, 0);
            if (n != 15) { perror("process_vm_readv"); return 1; }
            printf("%.15s %p\n", copy, (void *)ours);
            fflush(stdout);
            getchar();
            printf("%s\n", ours);
            return 0;
        }"#;
    isolated!(|| {
        let program = support::compile_c("process_vm", SOURCE);
        // Where Yama forbids a child to trace its parent, the parent can permit it.
        // SAFETY: This prctl takes no pointers.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
        let text = *b"for a C program";
        let mut child = program
            .command()
            .arg(std::process::id().to_string())
            .arg((text.as_ptr() as usize).to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let address = line.trim_end().strip_prefix("for a C program 0x").unwrap();
        let address = usize::from_str_radix(address, 16).unwrap();
        let memory = Memory::try_from(&child).unwrap();
        let mut copy = [0; 9];
        memory.read_exact_at(&mut copy, address).unwrap();
        assert_eq!(&copy, b"made in C");
        // SAFETY: The program expects any text of up to 15 bytes.
        unsafe { memory.write_all_at(b"overwritten\0", address) }.unwrap();
        drop(child.stdin.take());
        line.clear();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "overwritten\n");
        assert!(child.wait().unwrap().success());
    });
}
