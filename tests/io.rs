//! Opening in a directory, and duplicating descriptors onto others.

mod support;

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use linipc_core::fd::OwnedFd;
use linipc_core::io::{self, DupFlags, FdFlags, Mode, OFlags};
use linipc_core::{Errno, pipe};
use support::mqueue_dir;

fn is_cloexec(fd: impl AsFd) -> bool {
    io::fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC)
}

/// Whether what is written to one can be read from the other.
fn are_a_pipe(writer: &OwnedFd, reader: &OwnedFd) -> bool {
    let mut bytes = [0; 4];
    io::write(writer, b"ping") == Ok(4)
        && io::read(reader, &mut bytes) == Ok(4)
        && bytes == *b"ping"
}

/// The same descriptor, borrowed from nobody.
fn same(fd: &OwnedFd) -> BorrowedFd<'static> {
    // SAFETY: It is not used after `fd` is closed.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

#[test]
fn a_path_is_that_of_the_directory() {
    isolated!(|| {
        fs::create_dir("/dev/shm/dir").unwrap();
        let open = |path: &str| io::open(path, OFlags::RDONLY, Mode::empty());
        let dir = open("/dev/shm/dir").unwrap();
        let make = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = io::open_at(&dir, "file", make, mode).unwrap();
        assert!(is_cloexec(&file));
        io::write(&file, b"text").unwrap();
        assert_eq!(fs::read("/dev/shm/dir/file").unwrap(), b"text");

        let fails =
            |dir: &OwnedFd, path: &str, flags| io::open_at(dir, path, flags, mode).unwrap_err();
        assert_eq!(fails(&dir, "file", make), Errno::EXIST);
        assert_eq!(fails(&dir, "other", OFlags::RDONLY), Errno::NOENT);
        assert_eq!(fails(&file, "file", OFlags::RDONLY), Errno::NOTDIR);
        assert_eq!(fails(&dir, ".", OFlags::RDWR), Errno::ISDIR);
        assert_eq!(fails(&dir, "a\0b", OFlags::RDONLY), Errno::INVAL);
        // To write is not asked for.
        assert_eq!(fails(&dir, ".", OFlags::TMPFILE), Errno::INVAL);
        for long in ["n".repeat(256), "n/".repeat(2048)] {
            assert_eq!(fails(&dir, &long, OFlags::RDONLY), Errno::NAMETOOLONG);
        }
        let queues = open(mqueue_dir().to_str().unwrap()).unwrap();
        let unnamed = OFlags::RDWR | OFlags::TMPFILE;
        assert_eq!(fails(&queues, ".", unnamed), Errno::OPNOTSUPP);
        // An absolute path is not in the directory.
        io::open_at(&queues, "/dev/shm/dir/file", OFlags::RDONLY, mode).unwrap();
        fs::remove_dir_all("/dev/shm/dir").unwrap();
    });
}

#[test]
fn a_descriptor_becomes_one_of_another_file() {
    for (flags, closes) in [
        (None, false),
        (Some(DupFlags::empty()), false),
        (Some(DupFlags::CLOEXEC), true),
    ] {
        let (reader, writer) = pipe::pipe().unwrap();
        let (other_reader, mut new) = pipe::pipe().unwrap();
        let number = new.as_raw_fd();
        match flags {
            None => io::dup2(&writer, &mut new),
            Some(flags) => io::dup3(&writer, &mut new, flags),
        }
        .unwrap();
        assert_eq!((new.as_raw_fd(), is_cloexec(&new)), (number, closes));
        // What it was is closed: no writer is left.
        assert_eq!(io::read(&other_reader, &mut [0; 4]), Ok(0));
        drop(writer);
        assert!(are_a_pipe(&new, &reader));
        drop(new);
        assert_eq!(io::read(&reader, &mut [0; 4]), Ok(0));
    }
}

#[test]
fn a_descriptor_onto_itself() {
    let (reader, mut writer) = pipe::pipe().unwrap();
    assert_eq!(io::dup2(same(&writer), &mut writer), Ok(()));
    let refused = io::dup3(same(&writer), &mut writer, DupFlags::CLOEXEC);
    assert_eq!(refused, Err(Errno::INVAL));
    // As it was.
    assert!(is_cloexec(&writer) && are_a_pipe(&writer, &reader));
}
