//! `ferrogate explain`: which way a request would take, and why no other.
//!
//! What is said: [`ingress::explain`], over manifests, a cluster, or what a running instance has in force.
#![expect(clippy::disallowed_methods, reason = "certificates are judged at a moment")]

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use config::object::ObjectName;
use config::settings;
use config::snapshot::Snapshot;
use ingress::certs;
use ingress::compile::{self, CompileOptions, Publish, StreamMaps};
use ingress::explain::{Question, QuestionError};
use ingress::resolve::Answers;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::check::against;
use crate::cli::{LogFormat, Output, global_config_map, parse_name};
use crate::why;

/// `ferrogate explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The URL that is asked for
    #[arg(value_name = "URL")]
    url: String,
    /// Method of the request
    #[arg(long, value_name = "NAME", default_value = "GET")]
    method: String,
    /// Field of the request, such as 'Cookie: a=b'; may be repeated
    #[arg(long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// Address that it comes from [default: unknown]
    #[arg(long, value_name = "IP")]
    client: Option<IpAddr>,
    /// Explain by these files and folders of manifests, instead of a running instance; may be repeated
    #[arg(long, value_name = "PATH", value_delimiter = ',', conflicts_with_all = ["cluster", "kubeconfig"])]
    manifests: Vec<PathBuf>,
    /// Explain by the objects of a cluster, which are only read
    #[arg(long)]
    cluster: bool,
    /// The file that leads to it [default: in a Pod, its cluster; else KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "FERROGATE_KUBECONFIG", requires = "cluster")]
    kubeconfig: Option<PathBuf>,
    /// Context of that file [default: its current one]
    #[arg(long, value_name = "NAME", env = "FERROGATE_KUBE_CONTEXT", requires = "cluster")]
    kube_context: Option<String>,
    /// Name of the IngressClass whose Ingresses are ours, with --manifests or --cluster
    #[arg(long, value_name = "NAME", default_value = settings::INGRESS_CLASS, env = "FERROGATE_INGRESS_CLASS")]
    ingress_class: String,
    /// Value of spec.controller that makes an IngressClass ours
    #[arg(long, value_name = "NAME", default_value = settings::CONTROLLER, env = "FERROGATE_CONTROLLER")]
    controller: String,
    /// ConfigMap of the global settings of the ingress
    #[arg(long = "configmap", value_name = "NS/NAME", default_value_t = global_config_map(), env = "FERROGATE_CONFIGMAP", value_parser = parse_name)]
    global: ObjectName,
    /// Also Ingresses that name no class are ours
    #[arg(long, env = "FERROGATE_WATCH_INGRESS_WITHOUT_CLASS")]
    watch_ingress_without_class: bool,
    /// Admin address of the instance to ask
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100", env = "FERROGATE_ADMIN")]
    admin: SocketAddr,
    /// Form of the answer: text or json
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM", env = "FERROGATE_OUTPUT", hide_possible_values = true)]
    output: Output,
}

/// A request to explain, as the admin API takes it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Asked {
    url: String,
    #[serde(default = "get")]
    method: String,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    client: Option<IpAddr>,
}

fn get() -> String {
    "GET".to_owned()
}

impl Asked {
    /// The same, checked.
    pub(crate) fn question(&self) -> Result<Question, QuestionError> {
        Question::new(&self.url, &self.method, self.headers.iter().map(String::as_str), self.client)
    }
}

/// Why a running instance explains nothing.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    /// Nobody is there.
    #[error("cannot ask the instance at {admin}; is it running, and is this its --admin address?")]
    Unreachable {
        admin: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// It says why not.
    #[error("the instance at {admin} does not explain it: {answer}")]
    Refused { admin: SocketAddr, answer: String },
}

