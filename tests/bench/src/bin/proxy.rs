//! Ferrogate beside nginx, HAProxy and Caddy; see `--help`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use ferrogate_bench::error::{BenchError, Result, write};
use ferrogate_bench::peers::{Kind, Programs};
use ferrogate_bench::report::Table;
use ferrogate_bench::scenarios::{self, Bench, Effort};
use ferrogate_bench::{install, machine, process};

/// Measures Ferrogate's release binary beside nginx, HAProxy and Caddy: the same fleet of Ingresses, the same machine,
/// the same minutes.
///
/// The proxy under test has a core for itself and one worker; load and upstream share another. Every round runs each
/// peer once, so that a ratio compares neighbours in time. A run with an error gives neither figure nor ratio, and the
/// exit status is then 1. Programs that are missing are installed from Debian (as root) and, for Caddy, from PyPI.
/// Everything stays on loopback and is gone afterwards.
#[derive(Debug, Parser)]
#[command(name = "tests/bench/proxy")]
struct Cli {
    /// Scenarios to run [default: all]; 1 h1, 2 https, 3 handshakes, 4 h2, 5 bodies, 8 idle, 9 changes, 10 access log
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u8).range(1..=12))]
    scenarios: Vec<u8>,
    /// Peers to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    peers: Vec<Kind>,
    /// Rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds of load in every run
    #[arg(long)]
    seconds: Option<u32>,
    /// A smoke run: one round of one second, small fleets
    #[arg(long)]
    quick: bool,
    /// Niceness of everything that is measured; below 0 (as root) it yields less to whatever else runs here
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(i32).range(-20..=19), allow_negative_numbers = true)]
    nice: i32,
    /// Also write the tables here
    #[arg(long, value_name = "FILE.md")]
    output: Option<PathBuf>,
    /// The binary under test [default: `ferrogate` beside this program]
    #[arg(long, env = "FERROGATE_BIN")]
    ferrogate: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("some runs had errors; see the tables");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all runs were clean.
fn run(cli: &Cli) -> Result<bool> {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return Err(BenchError::OneCore);
    }
    install::debian()?;
    process::raise_open_files();
    process::prioritise(cli.nice);
    let folder = tempfile::Builder::new().prefix("ferrogate-bench-").tempdir()?;
    let tools = std::env::current_exe()?.parent().map(Path::to_owned).unwrap_or_default();
    let programs = programs(cli, &tools, folder.path());
    let mut report = Report::new(cli.output.clone());
    report.say(&format!("{}\n", machine::describe(&programs)?))?;
    let bench = Bench::new(effort(cli), programs, folder.path().to_owned(), tools)?;
    let scenarios = if cli.scenarios.is_empty() { &scenarios::ALL[..] } else { &cli.scenarios };
    for &scenario in scenarios {
        if let Some((title, feature)) = scenarios::missing(scenario) {
            report.say(&format!("### {scenario}. {title}\n\nNot built yet: needs {feature}.\n\n"))?;
            continue;
        }
        eprintln!("scenario {scenario}");
        for table in bench.run(scenario) {
            report.add(&table)?;
        }
    }
    Ok(report.clean)
}

fn effort(cli: &Cli) -> Effort {
    let effort = if cli.quick { Effort::QUICK } else { Effort::FULL };
    Effort {
        rounds: cli.rounds.unwrap_or(effort.rounds).max(1),
        seconds: cli.seconds.unwrap_or(effort.seconds).max(1),
        ..effort
    }
}

/// The programs of the peers that were asked for; Caddy is left out, with a word, where it cannot be had.
fn programs(cli: &Cli, tools: &Path, folder: &Path) -> Programs {
    let find = |kind: Kind| match kind {
        Kind::Ferrogate => Some(cli.ferrogate.clone().unwrap_or_else(|| tools.join("ferrogate"))),
        Kind::Nginx => install::find("nginx"),
        Kind::Haproxy => install::find("haproxy"),
        Kind::Caddy => install::caddy(folder).inspect_err(|why| eprintln!("Caddy is left out: {why}")).ok(),
    };
    let wanted = Kind::ALL.into_iter().filter(|kind| cli.peers.contains(kind));
    Programs(wanted.filter_map(|kind| Some((kind, find(kind)?))).collect())
}

/// What was found so far: printed at once, and kept in the file.
struct Report {
    text: String,
    output: Option<PathBuf>,
    clean: bool,
}

impl Report {
    const fn new(output: Option<PathBuf>) -> Self {
        Self { text: String::new(), output, clean: true }
    }

    fn add(&mut self, table: &Table) -> Result<()> {
        self.clean &= table.is_clean();
        self.say(&format!("{}\n", table.markdown()))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        print!("{text}");
        self.text.push_str(text);
        self.output.as_ref().map_or(Ok(()), |path| write(path, &self.text))
    }
}
