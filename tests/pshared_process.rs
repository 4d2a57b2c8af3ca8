//! The token of a process.

mod support;

use linipc_core::pshared::Process;
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
