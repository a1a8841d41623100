//! `ferrogate import`: what would become of the objects of those we succeed.
//!
//! Ingresses are compiled as if they were ours, and what is found wrong with them is told; the objects of MetalLB and
//! cert-manager are translated by [`config::import`].
#![expect(clippy::disallowed_methods, reason = "certificates are judged at a moment")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use config::annotation;
use config::diagnostic::Severity;
use config::import::{Fate, Import, Verdict, cert_manager, metallb};
use config::object::{Kind, ObjectName, ObjectRef};
use config::settings;
use config::shared::SharedMap;
use config::snapshot::Snapshot;
use ingress::certs;
use ingress::compile::{self, CompileOptions, Publish, StreamMaps};
use ingress::resolve::Answers;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, IngressClassSpec};

use crate::check::against;
use crate::cli::{LogFormat, Output, global_config_map};
use crate::problems::plural;

/// The controller of the classes that are looked at.
const CONTROLLER: &str = "k8s.io/ingress-nginx";

/// `ferrogate import`.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Whose objects: ingress-nginx, metallb or cert-manager
    #[arg(long, value_enum, value_name = "WHO", hide_possible_values = true)]
    from: From,
    /// Files and folders of manifests; `-` is standard input
    #[arg(value_name = "PATH", required_unless_present = "cluster", conflicts_with = "cluster")]
    paths: Vec<PathBuf>,
    /// Look at the Ingresses of a cluster, which is only read
    #[arg(long)]
    cluster: bool,
    /// The file that leads to it [default: in a Pod, its cluster; else KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "FERROGATE_KUBECONFIG", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of that file [default: its current one]
    #[arg(long, value_name = "NAME", env = "FERROGATE_KUBE_CONTEXT", requires = "cluster")]
    kube_context: Option<String>,
    /// Class of the Ingresses that are looked at
    #[arg(long, value_name = "NAME", default_value = "nginx")]
    ingress_class: String,
    /// Form of the answer: text or json
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM", env = "FERROGATE_OUTPUT", hide_possible_values = true)]
    output: Output,
}

/// Whom we succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum From {
    IngressNginx,
    Metallb,
    CertManager,
}

/// Why nothing can be said.
#[derive(Debug, thiserror::Error)]
enum ImportError {
    /// Of a cluster, only Ingresses are read.
    #[error(
        "of a cluster only Ingresses are read; pipe the objects here: kubectl get KINDS -A -o yaml | ferrogate import --from {0} -"
    )]
    Cluster(&'static str),
}

