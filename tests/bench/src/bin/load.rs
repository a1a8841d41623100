//! Load for a proxy; see `--help`. Prints one JSON object.

use std::io::{self, Read};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrogate_bench::load::{self, Plan};

/// Load for a proxy on this machine.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make requests and print how it went
    Run(Plan),
    /// Open connections, ask once on each, say `{"held": N}` and keep them until standard input closes
    Hold(Plan),
}

fn main() -> ExitCode {
    match act(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(command: Command) -> io::Result<()> {
    match command {
        Command::Run(plan) => {
            let outcome = load::run(&plan)?;
            println!("{}", serde_json::to_string(&outcome)?);
        }
        Command::Hold(plan) => {
            let held = load::hold::open(&plan)?;
            println!("{{\"held\": {}}}", held.count());
            io::stdin().read_to_end(&mut Vec::new())?;
        }
    }
    Ok(())
}
