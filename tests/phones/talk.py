"""Real phones at an overlay: baresip without a sound card, each playing a tone of its own."""
import os, struct, subprocess, sys, time
here = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [here, os.path.dirname(here)]
import rig
from baresip_rig import Baresip

# What baresip needs to encrypt sound in a way.
MODULES = {'srtp': ['srtp.so'], 'srtp-mand': ['srtp.so'], 'dtls_srtp': ['dtls_srtp.so']}

TONES = {'alice': 440, 'bob': 1000, 'carol': 1700}


def phone(overlay, n, name, *, auto=True, contact=None, transport='udp', codecs=('g711.so',), rate=8000, chan=1,
          ip='127.0.0.1', keys=None):
    """A phone of user `name` at peer `n`, on address `ip`; `contact` is whom it writes to. Over TLS it is given the
    peer's certificate; `keys` is how it encrypts sound, if it does."""
    index = list(TONES).index(name)
    tls = transport == 'tls'
    registrar = overlay.sips(n) if tls else overlay.sip(n)
    account = (f'<sip:{name}@{rig.DOMAIN}>;auth_user={name};auth_pass=pw-{name};regint=60;'
               f'outbound="sip:{registrar};transport={transport}"' + (';answermode=auto' if auto else '')
               + (f';mediaenc={keys}' if keys else ''))
    contacts = [f'"{contact}" <sip:{contact}@{rig.DOMAIN}>;presence=p2p'] if contact else []
    return Baresip(name, ip, account, TONES[name], rate=rate, chan=chan, codecs=codecs, port=rig.PHONE + 10 * index,
                   ctrl=rig.PHONE + 100 + index, rtp=(rig.RTP + 100 * index, rig.RTP + 100 * index + 98),
                   appmods=['presence.so'], mods=MODULES.get(keys, []),
                   extra=f'sip_cafile {overlay.certificate(n)}' if tls else '', contacts=contacts, base=f'{overlay.work}/phones')


def heard(phone, hertz, seconds, which=-1):
    """Whether a recording of that phone, the newest unless told, holds that tone for so long."""
    dumps = phone.dumps()
    return bool(dumps) and tone_lasts(dumps[which], hertz, seconds)


def tone_lasts(recording, hertz, seconds):
    """Whether a recording holds that tone for so long; an error if that cannot be judged, for instance because numpy is not there."""
    judge = subprocess.run([sys.executable, f'{here}/tonecheck.py', recording, str(hertz), '--min-sec', str(seconds)],
                           capture_output=True, text=True)
    if judge.stderr: raise RuntimeError(f'tonecheck.py: {judge.stderr.strip().splitlines()[-1]}')
    return judge.returncode == 0


def dial(caller, callee, name):
    """A call between two phones, once both say that it is made."""
    caller.cmd('dial', f'sip:{name}@{rig.DOMAIN}')
    callee.wait('CALL_ESTABLISHED')
    caller.wait('CALL_ESTABLISHED')


def forget_events(*phones):
    for p in phones:
        while not p.events.empty(): p.events.get()


def hang_up(*phones):
    """Ends every call of these phones and waits for the ends."""
    for p in phones:
        for _ in range(3): p.cmd('hangup', wait=1)
    time.sleep(.5)
    forget_events(*phones)
