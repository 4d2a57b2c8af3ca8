//! Numbers as text.

/// A number in decimal, or in hexadecimal after `0x`, with or without a sign.
pub fn parse(text: &[u8]) -> Option<i64> {
    let (sign, text) = match text {
        [b'-', digits @ ..] => (-1, digits),
        [b'+', digits @ ..] => (1, digits),
        digits => (1, digits),
    };
    let (base, digits) = match text {
        [b'0', b'x' | b'X', digits @ ..] => (16, digits),
        digits => (10, digits),
    };
    let number = i64::try_from(parse_base(digits, base)?).ok()?;
    Some(sign * number)
}

/// Digits of a base up to 16, of a number below 2⁶³ at least.
pub fn parse_base(digits: &[u8], base: u64) -> Option<u64> {
    let mut number = 0;
    for digit in digits {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        if u64::from(digit) >= base || number >= 1 << 60 {
            return None;
        }
        number = number * base + u64::from(digit);
    }
    (!digits.is_empty()).then_some(number)
}

/// Such a number that fits into the type.
pub fn parse_as<T: TryFrom<i64>>(text: &[u8]) -> Option<T> {
    parse(text)?.try_into().ok()
}

/// The key of a System V object, as `ipcs` prints it or with a sign. 0 is none: it is `IPC_PRIVATE`, by which
/// nobody finds an object again.
pub fn parse_key(text: &[u8]) -> Option<i32> {
    let number = parse(text)?;
    ((i64::from(i32::MIN)..=u32::MAX.into()).contains(&number) && number != 0)
        .then_some(number as i32)
}

/// The decimal digits of a number.
pub fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}
