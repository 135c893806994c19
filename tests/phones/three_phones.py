#!/usr/bin/env python3
"""Three real phones at three peers of a 16-peer overlay: keys, new offers, transfers, lost peers.

usage: three_phones.py PATH-OF-OPENVOIP
Alice, Bob and Carol are headless baresips with a tone each; who heard whom is judged from what they
recorded. Alice calls Bob and presses keys, offers anew, and transfers him to Carol; then four other
peers are killed and they do it again. At last Bob's peer falls silent in a call (stopped: its kernel
refuses nothing) and Carol's is killed in the next; each time Alice's phone must be told within five
seconds, and her peer must say why. Needs Debian's baresip-core and sox, and python3-numpy.
"""
import os, signal, sys, time
from talk import TONES, dial, forget_events, hang_up, heard, phone, rig

PEERS = {3: 'alice', 12: 'bob', 8: 'carol'}
KEYS = '5#0'
check = rig.Checks()


def rtp_of(n):
    """RTP counts of the newest call at a peer."""
    return overlay.ask(n, 'calls')['calls'][-1]['rtp']


def talk_and_transfer(when):
    dial(alice, bob, 'bob')
    time.sleep(1)
    for key in KEYS:
        alice.cmd('sndcode', key)
        time.sleep(.4)
    pressed = lambda: ''.join(m['param'] for _, m in bob.log if m.get('type') == 'CALL_DTMF_START')
    came = rig.wait(lambda: pressed() == KEYS * when, 3)
    check(f'Bob hears the keys {KEYS} (RFC 4733): {pressed()}', came)

    before = rtp_of(3)
    alice.cmd('reinvite')
    time.sleep(2)
    after = rtp_of(3)
    passed = {way: after[way] - before[way] for way in ('sent', 'received')}
    check(f'sound goes on after a new offer ({passed} packets in 2 s)', min(passed.values()) >= 80)

    forget_events(alice, bob, carol)
    alice.cmd('transfer', f'sip:carol@{rig.DOMAIN}')
    carol.wait('CALL_ESTABLISHED')
    bob.wait('CALL_ESTABLISHED')
    alice.wait('CALL_CLOSED')
    time.sleep(3)
    check('Alice is out of it', '(0)' in alice.cmd('listcalls')['data'])
    hang_up(carol, bob)
    check('Alice heard Bob, and Bob Alice', heard(alice, TONES['bob'], 2) and heard(bob, TONES['alice'], 2, which=-2))
    check('after the transfer Bob heard Carol, and Carol Bob',
          heard(bob, TONES['carol'], 2) and heard(carol, TONES['bob'], 2))


def lose_peer(n, name, callee, how, word):
    dial(alice, callee, name)
    time.sleep(2)
    forget_events(alice)
    since = time.monotonic()
    how(n)
    alice.wait('CALL_CLOSED', timeout=8)
    took = time.monotonic() - since
    check(f"Alice's phone is told within 5 s that {name}'s peer was {word} ({took:.1f} s)", took <= 5)
    failure = overlay.ask(3, 'calls')['calls'][-1].get('failure') or {}
    check(f'and why: {failure}', failure.get('cause') == 'peer_lost' and failure['evidence'] and failure['next_step'])


with rig.Overlay(sys.argv[1], 16, PEERS) as overlay:
    phones = alice, bob, carol = [phone(overlay, n, name) for n, name in PEERS.items()]
    try:
        for p in phones: p.start()
        check('three phones register', all(p.registered() for p in phones))
        talk_and_transfer(1)
        for n in (5, 7, 9, 14): overlay.kill(n)
        print('      four other peers are killed')
        talk_and_transfer(2)
        lose_peer(12, 'bob', bob, lambda n: os.kill(overlay.pid(n), signal.SIGSTOP), 'stopped')
        overlay.kill(12)
        lose_peer(8, 'carol', carol, overlay.kill, 'killed')
    except Exception as e:
        check(f'{type(e).__name__}: {e}', False)
    finally:
        for p in phones: p.stop()
check.finish(overlay)
