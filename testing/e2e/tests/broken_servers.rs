//! What an operator reads about servers that cannot be connected. The sentences are the page
//! `docs/broken-servers.md`. `UPDATE_EXPECT=1` writes it anew.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, ensure};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use vmcp_e2e::gateway::{Backend, NamePolicy, config};
use vmcp_e2e::process::binary;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/broken-servers.md");

/// What the page says before the table.
const INTRODUCTION: &str = "\
# Broken servers and what is said of them

For a server that cannot be connected, one sentence gives the cause, the last line that the server wrote, and the
remedy. `vmcp tools` and `vmcp doctor` print it. `/status` has it as `failure`, for readers on the gateway's machine.
The log has it once, as `cause` of `backend cannot be connected`; if the same failure repeats, the next lines have
their number as `failures`.

A process that fails in the same way five times is started every ten minutes from then on. Until then, and for all
other servers, the pause between two attempts grows from 250 ms to 30 s. A restart of the gateway tries all of them
at once.

A test starts each of these servers and compares the sentences (`testing/e2e/tests/broken_servers.rs`).

| The server | What is said of it |
| --- | --- |
";

/// A server that cannot be connected, with the words of the page for it.
struct Broken {
    description: &'static str,
    backend: Backend,
}

#[test]
fn each_broken_server_is_explained_in_one_sentence() -> anyhow::Result<()> {
    let broken = broken_servers()?;
    let (descriptions, backends): (Vec<_>, Vec<_>) =
        broken.into_iter().map(|one| (one.description, one.backend)).unzip();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("vmcp.yaml");
    std::fs::write(&file, config(NamePolicy::Prefixed, &backends, ""))?;
    let output = Command::new(binary("vmcp")?).arg("tools").arg("--config").arg(&file).output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{said}");
    let mut page = INTRODUCTION.to_owned();
    for (description, backend) in descriptions.iter().zip(&backends) {
        let start = format!("vmcp: backend `{}` (", backend.name);
        let line = said.lines().find(|line| line.starts_with(&start));
        let line = line.with_context(|| format!("nothing is said of {description}:\n{said}"))?;
        let (_, sentence) = line.split_once(" is not listed: ").context(line.to_owned())?;
        page += &format!("| {description} | {} |\n", without_ports(sentence));
    }
    let stored = std::fs::read_to_string(PAGE).unwrap_or_default();
    if std::env::var_os("UPDATE_EXPECT").is_some() && stored != page {
        std::fs::write(PAGE, page)?;
        return Ok(());
    }
    ensure!(stored == page, "docs/broken-servers.md is not what is said now:\n{page}");
    Ok(())
}

/// Replaces the ports of this run, so that the text is the same in each run.
fn without_ports(sentence: &str) -> String {
    let mut pieces = sentence.split("127.0.0.");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let rest = piece.trim_start_matches(|c: char| c.is_ascii_digit() || c == ':');
        text += "127.0.0.1:8000";
        text += rest;
    }
    text
}

