//! tidewater.

pub mod state;
