//! POSIX shared memory between two processes. The C library's own is in `interop_posix.rs`.

mod support;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};

use linipc::posix::shm::{OpenOptions, SharedMemory};
use linipc_core::map::{Access, Region};
use linipc_core::posix::{Create, Mode, shm};
use linipc_core::{Errno, io};
use support::peer;

const NAME: &str = "/linipc-test";
const FILE: &str = "/dev/shm/linipc-test";
const RW: Access = Access::READ.union(Access::WRITE);
const USER: Mode = Mode::RUSR.union(Mode::WUSR);

/// What the first bytes of the object called `NAME` are.
fn text(len: usize) -> Vec<u8> {
    let object = shm::open(NAME, Access::READ, Create::No).unwrap();
    let region = Region::shared(object, 0, len, Access::READ).unwrap();
    let mut text = vec![0; len];
    region.bytes().read(0, &mut text).unwrap();
    text
}

#[test]
fn memory_goes_from_one_process_to_another_by_name() {
    isolated!(|| {
        let object = shm::open(NAME, RW, Create::Exclusive(USER)).unwrap();
        shm::resize(&object, 100).unwrap();
        let region = Region::shared(&object, 0, 100, RW).unwrap();
        peer(|| {
            let object = shm::open(NAME, RW, Create::No).unwrap();
            assert_eq!(shm::len(&object), Ok(100));
            let region = Region::shared(&object, 0, 100, RW).unwrap();
            region.bytes().write(95, b"hello").unwrap();
        })
        .join();
        let mut text = [0; 5];
        region.bytes().read(95, &mut text).unwrap();
        assert_eq!(&text, b"hello");
        shm::unlink(NAME).unwrap();
        assert_eq!(shm::unlink(NAME), Err(Errno::NOENT));
        region.bytes().read(95, &mut text).unwrap();
        assert_eq!(&text, b"hello", "it lives on");
    });
}

#[test]
fn create_finds_makes_or_refuses() {
    isolated!(|| {
        rustix::process::umask(Mode::RWXO);
        let open = |create| shm::open(NAME, RW, create);
        assert_eq!(open(Create::No).map(drop), Err(Errno::NOENT));
        let mode = USER | Mode::RGRP | Mode::ROTH;
        let made = open(Create::Open(mode)).unwrap();
        assert_eq!(shm::len(&made), Ok(0));
        assert!(
            io::fcntl_getfd(&made)
                .unwrap()
                .contains(io::FdFlags::CLOEXEC)
        );
        let status = io::fcntl_getfl(&made).unwrap();
        assert!(!status.contains(io::OFlags::NONBLOCK));
        let permissions = fs::metadata(FILE).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, 0o640);
        io::write(&made, b"kept").unwrap();
        assert_eq!(shm::len(open(Create::Open(mode)).unwrap()), Ok(4));
        assert_eq!(open(Create::Exclusive(mode)).map(drop), Err(Errno::EXIST));
        shm::unlink(NAME).unwrap();
    });
}

#[test]
fn access_bounds_what_can_be_done() {
    isolated!(|| {
        drop(shm::create(NAME, USER, |object| shm::resize(object, 10)).unwrap());
        let object = shm::open(NAME, Access::READ, Create::No).unwrap();
        assert_eq!(
            Region::shared(&object, 0, 10, RW).map(drop),
            Err(Errno::ACCESS)
        );
        assert_eq!(shm::resize(&object, 20), Err(Errno::BADF));
        assert_eq!(shm::resize(&object, 0), Err(Errno::INVAL));
        for access in [Access::empty(), Access::EXEC, Access::all()] {
            let opened = shm::open(NAME, access, Create::No);
            assert_eq!(opened.map(drop), Err(Errno::INVAL));
        }
        let writer = shm::open(NAME, Access::WRITE, Create::No).unwrap();
        assert_eq!(shm::resize(&writer, 20), Ok(()));
        let mapped = Region::shared(&writer, 0, 20, Access::WRITE);
        assert_eq!(mapped.map(drop), Err(Errno::ACCESS));
        fs::set_permissions(FILE, fs::Permissions::from_mode(0o400)).unwrap();
        peer(|| {
            support::drop_privileges();
            let open = |access| shm::open(NAME, access, Create::No).map(drop);
            assert_eq!(open(RW), Err(Errno::ACCESS));
            assert_eq!(open(Access::WRITE), Err(Errno::ACCESS));
            assert_eq!(open(Access::READ), Ok(()));
        })
        .join();
        shm::unlink(NAME).unwrap();
    });
}