fn broken_servers() -> anyhow::Result<Vec<Broken>> {
    let mut all = broken_processes();
    all.extend(unreachable_servers()?);
    all.extend(servers_that_answer_otherwise()?);
    Ok(all)
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn broken_processes() -> Vec<Broken> {
    let stdio = |name: &str, command: &Command| Backend::stdio(name, command).with("startTimeout: 3s");
    vec![
        Broken {
            description: "`command` is no program",
            backend: stdio("program", &Command::new("nosuch-server")),
        },
        Broken {
            description: "`command` is a path without a file",
            backend: stdio("path", &Command::new("/opt/nosuch/server")),
        },
        Broken {
            description: "`cwd` is no folder",
            backend: stdio("folder", &shell("cat")).with("cwd: /opt/nosuch"),
        },
        Broken {
            description: "a process that ends at once and says why",
            backend: stdio("ends", &shell("echo 'Error: TOKEN is not set' >&2; exit 3")),
        },
        Broken {
            description: "a process that ends at once and says nothing",
            backend: stdio("silent-end", &shell("exit 1")),
        },
        Broken {
            description: "a process that writes nothing",
            backend: stdio("silent", &shell("exec sleep 1000")),
        },
        Broken {
            description: "a process that installs for too long",
            backend: stdio("installs", &shell("echo 'resolving 212 packages' >&2; exec sleep 1000")),
        },
        Broken {
            description: "a process that serves HTTP",
            backend: stdio("listens", &shell("echo 'Running on http://0.0.0.0:8080' >&2; exec sleep 1000")),
        },
        Broken {
            description: "a program that is not an MCP server",
            backend: stdio("other", &shell("echo 'a menu'; exec sleep 1000")),
        },
    ]
}

fn unreachable_servers() -> anyhow::Result<Vec<Broken>> {
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let plain = serve(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")?;
    let secure = serve_tls("127.0.0.1:0")?;
    // The certificate names 127.0.0.1 only.
    let secure_elsewhere = serve_tls("127.0.0.2:0")?;
    // It accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent_address = silent.local_addr()?;
    thread::spawn(move || {
        let accepted: Vec<_> = silent.incoming().collect();
        drop(accepted);
    });
    Ok(vec![
        Broken {
            description: "no program listens at the address",
            backend: Backend::http("closed", format!("http://{closed}/mcp")),
        },
        Broken {
            description: "the host does not exist",
            backend: Backend::http("host", "https://mcp.nosuch.invalid/mcp"),
        },
        Broken {
            description: "the certificate is signed by an unknown authority",
            backend: Backend::http("certificate", format!("https://{secure}/mcp"))
                .with(&format!("caBundlePath: {:?}", authority("ratelimit-redis/tests/it/certificates")?)),
        },
        Broken {
            description: "the certificate is for another host",
            backend: Backend::http("certificate-host", format!("https://{secure_elsewhere}/mcp"))
                .with(&format!("caBundlePath: {:?}", authority("identity/tests/it/keys")?)),
        },
        Broken {
            description: "`https` where the server has no TLS",
            backend: Backend::http("no-tls", format!("https://{plain}/mcp")),
        },
        Broken {
            description: "`http` where the server has TLS",
            backend: Backend::http("tls", format!("http://{secure}/mcp")),
        },
        Broken {
            description: "the server accepts connections and does not answer",
            backend: Backend::http("no-answer", format!("http://{silent_address}/mcp"))
                .with("startTimeout: 3s"),
        },
    ])
}

fn servers_that_answer_otherwise() -> anyhow::Result<Vec<Broken>> {
    let page =
        serve(b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<!DOCTYPE html>")?;
    let json = serve(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}",
    )?;
    let missing = serve(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")?;
    let login = serve(b"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n")?;
    let failing = serve(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")?;
    let moved = serve(
        b"HTTP/1.1 308 Permanent Redirect\r\nlocation: https://elsewhere.invalid/mcp\r\ncontent-length: 0\r\n\r\n",
    )?;
    let no_get = serve(b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n")?;
    let http =
        |name: &str, address: SocketAddr, path: &str| Backend::http(name, format!("http://{address}{path}"));
    Ok(vec![
        Broken { description: "a web page", backend: http("page", page, "/") },
        Broken { description: "JSON that is not MCP", backend: http("json", json, "/health") },
        Broken {
            description: "404 at a path that is not the usual one",
            backend: http("missing", missing, "/api"),
        },
        Broken { description: "404 at the usual path", backend: http("missing-mcp", missing, "/mcp") },
        Broken {
            description: "a login is wanted and none is configured",
            backend: http("login", login, "/mcp"),
        },
        Broken {
            description: "the configured credential is refused",
            backend: http("refused", login, "/mcp").with("headers: {Authorization: Bearer old}"),
        },
        Broken { description: "an error of the server", backend: http("failing", failing, "/mcp") },
        Broken { description: "a redirect to another host", backend: http("moved", moved, "/mcp") },
        Broken {
            description: "`transport: sse` for a server of streamable HTTP",
            backend: Backend::sse("not-sse", format!("http://{no_get}/mcp")),
        },
    ])
}

/// Answers every request with these bytes, and returns the address.
fn serve(answer: &'static [u8]) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer_requests(stream, answer));
        }
    });
    Ok(address)
}

/// Answers each request of a connection until the client closes it. Each is read as a whole before its answer: a
/// connection that is closed with unread data is reset, and the answer is lost.
fn answer_requests(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut piece = [0; 4 << 10];
    loop {
        let read = stream.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..read]);
        if is_whole(&request) {
            request.clear();
            stream.write_all(answer)?;
        }
    }
}

/// Whether these bytes are a whole HTTP request, or the start of a TLS handshake, which is never one.
fn is_whole(request: &[u8]) -> bool {
    const TLS_HANDSHAKE: u8 = 0x16;
    if request.first() == Some(&TLS_HANDSHAKE) {
        return true;
    }
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    body.len() >= length.unwrap_or(0)
}

/// A server with TLS that closes each connection after the handshake.
fn serve_tls(at: &str) -> anyhow::Result<SocketAddr> {
    let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/identity/tests/it/keys");
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_file_iter(keys.join("server.pem"))?.collect();
    let key = PrivatePkcs8KeyDer::from(std::fs::read(keys.join("server.pk8"))?);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certificates?, key.into())?;
    let config = Arc::new(config);
    let listener = TcpListener::bind(at)?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if let Ok(mut connection) = rustls::ServerConnection::new(Arc::clone(&config)) {
                // The client may refuse the certificate.
                let _ = connection.complete_io(&mut stream);
            }
        }
    });
    Ok(address)
}

fn authority(folder: &str) -> anyhow::Result<PathBuf> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates").canonicalize()?;
    Ok(crates.join(folder).join("authority.pem"))
}
