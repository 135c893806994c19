#!/usr/bin/env python3
"""What signalling costs a running peer, and how soon the callee's phone is heard to ring.

usage: signalling.py PATH-OF-OPENVOIP [register] [call] [ring] [idle]      (all, if none is named)
register: sipp registers 5,000 times with digest, two requests each. call: sipp calls sipp 2,000
times through two peers, 100 calls a second. ring: phones at 15 peers of a 16-peer overlay call each
other, every pair once; the time from INVITE to the 180 of the callee's phone, known by a header that
only that phone can have put in. idle: two peers left alone for 30 s. Processor time is that of all
threads, from /proc. One JSON line each.
"""
import json, os, random, statistics, subprocess, sys, tempfile, time
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from rig import DOMAIN, PHONE, RTP, Overlay
from phone import Phone, header

scratch = tempfile.mkdtemp(prefix='openvoip-bench-')


def say(**figures): print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in figures.items()}), flush=True)


def sipp(overlay, peer, scenario, port, *options):
    command = ['sipp', overlay.sip(peer), '-sf', f'{here}/../sipp/{scenario}.xml', '-i', '127.0.0.1', '-p', str(port), '-t',
               'u1', '-nostdin', '-timeout_error', *options]
    return subprocess.Popen(command, cwd=scratch, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def register(overlay, peer, user, port, count, rate):
    process = sipp(overlay, peer, 'register', port, '-s', user, '-au', user, '-ap', f'pw-{user}', '-m', str(count), '-r',
                   str(rate), '-timeout', '60')
    assert process.wait() == 0, f'{user} could not register {count} times'


def measure_register(count=5_000):
    with Overlay(sys.argv[1], 2, {1: 'alice'}) as overlay:
        before = overlay.cpu(1)
        register(overlay, 1, 'alice', PHONE, count, 500)
        say(what='REGISTER with digest, both requests', registrations=count, cpu_us=1e6 * (overlay.cpu(1) - before) / count)


def measure_call(count=2_000):
    with Overlay(sys.argv[1], 3, {1: 'alice', 2: 'bob'}) as overlay:
        register(overlay, 2, 'bob', PHONE + 1, 1, 1)
        register(overlay, 1, 'alice', PHONE, 1, 1)
        callee = sipp(overlay, 2, 'callee', PHONE + 1)
        try:
            before = [overlay.cpu(n) for n in (1, 2)]
            caller = sipp(overlay, 1, 'caller', PHONE, '-m', str(count), '-r', '100', '-d', '100', '-timeout', '60')
            assert caller.wait() == 0, 'a call was lost'
            spent = [1e6 * (overlay.cpu(n) - b) / count for n, b in zip((1, 2), before)]
            say(what='a call through a peer', calls=count, cpu_us_of_callers_peer=spent[0], cpu_us_of_callees_peer=spent[1])
        finally:
            callee.kill(); callee.wait()


def measure_ring():
    peers = range(1, 16)
    with Overlay(sys.argv[1], 16, {n: f'phone{n}' for n in peers}) as overlay:
        phones = {n: Phone(f'phone{n}', DOMAIN, PHONE + 10 * n, overlay.sip(n), range(RTP, RTP + 1_000, 2)) for n in peers}
        for p in phones.values(): p.register()
        pairs = [(a, b) for a in peers for b in peers if a != b]
        random.Random(1).shuffle(pairs)
        times = []
        for a, b in pairs:
            caller, callee = phones[a], phones[b]
            call, sent = caller.dial(callee.user)
            came, ringing = caller.wait(call, '1 INVITE', lambda m: m.startswith('SIP/2.0 180'))
            rang = callee.rang[header(ringing, 'X-Phone')]      # KeyError if another put it in
            assert sent < rang < came
            times.append(1e3 * (came - sent))
            caller.hang_up(call, caller.established(call)[1])
        cuts = statistics.quantiles(times, n=100)
        say(what="INVITE to the 180 of the callee's phone, 16 peers", calls=len(times), p50_ms=cuts[49], p95_ms=cuts[94],
            max_ms=max(times))


def measure_idle(seconds=30):
    with Overlay(sys.argv[1], 3, {1: 'alice', 2: 'bob'}) as overlay:
        time.sleep(5)
        before, start = overlay.cpu(1), time.monotonic()
        time.sleep(seconds)
        share = (overlay.cpu(1) - before) / (time.monotonic() - start)
        say(what='an idle peer', seconds=seconds, percent_of_core=100 * share,
            rss_mib=overlay.ask(1, 'status')['rss_bytes'] / 2**20)


measures = {'register': measure_register, 'call': measure_call, 'ring': measure_ring, 'idle': measure_idle}
for name in sys.argv[2:] or measures: measures[name]()
