//! The command line, and its twin in the environment: `--drain-timeout` is also `FERROGATE_DRAIN_TIMEOUT`.
//!
//! A group of flags belongs to one part, and a command takes the groups of the parts it runs. What a flag's default
//! depends on (who we are, what may be bound) is decided in [`crate::defaults`], not here.

mod addresses;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use config::object::ObjectName;
use config::report::IngressAddress;
use config::settings;
use jiff::SignedDuration;
use lb_speaker::choice::Chosen;
use lb_speaker::members::Profile;
use lb_speaker::rate::Rate;

use crate::explain::ExplainArgs;
use crate::import::ImportArgs;
use crate::relocate::MoveArgs;
use crate::why::WhyArgs;
pub(crate) use addresses::AddressArgs;

/// Version and commit, as `--version` shows them.
pub(crate) const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("FERROGATE_COMMIT"), ")");

const EXAMPLES: &str = "\
Examples:
  ferrogate run --manifests manifests/quickstart --with-echo
          Try everything on this machine, as any user
  sudo ferrogate run --manifests /etc/ferrogate --interface eth0
          Announce the addresses on the LAN and serve ports 80 and 443
  ferrogate check /etc/ferrogate
          Say what is wrong with a folder of manifests, with file, line and column
  ferrogate why svc default/web
          Say, step by step, why a Service is or is not reached
  ferrogate move 192.0.2.10 node-2
          Have an address announced from another node; --auto takes that back
  ferrogate explain https://shop.example/cart --manifests /etc/ferrogate
          Say which Ingress, rule, backend and certificate a request gets, and which not
  kubectl get configmap -n metallb-system config -o yaml | ferrogate check -
          The same for what a cluster holds
  ferrogate check --against-cluster new-pools.yaml
          Say beforehand which Services of a cluster would get another address, keep an orphan, or wait";

const ENVIRONMENT: &str = "\
Every flag can be set in the environment: --drain-timeout is FERROGATE_DRAIN_TIMEOUT.
A flag that may be repeated takes a comma-separated list there.";

/// LoadBalancer addresses and HTTPS ingress for bare metal, in one process.
///
/// Reads Kubernetes manifests (MetalLB's `config` ConfigMap, Services, Ingresses, EndpointSlices, TLS Secrets), gives
/// every LoadBalancer Service an address, announces it on the LAN, and routes HTTP and HTTPS to the endpoints.
#[derive(Debug, Parser)]
#[command(name = "ferrogate", version = VERSION, after_help = EXAMPLES, max_term_width = 110)]
#[command(disable_help_subcommand = true, subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// Reads the command line; a wrong one ends the process with status 2.
    pub(crate) fn read() -> Self {
        let matches = Self::described().get_matches();
        Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
    }

    /// The rule about the environment is said once instead of once for each flag.
    fn described() -> clap::Command {
        let quiet = |command: clap::Command| command.mut_args(|arg| arg.hide_env(true)).after_help(ENVIRONMENT);
        Self::command().mut_subcommands(quiet)
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the appliance: addresses, ingress and certificates
    Run(RunArgs),
    /// Run only the speaker, which gives and announces addresses
    Speaker(SpeakerOnly),
    /// Run only the ingress, which routes HTTP and HTTPS and has certificates ordered
    Ingress(IngressOnly),
    /// Show and renew the certificates that a running ingress has ordered
    Certs(CertsArgs),
    /// Check manifests without running anything; exits with 1 if there are errors
    Check(CheckArgs),
    /// Ask a running instance why a Service is, or is not, reached; exits with 1 if something is wrong
    Why(WhyArgs),
    /// Have an address announced from another node, without breaking its connections
    Move(MoveArgs),
    /// Say which way a request takes, and why no other; exits with 1 if it fails at the door
    Explain(ExplainArgs),
    /// Say what would become of the objects of ingress-nginx, MetalLB or cert-manager; exits with 1 if something is not
    /// supported
    Import(ImportArgs),
    /// Serve a page that tells what it was asked, to try routes with
    Echo(EchoArgs),
}

/// The parts that `run` can start. (A doc comment on a value would make clap print the long form of help.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Speaker,
    Ingress,
    Acme,
}

