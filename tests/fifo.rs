//! FIFOs between two processes.

mod support;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use linipc::fifo::{Fifo, OpenOptions};
use linipc::pipe::PipeExt;
use linipc_core::Errno;
use linipc_core::fifo::{self, End, Flags, Mode};
use linipc_core::io::{FdFlags, OFlags, fcntl_getfd, fcntl_getfl, read, write};
use support::{eventually, peer, until_asleep};

const PATH: &str = "/dev/shm/fifo";

fn rw() -> Mode {
    Mode::RUSR | Mode::WUSR
}

fn made() -> Fifo {
    OpenOptions::new()
        .create_new(true)
        .unlink_on_drop(true)
        .open(PATH)
        .unwrap()
}

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> Option<Errno> {
    linipc::error::errno(&result.unwrap_err())
}

#[test]
fn bytes_go_from_one_process_to_the_other() {
    isolated!(|| {
        let fifo = made();
        let writer = peer(|| {
            let fifo = Fifo::open(PATH).unwrap();
            fifo.open_writer().unwrap().write_all(b"by name").unwrap();
        });
        let mut text = String::new();
        let mut reader = fifo.open_reader().unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "by name");
        writer.join();
    });
}

#[test]
fn each_blocking_end_waits_for_the_other() {
    isolated!(|| {
        fifo::create(PATH, rw()).unwrap();
        let reader = peer(|| {
            let reader = fifo::open(PATH, End::Reader, Flags::empty()).unwrap();
            assert_eq!(read(&reader, &mut [0; 8]), Ok(2));
        });
        until_asleep(reader.pid());
        let writer = fifo::open(PATH, End::Writer, Flags::empty()).unwrap();
        write(&writer, b"hi").unwrap();
        reader.join();
        drop(writer);

        let writer = peer(|| {
            let writer = fifo::open(PATH, End::Writer, Flags::empty()).unwrap();
            write(&writer, b"hi").unwrap();
        });
        until_asleep(writer.pid());
        let reader = fifo::open(PATH, End::Reader, Flags::empty()).unwrap();
        assert_eq!(read(&reader, &mut [0; 8]), Ok(2));
        writer.join();
        fifo::unlink(PATH).unwrap();
    });
}

#[test]
fn a_nonblocking_end_does_not_wait() {
    isolated!(|| {
        fifo::create(PATH, rw()).unwrap();
        let nonblocking = |end| fifo::open(PATH, end, Flags::NONBLOCK);
        assert_eq!(nonblocking(End::Writer).unwrap_err(), Errno::NXIO);
        let reader = nonblocking(End::Reader).unwrap();
        assert_eq!(read(&reader, &mut [0; 8]), Ok(0), "no writer is the end");
        let writer = nonblocking(End::Writer).unwrap();
        assert_eq!(read(&reader, &mut [0; 8]), Err(Errno::AGAIN));
        drop(reader);
        assert_eq!(write(&writer, b"x"), Err(Errno::PIPE));
        fifo::unlink(PATH).unwrap();
    });
}

