#!/usr/bin/env python3
"""Two real SIP phones at two peers of a 16-peer overlay, judged by what was heard.

usage: overlay_call.py PATH-OF-OPENVOIP [OVERLAY] [--short] [--profile=PROFILE]
Starts a bootstrap peer and 15 peers, registers one headless baresip at each of two of them, and lets
them call each other: tone heard both ways, message, hold and resume; the same over TCP between a
phone and its peer; then four other peers are killed and they call again; CANCEL, busy. `--short` ends
after the first call and the message. Needs Debian's baresip-core and sox, and python3-numpy.
"""
import sys, time
from talk import TONES, dial, forget_events, hang_up, heard, phone, rig

check = rig.Checks()


def hear_each_other(): return heard(bob, TONES['alice'], 2) and heard(alice, TONES['bob'], 2)


def call(seconds):
    dial(alice, bob, 'bob')
    time.sleep(seconds)


words = [word for word in sys.argv[2:] if not word.startswith('--')]
short, algorithm = '--short' in sys.argv[2:], words[0] if words else 'kademlia'
profiles = [word.removeprefix('--profile=') for word in sys.argv[2:] if word.startswith('--profile=')]


def first_call():
    """They hear each other, and one writes to the other."""
    call(3)
    report = [c for c in overlay.ask(3, 'calls')['calls'] if c['state'] == 'established']
    check('the call goes directly between the peers', bool(report) and report[0]['path'] == 'direct')
    secured = {'secure': 'srtp', 'signed': 'signed', 'open': 'none'}[profiles[0] if profiles else 'secure']
    check(f'its sound is protected as the profile says ({secured})', report[0]['secured'] == secured)
    digits = [overlay.ask(n, 'calls')['calls'][-1].get('digits') for n in (3, 12)]
    shown = digits[0] == digits[1] and (digits[0] is None if secured == 'none' else digits[0].isdigit())
    check(f'both ends show the same digits, where something is protected ({digits[0]})', shown)
    if not short:
        alice.cmd('hold'); time.sleep(1); alice.cmd('resume'); time.sleep(2)
    hang_up(alice)
    check('bob heard alice and alice heard bob', hear_each_other())
    if not short:
        # The recorder of baresip ends with the first hold, so what came after it is counted, not
        # heard: three seconds before and two after make 250 packets, the held second sends none
        # towards alice.
        rtp = overlay.ask(3, 'calls')['calls'][-1]['rtp']
        check(f'sound goes on after hold and resume ({rtp})', rtp['sent'] >= 220 and rtp['received'] >= 220)
    text = f'hello-{time.time_ns()}'
    alice.cmd('message', text)
    if check.until(lambda: text in bob.texts, 5, 'the message arrives'): check('the message arrives', True)


def spoken_digits():
    """Alice is told the digits of a call on a second line."""
    call(1)
    alice.cmd('dial', f'sip:*55@{rig.DOMAIN}')
    alice.wait('CALL_ESTABLISHED')
    time.sleep(2)
    spoken = overlay.ask(3, 'calls')['calls'][-1]
    check(f"a phone is told them when it dials *55 ({spoken['rtp']})",
          spoken['to'].startswith('*55@') and spoken['rtp']['sent'] > 50 and spoken['rtp']['received'] > 50)
    hang_up(alice)


def with_peers_dead():
    for n in (5, 7, 9, 14): overlay.kill(n)
    forget_events(alice, bob)
    call(3)
    hang_up(alice)
    check('they hear each other with four peers dead', hear_each_other())


def over_tcp():
    """Bob takes another phone, on TCP, that does not answer by itself."""
    bob.stop()
    time.sleep(.5)
    other = phone(overlay, 12, 'bob', auto=False, transport='tcp').start()
    check('bob registers again, over TCP, answering by hand', other.registered())
    forget_events(alice, other)
    return other


def by_hand():
    """Bob answers, is called off, and refuses."""
    alice.cmd('dial', f'sip:bob@{rig.DOMAIN}'); bob.wait('CALL_INCOMING')
    bob.cmd('accept'); bob.wait('CALL_ESTABLISHED'); time.sleep(3)
    hang_up(alice)
    check('they hear each other with bob on TCP', hear_each_other())
    alice.cmd('dial', f'sip:bob@{rig.DOMAIN}'); bob.wait('CALL_INCOMING'); alice.cmd('hangup')
    check('CANCEL reaches the ringing phone', bob.wait('CALL_CLOSED') is not None)
    time.sleep(.5)
    forget_events(alice, bob)
    alice.cmd('dial', f'sip:bob@{rig.DOMAIN}'); bob.wait('CALL_INCOMING'); bob.cmd('hangup')
    closed = alice.wait('CALL_CLOSED').get('param', '')
    check(f'a refusal comes back as busy ({closed})', '486' in closed or 'Busy' in closed)


with rig.Overlay(sys.argv[1], 16, {3: 'alice', 12: 'bob'}, algorithm, *profiles) as overlay:
    alice, bob = phone(overlay, 3, 'alice', contact='bob'), phone(overlay, 12, 'bob', contact='alice')
    try:
        for p in (alice, bob): p.start()
        check('both phones register with digest', alice.registered() and bob.registered())
        first_call()
        if not short:
            spoken_digits()
            with_peers_dead()
            bob = over_tcp()
            by_hand()
    except Exception as e:
        check(f'{type(e).__name__}: {e}', False)
    finally:
        for p in (alice, bob): p.stop()
check.finish(overlay)
