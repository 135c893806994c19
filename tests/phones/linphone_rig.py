"""Headless linphonec under script control: it reads commands, plays a file to the call, and records what it hears."""
import os, subprocess, time

RC = """[sip]
sip_port={port}
sip_tcp_port=-1
sip_tls_port=-1
media_encryption={keys}
use_ipv6=0
use_info=0
guess_hostname=1
default_proxy=0
[rtp]
audio_rtp_port={rtp}
audio_adaptive_jitt_comp_enabled=0
[net]
mtu=1300
[proxy_0]
reg_proxy=<sip:{registrar}>
reg_route=<sip:{registrar};lr>
reg_identity=sip:{name}@{domain}
reg_expires=60
reg_sendregister=1
publish=0
[auth_info_0]
username={name}
passwd={password}
realm={domain}
"""


class Linphone:
    """A phone of user `name` that registers at `registrar` and plays a tone of its own; `keys` is `none`, `zrtp` or `dtls`."""

    def __init__(self, name, domain, password, registrar, hertz, *, port, rtp, keys, base):
        self.dir, self.log = f'{base}/{name}', f'{base}/{name}/log'
        for folder in ('.local/share/linphone', '.config/linphone'): os.makedirs(f'{self.dir}/{folder}', exist_ok=True)
        self.tone, self.recording = f'{self.dir}/tone.wav', f'{self.dir}/heard.wav'
        subprocess.run(['sox', '-n', '-r', '8000', '-c', '1', '-b', '16', self.tone, 'synth', '60', 'sine', str(hertz), 'vol', '0.4'], check=True)
        with open(f'{self.dir}/rc', 'w') as rc:
            rc.write(RC.format(port=port, rtp=rtp, keys=keys, registrar=registrar, name=name, domain=domain, password=password))

    def start(self):
        env = {**os.environ, 'HOME': self.dir}
        with open(f'{self.dir}/said', 'w') as said:
            self.process = subprocess.Popen(['timeout', '--signal=KILL', '300', 'linphonec', '-c', f'{self.dir}/rc', '-d', '6', '-l', self.log],
                                            stdin=subprocess.PIPE, stdout=said, stderr=said, env=env, text=True)
        self.say('soundcard use files', 'autoanswer enable')

    def say(self, *commands):
        for command in commands:
            self.process.stdin.write(command + '\n')
            self.process.stdin.flush()
            time.sleep(.2)

    def read(self, what='log'):
        """All that it has written by now."""
        with open(f'{self.dir}/{what}', errors='replace') as file: return file.read()

    def waits_for(self, words, seconds):
        """Whether these words stand in its log within so long."""
        for _ in range(int(seconds * 5)):
            if words in self.read(): return True
            time.sleep(.2)
        return False

    def stop(self):
        if not hasattr(self, 'process') or self.process.poll() is not None: return
        try:
            self.say('terminate', 'quit')
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