/// Explains and prints; 0 if an endpoint answers or the client is sent elsewhere, 1 if the request fails at the door.
pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode, Box<dyn Error>> {
    let asked = Asked {
        url: args.url.clone(),
        method: args.method.clone(),
        headers: args.headers.clone(),
        client: args.client,
    };
    let question = asked.question()?;
    let explanation = if args.cluster {
        crate::telemetry::install(LogFormat::Text, "warn")?;
        let (config, context) = (args.kubeconfig.clone(), args.kube_context.clone());
        let snapshot = crate::runtime()?.block_on(against::observe(config, context, config_map()))?;
        explain(args, &snapshot, &question)?
    } else if args.manifests.is_empty() {
        ask(args.admin, &asked)?
    } else {
        explain(args, &cluster::load(&args.manifests, &config_map()).snapshot, &question)?
    };
    let text = match args.output {
        Output::Text => text(&args.url, &explanation),
        Output::Json => format!("{explanation:#}\n"),
    };
    // A reader that went away has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let is_refused = explanation["status"].as_u64().is_some_and(|status| status >= 400);
    Ok(if is_refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn config_map() -> ObjectName {
    let (namespace, name) = settings::DEFAULT_CONFIG_MAP;
    ObjectName::new(namespace, name)
}

/// By the cores that run the appliance.
fn explain(args: &ExplainArgs, snapshot: &Arc<Snapshot>, question: &Question) -> Result<Value, Box<dyn Error>> {
    let now = Timestamp::now();
    let default = Arc::new(certs::generate_default(now)?);
    let options = CompileOptions {
        ingress_class: args.ingress_class.clone(),
        controller: args.controller.clone(),
        watch_without_class: args.watch_ingress_without_class,
        publish: Publish::UsualService,
        loopback_endpoints: true,
        node: None,
        external_names: true,
        config_map: args.global.clone(),
        streams: StreamMaps::default(),
    };
    let compiled = compile::compile(snapshot, &Answers::new(), &options, &default, None, now);
    Ok(serde_json::to_value(ingress::explain::explain(&compiled, snapshot, question))?)
}

/// By what a running instance has in force.
fn ask(admin: SocketAddr, asked: &Asked) -> Result<Value, Box<dyn Error>> {
    let body = serde_json::to_string(asked)?;
    let answer = why::send(admin, "POST /api/v1/explain", &body);
    let answer = answer.map_err(|source| ExplainError::Unreachable { admin, source })?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let value: Value = serde_json::from_str(body).unwrap_or_default();
    if value["outcome"].is_string() {
        return Ok(value);
    }
    let said = value["error"].as_str().unwrap_or("it is not Ferrogate of this version");
    Err(ExplainError::Refused { admin, answer: said.to_owned() }.into())
}

/// The answer for a terminal.
fn text(url: &str, explanation: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |value: &Value| match value {
        Value::String(name) => name.clone(),
        other => format!("{}/{}", word(&other["namespace"]), word(&other["name"])),
    };
    let list = |value: &Value| value.as_array().into_iter().flatten().map(&word).collect::<Vec<_>>();
    let mut out = format!("{url}\n  {}\n", word(&explanation["outcome"]));
    let mut line = |key: &str, text: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {key:<13}{text}");
    };
    if let rule @ Value::Object(_) = &explanation["rule"] {
        let path = format!("{}{} ({})", word(&rule["host"]), word(&rule["path"]), word(&rule["path_type"]));
        line("rule", format!("{path} of Ingress {}", name(&rule["ingress"])));
        for (key, text) in rule["annotations"].as_object().into_iter().flatten() {
            line("annotation", format!("{key}: {:?}", word(text)));
        }
    }
    if let backend @ Value::Object(_) = &explanation["backend"] {
        line("backend", format!("{}, asked for {}", word(&backend["service"]), word(&backend["target"])));
        line("endpoints", list(&backend["endpoints"]).join(", "));
        for key in ["canary", "stands_in_for"] {
            if let Value::String(text) = &backend[key] {
                line(key, text.clone());
            }
        }
    }
    for guard in list(&explanation["guards"]) {
        line("guard", guard);
    }
    if let shown @ Value::Object(_) = &explanation["certificate"] {
        let secret = if shown["secret"].is_null() { "generated".to_owned() } else { name(&shown["secret"]) };
        let names = list(&shown["names"]).join(", ");
        line("certificate", format!("{secret}, for {names}, until {}", word(&shown["not_after"])));
    }
    for lost in explanation["lost"].as_array().into_iter().flatten() {
        line(
            "not taken",
            format!("{} of Ingress {}: {}", word(&lost["rule"]), name(&lost["ingress"]), word(&lost["why"])),
        );
    }
    for problem in list(&explanation["problems"]) {
        line("problem", problem);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_fact_is_a_line() {
        let explanation = json!({
            "outcome": "it is passed on to shop/web:80", "status": null, "location": null,
            "rule": {
                "ingress": {"namespace": "shop", "name": "web"}, "host": "a.example", "path": "/", "path_type": "Prefix",
                "annotations": {"ferrogate.io/return": "403"},
            },
            "backend": {"service": "shop/web:80", "target": "/x", "endpoints": ["192.0.2.1:80", "192.0.2.2:80"]},
            "guards": ["ask"], "certificate": null, "problems": ["p"],
            "lost": [{"ingress": {"namespace": "shop", "name": "old"}, "rule": "a.example/ (Prefix)", "why": "it is newer"}],
        });
        assert_eq!(
            text("http://a.example/x", &explanation),
            "http://a.example/x\n  it is passed on to shop/web:80\n\
             \x20 rule         a.example/ (Prefix) of Ingress shop/web\n\
             \x20 annotation   ferrogate.io/return: \"403\"\n\
             \x20 backend      shop/web:80, asked for /x\n\
             \x20 endpoints    192.0.2.1:80, 192.0.2.2:80\n\
             \x20 guard        ask\n\
             \x20 not taken    a.example/ (Prefix) of Ingress shop/old: it is newer\n\
             \x20 problem      p\n"
        );
    }
}
