//! What lies behind the proxies: prints the port it chose, answers until standard input closes.

use std::io;

fn main() -> io::Result<()> {
    ferrogate_bench::upstream::run(|port| println!("{port}"))
}