/// `ferrogate run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Parts to run
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLE", env = "FERROGATE_ROLES")]
    #[arg(default_value = "speaker,ingress,acme", hide_possible_values = true, help_heading = "Parts")]
    pub(crate) roles: Vec<Role>,
    /// Serve the loopback endpoints that the manifests name with a page of our own
    #[arg(long, env = "FERROGATE_WITH_ECHO", help_heading = "Parts")]
    pub(crate) with_echo: bool,
    #[command(flatten)]
    pub(crate) speaker: SpeakerArgs,
    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// `ferrogate speaker`.
#[derive(Debug, Args)]
pub(crate) struct SpeakerOnly {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    #[command(flatten)]
    pub(crate) speaker: SpeakerArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// `ferrogate ingress`.
#[derive(Debug, Args)]
pub(crate) struct IngressOnly {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Serve the loopback endpoints that the manifests name with a page of our own
    #[arg(long, env = "FERROGATE_WITH_ECHO", help_heading = "Parts")]
    pub(crate) with_echo: bool,
    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
    #[command(flatten)]
    pub(crate) process: ProcessArgs,
}

/// Where objects come from and where what must last is kept.
#[derive(Debug, Args)]
#[command(next_help_heading = "Objects")]
pub(crate) struct SourceArgs {
    /// Folder of Kubernetes manifests (.yaml, .yml, .json); changes take effect at once [default: in a Pod, the cluster
    /// it runs in]
    #[arg(long, value_name = "DIR", env = "FERROGATE_MANIFESTS")]
    pub(crate) manifests: Option<PathBuf>,
    /// Take objects from the API server that this file leads to, instead of a folder
    #[arg(long, value_name = "FILE", env = "FERROGATE_KUBECONFIG", conflicts_with_all = ["manifests", "state"])]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", env = "FERROGATE_KUBE_CONTEXT", requires = "kubeconfig")]
    pub(crate) kube_context: Option<String>,
    /// Read Services, EndpointSlices, Ingresses and Secrets of this namespace only
    #[arg(long, value_name = "NAME", env = "FERROGATE_WATCH_NAMESPACE", conflicts_with = "manifests")]
    pub(crate) watch_namespace: Option<String>,
    /// Read Secrets of this namespace only; may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', env = "FERROGATE_SECRET_NAMESPACES")]
    #[arg(conflicts_with = "manifests")]
    pub(crate) secret_namespaces: Vec<String>,
    /// Folder that keeps the last state of the cluster, Secrets included, to start with while its API server is away
    /// [default: none is kept]
    #[arg(long, value_name = "DIR", env = "FERROGATE_CACHE", conflicts_with = "manifests")]
    pub(crate) cache: Option<PathBuf>,
    /// Namespace of the ConfigMap with the addresses
    #[arg(long, value_name = "NAME", env = "FERROGATE_CONFIG_NAMESPACE", default_value = settings::DEFAULT_CONFIG_MAP.0)]
    pub(crate) config_namespace: String,
    /// Name of that ConfigMap
    #[arg(long, value_name = "NAME", env = "FERROGATE_CONFIG_NAME", default_value = settings::DEFAULT_CONFIG_MAP.1)]
    pub(crate) config_name: String,
    /// Folder that remembers given addresses [default: /var/lib/ferrogate/NAME as root, else
    /// ~/.local/state/ferrogate/NAME]
    #[arg(long, value_name = "DIR", env = "FERROGATE_STATE")]
    pub(crate) state: Option<PathBuf>,
}

/// Flags of the speaker.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Addresses")]
pub(crate) struct SpeakerArgs {
    /// Interface to announce addresses on, by its name or as a regular expression of whole names such as eth[0-9]+; may be
    /// repeated [default: every suitable one]
    #[arg(long = "interface", value_name = "NAME", value_delimiter = ',', env = "FERROGATE_INTERFACE")]
    pub(crate) interfaces: Vec<Chosen>,
    /// Interface to announce nothing on, in the same form; may be repeated
    #[arg(long = "exclude-interface", value_name = "NAME", value_delimiter = ',', env = "FERROGATE_EXCLUDE_INTERFACE")]
    pub(crate) excluded: Vec<Chosen>,
    /// Most ARP and Neighbor Discovery frames that an interface sends unasked in a second, such as 15 where switches
    /// limit ARP; at least 10 [default: 256 at once, then 500 a second, and 1000 while addresses are probed]
    #[arg(long, value_name = "N", env = "FERROGATE_GARP_RATE", value_parser = clap::value_parser!(u32).range(i64::from(Rate::LEAST)..))]
    pub(crate) garp_rate: Option<u32>,
    /// Answer ping for announced addresses; in a cluster only, where the kernel does not
    #[arg(long, env = "FERROGATE_ANSWER_PING")]
    pub(crate) answer_ping: bool,
    #[command(flatten)]
    pub(crate) addresses: AddressArgs,
    #[command(flatten)]
    pub(crate) company: CompanyArgs,
}

/// Flags about the speakers of other nodes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Other speakers")]
pub(crate) struct CompanyArgs {
    /// Another node that announces the same addresses, and where its heartbeats are received; may be repeated, for one
    /// node too [default: in a cluster its nodes, else nobody]
    #[arg(long = "peer", value_name = "NODE=IP", value_delimiter = ',', env = "FERROGATE_PEER", value_parser = parse_peer)]
    pub(crate) peers: Vec<(String, IpAddr)>,
    /// UDP port of heartbeats, the same on all nodes
    #[arg(long, value_name = "PORT", default_value_t = lb_speaker::heartbeat::PORT, env = "FERROGATE_HEARTBEAT_PORT")]
    pub(crate) heartbeat_port: u16,
    /// File with the secret that heartbeats are signed with: one a line, the first signs, all are accepted [default: in
    /// a cluster the Secret ferrogate-heartbeat, which is made if there is none]
    #[arg(long, value_name = "FILE", env = "FERROGATE_HEARTBEAT_KEY_FILE")]
    pub(crate) heartbeat_key_file: Option<PathBuf>,
    /// How fast a dead node is noticed: fast (30 ms), default (100 ms), safe (400 ms) or wan (2 s)
    #[arg(long, value_enum, default_value_t = FailoverProfile::Default, value_name = "PROFILE", env = "FERROGATE_FAILOVER_PROFILE", hide_possible_values = true)]
    pub(crate) failover_profile: FailoverProfile,
    /// How long a node goes on serving connections after their address has moved to another, such as 30s; 0s ends them
    /// with the move. No longer than --drain-timeout
    #[arg(long, value_name = "TIME", default_value = "30s", env = "FERROGATE_LINGER", value_parser = parse_time)]
    pub(crate) linger: Duration,
}

/// How fast a dead node is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailoverProfile {
    Fast,
    Default,
    Safe,
    Wan,
}

