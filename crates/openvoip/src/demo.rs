//! A whole network on this machine: peers on real UDP sockets, two phones, a call that is heard.
//!
//! Everything is on 127.0.0.1 and nothing is left behind. The phones are SIP user agents of their own
//! with sockets of their own, registered at two different peers; whether they were heard is computed
//! from the samples they decoded.
//!
//! | file | holds |
//! |---|---|
//! | `network.rs` | the peers, and the loop that lets them and the phones act |
//! | `phones.rs` | the two phones |
//! | `judge.rs` | what should be, what was, the report |
//! | `picture.rs`, `canvas.rs` | the live picture of it, on a terminal |
//! | `sound.rs` | what bob's phone hears, played by this machine or kept as a file |

mod canvas;
mod judge;
mod network;
mod phones;
mod picture;
mod sound;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use node::{Algorithm, report};

use judge::{Findings, Judge};
use network::{Stage, ms};
use picture::Picture;
use sound::Speaker;

/// How long the two talk: long enough to judge it, and longer when somebody watches or listens.
const TALK: Duration = Duration::from_secs(4);
const TALK_WATCHED: Duration = Duration::from_secs(8);

/// A pause after each step when somebody watches.
const LOOK: Duration = Duration::from_millis(1_200);

/// Least and most peers in one process here.
const PEERS: std::ops::RangeInclusive<usize> = 3..=500;

/// What the message says.
const TEXT: &str = "hello bob";

/// How the demonstration shall be.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many peers, 3 to 500.
    pub peers: usize,
    /// The overlay algorithm.
    pub overlay: Algorithm,
    /// All keys follow from this number.
    pub seed: u64,
    /// Whether a failure makes the exit code 1.
    pub check: bool,
    /// Whether the report is printed as JSON.
    pub json: bool,
    /// Whether there is no picture even on a terminal.
    pub headless: bool,
    /// Whether this machine plays what bob's phone hears.
    pub listen: bool,
    /// Where to write what bob's phone heard, as a WAV file.
    pub wav: Option<PathBuf>,
}

/// Runs the demonstration; returns the exit code.
pub fn run(options: &Options) -> i32 {
    let interrupted = Arc::new(AtomicBool::new(false));
    let handler = Arc::clone(&interrupted);
    let _ = ctrlc::set_handler(move || handler.store(true, Ordering::SeqCst));
    // A JSON report on a terminal is for reading, not for watching.
    let picture = if options.headless || options.json { None } else { Picture::open() };
    let mut judge = Judge::new(picture.is_none());
    let played = play(options, &mut judge, picture, Arc::clone(&interrupted));
    match played {
        Ok(report) => {
            let ok = judge.conclude();
            if options.json {
                let _ = writeln!(std::io::stdout(), "{report}");
            }
            i32::from(options.check && !ok)
        }
        Err(_) if interrupted.load(Ordering::SeqCst) => {
            eprintln!("openvoip: the demonstration was interrupted");
            130
        }
        Err(e) => {
            eprintln!("openvoip: the demonstration could not run: {e}");
            1
        }
    }
}

