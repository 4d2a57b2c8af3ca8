//! Another program in place of this one.

use core::ffi::{CStr, c_char};

use linipc_core::Errno;

use crate::{Args, execve};

const PATH_MAX: usize = 4096;

impl Args {
    /// The value of a variable of the environment; `name` ends with `=`.
    fn variable(self, name: &[u8]) -> Option<&'static [u8]> {
        let mut variables = self.environment();
        loop {
            // SAFETY: The kernel put pointers there, of which the last is null, where this ends.
            let variable = unsafe { *variables };
            if variable.is_null() {
                return None;
            }
            // SAFETY: It points at a string that ends with a null byte and is never freed.
            let variable = unsafe { CStr::from_ptr(variable) }.to_bytes();
            if let Some(value) = variable.strip_prefix(name) {
                return Some(value);
            }
            variables = variables.wrapping_add(1);
        }
    }

    /// Runs the first argument, which is looked for in `PATH`, with these arguments.
    ///
    /// Comes back with the error, if it cannot.
    pub fn execute(self) -> Errno {
        let Some(file) = self.get(0) else {
            return Errno::NOENT;
        };
        // SAFETY: The kernel ended the arguments with a null pointer.
        unsafe { self.execute_as(file, self.pointers()) }
    }

    /// Runs `/bin/sh -c` with the first argument.
    pub fn execute_in_shell(self) -> Errno {
        let Some(command) = self.get(0) else {
            return Errno::NOENT;
        };
        let arguments = [c"sh", c"-c", command].map(CStr::as_ptr);
        let [sh, c, command] = arguments;
        let arguments = [sh, c, command, core::ptr::null()];
        // SAFETY: They end with a null pointer.
        unsafe { self.execute_as(c"/bin/sh", arguments.as_ptr()) }
    }

    /// # Safety
    ///
    /// The arguments are pointers to strings, and end with a null pointer.
    unsafe fn execute_as(self, file: &CStr, arguments: *const *const c_char) -> Errno {
        let execute = |path: &CStr| {
            // SAFETY: The caller's promise; the environment is as the kernel made it.
            let code = unsafe { execve(path.as_ptr(), arguments, self.environment()) };
            match code {
                -4095..0 => Errno::from_raw_os_error(-code as i32),
                _ => Errno::INVAL,
            }
        };
        if file.to_bytes().contains(&b'/') {
            return execute(file);
        }
        let mut worst = Errno::NOENT;
        let directories = self.variable(b"PATH=").unwrap_or(b"/bin:/usr/bin");
        for directory in directories.split(|byte| *byte == b':') {
            // An empty one is the current directory.
            let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            let mut path = [0; PATH_MAX];
            let mut rest = path.iter_mut();
            for part in [directory, slash, file.to_bytes_with_nul()] {
                for (byte, place) in part.iter().zip(&mut rest) {
                    *place = *byte;
                }
            }
            // What is too long is not terminated.
            let Ok(path) = CStr::from_bytes_until_nul(&path) else {
                continue;
            };
            match execute(path) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => worst = Errno::ACCESS,
                error => return error,
            }
        }
        worst
    }
}