impl From<FailoverProfile> for Profile {
    fn from(profile: FailoverProfile) -> Self {
        match profile {
            FailoverProfile::Fast => Self::FAST,
            FailoverProfile::Default => Self::DEFAULT,
            FailoverProfile::Safe => Self::SAFE,
            FailoverProfile::Wan => Self::WAN,
        }
    }
}

/// Flags of the ingress.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "HTTP and HTTPS")]
pub(crate) struct IngressArgs {
    /// Address to accept HTTP on; may be repeated [default: 0.0.0.0:80, or 0.0.0.0:8080 where 80 is not allowed]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "FERROGATE_HTTP")]
    pub(crate) http: Vec<SocketAddr>,
    /// Address to accept HTTPS on; may be repeated [default: 0.0.0.0:443, or 0.0.0.0:8443 where 443 is not allowed]
    #[arg(long, value_name = "ADDR", value_delimiter = ',', env = "FERROGATE_HTTPS")]
    pub(crate) https: Vec<SocketAddr>,
    /// Threads that serve requests [default: one per core]
    #[arg(long, value_name = "N", env = "FERROGATE_WORKERS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: Option<u16>,
    /// One line per request on standard output: off, text (as nginx) or json
    #[arg(long, value_enum, default_value_t = AccessLog::Text, value_name = "FORM", env = "FERROGATE_ACCESS_LOG", hide_possible_values = true)]
    pub(crate) access_log: AccessLog,
    /// Name of the IngressClass whose Ingresses are ours
    #[arg(long, value_name = "NAME", default_value = settings::INGRESS_CLASS, env = "FERROGATE_INGRESS_CLASS")]
    pub(crate) ingress_class: String,
    /// Value of spec.controller that makes an IngressClass ours
    #[arg(long, value_name = "NAME", default_value = settings::CONTROLLER, env = "FERROGATE_CONTROLLER")]
    pub(crate) controller: String,
    /// Also serve Ingresses that name no class
    #[arg(long, env = "FERROGATE_WATCH_INGRESS_WITHOUT_CLASS")]
    pub(crate) watch_ingress_without_class: bool,
    /// Service that leads to the ingress: its addresses are written into the status of Ingresses
    /// [default: ferrogate-system/ferrogate-ingress, where it exists]
    #[arg(long, value_name = "NS/NAME", env = "FERROGATE_PUBLISH_SERVICE", value_parser = parse_name)]
    pub(crate) publish_service: Option<ObjectName>,
    /// Address or DNS name to write into the status of Ingresses instead; may be repeated
    #[arg(
        long,
        alias = "publish-status-address",
        value_name = "ADDR",
        value_delimiter = ',',
        env = "FERROGATE_PUBLISH_ADDRESS",
        conflicts_with = "publish_service"
    )]
    pub(crate) publish_address: Vec<IngressAddress>,
    /// Follow the topology hints of EndpointSlices, which prefer endpoints on this node or in its zone; =false for all
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true, env = "FERROGATE_ENABLE_TOPOLOGY_AWARE_ROUTING")]
    pub(crate) enable_topology_aware_routing: bool,
    /// Serve no Services of type ExternalName; =false to serve them [default: true in a cluster, false for a folder]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_possible_values = true, env = "FERROGATE_DISABLE_SVC_EXTERNAL_NAME")]
    pub(crate) disable_svc_external_name: Option<bool>,
    /// ConfigMap of the global settings, as ingress-nginx has it
    #[arg(long = "configmap", value_name = "NS/NAME", default_value_t = global_config_map(), env = "FERROGATE_CONFIGMAP", value_parser = parse_name)]
    pub(crate) config_map: ObjectName,
    /// ConfigMap of TCP ports that lead to Services as they are (PORT: NAMESPACE/SERVICE:PORT)
    #[arg(long = "tcp-services-configmap", value_name = "NS/NAME", env = "FERROGATE_TCP_SERVICES_CONFIGMAP", value_parser = parse_name)]
    pub(crate) tcp_services_config_map: Option<ObjectName>,
    /// ConfigMap of UDP ports that lead to Services
    #[arg(long = "udp-services-configmap", value_name = "NS/NAME", env = "FERROGATE_UDP_SERVICES_CONFIGMAP", value_parser = parse_name)]
    pub(crate) udp_services_config_map: Option<ObjectName>,
    /// DNS server for the names of such Services and for DNS-01, as IP or IP:PORT; may be repeated [default: those of
    /// /etc/resolv.conf]
    #[arg(long = "dns-server", alias = "dns01-recursive-nameservers", value_name = "ADDR", value_delimiter = ',', env = "FERROGATE_DNS_SERVER", value_parser = parse_dns_server)]
    pub(crate) dns_servers: Vec<SocketAddr>,
}

