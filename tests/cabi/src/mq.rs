//! mq_overview(7)

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::zeroed;
use std::ptr;

use linipc_core::Errno;
use linipc_core::fd::{AsRawFd, FromRawFd, OwnedFd};
use linipc_core::io::fcntl_getfd;
use linipc_core::posix::mq::{self, Attributes, Capacity, Flags, Notification};
use linipc_core::socket::{self, AddressFamily, RecvFlags, SocketType};

use crate::memory::{fd, get, put_if, slice, slice_mut, string, timespec};
use crate::{cancellation_point, export};

export! {
    /// mq_open(3). C's arguments from the third on are variable.
    fn mq_open(
        name: *const c_char,
        flags: c_int,
        mode: libc::mode_t,
        attributes: *const libc::mq_attr,
    ) -> c_int {
        open(name, flags, mode, attributes)
    }

    /// [`mq_open`] of programs that were compiled with `_FORTIFY_SOURCE`, without the variable arguments.
    fn __mq_open_2(name: *const c_char, flags: c_int) -> c_int {
        if flags & libc::O_CREAT != 0 {
            libc::abort();
        }
        open(name, flags, 0, ptr::null())
    }

    /// mq_close(3)
    fn mq_close(queue: c_int) -> c_int {
        fcntl_getfd(fd(queue)?)?;
        drop(OwnedFd::from_raw_fd(queue));
        Ok(())
    }

    /// mq_unlink(3)
    fn mq_unlink(name: *const c_char) -> c_int {
        match mq::unlink(string(name)?) {
            // The C library's word for it.
            Err(Errno::PERM) => Err(Errno::ACCESS),
            done => done,
        }
    }

    /// mq_send(3)
    fn mq_send(queue: c_int, message: *const c_char, len: usize, priority: c_uint) -> c_int {
        cancellation_point();
        mq::send(fd(queue)?, slice(message.cast(), len)?, priority, None)
    }

    /// mq_send(3)
    fn mq_timedsend(
        queue: c_int,
        message: *const c_char,
        len: usize,
        priority: c_uint,
        until: *const libc::timespec,
    ) -> c_int {
        cancellation_point();
        let until = until.as_ref().copied().map(timespec);
        mq::send(fd(queue)?, slice(message.cast(), len)?, priority, until)
    }

    /// mq_receive(3)
    fn mq_receive(
        queue: c_int,
        message: *mut c_char,
        len: usize,
        priority: *mut c_uint,
    ) -> isize {
        cancellation_point();
        receive(queue, message, len, priority, ptr::null())
    }

    /// mq_receive(3)
    fn mq_timedreceive(
        queue: c_int,
        message: *mut c_char,
        len: usize,
        priority: *mut c_uint,
        until: *const libc::timespec,
    ) -> isize {
        cancellation_point();
        receive(queue, message, len, priority, until)
    }

    /// mq_getattr(3)
    fn mq_getattr(queue: c_int, to: *mut libc::mq_attr) -> c_int {
        // Into no memory, as the kernel's call has it that is also for setting them.
        put_if(to, to_c(mq::getattr(fd(queue)?)?));
        Ok(())
    }

    /// mq_getattr(3)
    fn mq_setattr(queue: c_int, new: *const libc::mq_attr, old: *mut libc::mq_attr) -> c_int {
        let nonblock = i64::from(libc::O_NONBLOCK);
        let were = match new.as_ref().map(|new| new.mq_flags) {
            None => mq::getattr(fd(queue)?)?,
            Some(flags) if flags & !nonblock == 0 => mq::setattr(fd(queue)?, flags != 0)?,
            Some(_) => return Err(Errno::INVAL),
        };
        put_if(old, to_c(were));
        Ok(())
    }

    /// mq_notify(3)
    fn mq_notify(queue: c_int, event: *const libc::sigevent) -> c_int {
        let Some(event) = event.as_ref() else {
            return mq::notify(fd(queue)?, None);
        };
        let notification = match event.sigev_notify {
            libc::SIGEV_NONE => Notification::Silent,
            // It would be registered, and no signal sent.
            libc::SIGEV_SIGNAL if event.sigev_signo == 0 => Notification::Silent,
            libc::SIGEV_SIGNAL => Notification::SignalPointer {
                number: event.sigev_signo,
                pointer: event.sigev_value.sival_ptr.addr(),
            },
            libc::SIGEV_THREAD => return notify_by_thread(queue, event),
            _ => return Err(Errno::INVAL),
        };
        mq::notify(fd(queue)?, Some(notification))
    }
}

unsafe fn open(
    name: *const c_char,
    flags: c_int,
    mode: libc::mode_t,
    attributes: *const libc::mq_attr,
) -> Result<OwnedFd, Errno> {
    let mut access = match flags & libc::O_ACCMODE {
        libc::O_RDONLY => Flags::READ,
        libc::O_WRONLY => Flags::WRITE,
        libc::O_RDWR => Flags::READ | Flags::WRITE,
        _ => return Err(Errno::INVAL),
    };
    access.set(Flags::NONBLOCK, flags & libc::O_NONBLOCK != 0);
    let capacity = match flags & libc::O_CREAT != 0 && !attributes.is_null() {
        true => Some(to_capacity(get(attributes)?)?),
        false => None,
    };
    mq::open(
        string(name)?,
        access,
        crate::shm::create(flags, mode),
        capacity,
    )
}

