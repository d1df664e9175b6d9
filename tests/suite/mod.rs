//! The suites, and the helpers that they share.

mod fixture;
mod random;
mod running;
mod small;
mod tables;

mod cli;
mod cluster;
mod differential;
mod faults;
mod horizon;
mod hydration;
mod interop;
mod kafka;
mod oracle;
mod orphans;
mod recover;
mod restart;
mod rivals;
mod synthetic;
mod tidy;
mod verify;
mod verify_source;