/// The story: join, register, find, call, write.
fn play(
    options: &Options,
    judge: &mut Judge,
    picture: Option<Picture>,
    interrupted: Arc<AtomicBool>,
) -> Result<serde_json::Value, String> {
    let peers = options.peers.clamp(*PEERS.start(), *PEERS.end());
    let is_watched = picture.is_some();
    let mut stage = Stage::new(peers, options.overlay, options.seed, interrupted)?;
    stage.picture = picture;
    let look = |stage: &mut Stage, time: Duration| match is_watched {
        true => stage.run(time, |_| false).map(drop),
        false => Ok(()),
    };

    let joined = stage.join(Duration::from_secs(20))?;
    let joined_ms = stage.scene.joined_ms.unwrap_or_default();
    judge.expect(joined, "not every peer joined within 20 s");
    let online = stage.scene.online;
    judge.say(format!("{online} of {peers} peers joined ({}, sha-256)   {joined_ms:.0} ms", options.overlay));
    look(&mut stage, LOOK)?;

    let registered = stage.plug_phones_in(options.seed, Duration::from_secs(5))?;
    judge.expect(registered, "a phone could not register");
    judge.say("phones of alice and bob registered at two peers".into());
    look(&mut stage, LOOK)?;

    let lookup = stage.look_bob_up(Duration::from_secs(5))?;
    judge.expect(lookup.found, "bob was not found");
    judge.say(format!("bob is found: {}, {:.1} ms", hops(lookup.hops), lookup.time_ms));
    look(&mut stage, LOOK + picture::HOP * (lookup.hops + 1))?;

    if options.listen {
        stage.speaker = Speaker::open();
        judge.say(match &stage.speaker {
            Some(speaker) => format!("you hear what bob's phone hears, through {}", speaker.player),
            None => "no aplay, paplay or play here: install alsa-utils to hear it, or use --wav".into(),
        });
    }
    let talk = if is_watched || stage.speaker.is_some() { TALK_WATCHED } else { TALK };
    let (call, reason, setup_ms) = call(&mut stage, judge, talk)?;
    let enough = |seconds: f64| seconds >= talk.as_secs_f64() * 0.7;
    let heard_by_caller = enough(stage.phones[0].heard(stage.phones[1].hertz));
    let heard_by_callee = enough(stage.phones[1].heard(stage.phones[0].hertz));
    judge.expect(heard_by_caller, "alice did not hear bob");
    judge.expect(heard_by_callee, "bob did not hear alice");
    judge.say(format!(
        "bob heard alice: {heard_by_callee}, alice heard bob: {heard_by_caller}   {}, MOS {:.1} (estimated), {} \
         lost",
        call.path, call.mos, call.rtp.lost
    ));
    if let Some(path) = &options.wav {
        let written = sound::write_wav(path, stage.phones[1].samples());
        judge.expect(written.is_ok(), written.as_ref().err().map_or("", |e| e));
    }
    look(&mut stage, LOOK)?;

    let now = stage.now();
    let sent = Instant::now();
    stage.phones[0].write(now, "bob@demo.test", TEXT);
    let delivered = stage.run(Duration::from_secs(5), |s| s.phones[1].text.as_deref() == Some(TEXT))?;
    let message_ms = ms(sent.elapsed());
    stage.scene.message_ms = delivered.then_some(message_ms);
    judge.expect(delivered, "the message did not arrive");
    judge.say(format!("alice writes to bob: delivered after {message_ms:.1} ms"));
    look(&mut stage, LOOK * 2)?;

    if let Some(speaker) = stage.speaker.take() {
        speaker.close();
    }
    if let Some(picture) = stage.picture.take() {
        picture.close(&stage);
    }
    let findings = Findings {
        joined_ms,
        lookup,
        setup_ms,
        call,
        reason,
        heard_by_caller,
        heard_by_callee,
        delivered,
        message_ms,
    };
    Ok(judge.report(&stage, &findings))
}

fn hops(count: u32) -> String {
    format!("{count} hop{}", if count == 1 { "" } else { "s" })
}

/// Alice calls bob, they talk, alice hangs up. Returns the call as it ended, why it went the way it
/// did, and the milliseconds from dialling to the answer.
fn call(
    stage: &mut Stage,
    judge: &mut Judge,
    talk: Duration,
) -> Result<(report::CallReport, String, f64), String> {
    let now = stage.now();
    let dialled = Instant::now();
    let call = stage.phones[0].dial(now, "bob@demo.test").map_err(|e| e.to_string())?;
    let answered = stage.run(Duration::from_secs(5), |s| s.phones[0].answered.is_some())?;
    judge.expect(answered, "the call was not answered");
    let at = stage.phones[0].answered.unwrap_or_else(Instant::now);
    let setup_ms = ms(at.duration_since(dialled));
    if answered {
        stage.scene.setup_ms = Some(setup_ms);
        judge.say(format!("alice calls bob: answered after {setup_ms:.1} ms"));
        stage.run(talk, |_| false)?;
    }
    let now = stage.now();
    stage.phones[0].hang_up(now, call);
    let ended = stage.run(Duration::from_secs(3), |s| s.phones[1].ended && s.call_in("ended").is_some())?;
    judge.expect(ended, "the call did not end at both sides");
    let reason = stage.call_in("established").map(|c| c.reason.clone()).unwrap_or_default();
    Ok((stage.call_in("ended").cloned().unwrap_or_default(), reason, setup_ms))
}