/// Judges and prints; 0 if all works, 1 if something is not supported.
pub(crate) fn run(args: &ImportArgs) -> Result<ExitCode, Box<dyn Error>> {
    let import = match args.from {
        From::IngressNginx => ingresses(args)?,
        From::Metallb if args.cluster => return Err(ImportError::Cluster("metallb").into()),
        From::CertManager if args.cluster => return Err(ImportError::Cluster("cert-manager").into()),
        From::Metallb => metallb(&cluster::texts(&args.paths)),
        From::CertManager => cert_manager(&cluster::texts(&args.paths)),
    };
    let text = match args.output {
        Output::Text => text(&import),
        Output::Json => serde_json::to_string_pretty(&import)? + "\n",
    };
    // A reader that went away has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let is_lost = import.objects.iter().any(|verdict| verdict.fate == Fate::Unsupported);
    Ok(if is_lost { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What becomes of Ingresses.
fn ingresses(args: &ImportArgs) -> Result<Import, Box<dyn Error>> {
    let (namespace, name) = settings::DEFAULT_CONFIG_MAP;
    let config_map = ObjectName::new(namespace, name);
    let snapshot = if args.cluster {
        crate::telemetry::install(LogFormat::Text, "warn")?;
        let (config, context) = (args.kubeconfig.clone(), args.kube_context.clone());
        crate::runtime()?.block_on(against::observe(config, context, config_map))?
    } else {
        cluster::load(&args.paths, &config_map).snapshot
    };
    let now = Timestamp::now();
    let default = Arc::new(certs::generate_default(now)?);
    Ok(judge(&snapshot, &args.ingress_class, &default, now))
}

/// Compiles all Ingresses of the class as if they were ours.
fn judge(snapshot: &Snapshot, class: &str, default: &Arc<certs::Certificate>, now: Timestamp) -> Import {
    let options = CompileOptions {
        ingress_class: class.to_owned(),
        controller: CONTROLLER.to_owned(),
        watch_without_class: false,
        publish: Publish::UsualService,
        loopback_endpoints: true,
        node: None,
        external_names: true,
        config_map: global_config_map(),
        streams: StreamMaps::default(),
    };
    let snapshot = Snapshot { ingress_classes: Arc::new(classes(snapshot, class)), ..snapshot.clone() };
    let compiled = compile::compile(&snapshot, &Answers::new(), &options, default, None, now);
    let mut objects = Vec::new();
    for (name, ingress) in snapshot.ingresses.iter().filter(|(name, _)| compiled.serves(name)) {
        let object = ObjectRef::new(Kind::Ingress, name.clone());
        let mut verdict = Verdict::new(object.to_string());
        for (key, how) in annotations(ingress) {
            verdict.note(Fate::Differs, format!("{key} {how}"));
        }
        let found = compiled.report.problems.iter().chain(snapshot.problems.iter());
        for problem in found.filter(|problem| problem.object.as_ref() == Some(&object)) {
            let fate = if problem.severity == Severity::Error { Fate::Unsupported } else { Fate::Differs };
            verdict.note(fate, format!("{}: {}", problem.field, problem.message));
        }
        objects.push(verdict);
    }
    Import { objects, apply: None }
}

fn annotations(ingress: &Ingress) -> impl Iterator<Item = (&String, &'static str)> {
    let written = ingress.metadata.annotations.iter().flatten();
    written.filter_map(|(key, _)| Some((key, annotation::differs(key)?)))
}

/// The classes that there are, and the one asked for, which mostly stands in another manifest.
fn classes(snapshot: &Snapshot, class: &str) -> SharedMap<ObjectName, Arc<IngressClass>> {
    let mut classes = (*snapshot.ingress_classes).clone();
    let spec = Some(IngressClassSpec { controller: Some(CONTROLLER.to_owned()), ..IngressClassSpec::default() });
    let ours = IngressClass { spec, ..IngressClass::default() };
    let name = ObjectName::cluster(class);
    if !classes.contains_key(&name) {
        classes.insert(name, Arc::new(ours));
    }
    classes
}

/// The answer for a terminal: a line for each object, below it what is to be said, at last what to apply.
fn text(import: &Import) -> String {
    let width = import.objects.iter().map(|verdict| verdict.object.len()).max().unwrap_or_default();
    let mut out = String::new();
    for Verdict { object, fate, notes } in &import.objects {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{object:<width$}  {}", fate.as_str());
        for note in notes {
            let _ = writeln!(out, "    {note}");
        }
    }
    let count = |fate| import.objects.iter().filter(|verdict| verdict.fate == fate).count();
    let (works, differs, lost) = (count(Fate::Works), count(Fate::Differs), count(Fate::Unsupported));
    let objects = plural(import.objects.len(), "object");
    let _ = writeln!(out, "{objects}: {works} work as they are, {differs} differently, {lost} not supported");
    if let Some(apply) = &import.apply {
        let _ = write!(out, "\nApply this:\n---\n{apply}");
    }
    out
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::json;

    use super::*;

    #[test]
    fn each_ingress_is_told_what_it_loses() {
        let ingress = |class: &str, annotations: serde_json::Value| {
            let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
            let object = json!({
                "metadata": {"annotations": annotations},
                "spec": {"ingressClassName": class, "rules": [{"host": "a.example", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": backend}]}}]},
            });
            Arc::new(serde_json::from_value::<Ingress>(object).unwrap())
        };
        let service: Service = serde_json::from_value(json!({"spec": {"ports": [{"port": 80}]}})).unwrap();
        let key = |name: &str| format!("nginx.ingress.kubernetes.io/{name}");
        let ingresses = [
            ("a", ingress("nginx", json!({key("proxy-body-size"): "8m"}))),
            ("b", ingress("nginx", json!({key("proxy-buffering"): "on"}))),
            ("c", ingress("nginx", json!({key("enable-modsecurity"): "true"}))),
            ("d", ingress("traefik", json!({}))),
        ];
        let snapshot = Snapshot {
            ingresses: Arc::new(ingresses.into_iter().map(|(name, it)| (ObjectName::new("shop", name), it)).collect()),
            services: Arc::new([(ObjectName::new("shop", "web"), Arc::new(service))].into()),
            ..Snapshot::default()
        };
        let now = Timestamp::UNIX_EPOCH;
        let default = Arc::new(certs::generate_default(now).unwrap());
        let import = judge(&snapshot, "nginx", &default, now);
        let fates: Vec<_> = import.objects.iter().map(|verdict| (verdict.object.as_str(), verdict.fate)).collect();
        // Nothing here has an endpoint, and all but the first are for a path that is taken.
        assert_eq!(fates.len(), 3, "{fates:?}");
        assert_eq!(fates[2], ("Ingress shop/c", Fate::Unsupported));
        assert!(import.objects[1].notes.iter().any(|note| note.contains("answers are streamed")), "{import:?}");
        let text = text(&import);
        assert!(text.contains("put a firewall in front") && text.contains("3 objects:"), "{text}");
    }
}
