//! A client over stdio: one message per line, to a child process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{Answer, Client, ProtocolFamily, add_stateless_meta, initialize_params, single_member};
use crate::process::Process;
use crate::wait::TIMEOUT;

/// A client of a server that it has started itself.
pub struct StdioClient {
    process: Process,
    input: ChildStdin,
    lines: Receiver<String>,
    family: ProtocolFamily,
    last_id: u64,
    // The folder must exist while the process may write to it.
    _state: Option<tempfile::TempDir>,
}

impl StdioClient {
    /// Starts the server, and performs the handshake if the family has one. Without `XDG_STATE_HOME` in
    /// `command`, the server has a state folder of its own.
    pub fn start(command: &mut Command, family: ProtocolFamily) -> anyhow::Result<Self> {
        let state = if command.get_envs().any(|(name, _)| name == "XDG_STATE_HOME") {
            None
        } else {
            let folder = tempfile::tempdir()?;
            command.env("XDG_STATE_HOME", folder.path());
            Some(folder)
        };
        let mut process = Process::start_piped(command)?;
        let input = process.child().stdin.take().context("stdin is piped")?;
        let output = process.child().stdout.take().context("stdout is piped")?;
        let (lines, incoming) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        let mut client = Self { process, input, lines: incoming, family, last_id: 0, _state: state };
        if family == ProtocolFamily::Sessions {
            client.request("initialize", initialize_params(&json!({})))?;
            client.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))?;
        }
        Ok(client)
    }

    fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        writeln!(self.input, "{message}")?;
        Ok(self.input.flush()?)
    }

    /// Refuses a request of the server, because this client declares no capabilities.
    fn refuse(&mut self, id: &Value) -> anyhow::Result<()> {
        let mut refusal = single_member("id", id.clone());
        refusal["jsonrpc"] = json!("2.0");
        refusal["error"] = json!({"code": -32601, "message": "not offered"});
        self.send(&refusal)
    }
}

impl Client for StdioClient {
    fn ask(&mut self, method: &str, params: Value) -> anyhow::Result<Answer> {
        self.last_id += 1;
        let id = json!(self.last_id);
        let params = add_stateless_meta(self.family, &json!({}), params);
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))?;
        loop {
            let text = match self.lines.recv_timeout(TIMEOUT) {
                Ok(text) => text,
                Err(RecvTimeoutError::Timeout) => bail!("{method}: no answer. {}", self.process.output()),
                Err(RecvTimeoutError::Disconnected) => {
                    bail!("{method}: it is gone. {}", self.process.output())
                }
            };
            // Some servers print other lines before their first message.
            let Ok(message) = serde_json::from_str::<Value>(&text) else {
                continue;
            };
            match (message.get("method"), message.get("id")) {
                (Some(_), Some(asked)) => self.refuse(asked)?,
                (None, Some(answered)) if *answered == id => return Ok(Answer { status: 200, text }),
                _ => {}
            }
        }
    }
}
