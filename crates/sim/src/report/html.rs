//! The report as one page with plots, drawn as SVG in the page: nothing is loaded from anywhere.

use std::fmt::Write;

use super::Report;
use super::series::Row;

/// Size of a plot in pixels, and room for its axes.
const SIZE: (f64, f64) = (560.0, 220.0);
const MARGIN: (f64, f64) = (64.0, 28.0);
/// Colours that are told apart also by those who see fewer (Okabe and Ito).
pub(super) const COLOURS: [&str; 8] =
    ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8a8a00", "#888888"];
/// Points of a distribution that are drawn.
const POINTS: usize = 200;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1240px;margin:2em auto;padding:0 1em;\
color:#222;background:#fff}h1{font-size:1.5em}h2{font-size:1.1em}figure{display:inline-block;margin:0 1.5em 1.5em 0}\
figcaption{font-weight:600}svg{max-width:100%}td,th{padding:.1em .8em .1em 0;text-align:left;vertical-align:top}\
.bad{color:#b00020}code{background:#f2f2f2;padding:.1em .3em}";

/// A line of a plot: its name and its points.
type Line = (String, Vec<(f64, f64)>);

/// The page.
pub fn page(report: &Report) -> String {
    let mut page = String::new();
    let title = escape(&report.scenario);
    let _ = write!(
        page,
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body><h1>{title}</h1>"
    );
    page += &figures(report);
    page += &violations(report);
    for (caption, unit, lines) in plots(report) {
        page += &plot(&caption, &unit, &lines);
    }
    page += "</body></html>\n";
    page
}

fn figures(report: &Report) -> String {
    let lookups = &report.lookups;
    let share = 100.0 * lookups.succeeded as f64 / lookups.issued.max(1) as f64;
    let mut rows = vec![
        ("overlay", format!("{}, {} peers, seed {}", report.overlay, report.nodes, report.seed)),
        (
            "virtual time",
            format!("{} s in {:.1} s, {} events", report.virtual_s, report.wall_s, report.events),
        ),
        ("lookups", format!("{} of {} correct ({share:.3} %)", lookups.succeeded, lookups.issued)),
        (
            "lookup time",
            format!(
                "mean {:.0} ms; half within {:.0} ms, 95 % {:.0} ms, 99 % {:.0} ms",
                lookups.time_mean_ms, lookups.time_ms.p50, lookups.time_ms.p95, lookups.time_ms.p99
            ),
        ),
        (
            "sent by a peer",
            format!(
                "{:.1} bytes/s, of it {:.1} maintenance",
                report.bytes_per_node_per_s.mean, report.maintenance_bytes_per_node_per_s.mean
            ),
        ),
        (
            "peers",
            format!(
                "{} joined, {} left, {} crashed, {} came back",
                report.population.joined,
                report.population.left,
                report.population.crashed,
                report.population.returned
            ),
        ),
    ];
    if let Some(model) = &report.model_bytes_per_node_per_s {
        rows.push(("as papers count", format!("{:.1} bytes/s", model.mean)));
    }
    if let Some(share) = report.consistency {
        rows.push(("records in place", format!("{:.2} %", share * 100.0)));
    }
    for phase in &report.phases {
        rows.push(("phase", format!("{}: {} of {} correct", phase.name, phase.succeeded, phase.issued)));
    }
    if !report.faults.is_empty() {
        let acted = report.faults.iter().map(|(kind, times)| format!("{kind} {times}"));
        rows.push(("faults", acted.collect::<Vec<_>>().join(", ")));
    }
    rows.push(("log hash", report.log_hash.clone()));
    rows.extend(report.replay.iter().map(|command| ("again", command.clone())));
    let row = |(name, value): (&str, String)| format!("<tr><th>{name}</th><td>{}</td></tr>", escape(&value));
    format!("<table>{}</table>", rows.into_iter().map(row).collect::<String>())
}

fn violations(report: &Report) -> String {
    if report.violations.is_empty() {
        return "<p>Nothing happened that ought not to.</p>".into();
    }
    let items = report.violations.iter().map(|v| format!("<li>{}</li>", escape(v)));
    format!("<h2 class=\"bad\">What ought not to have happened</h2><ul>{}</ul>", items.collect::<String>())
}

fn plots(report: &Report) -> Vec<(String, String, Vec<Line>)> {
    let rows = &report.series;
    let line = |name: &str, value: &dyn Fn(&Row) -> Option<f64>| -> Line {
        (name.to_owned(), rows.iter().filter_map(|row| Some((row.at_s, value(row)?))).collect())
    };
    let asked = |row: &Row, value: f64| (row.lookups > 0).then_some(value);
    let correct = |row: &Row| asked(row, 100.0 * row.found as f64 / row.lookups.max(1) as f64);
    let mut functions: Vec<&str> = rows.iter().flat_map(|row| row.bytes_per_s.keys().copied()).collect();
    functions.sort_unstable();
    functions.dedup();
    let rate = |name: &str| line(name, &|row| Some(row.bytes_per_s.get(name).copied().unwrap_or(0.0)));
    let times = &report.lookup_times;
    let step = (times.len() / POINTS).max(1);
    let cumulated = (0..times.len())
        .step_by(step)
        .map(|n| (times[n], 100.0 * (n + 1) as f64 / times.len() as f64))
        .collect();
    vec![
        ("Peers that run".into(), "s".into(), vec![line("live", &|row| Some(row.live as f64))]),
        ("Correct lookups, %".into(), "s".into(), vec![line("correct", &correct)]),
        (
            "Time of a lookup, ms".into(),
            "s".into(),
            vec![
                line("half within", &|row| asked(row, row.lookup_p50_ms)),
                line("95 % within", &|row| asked(row, row.lookup_p95_ms)),
            ],
        ),
        (
            "Bytes sent per second and peer".into(),
            "s".into(),
            functions.into_iter().map(rate).filter(|(_, points)| points.iter().any(|p| p.1 > 0.0)).collect(),
        ),
        (
            "Records where they belong, %".into(),
            "s".into(),
            vec![line("in place", &|row| row.consistency.map(|share| share * 100.0))],
        ),
        ("Lookups done within, %".into(), "ms".into(), vec![("all".into(), cumulated)]),
    ]
}

fn plot(caption: &str, unit: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|(_, points)| points);
    if points().next().is_none() {
        return String::new();
    }
    let (right, top) = points().fold((1e-9f64, 1e-9f64), |(x, y), p| (x.max(p.0), y.max(p.1)));
    let top = round_up(top);
    let ((width, height), (left, foot)) = (SIZE, MARGIN);
    let at = |(x, y): (f64, f64)| {
        (left + x / right * (width - left - 8.0), (height - foot) - y / top * (height - foot - 10.0))
    };
    let mut svg = format!(
        "<figure><figcaption>{}</figcaption><svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-size=\"11\" fill=\"#555\">",
        escape(caption)
    );
    for n in 0..=4 {
        let (value, time) = (top * f64::from(n) / 4.0, right * f64::from(n) / 4.0);
        let (x, y) = (at((time, 0.0)).0, at((0.0, value)).1);
        let _ = write!(
            svg,
            "<path d=\"M{left} {y:.1}H{}\" stroke=\"#e4e4e4\"/><text x=\"{}\" y=\"{:.1}\" \
             text-anchor=\"end\">{}</text><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"{}\">{} {unit}</text>",
            width - 8.0,
            left - 6.0,
            y + 4.0,
            short(value),
            height - 8.0,
            if n == 4 { "end" } else { "middle" },
            short(time)
        );
    }
    let mut legend = String::new();
    for (n, (name, points)) in lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        let path: Vec<String> =
            points.iter().map(|p| at(*p)).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        let _ = write!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\"/>",
            path.join(" ")
        );
        let _ = write!(legend, "<span style=\"color:{colour}\">&#9632;</span> {} ", escape(name));
    }
    svg + "</svg><div>" + &legend + "</div></figure>"
}

