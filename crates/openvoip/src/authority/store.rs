//! The file of an authority: which key has which name, which codes are out, which keys are revoked.
//!
//! It is opened for one transaction and closed again, so that commands can look and write beside the service;
//! whoever finds it open waits a moment. Names, codes and revocations are bounded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{
    Database, DatabaseError, ReadOnlyDatabase, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::{Deserialize, Serialize};
use wire::certificate::MAX_REVOKED;
use wire::{PublicKey, UnixTime};

/// The file in the data directory.
const FILE: &str = "authority.redb";

/// Most names given, and most codes that are out.
const MAX_NAMES: u64 = 1_000_000;
const MAX_CODES: u64 = 10_000;

/// How long a command waits for another one.
const PATIENCE: Duration = Duration::from_secs(3);

/// The name of an invitation for any name that is free.
pub const ANY_NAME: &str = "*";

const NAMES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("names");
const CODES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("codes");
const REVOKED: TableDefinition<'_, &str, u64> = TableDefinition::new("revoked");
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

/// The serial of the last certificate, and the number of the list of revocations.
const SERIAL: &str = "serial";
const LIST: &str = "list";

/// A name that was given.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// The user key, in hexadecimal.
    pub key: String,
    /// Since when, in Unix seconds.
    pub since: u64,
    /// When its latest certificate ends.
    pub until: u64,
    /// Whether it was taken back: no certificate is given any more.
    pub revoked: bool,
}

/// A code that is out.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invitation {
    /// For which name; [`ANY_NAME`] for any that is free.
    pub name: String,
    /// How often it may still be used.
    pub uses: u32,
    /// When it ends, in Unix seconds.
    pub expires: u64,
    /// Whether it gives a name that has another key.
    pub replace: bool,
}

impl Invitation {
    /// Whether it can still be used.
    pub fn is_good(&self, now: UnixTime) -> bool {
        self.uses > 0 && now.0 < self.expires
    }
}

/// The file.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    /// The file of a data directory; made when something is first written.
    pub fn new(dir: PathBuf) -> Self {
        Store(dir.join(FILE))
    }

    fn said(&self, problem: Problem) -> String {
        match problem {
            Problem::Store(e) => format!("{}: {e}", self.0.display()),
            Problem::Words(words) => words,
        }
    }

    /// Opens the file, as soon as nobody else has it open.
    fn open<D>(&self, open: impl Fn(&Path) -> Result<D, DatabaseError>) -> Result<D, DatabaseError> {
        let end = Instant::now() + PATIENCE;
        loop {
            match open(&self.0) {
                Err(DatabaseError::DatabaseAlreadyOpen) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                opened => return opened,
            }
        }
    }

    /// One transaction: all of it, or, if it fails, nothing.
    fn change<T>(&self, change: impl FnOnce(&WriteTransaction) -> Result<T, Problem>) -> Result<T, String> {
        let attempt = || {
            let database = self.open(|file| Database::create(file))?;
            let transaction = database.begin_write()?;
            // All tables from the first change on, so that whoever only looks finds them.
            transaction.open_table(NAMES)?;
            transaction.open_table(CODES)?;
            transaction.open_table(REVOKED)?;
            transaction.open_table(NUMBERS)?;
            let changed = change(&transaction)?;
            transaction.commit()?;
            Ok(changed)
        };
        attempt().map_err(|problem| self.said(problem))
    }

    /// Looks, and writes nothing to the disk: the service does so all the time.
    fn look<T: Default>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Problem>,
    ) -> Result<T, String> {
        if !self.0.exists() {
            return Ok(T::default());
        }
        let attempt = || {
            let opened = match self.open(|file| ReadOnlyDatabase::open(file)) {
                // Whoever wrote last was killed.
                Err(DatabaseError::RepairAborted) => {
                    drop(self.open(|file| Database::create(file))?);
                    self.open(|file| ReadOnlyDatabase::open(file))
                }
                opened => opened,
            };
            look(&opened?.begin_read()?)
        };
        attempt().map_err(|problem| self.said(problem))
    }

    /// The key that has a name.
    ///
    /// # Errors
    /// In words, here and below.
    pub fn entry(&self, aor: &str) -> Result<Option<Entry>, String> {
        self.look(|t| read(&t.open_table(NAMES)?, aor))
    }

    /// Every name, in order.
    pub fn names(&self) -> Result<BTreeMap<String, Entry>, String> {
        self.look(|t| all(&t.open_table(NAMES)?))
    }

    /// Every invitation that can still be used, with how its code is kept.
    pub fn invitations(&self, now: UnixTime) -> Result<BTreeMap<String, Invitation>, String> {
        let mut codes: BTreeMap<String, Invitation> = self.look(|t| all(&t.open_table(CODES)?))?;
        codes.retain(|_, invitation| invitation.is_good(now));
        Ok(codes)
    }

    /// Keeps an invitation by its code, and forgets those that have ended.
    pub fn invite(&self, code: &str, invitation: &Invitation, now: UnixTime) -> Result<(), String> {
        self.change(|t| {
            let mut codes = t.open_table(CODES)?;
            let lasts = |_: &str, value: &[u8]| {
                serde_json::from_slice::<Invitation>(value).is_ok_and(|i| i.is_good(now))
            };
            codes.retain(lasts)?;
            if codes.len()? >= MAX_CODES {
                return Err(Problem::Words(format!("{MAX_CODES} invitations are out already")));
            }
            codes.insert(super::kept_as(code).as_str(), bytes(invitation).as_slice())?;
            Ok(())
        })
    }

    /// Gives a name to a key, by the code that is kept so if it took one; the serial of the certificate. Another
    /// key that had the name is revoked.
    pub(super) fn give(
        &self,
        aor: &str,
        user: &PublicKey,
        now: UnixTime,
        until: UnixTime,
        code: Option<&str>,
    ) -> Result<u64, String> {
        self.change(|t| {
            let mut names = t.open_table(NAMES)?;
            let known: Option<Entry> = read(&names, aor)?;
            if known.is_none() && names.len()? >= MAX_NAMES {
                return Err(Problem::Words("this authority has given all its names".into()));
            }
            let same = known.as_ref().filter(|entry| entry.key == user.to_string());
            if same.is_some_and(|entry| entry.revoked) {
                return Err(Problem::Words(format!("{aor} was revoked; ask who runs the authority")));
            }
            if let Some(old) = known.as_ref().filter(|_| same.is_none()) {
                revoke(t, old, now)?;
            }
            let since = same.map_or(now.0, |entry| entry.since);
            // A certificate that lasts longer may be out: from before the service gave shorter ones.
            let until = same.map_or(until.0, |entry| entry.until.max(until.0));
            let entry = Entry { key: user.to_string(), since, until, revoked: false };
            names.insert(aor, bytes(&entry).as_slice())?;
            if let Some(kept) = code {
                let mut codes = t.open_table(CODES)?;
                let used: Option<Invitation> = read(&codes, kept)?;
                let left = used.map(|i| Invitation { uses: i.uses.saturating_sub(1), ..i });
                match left.filter(|i| i.uses > 0) {
                    Some(left) => drop(codes.insert(kept, bytes(&left).as_slice())?),
                    None => drop(codes.remove(kept)?),
                }
            }
            next(t, SERIAL)
        })
    }

    /// Takes a name back: its certificates stop, and its key gets no others.
    pub fn revoke(&self, aor: &str, now: UnixTime) -> Result<Entry, String> {
        self.change(|t| {
            let mut names = t.open_table(NAMES)?;
            let Some(entry) = read::<Entry>(&names, aor)? else {
                return Err(Problem::Words(format!("{aor} was not given to anybody")));
            };
            revoke(t, &entry, now)?;
            let entry = Entry { revoked: true, ..entry };
            names.insert(aor, bytes(&entry).as_slice())?;
            Ok(entry)
        })
    }

    /// The number of the list of revoked keys, and the keys on it whose certificates have not all ended.
    pub(super) fn revoked(&self, now: UnixTime) -> Result<(u64, BTreeMap<PublicKey, UnixTime>), String> {
        self.look(|t| {
            let number = t.open_table(NUMBERS)?.get(LIST)?.map_or(0, |n| n.value());
            Ok((number, revoked(&t.open_table(REVOKED)?, now)?))
        })
    }
}

