//! Plots of many runs: one curve for each overlay, from the rows of a sweep.
//!
//! | what is swept | what is drawn |
//! |---|---|
//! | one number | latency, failure, bytes and recovery over it |
//! | several, or none, and where bytes are also counted as papers do | bytes against latency, and bytes against failure, on the wire and as papers count: every run a dot, and a line through those that no other run of that overlay beats in both (after Li et al., 2005) |
//!
//! Each plot is an SVG that stands alone.

use std::fmt::Write;

use super::html::{COLOURS, escape, round_up, short};
use super::table::Row;

/// Width and height of a plot, and what stays free around the axes for their words.
const SIZE: (f64, f64) = (560.0, 360.0);
const MARGIN: (f64, f64) = (64.0, 48.0);
/// Where the drawing begins, below the title.
const HEAD: f64 = 34.0;
/// Room for the names of the curves, on the right.
const LEGEND: f64 = 100.0;

/// A file name, and the SVG that belongs there.
pub type Plot = (String, String);

/// Places of a curve, from left to right.
type Points = Vec<(f64, f64)>;

/// A curve: its name, all its places, and those that the line goes through.
struct Curve {
    name: String,
    dots: Points,
    line: Points,
}

/// A figure of a run: its name in the file, its words at an axis, and how it is read.
type Figure = (&'static str, &'static str, fn(&Row) -> Option<f64>);

const LATENCY: Figure = ("latency", "mean time of a lookup, ms (failures count 10 s)", |row| {
    (row.issued > 0).then_some(row.mean_ms)
});
const FAILURE: Figure = ("failure", "lookups that fail, %", |row| {
    (row.issued > 0).then(|| 100.0 - 100.0 * row.succeeded as f64 / row.issued as f64)
});
const WIRE: Figure =
    ("wire-bytes", "bytes sent per second and peer, on the wire", |row| Some(row.bytes_per_s));
const MODEL: Figure =
    ("model-bytes", "bytes sent per second and peer, as papers count", |row| row.model_per_s);
const RECOVERY: Figure = ("recovery", "seconds until 99.9 % of lookups succeed", |row| row.to_999_s);

/// Every plot that the rows of a sweep are good for.
pub fn of_rows(rows: &[Row]) -> Vec<Plot> {
    let mut swept: Vec<&str> = rows.iter().flat_map(|row| &row.settings).map(|(path, _)| &**path).collect();
    swept.sort_unstable();
    swept.dedup();
    swept.retain(|path| *path != "overlay");
    let mut plots = Vec::new();
    if let [path] = swept[..]
        && rows.iter().all(|row| number(row, path).is_some())
    {
        for figure in [LATENCY, FAILURE, WIRE, RECOVERY] {
            let name = format!("{}-{}", file_name(path), figure.0);
            plots.extend(plot(
                &name,
                path,
                &curves(rows, |row| number(row, path), figure.2, false),
                figure.1,
            ));
        }
        if rows.iter().all(|row| row.model_per_s.is_none()) {
            return plots;
        }
    }
    for (bytes, figure) in [WIRE, MODEL].into_iter().flat_map(|b| [LATENCY, FAILURE].map(|f| (b, f))) {
        let name = format!("{}-{}", bytes.0, figure.0);
        plots.extend(plot(&name, bytes.1, &curves(rows, bytes.2, figure.2, true), figure.1));
    }
    plots
}

fn setting<'a>(row: &'a Row, path: &str) -> Option<&'a str> {
    row.settings.iter().find(|(p, _)| p == path).map(|(_, value)| value.trim_matches('"'))
}

fn number(row: &Row, path: &str) -> Option<f64> {
    setting(row, path)?.parse().ok()
}

fn file_name(path: &str) -> String {
    path.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect::<String>()
        .replace("--", "-")
}

fn curves(
    rows: &[Row],
    x: impl Fn(&Row) -> Option<f64>,
    y: fn(&Row) -> Option<f64>,
    best_only: bool,
) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in rows {
        let Some(at) = x(row).zip(y(row)) else { continue };
        let name = setting(row, "overlay").unwrap_or("all");
        match curves.iter_mut().find(|c| c.name == name) {
            Some(curve) => curve.dots.push(at),
            None => curves.push(Curve { name: name.to_owned(), dots: vec![at], line: Vec::new() }),
        }
    }
    for curve in &mut curves {
        curve.dots.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let mut least = f64::INFINITY;
        let is_best = |p: &&(f64, f64)| !best_only || (p.1 < least).then(|| least = p.1).is_some();
        curve.line = curve.dots.iter().filter(is_best).copied().collect();
    }
    curves
}

/// The axis along the foot: from nothing to a round number, or by powers where the values span many.
struct Axis {
    span: (f64, f64),
    by_powers: bool,
    marks: Vec<f64>,
}

impl Axis {
    /// The largest value through the smallest from which on an axis goes by powers.
    const WIDE: f64 = 20.0;

