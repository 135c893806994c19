"""A phone for measurements: SIP over UDP, as little of it as a call takes (RFC 3261).

It answers every call at once with 180 and 200, keeps when it saw what, and sends sound only where
the measurement does it.
"""
import hashlib, itertools, re, socket, threading, time

numbers = itertools.count(1)


def header(message, name):
    found = re.search(rf'^{name}:[ \t]*(.*?)\r?$', message, re.M | re.I)
    return found.group(1) if found else ''


def media_port(message):
    """Where an SDP wants its sound."""
    return int(re.search(r'^m=audio (\d+)', message, re.M).group(1))


class Phone:
    """A phone on 127.0.0.1:port that registers at the peer `sip`, an address."""

    def __init__(self, user, domain, port, sip, rtp_ports):
        self.user, self.domain, self.port = user, domain, port
        self.peer = (sip.split(':')[0], int(sip.split(':')[1]))
        self.rtp_ports = iter(rtp_ports)
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind(('127.0.0.1', port))
        self.calls = {}                 # by Call-ID: our RTP port and theirs
        self.rang = {}                  # by the X-Phone that we put into a 180: when we sent it
        self.answers = {}               # by (Call-ID, CSeq): a list of (time, message), and a condition
        self.came = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while True:
            message = self.sock.recv(65_536).decode()
            now = time.monotonic()
            if message.startswith('SIP/2.0'):
                with self.came:
                    key = (header(message, 'Call-ID'), header(message, 'CSeq'))
                    self.answers.setdefault(key, []).append((now, message))
                    self.came.notify_all()
            elif message.startswith('INVITE'): self._answer(message)
            elif not message.startswith('ACK'): self._reply(message, '200 OK')

    def _send(self, text): self.sock.sendto(text.encode(), self.peer)

    def _sdp(self, port):
        return (f'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n'
                f'm=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n')

    def _reply(self, request, status, extra='', body=''):
        kept = [l for l in request.split('\r\n') if re.match(r'(Via|From|Call-ID|CSeq|Record-Route):', l, re.I)]
        tag = '' if ';tag=' in header(request, 'To') else f';tag={self.user}'
        self._send('\r\n'.join([f'SIP/2.0 {status}', *kept, f'To: {header(request, "To")}{tag}',
                                f'Contact: <sip:{self.user}@127.0.0.1:{self.port}>']) +
                   f'\r\n{extra}Content-Length: {len(body)}\r\n\r\n{body}')

    def _answer(self, invite):
        call, mark = header(invite, 'Call-ID'), f'{self.user}-{next(numbers)}'
        if call in self.calls: return   # sent again; the 200 is on its way
        self.calls[call] = (next(self.rtp_ports), media_port(invite))
        self.rang[mark] = time.monotonic()
        self._reply(invite, '180 Ringing', f'X-Phone: {mark}\r\n')
        self._reply(invite, '200 OK', 'Content-Type: application/sdp\r\n', self._sdp(self.calls[call][0]))

    def request(self, method, uri, call, cseq, to, extra='', body=''):
        """Sends a request; ends when it was sent."""
        self._send(f'{method} {uri} SIP/2.0\r\n'
                   f'Via: SIP/2.0/UDP 127.0.0.1:{self.port};branch=z9hG4bK{next(numbers)};rport\r\n'
                   f'Max-Forwards: 70\r\nFrom: <sip:{self.user}@{self.domain}>;tag={self.user}\r\nTo: {to}\r\n'
                   f'Call-ID: {call}\r\nCSeq: {cseq} {method}\r\n'
                   f'Contact: <sip:{self.user}@127.0.0.1:{self.port}>\r\n'
                   f'{extra}Content-Length: {len(body)}\r\n\r\n{body}')

    def wait(self, call, cseq, fits, seconds=5):
        """The first answer to a request that fits, and when it came."""
        with self.came:
            def found(): return next((a for a in self.answers.get((call, cseq), []) if fits(a[1])), None)
            if not self.came.wait_for(found, seconds): raise TimeoutError(f'{cseq} of {self.user}: no answer')
            return found()

    def register(self):
        """Registers with digest (MD5, qop=auth)."""
        call, uri, to = f'reg-{self.user}-{next(numbers)}', f'sip:{self.domain}', f'<sip:{self.user}@{self.domain}>'
        self.request('REGISTER', uri, call, 1, to, 'Expires: 600\r\n')
        _, challenge = self.wait(call, '1 REGISTER', lambda m: m.startswith('SIP/2.0 401'))
        self.request('REGISTER', uri, call, 2, to, f'Expires: 600\r\nAuthorization: {self.proof(challenge, uri)}\r\n')
        self.wait(call, '2 REGISTER', lambda m: m.startswith('SIP/2.0 200'))

    def proof(self, challenge, uri):
        md5 = lambda text: hashlib.md5(text.encode()).hexdigest()
        realm, nonce = (re.search(rf'{k}="([^"]*)"', challenge).group(1) for k in ('realm', 'nonce'))
        secret, asked = md5(f'{self.user}:{realm}:pw-{self.user}'), md5(f'REGISTER:{uri}')
        response = md5(f'{secret}:{nonce}:00000001:c:auth:{asked}')
        return (f'Digest username="{self.user}",realm="{realm}",nonce="{nonce}",uri="{uri}",algorithm=MD5,'
                f'qop=auth,nc=00000001,cnonce="c",response="{response}"')

    def dial(self, user):
        """Calls somebody; the Call-ID, for `established`, and when the INVITE left."""
        call, port, to = f'call-{self.user}-{next(numbers)}', next(self.rtp_ports), f'<sip:{user}@{self.domain}>'
        self.calls[call] = (port, None)
        sent = time.monotonic()
        self.request('INVITE', f'sip:{user}@{self.domain}', call, 1, to, 'Content-Type: application/sdp\r\n',
                     self._sdp(port))
        return call, sent

    def established(self, call):
        """Waits for the 200 and acknowledges it; our RTP port and the one to send to."""
        _, ok = self.wait(call, '1 INVITE', lambda m: m.startswith('SIP/2.0 2'))
        self.calls[call] = (self.calls[call][0], media_port(ok))
        self.remote = (header(ok, 'To'), re.search(r'<(.*?)>', header(ok, 'Contact')).group(1))
        self.request('ACK', self.remote[1], call, 1, self.remote[0])
        return self.calls[call], self.remote

    def hang_up(self, call, remote):
        self.request('BYE', remote[1], call, 2, remote[0])
        self.wait(call, '2 BYE', lambda m: m.startswith('SIP/2.0 200'))