#[test]
fn both_ends_in_one_descriptor_never_wait_nor_end() {
    isolated!(|| {
        let fifo = made();
        let mut both = fifo.open_both().unwrap();
        let flags = fcntl_getfl(&both).unwrap();
        assert!(flags.contains(OFlags::RDWR) && !flags.contains(OFlags::NONBLOCK));
        for text in ["one", "two"] {
            peer(|| {
                let mut writer = Fifo::open(PATH).unwrap().open_writer().unwrap();
                writer.write_all(text.as_bytes()).unwrap();
            })
            .join();
            let mut buf = [0; 8];
            assert_eq!(both.read(&mut buf).unwrap(), 3);
            assert_eq!(&buf[..3], text.as_bytes());
        }
        both.set_nonblocking(true).unwrap();
        let error = both.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
fn every_end_is_close_on_exec() {
    isolated!(|| {
        fifo::create(PATH, rw()).unwrap();
        let ends = [End::Both, End::Reader, End::Writer]
            .map(|end| (end, fifo::open(PATH, end, Flags::NONBLOCK)));
        for (end, fd) in ends {
            // The array's first end serves the others.
            let flags = fcntl_getfd(fd.unwrap()).unwrap();
            assert!(flags.contains(FdFlags::CLOEXEC), "{end:?}");
        }
        fifo::unlink(PATH).unwrap();
    });
}

#[test]
fn what_is_not_a_fifo_is_refused() {
    isolated!(|| {
        let file = Path::new("/dev/shm/file");
        fs::write(file, "precious").unwrap();
        for path in [file, Path::new("/dev/null")] {
            for end in [End::Reader, End::Writer, End::Both] {
                let opened = fifo::open(path.to_str().unwrap(), end, Flags::NONBLOCK);
                assert_eq!(opened.unwrap_err(), Errno::INVAL, "{path:?} {end:?}");
            }
            assert_eq!(errno(Fifo::open(path)), Some(Errno::INVAL));
            let existing = OpenOptions::new().create(true).open(path);
            assert_eq!(errno(existing), Some(Errno::INVAL));
        }
        assert_eq!(fs::read(file).unwrap(), b"precious");
        fs::remove_file(file).unwrap();

        let opened = fifo::open("/dev/shm", End::Writer, Flags::NONBLOCK);
        assert_eq!(opened.unwrap_err(), Errno::ISDIR);
        let socket = UnixListener::bind(PATH).unwrap();
        let opened = fifo::open(PATH, End::Writer, Flags::NONBLOCK);
        assert_eq!(opened.unwrap_err(), Errno::NXIO);
        assert_eq!(errno(Fifo::open(PATH)), Some(Errno::INVAL));
        drop(socket);
        fs::remove_file(PATH).unwrap();
    });
}

#[test]
fn a_symbolic_link_is_followed_unless_refused() {
    isolated!(|| {
        let fifo = made();
        let link = "/dev/shm/link";
        std::os::unix::fs::symlink(fifo.path(), link).unwrap();
        fifo::open(link, End::Reader, Flags::NONBLOCK).unwrap();
        let refused = fifo::open(link, End::Reader, Flags::NONBLOCK | Flags::NOFOLLOW);
        assert_eq!(refused.unwrap_err(), Errno::LOOP);
        let through = OpenOptions::new().unlink_on_drop(true).open(link).unwrap();
        assert_eq!(errno(through.unlink()), Some(Errno::STALE));
        assert!(fs::symlink_metadata(link).is_ok(), "a link is not ours");
        fs::remove_file(link).unwrap();
    });
}

#[test]
fn a_directory_descriptor_leads_to_the_name() {
    isolated!(|| {
        let dir = File::open("/dev/shm").unwrap();
        fifo::create_at(&dir, "fifo", rw()).unwrap();
        assert_eq!(fifo::create_at(&dir, "fifo", rw()), Err(Errno::EXIST));
        let reader = fifo::open_at(&dir, "fifo", End::Reader, Flags::NONBLOCK).unwrap();
        let writer = fifo::open(PATH, End::Writer, Flags::NONBLOCK).unwrap();
        write(&writer, b"x").unwrap();
        assert_eq!(read(&reader, &mut [0; 2]), Ok(1));
        let null = File::open("/dev/null").unwrap();
        assert_eq!(fifo::create_at(&null, "fifo", rw()), Err(Errno::NOTDIR));
        fifo::unlink(PATH).unwrap();
    });
}

#[test]
fn a_handle_in_a_directory_follows_it_and_unlinks_there() {
    isolated!(|| {
        fs::create_dir("/dev/shm/dir").unwrap();
        let dir = File::open("/dev/shm/dir").unwrap();
        let fifo = OpenOptions::new()
            .create_new(true)
            .unlink_on_drop(true)
            .open_at(&dir, "name")
            .unwrap();
        assert_eq!(fifo.path(), Path::new("name"));
        let again = OpenOptions::new().create_new(true).open_at(&dir, "name");
        assert_eq!(errno(again), Some(Errno::EXIST));
        let missing = OpenOptions::new().open_at(&dir, "other");
        assert_eq!(errno(missing), Some(Errno::NOENT));
        let no_dir = OpenOptions::new().open_at(fifo.open_both().unwrap(), "name");
        assert_eq!(errno(no_dir), Some(Errno::NOTDIR));

        fs::rename("/dev/shm/dir", "/dev/shm/moved").unwrap();
        let writer = peer(|| {
            let found = OpenOptions::new().open_at(&dir, "name").unwrap();
            found.open_writer().unwrap().write_all(b"found").unwrap();
        });
        let mut text = String::new();
        let mut reader = fifo.open_reader_deadline(support::PATIENCE).unwrap();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "found");
        writer.join();

        let found = OpenOptions::new().open_at(&dir, "name").unwrap();
        drop(fifo);
        assert_eq!(fs::read_dir("/dev/shm/moved").unwrap().count(), 0);
        assert_eq!(errno(found.unlink()), Some(Errno::NOENT));

        // A name that is another file's stays.
        let fifo = OpenOptions::new()
            .create(true)
            .open_at(&dir, "name")
            .unwrap();
        fs::remove_file("/dev/shm/moved/name").unwrap();
        fifo::create_at(&dir, "keep", rw()).unwrap();
        fifo::create_at(&dir, "name", rw()).unwrap();
        assert_eq!(errno(fifo.unlink()), Some(Errno::STALE));
        fifo::unlink_at(&dir, "name").unwrap();
        fifo::unlink_at(&dir, "keep").unwrap();
        assert_eq!(fifo::unlink_at(&dir, "name"), Err(Errno::NOENT));
        fs::remove_dir("/dev/shm/moved").unwrap();
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        assert_eq!(errno(Fifo::open(PATH)), Some(Errno::NOENT));
        rustix::process::umask(Mode::empty());
        let mut options = OpenOptions::new();
        options.create(true).mode(0o640);
        let fifo = options.open(PATH).unwrap();
        let metadata = fs::metadata(fifo.path()).unwrap();
        assert!(metadata.file_type().is_fifo());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o640);
        let again = options.mode(0o600).open(PATH).unwrap();
        assert_eq!(fs::metadata(again.path()).unwrap().ino(), metadata.ino());
        let refused = OpenOptions::new().create_new(true).open(PATH);
        assert_eq!(errno(refused), Some(Errno::EXIST));
        assert_eq!(
            fifo::create("/dev/shm/no/fifo", rw()),
            Err(Errno::NOENT),
            "no such directory"
        );
        fifo.unlink().unwrap();
        assert_eq!(errno(again.unlink()), Some(Errno::NOENT));
    });
}

#[test]
fn a_handle_unlinks_its_name_or_lets_it_live() {
    isolated!(|| {
        drop(made());
        assert!(!Path::new(PATH).exists());
        drop(OpenOptions::new().create(true).open(PATH).unwrap());
        assert!(Path::new(PATH).exists());
        let mut options = OpenOptions::new();
        options.unlink_on_drop(true).open(PATH).unwrap().persist();
        assert!(Path::new(PATH).exists());
        drop(options.open(PATH).unwrap());
        assert!(!Path::new(PATH).exists());
    });
}

#[test]
fn a_name_that_a_socket_got_is_not_a_fifo_without_a_reader() {
    isolated!(|| {
        let old = made();
        fs::remove_file(PATH).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(PATH).unwrap();
        assert_eq!(errno(old.try_open_writer()), Some(Errno::STALE));
        let waited = old.open_writer_deadline(support::PATIENCE);
        assert_eq!(errno(waited), Some(Errno::STALE));
        fs::remove_file(PATH).unwrap();
    });
}

#[test]
fn a_name_that_another_fifo_got_is_stale() {
    isolated!(|| {
        let old = made();
        // Both exist at one time, so that their inodes differ.
        fifo::create("/dev/shm/new", rw()).unwrap();
        fs::rename("/dev/shm/new", PATH).unwrap();
        assert_eq!(errno(old.try_open_reader()), Some(Errno::STALE));
        let waited = old.open_writer_deadline(support::PATIENCE);
        assert_eq!(errno(waited), Some(Errno::STALE), "though nobody reads");
        assert_eq!(errno(old.try_open_writer()), Some(Errno::STALE));
        assert_eq!(errno(old.open_both()), Some(Errno::STALE));
        drop(old);
        assert!(Path::new(PATH).exists(), "the new one stays");
        let new = OpenOptions::new().create(true).open(PATH).unwrap();
        new.unlink().unwrap();
    });
}

#[test]
fn what_a_dead_writer_left_can_be_read_but_not_after_the_last_end() {
    isolated!(|| {
        let fifo = made();
        let mut reader = fifo.try_open_reader().unwrap();
        let writer = peer(|| {
            let mut writer = fifo.try_open_writer().unwrap();
            writer.write_all(b"last words").unwrap();
            std::thread::sleep(support::PATIENCE);
        });
        eventually("the words", || reader.bytes_waiting().unwrap() == 10);
        writer.kill();
        let mut buf = [0; 4];
        reader.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"last");
        drop(reader);
        assert_eq!(errno(fifo.try_open_writer()), Some(Errno::AGAIN));
        let mut reader = fifo.try_open_reader().unwrap();
        assert_eq!(reader.read(&mut buf).unwrap(), 0, "the rest is gone");
    });
}

