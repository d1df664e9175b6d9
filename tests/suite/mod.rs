//! The suites, and the helpers that they share.

mod fixture;
mod random;
mod small;
mod tables;

mod cli;
mod kafka;
mod oracle;
