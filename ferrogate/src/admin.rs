//! The admin listener: probes, metrics, and JSON for tools. What it says is documented in `docs/admin-api.md`.
//!
//! Every answer is made of the newest value of a watch channel; nothing here is computed by a part for us, so a part
//! that hangs cannot hang a probe.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use acme::io::{Wish, WishError};
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use config::diagnostic::Problem;
use config::object::ObjectName;
use config::report::{self, CertificateEntry, ManagedEntry, Report, RouteEntry, VipEntry};
use config::snapshot::Snapshot;
use ingress::compile::Compiled;
use lb_speaker::io::{MoveError, MoveOrder};
use prometheus::{Registry, TEXT_FORMAT, TextEncoder};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::explain::Asked;
use crate::readiness::{Readiness, Stages, is_ready};
use crate::why::steps::{self, Known, Why};

/// What is listed at `/`, in this order.
const ENDPOINTS: [(&str, &str); 9] = [
    ("/livez", "the process runs"),
    ("/readyz", "every part is ready"),
    ("/metrics", "Prometheus metrics"),
    ("/api/v1/vips", "LoadBalancer Services and their addresses"),
    ("/api/v1/routes", "hosts and paths and their backends"),
    ("/api/v1/certificates", "certificates that are served, and those that are ordered"),
    ("/api/v1/explain", "POST a request to learn which way it takes"),
    ("/api/v1/why/svc/NS/NAME", "why a Service is or is not reached"),
    ("/api/v1/problems", "what is wrong with the manifests"),
];

/// The newest of everything that is shown.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Objects as they came in.
    pub(crate) snapshots: watch::Receiver<Option<Arc<Snapshot>>>,
    /// One report per part.
    pub(crate) reports: [watch::Receiver<Arc<Report>>; 3],
    /// Services and their addresses.
    pub(crate) vips: watch::Receiver<Arc<Vec<VipEntry>>>,
    /// Hosts, paths and their backends.
    pub(crate) routes: watch::Receiver<Arc<report::Routes>>,
    /// Certificates that are served.
    pub(crate) certificates: watch::Receiver<report::Certificates>,
    /// The routes in force, as they were made.
    pub(crate) tables: watch::Receiver<Option<Arc<Compiled>>>,
    /// The name of this node.
    pub(crate) node: Arc<str>,
    /// Certificates that are ordered.
    pub(crate) managed: watch::Receiver<Arc<Vec<ManagedEntry>>>,
    /// Who has certificates ordered.
    pub(crate) wishes: Option<mpsc::Sender<Wish>>,
    /// Who moves VIPs.
    pub(crate) moves: Option<mpsc::Sender<MoveOrder>>,
}

impl View {
    /// How old the state is, if it comes from disk because the API server has not answered yet.
    #[expect(clippy::disallowed_methods, reason = "an age is told to people")]
    fn cached_seconds(&self) -> Option<u64> {
        let saved = self.snapshots.borrow().as_ref()?.saved?;
        Some(SystemTime::now().duration_since(saved).unwrap_or_default().as_secs())
    }

    /// The way of a Service to its clients.
    fn why(&self, name: &ObjectName) -> Why {
        let (snapshot, vips) = (self.snapshots.borrow().clone(), self.vips.borrow().clone());
        let (problems, report) = (self.problems(), self.reports[0].borrow().clone());
        let known = Known {
            snapshot: snapshot.as_deref(),
            vips: &vips,
            report: Some(&report),
            problems: &problems,
            node: &self.node,
        };
        steps::explain(name, known)
    }

    /// Everything that is wrong, once each, errors first.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let snapshot = self.snapshots.borrow().clone();
        let reports = self.reports.each_ref().map(|report| report.borrow().clone());
        let found = snapshot.iter().flat_map(|snapshot| snapshot.problems.iter());
        crate::problems::collect(found.chain(reports.iter().flat_map(|report| report.problems.iter())))
    }
}

#[derive(Clone, Debug)]
struct Admin {
    view: View,
    readiness: Readiness,
    registry: Registry,
}

/// Answers on `listener` until `shutdown`.
pub(crate) async fn serve(
    listener: TcpListener,
    view: View,
    readiness: Readiness,
    registry: Registry,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let app = router(Admin { view, readiness, registry });
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/api/v1/vips", get(vips))
        .route("/api/v1/routes", get(routes))
        .route("/api/v1/certificates", get(certificates))
        .route("/api/v1/why/svc/{namespace}/{name}", get(why))
        .route("/api/v1/certificates/{namespace}/{name}/renew", post(renew))
        .route("/api/v1/vips/{vip}/move", post(relocate))
        .route("/api/v1/problems", get(problems))
        .route("/api/v1/explain", post(explain))
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .with_state(admin)
}

async fn index() -> String {
    let line = |(path, meaning): &(&str, &str)| format!("{path:<26}{meaning}\n");
    format!("ferrogate {}\n\n{}", crate::cli::VERSION, ENDPOINTS.iter().map(line).collect::<String>())
}

