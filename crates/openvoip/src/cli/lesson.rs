//! `openvoip lab --interactive` and `--namespaces`: lines in, answers out.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use node::Algorithm;
use openvoip::control::{self, exit};
use openvoip::lab::{self, Audience, Bench, Cable, InProcess, Namespaces, Said, Session};

use super::answer::{Context, print};

/// Lines read before they are carried out.
const MAX_AHEAD: usize = 64;

/// Peers at the beginning when nothing else is said.
const PEERS: usize = 8;

/// Which laboratory.
pub(super) struct Lesson {
    /// How many peers at the beginning.
    pub(super) peers: Option<usize>,
    /// Whether each is a process in a namespace of its own, and how they hang together there.
    pub(super) namespaces: Option<Cable>,
    /// The overlay algorithm.
    pub(super) overlay: Algorithm,
    /// Whom chance takes.
    pub(super) seed: u64,
}

impl Lesson {
    pub(super) fn run(self, context: &Context) -> i32 {
        let peers = self.peers.unwrap_or(PEERS);
        let broken = |e: String| context.show(control::failure(exit::FAILED, &e, "openvoip lab --help"));
        let mut bench: Box<dyn Bench> = match (self.namespaces, std::env::var_os(lab::DIR_VARIABLE)) {
            (None, _) => match InProcess::new(self.overlay, self.seed) {
                Ok(bench) => Box::new(bench),
                Err(e) => return broken(e),
            },
            (Some(_), None) => {
                return lab::enclose().unwrap_or_else(|e| {
                    context.show(control::failure(exit::UNMET, &e, "openvoip lab --interactive"))
                });
            }
            (Some(cable), Some(dir)) => {
                // Here the first process of its namespace, which no signal ends unless it is handled.
                let _ = ctrlc::set_handler(|| std::process::exit(130));
                match Namespaces::new(PathBuf::from(dir), self.overlay, cable) {
                    Ok(bench) => Box::new(bench),
                    Err(e) => {
                        return context.show(control::failure(exit::UNMET, &e, "openvoip lab --interactive"));
                    }
                }
            }
        };
        let mut reader = Reader { context, is_person: std::io::stdin().is_terminal() };
        let mut session = Session::new(bench.as_mut(), self.seed);
        match session.add(peers) {
            Ok(said) => reader.hear(said),
            Err(failure) => return context.show(failure),
        }
        session.run(&lines(), &mut reader).unwrap_or_else(broken)
    }
}

/// What is typed, line by line.
fn lines() -> Receiver<String> {
    let (sender, receiver) = sync_channel(MAX_AHEAD);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Who sits before the laboratory, or the program that does.
struct Reader<'a> {
    context: &'a Context,
    is_person: bool,
}

impl Audience for Reader<'_> {
    fn ready(&mut self) {
        if self.is_person {
            let _ = write!(std::io::stderr(), "lab> ");
        }
    }

    fn hear(&mut self, said: Said) {
        match said.text {
            Some(text) if !self.context.json => print(text),
            _ => drop(self.context.show(said.value)),
        }
    }

    fn is_person(&self) -> bool {
        self.is_person
    }
}
