//! Options, as getopt(3) reads them: before the first argument that is none, and until `--`.

use linipc_static::Args;
use linipc_static::report::Failure;

/// Calls `option` with each letter and with what follows it, in its own argument or in the next one;
/// it says whether it took that as the letter's value. Gives the arguments behind the options.
pub fn options(
    mut args: Args,
    mut option: impl FnMut(u8, Option<&'static [u8]>) -> Result<bool, Failure>,
) -> Result<Args, Failure> {
    while let Some([b'-', letters @ ..]) = args.bytes(0) {
        if letters.is_empty() {
            break;
        }
        args = args.skip(1);
        if letters == b"-" {
            break;
        }
        let mut letters = letters;
        while let [letter, rest @ ..] = letters {
            let is_last = rest.is_empty();
            let value = if is_last { args.bytes(0) } else { Some(rest) };
            if !option(*letter, value)? {
                letters = rest;
                continue;
            }
            if is_last {
                args = args.skip(1);
            }
            break;
        }
    }
    Ok(args)
}