#[derive(Serialize)]
struct Readyz {
    ready: bool,
    parts: Stages,
    /// Seconds since what is in use was saved, while it comes from disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_seconds: Option<u64>,
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, Json<Readyz>) {
    let parts = admin.readiness.stages();
    let ready = is_ready(&parts);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readyz { ready, parts, cached_seconds: admin.view.cached_seconds() }))
}

#[derive(Serialize)]
struct Vips {
    vips: Arc<Vec<VipEntry>>,
}

async fn vips(State(admin): State<Admin>) -> Json<Vips> {
    Json(Vips { vips: Arc::clone(&admin.view.vips.borrow()) })
}

#[derive(Serialize)]
struct Routes {
    routes: Vec<RouteEntry>,
}

async fn routes(State(admin): State<Admin>) -> Json<Routes> {
    let routes = Arc::clone(&admin.view.routes.borrow());
    Json(Routes { routes: routes.to_vec() })
}

#[derive(Serialize)]
struct Certificates {
    certificates: Vec<CertificateEntry>,
    managed: Arc<Vec<ManagedEntry>>,
}

async fn certificates(State(admin): State<Admin>) -> Json<Certificates> {
    let certificates = admin.view.certificates.borrow().clone();
    Json(Certificates { certificates: certificates.to_vec(), managed: Arc::clone(&admin.view.managed.borrow()) })
}

/// Has a certificate renewed. Whoever may read metrics may not spend what a CA allows us: only this machine may.
async fn renew(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path((namespace, name)): Path<(String, String)>,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return fault(
            StatusCode::FORBIDDEN,
            "renewal is asked for on this machine only, as `ferrogate certs renew` does",
        );
    }
    let nobody = || fault(StatusCode::SERVICE_UNAVAILABLE, "this process orders no certificates");
    let Some(wishes) = &admin.view.wishes else { return nobody() };
    let (answer, answered) = oneshot::channel();
    // Who is gone takes the wish along, and with it the promise of an answer.
    let _ = wishes.send(Wish { secret: ObjectName::new(namespace, name), answer }).await;
    match answered.await {
        Ok(Ok(())) => StatusCode::ACCEPTED.into_response(),
        Ok(Err(error @ WishError::Unknown)) => fault(StatusCode::NOT_FOUND, &error.to_string()),
        Ok(Err(error @ WishError::Follower)) => fault(StatusCode::CONFLICT, &error.to_string()),
        Err(_) => nobody(),
    }
}

#[derive(Deserialize)]
struct Destination {
    /// The node; absent to give the VIP back.
    node: Option<String>,
}

/// Has a VIP moved. Who may read metrics may not: only this machine may.
async fn relocate(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Path(vip): Path<IpAddr>,
    Query(Destination { node }): Query<Destination>,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return fault(StatusCode::FORBIDDEN, "a move is asked for on one of the nodes only, as `ferrogate move` does");
    }
    let nobody = || fault(StatusCode::SERVICE_UNAVAILABLE, "this process announces no addresses; ask its speaker");
    let Some(moves) = &admin.view.moves else { return nobody() };
    let (answer, answered) = oneshot::channel();
    // Who is gone takes the order along, and with it the promise of an answer.
    let _ = moves.send(MoveOrder { vip, node, answer }).await;
    match answered.await {
        Ok(Ok(())) => StatusCode::ACCEPTED.into_response(),
        Ok(Err(error @ (MoveError::NoService { .. } | MoveError::NoMember { .. }))) => {
            fault(StatusCode::NOT_FOUND, &error.to_string())
        }
        Ok(Err(error)) => fault(StatusCode::CONFLICT, &error.to_string()),
        Err(_) => nobody(),
    }
}

#[derive(Serialize)]
struct Problems {
    problems: Vec<Problem>,
}

async fn problems(State(admin): State<Admin>) -> Json<Problems> {
    Json(Problems { problems: admin.view.problems() })
}

async fn why(State(admin): State<Admin>, Path((namespace, name)): Path<(String, String)>) -> Json<Why> {
    Json(admin.view.why(&ObjectName::new(namespace, name)))
}

async fn explain(State(admin): State<Admin>, body: String) -> Response {
    let asked: Asked = match serde_json::from_str(&body) {
        Ok(asked) => asked,
        Err(error) => return fault(StatusCode::BAD_REQUEST, &format!("this is no request to explain: {error}")),
    };
    let question = match asked.question() {
        Ok(question) => question,
        Err(error) => return fault(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let (compiled, snapshot) = (admin.view.tables.borrow().clone(), admin.view.snapshots.borrow().clone());
    let (Some(compiled), Some(snapshot)) = (compiled, snapshot) else {
        return fault(StatusCode::SERVICE_UNAVAILABLE, "this process routes nothing, or nothing yet");
    };
    Json(ingress::explain::explain(&compiled, &snapshot, &question)).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match TextEncoder::new().encode_to_string(&admin.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, TEXT_FORMAT)], text).into_response(),
        Err(error) => fault(StatusCode::INTERNAL_SERVER_ERROR, &format!("metrics cannot be written: {error}")),
    }
}

