//! The control socket: who is connected, what they send, and what waits to be sent to them.
//!
//! Only the owner of the data directory can open it (mode 0600). A program may send any number of
//! requests over one connection and close its sending side after the last: it still gets its answers.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use serde_json::Value;

use crate::control::{MAX_ANSWER, MAX_REQUEST};
use crate::home::Home;

/// Front ends connected at once; one more is turned away.
const MAX_CLIENTS: usize = 64;

/// Tokens of clients begin here. None is used twice, so that no answer reaches the wrong client.
const FIRST_CLIENT: usize = crate::run::FIRST_OF_CALLER;

struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    output: VecDeque<u8>,
    /// It sends no more requests.
    finished: bool,
}

/// The listening socket and its clients.
pub(super) struct ControlSocket {
    path: PathBuf,
    listener: UnixListener,
    clients: BTreeMap<Token, Client>,
    next: Token,
}

impl ControlSocket {
    /// Listens in a data directory; a socket left behind by a peer that died is replaced.
    pub(super) fn open(data_dir: &Path, registry: &Registry, token: Token) -> Result<ControlSocket, String> {
        let path = Home::control_socket(data_dir);
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(format!(
                "a peer runs on {} already: stop it with `openvoip --data-dir {} down`, or choose another \
                 directory with --data-dir",
                data_dir.display(),
                data_dir.display()
            ));
        }
        let _ = std::fs::remove_file(&path);
        let in_words = |e: std::io::Error| format!("cannot listen on {}: {e}", path.display());
        let mut listener = UnixListener::bind(&path).map_err(in_words)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(in_words)?;
        registry.register(&mut listener, token, Interest::READABLE).map_err(in_words)?;
        Ok(ControlSocket { path, listener, clients: BTreeMap::new(), next: Token(FIRST_CLIENT) })
    }

    /// Takes in whoever knocks.
    pub(super) fn accept(&mut self, registry: &Registry) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            if self.clients.len() >= MAX_CLIENTS {
                continue;
            }
            let token = self.next;
            self.next = Token(token.0 + 1);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut stream, token, interest).is_ok() {
                let client = Client { stream, input: Vec::new(), output: VecDeque::new(), finished: false };
                self.clients.insert(token, client);
            }
        }
    }

    /// Reads what a client sent; returns its whole lines.
    pub(super) fn read(&mut self, token: Token) -> Vec<Vec<u8>> {
        let Some(client) = self.clients.get_mut(&token) else { return Vec::new() };
        let mut buffer = [0; 16_384];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    client.finished = true;
                    break;
                }
                Ok(len) => client.input.extend_from_slice(&buffer[..len]),
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.clients.remove(&token);
                    return Vec::new();
                }
            }
            if client.input.len() > MAX_REQUEST {
                self.clients.remove(&token);
                return Vec::new();
            }
        }
        let whole = client.input.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        let lines: Vec<u8> = client.input.drain(..whole).collect();
        let is_there = |line: &&[u8]| !line.trim_ascii().is_empty();
        lines.split(|b| *b == b'\n').filter(is_there).map(<[u8]>::to_vec).collect()
    }

    /// Sends an answer, now or as the client takes it; one that takes none is left.
    pub(super) fn send(&mut self, token: Token, answer: &Value) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.output.extend(answer.to_string().as_bytes());
        client.output.push_back(b'\n');
        self.flush(token);
        if self.clients.get(&token).is_some_and(|c| c.output.len() > MAX_ANSWER) {
            self.clients.remove(&token);
        }
    }

    /// Sends what waits.
    pub(super) fn flush(&mut self, token: Token) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        while !client.output.is_empty() {
            match client.stream.write(client.output.as_slices().0) {
                Ok(written) => drop(client.output.drain(..written)),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.clients.remove(&token);
                    return;
                }
            }
        }
    }

    /// A client is gone, or has got all it asked for.
    pub(super) fn close(&mut self, token: Token) {
        self.clients.remove(&token);
    }

    /// Whether a client is connected.
    pub(super) fn is_open(&self, token: Token) -> bool {
        self.clients.contains_key(&token)
    }

    /// Clients that send no more requests, and to whom nothing waits to be sent.
    pub(super) fn finished(&self) -> Vec<Token> {
        let finished = |(_, c): &(&Token, &Client)| c.finished && c.output.is_empty();
        self.clients.iter().filter(finished).map(|(token, _)| *token).collect()
    }

    /// Takes the socket out of the directory: who connects from now on finds no peer running.
    pub(super) fn hide(&self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.hide();
    }
}
