//! What the three mechanisms of System V IPC have in common: keys, ids and permissions.

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt;

use linipc::sysv::{Key, ftok};
use linipc_core::Errno;
use linipc_core::sysv::{Create, Mode, msg, sem, shm};
use support::{c_string, peer};

const KEY: Key = Key::new(-0x6c69_6e69);

#[test]
fn ftok_gives_the_key_of_the_c_library() {
    let mut paths: Vec<_> = ["/", "/etc", "/dev", "/proc", "/sys", "/bin", "/usr/bin"]
        .iter()
        .flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|path| path.metadata().is_ok())
        .collect();
    paths.push(std::env::current_exe().unwrap());
    assert!(
        paths.len() > 100,
        "too few files to compare: {}",
        paths.len()
    );
    let (mut high_devices, mut high_inodes) = (false, false);
    for path in &paths {
        let c_path = c_string(path.to_str().unwrap());
        for id in [0, 1, b'a', 0x7f, 0x80, 0xff] {
            // SAFETY: The path is a C string.
            let theirs = unsafe { libc::ftok(c_path.as_ptr(), id.into()) };
            match ftok(path.as_path(), id) {
                Ok(key) => assert_eq!(key.number(), theirs, "{} {id}", path.display()),
                // A process under /proc may end meanwhile.
                Err(_) => assert!(path.starts_with("/proc") || theirs == -1),
            }
        }
        if let Ok(meta) = path.metadata() {
            high_devices |= meta.dev() > 0xff;
            high_inodes |= meta.ino() > 0xffff;
        }
    }
    if !(high_devices && high_inodes) {
        support::skip("bits that are cut off: no file has them");
    }
}

#[test]
fn ftok_follows_links_and_tells_files_and_ids_apart() {
    let dir = std::env::temp_dir().join(format!("linipc-ftok-{}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    let (first, second, link) = (dir.join("a"), dir.join("b"), dir.join("link"));
    fs::write(&first, "").unwrap();
    fs::write(&second, "").unwrap();
    std::os::unix::fs::symlink(&first, &link).unwrap();
    let key = ftok(&first, 1).unwrap();
    assert_eq!(ftok(&link, 1), Ok(key));
    assert_ne!(ftok(&second, 1), Ok(key));
    assert_ne!(ftok(&first, 2), Ok(key));
    assert_eq!(ftok(dir.join("none"), 1), Err(Errno::NOENT));
    assert_eq!(ftok(first.join("below"), 1), Err(Errno::NOTDIR));
    fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_key_leads_to_one_object_of_each_mechanism() {
    isolated!(|| {
        let mode = Mode::RUSR | Mode::WUSR | Mode::WGRP | Mode::ROTH;
        // Bits that are no permissions must not become flags.
        let create = Create::Exclusive(mode | Mode::SUID | Mode::from_raw_mode(0o70_000));
        let queue = msg::get(KEY, create).unwrap();
        let set = sem::get(KEY, 1, create).unwrap();
        let segment = shm::get(KEY, 1, create, shm::Memory::USUAL).unwrap();
        let all = [
            msg::stat(queue).unwrap().permissions,
            sem::stat(set).unwrap().permissions,
            shm::stat(segment).unwrap().permissions,
        ];
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        for permissions in all {
            assert_eq!((permissions.key, permissions.mode), (KEY, mode));
            let owner = (permissions.uid, permissions.gid);
            assert_eq!(owner, (uid.as_raw(), gid.as_raw()));
            let creator = (permissions.creator_uid, permissions.creator_gid);
            assert_eq!(creator, owner);
        }
        assert_eq!(msg::get(KEY, Create::No), Ok(queue));
        assert_eq!(sem::get(KEY, 0, Create::No), Ok(set));
        assert_eq!(
            shm::get(KEY, 0, Create::No, shm::Memory::USUAL),
            Ok(segment)
        );
        peer(|| {
            support::drop_privileges();
            let granted = [Mode::empty(), Mode::RUSR, mode];
            let refused = [Mode::XUSR, mode | Mode::XOTH, Mode::RGRP | Mode::XGRP];
            let create = granted.map(|mode| (mode, None)).into_iter();
            let create = create.chain(refused.map(|mode| (mode, Some(Errno::ACCESS))));
            for (mode, error) in create {
                let create = Create::Granting(mode);
                let segment = shm::get(KEY, 0, create, shm::Memory::USUAL);
                assert_eq!(segment.err(), error, "{mode:?}");
                assert_eq!(sem::get(KEY, 0, create).err(), error, "{mode:?}");
                assert_eq!(msg::get(KEY, create).err(), error, "{mode:?}");
            }
        })
        .join();
        msg::remove(queue).unwrap();
        sem::remove(set).unwrap();
        shm::remove(segment).unwrap();
        let granting = Create::Granting(Mode::empty());
        assert_eq!(msg::get(KEY, granting), Err(Errno::NOENT));
        assert_eq!(msg::get(Key::PRIVATE, granting), Err(Errno::NOENT));
    });
}

#[test]
fn private_objects_are_new_each_time() {
    isolated!(|| {
        let mode = Create::Open(Mode::RUSR | Mode::WUSR);
        let new = || sem::get(Key::PRIVATE, 1, mode).unwrap();
        let (first, second) = (new(), new());
        assert_ne!(first, second);
        assert_eq!(sem::stat(first).unwrap().permissions.key, Key::PRIVATE);
        assert_eq!(sem::Id::new(first.number()), first);
        sem::remove(first).unwrap();
        assert_eq!(sem::stat(first), Err(Errno::INVAL));
        sem::remove(second).unwrap();
    });
}

#[test]
fn an_id_is_not_used_again_soon() {
    isolated!(|| {
        let create = Create::Exclusive(Mode::RUSR | Mode::WUSR);
        let first = sem::get(KEY, 1, create).unwrap();
        sem::remove(first).unwrap();
        for _ in 0..1000 {
            let id = sem::get(KEY, 1, create).unwrap();
            assert_ne!(id, first);
            sem::remove(id).unwrap();
        }
    });
}

#[test]
fn an_id_can_be_chosen_so_it_proves_nothing() {
    isolated!(|| {
        let create = Create::Exclusive(Mode::RUSR | Mode::WUSR);
        let first = sem::get(Key::PRIVATE, 1, create).unwrap();
        sem::remove(first).unwrap();
        let number = first.number().to_string();
        if fs::write("/proc/sys/kernel/sem_next_id", number).is_err() {
            return support::skip("sem_next_id: no CONFIG_CHECKPOINT_RESTORE, or not root");
        }
        // The same id, and a larger set: an array that was right for the first one is too short.
        let second = sem::get(Key::PRIVATE, 300, create).unwrap();
        assert_eq!(second, first);
        assert_eq!(sem::getall(first, &mut [0]), Err(Errno::TOOBIG));
        sem::remove(second).unwrap();
    });
}
