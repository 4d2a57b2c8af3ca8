//! Records: a header of 8 bytes, a message, and padding to a multiple of 8. Pure arithmetic.
//!
//! ```text
//!  position                8              8 + len        multiple of 8
//!  +-----------------------+--------------+--------------+-----------------------+
//!  | header: u64           | message      | padding      | next record's header  |
//!  +-----------------------+--------------+--------------+-----------------------+
//!
//!  header   63         56 55         48 47                    32 31               0
//!           +------------+-------------+------------------------+------------------+
//!           | state      | slot        | generation of the slot | length           |
//!           +------------+-------------+------------------------+------------------+
//! ```
//!
//! In a broadcast, slot and generation together are the low 24 bits of the message's number. A
//! header that is 0 is not written yet. The number is in the machine's byte order.

/// The length of a record's header.
pub(crate) const HEADER: u64 = 8;

/// The message is whole.
const COMMITTED: u64 = 1 << STATE;
/// The record is being filled by who is in the slot.
const CLAIMED: u64 = 2 << STATE;
/// There is no message in the record.
const ABORTED: u64 = 3 << STATE;
/// A consumer, who is in the slot, has the message.
const TAKEN: u64 = 4 << STATE;
/// The message was taken, and the record's room may be used again.
const RELEASED: u64 = 5 << STATE;

const STATE: u32 = 56;
const SLOT: u32 = 48;
const GENERATION: u32 = 32;

/// The length of a record whose message has `len` bytes, which is a sum that does not overflow for
/// what fits any ring.
#[inline(always)]
pub(crate) const fn size(len: u64) -> u64 {
    (len + HEADER + 7) & !7
}

/// The header of a message that is whole.
#[inline(always)]
pub(crate) const fn committed(len: u64) -> u64 {
    COMMITTED | len
}

/// The length in the header of a whole message, if it is one of at most `max` bytes. One comparison:
/// another state makes the difference larger than any length.
#[inline(always)]
pub(crate) const fn committed_len(header: u64, max: u64) -> Option<u64> {
    let len = header.wrapping_sub(COMMITTED);
    if len <= max { Some(len) } else { None }
}

/// The bits of a message's number that a broadcast's header keeps, where others keep the slot.
pub(crate) const NUMBER: u64 = (1 << (STATE - GENERATION)) - 1;

/// The header of a whole message of a broadcast.
#[inline(always)]
pub(crate) const fn numbered(len: u64, number: u64) -> u64 {
    COMMITTED | (number & NUMBER) << GENERATION | len
}

/// The length in the header of a broadcast's message with this number. One comparison, as in
/// [`committed_len`].
#[inline(always)]
pub(crate) const fn numbered_len(header: u64, max: u64, number: u64) -> Option<u64> {
    let len = header.wrapping_sub(numbered(0, number));
    if len <= max { Some(len) } else { None }
}

/// The low bits of the number in a broadcast's header.
pub(crate) const fn number_of(header: u64) -> u64 {
    header >> GENERATION & NUMBER
}

/// What a record is, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    Committed,
    Claimed(Holder),
    Aborted,
    Taken(Holder),
    Released,
}

/// Who claimed or took a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) slot: u8,
    pub(crate) generation: u16,
}

/// The header of a record in a state.
pub(crate) const fn encode(state: State, len: u64) -> u64 {
    const fn held(state: u64, holder: Holder) -> u64 {
        state | (holder.slot as u64) << SLOT | (holder.generation as u64) << GENERATION
    }
    len | match state {
        State::Empty => 0,
        State::Committed => COMMITTED,
        State::Claimed(holder) => held(CLAIMED, holder),
        State::Aborted => ABORTED,
        State::Taken(holder) => held(TAKEN, holder),
        State::Released => RELEASED,
    }
}

/// The state and the length in a header; `None` if no ring with messages of at most `max` bytes
/// writes it.
pub(crate) const fn decode(header: u64, max: u64) -> Option<(State, u64)> {
    let len = header & u32::MAX as u64;
    let holder = Holder {
        slot: (header >> SLOT) as u8,
        generation: (header >> GENERATION) as u16,
    };
    let state = match header >> STATE << STATE {
        0 => State::Empty,
        COMMITTED => State::Committed,
        CLAIMED => State::Claimed(holder),
        ABORTED => State::Aborted,
        TAKEN => State::Taken(holder),
        RELEASED => State::Released,
        _ => return None,
    };
    if len > max || encode(state, len) != header {
        return None;
    }
    Some((state, len))
}
