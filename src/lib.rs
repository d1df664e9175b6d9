//! The parts of the program, in the order in which a record meets them.
#![doc = include_str!("../README.md")]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests set times of files and wait"))]

pub mod job;
pub mod model;
pub mod source;

pub mod decode;
mod ingest;
mod record_rows;

mod dedup;
mod ids;

mod aggregate;
mod changes;
mod enrich;
mod funnel;
mod groups;
mod hydrate;
mod rows;
mod share;
mod users;

pub mod lake;
mod sink;
pub mod state;
mod symbols;

mod clock;
pub mod cluster;
mod dataflow;
pub mod driver;
pub mod faults;
mod frontier;
pub mod measure;
mod meters;
mod offload;
mod worker;

pub mod recover;
pub mod verify;

pub mod generate;

pub mod cli;
