//! What was typed: one module for each verb.

pub mod bench;
pub mod demo;
pub mod diff;
pub mod experiment;
pub mod explain;
pub mod generate;
mod health;
pub mod processes;
mod progress;
pub mod recover;
pub mod run;
pub mod show;
mod supervise;
pub mod validate;
pub mod verify;

use std::io::{self, IsTerminal};

use clap::{Parser, Subcommand};

use crate::driver;
use crate::generate::{HistoryError, OptionsError};
use crate::job::JobError;
use crate::recover::RecoverError;
use crate::verify::VerifyError;
pub use crate::worker::told;

/// Kafka topics in, exact Apache Iceberg tables out.
///
/// A job file says where records come from, what they mean, and which tables to maintain. `run` reads what
/// is new and commits all tables at once, with the offsets they stand for; run it again and it goes on from
/// there. `tidewater demo` shows all of it with a million synthetic events.
///
/// Exit codes: 0 done; 1 failed; 2 the command line or the job file is wrong; 3 refused, because going on
/// would not be safe; 4 verified, and something is wrong.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Bench(bench::Args),
    Demo(demo::Args),
    Diff(diff::Args),
    Experiment(experiment::Args),
    Explain(explain::Args),
    Generate(Box<generate::Args>),
    Recover(recover::Args),
    Run(run::Args),
    Show(show::Args),
    Validate(validate::ValidateArgs),
    Verify(verify::Args),
}

impl Cli {
    /// Does what was asked for.
    pub fn run(self) -> anyhow::Result<()> {
        tell_on_stderr();
        match self.verb {
            Verb::Bench(args) => bench::run(&args),
            Verb::Demo(args) => demo::run(&args),
            Verb::Diff(args) => diff::run(&args),
            Verb::Experiment(args) => experiment::run(&args),
            Verb::Explain(args) => explain::run(&args),
            Verb::Generate(args) => generate::run(&args),
            Verb::Recover(args) => recover::run(&args),
            Verb::Run(args) => run::run(&args),
            Verb::Show(args) => show::run(&args),
            Verb::Validate(args) => validate::run(&args, &mut io::stdout().lock()),
            Verb::Verify(args) => verify::run(&args),
        }
    }
}

/// Log lines go to standard error; `TIDEWATER_LOG` says which (`warn` unless set).
fn tell_on_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("TIDEWATER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}

/// The exit code of an error, by its kind.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let is_wrong_input = |cause: &(dyn std::error::Error + 'static)| {
        cause.is::<JobError>()
            || cause.is::<OptionsError>()
            || cause.is::<processes::ProcessesError>()
            || cause.downcast_ref().is_some_and(demo::DemoError::is_wrong_input)
            || cause.is::<explain::ExplainError>()
            || cause.downcast_ref().is_some_and(show::ShowError::is_wrong_input)
            || cause.downcast_ref().is_some_and(HistoryError::is_wrong_input)
    };
    if error.chain().any(is_wrong_input) {
        return 2;
    }
    match error.downcast_ref() {
        Some(VerifyError::Wrong { .. }) => return 4,
        Some(VerifyError::Gone { .. }) => return 3,
        _ => {}
    }
    if let Some(supervise::SuperviseError::Final { code, .. }) = error.downcast_ref() {
        return *code;
    }
    let recovers_unsafely = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref().is_some_and(RecoverError::is_refusal)
    };
    if driver::is_refusal(error) || error.chain().any(recovers_unsafely) { 3 } else { 1 }
}

/// True if whoever reads our output has seen enough and went away.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let closed = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}
