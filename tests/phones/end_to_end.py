#!/usr/bin/env python3
"""Real phones with keys of their own, which no peer knows: what they send is carried as it is.

usage: end_to_end.py PATH-OF-OPENVOIP
Starts itself again in a network namespace of its own, where every packet is heard. Two Linphones make ZRTP through their
peers and show the same words to compare; two headless baresips that insist on a handshake make one with each other. A phone
without keys is called all the same: its peer asks it for a handshake first, and calls it again without. Needs linphonec (Debian:
linphone-cli) and what listener.py needs.
"""
import re, sys, time
from linphone_rig import Linphone
from overheard import Listener, alone, is_rtp, tone_in
from talk import TONES, dial, forget_events, hang_up, heard, phone, rig, tone_lasts

PEERS = {'alice': 2, 'bob': 4, 'carol': 5}
check = rig.Checks()


def of_phones(*ports):
    return any(rig.RTP <= port < rig.RTP + 300 for port in ports)


def legs(*names):
    """What the newest call is protected by, at its phones and between its peers."""
    calls = [overlay.ask(PEERS[name], 'calls')['calls'][-1] for name in names]
    return [c['phone_leg'] for c in calls], {c['secured'] for c in calls}


def compared(linphone):
    """The words that a Linphone shows to compare."""
    shown = re.search(r'fully encrypted and auth token is (\w+)', linphone.read('said'))
    return shown and shown[1]


def zrtp():
    phones = [Linphone(name, rig.DOMAIN, f'pw-{name}', overlay.sip(PEERS[name]), TONES[name], port=rig.PHONE + 50 + 10 * n,
                       rtp=rig.RTP + 100 * n, keys='zrtp', base=f'{overlay.work}/linphones') for n, name in enumerate(['alice', 'bob'])]
    alice, bob = phones
    try:
        for p in phones: p.start()
        check('two Linphones register', all(p.waits_for('LinphoneRegistrationOk', 10) for p in phones))
        alice.say(f'call sip:bob@{rig.DOMAIN}')
        both = all(p.waits_for('secrets are ready for sender', 10) for p in phones)
        check('they agree on keys by ZRTP', both)
        for p in phones: p.say(f'play {p.tone}', f'record {p.recording}')
        time.sleep(6)
        said, words = legs('alice', 'bob'), [compared(p) for p in phones]
        check(f'their peers say so: {said}', said == (['end_to_end'] * 2, {'srtp'}))
        check(f'they show the same words to compare: {words}', words[0] and words[0] == words[1])
    finally:
        for p in phones: p.stop()
    check('they heard each other', tone_lasts(bob.recording, TONES['alice'], 3) and tone_lasts(alice.recording, TONES['bob'], 3))


def handshakes():
    alice, bob = (phone(overlay, PEERS[name], name, keys='dtls_srtp') for name in ('alice', 'bob'))
    carol = phone(overlay, PEERS['carol'], 'carol')
    phones = [alice, bob, carol]
    try:
        for p in phones: p.start()
        check('three baresips register', all(p.registered() for p in phones))
        forget_events(*phones)
        with Listener(of_phones) as listener:
            dial(bob, alice, 'alice')
            time.sleep(6)
            said = legs('bob', 'alice')
            hang_up(bob)
        check(f'bob calls alice: {said}', said == (['end_to_end'] * 2, {'srtp'}))
        check('they heard each other', heard(alice, TONES['bob'], 3) and heard(bob, TONES['alice'], 3))
        for p in (alice, bob):
            log = open(f'{p.dir}/log', errors='replace').read()
            check(f"{p.name} compared the other phone's certificate", 'sha-256 fingerprint ok' in log.lower())
        sound = [d for d in listener.kept if is_rtp(d)]
        overheard = [name for name in TONES if any(tone_in(sound, TONES[name], overlay.work, tag) for tag in (0, 4, 10))]
        check(f'no tone is overheard in {len(sound)} packets at the phones', len(sound) > 800 and overheard == [])
        forget_events(*phones)
        dial(bob, carol, 'carol')
        time.sleep(6)
        said = legs('bob', 'carol')
        hang_up(bob)
        check(f'carol has no keys, and is called again without: {said}', said == (['dtls', 'none'], {'srtp'}))
        check('bob and carol heard each other', heard(carol, TONES['bob'], 3) and heard(bob, TONES['carol'], 3))
    finally:
        for p in phones: p.stop()


alone()
with rig.Overlay(sys.argv[1], 6, {n: name for name, n in PEERS.items()}, settings='[phones]\nend_to_end = "any"\n') as overlay:
    for part in (zrtp, handshakes):
        try: part()
        except Exception as e: check(f'{type(e).__name__}: {e}', False)
check.finish(overlay)