/// The next of 1, 2, 5, 10, ... that is not below.
pub(super) fn round_up(value: f64) -> f64 {
    let power = 10f64.powf(value.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|v| *v >= value * 0.999).unwrap_or(value)
}

/// A number with as many places as tell it from its neighbours on an axis of four parts.
pub(super) fn short(value: f64) -> String {
    if value >= 10.0 {
        return format!("{value:.0}");
    }
    let places = if value < 0.1 { 4 } else { 3 };
    let digits = format!("{value:.places$}");
    digits.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_of_an_axis_differ() {
        let marks = |top: f64| [0.25, 0.5, 0.75, 1.0].map(|part| short(top * part));
        assert_eq!(marks(0.05), ["0.0125", "0.025", "0.0375", "0.05"]);
        assert_eq!(marks(0.5), ["0.125", "0.25", "0.375", "0.5"]);
        assert_eq!(marks(400.0), ["100", "200", "300", "400"]);
        assert_eq!(short(0.0), "0");
    }

    #[test]
    fn a_page_stands_alone_and_says_what_happened() {
        let row = |at_s| Row { at_s, live: 5, lookups: 4, found: 3, lookup_p50_ms: 120.0, ..Row::default() };
        let report = Report {
            scenario: "<script>alert(1)</script>".into(),
            violations: vec!["peer 3 & others".into()],
            series: vec![row(10.0), row(20.0)],
            lookup_times: vec![100.0, 140.0],
            ..Report::default()
        };
        let page = page(&report);
        assert!(!page.contains("<script") && !page.contains("http") && !page.contains("src="));
        assert!(page.contains("peer 3 &amp; others") && page.matches("<svg").count() == 4, "{page}");
        assert_eq!(page.matches("<figure").count(), page.matches("</figure>").count());
    }

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!([0.7, 1.0, 130.0, 2_100.0].map(round_up), [1.0, 1.0, 200.0, 5_000.0]);
    }
}
