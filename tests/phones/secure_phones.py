#!/usr/bin/env python3
"""Real phones that speak to their peers over TLS, with sound under keys that both said (SDES).

usage: secure_phones.py PATH-OF-OPENVOIP
Starts itself again in a network namespace of its own, where every packet is heard. Alice and Bob are headless
baresips that insist on keys for sound (`mediaenc=srtp-mand`); they call each other and hear each other's tones, and
nobody reads a word or hears a tone between phone and peer. Then Bob leaves keys open (`srtp`), and at last Carol, who
has none, is called over TLS all the same: her leg is the one that is overheard. Debian's baresip (1.0) is given the
certificate of its peer and does not check by it; that is tested in crates/openvoip/tests/sips.rs. Needs what
listener.py needs.
"""
import sys, time
from overheard import Listener, alone, is_rtp, tone_in
from talk import TONES, dial, forget_events, hang_up, heard, phone, rig

USERS = {2: 'alice', 4: 'bob', 5: 'carol'}
WORDS = [b'SIP/2.0', b'a=crypto', b'INVITE']
check = rig.Checks()


def of_phones(*ports):
    return any(rig.RTP <= port < rig.RTP + 300 for port in ports)


def legs(*peers):
    """What the newest call is protected by, at its phones and between its peers."""
    calls = [overlay.ask(n, 'calls')['calls'][-1] for n in peers]
    return [c['phone_leg'] for c in calls], {c['secured'] for c in calls}


def call(callee, name, at, expected):
    """A call from Alice of five seconds; the packets of sound between phones and peers."""
    forget_events(alice, callee)
    with Listener(of_phones, WORDS) as listener:
        dial(alice, callee, name)
        time.sleep(5)
        said = legs(2, at)
        hang_up(alice)
    check(f'{name}: protected at the phones {said[0]} and between the peers {said[1]}', said == (expected, {'srtp'}))
    check(f'{name}: they heard each other', heard(callee, TONES['alice'], 3) and heard(alice, TONES[name], 3))
    check(f'{name}: no word of their signalling is read {set(listener.said)}', not listener.said)
    return [d for d in listener.kept if is_rtp(d)]


def overheard(sound):
    """Whose tone is heard in it, sealed or clear."""
    return [name for name in TONES if any(tone_in(sound, TONES[name], overlay.work, tag) for tag in (0, 4, 10))]


def secure(n, name, keys): return phone(overlay, n, name, transport='tls', keys=keys)


alone()
with rig.Overlay(sys.argv[1], 6, USERS) as overlay:
    alice, bob, carol = secure(2, 'alice', 'srtp-mand'), secure(4, 'bob', 'srtp-mand'), secure(5, 'carol', None)
    phones = [alice, bob, carol]
    try:
        for p in phones: p.start()
        check('all register over TLS', all(p.registered() for p in phones))
        sound = call(bob, 'bob', 4, ['sdes', 'sdes'])
        check(f'bob: no tone is overheard in {len(sound)} packets at the phones', len(sound) > 800 and overheard(sound) == [])
        log = open(f'{bob.dir}/log', errors='replace').read()
        check('bob: the phone itself says that its sound is encrypted', 'SRTP is Enabled' in log)

        bob.stop()
        bob = secure(4, 'bob', 'srtp')
        phones.append(bob.start())
        check('bob registers again and leaves keys open', bob.registered())
        sound = call(bob, 'bob', 4, ['sdes', 'sdes'])
        check(f'bob: no tone is overheard in {len(sound)} packets either', len(sound) > 800 and overheard(sound) == [])

        sound = call(carol, 'carol', 5, ['sdes', 'none'])
        check('carol: her leg alone is heard, with both tones', overheard(sound) == ['alice', 'carol'])
    except Exception as e:
        check(f'{type(e).__name__}: {e}', False)
    finally:
        for p in phones: p.stop()
check.finish(overlay)
