//! Sockets: streams, datagrams and packets, on one machine or several.

pub mod cmsg;
pub mod inet;
pub mod unix;
pub mod vsock;
