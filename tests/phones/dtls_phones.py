#!/usr/bin/env python3
"""Real phones that make a handshake with their peer on the path of their sound (DTLS-SRTP).

usage: dtls_phones.py PATH-OF-OPENVOIP
Starts itself again in a network namespace of its own, where every packet is heard. Bob is a headless baresip that insists on
a handshake (`mediaenc=dtls_srtp`), over UDP; Debian's (1.0) shows a certificate of RSA, and has a handshake of its own for
RTCP. Alice speaks TLS and says her keys (SDES). Each calls the other, they hear each other, and nobody hears a tone
between phone and peer. At last Carol is called, who has no keys at all: her peer offers her a handshake, and calls her
again without. Needs what listener.py needs.
"""
import sys, time
from overheard import Listener, alone, is_rtp, tone_in
from talk import TONES, dial, forget_events, hang_up, heard, phone, rig

USERS = {2: 'alice', 4: 'bob', 5: 'carol'}
check = rig.Checks()


def of_phones(*ports):
    return any(rig.RTP <= port < rig.RTP + 300 for port in ports)


def is_handshake(d): return 20 <= d[0] < 64


def legs(*peers):
    """What the newest call is protected by, at its phones and between its peers."""
    calls = [overlay.ask(n, 'calls')['calls'][-1] for n in peers]
    return [c['phone_leg'] for c in calls], {c['secured'] for c in calls}


def call(caller, callee, who, peers, expected):
    """A call of six seconds between two phones; the packets of sound between phones and peers."""
    calls, called = who
    forget_events(caller, callee)
    with Listener(of_phones) as listener:
        dial(caller, callee, called)
        time.sleep(6)
        said = legs(*peers)
        hang_up(caller)
    what = f'{calls} calls {called}'
    check(f'{what}: protected at the phones {said[0]} and between the peers {said[1]}', said == (expected, {'srtp'}))
    check(f'{what}: they heard each other', heard(callee, TONES[calls], 3) and heard(caller, TONES[called], 3))
    check(f'{what}: they shook hands', any(is_handshake(d) for d in listener.kept))
    return [d for d in listener.kept if is_rtp(d)]


def overheard(sound):
    """Whose tone is heard in it, sealed or clear."""
    return [name for name in TONES if any(tone_in(sound, TONES[name], overlay.work, tag) for tag in (0, 4, 10))]


alone()
with rig.Overlay(sys.argv[1], 6, USERS, settings='[phones]\ndtls = "offered"\n') as overlay:
    alice = phone(overlay, 2, 'alice', transport='tls', keys='srtp-mand')
    bob, carol = phone(overlay, 4, 'bob', keys='dtls_srtp'), phone(overlay, 5, 'carol')
    phones = [alice, bob, carol]
    try:
        for p in phones: p.start()
        check('all register', all(p.registered() for p in phones))
        sound = call(bob, alice, ('bob', 'alice'), (4, 2), ['dtls', 'sdes'])
        check(f'no tone is overheard in {len(sound)} packets at the phones', len(sound) > 800 and overheard(sound) == [])
        sound = call(alice, bob, ('alice', 'bob'), (2, 4), ['sdes', 'dtls'])
        check(f'nor in {len(sound)} packets of the call back', len(sound) > 800 and overheard(sound) == [])
        log = open(f'{bob.dir}/log', errors='replace').read()
        check('bob: the phone itself compared the certificate', 'sha-256 fingerprint OK' in log)
        sound = call(bob, carol, ('bob', 'carol'), (4, 5), ['dtls', 'none'])
        check('carol: her leg alone is heard, with both tones', overheard(sound) == ['bob', 'carol'])
    except Exception as e:
        check(f'{type(e).__name__}: {e}', False)
    finally:
        for p in phones: p.stop()
check.finish(overlay)
