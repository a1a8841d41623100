//! The speaker measured; see `--help`. Prints tables in Markdown.

use std::net::Ipv4Addr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ferrogate_bench::speaker::{self, peer};

/// ARP answers, announcements and CPU time of the speaker, on a LAN of network namespaces. Needs root.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask for VIPs on the eth0 of this namespace, and print how long it took as JSON
    Ask {
        /// The first VIP
        first: Ipv4Addr,
        /// How many there are
        count: u32,
        /// How often to ask
        questions: u32,
    },
    /// Ask for addresses that nobody has until killed
    Storm {
        /// Packets a second
        per_second: u32,
    },
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Some(Command::Ask { first, count, questions }) => {
            let latency = peer::ask(first, count, questions);
            println!("{}", serde_json::json!(latency));
            ExitCode::SUCCESS
        }
        Some(Command::Storm { per_second }) => peer::storm(per_second),
        None => measure(),
    }
}

fn measure() -> ExitCode {
    if let Some(why) = ferrogate_tests::netns::unavailable() {
        eprintln!("speaker: {why}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let measured = runtime.map_err(|error| error.to_string()).and_then(|runtime| runtime.block_on(speaker::measure()));
    match measured {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("speaker: {error}");
            ExitCode::FAILURE
        }
    }
}
