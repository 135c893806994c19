#!/usr/bin/env python3
"""What ten thousand junk datagrams a second cost a peer, by its profile.

usage: junk.py PATH-OF-OPENVOIP
For each profile a peer founds an overlay on loopback and gets five seconds of each: random bytes, frames that ask
for a link, and frames that look sealed. Prints JSON: per cent of a core, and growth of memory in kB.
"""
import json, os, random, socket, subprocess, sys, tempfile, time

PEER, SIP = ('127.0.0.1', 17080), '127.0.0.1:15060'
RATE, SECONDS = 10_000, 5
FIRST_BYTE, FIRST_LENGTH = {'open': 192, 'signed': 96, 'secure': 80}, {'open': 106, 'signed': 153, 'secure': 106}


def cpu_seconds(pid):
    fields = open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def memory_kb(pid):
    return int(open(f'/proc/{pid}/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 1024


def flood(pid, packets):
    """Sends them in turn; what it cost."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    cpu, memory, start, sent = cpu_seconds(pid), memory_kb(pid), time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < SECONDS:
        while sent < RATE * elapsed:
            sender.sendto(packets[sent % len(packets)], PEER)
            sent += 1
        time.sleep(.005)
    return {'per_s': round(sent / SECONDS), 'cpu_percent': round((cpu_seconds(pid) - cpu) / SECONDS * 100, 1),
            'grew_kb': memory_kb(pid) - memory}


def junk(profile, chance):
    """Datagrams of each sort."""
    first = FIRST_BYTE[profile]
    asks = lambda: bytes([first]) + chance.randbytes(4) + bytes(16) + chance.randbytes(32) + bytes(FIRST_LENGTH[profile] - 53)
    sorts = {'random': lambda: chance.randbytes(120), 'asks for a link': asks,
             'looks sealed': lambda: bytes([first + 3]) + chance.randbytes(119)}
    return {name: [make() for _ in range(2_000)] for name, make in sorts.items()}


def measure(openvoip, profile):
    with tempfile.TemporaryDirectory(prefix='openvoip-junk-') as home:
        peer = subprocess.Popen([openvoip, '--data-dir', home, 'bootstrap', '--listen', '%s:%d' % PEER, '--sip', SIP,
                                 '--profile', profile], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(1.5)
            return {name: flood(peer.pid, packets) for name, packets in junk(profile, random.Random(1)).items()}
        finally:
            peer.terminate()
            peer.wait(10)


print(json.dumps({profile: measure(sys.argv[1], profile) for profile in FIRST_BYTE}, indent=1))
