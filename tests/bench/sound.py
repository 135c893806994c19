"""Sound of many calls, sent in time and counted."""
import heapq, random, socket, time

PACKET_TIME = .02


def rtp_socket(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(('127.0.0.1', port))
    sock.setblocking(False)
    return sock


def send_sound(streams, seconds, counted, first=0):
    """Sends 50 packets/s on each (socket, address) stream, numbered from `first` on; returns how many were sent."""
    chance, start = random.Random(1), time.monotonic()
    due = [(start + chance.random() * PACKET_TIME, n, first) for n in range(len(streams))]
    heapq.heapify(due)
    sent, drain = 0, start
    while due[0][0] < start + seconds:
        at, n, sequence = due[0]
        now = time.monotonic()
        if at > now:
            if now > drain: drain = now + .2; counted()
            time.sleep(max(0, at - time.monotonic()))
            continue
        heapq.heapreplace(due, (at + PACKET_TIME, n, sequence + 1))
        head = b'\x80\0' + (sequence & 0xffff).to_bytes(2, 'big') + (sequence * 160).to_bytes(4, 'big')
        sock, address = streams[n]
        sock.sendto(head + (n + 1).to_bytes(4, 'big') + b'\xd5' * 160, address)
        sent += 1
    time.sleep(.1)
    counted()
    return sent


class Counter:
    def __init__(self, sockets): self.sockets, self.packets = sockets, 0

    def __call__(self):
        for sock in self.sockets:
            try:
                while sock.recv(2048): self.packets += 1
            except BlockingIOError: pass
