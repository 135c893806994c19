#!/usr/bin/env python3
"""What a bridged G.711 call costs a peer, beside a bare forwarder of the same packets.

usage: bridged_calls.py PATH-OF-OPENVOIP PATH-OF-FORWARDER [--seconds S] [--rounds N] [--calls N,N]
Two peers of an overlay, a phone at each; the sound of each call is 50 packets/s of 172 bytes each
way, at times of its own. A peer forwards 100 packets/s for each call; so does the forwarder
(crates/openvoip/examples/forwarder.rs), which reads one socket and sends what comes to one address.
The two take turns, so that both see the same machine; the middle of all rounds is printed, one JSON
line for each number of calls. Processor time is that of all threads, from /proc.
"""
import argparse, json, os, socket, statistics, subprocess, sys, time
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from rig import DOMAIN, PHONE, RTP, Overlay
from phone import Phone
from sound import Counter, rtp_socket, send_sound


def bare(forwarder, calls):
    """A function that measures the bare forwarder for some seconds, and the one that ends it."""
    process = subprocess.Popen([forwarder, f'127.0.0.1:{RTP}', f'127.0.0.1:{RTP + 1}'])
    sink = rtp_socket(RTP + 1)
    sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sources = [rtp_socket(0) for _ in range(2 * calls)]
    count = Counter([sink])

    def end():
        process.kill(); process.wait()
        for sock in [sink, *sources]: sock.close()

    def spent(): return int(open(f'/proc/{process.pid}/schedstat').read().split()[0]) / 1e9
    time.sleep(.3)
    return measure(lambda: [spent()], [(s, ('127.0.0.1', RTP)) for s in sources], count, calls), end


def bridged(overlay, alice, bob, calls):
    """The same for the two peers of `calls` calls."""
    made = [alice.dial('bob')[0] for _ in range(calls)]
    remotes = [alice.established(call)[1] for call in made]
    pairs = [alice.calls[c] for c in made] + list(bob.calls.values())[-calls:]
    sockets = [rtp_socket(own) for own, _ in pairs]
    streams = [(s, ('127.0.0.1', theirs)) for s, (_, theirs) in zip(sockets, pairs)]
    count = Counter(sockets)

    def end():
        for sock in sockets: sock.close()
        for call, remote in zip(made, remotes): alice.hang_up(call, remote)

    send_sound(streams, 1, count)   # the peers learn where the phones are
    return measure(lambda: [overlay.cpu(n) for n in (1, 2)], streams, count, calls), end


def measure(spent, streams, count, calls):
    def run(seconds):
        """Percent of a core per call of each process, packets sent, packets lost."""
        count.packets = 0
        before, start = spent(), time.monotonic()
        sent = send_sound(streams, seconds, count)
        wall = time.monotonic() - start
        return [100 * (a - b) / wall / calls for a, b in zip(spent(), before)], sent, sent - count.packets
    return run


options = argparse.ArgumentParser()
options.add_argument('openvoip'); options.add_argument('forwarder')
options.add_argument('--seconds', type=float, default=10)
options.add_argument('--rounds', type=int, default=3)
options.add_argument('--calls', default='1,50')
options = options.parse_args()
with Overlay(options.openvoip, 3, {1: 'alice', 2: 'bob'}) as overlay:
    alice = Phone('alice', DOMAIN, PHONE, overlay.sip(1), range(RTP + 10, RTP + 300, 2))
    bob = Phone('bob', DOMAIN, PHONE + 1, overlay.sip(2), range(RTP + 310, RTP + 600, 2))
    alice.register(); bob.register()
    for calls in map(int, options.calls.split(',')):
        (bare_run, bare_end), (peer_run, peer_end) = bare(options.forwarder, calls), bridged(overlay, alice, bob, calls)
        rounds = [(bare_run(options.seconds), peer_run(options.seconds)) for _ in range(options.rounds)]
        bare_end(); peer_end()
        floor = [b[0][0] for b, _ in rounds]
        peers = [share for _, p in rounds for share in p[0]]
        ratio = [statistics.mean(p[0]) / b[0][0] for b, p in rounds]
        middle = lambda values: round(statistics.median(values), 3)
        print(json.dumps({'calls': calls, 'peer_percent_of_core_per_call': middle(peers),
                          'peer_range': [round(min(peers), 3), round(max(peers), 3)],
                          'bare_forwarder_percent': middle(floor), 'ratio': middle(ratio),
                          'packets_sent': sum(p[1] for _, p in rounds), 'packets_lost': sum(p[2] for _, p in rounds),
                          'bare_lost': sum(b[2] for b, _ in rounds)}), flush=True)
