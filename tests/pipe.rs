//! Pipes between two processes.

mod support;

use std::io::{Read, Write};

use linipc::error::errno;
use linipc::pipe::{PipeExt, PipeOptions, splice, tee, vmsplice, vmsplice_unchecked};
use linipc_core::map::{Access, Region};
use linipc_core::{Errno, io, pipe};
use support::{eventually, peer, until_asleep};

#[test]
fn bytes_go_one_way_and_end_with_the_last_writer() {
    isolated!(|| {
        let (mut reader, mut writer) = PipeOptions::new().open().unwrap();
        let child = peer(|| {
            writer.write_all(b"from another process").unwrap();
        });
        child.join();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from another process");
    });
}

#[test]
fn both_ends_are_close_on_exec() {
    for (reader, writer) in [pipe::pipe().unwrap(), pipe::packet_pipe().unwrap()] {
        assert!(
            io::fcntl_getfd(&reader)
                .unwrap()
                .contains(io::FdFlags::CLOEXEC)
        );
        assert!(
            io::fcntl_getfd(&writer)
                .unwrap()
                .contains(io::FdFlags::CLOEXEC)
        );
    }
}

#[test]
fn packets_keep_their_borders() {
    isolated!(|| {
        let (reader, writer) = pipe::packet_pipe().unwrap();
        peer(|| {
            io::write(&writer, b"one").unwrap();
            io::write(&writer, b"three").unwrap();
        })
        .join();
        let mut buf = [0; pipe::PIPE_BUF];
        assert_eq!(io::read(&reader, &mut buf), Ok(3));
        let mut short = [0; 2];
        assert_eq!(io::read(&reader, &mut short), Ok(2));
        assert_eq!(&short, b"th");
        drop(writer);
        assert_eq!(
            io::read(&reader, &mut buf),
            Ok(0),
            "the rest of a packet is lost"
        );
    });
}

