#!/usr/bin/env python3
"""Two real SIP phones at two peers of a 16-peer overlay, judged by what was heard.

usage: overlay_call.py PATH-OF-OPENVOIP
Starts a bootstrap peer and 15 peers, registers one headless baresip at each of two of them, and lets
them call each other: tone heard both ways, message, hold and resume, CANCEL, busy; then four other
peers are killed and they call again. Needs Debian's baresip-core and sox, and python3-numpy.
"""
import json, os, signal, subprocess, sys, tempfile, time
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
work = tempfile.mkdtemp(prefix='openvoip-phones-')
os.environ['RIG_WORK'] = work + '/rig'
from baresip_rig import Baresip
openvoip = os.path.abspath(sys.argv[1])
here = os.path.dirname(os.path.abspath(__file__))
peers, failures = [], []

def start(n, *args):
    home = f'{work}/peer{n}'
    log = open(f'{work}/peer{n}.log', 'w')
    peers.append(subprocess.Popen([openvoip, *args, '--data-dir', home], stdout=log, stderr=log))
    return home

def ask(home, *args):
    out = subprocess.run([openvoip, '--data-dir', home, *args, '--json'], capture_output=True, text=True, timeout=30)
    return json.loads(out.stdout)

def until(condition, seconds, what):
    end = time.time() + seconds
    while time.time() < end:
        try:
            if condition(): return True
        except Exception: pass
        time.sleep(.1)
    failures.append(what); print('FAILED', what); return False

def check(name, good):
    print('ok    ' if good else 'FAILED', name)
    if not good: failures.append(name)

def heard(phone, hertz, seconds):
    dumps = phone.dumps('dec')
    if not dumps: return False
    run = subprocess.run([sys.executable, here + '/tonecheck.py', dumps[-1], str(hertz), '--min-sec', str(seconds)],
                         capture_output=True, text=True)
    return run.returncode == 0

def phone(name, port, ctrl, rtp, sip, hertz, extra=''):
    account = f'<sip:{name}@rig.test>;auth_user={name};auth_pass=pw-{name};outbound="sip:{sip};transport=udp";regint=60{extra}'
    contact = 'bob' if name == 'alice' else 'alice'
    return Baresip(name, '127.0.0.1', account, hertz, port=port, ctrl=ctrl, rtp=rtp,
                   appmods=['presence.so'], contacts=[f'"{contact}" <sip:{contact}@rig.test>;presence=p2p'])

def call(a, b, seconds=3):
    a.cmd('dial', 'sip:bob@rig.test')
    b.wait('CALL_ESTABLISHED'); a.wait('CALL_ESTABLISHED'); time.sleep(seconds)

a = b = None
try:
    base = 17100
    start(0, 'bootstrap', '--listen', f'127.0.0.1:{base}')
    time.sleep(.5)
    homes = {}
    for n in range(1, 16):
        user = {3: 'alice@rig.test', 12: 'bob@rig.test'}.get(n, f'user{n}@rig.test')
        homes[n] = start(n, 'up', '--listen', f'127.0.0.1:{base + n}', '--sip', f'127.0.0.1:{15100 + n}',
                         '--bootstrap', f'127.0.0.1:{base}', '--user', user)
    until(lambda: all(ask(h, 'status')['online'] for h in homes.values()), 20, 'all peers are online')
    for n, name in ((3, 'alice'), (12, 'bob')):
        until(lambda: ask(homes[n], 'status')['users'][0]['state'] == 'published', 10, f'{name} is published')
        ask(homes[n], 'phone', 'add', name, '--password', f'pw-{name}')
    b = phone('bob', 5980, 4480, (10300, 10500), '127.0.0.1:15112', 1000, ';answermode=auto').start()
    a = phone('alice', 5970, 4470, (10000, 10200), '127.0.0.1:15103', 440).start()
    check('both phones register with digest', a.registered() and b.registered())

    call(a, b)
    report = [c for c in ask(homes[3], 'calls')['calls'] if c['state'] == 'established']
    check('the call goes directly between the peers', bool(report) and report[0]['path'] == 'direct')
    a.cmd('hold'); time.sleep(1); a.cmd('resume'); time.sleep(2)
    a.cmd('hangup'); b.wait('CALL_CLOSED'); time.sleep(.5)
    check('bob heard alice and alice heard bob', heard(b, 440, 2) and heard(a, 1000, 2))
    # The recorder of baresip ends with the first hold, so what came after it is counted, not heard:
    # three seconds before and two after make 250 packets, the held second sends none towards alice.
    rtp = ask(homes[3], 'calls')['calls'][-1]['rtp']
    check(f'sound goes on after hold and resume ({rtp})', rtp['sent'] >= 220 and rtp['received'] >= 220)

    text = f'hello-{time.time_ns()}'
    a.cmd('message', text)
    until(lambda: text in b.texts, 5, 'the message arrives')

    killed = [5, 7, 9, 14]
    for n in killed: peers[n].kill()
    time.sleep(1)
    call(a, b)
    a.cmd('hangup'); b.wait('CALL_CLOSED'); time.sleep(.5)
    check('they hear each other with four peers dead', heard(b, 440, 2) and heard(a, 1000, 2))

    b.stop()
    time.sleep(.5)
    b = phone('bob', 5980, 4480, (10300, 10500), '127.0.0.1:15112', 1000).start()
    check('bob registers again, answering by hand', b.registered())
    a.cmd('dial', 'sip:bob@rig.test'); b.wait('CALL_INCOMING'); a.cmd('hangup')
    closed = b.wait('CALL_CLOSED')
    check('CANCEL reaches the ringing phone', closed is not None)
    time.sleep(.5)
    while not a.events.empty(): a.events.get()
    a.cmd('dial', 'sip:bob@rig.test'); b.wait('CALL_INCOMING'); b.cmd('hangup')
    closed = a.wait('CALL_CLOSED')
    check('a refusal comes back as busy', '486' in closed.get('param', '') or 'Busy' in closed.get('param', ''))
except Exception as e:
    failures.append(f'{type(e).__name__}: {e}')
finally:
    for x in (a, b):
        if x: x.stop()
    for p in peers:
        if p.poll() is None: p.send_signal(signal.SIGTERM)
    for p in peers:
        try: p.wait(5)
        except Exception: p.kill()
print(f'{"FAILED: " + "; ".join(failures) if failures else "every check passed"} (logs in {work})')
sys.exit(1 if failures else 0)
