//! process_vm_readv(2).