/// Flags of the process as a whole.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Process")]
pub(crate) struct ProcessArgs {
    /// Address for probes, metrics and the JSON API
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100", env = "FERROGATE_ADMIN")]
    pub(crate) admin: SocketAddr,
    /// Name of this node in status and metrics [default: the host name]
    #[arg(long, value_name = "NAME", env = "FERROGATE_NODE_NAME")]
    pub(crate) node_name: Option<String>,
    /// How long SIGTERM waits for running requests, such as 30s or 2m
    #[arg(long, value_name = "TIME", default_value = "30s", env = "FERROGATE_DRAIN_TIMEOUT", value_parser = parse_time)]
    pub(crate) drain_timeout: Duration,
    /// Form of log lines on standard error: text or json, which leaves out the table
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORM", env = "FERROGATE_LOG_FORMAT", hide_possible_values = true)]
    pub(crate) log_format: LogFormat,
    /// Least severe events to log: error, warn, info, debug, trace, or such as info,ingress=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "FERROGATE_LOG_LEVEL")]
    pub(crate) log_level: String,
}

/// Form of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AccessLog {
    Off,
    Text,
    Json,
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// `ferrogate check`.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Files and folders of manifests, or MetalLB configuration texts; `-` is standard input
    #[arg(required = true, value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,
    /// Form of the answer: text or json
    #[arg(long, value_enum, default_value_t = Output::Text, value_name = "FORM", env = "FERROGATE_OUTPUT", hide_possible_values = true)]
    pub(crate) output: Output,
    /// Name of the IngressClass whose Ingresses are ours
    #[arg(long, value_name = "NAME", default_value = settings::INGRESS_CLASS, env = "FERROGATE_INGRESS_CLASS")]
    pub(crate) ingress_class: String,
    /// Value of spec.controller that makes an IngressClass ours
    #[arg(long, value_name = "NAME", default_value = settings::CONTROLLER, env = "FERROGATE_CONTROLLER")]
    pub(crate) controller: String,
    /// Also check Ingresses that name no class
    #[arg(long, env = "FERROGATE_WATCH_INGRESS_WITHOUT_CLASS")]
    pub(crate) watch_ingress_without_class: bool,
    /// ConfigMap of the global settings of the ingress
    #[arg(long = "configmap", value_name = "NS/NAME", default_value_t = global_config_map(), env = "FERROGATE_CONFIGMAP", value_parser = parse_name)]
    pub(crate) config_map: ObjectName,
    /// ConfigMap of TCP ports that lead to Services as they are (PORT: NAMESPACE/SERVICE:PORT)
    #[arg(long = "tcp-services-configmap", value_name = "NS/NAME", env = "FERROGATE_TCP_SERVICES_CONFIGMAP", value_parser = parse_name)]
    pub(crate) tcp_services_config_map: Option<ObjectName>,
    /// ConfigMap of UDP ports that lead to Services
    #[arg(long = "udp-services-configmap", value_name = "NS/NAME", env = "FERROGATE_UDP_SERVICES_CONFIGMAP", value_parser = parse_name)]
    pub(crate) udp_services_config_map: Option<ObjectName>,
    #[command(flatten)]
    pub(crate) addresses: AddressArgs,
    #[command(flatten)]
    pub(crate) against: AgainstArgs,
}

