//! System V semaphores.