/// Puts a key on the list until its last certificate ends.
fn revoke(t: &WriteTransaction, entry: &Entry, now: UnixTime) -> Result<(), Problem> {
    let mut table = t.open_table(REVOKED)?;
    let listed = revoked(&table, now)?;
    if listed.len() >= MAX_REVOKED && !listed.keys().any(|key| key.to_string() == entry.key) {
        let soonest = listed.values().map(|until| until.0).min().unwrap_or_default();
        return Err(Problem::Words(format!(
            "{MAX_REVOKED} keys are revoked already, the first of them until {soonest} (Unix seconds). Ban this one \
             in the document: openvoip overlay sign FILE --key KEYFILE --revoke {}",
            entry.key
        )));
    }
    table.retain(|_, until| until + wire::certificate::TOLERANCE >= now.0)?;
    table.insert(entry.key.as_str(), entry.until)?;
    drop(table);
    next(t, LIST).map(drop)
}

fn revoked(
    table: &impl ReadableTable<&'static str, u64>,
    now: UnixTime,
) -> Result<BTreeMap<PublicKey, UnixTime>, Problem> {
    let mut keys = BTreeMap::new();
    for entry in table.iter()? {
        let (key, until) = entry?;
        if let Ok(key) = key.value().parse()
            && until.value() + wire::certificate::TOLERANCE >= now.0
        {
            keys.insert(key, UnixTime(until.value()));
        }
    }
    Ok(keys)
}

/// Raises a number, and returns it.
fn next(t: &WriteTransaction, name: &str) -> Result<u64, Problem> {
    let mut numbers = t.open_table(NUMBERS)?;
    let next = numbers.get(name)?.map_or(0, |n| n.value()) + 1;
    numbers.insert(name, next)?;
    Ok(next)
}

fn read<T: for<'de> Deserialize<'de>>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>, Problem> {
    let value = table.get(key)?;
    value.map(|value| parse(value.value())).transpose()
}

fn all<T: for<'de> Deserialize<'de>>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<BTreeMap<String, T>, Problem> {
    let mut all = BTreeMap::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        all.insert(key.value().to_owned(), parse(value.value())?);
    }
    Ok(all)
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes)
        .map_err(|e| Problem::Words(format!("the file of the authority is damaged: {e}")))
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain fields")
}

/// Why a transaction failed.
enum Problem {
    Store(redb::Error),
    Words(String),
}

impl<E: Into<redb::Error>> From<E> for Problem {
    fn from(e: E) -> Self {
        Problem::Store(e.into())
    }
}