/// Flags of `ferrogate check --against-cluster`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Against a cluster")]
pub(crate) struct AgainstArgs {
    /// Say what the manifests would change for the addresses of a cluster, which is only read; exits with 3 if a
    /// Service would lose something
    #[arg(long, env = "FERROGATE_AGAINST_CLUSTER")]
    pub(crate) against_cluster: bool,
    /// The file that leads to it [default: in a Pod, its cluster; else KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE", env = "FERROGATE_KUBECONFIG", requires = "against_cluster")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of that file [default: its current one]
    #[arg(long, value_name = "NAME", env = "FERROGATE_KUBE_CONTEXT", requires = "against_cluster")]
    pub(crate) kube_context: Option<String>,
    /// Namespace of the ConfigMap with the addresses
    #[arg(long, value_name = "NAME", env = "FERROGATE_CONFIG_NAMESPACE", default_value = settings::DEFAULT_CONFIG_MAP.0)]
    pub(crate) config_namespace: String,
    /// Name of that ConfigMap
    #[arg(long, value_name = "NAME", env = "FERROGATE_CONFIG_NAME", default_value = settings::DEFAULT_CONFIG_MAP.1)]
    pub(crate) config_name: String,
}

/// Form of what `check` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// `ferrogate certs`.
#[derive(Debug, Args)]
pub(crate) struct CertsArgs {
    /// Where the admin listener of the ingress is
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9100", env = "FERROGATE_ADMIN", global = true)]
    pub(crate) admin: SocketAddr,
    #[command(subcommand)]
    pub(crate) command: Option<CertsCommand>,
}

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum CertsCommand {
    /// List every certificate that an Ingress asks for, and how it stands
    List,
    /// Say why a certificate stands as it does, what comes next, and what the CA said
    Why {
        /// Its Secret, as namespace/name
        #[arg(value_name = "NS/NAME", value_parser = parse_name)]
        secret: ObjectName,
    },
    /// Have a certificate renewed now
    Renew {
        /// Its Secret, as namespace/name
        #[arg(value_name = "NS/NAME", value_parser = parse_name)]
        secret: ObjectName,
    },
}

