//! `ferrogate check`: what is wrong with manifests, without running anything.
//!
//! Beyond what each object says by itself, the same cores that run the appliance plan the addresses and compile the
//! routes, so that an Ingress naming a missing Service is found here too.
#![expect(clippy::disallowed_methods, reason = "certificates are judged at a moment")]

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use cluster::Loaded;
use config::diagnostic::Problem;
use config::object::ObjectName;
use config::settings::DEFAULT_CONFIG_MAP;
use config::snapshot::Snapshot;
use config::summary::Summary;
use ingress::certs::{self, GenerateError};
use ingress::compile::{self, CompileOptions};
use jiff::Timestamp;
use lb_speaker::plan::{self, PlanOptions};

use crate::cli::{CheckArgs, Output};
use crate::problems::{self, plural};

/// Checks and prints; the exit status tells whether there are errors.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, Box<dyn Error>> {
    let (namespace, name) = DEFAULT_CONFIG_MAP;
    let loaded = cluster::load(&args.paths, &ObjectName::new(namespace, name));
    let problems = judge(&loaded.snapshot, args)?;
    let text = match args.output {
        Output::Text => report(&loaded, &problems),
        Output::Json => json(&loaded, &problems)?,
    };
    // A reader that went away has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(if problems::count(&problems).0 == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that is wrong, once each, errors first.
fn judge(snapshot: &Snapshot, args: &CheckArgs) -> Result<Vec<Problem>, GenerateError> {
    let now = Timestamp::now();
    let default = Arc::new(certs::generate_default(now)?);
    let addresses = plan::plan(snapshot, &PlanOptions { lb_class: args.lb_class.clone(), ..PlanOptions::default() });
    let routes = compile::compile(snapshot, &compile_options(args), &default, None, now);
    let cores = addresses.report.problems.iter().chain(&routes.report.problems);
    Ok(problems::collect(snapshot.problems.iter().chain(cores)))
}

fn compile_options(args: &CheckArgs) -> CompileOptions {
    CompileOptions {
        ingress_class: args.ingress_class.clone(),
        controller: args.controller.clone(),
        watch_without_class: args.watch_ingress_without_class,
        // Whether that Service exists is no question of the manifests checked here.
        publish_service: None,
        loopback_endpoints: true,
        node: None,
    }
}

/// The problems, a blank line between them, and how many there are.
fn report(loaded: &Loaded, problems: &[Problem]) -> String {
    let mut paragraphs: Vec<_> = problems.iter().map(ToString::to_string).collect();
    paragraphs.push(format!("{}\n", summary(loaded, problems)));
    paragraphs.join("\n\n")
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
    snapshot.config_maps.len()
        + snapshot.endpoint_slices.len()
        + snapshot.ingresses.len()
        + snapshot.ingress_classes.len()
        + snapshot.namespaces.len()
        + snapshot.nodes.len()
        + snapshot.secrets.len()
        + snapshot.services.len()
}

fn json(loaded: &Loaded, problems: &[Problem]) -> Result<String, serde_json::Error> {
    let summary = Summary::new(&loaded.snapshot.pools, problems.to_vec());
    Ok(serde_json::to_string_pretty(&summary)? + "\n")
}
