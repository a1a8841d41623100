//! Ports that lead to Services as they are: `tcp-services` and `udp-services`.

use std::net::SocketAddr;
use std::time::Duration;

use ingress::io::Timeouts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::support::objects::World;
use crate::support::upstream::nobody;
use crate::support::{PATIENCE, Plane};

/// Answers each connection with its name, a line of what it was told first, then what it hears.
async fn echo(name: &'static str, reads_line: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut line = Vec::new();
                while reads_line && !line.ends_with(b"\r\n") {
                    line.push(stream.read_u8().await.unwrap());
                }
                stream.write_all(&[name.as_bytes(), b"|", &line, b"|"].concat()).await.unwrap();
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    addr
}

/// A port that nobody has now.
fn free() -> u16 {
    nobody().port()
}

async fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn hear(stream: &mut TcpStream, expected: &str) {
    let mut heard = vec![0; expected.len()];
    timeout(PATIENCE, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), expected);
}

fn world(services: &[(&str, SocketAddr)]) -> World {
    services.iter().fold(World::default(), |world, (name, addr)| world.service(name, &[*addr]))
}

fn tcp(world: &World, ports: &[(u16, &str)]) -> config::snapshot::Snapshot {
    let data: Vec<_> = ports.iter().map(|(port, to)| (port.to_string(), *to)).collect();
    let data: Vec<_> = data.iter().map(|(port, to)| (port.as_str(), *to)).collect();
    world.clone().config_map("ingress-nginx", "tcp-services", &data).snapshot()
}

#[tokio::test]
async fn a_port_is_opened_and_closed_and_open_connections_live_on() {
    let (one, two) = (echo("one", false).await, echo("two", false).await);
    let world = world(&[("one", one), ("two", two)]);
    let (first, second) = (free(), free());
    let mut plane = Plane::start(tcp(&world, &[])).await;
    plane.swap(tcp(&world, &[(first, "shop/one:80")])).await;
    let mut old = connect(first).await;
    hear(&mut old, "one||").await;

    // Elsewhere from now on, and another port besides.
    plane.swap(tcp(&world, &[(first, "shop/two:80"), (second, "shop/one:80")])).await;
    hear(&mut connect(first).await, "two||").await;
    hear(&mut connect(second).await, "one||").await;

    plane.swap(tcp(&world, &[])).await;
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", first)).await.is_ok() {
        assert!(Instant::now() < deadline, "the port stays open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    old.write_all(b"still here").await.unwrap();
    hear(&mut old, "still here").await;
    drop(old);
    plane.stop().await;
}

#[tokio::test]
async fn endpoints_are_told_who_the_client_is_and_clients_may_be_proxies() {
    let endpoint = echo("db", true).await;
    let world = world(&[("db", endpoint)]).global(&[("proxy-real-ip-cidr", "127.0.0.0/8")]);
    let (encode, both) = (free(), free());
    let ports = [(encode, "shop/db:80::PROXY"), (both, "shop/db:80:PROXY:PROXY")];
    let plane = Plane::start(tcp(&world, &ports)).await;
    let mut client = connect(encode).await;
    let from = client.local_addr().unwrap().port();
    hear(&mut client, &format!("db|PROXY TCP4 127.0.0.1 127.0.0.1 {from} {encode}\r\n|")).await;
    drop(client);
    let mut client = connect(both).await;
    client.write_all(b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 5432\r\nhello").await.unwrap();
    hear(&mut client, "db|PROXY TCP4 203.0.113.9 192.0.2.1 4711 5432\r\n|hello").await;
    drop(client);
    plane.stop().await;
}

#[tokio::test]
async fn connections_are_spread_over_endpoints_and_pass_over_the_dead() {
    let all = [echo("one", false).await, echo("two", false).await, nobody()];
    let port = free();
    let plane = Plane::start(tcp(&World::default().service("db", &all), &[(port, "shop/db:80")])).await;
    let mut seen = std::collections::BTreeSet::new();
    let mut kept = Vec::new();
    for _ in 0..40 {
        let mut client = connect(port).await;
        let mut name = [0; 3];
        timeout(PATIENCE, client.read_exact(&mut name)).await.unwrap().unwrap();
        seen.insert(String::from_utf8_lossy(&name).into_owned());
        kept.push(client);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    drop(kept);
    plane.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_told_and_leaves_other_ports_alone() {
    let endpoint = echo("db", false).await;
    let world = world(&[("db", endpoint)]);
    let port = free();
    let mut plane = Plane::start(tcp(&world, &[(port, "shop/db:80")])).await;
    plane.swap(tcp(&world, &[(port, "nonsense"), (9100, "shop/db:80"), (free(), "shop/none:80")])).await;
    // The last good target stays.
    hear(&mut connect(port).await, "db||").await;
    let told: Vec<_> = plane.problems().iter().map(|problem| problem.message.clone()).collect();
    for word in ["the last good target stays", "choose another", "does not exist"] {
        assert!(told.iter().any(|message| message.contains(word)), "{word}: {told:?}");
    }
    plane.stop().await;
}

#[tokio::test]
async fn datagrams_find_an_endpoint_and_their_way_back() {
    let endpoint = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = endpoint.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        loop {
            let (length, from) = endpoint.recv_from(&mut buffer).await.unwrap();
            let said = [&buffer[..length], b" from ", from.port().to_string().as_bytes()].concat();
            endpoint.send_to(&said, from).await.unwrap();
        }
    });
    let port = free();
    let snapshot = World::default()
        .udp_service("dns", &[addr])
        .config_map("ingress-nginx", "udp-services", &[(&port.to_string(), "shop/dns:53")])
        .snapshot();
    let timeouts = Timeouts { datagram: Duration::from_millis(300), ..Timeouts::default() };
    let plane = Plane::start_with(snapshot, timeouts, Duration::from_secs(5)).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(("127.0.0.1", port)).await.unwrap();
    let ask = async |text: &str| {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = [0; 1500];
        loop {
            assert!(Instant::now() < deadline, "no answer");
            // The port may not be open yet, and then the client is told so.
            let _ = client.send(text.as_bytes()).await;
            if let Ok(Ok(length)) = timeout(Duration::from_millis(200), client.recv(&mut buffer)).await {
                let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if let Some(("", from)) = answer.split_once(&format!("{text} from ")) {
                    return from.to_owned();
                }
            }
        }
    };
    let first = ask("one").await;
    assert_eq!(ask("two").await, first, "one session for as long as it is used");
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert_ne!(ask("three").await, first, "a session that nobody used has ended");
    plane.stop().await;
}
