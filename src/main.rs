//! tidewater.

use clap::Parser;
use mimalloc as _;
use tidewater::cli::generate;

#[derive(Debug, Parser)]
enum Cli {
    Generate(generate::Args),
}

fn main() -> anyhow::Result<()> {
    let Cli::Generate(args) = Cli::parse();
    generate::run(&args)
}
