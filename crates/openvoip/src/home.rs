//! The data directory of a peer: keys, phones, and what survives a restart.
//!
//! ```text
//! peer.key            the peer key, 64 hexadecimal digits, readable by the owner only
//! users/NAME.key      a user key each, likewise
//! operator.key        the key with which this owner configures other peers, likewise; only if wanted
//! sips.pem            the certificate that phones are shown over TLS, for them to keep
//! sips-key.pem        its key, the owner's alone
//! openvoip.toml       the configuration, if the owner wrote one
//! numbers.json        what the keys of users cost, from which their numbers follow; no secret
//! phones.json         who may register, with passwords, likewise
//! state.json          host cache, published values, inbox, keys of people
//! overlay.founder     the founder key of the overlay, public, from a ticket or a document; see home/overlay.rs
//! overlay.document    the overlay's document that was accepted last
//! letters/            sessions by which text messages go in letters; see home/letters.rs
//! control.sock        the control socket, while the peer runs
//! openvoip.log        the log, if wanted, and openvoip.log.1 before it
//! ```
//!
//! Files are replaced, never overwritten in place. One that cannot be read is set aside under another
//! name with a message, and nothing is lost silently.

mod certificate;
mod letters;
mod overlay;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use node::{Identity, OverlayOptions, Saved, User};
use wire::{HashAlgorithm, KeyPair, PublicKey, Seed, Stretch, puzzle};
use zeroize::Zeroizing;

pub use certificate::{
    Certificate, CertificateFiles, passing as passing_certificate, read as read_certificate,
};
pub use letters::Letters;
pub use overlay::{DOCUMENT, read_documents};

const OPERATOR_KEY: &str = "operator.key";

