//! nginx itself, configured as ingress-nginx would, to compare answers with.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::PATIENCE;
use super::upstream::nobody;

/// A running nginx; ends with this.
pub(crate) struct Nginx {
    pub(crate) addr: SocketAddr,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // One that has ended already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Nginx {
    /// Starts nginx with `http` inside its `http` block, where `LISTEN` stands for the address to listen on; `None`,
    /// and a line that says so, where there is no nginx.
    pub(crate) async fn start(http: &str) -> Option<Self> {
        Self::start_unprobed(http, "").await
    }

    /// As [`Self::start`] where a connection has to begin with `opening`, so that trying it leaves no error.
    pub(crate) async fn start_unprobed(http: &str, opening: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let addr = nobody();
        let path = folder.path().display();
        let text = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{ access_log off; default_type text/plain;\n\
             client_body_temp_path {path}/body; proxy_temp_path {path}/proxy; fastcgi_temp_path {path}/fastcgi;\n\
             uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
             proxy_http_version 1.1; proxy_set_header Connection \"\";\n{} }}\n",
            http.replace("LISTEN", &addr.to_string())
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, text).unwrap();
        let log = folder.path().join("error.log");
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(folder.path()).arg("-c").arg(&file).arg("-e").arg(&log);
        let mut child = match nginx.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) => {
                println!("not compared with nginx, since it cannot be started ({error}); install nginx-light");
                return None;
            }
        };
        let deadline = Instant::now() + PATIENCE;
        while !is_up(addr, opening).await {
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "nginx ended: {}", said());
            assert!(Instant::now() < deadline, "nginx does not accept connections: {}", said());
            sleep(std::time::Duration::from_millis(10)).await;
        }
        Some(Self { addr, child, _folder: folder })
    }
}

async fn is_up(addr: SocketAddr, opening: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(addr).await else { return false };
    stream.write_all(opening.as_bytes()).await.is_ok()
}