#[test]
fn an_opening_gives_up_at_its_deadline() {
    isolated!(|| {
        let fifo = made();
        for soon in [Duration::ZERO, Duration::from_millis(5)] {
            let error = fifo.open_reader_deadline(soon).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let error = fifo.open_writer_deadline(soon).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(
            errno(fifo.try_open_writer()),
            Some(Errno::AGAIN),
            "no end stays open"
        );
    });
}

#[test]
fn an_opening_with_a_deadline_meets_a_blocking_one() {
    isolated!(|| {
        let fifo = made();
        let writer = peer(|| fifo.open_writer().unwrap().write_all(b"x").unwrap());
        until_asleep(writer.pid());
        let mut reader = fifo.open_reader_deadline(support::PATIENCE).unwrap();
        let flags = fcntl_getfl(&reader).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
        assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
        writer.join();

        let reader = peer(|| {
            let mut reader = fifo.open_reader().unwrap();
            assert_eq!(reader.read(&mut [0; 2]).unwrap(), 1);
        });
        until_asleep(reader.pid());
        let mut writer = fifo.open_writer_deadline(support::PATIENCE).unwrap();
        let flags = fcntl_getfl(&writer).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
        writer.write_all(b"x").unwrap();
        reader.join();
    });
}

#[test]
fn a_reader_with_a_deadline_sees_a_silent_writer() {
    isolated!(|| {
        let fifo = made();
        // It says nothing until it is answered over another pipe.
        let (mut answer, mut answerer) = io::pipe().unwrap();
        let writer = peer(|| {
            let mut writer = fifo.open_writer_deadline(support::PATIENCE).unwrap();
            answer.read_exact(&mut [0]).unwrap();
            writer.write_all(b"at last").unwrap();
        });
        let mut reader = fifo.open_reader_deadline(support::PATIENCE).unwrap();
        answerer.write_all(b"!").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "at last", "the look took nothing");
        writer.join();
    });
}

#[test]
fn has_writer_tells_never_now_and_no_more() {
    isolated!(|| {
        let fifo = made();
        let reader = fifo.try_open_reader().unwrap();
        assert_eq!(fifo::has_writer(&reader), Ok(false));
        let mut writer = fifo.try_open_writer().unwrap();
        assert_eq!(fifo::has_writer(&reader), Ok(true));
        writer.write_all(b"x").unwrap();
        assert_eq!(fifo::has_writer(&reader), Ok(true));
        assert_eq!(reader.bytes_waiting().unwrap(), 1);
        assert_eq!(fifo::has_writer(&writer), Err(Errno::BADF));
        drop(writer);
        assert_eq!(fifo::has_writer(&reader), Ok(true));
        (&reader).read_exact(&mut [0]).unwrap();
        assert_eq!(fifo::has_writer(&reader), Ok(true), "it came and went");
        let file = File::open("/proc/self/exe").unwrap();
        assert_eq!(fifo::has_writer(file), Err(Errno::INVAL));
    });
}
