//! tcp(7), udp(7).