fn to_capacity(attributes: libc::mq_attr) -> Result<Capacity, Errno> {
    let number = |number: i64| usize::try_from(number).map_err(|_| Errno::INVAL);
    Ok(Capacity {
        messages: number(attributes.mq_maxmsg)?,
        message_bytes: number(attributes.mq_msgsize)?,
    })
}

unsafe fn to_c(from: Attributes) -> libc::mq_attr {
    let mut to: libc::mq_attr = zeroed();
    to.mq_flags = if from.nonblocking {
        libc::O_NONBLOCK.into()
    } else {
        0
    };
    to.mq_maxmsg = from.capacity.messages as _;
    to.mq_msgsize = from.capacity.message_bytes as _;
    to.mq_curmsgs = from.messages as _;
    to
}

unsafe fn receive(
    queue: c_int,
    message: *mut c_char,
    len: usize,
    priority: *mut c_uint,
    until: *const libc::timespec,
) -> Result<usize, Errno> {
    let until = until.as_ref().copied().map(timespec);
    let received = mq::receive(fd(queue)?, slice_mut(message.cast(), len)?, until)?;
    put_if(priority, received.priority);
    Ok(received.len)
}

/// What the kernel sends to a netlink socket, whose last byte says why.
type Cookie = [u8; 32];

const WOKEN: u8 = 1;

/// `struct sigevent`, of which the libc crate does not have the function.
#[repr(C)]
struct ThreadEvent {
    value: libc::sigval,
    signal: c_int,
    notify: c_int,
    function: Function,
    attributes: *const libc::pthread_attr_t,
}

type Function = unsafe extern "C-unwind" fn(libc::sigval);

/// One registration, and the thread that it may become.
struct Registration {
    socket: OwnedFd,
    function: Function,
    value: libc::sigval,
}

unsafe extern "C" {
    /// As C has it: the thread's function may be left by unwinding.
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        run: extern "C-unwind" fn(*mut c_void) -> *mut c_void,
        argument: *mut c_void,
    ) -> c_int;
}

/// The kernel knows `SIGEV_THREAD` as a message to a netlink socket: `sigev_signo` is the socket, and
/// `sigev_value` has the address of what is sent. The thread that waits for it is the one that then
/// runs the function; it has the attributes that the caller wants for that one.
unsafe fn notify_by_thread(queue: c_int, event: &libc::sigevent) -> Result<(), Errno> {
    let event = &*ptr::from_ref(event).cast::<ThreadEvent>();
    let socket = socket::socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    let cookie: Cookie = [0; 32];
    let mut request: libc::sigevent = zeroed();
    request.sigev_notify = libc::SIGEV_THREAD;
    request.sigev_signo = socket.as_raw_fd();
    request.sigev_value.sival_ptr = cookie.as_ptr().cast_mut().cast();
    // Core has no thread to give, so it does not have this.
    if libc::syscall(libc::SYS_mq_notify, queue, &raw const request) != 0 {
        return Err(Errno::from_raw_os_error(*libc::__errno_location()));
    }
    let registration = Box::into_raw(Box::new(Registration {
        socket,
        function: event.function,
        value: event.value,
    }));
    let (mut all, mut mask) = (zeroed(), zeroed());
    libc::sigfillset(&mut all);
    libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut mask);
    let mut thread = 0;
    let error = pthread_create(&mut thread, event.attributes, run, registration.cast());
    libc::pthread_sigmask(libc::SIG_SETMASK, &mask, ptr::null_mut());
    if error != 0 {
        drop(Box::from_raw(registration));
        mq::notify(fd(queue)?, None)?;
        return Err(Errno::from_raw_os_error(error));
    }
    Ok(())
}

extern "C-unwind" fn run(registration: *mut c_void) -> *mut c_void {
    // SAFETY: `notify_by_thread` made it for this thread.
    let woken = unsafe { wait(registration.cast()) };
    // SAFETY: The thread may be detached by its attributes, and is nobody's to join.
    unsafe { libc::pthread_detach(libc::pthread_self()) };
    if let Some((function, value)) = woken {
        // SAFETY: An empty set.
        let none = unsafe { zeroed() };
        // SAFETY: The set lives during the call.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &none, ptr::null_mut()) };
        // SAFETY: The caller of `mq_notify` gave a function for this value. If it ends the thread,
        // nothing here needs to be dropped.
        unsafe { function(value) };
    }
    ptr::null_mut()
}

/// What is to be called, unless the registration was taken away.
unsafe fn wait(registration: *mut Registration) -> Option<(Function, libc::sigval)> {
    let registration = Box::from_raw(registration);
    let mut cookie: Cookie = [0; 32];
    socket::recv(&registration.socket, &mut cookie, RecvFlags::empty()).ok()?;
    (cookie[31] == WOKEN).then_some((registration.function, registration.value))
}
