//! nginx as a reverse proxy in front of a backend, with a minimal configuration: keep-alive on both sides,
//! responses buffered in memory, no log.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use vmcp_e2e::process::{self, Process};
use vmcp_e2e::wait;

/// A running nginx.
pub(crate) struct Nginx {
    _process: Process,
    address: String,
}

impl Nginx {
    /// Starts nginx in front of `backend`. Files below `folder` are served unchanged under `/files/`.
    pub(crate) fn start(backend: &str, folder: &Path) -> anyhow::Result<Self> {
        // nginx does not report a port that the system has chosen. So a free port is found here and released
        // before nginx starts.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let file = folder.join("nginx.conf");
        std::fs::write(&file, configuration(backend, &address, folder))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(folder).args(["-e", "stderr"]);
        let process = Process::start(&mut command).context("nginx is needed; on Debian, nginx-light")?;
        wait::until("nginx takes connections", || std::net::TcpStream::connect(&address).ok())?;
        Ok(Self { _process: process, address })
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }
}

/// The version of nginx.
pub(crate) fn version() -> anyhow::Result<String> {
    let output =
        Command::new("nginx").arg("-v").output().context("nginx is needed; on Debian, nginx-light")?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(text.rsplit('/').next().unwrap_or_default().trim().to_owned())
}

/// The version of another program: the last word of its output that begins with a digit.
pub(crate) fn version_of(program: &str) -> anyhow::Result<String> {
    let text = process::run(Command::new(program).arg("--version"))?;
    let digits = |word: &&str| word.trim_start_matches("v=").starts_with(|c: char| c.is_ascii_digit());
    let found = text.split_whitespace().find(digits).unwrap_or_default();
    Ok(found.trim_start_matches("v=").to_owned())
}

fn configuration(backend: &str, address: &str, folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "user root root;
worker_processes auto;
daemon off;
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    default_type application/json;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    sendfile on;
    open_file_cache max=100;
    upstream backend {{ server {backend}; keepalive 512; keepalive_requests 1000000000; }}
    server {{
        listen {address} backlog=1024;
        location / {{
            proxy_pass http://backend;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $host;
            proxy_buffer_size 16k;
            proxy_buffers 96 16k;
        }}
        location /files/ {{ root {folder}; }}
    }}
}}
"
    )
}