/// A data directory.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    /// Opens a data directory, making it if it is not there.
    pub fn open(path: &Path) -> Result<Home, String> {
        let users = path.join("users");
        // Keys, passwords and messages are the owner's alone.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&users).map_err(|e| {
            format!("cannot make {}: {e}. Choose another place with --data-dir", users.display())
        })?;
        Ok(Home(path.to_owned()))
    }

    /// Where the running peer listens for commands.
    pub fn control_socket(path: &Path) -> PathBuf {
        path.join("control.sock")
    }

    /// The path itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The peer key and the keys of the users served; made when first asked for. A peer key is drawn
    /// until its Node-ID fulfils the difficulty of the overlay, 2^difficulty times in the mean; one
    /// that is there stays as it is.
    pub fn identity(&self, users: &[String], overlay: &OverlayOptions) -> Result<Identity, String> {
        let OverlayOptions { hash, difficulty, .. } = *overlay;
        let peer = self.key_of_difficulty("peer.key", hash, difficulty)?;
        let mut names: Vec<String> = self.users();
        names.extend(users.iter().cloned());
        names.sort();
        names.dedup();
        let mut served = names.iter().map(|aor| self.user(aor)).collect::<Result<Vec<User>, String>>()?;
        // The users named on the command line come first: they give the default domain.
        served.sort_by_key(|u| !users.contains(&u.aor));
        Ok(Identity { peer, users: served })
    }

    /// A user to serve; the key is made when first asked for.
    pub fn user(&self, aor: &str) -> Result<User, String> {
        Ok(User { keys: self.key(&format!("users/{aor}.key"))?, aor: aor.to_owned() })
    }

    /// Where the operator key is, or would be.
    pub fn operator_file(&self) -> PathBuf {
        self.0.join(OPERATOR_KEY)
    }

    /// The key with which this owner configures other peers, if there is one.
    pub fn operator(&self) -> Result<Option<KeyPair>, String> {
        self.operator_file().exists().then(|| self.make_operator()).transpose()
    }

    /// The same; made if it is not there.
    pub fn make_operator(&self) -> Result<KeyPair, String> {
        self.key(OPERATOR_KEY)
    }

    /// Makes a user's key this one, where the user has none; the error says who stands in the way.
    pub fn restore_user(&self, aor: &str, key: &KeyPair) -> Result<(), String> {
        is_file_name(aor)?;
        let file = self.0.join(format!("users/{aor}.key"));
        if !file.exists() {
            return write_new(&file, 0o600, text_of(key).as_bytes());
        }
        match self.user(aor)?.keys.public() == key.public() {
            true => Ok(()),
            false => Err(format!(
                "{aor} has another key here, and keeps it; to give it up, move {} away",
                file.display()
            )),
        }
    }

    /// The names whose keys are here.
    pub fn users(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("users")).into_iter().flatten().flatten();
        let name = |e: fs::DirEntry| e.file_name().to_str()?.strip_suffix(".key").map(str::to_owned);
        let mut names: Vec<String> = entries.filter_map(name).collect();
        names.sort();
        names
    }

    fn key(&self, name: &str) -> Result<KeyPair, String> {
        self.key_of_difficulty(name, HashAlgorithm::default(), 0)
    }

    fn key_of_difficulty(&self, name: &str, hash: HashAlgorithm, difficulty: u8) -> Result<KeyPair, String> {
        is_file_name(name.strip_prefix("users/").unwrap_or(name))?;
        let path = self.0.join(name);
        make_private(&path);
        match fs::read(&path).map(Zeroizing::new) {
            Ok(text) => key_in(&text).ok_or_else(|| {
                format!(
                    "{} is not a key (64 hexadecimal digits). Restore it from a copy; or move it away, \
                     and a new identity is made at the next start",
                    path.display()
                )
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let pair = new_key(hash, difficulty)?;
                self.write(name, text_of(&pair).as_bytes())?;
                Ok(pair)
            }
            Err(e) => Err(format!("cannot read {}: {e}", path.display())),
        }
    }

    /// What keys of users here cost, as it was worked out before. A damaged entry is none: with a wrong one its user would
    /// have a number that nobody follows, and see no sign of it.
    pub fn stretches(&self) -> BTreeMap<PublicKey, Stretch> {
        let kept: BTreeMap<String, String> = self.read("numbers.json").unwrap_or_default();
        let read = |(key, text): (String, String)| {
            let key = key.parse().ok()?;
            let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
            let (stretch, check) = bytes.split_first_chunk()?;
            let stretch = Stretch(*stretch);
            (check == check_of(&key, &stretch)).then_some((key, stretch))
        };
        kept.into_iter().filter_map(read).collect()
    }

    /// Keeps them, so that the next start costs nothing.
    pub fn keep_stretches(&self, stretches: &BTreeMap<PublicKey, Stretch>) -> Result<(), String> {
        let written = |(key, stretch): (&PublicKey, &Stretch)| {
            let bytes = [&stretch.0[..], &check_of(key, stretch)].concat();
            (key.to_string(), data_encoding::HEXLOWER.encode(&bytes))
        };
        let written: BTreeMap<String, String> = stretches.iter().map(written).collect();
        self.write("numbers.json", &serde_json::to_vec_pretty(&written).map_err(|e| e.to_string())?)
    }

    /// Who may register, with which password.
    pub fn phones(&self) -> BTreeMap<String, String> {
        self.read("phones.json").unwrap_or_default()
    }

    /// Lets a phone register, from the next start on.
    pub fn save_phones(&self, phones: &BTreeMap<String, String>) -> Result<(), String> {
        self.write("phones.json", &serde_json::to_vec_pretty(phones).map_err(|e| e.to_string())?)
    }

    /// What survived the last run.
    pub fn saved(&self) -> Saved {
        self.read("state.json").unwrap_or_default()
    }

    /// Keeps what shall survive.
    pub fn save(&self, saved: &Saved) -> Result<(), String> {
        self.write("state.json", &serde_json::to_vec(saved).map_err(|e| e.to_string())?)
    }

    /// Reads a file that may be missing. One that is there and cannot be read is set aside, so that
    /// the next save does not replace what may still be mended.
    fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> Option<T> {
        let path = self.0.join(name);
        make_private(&path);
        let read = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            bytes => bytes.map_err(|e| e.to_string()),
        };
        let why = match read.and_then(|b| serde_json::from_slice(&b).map_err(|e| e.to_string())) {
            Ok(value) => return Some(value),
            Err(why) => why,
        };
        let fate = aside(&path);
        eprintln!("{} cannot be read ({why}); it was {fate} and this peer starts without it", path.display());
        None
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), String> {
        replace(&self.0.join(name), 0o600, bytes)
    }
}

