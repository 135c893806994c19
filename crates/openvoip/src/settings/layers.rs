//! Defaults, file and command line, one over the other; and mistakes, each with its line.
//!
//! A configuration is handled as a TOML table whose values are named by dotted keys such as
//! `overlay.base`. The defaults give the table its shape: a key they do not have is unknown, and a
//! value is good if the defaults with it in place still make [`Settings`]. A table that is empty there is
//! a value too: its keys are the owner's.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use node::{Charter, LinkFamily, OverlayOption, Profile};
use serde_json::json;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Overlay, Settings};

/// Largest configuration file read, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody said anything else.
    Default,
    /// The file, at this line.
    File(PathBuf, usize),
    /// The command line, or an environment variable that stands for an option of it.
    CommandLine,
    /// The overlay's document.
    Document,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path, line) => write!(f, "{}:{line}", path.display()),
            Origin::CommandLine => f.write_str("command line"),
            Origin::Document => f.write_str("overlay document"),
        }
    }
}

/// A mistake in a configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Line of the file, from 1; `None` on the command line.
    pub line: Option<usize>,
    /// The key, if one is to blame.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// For an unknown key: the known one that looks most like it.
    pub nearest: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: ")?,
            None => f.write_str("command line: ")?,
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)?;
        self.nearest.iter().try_for_each(|nearest| write!(f, "; did you mean '{nearest}'?"))
    }
}

/// A configuration that cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadConfig {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        let problems: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        f.write_str(&problems.join("\n  "))
    }
}

/// What holds, and why.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings.
    pub settings: Settings,
    /// Where each value came from, by its dotted key.
    pub origins: BTreeMap<String, Origin>,
    /// Whose overlay this is, and what its document says.
    pub charter: Option<Charter>,
}

impl Resolved {
    /// Lets a document say otherwise than a value that a ticket gave: documents may be newer than tickets.
    pub fn only_suggested(&mut self, key: &str) {
        self.origins.insert(key.into(), Origin::Default);
    }

    /// Whether somebody asked for this value.
    pub fn is_demanded(&self, key: &str) -> bool {
        self.origins.get(key).is_some_and(|origin| *origin != Origin::Default)
    }

    /// What the node is told. It insists on the options of an overlay that the command line names, on
    /// those that a file changes (whoever keeps a whole template insists on nothing by that), and on
    /// all that a document says.
    pub fn config(&self) -> node::Config {
        let of_keys = |option: &OverlayOption| OverlayOption::OF_KEYS.contains(option);
        let insists = |option: &OverlayOption| match self.origins.get(&key_of(*option)) {
            Some(Origin::Document) => true,
            _ => of_keys(option) && self.means(*option),
        };
        let insist = OverlayOption::ALL.into_iter().filter(insists).collect();
        node::Config { insist, charter: self.charter.clone().map(Arc::new), ..self.settings.config() }
    }

    /// Whether somebody asked for this option of the overlay.
    fn means(&self, option: OverlayOption) -> bool {
        let defaults = node::OverlayOptions::default();
        let differs = self.settings.config().overlay.difference(&defaults, &[option]).is_some();
        self.is_meant(&key_of(option), differs)
    }

    /// Whether somebody asked for a value: whoever keeps a whole template asks for nothing by its defaults.
    fn is_meant(&self, key: &str, differs_from_default: bool) -> bool {
        match self.origins.get(key) {
            Some(Origin::CommandLine | Origin::Document) => true,
            Some(Origin::File(..)) => differs_from_default,
            Some(Origin::Default) | None => false,
        }
    }

    /// Takes the profile of an overlay and its links from its document.
    ///
    /// # Errors
    /// In words, if file or command line ask for others.
    pub fn take_profile(&mut self, profile: Profile, links: LinkFamily) -> Result<(), String> {
        let overlay = &self.settings.overlay;
        let (key, ours) = ("overlay.profile", (overlay.profile, overlay.links));
        let profile_differs = self.is_meant(key, ours.0 != Profile::default()) && ours.0 != profile;
        let of_links = "overlay.links";
        let links_differ = self.is_meant(of_links, ours.1 != LinkFamily::default()) && ours.1 != links;
        let difference = match ours {
            (ours, _) if profile_differs => format!("profile is {profile} there and {ours} here"),
            (_, ours) if links_differ => format!("links are {links} there and {ours} here"),
            _ => String::new(),
        };
        if !difference.is_empty() {
            return Err(format!(
                "the overlay document is of another overlay than was asked for: {difference}"
            ));
        }
        (self.settings.overlay.profile, self.settings.overlay.links) = (profile, links);
        self.origins.extend([key, of_links].map(|key| (key.to_owned(), Origin::Document)));
        let problem = self.settings.exposure().map(|problem| format!("{key}: {problem}"));
        problem
            .or_else(|| self.settings.forbidden().map(|problem| format!("networks: {problem}")))
            .map_or(Ok(()), Err)
    }