    fn of(values: impl Iterator<Item = f64>, right: f64) -> Axis {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (least, most) = (values[0], values[values.len() - 1]);
        if least > 0.0 && most >= least * Self::WIDE {
            // A mark for each value, as far as their words have room.
            let step = values.len().div_ceil(8);
            let marks = values.into_iter().step_by(step).collect();
            return Axis { span: (least, most), by_powers: true, marks };
        }
        let marks = (0..=4).map(|n| right * f64::from(n) / 4.0).collect();
        Axis { span: (0.0, right), by_powers: false, marks }
    }

    /// How far along the axis a value stands, 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let (from, to) = self.span;
        match self.by_powers {
            true => (value / from).ln() / (to / from).ln(),
            false => value / to,
        }
    }
}

/// One plot; nothing where there is nothing to see.
fn plot(name: &str, x_words: &str, curves: &[Curve], y_words: &str) -> Option<Plot> {
    let dots = || curves.iter().flat_map(|c| &c.dots);
    dots().next()?;
    let (right, top) = dots().fold((1e-9f64, 1e-9f64), |(x, y), p| (x.max(p.0), y.max(p.1)));
    let (right, top) = (round_up(right), round_up(top));
    let ((width, height), (left, foot)) = (SIZE, MARGIN);
    let (end, floor) = (width - LEGEND, height - foot);
    let across = Axis::of(dots().map(|p| p.0), right);
    let at = |p: &(f64, f64)| (left + across.share(p.0) * (end - left), floor - p.1 / top * (floor - HEAD));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" fill=\"#444\"><rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\
         <text x=\"{left}\" y=\"20\" font-size=\"13\">{}</text>\
         <text x=\"{end}\" y=\"{}\" text-anchor=\"end\">{}</text>\n",
        escape(y_words),
        height - 8.0,
        escape(x_words)
    );
    for n in 0..=4 {
        let up = top * f64::from(n) / 4.0;
        let (_, y) = at(&(right, up));
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {y:.1}H{end}\" stroke=\"#e4e4e4\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text>",
            left - 6.0,
            y + 4.0,
            short(up)
        );
    }
    for value in &across.marks {
        let (x, y) = (at(&(*value, 0.0)).0, floor + 16.0);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", short(*value));
    }
    for (n, curve) in curves.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let line: Vec<String> = curve.line.iter().map(at).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
            line.join(" ")
        );
        for (x, y) in curve.dots.iter().map(at) {
            let _ = write!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{colour}\"/>");
        }
        let place = HEAD + 10.0 + 18.0 * n as f64;
        let name = escape(&curve.name);
        let _ =
            writeln!(svg, "<text x=\"{}\" y=\"{place}\" fill=\"{colour}\">&#9632; {name}</text>", end + 12.0);
    }
    Some((format!("{name}.svg"), svg + "</svg>\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(settings: &[(&str, &str)], mean_ms: f64, bytes_per_s: f64) -> Row {
        let settings = settings.iter().map(|(p, v)| ((*p).to_owned(), (*v).to_owned())).collect();
        Row { settings, mean_ms, bytes_per_s, issued: 10, succeeded: 9, ..Row::default() }
    }

    #[test]
    fn one_number_swept_is_the_axis_and_each_overlay_a_curve() {
        let rows: Vec<Row> = ["kademlia", "chord"]
            .into_iter()
            .flat_map(|o| ["0.1", "0.5"].map(|v| row(&[("overlay", o), ("events[0].kill", v)], 200.0, 80.0)))
            .collect();
        let plots = of_rows(&rows);
        let names: Vec<&str> = plots.iter().map(|(name, _)| &**name).collect();
        // Nobody was killed long enough ago for a recovery.
        assert_eq!(names, ["latency", "failure", "wire-bytes"].map(|n| format!("events-0-kill-{n}.svg")));
        for (name, svg) in &plots {
            assert_eq!((svg.matches("<polyline").count(), svg.matches("<circle").count()), (2, 4), "{name}");
            assert!(svg.contains("kademlia") && svg.contains("events[0].kill"), "{svg}");
        }
    }

    #[test]
    fn values_that_span_many_powers_stand_by_powers() {
        let axis = Axis::of([84.0, 840.0, 8_400.0].into_iter(), 10_000.0);
        assert!((axis.share(840.0) - 0.5).abs() < 1e-9 && axis.marks.len() == 3);
        let axis = Axis::of([0.0, 0.1, 0.5].into_iter(), 0.5);
        assert_eq!((axis.share(0.1), axis.marks.len()), (0.2, 5));
    }

    #[test]
    fn of_several_the_line_goes_through_the_runs_that_no_other_beats() {
        let at = |b: &str, mean, bytes| row(&[("a", b), ("b", "1")], mean, bytes);
        let rows = [at("1", 300.0, 10.0), at("2", 400.0, 20.0), at("3", 200.0, 40.0)];
        let curves = curves(&rows, WIRE.2, LATENCY.2, true);
        assert_eq!(curves[0].line, [(10.0, 300.0), (40.0, 200.0)]);
        assert_eq!(curves[0].dots.len(), 3);
        let names: Vec<String> = of_rows(&rows).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["wire-bytes-latency.svg", "wire-bytes-failure.svg"]);
        // A network in which nobody looked anybody up is not the quickest.
        let idle = Row { issued: 0, succeeded: 0, ..at("4", 0.0, 5.0) };
        assert!(of_rows(&[idle]).is_empty());
    }
}