/// Takes a secret out of the reach of others that a copy or a backup brought there, and says so: they may have read it.
fn make_private(path: &Path) {
    let open = fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o077 != 0);
    if open && fs::set_permissions(path, fs::Permissions::from_mode(0o600)).is_ok() {
        eprintln!("{} was open to other users of this machine; now it is its owner's alone", path.display());
    }
}

/// Gives a file that cannot be read another name; says what became of it.
fn aside(path: &Path) -> String {
    let free = |n: &u64| !beside(path, &format!(".corrupt-{n}")).exists();
    let aside = beside(path, &format!(".corrupt-{}", (1..).find(free).expect("one is free")));
    match fs::rename(path, &aside) {
        Ok(()) => format!("set aside as {}", aside.display()),
        Err(e) => format!("left there: {e}"),
    }
}

/// Puts a file in the place of another, whole or not at all.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), String> {
    put(path, mode, bytes, fs::File::sync_all)
}

/// The same without waiting for the disk: what was there may be there again after a loss of power.
fn replace_softly(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), String> {
    put(path, mode, bytes, |_| Ok(()))
}

fn put(
    path: &Path,
    mode: u32,
    bytes: &[u8],
    sync: impl Fn(&fs::File) -> io::Result<()>,
) -> Result<(), String> {
    let new = beside(path, ".new");
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| sync(&file)))
        .and_then(|()| fs::rename(&new, path));
    written.map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// A file beside another: its name with an ending.
pub fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Writes a file where none is.
pub fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), String> {
    let open = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = open.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => format!("{} is there already, and stays", path.display()),
        _ => format!("cannot write {}: {e}", path.display()),
    })
}

/// Whether a name can be that of a file.
fn is_file_name(name: &str) -> Result<(), String> {
    match name.contains("..") || name.contains('/') {
        true => {
            Err(format!("'{name}' cannot be a file name: choose a user without slashes and dots in a row"))
        }
        false => Ok(()),
    }
}

/// A key from the text of its file.
fn key_in(text: &[u8]) -> Option<KeyPair> {
    let secret = Zeroizing::new(data_encoding::HEXLOWER.decode(text.trim_ascii()).ok()?);
    secret.as_slice().try_into().ok().map(|secret| KeyPair::from_seed(Seed(secret)))
}

/// The text of a key's file.
pub fn text_of(key: &KeyPair) -> Zeroizing<String> {
    data_encoding::HEXLOWER.encode(&*key.secret()).into()
}

/// The key in a file, wherever it is.
pub fn read_key(path: &Path) -> Result<KeyPair, String> {
    let text = fs::read(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let text = Zeroizing::new(text);
    key_in(&text).ok_or_else(|| format!("{} is not a key (64 hexadecimal digits)", path.display()))
}

/// A new key, drawn until its Node-ID fulfils the difficulty.
pub fn new_key(hash: HashAlgorithm, difficulty: u8) -> Result<KeyPair, String> {
    puzzle::solve(hash, difficulty, || {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| e.to_string())?;
        Ok(KeyPair::from_seed(Seed(secret)))
    })
}

