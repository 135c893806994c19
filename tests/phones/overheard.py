"""What somebody hears who has every packet of the loopback, in a network namespace of its own."""
import os, socket, struct, subprocess, sys, threading, wave

from talk import here

TAG, RTP_HEAD = 10, 12


def alone():
    """Starts this program again in a network namespace of its own, unless it is there."""
    if os.environ.get('OPENVOIP_TEST_ALONE') != 'yes':
        os.environ['OPENVOIP_TEST_ALONE'] = 'yes'
        user = [] if os.geteuid() == 0 else ['--map-root-user']
        os.execvp('unshare', ['unshare', *user, '--net', sys.executable, *sys.argv])
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)


class Listener:
    """Keeps the datagrams for whose two ports `wanted` holds, and of everything else what begins with or holds `words`."""

    def __init__(self, wanted, words=()):
        self.wanted, self.words = wanted, words

    def __enter__(self):
        self.kept, self.said, self.tap = [], [], socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.tap.bind(('lo', 0))
        self.tap.settimeout(.2)
        self.listening = True
        self.thread = threading.Thread(target=self._listen)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.listening = False
        self.thread.join()
        self.tap.close()

    def _listen(self):
        while self.listening:
            try: frame, where = self.tap.recvfrom(65535)
            except TimeoutError: continue
            if where[2] != socket.PACKET_OUTGOING or len(frame) < 42: continue
            self.said += [word for word in self.words if word in frame]
            if frame[23] == socket.IPPROTO_UDP and self.wanted(*struct.unpack('!HH', frame[34:38])): self.kept.append(frame[42:])


def is_rtp(d): return 128 <= d[0] < 192 and not 192 <= d[1] < 224
def is_rtcp(d): return 128 <= d[0] < 192 and 192 <= d[1] < 224


def tone_in(sound, hertz, work, tag=TAG):
    """Whether a tone is heard in RTP of PCMU with tags of so many bytes, each stream taken for itself."""
    streams = {}
    for d in sound: streams.setdefault(d[8:12], []).append(d[RTP_HEAD:len(d) - tag])
    for ssrc, frames in streams.items():
        name = f'{work}/overheard-{ssrc.hex()}.wav'
        with wave.open(name, 'wb') as out:
            out.setnchannels(1); out.setsampwidth(2); out.setframerate(8000)
            out.writeframes(b''.join(struct.pack('<h', linear(b)) for b in b''.join(frames)))
        judge = [sys.executable, f'{here}/tonecheck.py', name, str(hertz), '--min-sec', '2']
        if subprocess.run(judge, capture_output=True).returncode == 0: return True
    return False


def linear(byte):
    """A sample of G.711, mu-law."""
    byte = ~byte & 0xff
    magnitude = (((byte & 15) << 3) + 132 << (byte >> 4 & 7)) - 132
    return -magnitude if byte & 128 else magnitude
