//! The tokens of a process and of its threads.

mod support;

use linipc_core::pshared::Process;
use linipc_core::robust::Thread;
use support::peer;

#[test]
fn a_parents_token_is_none_of_the_child() {
    isolated!(|| {
        let parent = Process::current().unwrap();
        assert!(!parent.is_forked());
        peer(|| {
            assert!(parent.is_forked());
            let child = Process::current().unwrap();
            assert!(!child.is_forked());
            assert!(parent.is_forked());
            peer(|| assert!(child.is_forked() && parent.is_forked())).join();
        })
        .join();
        assert!(!parent.is_forked());
    });
}

#[test]
fn a_thread_of_a_parent_is_none_of_the_child() {
    isolated!(|| {
        let me = || Thread::current().unwrap();
        let parent = me();
        for child_has_one in [false, true] {
            peer(|| {
                let child = child_has_one.then(me);
                peer(|| {
                    assert!(parent.is_forked());
                    let own = me();
                    assert!(!own.is_forked() && !me().is_forked());
                    assert!(parent.is_forked());
                    assert!(child.is_none_or(|child| child.is_forked()));
                })
                .join();
                assert!(parent.is_forked());
                assert!(child.is_none_or(|child| !child.is_forked()));
            })
            .join();
        }
        assert!(!parent.is_forked());
    });
}
