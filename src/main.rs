//! The binary: sets up what belongs to a whole process, and leaves the rest to `cli`.

use std::process::ExitCode;

use clap::Parser;
use fail::FailScenario;
use tidewater::cli::{Cli, exit_code, is_closed_pipe, told};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    stop_at_panics();
    let _faults = fail::has_failpoints().then(FailScenario::setup);
    let cli = Cli::parse();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::from(exit_code(&error))
        }
    }
}

/// A panic on any thread ends the process at once: a worker that is gone would leave the others waiting for
/// ever.
fn stop_at_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(|place| format!(" ({place})")).unwrap_or_default();
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("a thread");
        eprintln!("error: {message}{place} [{name}]; the last commit stands, run again to go on");
        std::process::exit(1);
    }));
}
