//! Options, as getopt(3) reads them: before the first argument that is none, and until `--`.

use linipc_static::Args;
use linipc_static::report::Failure;

/// What a lock of `flock` is: the last one counts.
const LOCKS: u32 = bit(b's') | bit(b'x') | bit(b'e') | bit(b'u');

const fn bit(letter: u8) -> u32 {
    1 << (letter % 32)
}

/// The options of a call, and the arguments behind them.
pub struct Options {
    /// A bit for each small letter.
    letters: u32,
    /// What goes with the letter that takes a value.
    pub value: Option<&'static [u8]>,
    pub args: Args,
}

impl Options {
    /// Reads the options, of which these letters are known; one that is followed by `:` takes a value, in
    /// its own argument or in the next one.
    pub fn read(mut args: Args, known: &[u8]) -> Result<Self, Failure> {
        let (mut letters, mut value) = (0, None);
        while let Some([b'-', group @ ..]) = args.bytes(0)
            && !group.is_empty()
        {
            args = args.skip(1);
            if group == b"-" {
                break;
            }
            let mut group = group;
            while let [letter, rest @ ..] = group {
                group = rest;
                let place = known.iter().position(|known| known == letter);
                let place = place.filter(|_| *letter != b':').ok_or(Failure::Usage)?;
                let bit = bit(*letter);
                if LOCKS & bit != 0 {
                    letters &= !LOCKS;
                }
                letters |= bit;
                if known.get(place + 1) != Some(&b':') {
                    continue;
                }
                if rest.is_empty() {
                    value = Some(args.bytes(0).ok_or(Failure::Usage)?);
                    args = args.skip(1);
                } else {
                    value = Some(rest);
                }
                break;
            }
        }
        Ok(Self {
            letters,
            value,
            args,
        })
    }

    /// Whether this letter is among them.
    pub fn has(&self, letter: u8) -> bool {
        self.letters & bit(letter) != 0
    }
}