async fn unknown(uri: Uri) -> Response {
    fault(StatusCode::NOT_FOUND, &format!("there is nothing at {}; GET / lists what there is", uri.path()))
}

async fn wrong_method() -> Response {
    fault(StatusCode::METHOD_NOT_ALLOWED, "everything here is read with GET")
}

#[derive(Serialize)]
struct Fault<'a> {
    error: &'a str,
}

fn fault(status: StatusCode, error: &str) -> Response {
    (status, Json(Fault { error })).into_response()
}

#[cfg(test)]
mod tests {
    use config::object::{FieldPath, Kind, ObjectRef};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    /// Asks an admin listener of its own; returns status line and body.
    async fn ask(view: View, readiness: Readiness, request: &str) -> (String, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, view, readiness, Registry::new(), stop.clone()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("{request} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        stop.cancel();
        server.await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    /// A view of one problem that two parts found.
    fn view() -> View {
        let object = ObjectRef::new(Kind::Ingress, ObjectName::new("shop", "web"));
        let problem = Problem::error(object, FieldPath::of(["spec"]), "there is no Service shop/web");
        let report = Arc::new(Report { problems: Arc::new(vec![problem]), ..Report::default() });
        // A receiver keeps the last value when its sender is gone.
        View {
            snapshots: watch::channel(None).1,
            reports: [Arc::clone(&report), report, Arc::default()].map(|report| watch::channel(report).1),
            vips: watch::channel(Arc::default()).1,
            routes: watch::channel(Arc::default()).1,
            certificates: watch::channel(report::Certificates::default()).1,
            tables: watch::channel(None).1,
            node: "node-1".into(),
            managed: watch::channel(Arc::default()).1,
            wishes: None,
            moves: None,
        }
    }

    #[tokio::test]
    async fn a_process_that_orders_nothing_renews_nothing() {
        let (status, body) = ask(view(), Readiness::new(), "POST /api/v1/certificates/shop/tls/renew").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(body.contains("orders no certificates"), "{body}");
    }

    #[tokio::test]
    async fn what_moves_a_vip_is_told_or_the_request_refused() {
        for (path, status, what) in [
            ("192.0.2.1/move?node=b", "503 Service Unavailable", "announces no addresses"),
            ("web/move?node=b", "400 Bad Request", ""),
        ] {
            let (found, body) = ask(view(), Readiness::new(), &format!("POST /api/v1/vips/{path}")).await;
            assert_eq!(found, format!("HTTP/1.1 {status}"));
            assert!(body.contains(what), "{body}");
        }
        let (moves, mut orders) = mpsc::channel(1);
        let speaker = tokio::spawn(async move {
            let order: MoveOrder = orders.recv().await.unwrap();
            let told = (order.vip.to_string(), order.node.clone());
            order.answer.send(Err(MoveError::NotJoined)).unwrap();
            told
        });
        let view = View { moves: Some(moves), ..view() };
        let (status, body) = ask(view, Readiness::new(), "POST /api/v1/vips/2001:db8::1/move").await;
        assert_eq!(status, "HTTP/1.1 409 Conflict", "{body}");
        assert_eq!(speaker.await.unwrap(), ("2001:db8::1".to_owned(), None));
    }

    #[tokio::test]
    async fn readiness_names_the_part_that_is_missing() {
        let readiness = Readiness::new();
        let _starting = readiness.part("ingress");
        let (status, body) = ask(view(), readiness, "GET /readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(body, r#"{"ready":false,"parts":{"ingress":"starting"}}"#);
    }

    #[tokio::test]
    async fn every_list_is_there_before_anything_is_known() {
        for (path, expected) in [
            ("vips", r#"{"vips":[]}"#),
            ("routes", r#"{"routes":[]}"#),
            ("certificates", r#"{"certificates":[],"managed":[]}"#),
            (
                "problems",
                r#"{"problems":[{"severity":"error","object":"Ingress shop/web","field":"spec","message":"there is no Service shop/web","file":null,"line":null,"column":null}]}"#,
            ),
        ] {
            let (status, body) = ask(view(), Readiness::new(), &format!("GET /api/v1/{path}")).await;
            assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", expected));
        }
    }

    #[tokio::test]
    async fn what_is_not_there_says_so_in_json() {
        for (request, status) in
            [("GET /api/v2/vips", "404 Not Found"), ("DELETE /api/v1/vips", "405 Method Not Allowed")]
        {
            let (found, body) = ask(view(), Readiness::new(), request).await;
            assert_eq!(found, format!("HTTP/1.1 {status}"));
            assert!(body.starts_with(r#"{"error":""#), "{body}");
        }
    }
}
