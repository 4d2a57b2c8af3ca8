//! What the models of locks have in common.

#![allow(dead_code, reason = "each test file uses its part")]

// Not loom's, which cannot be dropped while a model fails.
use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread::{self, JoinHandle};

/// How often a thread is interrupted where it need not be, in models that are too large for all.
pub const SOME: Option<usize> = Some(2);
pub const ALL: Option<usize> = None;

/// What a lock guards, or tells of: who touches it at the same time as another one, or does not see what
/// that one did, fails the model.
#[derive(Debug, Default)]
pub struct Guarded(UnsafeCell<u32>);

// SAFETY: The model finds out.
unsafe impl Send for Guarded {}
// SAFETY: As for `Send`.
unsafe impl Sync for Guarded {}

impl Guarded {
    pub fn add(&self) {
        self.change(|value| *value += 1);
    }

    pub fn change<T>(&self, change: impl FnOnce(&mut u32) -> T) -> T {
        // SAFETY: The model fails if another one is there.
        self.0.with_mut(|value| change(unsafe { &mut *value }))
    }

    pub fn value(&self) -> u32 {
        // SAFETY: As in `change`.
        self.0.with(|value| unsafe { *value })
    }
}

/// Runs `body` in every interleaving, each time with what `make` makes.
pub fn model<T: 'static>(
    preemptions: Option<usize>,
    make: impl Fn() -> T + Sync + Send + 'static,
    body: impl Fn(Arc<T>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.max_branches = 10_000;
    builder.check(move || body(Arc::new(make())));
}

pub fn spawn<T: 'static, R: 'static>(
    shared: &Arc<T>,
    body: impl Fn(&T) -> R + 'static,
) -> JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || body(&shared))
}

pub fn join(others: impl IntoIterator<Item = JoinHandle<()>>) {
    for other in others {
        other.join().unwrap();
    }
}
