//! The generator against a small server of the test's own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use ferrogate_bench::load::{self, Handshake, Outcome, Plan};

/// Answers every request on every connection, whatever was asked, with this status; for as long as the test runs.
fn server(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream, status));
        }
    });
    address
}

/// A request of the generator fits into one read, since it waits for the answer before it sends another.
fn answer(mut stream: TcpStream, status: &str) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let close = String::from_utf8_lossy(&buffer[..count]).contains("Connection: close");
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
        if stream.write_all(head.as_bytes()).is_err() || close {
            return;
        }
    }
}

fn run(target: SocketAddr, rate: Option<f64>, fresh: Option<Handshake>) -> Outcome {
    let plan = Plan {
        target,
        tls: false,
        hosts: vec!["a.test".to_owned()],
        paths: vec!["/".to_owned()],
        connections: 4,
        seconds: 0.2,
        rate,
        fresh,
        upload: None,
        until_stdin_closes: false,
    };
    load::run(&plan).expect("the loop runs")
}

#[test]
fn an_open_loop_makes_every_request_that_was_due() {
    let outcome = run(server("200 OK"), Some(500.0), None);
    assert!(outcome.errors().is_empty(), "{outcome:?}");
    // The first is due at once, the last at the end or just before it.
    assert!((100..=101).contains(&outcome.requests), "{outcome:?}");
}

#[test]
fn a_closed_loop_asks_again_as_soon_as_it_is_answered() {
    let outcome = run(server("200 OK"), None, None);
    assert!(outcome.errors().is_empty() && outcome.requests > 4 && outcome.closed == 0, "{outcome:?}");
}

#[test]
fn fresh_connections_are_not_counted_as_closed() {
    let outcome = run(server("200 OK"), None, Some(Handshake::Full));
    assert!(outcome.errors().is_empty() && outcome.requests > 4 && outcome.closed == 0, "{outcome:?}");
}

#[test]
fn other_answers_than_2xx_are_refusals() {
    let outcome = run(server("503 Service Unavailable"), Some(100.0), None);
    assert!(outcome.requests == 0 && outcome.refused >= 20, "{outcome:?}");
    assert_eq!(outcome.complaint.as_deref(), Some("status 503"));
}

#[test]
fn a_target_that_is_not_there_makes_failures_and_an_end() {
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let outcome = run(nobody, Some(100.0), None);
    assert!(outcome.requests == 0 && outcome.failed >= 20, "{outcome:?}");
}
