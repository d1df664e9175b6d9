//! Whole job files: what good ones mean, and what is said about bad ones.

mod bad;
mod good;

use std::path::Path;

use super::{Job, JobError, parse};

/// The job file of the design, word by word.
const SUBSCRIPTIONS: &str = include_str!("subscriptions.toml");

/// The value behind `${env:SECRET}`: nothing that a job file could use.
const SECRET: &str = "hunter2 !?";

fn job(text: &str) -> Result<Job, JobError> {
    let env = |name: &str| match name {
        "SECRET" => Some(SECRET.to_owned()),
        "REGION" => Some("region".to_owned()),
        _ => None,
    };
    parse(text, "subscriptions.toml", Path::new("/jobs"), &env)
}

/// The job of the design with `from` replaced by `to`.
fn changed(from: &str, to: &str) -> String {
    assert!(SUBSCRIPTIONS.contains(from), "the job has no {from}");
    SUBSCRIPTIONS.replacen(from, to, 1)
}