/// What stands beside the cost of a key, to tell a damaged file.
fn check_of(key: &PublicKey, stretch: &Stretch) -> [u8; 4] {
    let hash = HashAlgorithm::Sha256.digest(&[&key.0[..], &stretch.0].concat());
    *hash.as_bytes().first_chunk().expect("32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_the_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("peer");
        Home::open(&home).unwrap().identity(&[], &OverlayOptions::default()).unwrap();
        for (path, mode) in
            [(home.clone(), 0o700), (home.join("users"), 0o700), (home.join("peer.key"), 0o600)]
        {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
        }
    }

    #[test]
    fn a_secret_that_came_open_from_a_backup_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        home.identity(&[], &OverlayOptions::default()).unwrap();
        home.save_phones(&BTreeMap::new()).unwrap();
        let files = [dir.path().join("peer.key"), dir.path().join("phones.json")];
        files.iter().for_each(|file| fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap());
        home.identity(&[], &OverlayOptions::default()).unwrap();
        home.phones();
        for file in files {
            assert_eq!(
                fs::metadata(&file).unwrap().permissions().mode() & 0o777,
                0o600,
                "{}",
                file.display()
            );
        }
    }

    #[test]
    fn keys_are_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let first = home.identity(&["alice@demo.test".into()], &OverlayOptions::default()).unwrap();
        let again = home.identity(&[], &OverlayOptions::default()).unwrap();
        assert_eq!(first.peer.public(), again.peer.public());
        assert_eq!(first.users[0].keys.public(), again.users[0].keys.public());
    }

    #[test]
    fn what_keys_cost_is_read_as_it_was_kept_and_a_damaged_entry_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let keys = ["alice@demo.test", "bob@demo.test"].map(|aor| home.user(aor).unwrap().keys.public());
        assert!(home.stretches().is_empty());
        let mut kept =
            BTreeMap::from([(keys[0], Stretch([7; Stretch::LEN])), (keys[1], Stretch([8; Stretch::LEN]))]);
        home.keep_stretches(&kept).unwrap();
        assert_eq!(home.stretches(), kept);
        let file = dir.path().join("numbers.json");
        let damaged = std::fs::read_to_string(&file).unwrap().replacen("0707", "0706", 1);
        std::fs::write(&file, damaged).unwrap();
        kept.remove(&keys[0]);
        assert_eq!(home.stretches(), kept);
    }

    #[test]
    fn a_peer_key_fulfils_the_difficulty_it_was_made_for() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        let hard = OverlayOptions { difficulty: 6, ..OverlayOptions::default() };
        let id = home.identity(&[], &hard).unwrap().peer.public().node_id(hard.hash);
        assert!(puzzle::work(&id) >= 6);
        let harder = OverlayOptions { difficulty: 200, ..hard };
        let again = home.identity(&[], &harder).unwrap().peer.public().node_id(hard.hash);
        assert_eq!(again, id, "a key that is there stays");
    }

    #[test]
    fn a_corrupt_state_is_set_aside_and_not_lost() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        fs::write(dir.path().join("state.json"), b"{\"hosts\": [\"127.0").unwrap();
        assert_eq!(home.saved(), Saved::default());
        assert!(dir.path().join("state.json.corrupt-1").exists());
        home.save(&Saved { hosts: vec!["127.0.0.1:7080".parse().unwrap()], ..Saved::default() }).unwrap();
        assert_eq!(home.saved().hosts.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_at_all_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join("state.json")).unwrap();
        assert_eq!(home.saved(), Saved::default());
        home.save(&Saved::default()).unwrap();
        assert!(dir.path().join("state.json.corrupt-1").is_dir());
    }

    #[test]
    fn a_damaged_key_is_an_error_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path()).unwrap();
        fs::write(dir.path().join("peer.key"), b"short").unwrap();
        assert!(home.identity(&[], &OverlayOptions::default()).unwrap_err().contains("not a key"));
        assert_eq!(fs::read(dir.path().join("peer.key")).unwrap(), b"short");
    }
}
