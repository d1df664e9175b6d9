//! The suites, and the helpers that they share.

mod fixture;
mod random;
mod tables;

mod oracle;