    /// Takes the options of an overlay from its document.
    ///
    /// # Errors
    /// In words, if file or command line ask for others.
    pub fn take_options(&mut self, options: &node::OverlayOptions) -> Result<(), String> {
        let ours = self.settings.config().overlay;
        let meant: Vec<_> = OverlayOption::ALL.into_iter().filter(|option| self.means(*option)).collect();
        if let Some(difference) = ours.difference(options, &meant) {
            return Err(format!(
                "the overlay document is of another overlay than was asked for: {difference}"
            ));
        }
        let Overlay { profile, links, force_open, document, .. } = self.settings.overlay.clone();
        self.settings.overlay =
            Overlay { force_open, document, ..Overlay::new(options.clone(), (profile, links)) };
        self.origins.extend(OverlayOption::ALL.map(|option| (key_of(option), Origin::Document)));
        Ok(())
    }

    /// The settings by name, and the origin of each by its dotted key: `config show`.
    pub fn to_json(&self) -> serde_json::Value {
        let origins: BTreeMap<_, _> = self.origins.iter().map(|(k, o)| (k, o.to_string())).collect();
        json!({ "settings": self.settings, "origin": origins })
    }
}

/// The dotted key of an option of the overlay.
fn key_of(option: OverlayOption) -> String {
    format!("overlay.{}", option.name())
}

/// Lays a file and the command line over the defaults.
pub fn resolve(file: Option<&Path>, command_line: &Table) -> Result<Resolved, BadConfig> {
    let defaults = default_table();
    let mut merged = defaults.clone();
    let mut origins: BTreeMap<String, Origin> =
        leaves(&defaults, &defaults).into_keys().map(|key| (key, Origin::Default)).collect();
    let mut problems = Vec::new();
    if let Some(path) = file {
        let (table, lines) = read(path, &defaults, &mut problems);
        for (key, value) in leaves(&table, &defaults) {
            let Some(line) = lines.get(&key) else { continue };
            origins.insert(key.clone(), Origin::File(path.to_owned(), *line));
            put_if_good(&mut merged, &defaults, &key, value, Some(*line), &mut problems);
        }
    }
    for (key, value) in leaves(command_line, &defaults) {
        origins.insert(key.clone(), Origin::CommandLine);
        put_if_good(&mut merged, &defaults, &key, value, None, &mut problems);
    }
    let settings: Settings = merged.try_into().expect("every value was tried");
    for (key, problem) in settings.problems() {
        let line = match origins.get(key) {
            Some(Origin::File(_, line)) => Some(*line),
            _ => None,
        };
        problems.push(Problem { line, key: Some(key.to_owned()), problem, nearest: None });
    }
    if problems.is_empty() {
        return Ok(Resolved { settings, origins, charter: None });
    }
    problems.sort_by_key(|p| (p.line.is_none(), p.line));
    Err(BadConfig { file: file.map(Path::to_owned), problems })
}

fn default_table() -> Table {
    Table::try_from(Settings::default()).expect("settings are a table")
}

