//! `ferrogate`: LoadBalancer addresses and HTTPS ingress for bare metal, in one process.
//!
//! This crate only wires: [`cli`] says what is wanted, [`run`] starts the parts and hands them to [`parts`], [`check`]
//! judges manifests without running anything. What a part decides is in the part's own crate.

mod admin;
mod ask;
mod certs;
mod check;
mod cli;
mod defaults;
mod echo;
mod explain;
mod import;
mod keys;
mod parts;
mod problems;
mod process;
mod readiness;
mod relocate;
mod run;
mod show;
mod shutdown;
mod table;
mod telemetry;
mod why;

use std::error::Error;
use std::process::ExitCode;

use tokio::runtime::{Builder, Runtime};

use crate::cli::{Cli, Command, IngressOnly, LogFormat, Role, RunArgs, SpeakerOnly};
use crate::run::Setup;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Threads of the control plane; requests are served by threads of the ingress' own.
const THREADS: usize = 2;

/// What is wrong with the command line, as clap exits; also when nobody answers `why`.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match Cli::read().command {
        Command::Run(args) => appliance(setup(args)),
        Command::Speaker(SpeakerOnly { source, speaker, process }) => {
            let speaker = Some(speaker);
            appliance(Setup { source, process, speaker, ingress: None, acme: false, with_echo: false })
        }
        Command::Ingress(IngressOnly { source, with_echo, ingress, process }) => {
            let ingress = Some(ingress);
            appliance(Setup { source, process, speaker: None, ingress, acme: true, with_echo })
        }
        Command::Certs(args) => certs::run(&args).unwrap_or_else(|error| refuse(&error, 1)),
        Command::Check(args) => check::run(&args).unwrap_or_else(|error| refuse(&*error, 1)),
        Command::Why(args) => why::run(&args).unwrap_or_else(|error| refuse(&error, USAGE)),
        Command::Move(args) => relocate::run(&args).unwrap_or_else(|error| refuse(&error, 1)),
        Command::Explain(args) => explain::run(&args).unwrap_or_else(|error| refuse(&*error, USAGE)),
        Command::Import(args) => import::run(&args).unwrap_or_else(|error| refuse(&*error, USAGE)),
        Command::Echo(args) => echo_pages(args),
    }
}

/// The parts that were asked for.
fn setup(args: RunArgs) -> Setup {
    let has = |role| args.roles.contains(&role);
    Setup {
        acme: has(Role::Acme),
        speaker: has(Role::Speaker).then_some(args.speaker),
        ingress: has(Role::Ingress).then_some(args.ingress),
        source: args.source,
        process: args.process,
        with_echo: args.with_echo,
    }
}

fn appliance(setup: Setup) -> ExitCode {
    if let Err(error) = telemetry::install(setup.process.log_format, &setup.process.log_level) {
        return refuse(&error, USAGE);
    }
    ingress::io::install_crypto_provider();
    let format = setup.process.log_format;
    match (runtime().and_then(|runtime| Ok(runtime.block_on(run::run(setup))?)), format) {
        (Ok(()), _) => ExitCode::SUCCESS,
        (Err(error), LogFormat::Text) => refuse(&*error, 1),
        (Err(error), LogFormat::Json) => {
            tracing::error!(error = parts::describe(&*error), "ferrogate cannot run");
            ExitCode::FAILURE
        }
    }
}

fn echo_pages(args: cli::EchoArgs) -> ExitCode {
    let pages = || {
        telemetry::install(LogFormat::Text, "info")?;
        Ok::<_, Box<dyn Error>>(runtime()?.block_on(echo::run(args))?)
    };
    pages().map_or_else(|error| refuse(&*error, 1), |()| ExitCode::SUCCESS)
}

fn runtime() -> Result<Runtime, Box<dyn Error>> {
    Ok(Builder::new_multi_thread().worker_threads(THREADS).thread_name("control").enable_all().build()?)
}

/// Says why nothing runs, in one paragraph.
fn refuse(error: &dyn Error, code: u8) -> ExitCode {
    eprintln!("error: {}", parts::describe(error));
    ExitCode::from(code)
}
