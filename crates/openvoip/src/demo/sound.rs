//! Bob's earpiece: what his phone decodes, played by the machine and kept as a file.
//!
//! Sound goes to a program that is there on most systems, so that no sound library is linked. A
//! machine without one stays silent, and says so.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::phones::RATE;

/// Programs that play raw samples from standard input, with their arguments.
const PLAYERS: [(&str, &[&str]); 3] = [
    ("aplay", &["-q", "-t", "raw", "-f", "S16_LE", "-r", "8000", "-c", "1"]),
    ("paplay", &["--raw", "--format=s16le", "--rate=8000", "--channels=1"]),
    ("play", &["-q", "-t", "raw", "-e", "signed", "-b", "16", "-r", "8000", "-c", "1", "-"]),
];

/// Chunks of sound waiting for the player: about five seconds, then new ones are dropped.
const MAX_CHUNKS: usize = 250;

/// How long a player may take for what it was given.
const PATIENCE: Duration = Duration::from_secs(6);

/// A program that plays what it is given.
pub(super) struct Speaker {
    /// Its name.
    pub(super) player: &'static str,
    chunks: SyncSender<Vec<u8>>,
    finished: Receiver<()>,
    played: usize,
}

impl Speaker {
    /// The first player that can be started; `None` if there is none.
    pub(super) fn open() -> Option<Speaker> {
        let start = |(player, arguments): &(&'static str, &[&str])| {
            let mut command = Command::new(player);
            command.args(*arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().ok().map(|child| (*player, child))
        };
        let (player, child) = PLAYERS.iter().find_map(start)?;
        let (chunks, waiting) = sync_channel::<Vec<u8>>(MAX_CHUNKS);
        // A player may be slow or die: neither may hold up the call.
        let (done, finished) = sync_channel(1);
        thread::spawn(move || {
            feed(child, waiting.into_iter());
            let _ = done.send(());
        });
        Some(Speaker { player, chunks, finished, played: 0 })
    }

    /// Plays what is new in `samples`, the whole recording so far.
    pub(super) fn play(&mut self, samples: &[i16]) {
        // Two packets at a time.
        if samples.len() < self.played + RATE as usize / 25 {
            return;
        }
        let bytes = samples[self.played..].iter().flat_map(|s| s.to_le_bytes()).collect();
        self.played = samples.len();
        let _ = self.chunks.try_send(bytes);
    }

    /// Waits until everything was played, but not for a player that hangs.
    pub(super) fn close(self) {
        drop(self.chunks);
        let _ = self.finished.recv_timeout(PATIENCE);
    }
}

fn feed(mut child: Child, chunks: impl Iterator<Item = Vec<u8>>) {
    if let Some(mut input) = child.stdin.take() {
        for chunk in chunks {
            if input.write_all(&chunk).is_err() {
                break;
            }
        }
    }
    let _ = child.wait();
}

/// Writes samples as a WAV file.
pub(super) fn write_wav(path: &Path, samples: &[i16]) -> Result<(), String> {
    let bytes = media::Wav::mono(RATE, samples.to_vec()).write().map_err(|e| e.to_string())?;
    std::fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
