//! cmsg(3).
