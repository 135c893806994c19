//! The keys of this owner's names, and the words that bring them back on another machine.
//!
//! All of it is done here, with files; no peer need run.

use std::io::{IsTerminal, Read};

use clap::Subcommand;
use node::config::is_name;
use node::{User, canonical_aor};
use openvoip::control::{self, exit};
use openvoip::home::Home;
use openvoip::words;
use serde_json::{Value, json};
use wire::{Number, domain};
use zeroize::Zeroizing;

use super::answer::{Context, print};

/// Longest input that is read for words.
const MAX_INPUT: u64 = 4_096;

/// Your names: their keys, and words to write down. Who has a name's key is that person, at any peer.
#[derive(Subcommand)]
pub(crate) enum Identity {
    /// The names whose keys are here.
    List,
    /// Show a name's key as 24 words. Write them on paper: they bring the name back when this machine is gone, and
    /// whoever reads them can take it.
    Words {
        /// The name, such as alice@camp.example.
        name: String,
    },
    /// What the domain of a name publishes in DNS to prove whose it is (docs/names.md).
    Proof {
        /// The name, such as alice@camp.example.
        name: String,
    },
    /// Make a name yours on this machine from its 24 words, read from standard input.
    Restore {
        /// The name, such as alice@camp.example.
        name: String,
    },
}

impl Identity {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let answer = Home::open(&context.data_dir)
            .map_err(|e| (e, "openvoip identity list --data-dir DIR"))
            .and_then(|home| match &self {
                Identity::List => list(&home),
                Identity::Proof { name } => proof(&home, &canonical_aor(name, "")),
                Identity::Words { name } => show_words(&home, &canonical_aor(name, "")),
                Identity::Restore { name } => restore(&home, &canonical_aor(name, "")),
            });
        match answer {
            // To be read by a person, four in a row.
            Ok(body) if !context.json && body["words"].is_string() => {
                print_words(body["words"].as_str().unwrap_or_default());
                exit::OK
            }
            Ok(body) if !context.json && body["record"].is_object() => {
                print_proof(&body);
                exit::OK
            }
            Ok(body) => context.show(control::answer("identity", exit::OK, body)),
            Err((error, next)) => context.show(control::failure(exit::FAILED, &error, next)),
        }
    }
}

type Answer = Result<Value, (String, &'static str)>;

fn list(home: &Home) -> Answer {
    let stretches = home.stretches();
    let names = home.users().into_iter().map(|name| {
        let user = home.user(&name).map_err(|e| (e, "openvoip identity restore NAME"))?;
        let key = user.keys.public();
        let number = stretches.get(&key).map(|stretch| Number::of(&key, stretch).to_string());
        Ok(json!({ "name": name, "public_key": key.to_string(), "number": number }))
    });
    Ok(json!({ "names": names.collect::<Result<Vec<Value>, _>>()? }))
}

/// A user whose key is here.
fn known(home: &Home, name: &str) -> Result<User, (String, &'static str)> {
    if !home.users().iter().any(|known| known == name) {
        return Err((format!("there is no key of {name} here"), "openvoip identity list"));
    }
    home.user(name).map_err(|e| (e, "openvoip identity list"))
}

fn proof(home: &Home, name: &str) -> Answer {
    let key = known(home, name)?.keys.public();
    let fits = |place: &String| wire::dns::question(0, place).is_some();
    let place = domain::place_of_name(name).filter(fits);
    let (Some(place), Some(of_all)) = (place, domain::place_of_all(name)) else {
        let problem = format!(
            "{name} cannot stand in DNS: that takes a domain with a dot, and letters, digits and dashes, 63 between two dots"
        );
        return Err((problem, "openvoip identity words NAME"));
    };
    let record = |place: String, text: String| json!({ "place": place + ".", "type": "TXT", "text": text });
    Ok(json!({
        "name": name, "public_key": key.to_string(), "record": record(place, domain::text_of(&key)),
        "if_all_have_one": record(of_all, domain::text_of_all()),
    }))
}

/// To be pasted into a zone.
fn print_proof(body: &Value) {
    let line = |record: &Value| {
        let [place, text] = ["place", "text"].map(|field| record[field].as_str().unwrap_or_default());
        format!("{place} 3600 IN TXT \"{text}\"")
    };
    print(line(&body["record"]));
    eprintln!("Once every name of the domain has such a record, this says that others are nobody's:");
    eprintln!("{}", line(&body["if_all_have_one"]));
}

fn show_words(home: &Home, name: &str) -> Answer {
    let user = known(home, name)?;
    eprintln!("Whoever has these words is {name}. Write them on paper, and show them to nobody.");
    Ok(json!({ "name": name, "words": *words::of(&user.keys) }))
}

fn print_words(words: &str) {
    let words: Vec<&str> = words.split(' ').collect();
    for (row, four) in words.chunks(4).enumerate() {
        let numbered =
            four.iter().enumerate().map(|(at, word)| format!("{:>2} {word:<10}", row * 4 + at + 1));
        print(numbered.collect::<Vec<_>>().join(" ").trim_end());
    }
}

fn restore(home: &Home, name: &str) -> Answer {
    const AGAIN: &str = "openvoip identity restore NAME";
    if !name.split_once('@').is_some_and(|(user, domain)| is_name(user) && is_name(domain)) {
        return Err((format!("'{name}' is no whole name, such as alice@camp.example"), AGAIN));
    }
    let input = std::io::stdin();
    if input.is_terminal() {
        eprintln!("Type the {} words of {name}, then Ctrl-D on a line of its own.", words::COUNT);
    }
    let mut text = Zeroizing::new(String::new());
    input
        .take(MAX_INPUT)
        .read_to_string(&mut text)
        .map_err(|e| (format!("cannot read words: {e}"), AGAIN))?;
    let key = words::read(&text).map_err(|e| (e, AGAIN))?;
    home.restore_user(name, &key).map_err(|e| (e, "openvoip identity list"))?;
    Ok(
        json!({ "name": name, "public_key": key.public().to_string(), "next": format!("openvoip up --user {name}") }),
    )
}
