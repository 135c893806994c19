//! The live picture: peers on the ring of keys, a lookup hopping, a call's way with what each phone
//! hears, a message.
//!
//! ```text
//!  title
//!  ring of keys          | the story so far
//!                        | bytes per second
//!  phone - peer = peer - phone
//!  what alice hears, what bob hears, the message
//! ```
//!
//! Everything drawn is read from the stage: positions are Node-IDs, hops are the trace of the lookup,
//! meters are the samples that a phone decoded. It fits 80 columns and 24 lines.

use std::f64::consts::TAU;
use std::io::Write;
use std::time::{Duration, Instant};

use node::ledger::Function;

use super::canvas::{Canvas, Style, Terminal};
use super::network::{ALICE, BOB, Stage, bobs_place};
use super::phones::{Phone, RATE};

/// How long the picture takes to show one hop of a lookup that took a millisecond.
pub(super) const HOP: Duration = Duration::from_millis(700);

const WIDTH: usize = 80;
const HEIGHT: usize = 24;

/// Twenty pictures a second.
const FRAME: Duration = Duration::from_millis(50);

/// The ring: its middle, and its two radii in characters.
const MIDDLE: (f64, f64) = (23.0, 8.5);
const RADII: (f64, f64) = (21.0, 5.5);

/// First column of the story.
const STORY: usize = 49;

/// Lines of the call.
const CALL: usize = 16;

/// Length of a meter, and the level at its left end in dB below full scale.
const METER: usize = 20;
const FLOOR: f64 = -50.0;

/// The characters it is drawn with.
struct Glyphs {
    peer: char,
    absent: char,
    trail: char,
    record: char,
    done: char,
    wire: char,
    link: char,
    right: char,
    left: char,
    full: char,
    empty: char,
    to: &'static str,
}

const UNICODE: Glyphs = Glyphs {
    peer: '●',
    absent: '○',
    trail: '∙',
    record: '◆',
    done: '✓',
    wire: '─',
    link: '═',
    right: '▶',
    left: '◀',
    full: '█',
    empty: '░',
    to: "→",
};

const ASCII: Glyphs = Glyphs {
    peer: 'o',
    absent: '.',
    trail: '.',
    record: '*',
    done: '+',
    wire: '-',
    link: '=',
    right: '>',
    left: '<',
    full: '#',
    empty: '.',
    to: "->",
};

/// Bytes sent by all peers, once a second.
struct Traffic {
    at: Instant,
    media: u64,
    upkeep: u64,
    media_per_s: f64,
    upkeep_per_s: f64,
}

/// The picture on the terminal.
pub(super) struct Picture {
    terminal: Terminal,
    drawn: Option<Instant>,
    traffic: Option<Traffic>,
}

impl Picture {
    /// Begins a picture; `None` if standard output is no terminal, or too small a one.
    pub(super) fn open() -> Option<Picture> {
        let terminal = Terminal::open(WIDTH, HEIGHT)?;
        Some(Picture { terminal, drawn: None, traffic: None })
    }

    /// Draws the stage, if the last picture is old enough.
    pub(super) fn draw(&mut self, stage: &Stage) {
        if self.drawn.is_some_and(|at| at.elapsed() < FRAME) {
            return;
        }
        self.drawn = Some(Instant::now());
        self.count(stage);
        self.terminal.show(&self.canvas(stage));
    }

    /// Gives the terminal back, and leaves the last picture on it.
    pub(super) fn close(self, stage: &Stage) {
        let last = self.canvas(stage).render(self.terminal.colour, "\n");
        drop(self.terminal);
        let _ = writeln!(std::io::stdout(), "{}", last.trim_end());
    }