#[test]
fn a_pipe_without_readers_breaks() {
    let (reader, mut writer) = PipeOptions::new().open().unwrap();
    drop(reader);
    assert_eq!(
        writer.write(b"x").unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[test]
fn nonblocking_ends_refuse_to_wait() {
    let (mut reader, mut writer) = PipeOptions::new().nonblocking(true).open().unwrap();
    assert_eq!(
        reader.read(&mut [0]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    let capacity = writer.capacity().unwrap();
    assert_eq!(writer.write(&vec![1; capacity + 1]).unwrap(), capacity);
    assert_eq!(
        writer.write(&[1]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    assert_eq!(reader.bytes_waiting().unwrap(), capacity as u64);
    reader.set_nonblocking(false).unwrap();
    assert_eq!(reader.read(&mut [0]).unwrap(), 1);
}

#[test]
fn a_full_pipe_holds_its_writer_until_it_is_read() {
    isolated!(|| {
        let (mut reader, mut writer) = PipeOptions::new().capacity(4096).open().unwrap();
        assert_eq!(reader.capacity().unwrap(), 4096);
        let child = peer(|| writer.write_all(&[9; 8192]).unwrap());
        until_asleep(child.pid());
        let mut all = [0; 8192];
        reader.read_exact(&mut all).unwrap();
        assert_eq!(all, [9; 8192]);
        child.join();
    });
}

#[test]
fn capacity_is_rounded_up_and_bounded() {
    let (reader, mut writer) = PipeOptions::new().open().unwrap();
    assert_eq!(writer.set_capacity(5000).unwrap(), 8192);
    writer.write_all(&[0; 8192]).unwrap();
    let error = reader.set_capacity(4096).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::BUSY.raw_os_error()));
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(file.capacity().is_err());
}

#[test]
fn a_limit_of_pipes_is_named() {
    isolated!(|| {
        use linipc::error::Limit;
        // A process without privileges may not exceed the limit.
        peer(|| {
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).ok();
            rustix::thread::set_capabilities(
                None,
                rustix::thread::CapabilitySets {
                    effective: rustix::thread::CapabilitySet::empty(),
                    permitted: rustix::thread::CapabilitySet::empty(),
                    inheritable: rustix::thread::CapabilitySet::empty(),
                },
            )
            .unwrap();
            let error = PipeOptions::new().capacity(1 << 30).open().unwrap_err();
            let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            assert_eq!(limit.setting, "fs.pipe-max-size");
        })
        .join();
    });
}

#[test]
fn splice_and_tee_move_without_a_buffer() {
    isolated!(|| {
        let (first_reader, mut first_writer) = PipeOptions::new().open().unwrap();
        let (mut second_reader, second_writer) = PipeOptions::new().open().unwrap();
        let (mut third_reader, third_writer) = PipeOptions::new().open().unwrap();
        peer(|| first_writer.write_all(b"twice").unwrap()).join();
        assert_eq!(tee(&first_reader, &second_writer, 100).unwrap(), 5);
        assert_eq!(splice(&first_reader, &third_writer, 100).unwrap(), 5);
        drop((second_writer, third_writer));
        for reader in [&mut second_reader, &mut third_reader] {
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text, "twice");
        }
    });
}

#[test]
fn splice_needs_a_pipe() {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = splice(&a, &b, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    let (reader, writer) = pipe::pipe().unwrap();
    let error = tee(&reader, &writer, 1).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
}

#[test]
fn vmsplice_lends_pages_until_they_are_read() {
    isolated!(|| {
        let (mut reader, mut writer) = PipeOptions::new().open().unwrap();
        let (mut go, mut goes) = std::io::pipe().unwrap();
        let region = Region::anonymous(4096, Access::READ | Access::WRITE).unwrap();
        region.bytes().write(0, &[b'a'; 4096]).unwrap();
        let other = peer(|| {
            go.read_exact(&mut [0]).unwrap();
            let mut copy = [0; 4096 + 4];
            reader.read_exact(&mut copy).unwrap();
            assert_eq!(
                &copy[..4096],
                [b'b'; 4096],
                "as they were when they were read"
            );
            assert_eq!(&copy[4096..], b"copy");

            go.read_exact(&mut [0]).unwrap();
            assert_eq!(&copy[..4096], [b'b'; 4096]);
        });
        // SAFETY: Mapped, and not changed while this slice is used.
        let bytes = unsafe { std::slice::from_raw_parts(region.as_ptr(), 4096) };
        // SAFETY: The region is mapped until the reader has ended, which means to see the change.
        let moved = unsafe { vmsplice_unchecked(&writer, bytes) };
        assert_eq!(moved.unwrap(), 4096);
        let mut text = *b"copy";
        writer.write_all(&text).unwrap();
        region.bytes().write(0, &[b'b'; 4096]).unwrap();
        text.fill(b'b');
        goes.write_all(&text[..1]).unwrap();
        // The reader has none of the other's reads left but those of its own copy.
        eventually("all was read", || writer.bytes_waiting().unwrap() == 0);
        region.bytes().write(0, &[b'c'; 4096]).unwrap();
        goes.write_all(&text[..1]).unwrap();
        other.join();
    });
}

#[test]
fn vmsplice_takes_what_there_is_room_for_and_only_where_it_is_read() {
    static BYTES: [u8; 5 * 4096] = [7; 5 * 4096];
    let (mut reader, writer) = PipeOptions::new().capacity(2 * 4096).open().unwrap();
    let moved = vmsplice(&writer, &BYTES).unwrap();
    assert!((1..BYTES.len()).contains(&moved), "{moved}");
    writer.set_nonblocking(true).unwrap();
    let error = vmsplice(&writer, &BYTES).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    let mut copy = vec![0; moved];
    reader.read_exact(&mut copy).unwrap();
    assert_eq!(copy, BYTES[..moved]);

    let error = vmsplice(&reader, &BYTES).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::BADF), "it would be written to");
    let file = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let error = vmsplice(file, &BYTES).unwrap_err();
    assert_eq!(errno(&error), Some(Errno::BADF));
    drop(reader);
    let error = vmsplice(&writer, &BYTES).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
