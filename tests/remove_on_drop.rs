//! Every handle that can remove its object on drop: a forked child's copy does not.

use std::path::Path;

use linipc::sysv::Key;
use linipc::{fifo, posix, pshared, shared, socket, sysv};

mod support;
use support::peer;

/// Drops a copy of the handle in a child, and then the handle.
fn check<H>(what: &str, handle: H, exists: impl Fn() -> bool) {
    assert!(exists(), "{what} was not made");
    let mut handle = Some(handle);
    peer(|| drop(handle.take())).join();
    assert!(exists(), "a child has removed {what}");
    drop(handle);
    assert!(!exists(), "nobody has removed {what}");
}

#[test]
fn only_the_process_that_opened_it_removes_a_system_v_object() {
    isolated!(|| {
        let key = Key::new(7);
        let mut options = sysv::msg::OpenOptions::new();
        let queue = options.create_new(true).remove_on_drop(true).open(key);
        check("a queue", queue.unwrap(), || {
            sysv::msg::Queue::open(key).is_ok()
        });
        let mut options = sysv::sem::OpenOptions::new();
        let set = options.create_new(true).remove_on_drop(true).open(key, 1);
        check("a set", set.unwrap(), || sysv::sem::Set::open(key).is_ok());
        let mut options = sysv::sem::OpenOptions::new();
        let set = options.remove_on_drop(true).open_or_init(key, &[1]);
        check("a lock", set.unwrap(), || sysv::sem::Set::open(key).is_ok());
        let mut options = sysv::shm::OpenOptions::new();
        let segment = options.create_new(true).remove_on_drop(true).open(key, 1);
        check("a segment", segment.unwrap(), || {
            sysv::shm::Segment::open(key).is_ok()
        });
        let queue = sysv::msg::Queue::private().unwrap();
        let id = queue.id();
        check("a private queue", queue, || {
            sysv::msg::Queue::from_id(id).stat().is_ok()
        });
    });
}

#[test]
fn only_the_process_that_opened_it_unlinks_a_posix_object() {
    isolated!(|| {
        let name = "/linipc-on-drop";
        let mut options = posix::mq::OpenOptions::new();
        let options = options.read(true).create_new(true).unlink_on_drop(true);
        let file = support::mqueue_dir().join("linipc-on-drop");
        check("a queue", options.open(name).unwrap(), || file.exists());
        let mut options = posix::shm::OpenOptions::new();
        let options = options.create_new(true).size(1).unlink_on_drop(true);
        let file = Path::new("/dev/shm/linipc-on-drop");
        check("memory", options.open(name).unwrap(), || file.exists());
        let mut options = posix::sem::OpenOptions::new();
        let options = options.create_new(true).unlink_on_drop(true);
        check("a semaphore", options.open(name).unwrap(), || {
            posix::sem::Semaphore::open(name).is_ok()
        });
        let mut options = posix::shm::OpenOptions::new();
        let options = options.create_new(true).unlink_on_drop(true);
        let mutex = pshared::mutex::Mutex::open_named(name, 1_u8, options);
        check("a mutex", mutex.unwrap(), || file.exists());
    });
}

#[test]
fn only_the_process_that_opened_it_unlinks_a_file() {
    isolated!(|| {
        // A file system of this test's own.
        let file = Path::new("/dev/shm/file");
        let mut options = fifo::OpenOptions::new();
        let options = options.create_new(true).unlink_on_drop(true);
        check("a FIFO", options.open(file).unwrap(), || file.exists());
        let mut options = shared::OpenOptions::new();
        let options = options.create_new(7_u32).unlink_on_drop(true);
        check("a variable", options.open(file).unwrap(), || file.exists());
        let mut options = socket::unix::BindOptions::new();
        let options = options.unlink_on_drop(true);
        check("a socket", options.listener(file).unwrap(), || {
            file.exists()
        });
    });
}

#[test]
fn a_child_that_uses_a_shared_variable_does_not_unlink_it_either() {
    isolated!(|| {
        let file = Path::new("/dev/shm/file");
        let mut options = shared::OpenOptions::new();
        let variable = options.create_new(7_u32).unlink_on_drop(true).open(file);
        let mut variable = Some(variable.unwrap());
        peer(|| variable.take().unwrap().set(8).unwrap()).join();
        assert!(file.exists());
        assert_eq!(variable.unwrap().get().unwrap(), 8);
        assert!(!file.exists());
    });
}
