//! Asking the running peer, and showing what it answered to a person or a program.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use openvoip::control;
use serde_json::{Map, Value, json};

/// What holds for every command.
pub(crate) struct Context {
    /// Directory of the peer.
    pub(crate) data_dir: PathBuf,
    /// Whether the answer is printed as JSON.
    pub(crate) json: bool,
    /// How long to wait for an answer, in seconds: 1 or more, and not so many that sums overflow.
    pub(crate) timeout: u64,
}

impl Context {
    /// The peer's answer to a request; a failure if it does not run or does not answer.
    pub(crate) fn ask(&self, request: &Value) -> Value {
        self.ask_for(request, Duration::ZERO)
    }

    /// The same for something that takes `longer` than an answer.
    pub(crate) fn ask_for(&self, request: &Value, longer: Duration) -> Value {
        control::ask(&self.data_dir, request, Duration::from_secs(self.timeout) + longer)
    }

    /// Shows an answer; returns its exit code. A failure is told on standard error in any case, for the
    /// person who reads the log of a program that wanted JSON.
    pub(crate) fn show(&self, answer: Value) -> i32 {
        if let Some(error) = answer["error"].as_str() {
            eprintln!("openvoip: {error}. Next: {}", answer["next"].as_str().unwrap_or("openvoip --help"));
        }
        if self.json {
            return print_json(answer);
        }
        let (answer, code) = without_exit(answer);
        if answer["error"].is_null() {
            print_plain(answer.as_object(), 0);
        }
        code
    }

    /// Carries out a command that is only a name.
    pub(crate) fn simple(&self, command: &str) -> i32 {
        self.show(self.ask(&json!({ "command": command })))
    }
}

/// Prints an answer as one line of JSON; returns its exit code.
pub(crate) fn print_json(answer: Value) -> i32 {
    let (answer, code) = without_exit(answer);
    print(answer);
    code
}

/// One line on standard output. Who reads no further, like `head`, wants no more: that is no error.
pub(crate) fn print(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The exit code travels in the answer and is not part of it.
fn without_exit(mut answer: Value) -> (Value, i32) {
    let exit = answer.as_object_mut().and_then(|o| o.remove("exit"));
    let code = exit.and_then(|e| e.as_i64()).unwrap_or(i64::from(control::exit::FAILED));
    (answer, code as i32)
}

/// An answer for people: one value a line, and lists of things as tables.
fn print_plain(answer: Option<&Map<String, Value>>, depth: usize) {
    let indent = "  ".repeat(depth);
    for (name, value) in answer.into_iter().flatten().filter(|(name, _)| *name != "schema") {
        match value {
            Value::Object(inner) => {
                print(format_args!("{indent}{name}"));
                print_plain(Some(inner), depth + 1);
            }
            Value::Array(items) => {
                print(format_args!("{indent}{name} ({})", items.len()));
                table(items).iter().for_each(|line| print(format_args!("{indent}  {line}")));
            }
            value => print(format_args!("{indent}{name:<24} {}", plain(value))),
        }
    }
}

/// Things of one kind, one a line under the names of their fields; other items as they are.
fn table(items: &[Value]) -> Vec<String> {
    let Some(Value::Object(first)) = items.first() else { return items.iter().map(plain).collect() };
    let names: Vec<&String> = first.keys().collect();
    let head = names.iter().map(|name| (*name).clone()).collect();
    let cells = |item: &Value| names.iter().map(|name| plain(&item[name.as_str()])).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(items.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A value as a person reads it: texts without quotes, fractions with three digits at most. Texts may
/// come from strangers, so nothing in them can steer the terminal.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.replace(char::is_control, "\u{fffd}"),
        Value::Number(number) if number.is_f64() => {
            let text = format!("{:.3}", number.as_f64().unwrap_or_default());
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_tables() {
        let rows = [json!({ "node": "ab", "rtt_ms": 1.25 }), json!({ "node": "abcdef", "rtt_ms": null })];
        assert_eq!(table(&rows), ["node    rtt_ms", "ab      1.25", "abcdef  -"]);
        assert_eq!(table(&[json!("a"), json!(2)]), ["a", "2"]);
        assert_eq!(plain(&json!(3.0)), "3");
        assert_eq!(plain(&json!("a\u{1b}[2Jb")), "a\u{fffd}[2Jb");
    }
}
