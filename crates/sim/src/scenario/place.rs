//! Where in the file a value stands, so that an error can point at it.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Line and column, counted from 1, of the value at a path such as `events[2].loss`. Where the path
/// leads further than the file, the place of the last part that is there.
pub(super) fn of(text: &str, path: &str) -> Option<(usize, usize)> {
    let root = DeTable::parse(text).ok()?;
    let mut steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    let mut here: &Spanned<DeValue<'_>> = root.get_ref().get(steps.next()?)?;
    for step in steps {
        let next = match here.get_ref() {
            DeValue::Table(table) => table.get(step),
            DeValue::Array(array) => step.parse::<usize>().ok().and_then(|n| array.get(n)),
            _ => None,
        };
        let Some(next) = next else { break };
        here = next;
    }
    at(text, here)
}

/// The same for a value of a table under a key that is not taken apart, as in `[sweep]`.
pub(super) fn in_table(text: &str, table: &str, key: &str) -> Option<(usize, usize)> {
    let root = DeTable::parse(text).ok()?;
    let DeValue::Table(table) = root.get_ref().get(table)?.get_ref() else { return None };
    at(text, table.get(key)?)
}

fn at(text: &str, here: &Spanned<DeValue<'_>>) -> Option<(usize, usize)> {
    let before = text.get(..here.span().start)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next()?.chars().count() + 1;
    Some((line, column))
}
