//! Every input that was ever found is tried again, and nothing of the fuzzing is forgotten.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The corpus is read by every clone and replayed by every run of the tests.
const MAX_BYTES: u64 = 500_000;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

/// Replays the corpus of one target; the name of the input stands above the panic that it causes.
fn replay(name: &str) {
    let (_, target) = fuzz::TARGETS.iter().find(|(n, _)| *n == name).expect("a target");
    let folder = fuzz_folder().join("corpus").join(name);
    for input in names(&folder) {
        eprintln!("{name}/{input}");
        target(&fs::read(folder.join(&input)).unwrap());
    }
}

macro_rules! replays {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}

replays!(
    p2pp,
    record,
    link,
    stream,
    stun,
    tls,
    link_certificate,
    sip,
    sip_stream,
    sdp,
    crypto,
    fingerprint,
    rtp,
    rtcp,
    media,
    wav,
    tape,
    handshake,
    node,
    control,
    document,
    ticket,
    certificate,
    domain
);

#[test]
fn every_target_has_a_wrapper_a_corpus_and_a_replay() {
    let targets: BTreeSet<String> = fuzz::TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let wrappers = names(&fuzz_folder().join("targets"));
    assert_eq!(targets.iter().map(|t| format!("{t}.rs")).collect::<BTreeSet<_>>(), wrappers);
    assert_eq!(targets, names(&fuzz_folder().join("corpus")));
    assert_eq!(targets, REPLAYED.iter().map(|n| (*n).to_owned()).collect());
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).unwrap();
    for target in &targets {
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target} is not in fuzz/Cargo.toml");
        assert!(!names(&fuzz_folder().join("corpus").join(target)).is_empty(), "{target} has no corpus");
    }
}

#[test]
fn the_corpus_is_small() {
    let mut bytes = 0;
    for target in names(&fuzz_folder().join("corpus")) {
        let folder = fuzz_folder().join("corpus").join(target);
        bytes += names(&folder).iter().map(|n| fs::metadata(folder.join(n)).unwrap().len()).sum::<u64>();
    }
    assert!(bytes <= MAX_BYTES, "{bytes} bytes: run `cargo fuzz cmin`");
}
