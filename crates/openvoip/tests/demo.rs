//! `openvoip demo` as a stranger types it, without a terminal.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn demo(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_openvoip"))
        .arg("demo")
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn it_judges_itself_and_keeps_what_bob_heard() {
    let dir = tempfile::tempdir().unwrap();
    let wav = dir.path().join("bob.wav");
    let output =
        demo(&["--headless", "--check", "--json", "--peers", "8", "--wav", wav.to_str().unwrap()], &[]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{talk}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["schema"], "openvoip.demo/1");
    assert_eq!((&report["ok"], &report["peers"]), (&true.into(), &8.into()));
    for (field, of) in [("found", "lookup"), ("heard_by_caller", "call"), ("heard_by_callee", "call")] {
        assert_eq!(report[of][field], true, "{of}.{field}");
    }
    assert_eq!(report["message"]["delivered"], true);
    assert_eq!(report["failures"], serde_json::json!([]));
    for number in [
        &report["joined_ms"],
        &report["lookup"]["hops"],
        &report["lookup"]["time_ms"],
        &report["call"]["setup_ms"],
        &report["call"]["mos"],
        &report["message"]["time_ms"],
        &report["maintenance_bytes_per_s"]["mean"],
        &report["maintenance_bytes_per_s"]["p99"],
    ] {
        assert!(number.as_f64().is_some_and(|n| n >= 0.0), "{report}");
    }
    // Alice's phone played 440 Hz; the file says whether bob's phone heard it.
    let heard = media::Wav::read(&std::fs::read(wav).unwrap()).unwrap();
    assert!(media::heard(&heard.samples, heard.rate, 440.0).at_least(3.0));
}

#[test]
fn without_a_terminal_there_is_no_picture() {
    let output = demo(&["--peers", "4"], &[("TERM", "xterm")]);
    assert!(output.status.success() && output.stdout.is_empty());
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(!talk.contains('\x1b') && talk.contains("everything was as it should be"), "{talk}");
}

#[cfg(unix)]
#[test]
fn whoever_listens_hears_what_bobs_phone_decodes() {
    use std::os::unix::fs::PermissionsExt;

    // A player that keeps what it is given: the sound card of this test.
    let dir = tempfile::tempdir().unwrap();
    let (player, kept) = (dir.path().join("aplay"), dir.path().join("kept"));
    std::fs::write(&player, format!("#!/bin/sh\nexec /bin/cat > '{}'\n", kept.display())).unwrap();
    std::fs::set_permissions(&player, std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = dir.path().to_str().unwrap();
    let output = demo(&["--headless", "--check", "--listen", "--peers", "4"], &[("PATH", path)]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && talk.contains("through aplay"), "{talk}");
    let bytes = std::fs::read(kept).unwrap();
    let samples: Vec<i16> = bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    assert!(media::heard(&samples, 8_000, 440.0).at_least(7.0), "{} samples", samples.len());
}

#[test]
fn a_machine_without_a_player_stays_silent_and_says_so() {
    let output = demo(&["--headless", "--check", "--listen", "--peers", "4"], &[("PATH", "/nonexistent")]);
    let talk = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && talk.contains("install alsa-utils"), "{talk}");
}
