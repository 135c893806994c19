#!/usr/bin/env python3
"""SIPVicious against a peer: from elsewhere nothing answers, and at home it finds out no user and no password.

usage: scanners.py PATH-OF-OPENVOIP
Peers take phones at 127.0.0.2 only, where two of them stand; the scanners come from 127.0.0.1. Every datagram that a
peer sends to the scanners is counted below them. Then the same scanners stand at home. Needs Debian's sipvicious,
baresip-core and sox, python3-numpy, and root for the counting.
"""
import os, socket, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from talk import TONES, dial, hang_up, heard, phone, rig

check = rig.Checks()
SCANNERS, PHONES = '127.0.0.1', '127.0.0.2'
METHODS = ('OPTIONS', 'REGISTER', 'INVITE')
PASSWORDS = [f'guess-{n}' for n in range(40)] + ['pw-alice']


class Answers:
    """Counts what is sent to the scanners from the SIP port of a peer."""

    def __init__(self, port):
        self.port, self.count = port, 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        self.socket.bind((SCANNERS, 0))
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while packet := self.socket.recv(2048):
            header = (packet[0] & 15) * 4
            if int.from_bytes(packet[header:header + 2], 'big') == self.port: self.count += 1


def scan(*words):
    """What a scanner prints; it is ended where it would go on."""
    command = ['timeout', '20', *words, '127.0.0.1']
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          env={**os.environ, 'HOME': overlay.work})
    return done.stdout


def written(name, words):
    path = f'{overlay.work}/{name}'
    with open(path, 'w') as file: file.write('\n'.join(words) + '\n')
    return path


def every_scan(port):
    """What each scanner prints, of devices, of users by each method, of a password; all at once."""
    users, passwords = written('users', ['alice', 'bob', 'eve', '100']), written('passwords', PASSWORDS)
    here = ['-x', SCANNERS, '-p', str(port)]
    scans = {'svcrack': ['svcrack', *here, '-u', 'alice', '-d', passwords]}
    for method in METHODS:
        scans[f'svmap {method}'] = ['svmap', *here, '-m', method]
        scans[f'svwar {method}'] = ['svwar', *here, '-m', method, '-d', users, '--force']
    with ThreadPoolExecutor(len(scans)) as pool:
        return dict(zip(scans, pool.map(lambda words: scan(*words), scans.values())))


def by_tcp(port):
    """What a connection gets that asks."""
    with socket.create_connection((SCANNERS, port), 5) as connection:
        try:
            connection.sendall(b'OPTIONS sip:x SIP/2.0\r\n\r\n')
            return connection.recv(100)
        except ConnectionError: return b''


def from_elsewhere(port):
    answers = Answers(port)
    for name, said in every_scan(port).items():
        check(f'{name} finds nothing', 'found nothing' in said)
    check('a connection is closed without a word', by_tcp(port) == b'')
    time.sleep(.5)
    check(f'no datagram was sent to the scanners ({answers.count})', answers.count == 0)
    strangers = overlay.ask(1, 'status')['dropped'].get('sip stranger', 0)
    check(f'and theirs did arrive ({strangers})', strangers >= 7)


def at_home(port):
    found = every_scan(port)
    check('at home svmap finds a peer', 'OpenVoIP' in found['svmap OPTIONS'])
    for method in METHODS:
        said = found[f'svwar {method}']
        told = [name in said for name in ("| alice", "| bob", "| eve", "| 100")]
        check(f'svwar {method} takes users that are there for those that are not', all(told) or not any(told))
    check('svcrack does not find the password', 'pw-alice' not in found['svcrack'])
    locked = overlay.ask(1, 'status')['locked_out']
    check(f'it is locked out ({locked})', [l['who'] for l in locked] == [f'alice@{rig.DOMAIN} at {SCANNERS}'])


def phones_go_on():
    alice.cmd('uareg', '60'); bob.cmd('uareg', '60')
    check('the phones register again', alice.registered() and bob.registered())
    dial(alice, bob, 'bob')
    time.sleep(3)
    hang_up(alice)
    check('they hear each other', heard(bob, TONES['alice'], 2) and heard(alice, TONES['bob'], 2))


for scanners_stand, scans, takes in (('elsewhere', from_elsewhere, PHONES), ('at home', at_home, '127.0.0.0/8')):
    with rig.Overlay(sys.argv[1], 3, {1: 'alice', 2: 'bob'}, settings=f'[phones]\nfrom = ["{takes}"]\n') as overlay:
        alice, bob = (phone(overlay, n, name, ip=PHONES) for n, name in ((1, 'alice'), (2, 'bob')))
        try:
            for p in (alice, bob): p.start()
            check(f'both phones register, the scanners stand {scanners_stand}', alice.registered() and bob.registered())
            scans(rig.SIP + 1)
            phones_go_on()
        except Exception as e:
            check(f'{type(e).__name__}: {e}', False)
        finally:
            for p in (alice, bob): p.stop()
check.finish(overlay)
