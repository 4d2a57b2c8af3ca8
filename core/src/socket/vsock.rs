//! vsock(7).
