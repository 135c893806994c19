#!/usr/bin/env python3
"""What a call loses while each port of a peer gets ten thousand junk datagrams a second.

usage: flooded_call.py PATH-OF-OPENVOIP
Two peers of an overlay (profile secure), a phone at each, one call between them. A process of its own floods the callee's
peer on its peer port, its SIP port and the port where its phone's sound goes, all at once, from an address where no
phone is: random bytes, frames that ask for a link, frames that look sealed, OPTIONS, and RTP that is not the phone's.
Before it, during it and after it the packets of the call are counted for ten seconds each. Prints JSON.
"""
import json, os, random, socket, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig import DOMAIN, OVERLAY, PHONE, RTP, SIP, Overlay
from phone import Phone
from sound import Counter, rtp_socket, send_sound

RATE, SECONDS = 10_000, 10


def junk(port):
    """Datagrams for a port, five sorts in turn."""
    chance = random.Random(port)
    options = (f'OPTIONS sip:bob@{DOMAIN} SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9;branch=z9hG4bK%d\r\nFrom: <sip:x@x>;tag=1\r\n'
               f'To: <sip:bob@{DOMAIN}>\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n')
    make = [lambda: chance.randbytes(120),
            lambda: bytes([80]) + chance.randbytes(4) + bytes(16) + chance.randbytes(32) + bytes(53),
            lambda: bytes([83]) + chance.randbytes(119),
            lambda: (options % (chance.getrandbits(60), chance.getrandbits(60))).encode(),
            lambda: bytes([128, 0]) + chance.randbytes(170)]
    return [make[n % 5]() for n in range(2_000)]


def flood(ports, seconds):
    """Sends junk to these ports, ten thousand a second to each; how many were sent."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(('127.0.0.66', 0))
    packets, start, sent = {port: junk(port) for port in ports}, time.monotonic(), 0
    while (elapsed := time.monotonic() - start) < seconds:
        while sent < RATE * elapsed:
            for port in ports: sender.sendto(packets[port][sent % 2_000], ('127.0.0.1', port))
            sent += 1
        time.sleep(.002)
    return round(sent / seconds)


def memory_kb(pid): return int(open(f'/proc/{pid}/statm').read().split()[1]) * os.sysconf('SC_PAGE_SIZE') // 1024


def main(openvoip):
    with Overlay(openvoip, 3, {1: 'alice', 2: 'bob'}) as overlay:
        alice = Phone('alice', DOMAIN, PHONE, overlay.sip(1), range(RTP + 10, RTP + 20, 2))
        bob = Phone('bob', DOMAIN, PHONE + 1, overlay.sip(2), range(RTP + 310, RTP + 320, 2))
        alice.register(); bob.register()
        call = alice.dial('bob')[0]
        alice.established(call)
        ends = [alice.calls[call], list(bob.calls.values())[-1]]
        sockets = [rtp_socket(own) for own, _ in ends]
        streams = [(s, ('127.0.0.1', theirs)) for s, (_, theirs) in zip(sockets, ends)]
        count = Counter(sockets)
        numbers = iter(range(0, 10_000, 50 * SECONDS))
        send_sound(streams, SECONDS, count, next(numbers))   # the peers learn where the phones are
        ports = [OVERLAY + 2, SIP + 2, ends[1][1]]

        def measure(name, flooder=None):
            count.packets = 0
            cpu, memory, start = overlay.cpu(2), memory_kb(overlay.pid(2)), time.monotonic()
            sent = send_sound(streams, SECONDS, count, next(numbers))
            percent = 100 * (overlay.cpu(2) - cpu) / (time.monotonic() - start)
            rate = int(flooder.communicate(timeout=30)[0]) if flooder else 0
            print(json.dumps({'when': name, 'junk_per_s_and_port': rate, 'cpu_percent': round(percent, 1), 'sound_sent': sent,
                              'sound_lost': sent - count.packets, 'grew_kb': memory_kb(overlay.pid(2)) - memory}), flush=True)

        measure('before')
        flooding = [sys.executable, os.path.abspath(__file__), '--flood', *map(str, ports)]
        measure('during', subprocess.Popen(flooding, stdout=subprocess.PIPE))
        measure('after')


if sys.argv[1] == '--flood': print(flood([int(port) for port in sys.argv[2:]], SECONDS + .5))
else: main(sys.argv[1])