    fn count(&mut self, stage: &Stage) {
        let mut media = 0;
        let mut upkeep = 0;
        for n in 0..stage.peers {
            let node = stage.world.node(n);
            upkeep += node.maintenance_bytes_sent();
            let sent =
                node.ledger().totals().filter(|(f, ..)| *f == Function::Media).map(|(_, _, sent)| sent);
            media += sent.sum::<u64>();
        }
        let last = self.traffic.take();
        let at = Instant::now();
        self.traffic = Some(match last {
            Some(last) if last.at.elapsed() < Duration::from_secs(1) => last,
            Some(last) => {
                let seconds = last.at.elapsed().as_secs_f64();
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                let (media_per_s, upkeep_per_s) = (rate(media, last.media), rate(upkeep, last.upkeep));
                Traffic { at, media, upkeep, media_per_s, upkeep_per_s }
            }
            None => Traffic { at, media, upkeep, media_per_s: 0.0, upkeep_per_s: 0.0 },
        });
    }

    fn glyphs(&self) -> &'static Glyphs {
        if self.terminal.unicode { &UNICODE } else { &ASCII }
    }

    fn canvas(&self, stage: &Stage) -> Canvas {
        let mut canvas = Canvas::new(WIDTH, HEIGHT);
        let seconds = stage.started.elapsed().as_secs_f64();
        canvas.write(1, 0, "OpenVoIP", Style::Bold);
        let title = format!("{} peers, two phones, no server: all on 127.0.0.1", stage.peers);
        canvas.write(11, 0, &title, Style::Plain);
        canvas.write(WIDTH - 9, 0, &format!("{seconds:6.1} s"), Style::Dim);
        self.ring(&mut canvas, stage);
        self.story(&mut canvas, stage);
        canvas.write(1, HEIGHT - 1, "Ctrl-C ends it; nothing is left behind.", Style::Dim);
        if !stage.phones.is_empty() {
            self.way(&mut canvas, stage, seconds);
        }
        canvas
    }

    // ---- the ring ------------------------------------------------------------------------------

    fn ring(&self, canvas: &mut Canvas, stage: &Stage) {
        let glyphs = self.glyphs();
        let places: Vec<Option<(f64, f64)>> =
            (0..stage.peers).map(|n| stage.node_id(n).map(|id| place(id.key().as_bytes(), 1.0))).collect();
        for (n, at) in places.iter().enumerate() {
            let Some((x, y)) = *at else { continue };
            let (glyph, style) = match n {
                _ if !stage.world.node(n).is_online() => (glyphs.absent, Style::Dim),
                ALICE | BOB => continue,
                _ => (glyphs.peer, Style::Plain),
            };
            canvas.put(x.round() as usize, y.round() as usize, glyph, style);
        }
        if stage.scene.joined_ms.is_none() {
            canvas.write(17, 8, "peers join...", Style::Dim);
            return;
        }
        let (x, y) = place(bobs_place().key().as_bytes(), 0.78);
        canvas.put(x.round() as usize, y.round() as usize, glyphs.record, Style::Bob);
        self.trail(canvas, stage, &places);
        // The two whom the story is about stand in front.
        for (n, letter, style) in [(ALICE, 'A', Style::Alice), (BOB, 'B', Style::Bob)] {
            if let Some((x, y)) = places[n] {
                canvas.put(x.round() as usize, y.round() as usize, letter, style);
            }
        }
        canvas.put(STORY, 13, glyphs.record, Style::Bob);
        canvas.write(STORY + 2, 13, "where bob's record belongs", Style::Dim);
        if stage.scene.lookup.is_some() {
            canvas.put(STORY, 14, '?', Style::Trail);
            canvas.write(STORY + 2, 14, "who looks for it; the hops", Style::Dim);
        }
    }

    /// The way of the lookup, hop by hop, slowly enough to be seen.
    fn trail(&self, canvas: &mut Canvas, stage: &Stage, places: &[Option<(f64, f64)>]) {
        let Some((seeker, report, since)) = &stage.scene.lookup else { return };
        let mut way = vec![*seeker];
        way.extend(report.path.iter().filter_map(|hop| index_of(stage, &hop.node)));
        let shown = since.elapsed().as_secs_f64() / HOP.as_secs_f64();
        for (n, pair) in way.windows(2).enumerate() {
            let part = (shown - n as f64).clamp(0.0, 1.0);
            if let (true, Some(a), Some(b)) = (part > 0.0, places[pair[0]], places[pair[1]]) {
                canvas.line(a, b, part, self.glyphs().trail, Style::Trail);
            }
        }
        for (n, index) in way.iter().enumerate().take_while(|(n, _)| *n as f64 <= shown) {
            if let Some((x, y)) = places[*index] {
                let mark = if n == 0 { '?' } else { char::from_digit(n as u32 % 10, 10).unwrap_or('?') };
                canvas.put(x.round() as usize, y.round() as usize, mark, Style::Trail);
            }
        }
    }

    // ---- the story -----------------------------------------------------------------------------

    fn story(&self, canvas: &mut Canvas, stage: &Stage) {
        let scene = &stage.scene;
        let glyphs = self.glyphs();
        let registered = stage.phones.iter().filter(|p| p.registered).count();
        let found = scene.lookup.as_ref().map(|(_, report, _)| report).filter(|report| report.found);
        let steps = [
            ("peers joined", scene.joined_ms.map(|ms| format!("{} in {ms:.0} ms", scene.online))),
            ("phones registered", (registered == 2).then(|| "2".to_owned())),
            ("bob found", found.map(|r| format!("{}, {:.1} ms", super::hops(r.hops), r.time_ms))),
            ("call answered", scene.setup_ms.map(|ms| format!("{ms:.1} ms"))),
            ("message delivered", scene.message_ms.map(|ms| format!("{ms:.1} ms"))),
        ];
        for (n, (what, result)) in steps.into_iter().enumerate() {
            let y = 2 + n;
            let Some(result) = result else {
                canvas.write(STORY + 2, y, what, Style::Dim);
                continue;
            };
            canvas.put(STORY, y, glyphs.done, Style::Good);
            canvas.write(STORY + 2, y, what, Style::Plain);
            canvas.write(WIDTH - 1 - result.chars().count(), y, &result, Style::Bold);
        }
        let peers = stage.peers as f64;
        if let Some(traffic) = self.traffic.as_ref().filter(|_| scene.joined_ms.is_some()) {
            canvas.write(STORY, 9, "sent between peers, per second", Style::Dim);
            for (y, what, rate) in [
                (10, "upkeep, each peer", traffic.upkeep_per_s / peers),
                (11, "sound, all of it", traffic.media_per_s),
            ] {
                canvas.write(STORY + 2, y, what, Style::Plain);
                let rate = format!("{rate:.0} B");
                canvas.write(WIDTH - 1 - rate.len(), y, &rate, Style::Bold);
            }
        }
    }

    // ---- the call ------------------------------------------------------------------------------

    fn way(&self, canvas: &mut Canvas, stage: &Stage, seconds: f64) {
        let glyphs = self.glyphs();
        let short = |index: usize| stage.node_id(index).map(|id| id.to_string()[..4].to_owned());
        let (a, b) = (short(ALICE).unwrap_or_default(), short(BOB).unwrap_or_default());
        // What stands where: the stations, and the lines between them.
        let stations = [
            (1, "alice's phone".to_owned(), Style::Alice),
            (21, format!("peer {a}"), Style::Plain),
            (50, format!("peer {b}"), Style::Plain),
            (68, "bob's phone".to_owned(), Style::Bob),
        ];
        for (x, text, style) in &stations {
            canvas.write(*x, CALL, text, *style);
        }
        let talking = stage.phones.iter().all(|p| p.answered.is_some() && !p.ended);
        for (from, to, glyph) in [(15, 19, glyphs.wire), (31, 48, glyphs.link), (60, 66, glyphs.wire)] {
            for x in from..=to {
                canvas.put(x, CALL, glyph, if talking { Style::Good } else { Style::Dim });
            }
            if talking {
                // Sound flows both ways: one mark each, in opposite directions.
                let span = (to - from + 1) as f64;
                let at = (seconds * 8.0).rem_euclid(span) as usize;
                canvas.put(from + at, CALL, glyphs.right, Style::Alice);
                canvas.put(to - at, CALL, glyphs.left, Style::Bob);
            }
        }
        if let Some(call) = stage.calls.last() {
            let what = match call.state.as_str() {
                "ended" => format!("{}, ended", call.path),
                state => format!("{state}, {}", call.path),
            };
            canvas.write(31, CALL + 1, &what, Style::Dim);
        }
        let styles = [Style::Alice, Style::Bob];
        for (n, phone) in stage.phones.iter().enumerate() {
            let from = &stage.phones[1 - n];
            self.meter(canvas, CALL + 3 + n, phone, from, styles[n]);
        }
        if let Some(text) = &stage.phones[1].text {
            let line = format!("alice's phone writes {} bob's phone reads: \"{text}\"", glyphs.to);
            canvas.write(1, CALL + 6, &line, Style::Good);
        }
    }

    /// What a phone hears, measured on the samples it decoded.
    fn meter(&self, canvas: &mut Canvas, y: usize, phone: &Phone, from: &Phone, style: Style) {
        let glyphs = self.glyphs();
        canvas.write(1, y, &format!("{} hears", phone.name), style);
        let level = phone.level().filter(|_| !phone.ended);
        let part = level.map_or(0.0, |level| (1.0 - level / FLOOR).clamp(0.0, 1.0));
        let full = (part * METER as f64).round() as usize;
        for n in 0..METER {
            let (glyph, style) = if n < full { (glyphs.full, style) } else { (glyphs.empty, Style::Dim) };
            canvas.put(14 + n, y, glyph, style);
        }
        let Some((mos, lost)) = phone.quality() else { return };
        let hertz = from.hertz;
        let what = match level {
            _ if phone.ended => format!("heard {hertz:.0} Hz, {:.1} s", phone.heard(hertz)),
            Some(level) if phone.hears_now(hertz) => format!("{level:>4.0} dB {hertz:>8.0} Hz"),
            Some(level) => format!("{level:>4.0} dB"),
            None => "silence".to_owned(),
        };
        let seconds = phone.samples().len() as f64 / f64::from(RATE);
        let text = format!("{what:<20} MOS {mos:.1}  lost {lost}  {seconds:4.1} s");
        canvas.write(35, y, &text, Style::Plain);
    }
}

