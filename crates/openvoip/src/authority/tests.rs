use super::*;
use wire::Seed;

const NOW: UnixTime = UnixTime(1_800_000_000);
const HOME: &str = "198.51.100.7";

fn pair(n: u8) -> KeyPair {
    KeyPair::from_seed(Seed([n; 32]))
}

/// An authority in a folder of its own.
struct Office {
    desk: Desk,
    store: Store,
    _dir: tempfile::TempDir,
}

fn office(open: bool) -> Office {
    let dir = tempfile::tempdir().unwrap();
    let desk = Desk::new(dir.path().to_owned(), pair(2), Policy { open, life: USUAL_LIFE });
    Office { desk, store: Store::new(dir.path().to_owned()), _dir: dir }
}

impl Office {
    fn invite(&self, name: &str, uses: u32, replace: bool) -> String {
        let code = new_code().unwrap();
        let invitation = Invitation { name: name.into(), uses, expires: NOW.0 + 60, replace };
        self.store.invite(&code, &invitation, NOW).unwrap();
        code
    }

    fn ask_at(
        &mut self,
        now: UnixTime,
        from: &str,
        name: &str,
        key: u8,
        code: &str,
    ) -> Result<Certificate, String> {
        let to = (pair(1).public(), pair(2).public());
        let request = NameRequest::sign(&pair(key), to, name, now, &typed_code(code)).unwrap();
        self.desk.enrol(now, from.parse().unwrap(), &request).map_err(|(_, why)| why)
    }

    fn ask(&mut self, name: &str, key: u8, code: &str) -> Result<Certificate, String> {
        self.ask_at(NOW, HOME, name, key, code)
    }
}

#[test]
fn a_code_gives_its_name_once_and_the_key_that_got_it_renews_without() {
    let mut office = office(false);
    assert!(office.ask("alice@camp", 4, "").unwrap_err().contains("openvoip up --enrol CODE"));
    let code = office.invite("alice@camp", 1, false);
    assert!(office.ask("bob@camp", 4, &code).unwrap_err().contains("not one for this name"));
    let spoken = code.replace('-', " ").to_uppercase().replace('0', "O").replace('1', "l");
    let first = office.ask("alice@camp", 4, &spoken).unwrap();
    assert!(first.is_of(&pair(2).public(), wire::Signatures::Ed25519));
    assert_eq!((first.user, first.not_after), (pair(4).public(), UnixTime(NOW.0 + USUAL_LIFE)));
    assert!(office.ask("alice@camp", 5, &code).unwrap_err().contains("used"), "a code is used once");
    assert!(office.ask("alice@camp", 5, "").unwrap_err().contains("another key"));
    let renewed = office.ask("alice@camp", 4, &code).unwrap();
    assert!(renewed.serial > first.serial, "an answer that was lost does no harm");
}

#[test]
fn a_code_ends_and_one_for_any_name_may_serve_several_and_never_replaces() {
    let mut office = office(false);
    let code = office.invite("alice@camp", 1, false);
    assert!(office.ask_at(UnixTime(NOW.0 + 60), HOME, "alice@camp", 4, &code).is_err());
    let any = office.invite(ANY_NAME, 2, false);
    assert!(office.ask("alice@camp", 4, &any).is_ok());
    assert!(office.ask("alice@camp", 5, &any).unwrap_err().contains("does not replace"));
    assert!(office.ask("bob@camp", 5, &any).is_ok());
    assert!(office.ask("carol@camp", 6, &any).is_err());
    assert_eq!(office.store.invitations(NOW).unwrap().len(), 1, "alice's is left");
}

#[test]
fn who_lost_the_key_gets_the_name_for_a_new_one_and_the_old_one_is_revoked() {
    let mut office = office(true);
    let old = office.ask("alice@camp", 4, "").unwrap();
    let code = office.invite("alice@camp", 1, true);
    let new = office.ask("alice@camp", 5, &code).unwrap();
    assert!(new.serial > old.serial);
    assert!(office.ask("alice@camp", 4, "").is_err());
    let list = revocations(&office.store, &pair(2), pair(1).public(), NOW).unwrap();
    assert!(list.number == 1 && list.holds(&pair(4).public(), NOW) && !list.holds(&pair(5).public(), NOW));
}

#[test]
fn what_was_revoked_is_not_renewed_and_leaves_the_list_when_its_certificates_have_ended() {
    let mut office = office(true);
    office.ask("alice@camp", 4, "").unwrap();
    assert!(office.store.revoke("bob@camp", NOW).is_err());
    assert!(office.store.revoke("alice@camp", NOW).unwrap().revoked);
    assert!(office.ask("alice@camp", 4, "").unwrap_err().contains("was revoked"));
    let keys = |now| revocations(&office.store, &pair(2), pair(1).public(), now).unwrap().keys.len();
    let end = NOW.0 + USUAL_LIFE + wire::certificate::TOLERANCE;
    assert_eq!((keys(NOW), keys(UnixTime(end)), keys(UnixTime(end + 1))), (1, 1, 0));
}

#[test]
fn more_keys_than_a_list_holds_are_refused_with_what_else_can_be_done() {
    let mut office = office(true);
    let mut revoke = |n: u8| {
        let name = format!("u{n}@camp");
        office.ask_at(NOW, &format!("10.0.0.{n}"), &name, 50 + n, "").unwrap();
        office.store.revoke(&name, NOW)
    };
    for n in 0..16 {
        revoke(n).unwrap();
    }
    assert!(revoke(16).unwrap_err().contains("openvoip overlay sign"));
}

#[test]
fn who_guesses_codes_is_heard_ten_times_an_hour_and_others_still_are() {
    let mut office = office(false);
    let code = office.invite("alice@camp", 1, false);
    for n in 0..10 {
        let guess = format!("0000-0000-00{n:02}");
        assert!(office.ask("alice@camp", 4, &guess).unwrap_err().contains("ask for another"));
    }
    assert!(
        office.ask("alice@camp", 4, &code).unwrap_err().contains("too many wrong codes"),
        "even the right one"
    );
    assert!(office.ask_at(NOW, "203.0.113.9", "alice@camp", 5, &code).is_ok());
    // All networks together are bounded, too.
    let mut heard = 0;
    for n in 0..50_u8 {
        for _ in 0..10 {
            let answer = office.ask_at(NOW, &format!("192.0.{n}.1"), "bob@camp", 6, "0000-0000-0000");
            heard += u32::from(!answer.unwrap_err().contains("too many"));
        }
    }
    assert_eq!(heard, 190);
}

#[test]
fn where_everybody_may_come_a_network_gets_five_names_an_hour() {
    let mut office = office(true);
    for n in 0..5 {
        assert!(office.ask(&format!("u{n}@camp"), 10 + n, "").is_ok());
    }
    assert!(office.ask("u5@camp", 15, "").unwrap_err().contains("too many new names"));
    assert!(office.ask("u0@camp", 10, "").is_ok(), "who has a name renews it");
    assert!(office.ask_at(UnixTime(NOW.0 + 3_600), HOME, "u5@camp", 15, "").is_ok());
}

#[test]
fn the_file_holds_no_code_and_is_found_again() {
    let mut office = office(false);
    let code = office.invite("alice@camp", 2, false);
    let bytes = std::fs::read(office._dir.path().join("authority.redb")).unwrap();
    let has = |text: &str| bytes.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(!has(&typed_code(&code)) && !has(&code) && has("alice@camp"));
    office.ask("alice@camp", 4, &code).unwrap();
    let again = Store::new(office._dir.path().to_owned());
    assert_eq!(again.names().unwrap()["alice@camp"].key, pair(4).public().to_string());
}
