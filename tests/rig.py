"""An overlay of real peers on loopback, each its own process, for the tests that need one.

Ports: from OPENVOIP_TEST_PORTS on (23000 if not set), below that number plus 1000.
"""
import json, os, signal, subprocess, sys, tempfile, time

PORTS = int(os.environ.get('OPENVOIP_TEST_PORTS', 23000))
OVERLAY, SIP, PHONE, RTP = PORTS, PORTS + 100, PORTS + 200, PORTS + 400
DOMAIN = 'rig.test'


class Checks:
    """What was found, one line each; the process ends with 1 if anything failed."""

    def __init__(self):
        self.failures = []

    def __call__(self, name, good):
        print('ok    ' if good else 'FAILED', name, flush=True)
        if not good: self.failures.append(name)
        return good

    def until(self, condition, seconds, name):
        """Waits for a condition; a failed check if it does not come true."""
        return wait(condition, seconds) or self(name, False)

    def finish(self, overlay):
        print('FAILED: ' + '; '.join(self.failures) if self.failures else 'every check passed',
              f'(logs in {overlay.work})')
        sys.exit(1 if self.failures else 0)


def wait(condition, seconds):
    """Whether a condition comes true in time; an error counts as not yet."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if condition(): return True
        except Exception: pass
        time.sleep(.05)
    return False


class Overlay:
    """A bootstrap peer, number 0, and `peers - 1` more; `users` names those of some of them,
    `settings` is the configuration file of each.

    Use as a context manager; every process it starts is ended with it.
    """

    def __init__(self, openvoip, peers, users, algorithm='kademlia', profile='secure', settings=''):
        self.openvoip, self.count, self.users = os.path.abspath(openvoip), peers, users
        self.algorithm, self.profile, self.settings = algorithm, profile, settings
        self.work = tempfile.mkdtemp(prefix='openvoip-test-')
        self.running = {}

    def __enter__(self):
        try:
            self._start(0, 'bootstrap', '--listen', f'127.0.0.1:{OVERLAY}', '--overlay', self.algorithm,
                        '--profile', self.profile)
            wait(lambda: self.ask(0, 'status'), 10)
            for n in range(1, self.count):
                self._start(n, 'up', '--listen', f'127.0.0.1:{OVERLAY + n}', '--sip', self.sip(n), '--sips', self.sips(n),
                            '--bootstrap', f'127.0.0.1:{OVERLAY}', '--profile', self.profile, '--user', f'{self.users.get(n, f"user{n}")}@{DOMAIN}')
            for n in range(1, self.count):
                if not wait(lambda: self.ask(n, 'status')['users'][0]['state'] == 'published', 20):
                    raise RuntimeError(f'peer {n} did not publish its user; see {self.log(n)}')
            for n, user in self.users.items(): self.ask(n, 'phone', 'add', user, '--password', f'pw-{user}')
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for p in self.running.values():
            if p.poll() is None: p.send_signal(signal.SIGTERM)
        for p in self.running.values():
            try: p.wait(5)
            except subprocess.TimeoutExpired: p.kill(); p.wait()

    def _start(self, n, *args):
        os.makedirs(self.home(n), mode=0o700)
        with open(f'{self.home(n)}/openvoip.toml', 'w') as file: file.write(self.settings)
        with open(self.log(n), 'w') as log:
            self.running[n] = subprocess.Popen([self.openvoip, *args, '--data-dir', self.home(n)], stdout=log, stderr=log)

    def home(self, n): return f'{self.work}/peer{n}'
    def log(self, n): return f'{self.work}/peer{n}.log'
    def sip(self, n): return f'127.0.0.1:{SIP + n}'
    def sips(self, n): return f'127.0.0.1:{SIP + 50 + n}'
    def certificate(self, n): return f'{self.home(n)}/sips.pem'
    def pid(self, n): return self.running[n].pid

    def ask(self, n, *args):
        """What peer n answers to a command, as an object."""
        out = subprocess.run([self.openvoip, '--data-dir', self.home(n), *args, '--json'],
                             capture_output=True, text=True, timeout=30)
        return json.loads(out.stdout)

    def kill(self, n):
        """Ends a peer without a goodbye."""
        self.running[n].kill()
        self.running[n].wait()

    def cpu(self, n):
        """Seconds that peer n has spent on a processor, all its threads."""
        task = f'/proc/{self.pid(n)}/task'
        return sum(int(open(f'{task}/{t}/schedstat').read().split()[0]) for t in os.listdir(task)) / 1e9
