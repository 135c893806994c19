//! A terminal as a grid of characters, and its way back to how it was.

use std::io::{IsTerminal, Write};

/// How a character looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Style {
    #[default]
    Plain,
    Dim,
    Bold,
    Alice,
    Bob,
    Good,
    Trail,
}

impl Style {
    /// Its SGR parameters (ECMA-48, section 8.3.117). Without colour only weight is left.
    fn sgr(self, colour: bool) -> &'static str {
        match (self, colour) {
            (Style::Plain, _) | (Style::Good, false) => "0",
            (Style::Dim, _) => "0;2",
            (Style::Bold | Style::Alice | Style::Bob | Style::Trail, false) | (Style::Bold, _) => "0;1",
            (Style::Alice, _) => "0;1;36",
            (Style::Bob, _) => "0;1;35",
            (Style::Good, _) => "0;32",
            (Style::Trail, _) => "0;1;33",
        }
    }
}

/// A grid of characters.
pub(super) struct Canvas {
    rows: Vec<Vec<(char, Style)>>,
}

impl Canvas {
    pub(super) fn new(width: usize, height: usize) -> Canvas {
        Canvas { rows: vec![vec![(' ', Style::Plain); width]; height] }
    }

    /// Puts a character; outside of the grid nothing happens.
    pub(super) fn put(&mut self, x: usize, y: usize, glyph: char, style: Style) {
        if let Some(cell) = self.rows.get_mut(y).and_then(|row| row.get_mut(x)) {
            *cell = (glyph, style);
        }
    }

    /// Writes text from a place to the right; what goes over the edge is cut.
    pub(super) fn write(&mut self, x: usize, y: usize, text: &str, style: Style) {
        for (n, glyph) in text.chars().enumerate() {
            self.put(x + n, y, glyph, style);
        }
    }

    /// A straight line of dots from `a` to `b`, drawn as far as `part` of its length (0 to 1).
    pub(super) fn line(&mut self, a: (f64, f64), b: (f64, f64), part: f64, glyph: char, style: Style) {
        let length = (b.0 - a.0).abs().max((b.1 - a.1).abs()).max(1.0);
        let mut step = 1.0;
        while step < length && step <= length * part {
            let at = step / length;
            let (x, y) = (a.0 + (b.0 - a.0) * at, a.1 + (b.1 - a.1) * at);
            self.put(x.round() as usize, y.round() as usize, glyph, style);
            step += 1.0;
        }
    }

    /// Its lines with their styles, each ended by `end`.
    pub(super) fn render(&self, colour: bool, end: &str) -> String {
        let mut text = String::new();
        for row in &self.rows {
            let used = row.iter().rposition(|(glyph, _)| *glyph != ' ').map_or(0, |at| at + 1);
            let mut current = Style::Plain;
            for (glyph, style) in &row[..used] {
                if *style != current {
                    text.push_str("\x1b[");
                    text.push_str(style.sgr(colour));
                    text.push('m');
                    current = *style;
                }
                text.push(*glyph);
            }
            if current != Style::Plain {
                text.push_str("\x1b[0m");
            }
            text.push_str(end);
        }
        text
    }
}

/// The terminal on standard output, on its second screen; dropped, it is as it was.
pub(super) struct Terminal {
    pub(super) colour: bool,
    pub(super) unicode: bool,
}

impl Terminal {
    /// Takes the terminal, if standard output is one and has room enough.
    pub(super) fn open(width: usize, height: usize) -> Option<Terminal> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if !std::io::stdout().is_terminal() || variable("TERM").is_none_or(|term| term == "dumb") {
            return None;
        }
        let (terminal_size::Width(columns), terminal_size::Height(lines)) = terminal_size::terminal_size()?;
        if usize::from(columns) < width || usize::from(lines) < height {
            return None;
        }
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        // See no-color.org: set and not empty means no colour.
        let colour = variable("NO_COLOR").is_none();
        // The second screen, and no cursor.
        say("\x1b[?1049h\x1b[?25l\x1b[2J");
        Some(Terminal { colour, unicode })
    }

    /// Shows a canvas.
    pub(super) fn show(&self, canvas: &Canvas) {
        // A line less than there are: the last line feed would scroll.
        let text = canvas.render(self.colour, "\x1b[K\r\n");
        say(&format!("\x1b[H{}\x1b[J", text.trim_end_matches("\r\n")));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        say("\x1b[0m\x1b[?25h\x1b[?1049l");
    }
}

/// A terminal that has gone away is no reason to stop.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut() {
        let mut canvas = Canvas::new(5, 2);
        canvas.write(3, 0, "hello", Style::Plain);
        canvas.write(0, 7, "below", Style::Plain);
        canvas.line((0.0, 1.0), (9.0, 1.0), 1.0, '.', Style::Plain);
        assert_eq!(canvas.render(false, "\n"), "   he\n ....\n");
    }

    #[test]
    fn without_colour_only_weight_is_left() {
        let mut canvas = Canvas::new(6, 1);
        canvas.write(0, 0, "ab", Style::Alice);
        canvas.write(2, 0, "cd", Style::Good);
        assert_eq!(canvas.render(true, ""), "\x1b[0;1;36mab\x1b[0;32mcd\x1b[0m");
        let plain = canvas.render(false, "");
        assert!(!plain.contains("36") && !plain.contains("32"), "{plain:?}");
    }
}
