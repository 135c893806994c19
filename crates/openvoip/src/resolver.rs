//! What domains say of names, asked beside the packets.
//!
//! A thread for each name, few at once, each for three seconds at most: a server that never answers holds up nobody
//! else. Asked are the servers that the owner names, else those of the system (`/etc/resolv.conf`); they do the work of a
//! resolver. What they say of signatures (DNSSEC) counts where the server runs on this machine, since between it and us
//! nobody else speaks; of any other it is heard as plain DNS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use mio::Waker;
use wire::dns::{self, NoTexts, Texts};
use wire::domain::{self, Way, Word};

/// Names asked about at once.
const MAX_AT_ONCE: usize = 16;

/// For so long a name is asked about, everything included: a caller waits no longer.
const PATIENCE: Duration = Duration::from_secs(3);

/// For so long one server is waited for, before another is asked or the same once more.
const TRY: Duration = Duration::from_millis(900);

/// How often each server is asked.
const ROUNDS: usize = 2;

/// Servers that are asked, at most; more has no system.
pub(crate) const MAX_SERVERS: usize = 3;

/// Answers to other questions after which somebody is guessing: TCP cannot be guessed at.
const MAX_STRAYS: usize = 8;

/// What a thread may take: it holds one answer.
const STACK: usize = 256 * 1024;

/// A word, and how long it may be remembered.
type Said = (Word, Duration);

const SILENT: Said = (Word::Silent, Duration::ZERO);

/// Asks domains, and wakes the loop for each word.
pub(crate) struct Resolver {
    waker: Arc<Waker>,
    /// Those that the owner names.
    servers: Vec<SocketAddr>,
    running: Vec<(String, Receiver<Said>)>,
}

impl Resolver {
    /// Nothing is wanted yet.
    pub(crate) fn new(waker: Arc<Waker>, servers: Vec<SocketAddr>) -> Resolver {
        Resolver { waker, servers, running: Vec::new() }
    }

    /// Has a domain asked; `false` if too many are being asked, or the system has no thread.
    pub(crate) fn want(&mut self, name: &str) -> bool {
        if self.running.len() >= MAX_AT_ONCE {
            return false;
        }
        let (sender, said) = sync_channel(1);
        let (waker, own, asked) = (Arc::clone(&self.waker), self.servers.clone(), name.to_owned());
        let body = move || {
            let servers = if own.is_empty() { servers_of_the_system() } else { own };
            let _ = sender.send(ask(&servers, &asked));
            let _ = waker.wake();
        };
        let thread = thread::Builder::new().name("openvoip-dns".into()).stack_size(STACK).spawn(body);
        if thread.is_ok() {
            self.running.push((name.to_owned(), said));
        }
        thread.is_ok()
    }

    /// The next name whose domain was asked, or whose thread has died.
    pub(crate) fn done(&mut self) -> Option<(String, Said)> {
        let (index, said) =
            self.running.iter().enumerate().find_map(|(index, (_, said))| match said.try_recv() {
                Ok(said) => Some((index, said)),
                Err(TryRecvError::Disconnected) => Some((index, SILENT)),
                Err(TryRecvError::Empty) => None,
            })?;
        Some((self.running.swap_remove(index).0, said))
    }
}

/// The servers that the system asks.
fn servers_of_the_system() -> Vec<SocketAddr> {
    read_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn read_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses.map(|ip| SocketAddr::new(ip, 53)).take(MAX_SERVERS).collect()
}

/// Asks the domain of a name whose it is and, if it does not say, whether it speaks of every name.
fn ask(servers: &[SocketAddr], name: &str) -> Said {
    let end = Instant::now() + PATIENCE;
    let asked = |place: Option<String>| place.and_then(|place| texts(servers, &place, end));
    let lasts = |found: &Texts| Duration::from_secs(found.ttl.into());
    let Some((found, way)) = asked(domain::place_of_name(name)) else { return SILENT };
    if let Some(word) = domain::read_name(&found, way) {
        return (word, lasts(&found));
    }
    let Some((all, _)) = asked(domain::place_of_all(name)) else { return SILENT };
    let word = if domain::speaks_of_all(&all) { Word::Nobody } else { Word::Nothing };
    (word, lasts(&found).min(lasts(&all)))
}

