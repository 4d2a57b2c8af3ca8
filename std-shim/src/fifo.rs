//! FIFOs.