/// Where a key stands on the ring, clockwise from the top; `depth` 1 is the ring itself.
fn place(key: &[u8], depth: f64) -> (f64, f64) {
    let first = key.iter().take(4).fold(0_u64, |n, byte| n << 8 | u64::from(*byte));
    let angle = first as f64 / f64::from(u32::MAX) * TAU;
    (MIDDLE.0 + RADII.0 * depth * angle.sin(), MIDDLE.1 - RADII.1 * depth * angle.cos())
}

fn index_of(stage: &Stage, node: &str) -> Option<usize> {
    (0..stage.peers).find(|n| stage.node_id(*n).is_some_and(|id| id.to_string() == node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_round_clockwise_from_the_top() {
        let (x, y) = place(&[0; 32], 1.0);
        assert_eq!((x.round(), y.round()), (MIDDLE.0, (MIDDLE.1 - RADII.1).round()));
        let (x, _) = place(&[0x40; 32], 1.0);
        assert!(x > MIDDLE.0 + RADII.0 - 1.0, "a quarter round is on the right: {x}");
        let (_, y) = place(&[0x80; 32], 1.0);
        assert!(y > MIDDLE.1 + RADII.1 - 1.0, "half round is at the bottom: {y}");
    }

    #[test]
    fn every_place_is_within_the_ring_and_off_the_story() {
        for first in 0..=255_u8 {
            let (x, y) = place(&[first, 0, 0, 0], 1.0);
            assert!(
                (1.0..STORY as f64 - 2.0).contains(&x) && (2.0..CALL as f64 - 1.0).contains(&y),
                "{x} {y}"
            );
        }
    }
}