#[test]
fn names_are_those_of_the_c_library() {
    isolated!(|| {
        let open = |name: &str| {
            let result = shm::open(name, RW, Create::Exclusive(USER)).map(drop);
            let created = shm::create(name, USER, |_| Ok(())).map(drop);
            match result {
                Ok(()) => {
                    assert_eq!(created, Err(Errno::EXIST));
                    shm::unlink(name).unwrap();
                }
                Err(error) => {
                    assert_eq!(created, Err(error));
                    assert_eq!(shm::unlink(name), Err(error));
                }
            }
            result
        };
        for name in ["", "/", "//", ".", "..", "/.", "/..", "/a/b", "a/", "a\0b"] {
            assert_eq!(open(name), Err(Errno::INVAL), "{name:?}");
        }
        for name in ["a", "/a", "//a", "...", "/.a"] {
            assert_eq!(open(name), Ok(()), "{name:?}");
        }
        let longest = "x".repeat(255);
        assert_eq!(open(&longest), Ok(()));
        assert_eq!(open(&format!("/{longest}")), Ok(()));
        assert_eq!(open(&format!("/{longest}x")), Err(Errno::NAMETOOLONG));
        assert_eq!(open(&"x".repeat(5000)), Err(Errno::NAMETOOLONG));
    });
}

#[test]
fn a_symbolic_link_is_not_followed() {
    isolated!(|| {
        fs::write("/dev/shm/target", "x").unwrap();
        symlink("/dev/shm/target", FILE).unwrap();
        for create in [Create::No, Create::Open(USER)] {
            assert_eq!(shm::open(NAME, RW, create).map(drop), Err(Errno::LOOP));
        }
        assert_eq!(
            shm::create(NAME, USER, |_| Ok(())).map(drop),
            Err(Errno::EXIST)
        );
        shm::unlink(NAME).unwrap();
        shm::unlink("target").unwrap();
    });
}

#[test]
fn resize_changes_the_length_and_takes_the_memory() {
    isolated!(|| {
        let object = shm::open(NAME, RW, Create::Exclusive(USER)).unwrap();
        let free = || shm::limits().unwrap().bytes_free;
        let before = free();
        shm::resize(&object, 1 << 20).unwrap();
        assert_eq!(shm::len(&object), Ok(1 << 20));
        assert_eq!(before - free(), 1 << 20);
        shm::resize(&object, 5).unwrap();
        assert_eq!(shm::len(&object), Ok(5));
        assert_eq!(before - free(), 4096);
        shm::resize(&object, 0).unwrap();
        assert_eq!((shm::len(&object), free()), (Ok(0), before));
        shm::unlink(NAME).unwrap();
    });
}

#[test]
fn a_full_file_system_is_an_error_and_changes_nothing() {
    isolated!(|| {
        support::mount_tmpfs("/dev/shm", "size=64k");
        let limits = shm::limits().unwrap();
        assert_eq!((limits.bytes, limits.bytes_free), (1 << 16, 1 << 16));
        let object = shm::create(NAME, USER, |object| shm::resize(object, 4096)).unwrap();
        io::write(&object, b"kept").unwrap();
        assert_eq!(shm::resize(&object, 1 << 17), Err(Errno::NOSPC));
        assert_eq!(shm::len(&object), Ok(4096));
        assert_eq!(text(4), b"kept");
        assert_eq!(shm::limits().unwrap().bytes_free, (1 << 16) - 4096);
        assert_eq!(
            shm::create("/other", USER, |object| shm::resize(object, 1 << 17)).map(drop),
            Err(Errno::NOSPC)
        );
        assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 1);
        drop(object);
        shm::unlink(NAME).unwrap();
        support::unmount("/dev/shm");
    });
}

