#!/usr/bin/env python3
"""sipp against running peers: bad credentials, a thousand calls in sequence, a hundred at once.

usage: run.py PATH-OF-OPENVOIP
sipp plays a phone at each of two peers of a five-peer overlay; every call crosses both. Over UDP,
and with the caller on TCP, proving who it is with the INVITE. A call counts only if the callee's 180
and 200 came and both BYE and its answer passed: sipp's own exit code says that none was lost.
Needs Debian's sip-tester.
"""
import csv, glob, os, subprocess, sys, tempfile, time
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(here))
from rig import PHONE, Checks, Overlay

CALLER, CALLEE, STRANGER = PHONE, PHONE + 1, PHONE + 2
check = Checks()
scratch = tempfile.mkdtemp(prefix='openvoip-sipp-')


def sipp(peer, scenario, port, *options, background=False):
    """Runs a scenario against a peer's phone port; True if every call of it was good."""
    command = ['sipp', overlay.sip(peer), '-sf', scenario, '-i', '127.0.0.1', '-p', str(port), '-nostdin',
               '-trace_err', '-trace_stat', '-fd', '1', '-timeout_error', *options]
    with open(f'{scratch}/log', 'a') as log:
        process = subprocess.Popen(command, cwd=scratch, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    return process if background else process.wait() == 0


def scenario(name, *changes):
    """A scenario file, with some of its words changed."""
    text = open(f'{here}/{name}.xml').read()
    for old, new in changes:
        assert text.count(old) == 1, (name, old)
        text = text.replace(old, new)
    path = f'{scratch}/{name}{len(os.listdir(scratch))}.xml'
    with open(path, 'w') as file: file.write(text)
    return path


def register(peer, user, port, password, *changes, calls=1):
    """Registers and says whether it went as the scenario wants."""
    return sipp(peer, scenario('register', *changes), port, '-s', user, '-au', user, '-ap', password,
                '-m', str(calls), '-l', '1', '-timeout', '20')


def calls(name, what, count, *options, transport='u1'):
    """Makes calls from alice at peer 1 to bob at peer 2."""
    start = time.monotonic()
    good = sipp(1, scenario(name), CALLER, '-t', transport, '-m', str(count), '-au', 'alice', '-ap', 'pw-alice',
                *options)
    check(f'{what}: all of {count} calls ({time.monotonic() - start:.1f} s)', good)


LAST = '<recv response="200"/>'
REFUSED = (LAST, '<recv response="401"/>')
LOCKED = (LAST, '''<recv response="403"><action>
    <ereg regexp="Wrong password too often, try again in [0-9]+ s" search_in="hdr" header="Warning:" check_it="true" assign_to="1"/>
    <ereg regexp="[0-9]+" search_in="hdr" header="Retry-After:" check_it="true" assign_to="2"/>
    <log message="[$1] [$2]"/>
  </action></recv>''')

with Overlay(sys.argv[1], 5, {1: 'alice', 2: 'bob'}) as overlay:
    overlay.ask(2, 'phone', 'add', 'carol', '--password', 'pw-carol')
    check('four wrong passwords are refused', register(2, 'carol', STRANGER, 'guess', REFUSED, calls=4))
    check('the fifth locks out, with a hint', register(2, 'carol', STRANGER, 'guess', LOCKED))
    check('then the right one does not help', register(2, 'carol', STRANGER, 'pw-carol', LOCKED))
    check("the peer's owner is told", 'locked out' in open(overlay.log(2)).read())
    check('others register all the same', register(2, 'bob', CALLEE, 'pw-bob'))
    check('the caller registers', register(1, 'alice', CALLER, 'pw-alice'))

    callee = sipp(2, scenario('callee'), CALLEE, '-t', 'u1', background=True)
    try:
        calls('caller', 'UDP, in sequence', 1000, '-l', '1', '-r', '1000', '-d', '0', '-timeout', '60')
        calls('caller', 'UDP, at once', 100, '-l', '100', '-r', '1000', '-d', '3000', '-timeout', '30')
        calls('caller_with_credentials', 'TCP, in sequence', 100, '-l', '1', '-r', '1000', '-d', '0', '-timeout', '30',
              transport='t1')
        calls('caller_with_credentials', 'TCP, at once', 100, '-l', '100', '-r', '1000', '-d', '3000', '-timeout', '30',
              transport='t1')
        time.sleep(1)
        counted = [overlay.ask(n, 'calls')['calls'] for n in (1, 2)]
        check('no call is left open', all(half and all(c['state'] == 'ended' for c in half) for half in counted))
    finally:
        callee.kill(); callee.wait()
if check.failures: print(open(f'{scratch}/log').read()[-3000:])
check.finish(overlay)
