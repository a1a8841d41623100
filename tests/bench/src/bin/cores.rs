//! What a change costs among ten thousand objects; see `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ferrogate_bench::cores::timing::Rows;
use ferrogate_bench::cores::{pure, whole};
use ferrogate_bench::error::Result;

/// Measures Ferrogate's cores: addresses given, routes compiled, owners elected, and the whole way of one change from an
/// API server to the plan.
///
/// The fleet is that many Services and Ingresses and twice as many EndpointSlices. Figures go to standard output as
/// Markdown. Everything stays on loopback and in a temporary folder.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/cores")]
struct Cli {
    /// Objects of each kind
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u16).range(2..))]
    objects: u16,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 101)]
    rounds: usize,
    /// Leave out what needs an API server
    #[arg(long)]
    pure: bool,
    /// Be the process that is measured, with this kubeconfig
    #[arg(long, hide = true, value_name = "FILE", requires_all = ["cache", "probe"])]
    measured: Option<PathBuf>,
    /// Where that process keeps its state
    #[arg(long, hide = true, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// The number of the Service that changes
    #[arg(long, hide = true)]
    probe: Option<usize>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match (cli.measured, cli.cache, cli.probe) {
        (Some(kubeconfig), Some(cache), Some(probe)) => whole::measured(kubeconfig, cache, probe),
        _ => run(cli.objects.into(), cli.rounds, cli.pure),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(objects: usize, rounds: usize, only_pure: bool) -> Result<()> {
    println!("{objects} Services, {objects} Ingresses, {} EndpointSlices.\n", 2 * objects);
    let mut rows = Rows::default();
    pure::run(&mut rows, objects, rounds);
    if !only_pure {
        whole::run(&mut rows, objects, rounds)?;
    }
    println!("\n{}", rows.markdown());
    Ok(())
}