/// `ferrogate echo`.
#[derive(Debug, Args)]
pub(crate) struct EchoArgs {
    /// Address to serve on; may be repeated
    #[arg(long, required = true, value_name = "ADDR", value_delimiter = ',', env = "FERROGATE_LISTEN")]
    pub(crate) listen: Vec<SocketAddr>,
    /// Name of this node on the page [default: the host name]
    #[arg(long, value_name = "NAME", env = "FERROGATE_NODE_NAME")]
    pub(crate) node_name: Option<String>,
}

/// Where the global settings are unless the operator says otherwise.
pub(crate) fn global_config_map() -> ObjectName {
    let (namespace, name) = settings::GLOBAL_CONFIG_MAP;
    ObjectName::new(namespace, name)
}

/// Reads `namespace/name`.
pub(crate) fn parse_name(text: &str) -> Result<ObjectName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err("write it as namespace/name".to_owned()),
    }
}

/// Reads an address with or without a port.
fn parse_dns_server(text: &str) -> Result<SocketAddr, String> {
    let bare = || text.parse().map(|ip: std::net::IpAddr| SocketAddr::new(ip, 53));
    text.parse().or_else(|_| bare()).map_err(|_| "write it like 10.96.0.10 or 127.0.0.1:5353".to_owned())
}

/// Reads `node=address`.
fn parse_peer(text: &str) -> Result<(String, IpAddr), String> {
    let wrong = || "write it like node-2=192.0.2.12".to_owned();
    let (node, address) = text.split_once('=').filter(|(node, _)| !node.is_empty()).ok_or_else(wrong)?;
    Ok((node.to_owned(), address.parse().map_err(|_| wrong())?))
}

/// Reads a time such as `30s`, `1m30s` or `500ms`.
fn parse_time(text: &str) -> Result<Duration, String> {
    let time: SignedDuration = text.parse().map_err(|_| "write it like 30s, 2m or 1m30s".to_owned())?;
    Duration::try_from(time).map_err(|_| "a time cannot be negative".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::described().debug_assert();
    }

    #[test]
    fn every_flag_has_a_twin_in_the_environment() {
        for command in Cli::command().get_subcommands() {
            // What is asked of these differs from time to time; where they ask has a twin.
            let asks = ["explain", "import", "move"].contains(&command.get_name());
            for arg in command.get_arguments().filter(|arg| arg.get_long().is_some_and(|name| name != "help")) {
                let flag = arg.get_long().unwrap();
                if asks && arg.get_env().is_none() {
                    continue;
                }
                let twin = format!("FERROGATE_{}", flag.replace('-', "_").to_uppercase());
                assert_eq!(arg.get_env().and_then(|name| name.to_str()), Some(twin.as_str()), "--{flag}");
            }
        }
    }

    #[test]
    fn times_read_as_people_write_them() {
        for (text, expected) in [
            ("30s", Ok(Duration::from_secs(30))),
            ("1m30s", Ok(Duration::from_secs(90))),
            ("500ms", Ok(Duration::from_millis(500))),
            ("0s", Ok(Duration::ZERO)),
        ] {
            assert_eq!(parse_time(text), expected, "{text}");
        }
        assert!(parse_time("-5s").is_err() && parse_time("30").is_err() && parse_time("soon").is_err());
    }

    #[test]
    fn a_dns_server_has_port_53_unless_it_says_otherwise() {
        for (text, expected) in [
            ("10.96.0.10", Some("10.96.0.10:53")),
            ("127.0.0.1:5353", Some("127.0.0.1:5353")),
            ("::1", Some("[::1]:53")),
            ("dns", None),
        ] {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(parse_dns_server(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn a_peer_is_a_node_and_its_address() {
        assert_eq!(parse_peer("b=192.0.2.2"), Ok(("b".to_owned(), "192.0.2.2".parse().unwrap())));
        assert_eq!(parse_peer("b=2001:db8::2"), Ok(("b".to_owned(), "2001:db8::2".parse().unwrap())));
        for wrong in ["b", "=192.0.2.2", "b=", "b=host", "b=192.0.2.2:1"] {
            assert!(parse_peer(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_name_has_a_namespace() {
        assert_eq!(parse_name("a/b"), Ok(ObjectName::new("a", "b")));
        for wrong in ["a", "/b", "a/", "a/b/c", ""] {
            assert!(parse_name(wrong).is_err(), "{wrong}");
        }
    }
}
