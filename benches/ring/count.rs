//! How many instructions are a push and a pop?
//!
//! One process, one thread, exactly N pairs. From two numbers of pairs callgrind gives those of
//! one, and `nothing-8` and `nothing-64` those of the loop and its check, to subtract:
//!
//! ```sh
//! ring=$(cargo bench --bench ring --no-run --message-format=json |
//!     sed -n 's/.*"executable":"\([^"]*\/ring-[^"]*\)".*/\1/p')
//! count() { valgrind --tool=callgrind --callgrind-out-file=/dev/null "$ring" --count "$@" 2>&1 |
//!     sed -n 's/.*Collected : //p'; }
//! for name in nothing-8 ours-8; do
//!     echo "$name $((($(count $name 11000) - $(count $name 1000)) / 10000))"
//! done
//! ```

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, Ordering};

use linipc_core::shared::SharedBytes;

use crate::channel::{Channel, Messages, Receiver, Sender};
use crate::hand::Hand;
use crate::machine::pieces;
use crate::ours;
use crate::peers;

/// A contestant's name, and how it runs with 8 B and with 64 B.
type Counted = (&'static str, [fn(usize); 2]);

const NAMES: [Counted; 9] = [
    ("nothing", [pairs::<8, Nothing>, pairs::<64, Nothing>]),
    ("hand", [pairs::<8, Hand<8>>, pairs::<64, Hand<64>>]),
    (
        "rtrb",
        [pairs::<8, peers::Rtrb<8>>, pairs::<64, peers::Rtrb<64>>],
    ),
    (
        "shmem-ipc",
        [
            pairs::<8, peers::ShmemIpc<8>>,
            pairs::<64, peers::ShmemIpc<64>>,
        ],
    ),
    (
        "array-queue",
        [
            pairs::<8, peers::ArrayQueue<8>>,
            pairs::<64, peers::ArrayQueue<64>>,
        ],
    ),
    (
        "ours",
        [pairs::<8, ours::Spsc<8>>, pairs::<64, ours::Spsc<64>>],
    ),
    (
        "ours-items",
        [pairs::<8, ours::Items<8>>, pairs::<64, ours::Items<64>>],
    ),
    (
        "ours-mpsc",
        [pairs::<8, ours::Mpsc<8>>, pairs::<64, ours::Mpsc<64>>],
    ),
    (
        "ours-mpmc",
        [pairs::<8, ours::Mpmc<8>>, pairs::<64, ours::Mpmc<64>>],
    ),
];

/// Runs `pairs` pushes and pops of the contestant `name`, such as `ours-64`.
pub(crate) fn count(name: &str, pairs: usize) {
    let run = NAMES.iter().find_map(|(contestant, [eight, many])| {
        match name.strip_prefix(contestant)? {
            "-8" => Some(eight),
            "-64" => Some(many),
            _ => None,
        }
    });
    match run {
        Some(run) => run(pairs),
        None => panic!(
            "{name} is none of {:?}-8 or -64",
            NAMES.map(|(name, _)| name)
        ),
    }
}

fn pairs<const N: usize, C: Channel>(pairs: usize) {
    const SLOTS: usize = 256;
    let [memory] = pieces(SLOTS * (N + 16) + (64 << 10));
    let channel = C::create(memory, black_box(SLOTS));
    let (mut sender, mut receiver) = (channel.sender(), channel.receiver());
    let messages = Messages::<N>::new();
    let mut into = [0; N];
    for i in 0..pairs {
        sender.send(messages.get(i));
        assert_eq!(receiver.receive(&mut into), N);
        Messages::check(i, &into);
    }
}

/// What is left of the loop without a channel: one copy, from one side's buffer to the other's.
#[derive(Debug)]
struct Nothing(Arc<AtomicPtr<u8>>);

impl Channel for Nothing {
    type Sender = Self;
    type Receiver = Self;

    fn create(_: SharedBytes<'static>, _: usize) -> Self {
        Self(Arc::default())
    }

    fn sender(&self) -> Self {
        Self(Arc::clone(&self.0))
    }

    fn receiver(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Sender for Nothing {
    #[inline]
    fn send(&mut self, message: &[u8]) {
        self.0.store(message.as_ptr().cast_mut(), Ordering::Relaxed);
    }
}

impl Receiver for Nothing {
    #[inline]
    fn receive(&mut self, into: &mut [u8]) -> usize {
        let (from, to) = (self.0.load(Ordering::Relaxed), into.as_mut_ptr());
        // SAFETY: The message that was just sent has the same length.
        unsafe { from.copy_to_nonoverlapping(to, into.len()) };
        into.len()
    }
}