/// Nobody sees an object before it is complete.
fn created_whole() {
    let stop = Region::anonymous(4, RW).unwrap();
    let stop = stop.bytes();
    let looker = peer(|| {
        let mut stopped = [0];
        let mut seen = 0;
        while stopped == [0] || seen == 0 {
            stop.read(0, &mut stopped).unwrap();
            match shm::open(NAME, Access::READ, Create::No) {
                Ok(object) => {
                    let mut text = [0; 5];
                    assert_eq!(io::read(&object, &mut text), Ok(5));
                    assert_eq!((&text, shm::len(&object)), (b"ready", Ok(4096)));
                    seen += 1;
                }
                Err(error) => assert_eq!(error, Errno::NOENT),
            }
        }
    });
    let create = || {
        shm::create(NAME, USER, |object| {
            shm::resize(object, 4096)?;
            io::write(object, b"ready")?;
            Ok(())
        })
        .unwrap();
    };
    for _ in 0..500 {
        create();
        shm::unlink(NAME).unwrap();
    }
    create();
    stop.write(0, &[1]).unwrap();
    looker.join();
    shm::unlink(NAME).unwrap();

    let failed = shm::create(NAME, USER, |_| Err(Errno::CANCELED));
    assert_eq!(failed.map(drop), Err(Errno::CANCELED));
    assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 0);
}

#[test]
fn create_makes_nothing_that_is_not_complete() {
    isolated!(created_whole);
}

#[test]
fn create_makes_nothing_that_is_not_complete_without_proc() {
    isolated!(|| support::without_proc(created_whole));
}

#[test]
fn a_handle_maps_what_its_peer_maps() {
    isolated!(|| {
        let memory = OpenOptions::new()
            .create(true)
            .size(3 * 4096)
            .unlink_on_drop(true)
            .open(NAME)
            .unwrap();
        let whole = memory.map().unwrap();
        assert_eq!(whole.len(), 3 * 4096);
        let child = peer(|| {
            let memory = OpenOptions::new().read_only(true).open(NAME).unwrap();
            let part = memory.map_part(4096, 10).unwrap();
            assert_eq!((part.len(), memory.size().unwrap()), (10, 3 * 4096));
            assert_eq!(part.bytes().write(0, b"x"), Err(Errno::FAULT));
            support::eventually("the text is there", || {
                let mut text = [0; 2];
                part.bytes().read(0, &mut text).unwrap();
                &text == b"ok"
            });
            assert!(memory.map_part(1, 10).is_err());
            assert!(memory.resize(1).is_err());
        });
        whole.bytes().write(4096, b"ok").unwrap();
        child.join();
        memory.resize(100).unwrap();
        assert_eq!(memory.map().unwrap().len(), 100);
        memory.resize(0).unwrap();
        let error = memory.map().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    });
}

