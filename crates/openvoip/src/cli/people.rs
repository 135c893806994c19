//! People: their phones, calls and messages, their keys, and whether their peers are there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use node::dial;
use openvoip::control::{self, exit};
use serde_json::{Value, json};

use super::answer::Context;
use super::seconds;

/// Phones that may register at this peer.
#[derive(Subcommand)]
pub(crate) enum Phone {
    /// Let a phone register; a user who is new at this peer is published.
    Add {
        /// As this user of the peer.
        user: String,
        /// With this password.
        #[arg(long)]
        password: String,
    },
    /// Who may register, and which phones are there now.
    List,
    /// Let a user's phones register no more.
    Rm {
        /// The user.
        user: String,
    },
    /// Let who tried wrong passwords too often try again; `status` says who is locked out.
    Unlock {
        /// A user or an IP address [default: everybody].
        #[arg(value_name = "USER|IP")]
        who: Option<String>,
    },
}

impl Phone {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let request = match self {
            Phone::Add { user, password } => {
                json!({ "command": "phone add", "who": user, "password": password })
            }
            Phone::List => json!({ "command": "phone list" }),
            Phone::Rm { user } => json!({ "command": "phone rm", "who": user }),
            Phone::Unlock { who } => json!({ "command": "phone unlock", "who": who }),
        };
        context.show(context.ask(&request))
    }
}

/// What a keypad dials to reach a call sign, by the rule of HAMNET; or the call sign that was dialled.
#[derive(Args)]
pub(crate) struct Number {
    /// A call sign like IN3FQQ, or digits.
    #[arg(value_name = "CALL_SIGN|DIGITS", value_parser = number)]
    number: (String, String),
}

impl Number {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let (call_sign, digits) = self.number;
        let body = json!({ "call_sign": call_sign, "digits": digits });
        context.show(control::answer("number", exit::OK, body))
    }
}

/// A call sign and its digits, by either.
fn number(text: &str) -> Result<(String, String), String> {
    let call_sign = dial::call_sign(text).unwrap_or_else(|| text.to_owned());
    match dial::digits(&call_sign) {
        Some(digits) => Ok((call_sign.to_ascii_uppercase(), digits)),
        None => {
            Err("neither a call sign, which has 3 to 12 letters and digits, nor the digits of one".into())
        }
    }
}

/// Send a text message.
#[derive(Args)]
pub(crate) struct Msg {
    /// To whom: a user, the number of one, or the public key.
    who: String,
    /// The text.
    text: String,
    /// As this user of the peer [default: the first].
    #[arg(long, value_name = "USER")]
    from: Option<String>,
}

impl Msg {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let request = json!({ "command": "msg", "who": self.who, "text": self.text, "from": self.from });
        context.show(context.ask(&request))
    }
}

/// Call somebody, without a phone: `echo` always answers.
#[derive(Args)]
pub(crate) struct Call {
    /// Whom: a user, the number of one, or the public key.
    who: String,
    /// Play this WAV file (16-bit PCM) once [default: a tone of 440 Hz].
    #[arg(long, value_name = "FILE")]
    play: Option<PathBuf>,
    /// Write what is heard to this WAV file.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Hang up so long after the answer, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    duration: f64,
    /// As this user of the peer [default: the first].
    #[arg(long, value_name = "USER")]
    from: Option<String>,
}

impl Call {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let samples = match self.play.as_deref().map(read_wav).transpose() {
            Ok(samples) => samples,
            Err(e) => {
                return context.show(control::failure(exit::FAILED, &e, "give a 16-bit PCM WAV file"));
            }
        };
        let directory = self.record.as_deref().and_then(Path::parent).filter(|d| !d.as_os_str().is_empty());
        if let Some(missing) = directory.filter(|d| !d.is_dir()) {
            let reason = format!("there is no directory {}", missing.display());
            return context.show(control::failure(exit::FAILED, &reason, "choose another file to record to"));
        }
        let duration = self.duration.max(0.1);
        let request = json!({
            "command": "call", "who": self.who, "from": self.from, "play": samples,
            "record": self.record.is_some(), "duration": duration,
        });
        if request.to_string().len() > control::MAX_REQUEST {
            let reason = "there is too much sound in the file to play";
            return context.show(control::failure(exit::FAILED, reason, "cut it to half a minute"));
        }
        let mut answer = context.ask_for(&request, Duration::from_secs_f64(duration));
        let recording = answer.as_object_mut().and_then(|o| o.remove("recording"));
        let written = match (&self.record, recording) {
            (Some(path), Some(Value::Array(samples))) => write_wav(path, &samples),
            _ => Ok(()),
        };
        let code = context.show(answer);
        match written {
            Ok(()) => code,
            Err(e) => {
                eprintln!("openvoip: {e}");
                exit::FAILED
            }
        }
    }
}