/// Every value that is not a section of the defaults, by its dotted key.
fn leaves(table: &Table, defaults: &Table) -> BTreeMap<String, Value> {
    fn walk(table: &Table, defaults: &Table, prefix: &str, found: &mut BTreeMap<String, Value>) {
        for (name, value) in table {
            match (value, defaults.get(name).and_then(section)) {
                (Value::Table(inner), Some(known)) => walk(inner, known, &format!("{prefix}{name}."), found),
                _ => drop(found.insert(format!("{prefix}{name}"), value.clone())),
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(table, defaults, "", &mut found);
    found
}

/// The section that a default is, if it is one.
fn section(default: &Value) -> Option<&Table> {
    default.as_table().filter(|table| !table.is_empty())
}

/// Puts a value at a dotted key.
pub fn put(table: &mut Table, key: &str, value: impl Into<Value>) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value.into())),
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Takes a value over if the defaults with it still are settings.
fn put_if_good(
    merged: &mut Table,
    defaults: &Table,
    key: &str,
    value: Value,
    line: Option<usize>,
    problems: &mut Vec<Problem>,
) {
    let mut trial = defaults.clone();
    put(&mut trial, key, value.clone());
    match trial.try_into::<Settings>() {
        Ok(_) => put(merged, key, value),
        Err(e) => {
            let problem = e.message().to_owned();
            problems.push(Problem { line, key: Some(key.to_owned()), problem, nearest: None });
        }
    }
}

/// Reads a file: its table, and the line of every known key that stands in it.
fn read(path: &Path, defaults: &Table, problems: &mut Vec<Problem>) -> (Table, BTreeMap<String, usize>) {
    let nothing = (Table::new(), BTreeMap::new());
    let mut blame = |line, problem| {
        problems.push(Problem { line: Some(line), key: None, problem, nearest: None });
    };
    let text = match std::fs::metadata(path).map(|m| m.len()) {
        Ok(len) if len > MAX_FILE => Err("longer than a mebibyte".into()),
        _ => std::fs::read_to_string(path).map_err(|e| e.to_string()),
    };
    let text = match text {
        Ok(text) => text,
        Err(e) => {
            blame(1, format!("cannot be read: {e}"));
            return nothing;
        }
    };
    let line_at = |offset: usize| text[..offset.min(text.len())].matches('\n').count() + 1;
    let (spanned, table) = match (DeTable::parse(&text), text.parse::<Table>()) {
        (Ok(spanned), Ok(table)) => (spanned, table),
        (Err(e), _) | (_, Err(e)) => {
            blame(e.span().map_or(1, |s| line_at(s.start)), e.message().to_owned());
            return nothing;
        }
    };
    let mut lines = BTreeMap::new();
    find_keys(spanned.get_ref(), defaults, "", &line_at, &mut lines, problems);
    (table, lines)
}

/// Notes the line of every known key, and blames every unknown one.
fn find_keys(
    table: &DeTable<'_>,
    defaults: &Table,
    prefix: &str,
    line_at: &dyn Fn(usize) -> usize,
    lines: &mut BTreeMap<String, usize>,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in table {
        let line = line_at(name.span().start);
        let key = format!("{prefix}{}", name.get_ref());
        let default = defaults.get(name.get_ref().as_ref());
        match (default, default.and_then(section), value.get_ref()) {
            (_, Some(known), DeValue::Table(inner)) => {
                find_keys(inner, known, &format!("{key}."), line_at, lines, problems);
            }
            (_, Some(_), _) => {
                let problem = format!("is a section: write [{key}]");
                problems.push(Problem { line: Some(line), key: Some(key), problem, nearest: None });
            }
            (Some(value), None, DeValue::Table(_)) if !value.is_table() => {
                let problem = "is a value and not a section".into();
                problems.push(Problem { line: Some(line), key: Some(key), problem, nearest: None });
            }
            (Some(_), None, _) => drop(lines.insert(key, line)),
            (None, None, _) => {
                let nearest = nearest(&key);
                let problem = "there is no such key".into();
                problems.push(Problem { line: Some(line), key: Some(key), problem, nearest });
            }
        }
    }
}

/// The known key, or section, that looks most like this one, wherever it stands.
fn nearest(key: &str) -> Option<String> {
    let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    let defaults = default_table();
    let sections = defaults.iter().filter(|(_, v)| v.is_table()).map(|(name, _)| name.clone());
    let far = |known: &String| {
        let whole = strsim::damerau_levenshtein(key, known);
        whole.min(strsim::damerau_levenshtein(&last(key), &last(known)) + 1)
    };
    leaves(&defaults, &defaults).into_keys().chain(sections).min_by_key(far)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<Resolved, BadConfig> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        resolve(Some(&file), &Table::new())
    }

    fn mistakes(text: &str) -> Vec<String> {
        check(text).unwrap_err().problems.iter().map(Problem::to_string).collect()
    }

    #[test]
    fn every_setting_is_in_the_template_with_its_reason() {
        let template: Table = super::super::TEMPLATE.parse().unwrap();
        let defaults = default_table();
        assert_eq!(leaves(&template, &defaults), leaves(&defaults, &defaults));
        let mut reason = false;
        for line in super::super::TEMPLATE.lines() {
            if line.contains(" = ") && !line.starts_with('#') {
                assert!(reason, "no comment above: {line}");
            }
            reason = line.starts_with("# ");
        }
    }

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "listen = '127.0.0.1:7000'\n[overlay]\nname = 'camp'\nbase = 4").unwrap();
        let mut line = Table::new();
        put(&mut line, "overlay.base", 16);
        let resolved = resolve(Some(&file), &line).unwrap();
        let overlay = &resolved.settings.overlay;
        assert_eq!((overlay.name.as_str(), overlay.base, overlay.replicas), ("camp", 16, 5));
        assert_eq!(resolved.origins["overlay.base"], Origin::CommandLine);
        assert_eq!(resolved.origins["overlay.name"], Origin::File(file, 3));
        assert!(resolved.is_demanded("listen") && !resolved.is_demanded("sip"));
    }

    #[test]
    fn what_the_command_line_says_of_the_overlay_or_a_file_changes_is_insisted_on() {
        use OverlayOption::{Base, Hash, Name};
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.toml");
        std::fs::write(&file, "[overlay]\nname = 'camp'\nbase = 2\nreplicas = 3").unwrap();
        let mut line = Table::new();
        put(&mut line, "overlay.hash", "sha-256");
        assert_eq!(resolve(Some(&file), &line).unwrap().config().insist, [Name, Hash]);
        put(&mut line, "overlay.base", 2);
        assert_eq!(resolve(Some(&file), &line).unwrap().config().insist, [Name, Hash, Base]);
        std::fs::write(&file, super::super::TEMPLATE).unwrap();
        assert_eq!(resolve(Some(&file), &Table::new()).unwrap().config(), node::Config::default());
    }

    #[test]
    fn a_document_says_everything_of_the_overlay_and_contradicts_nobody() {
        let document = node::OverlayOptions { name: "camp".into(), replicas: 3, ..Default::default() };
        let mut resolved = check(super::super::TEMPLATE).unwrap();
        resolved.take_options(&document).unwrap();
        let config = resolved.config();
        assert_eq!((config.overlay, config.insist), (document.clone(), OverlayOption::ALL.to_vec()));
        assert_eq!(resolved.origins["overlay.hash"], Origin::Document);
        for (text, words) in [
            ("name = 'fair'", "name is camp there and fair here"),
            ("replicas = 4", "replicas is 3 there and 4 here"),
        ] {
            let refused = check(&format!("[overlay]\n{text}")).unwrap().take_options(&document).unwrap_err();
            assert!(refused.ends_with(words), "{refused}");
        }
        assert_eq!(check("[overlay]\nname = 'camp'").unwrap().take_options(&document), Ok(()));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            mistakes("lisen = 'x'\n\n[overlay]\nnmae = 'camp'\n[bugdet]\nbytes_per_s = 1"),
            [
                "line 1: lisen: there is no such key; did you mean 'listen'?",
                "line 4: overlay.nmae: there is no such key; did you mean 'overlay.name'?",
                "line 5: bugdet: there is no such key; did you mean 'budget'?",
            ]
        );
        assert_eq!(
            mistakes("refresh_s = 100"),
            ["line 1: refresh_s: there is no such key; did you mean 'records.refresh_s'?"]
        );
    }

    #[test]
    fn the_keys_of_an_empty_table_are_the_owners_and_bad_ones_are_named() {
        for text in
            ["[dial]\nshort = { 11 = 'anna@camp', '*9' = 'bob' }", "[dial.short]\n11='anna@camp'\n'*9'='bob'"]
        {
            let resolved = check(text).unwrap();
            let short = &resolved.settings.dial.short;
            assert_eq!((short["11"].as_str(), short["*9"].as_str(), short.len()), ("anna@camp", "bob", 2));
            assert!(resolved.is_demanded("dial.short") && !resolved.is_demanded("dial.prefixes"));
        }
        assert_eq!(
            mistakes("[dial]\nshort = { 1a = 'anna' }\nprefixes = { 808 = 'bob' }\nshrt = {}"),
            [
                "line 2: dial.short: '1a' is not 1 to 40 keys out of 0 to 9, * and #",
                "line 3: dial.prefixes: 808: 'bob' has no * for what follows the prefix",
                "line 4: dial.shrt: there is no such key; did you mean 'dial.short'?",
            ]
        );
        assert!(mistakes("[dial]\nshort = 11")[0].starts_with("line 2: dial.short: "));
        assert!(mistakes("[dial.short]\n11 = 12")[0].starts_with("line 1: dial.short: "));
    }

    #[test]
    fn every_bad_value_is_named_with_its_line() {
        let found = mistakes("listen = 7080\nbootstrap = ['nowhere']\n[overlay]\nhash = 'sha-3'\nbase = 3");
        assert_eq!(found.len(), 4, "{found:#?}");
        for (line, key) in [(1, "listen"), (2, "bootstrap"), (4, "overlay.hash"), (5, "overlay.base")] {
            let start = format!("line {line}: {key}: ");
            assert!(found.iter().any(|p| p.starts_with(&start)), "{start} {found:#?}");
        }
        assert!(mistakes("users = 'alice'")[0].contains("users"));
        assert!(mistakes("overlay = 1")[0].contains("section"));
        assert!(mistakes("listen = ")[0].starts_with("line 1"));
        let missing = resolve(Some(Path::new("/nowhere/c.toml")), &Table::new()).unwrap_err();
        assert!(missing.to_string().contains("cannot be read"), "{missing}");
    }
}
