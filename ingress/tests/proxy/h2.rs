//! HTTP/2, chosen during the TLS handshake.

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::client::tls;
use crate::support::objects::World;
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, Plane, eventually};

async fn plane(upstream: &Upstream) -> Plane {
    let world = World::default().service("web", &[upstream.addr]);
    let (world, _) = world.certificate("cert", "shop.example.com");
    Plane::start(world.tls_route("web", "shop.example.com", "web", "cert").snapshot()).await
}

async fn connect(plane: &Plane) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let stream = tls(plane.https, "shop.example.com", b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    (sender, tokio::spawn(connection))
}

async fn ask(
    sender: &mut SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<(Response<()>, Vec<u8>), h2::Error> {
    let exchange = async {
        futures_util::future::poll_fn(|cx| sender.poll_ready(cx)).await?;
        let (answer, mut stream) = sender.send_request(request, body.is_empty())?;
        for piece in body.chunks(10_000) {
            stream.send_data(Bytes::copy_from_slice(piece), false)?;
        }
        if !body.is_empty() {
            stream.send_data(Bytes::new(), true)?;
        }
        let (head, mut stream) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(piece) = stream.data().await {
            let piece = piece?;
            stream.flow_control().release_capacity(piece.len())?;
            body.extend_from_slice(&piece);
        }
        Ok((Response::from_parts(head, ()), body))
    };
    timeout(PATIENCE, exchange).await.expect("no answer in time")
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://shop.example.com{path}")).body(()).unwrap()
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let upstream = Upstream::start().await;
    let plane = plane(&upstream).await;
    let (sender, _) = connect(&plane).await;
    let streams = (0..20).map(|number| {
        let mut sender = sender.clone();
        async move {
            let (head, body) = ask(&mut sender, get(&format!("/{number}")), b"").await.unwrap();
            assert_eq!((head.status().as_u16(), body), (200, format!("upstream /{number}").into_bytes()));
        }
    });
    futures_util::future::join_all(streams).await;
    let seen = &upstream.seen()[0];
    assert_eq!((seen.field("host"), seen.field("x-forwarded-proto")), (Some("shop.example.com"), Some("https")));
    plane.stop().await;
}

#[tokio::test]
async fn bodies_pass_in_both_directions() {
    let upstream = Upstream::start().await;
    let plane = plane(&upstream).await;
    let (mut sender, _) = connect(&plane).await;
    let body = vec![b'b'; 1 << 20];
    let request = Request::post("https://shop.example.com/echo").body(()).unwrap();
    let (head, echoed) = ask(&mut sender, request, &body).await.unwrap();
    assert_eq!(head.status().as_u16(), 200);
    assert!(echoed == body);
    let (_, chunked) = ask(&mut sender, get("/chunked"), b"").await.unwrap();
    assert_eq!(chunked, b"hello, world");
    plane.stop().await;
}

#[tokio::test]
async fn crumbs_of_cookies_are_joined() {
    let upstream = Upstream::start().await;
    let plane = plane(&upstream).await;
    let (mut sender, _) = connect(&plane).await;
    let mut request = get("/");
    let crumbs = ["a=1", "b=2", "c=3"].map(|crumb| (http::header::COOKIE, crumb.parse().unwrap()));
    *request.headers_mut() = crumbs.into_iter().fold(HeaderMap::new(), |mut map, (name, value)| {
        map.append(name, value);
        map
    });
    ask(&mut sender, request, b"").await.unwrap();
    assert_eq!(upstream.seen()[0].field("cookie"), Some("a=1; b=2; c=3"));
    plane.stop().await;
}

#[tokio::test]
async fn errors_are_answered_per_stream() {
    let upstream = Upstream::start().await;
    let plane = plane(&upstream).await;
    let (mut sender, _) = connect(&plane).await;
    let other = Request::get("https://other.example.com/").body(()).unwrap();
    assert_eq!(ask(&mut sender, other, b"").await.unwrap().0.status().as_u16(), 404);
    assert_eq!(ask(&mut sender, get("/hang-up"), b"").await.unwrap().0.status().as_u16(), 502);
    assert_eq!(ask(&mut sender, get("/%00"), b"").await.unwrap().0.status().as_u16(), 400);
    assert_eq!(ask(&mut sender, get("/unasked"), b"").await.unwrap().0.status().as_u16(), 502);
    assert_eq!(ask(&mut sender, get("/x"), b"").await.unwrap().1, b"upstream /x");
    plane.stop().await;
}

#[tokio::test]
async fn a_drain_says_goaway_and_finishes_streams() {
    let upstream = Upstream::start().await;
    let plane = plane(&upstream).await;
    let (mut sender, connection) = connect(&plane).await;
    let held = tokio::spawn(async move { ask(&mut sender, get("/held"), b"").await });
    eventually("the request arrives", || !upstream.seen().is_empty()).await;
    let stop = tokio::spawn(plane.stop());
    tokio::task::yield_now().await;
    upstream.release.notify_one();
    let (answer, body) = held.await.unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), &*body), (200, &b"released"[..]));
    stop.await.unwrap();
    // Ended by GOAWAY without an error, not by a reset.
    timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
}
