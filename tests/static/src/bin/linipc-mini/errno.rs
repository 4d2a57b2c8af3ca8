//! What errors are called.

use linipc_core::Errno;
use linipc_static::number::decimal;
use linipc_static::report::complain;

/// The names of errors behind their numbers, which are those of all architectures here.
const NAMES: &[u8] = b"\
1EPERM 2ENOENT 4EINTR 5EIO 6ENXIO 7E2BIG 8ENOEXEC 9EBADF 11EAGAIN 12ENOMEM 13EACCES 16EBUSY \
17EEXIST 18EXDEV 19ENODEV 20ENOTDIR 21EISDIR 22EINVAL 23ENFILE 24EMFILE 26ETXTBSY 27EFBIG \
28ENOSPC 30EROFS 32EPIPE 34ERANGE 35EDEADLK 36ENAMETOOLONG 38ENOSYS 40ELOOP 42ENOMSG 43EIDRM \
75EOVERFLOW 88ENOTSOCK 90EMSGSIZE 91EPROTOTYPE 95EOPNOTSUPP 98EADDRINUSE 104ECONNRESET \
110ETIMEDOUT 111ECONNREFUSED 116ESTALE 122EDQUOT";

/// Says what the kernel refused, by its name, or by its number if that is not here.
pub fn refused(name: &[u8], errno: Errno) {
    let mut digits = [0; 20];
    let number = decimal(errno.raw_os_error().unsigned_abs().into(), &mut digits);
    complain(name, b": ", error_name(number));
}

fn error_name(number: &[u8]) -> &[u8] {
    NAMES
        .split(|byte| *byte == b' ')
        .find_map(|name| {
            name.strip_prefix(number)
                .filter(|name| name.first() == Some(&b'E'))
        })
        .unwrap_or(number)
}
