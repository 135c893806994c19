//! The console of 2008, on the control protocol of today: one command a line, until the end.

use serde_json::{Value, json};

use super::answer::{Context, print};
use super::overlay;

const HELP: &str = "\
showrt | shownt | showro | showcp          own routing table, neighbours, records, connections
getrt | getnt | getro NODE                 the same of another peer: IP PORT, IP:PORT, Node-ID or user
insert KEY VALUE | remove KEY              store a value, withdraw it
rlookup KEY                                find by key: what `insert` stored, or a key in hexadecimal
ulookup USER                               find a user
set NAME VALUE [NODE] | unset NAME [NODE]  a load value (cpu, bandwidth), or with NODE also `log`;
                                           at another peer with the key of `openvoip operator key`
ping WHO | status | help | quit";

/// Reads commands from standard input; the exit code is 0 whatever they came to.
pub(crate) fn run(context: &Context) -> i32 {
    for line in std::io::stdin().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.first() {
            None => {}
            Some(&("quit" | "exit")) => break,
            Some(_) => match answer(context, &words) {
                Some(answer) => drop(context.show(answer)),
                None => print(HELP),
            },
        }
    }
    0
}

/// The answer to one line; `None` if it is not a command.
fn answer(context: &Context, words: &[&str]) -> Option<Value> {
    let word = |n: usize| words.get(n).copied().unwrap_or_default();
    let local = |table: &str| json!({ "command": table });
    let remote = |table: &str| json!({ "command": table, "node": node_from(&words[1..]) });
    let request = match (words[0], words.len()) {
        ("showrt", 1) => local("routes"),
        ("shownt", 1) => local("neighbors"),
        ("showro", 1) => local("objects"),
        ("showcp", 1) => local("connections"),
        ("status", 1) => local("status"),
        ("getrt", 2..=3) => remote("routes"),
        ("getnt", 2..=3) => remote("neighbors"),
        ("getro", 2..=3) => remote("objects"),
        ("insert", 3..) => json!({ "command": "put", "key": word(1), "value": words[2..].join(" ") }),
        ("remove", 2) => json!({ "command": "remove", "key": word(1) }),
        ("rlookup", 2) if word(1).parse::<wire::Key>().is_ok() => {
            return Some(overlay::lookup(context, json!({ "command": "lookup", "who": word(1) }), None));
        }
        ("rlookup", 2) => json!({ "command": "get", "key": word(1) }),
        ("ulookup", 2) => json!({ "command": "lookup", "who": word(1) }),
        ("set", 3..=5) => {
            json!({ "command": "set", "name": word(1), "value": word(2), "node": node_from(&words[3..]) })
        }
        ("unset", 2..=4) => {
            json!({ "command": "set", "name": word(1), "value": null, "node": node_from(&words[2..]) })
        }
        ("ping", 2) => json!({ "command": "ping", "who": word(1) }),
        _ => return None,
    };
    Some(context.ask(&request))
}

/// A peer as the console names it: IP and port apart as in 2008, or together, or a Node-ID or a user.
fn node_from(words: &[&str]) -> String {
    match words {
        [ip, port, ..] if ip.parse::<std::net::IpAddr>().is_ok() => format!("{ip}:{port}"),
        [node, ..] => (*node).to_owned(),
        [] => String::new(),
    }
}
