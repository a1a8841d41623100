//! `ferrogate check`: what is wrong with manifests, without running anything.
//!
//! Beyond what each object says by itself, the same cores that run the appliance plan the addresses and compile the
//! routes, so that an Ingress naming a missing Service is found here too. With `--against-cluster`, what is missing here
//! may be there: then each object is judged by itself, and the addresses together with those of the cluster.
#![expect(clippy::disallowed_methods, reason = "certificates are judged at a moment")]

pub(crate) mod against;

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use cluster::Loaded;
use config::diagnostic::Problem;
use config::snapshot::Snapshot;
use config::summary::Summary;
use ingress::certs::{self, GenerateError};
use ingress::compile::{self, CompileOptions, Publish, StreamMaps};
use ingress::resolve::Answers;
use jiff::Timestamp;
use lb_speaker::plan::{self, PlanOptions};
use serde::Serialize;

use self::against::{Outlook, Row};
use crate::cli::{CheckArgs, LogFormat, Output};
use crate::problems::{self, plural};

/// What `check --against-cluster` says if the manifests are right and a Service would lose something.
const HARM: u8 = 3;

/// Checks and prints; the exit status tells whether there are errors, or else whether a Service would lose something.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Box<dyn Error>> {
    let options = plan_options(args);
    let loaded = cluster::load(&args.paths, &options.config_map);
    let outlook = outlook(&loaded, args, &options)?;
    let problems = match &outlook {
        None => judge(&loaded.snapshot, args, &options)?,
        Some(_) => problems::collect(loaded.snapshot.problems.iter()),
    };
    let text = match args.output {
        Output::Text => report(&loaded, &problems, outlook.as_ref()),
        Output::Json => json(&loaded, &problems, outlook.as_ref())?,
    };
    // A reader that went away has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let harm = outlook.as_ref().is_some_and(Outlook::is_harm);
    Ok(match (problems::count(&problems).0, harm) {
        (0, false) => ExitCode::SUCCESS,
        (0, true) => ExitCode::from(HARM),
        (_, _) => ExitCode::FAILURE,
    })
}

/// What the manifests mean for the cluster, if that was asked.
fn outlook(loaded: &Loaded, args: &CheckArgs, options: &PlanOptions) -> Result<Option<Outlook>, Box<dyn Error>> {
    if !args.against.against_cluster {
        return Ok(None);
    }
    crate::telemetry::install(LogFormat::Text, "warn")?;
    Ok(Some(crate::runtime()?.block_on(Outlook::new(loaded, &args.against, options))?))
}

/// Everything that is wrong, once each, errors first.
fn judge(snapshot: &Snapshot, args: &CheckArgs, options: &PlanOptions) -> Result<Vec<Problem>, GenerateError> {
    let now = Timestamp::now();
    let default = Arc::new(certs::generate_default(now)?);
    let addresses = plan::plan(snapshot, options);
    let routes = compile::compile(snapshot, &Answers::new(), &compile_options(args), &default, None, now);
    let cores = addresses.report.problems.iter().chain(routes.report.problems.iter());
    Ok(problems::collect(snapshot.problems.iter().chain(cores)))
}

fn plan_options(args: &CheckArgs) -> PlanOptions {
    args.addresses.plan(&args.against.config_namespace, &args.against.config_name)
}

fn compile_options(args: &CheckArgs) -> CompileOptions {
    CompileOptions {
        ingress_class: args.ingress_class.clone(),
        controller: args.controller.clone(),
        watch_without_class: args.watch_ingress_without_class,
        // Whether that Service exists is no question of the manifests checked here.
        publish: Publish::UsualService,
        loopback_endpoints: true,
        node: None,
        external_names: true,
        config_map: args.config_map.clone(),
        streams: StreamMaps {
            tcp: args.tcp_services_config_map.clone(),
            udp: args.udp_services_config_map.clone(),
            ..StreamMaps::default()
        },
    }
}

/// The problems, a blank line between them, how many there are, and what they mean for the cluster.
fn report(loaded: &Loaded, problems: &[Problem], outlook: Option<&Outlook>) -> String {
    let mut paragraphs: Vec<_> = problems.iter().map(ToString::to_string).collect();
    paragraphs.push(format!("{}\n", summary(loaded, problems)));
    let text = paragraphs.join("\n\n");
    match outlook {
        Some(outlook) => text + "\n" + &outlook.text(),
        None => text,
    }
}

/// "3 files, 12 objects, 2 errors, 1 warning".
fn summary(loaded: &Loaded, problems: &[Problem]) -> String {
    let mut counts = vec![plural(loaded.files, "file"), plural(objects(&loaded.snapshot), "object")];
    if !loaded.ignored.is_empty() {
        counts.push(format!("{} of other kinds", loaded.ignored.len()));
    }
    let (errors, warnings) = problems::count(problems);
    if problems.is_empty() {
        counts.push("no problems".to_owned());
    } else {
        counts.extend([plural(errors, "error"), plural(warnings, "warning")]);
    }
    counts.join(", ")
}

/// How many objects are valid.
fn objects(snapshot: &Snapshot) -> usize {
    snapshot.cluster_issuers.len()
        + snapshot.config_maps.len()
        + snapshot.endpoint_slices.len()
        + snapshot.ingresses.len()
        + snapshot.ingress_classes.len()
        + snapshot.issuers.len()
        + snapshot.namespaces.len()
        + snapshot.nodes.len()
        + snapshot.secrets.len()
        + snapshot.services.len()
}

/// The answer in JSON; `effects` only against a cluster.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    summary: Summary,
    #[serde(skip_serializing_if = "Option::is_none")]
    effects: Option<Vec<Row>>,
}

fn json(loaded: &Loaded, problems: &[Problem], outlook: Option<&Outlook>) -> Result<String, serde_json::Error> {
    let summary = Summary::new(&loaded.snapshot.pools, problems.to_vec());
    let answer = Answer { summary, effects: outlook.map(Outlook::rows) };
    Ok(serde_json::to_string_pretty(&answer)? + "\n")
}
