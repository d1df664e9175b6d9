//! tidewater.

pub mod cli;
pub mod generate;