/// The texts at a place, by the first server that says them.
fn texts(servers: &[SocketAddr], place: &str, end: Instant) -> Option<(Texts, Way)> {
    let all = (0..ROUNDS).flat_map(|_| servers.iter().take(MAX_SERVERS));
    for server in all {
        match exchange(*server, place, end) {
            Ok(Ok(found)) => {
                let is_checked = found.authentic && server.ip().is_loopback();
                return Some((found, if is_checked { Way::Dnssec } else { Way::Dns }));
            }
            Ok(Err(no)) => tracing::debug!("{server} about {place}: {no}"),
            Err(e) => tracing::debug!("{server} about {place}: {e}"),
        }
    }
    None
}

/// Asks one server over UDP, and over TCP where that says too little.
fn exchange(server: SocketAddr, place: &str, end: Instant) -> io::Result<Result<Texts, NoTexts>> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).map_err(io::Error::other)?;
    let id = u16::from_be_bytes(id);
    let question = dns::question(id, place).ok_or(ErrorKind::InvalidInput)?;
    match over_udp(server, (id, place), &question, end.min(Instant::now() + TRY))? {
        // Not all of it, more than was agreed to, or somebody guesses.
        Err(NoTexts::Cut | NoTexts::Garbled | NoTexts::Other) => {
            Ok(dns::read(id, place, &over_tcp(server, &question, end)?))
        }
        said => Ok(said),
    }
}

fn over_udp(
    server: SocketAddr,
    (id, place): (u16, &str),
    question: &[u8],
    end: Instant,
) -> io::Result<Result<Texts, NoTexts>> {
    let any: IpAddr = if server.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    // A port of its own for each question, and nobody else's answers.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = [0; dns::MAX_DATAGRAM as usize];
    for _ in 0..MAX_STRAYS {
        socket.set_read_timeout(Some(left(end)?))?;
        let length = socket.recv(&mut buffer)?;
        match dns::read(id, place, &buffer[..length]) {
            Err(NoTexts::Other) => {}
            said => return Ok(said),
        }
    }
    Ok(Err(NoTexts::Other))
}

fn over_tcp(server: SocketAddr, question: &[u8], end: Instant) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, left(end)?)?;
    stream.set_write_timeout(Some(left(end)?))?;
    stream.write_all(&[&(question.len() as u16).to_be_bytes(), question].concat())?;
    let mut length = [0; 2];
    read_until(&mut stream, &mut length, end)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    read_until(&mut stream, &mut answer, end)?;
    Ok(answer)
}

/// Fills the buffer, however slowly it comes, but not beyond the end of all patience.
fn read_until(stream: &mut TcpStream, mut buffer: &mut [u8], end: Instant) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            length => buffer = &mut buffer[length..],
        }
    }
    Ok(())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use mio::{Poll, Token};

    use super::*;

    fn resolver(servers: Vec<SocketAddr>) -> Resolver {
        let poll = Poll::new().unwrap();
        Resolver::new(Arc::new(Waker::new(poll.registry(), Token(7)).unwrap()), servers)
    }

    #[test]
    fn the_servers_of_the_system_are_read() {
        let text = "# nameserver 192.0.2.9\nsearch lan\nnameserver 192.0.2.1 # home\n nameserver\t2001:db8::1\n\
                    nameserver nonsense\nnameserver 10.0.0.1\nnameserver 10.0.0.2\n";
        let read: Vec<String> = read_servers(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(read, ["192.0.2.1:53", "[2001:db8::1]:53", "10.0.0.1:53"]);
    }

    #[test]
    fn a_server_that_never_answers_is_given_up_and_few_names_are_asked_about_at_once() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut resolver = resolver(vec![silent.local_addr().unwrap()]);
        let began = Instant::now();
        let taken = (0..40).filter(|n| resolver.want(&format!("u{n}@camp.example"))).count();
        assert_eq!(taken, MAX_AT_ONCE);
        let mut said = 0;
        while said < taken {
            match resolver.done() {
                Some((_, word)) => {
                    assert_eq!(word, SILENT);
                    said += 1;
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
            assert!(began.elapsed() < PATIENCE * 3, "{said} of {taken}");
        }
        assert!(began.elapsed() >= TRY * 2 && resolver.want("again@camp.example"));
    }

    #[test]
    fn a_name_whose_thread_has_died_is_answered() {
        let mut resolver = resolver(Vec::new());
        let (_, dead) = sync_channel(1);
        resolver.running.push(("alice@camp.example".into(), dead));
        assert_eq!(resolver.done(), Some(("alice@camp.example".into(), SILENT)));
        assert_eq!(resolver.done(), None);
    }
}
