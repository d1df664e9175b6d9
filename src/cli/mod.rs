//! What was typed: one file for each verb of the command line.

pub mod validate;
