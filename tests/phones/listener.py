#!/usr/bin/env python3
"""What somebody who hears every packet between peers can read: nothing under `secure`, everything under `signed`.

usage: listener.py PATH-OF-OPENVOIP
Starts itself again in a network namespace of its own. There, under each of the two profiles, sixteen peers form an
overlay, two real phones call each other and one writes to the other, while every packet between the peers is
kept. Then it is read, by the layouts of docs/protocol.md (sections 15.1 and 16.1) and, where tshark is there, by the
dissector. Needs what overlay_call.py needs, and `unshare`.
"""
import os, shutil, struct, subprocess, sys, time, zlib
from overheard import RTP_HEAD, Listener, alone, is_rtcp, is_rtp, tone_in
from talk import TONES, dial, hang_up, heard, here, phone, rig

PEERS, TEXT = range(rig.OVERLAY, rig.OVERLAY + 16), 'the fox is in the henhouse'
SIGNED_HANDSHAKE = {96: 153, 97: 153, 98: 117}
SIGNED_MESSAGE, HEAD, CODE = 99, 9, 16
check = rig.Checks()


def unread_by_tshark(datagrams, work):
    """How many datagrams the dissector does not read whole; 0 where there is no tshark, which is said."""
    if not shutil.which('tshark'):
        print('       no tshark here: read by this script only')
        return 0
    with open(f'{work}/overheard.pcap', 'wb') as out:
        out.write(struct.pack('!IHHiIII', 0xa1b2c3d4, 2, 4, 0, 0, 65535, 228))
        for n, d in enumerate(datagrams):
            size = 28 + len(d)
            out.write(struct.pack('!IIII', n, 0, size, size) + struct.pack('!HHIIII', 0x4500, size, 0, 0x40110000, 0xc0000201, 0xc0000202)
                      + struct.pack('!HHHH', 7080, 7080, size - 20, 0) + d)
    script = f'lua_script:{os.path.dirname(os.path.dirname(here))}/tools/wireshark/p2pp.lua'
    odd = '!p2pp || _ws.malformed || _ws.expert.severity == "Error"'
    run = subprocess.run(['tshark', '-X', script, '-r', f'{work}/overheard.pcap', '-Y', odd], capture_output=True, text=True,
                         env={**os.environ, 'HOME': work})
    if run.returncode: raise RuntimeError(run.stderr)
    return len(run.stdout.splitlines())


def read_signed(kept, work):
    sound, reports = [d for d in kept if is_rtp(d)], [d for d in kept if is_rtcp(d)]
    frames = [d for d in kept if not (is_rtp(d) or is_rtcp(d))]
    inside = [d[HEAD:-CODE] for d in frames if d[0] == SIGNED_MESSAGE]
    known = all(SIGNED_HANDSHAKE.get(d[0], len(d)) == len(d) and 96 <= d[0] <= SIGNED_MESSAGE for d in frames)
    check(f'signed: {len(frames)} frames are all of the four known kinds', known and len(frames) > 100)
    check('signed: in every frame stands P2PP', all(m[0] >= 192 and m[4:8] == bytes.fromhex('596abf0d') for m in inside))
    check('signed: the dissector reads every one', unread_by_tshark(frames, work) == 0)
    said = b''.join(inside)
    check('signed: the text, and who calls whom, stand there to be read', TEXT.encode() in said and b'INVITE sip:bob' in said)
    check(f'signed: both tones are heard in {len(sound)} packets of sound', all(tone_in(sound, TONES[p], work) for p in ('alice', 'bob')))
    clear = all(d[1] in range(200, 207) and len(d) > 8 + 14 and not d[-14] & 128 for d in reports)
    check(f'signed: {len(reports)} reports about it say that they are not encrypted', clear and reports)


def read_secure(kept, work):
    sound, reports = [d for d in kept if is_rtp(d)], [d for d in kept if is_rtcp(d)]
    frames = [d for d in kept if not (is_rtp(d) or is_rtcp(d))]
    check(f'secure: {len(frames)} frames are all sealed, or make links', all(80 <= d[0] < 96 for d in frames) and len(frames) > 100)
    words = [TEXT.encode(), b'SIP/2.0', b'alice', b'rig.test', b'a=x-', bytes.fromhex('596abf0d')]
    check('secure: no word of it stands there', not [w for w in words if any(w in d for d in kept)])
    check(f'secure: no tone is heard in {len(sound)} packets of sound',
          len(sound) > 200 and not any(tone_in(sound, TONES[p], work) for p in ('alice', 'bob')))
    check(f'secure: {len(reports)} reports about it are encrypted', reports and all(d[-14] & 128 for d in reports))
    # What is sealed looks like chance; heads, which count, are left out.
    body = b''.join([d[HEAD:] for d in frames if d[0] == 83] + [d[RTP_HEAD:] for d in sound])
    ratio = len(zlib.compress(body, 9)) / len(body)
    check(f'secure: {len(body)} sealed bytes cannot be compressed ({ratio:.4f})', ratio > .999)


def listen(profile):
    with Listener(lambda *ports: all(port in PEERS for port in ports)) as listener, rig.Overlay(sys.argv[1], 16, {3: 'alice', 12: 'bob'}, profile=profile) as overlay:
        alice, bob = phone(overlay, 3, 'alice', contact='bob'), phone(overlay, 12, 'bob', contact='alice')
        try:
            for p in (alice, bob): p.start()
            check(f'{profile}: both phones register', alice.registered() and bob.registered())
            dial(alice, bob, 'bob')
            time.sleep(8)
            hang_up(alice)
            check(f'{profile}: they heard each other', heard(bob, TONES['alice'], 3) and heard(alice, TONES['bob'], 3))
            alice.cmd('message', TEXT)
            check.until(lambda: TEXT in bob.texts, 5, f'{profile}: the message arrives')
        finally:
            for p in (alice, bob): p.stop()
    (read_signed if profile == 'signed' else read_secure)(listener.kept, overlay.work)
    return overlay


alone()
overlay = None
for profile in ('signed', 'secure'):
    try: overlay = listen(profile)
    except Exception as e: check(f'{profile}: {type(e).__name__}: {e}', False)
check.finish(overlay)