fn read_wav(path: &Path) -> Result<Vec<i16>, String> {
    let bytes = std::fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let wav = media::Wav::read(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(wav.mono_at(8_000))
}

fn write_wav(path: &Path, samples: &[Value]) -> Result<(), String> {
    let samples = samples.iter().filter_map(Value::as_i64).map(|s| s as i16).collect();
    let wav = media::Wav { rate: 8_000, channels: 1, samples };
    let bytes = wav.write().map_err(|e| e.to_string())?;
    std::fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Keys of people: the first one that answered to a name is kept, and another one is not called.
#[derive(Subcommand)]
pub(crate) enum Pins {
    /// Whose keys are known, and where another one has answered since.
    List,
    /// Take the key of a name for the person's, once you have checked it with them: the one its domain names, or the
    /// changed one, or the one known. It is never forgotten by itself.
    Accept {
        /// The name.
        name: String,
        /// How the key begins, so that it is that one and no other.
        #[arg(default_value = "")]
        key: String,
    },
    /// Forget the key of a name: the next one counts as the first.
    Forget {
        /// The name.
        name: String,
    },
}

impl Pins {
    pub(crate) fn run(self, context: &Context) -> i32 {
        match self {
            Pins::List => context.simple("pins list"),
            Pins::Accept { name, key } => {
                context.show(context.ask(&json!({ "command": "pins accept", "who": name, "key": key })))
            }
            Pins::Forget { name } => {
                context.show(context.ask(&json!({ "command": "pins forget", "who": name })))
            }
        }
    }
}

/// Ask a peer whether it lives, and how far away it is.
#[derive(Args)]
pub(crate) struct Ping {
    /// A user, an address IP:PORT, or a Node-ID.
    who: String,
    /// How often.
    #[arg(short = 'c', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// Pause between two, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    interval: f64,
}

impl Ping {
    pub(crate) fn run(self, context: &Context) -> i32 {
        let mut answers = Vec::new();
        for n in 0..self.count {
            if n > 0 {
                std::thread::sleep(Duration::from_secs_f64(self.interval));
            }
            let answer = context.ask(&json!({ "command": "ping", "who": self.who }));
            let hopeless = [exit::NOT_RUNNING, exit::NOT_FOUND].map(Value::from).contains(&answer["exit"]);
            if hopeless && answers.is_empty() {
                return context.show(answer);
            }
            if !context.json {
                let rtt = answer["rtt_ms"].as_f64();
                let from = answer["address"].as_str().unwrap_or_default();
                let path = answer["path"].as_str().unwrap_or_default();
                match rtt {
                    Some(rtt) => eprintln!("reply from {} at {from} in {rtt:.1} ms ({path})", self.who),
                    None => eprintln!("no reply: {}", answer["error"].as_str().unwrap_or_default()),
                }
            }
            answers.push(answer);
        }
        context.show(summary(&self.who, &answers))
    }
}

/// Several pings as one answer.
fn summary(who: &str, answers: &[Value]) -> Value {
    let rtt = |answer: &Value| answer["rtt_ms"].as_f64();
    let times: Vec<f64> = answers.iter().filter_map(rtt).collect();
    let Some(last) = answers.iter().rev().find(|a| rtt(a).is_some()) else {
        // Nobody answered: the last failure says why.
        let mut failure = answers.last().cloned().unwrap_or_default();
        failure["sent"] = json!(answers.len());
        failure["received"] = json!(0);
        return failure;
    };
    let replies = answers
        .iter()
        .enumerate()
        .map(|(n, answer)| json!({ "sequence": n + 1, "rtt_ms": rtt(answer), "error": answer.get("error") }));
    let body = json!({
        "who": who,
        "sent": answers.len(),
        "received": times.len(),
        "node": last["node"],
        "address": last["address"],
        "path": last["path"],
        "rtt_ms": times.iter().sum::<f64>() / times.len() as f64,
        "min_ms": times.iter().copied().fold(f64::INFINITY, f64::min),
        "max_ms": times.iter().copied().fold(0.0, f64::max),
        "replies": replies.collect::<Vec<_>>(),
    });
    control::answer("ping", exit::OK, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_one_answer_with_the_mean_and_the_lost_ones() {
        let reply = |ms: f64| control::answer("ping", 0, json!({ "node": "ab", "rtt_ms": ms }));
        let lost = control::failure(exit::TIMEOUT, "no answer", "");
        let answer = summary("bob", &[reply(1.0), lost.clone(), reply(3.0)]);
        assert_eq!((&answer["sent"], &answer["received"]), (&json!(3), &json!(2)));
        assert_eq!(
            (&answer["rtt_ms"], &answer["min_ms"], &answer["max_ms"]),
            (&json!(2.0), &json!(1.0), &json!(3.0))
        );
        assert_eq!(answer["replies"][1]["error"], "no answer");
        let answer = summary("bob", &[lost.clone(), lost]);
        assert_eq!((&answer["exit"], &answer["sent"]), (&json!(exit::TIMEOUT), &json!(2)));
    }
}