#[test]
fn a_handle_takes_its_name_away_or_lets_it_live() {
    isolated!(|| {
        let mut options = OpenOptions::new();
        options.create_new(true).size(10).mode(0o640);
        drop(options.unlink_on_drop(true).open(NAME).unwrap());
        assert!(!fs::exists(FILE).unwrap());
        drop(options.unlink_on_drop(false).open(NAME).unwrap());
        let permissions = fs::metadata(FILE).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o7777, 0o640);
        let error = options.open(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
        let kept = OpenOptions::new().create(true).size(20).open(NAME).unwrap();
        assert_eq!(kept.size().unwrap(), 10, "an existing one keeps its size");
        let mut handle = OpenOptions::new().unlink_on_drop(true).open(NAME).unwrap();
        handle.persist();
        drop(handle);
        assert_eq!(fs::read(FILE).unwrap(), [0; 10]);
        linipc::posix::shm::unlink(NAME).unwrap();
        let error = SharedMemory::open(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        let error = options.read_only(true).open(NAME).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_handle_is_a_file_and_a_descriptor() {
    isolated!(|| {
        let memory = OpenOptions::new()
            .create_new(true)
            .size(4)
            .unlink_on_drop(true)
            .open(NAME)
            .unwrap();
        let copy = memory.as_fd().try_clone_to_owned().unwrap();
        let mut file = File::from(memory);
        assert!(!fs::exists(FILE).unwrap());
        file.write_all(b"text").unwrap();
        let memory = SharedMemory::from(copy);
        let mut text = [0; 4];
        memory.map().unwrap().bytes().read(0, &mut text).unwrap();
        assert_eq!(&text, b"text");
        let memory = SharedMemory::from(file);
        let mut file = File::from(OwnedFd::from(memory));
        assert_eq!(file.read(&mut text).unwrap(), 0);
    });
}

#[test]
fn a_limit_is_named() {
    isolated!(|| {
        use linipc::error::{Limit, errno};
        support::mount_tmpfs("/dev/shm", "size=64k");
        let mut options = OpenOptions::new();
        options.create_new(true).unlink_on_drop(true);
        let check = |error: std::io::Error| {
            let limit = error.get_ref().unwrap().downcast_ref::<Limit>().unwrap();
            assert_eq!((limit.setting, limit.value), ("mount option size", 1 << 16));
            assert_eq!(errno(&error), Some(Errno::NOSPC));
        };
        check(options.size(1 << 17).open(NAME).unwrap_err());
        let memory = options.size(1 << 16).open(NAME).unwrap();
        check(memory.resize((1 << 16) + 1).unwrap_err());
        drop(memory);
        let sparse = options.size(1 << 17).reserve(false).open(NAME).unwrap();
        assert_eq!(sparse.size().unwrap(), 1 << 17);
        drop(sparse);
        support::unmount("/dev/shm");
    });
}

#[test]
fn what_is_not_an_object_is_refused_at_once() {
    isolated!(|| {
        linipc_core::fifo::create("/dev/shm/fifo", linipc_core::fifo::Mode::RWXU).unwrap();
        for access in [Access::READ, Access::READ | Access::WRITE] {
            let error = shm::open("/fifo", access, Create::No).unwrap_err();
            assert_eq!(error, Errno::INVAL);
        }
        std::fs::remove_file("/dev/shm/fifo").unwrap();
    });
}

#[test]
fn a_thread_with_descriptors_of_its_own_names_its_own_file() {
    isolated!(|| {
        use rustix::fs::{OFlags, open};
        use rustix::thread::{UnshareFlags, unshare_unsafe};
        // Each is at the same number of its table.
        let unnamed = || {
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            open("/dev/shm", flags, Mode::RWXU).unwrap()
        };
        let both = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // SAFETY: What this thread opens from here on, it alone uses and closes.
                unsafe { unshare_unsafe(UnshareFlags::FILES) }.unwrap();
                both.wait();
                both.wait();
                let fill = |fd: &OwnedFd| io::write(fd, b"the thread's").map(|_| ());
                drop(shm::create("/own", Mode::RWXU, fill).unwrap());
                both.wait();
            });
            both.wait();
            let leaders = unnamed();
            io::write(&leaders, b"the leader's").unwrap();
            both.wait();
            both.wait();
        });
        assert_eq!(fs::read("/dev/shm/own").unwrap(), b"the thread's");
        fs::remove_file("/dev/shm/own").unwrap();
    });
}
