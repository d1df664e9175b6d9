//! What was typed: one module for each verb.

pub mod generate;
