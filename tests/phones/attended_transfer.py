#!/usr/bin/env python3
"""An attended transfer with phones that can do it: baresip 1.0 cannot, pjsua can.

usage: attended_transfer.py PATH-OF-OPENVOIP
Three pjsua phones at three peers of a 16-peer overlay, each with a tone of its own. Alice calls Bob,
calls Carol beside it, and joins the two (REFER with Replaces, RFC 3891); four other peers are killed
and they do it again. Who hears whom is judged from what each recorded of each call. Needs the
package pjsua2-python (PyPI) beside sox and numpy.
"""
import multiprocessing, os, subprocess, sys, time
import pjsua2 as pj
from talk import TONES, here, rig

PEERS = {3: 'alice', 12: 'bob', 8: 'carol'}


# ---- a phone, in a process of its own: pjsua is built for four calls at once -----------------------

class Call(pj.Call):
    """A call, and the recording of what it brought."""

    def __init__(self, account, number=pj.PJSUA_INVALID_ID):
        super().__init__(account, number)
        self.account, self.media, self.up, self.over, self.transferred = account, False, False, False, False
        self.file = f'{account.work}/{account.name}-{len(account.calls)}.wav'
        account.calls.append(self)

    def onCallState(self, prm):
        state = self.getInfo().state
        self.up = state == pj.PJSIP_INV_STATE_CONFIRMED
        self.over = state == pj.PJSIP_INV_STATE_DISCONNECTED

    def onCallMediaState(self, prm): self.media = True

    def onCallTransferStatus(self, prm):
        if prm.finalNotify and prm.statusCode // 100 == 2: self.transferred = True

    # The calls that a transfer makes are calls of the same phone.
    def onCallTransferRequest(self, prm): prm.newCall = Call(self.account)
    def onCallReplaceRequest(self, prm): prm.newCall = Call(self.account)

    def mind(self):
        """Plays our tone and records while there is sound; pjsua wants that outside its callbacks."""
        if self.over:
            self.player = self.recorder = None     # closes the file
        elif self.media:
            self.media, sound = False, self.getAudioMedia(-1)
            self.player, self.recorder = pj.AudioMediaPlayer(), pj.AudioMediaRecorder()
            self.player.createPlayer(self.account.tone)
            self.recorder.createRecorder(self.file)
            self.player.startTransmit(sound)
            sound.startTransmit(self.recorder)


class Account(pj.Account):
    def __init__(self, endpoint, name, sip, work):
        super().__init__()
        self.name, self.work, self.calls, self.tone = name, work, [], f'{work}/{name}.wav'
        index = list(TONES).index(name)
        subprocess.run(['sox', '-n', '-r', '8000', '-c', '1', '-b', '16', self.tone, 'synth', '60', 'sine',
                        str(TONES[name]), 'vol', '0.4'], check=True)
        transport = pj.TransportConfig()
        transport.port, transport.boundAddress = rig.PHONE + 10 * index, '127.0.0.1'
        config = pj.AccountConfig()
        config.idUri, config.regConfig.registrarUri = f'sip:{name}@{rig.DOMAIN}', f'sip:{sip}'
        config.sipConfig.proxies.append(f'sip:{sip};lr')
        config.sipConfig.authCreds.append(pj.AuthCredInfo('digest', '*', name, 0, f'pw-{name}'))
        config.sipConfig.transportId = endpoint.transportCreate(pj.PJSIP_TRANSPORT_UDP, transport)
        config.mediaConfig.transportConfig.boundAddress = '127.0.0.1'
        config.mediaConfig.transportConfig.port = rig.RTP + 100 * index
        self.create(config)

    def onIncomingCall(self, prm):
        answer = pj.CallOpParam()
        answer.statusCode = 200
        Call(self, prm.callId).answer(answer)

    # Commands of the test.

    def registered(self): return self.getInfo().regIsActive
    def state(self): return [(c.up, c.over, c.transferred, c.file) for c in self.calls]
    def dial(self, name): Call(self).makeCall(f'sip:{name}@{rig.DOMAIN}', pj.CallOpParam(True))
    def join(self): self.calls[-2].xferReplaces(self.calls[-1], pj.CallOpParam(True))

    def hang_up(self):
        for call in self.calls:
            if not call.over: call.hangup(pj.CallOpParam())


def be_a_phone(commands, *account):
    endpoint, config = pj.Endpoint(), pj.EpConfig()
    config.uaConfig.threadCnt, config.uaConfig.mainThreadOnly = 0, True
    config.medConfig.noVad, config.medConfig.clockRate = True, 8000
    config.logConfig.level = config.logConfig.consoleLevel = int(os.environ.get('PJ_LOG', 1))
    endpoint.libCreate()
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    # A tone comes out of a speech codec as something else.
    for codec in endpoint.codecEnum2(): endpoint.codecSetPriority(codec.codecId, 255 if 'PCMU' in codec.codecId else 0)
    account = Account(endpoint, *account)
    while True:
        endpoint.libHandleEvents(10)
        for call in account.calls: call.mind()
        if commands.poll():
            name, *args = commands.recv()
            commands.send(getattr(account, name)(*args))


class Phone:
    """The test's end of a phone: `phone.dial('bob')`, `phone.state()`, ..."""

    def __init__(self, n, name):
        self.pipe, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=be_a_phone, args=(other, name, overlay.sip(n), overlay.work),
                                               daemon=True)
        self.process.start()

    def __getattr__(self, command):
        def ask(*args):
            self.pipe.send((command, *args))
            if not self.pipe.poll(10): raise TimeoutError(command)
            return self.pipe.recv()
        return ask


# ---- the test --------------------------------------------------------------------------------------

check = rig.Checks()


def is_up(phone, which): return phone.state()[which][0]
def is_over(phone, which): return phone.state()[which][1]


def heard(phone, which, name):
    """Whether a call of that phone brought that user's tone for two seconds; says what it did if not."""
    run = subprocess.run([sys.executable, f'{here}/tonecheck.py', phone.state()[which][3], str(TONES[name]), '--min-sec',
                          '2'], capture_output=True, text=True)
    if run.returncode: print(f'      expected {name}: {run.stdout.strip()}')
    return run.returncode == 0


def join():
    """Alice joins Bob and Carol; each of the three has two calls more afterwards."""
    begun = [len(p.state()) for p in phones]
    for callee, name in ((bob, 'bob'), (carol, 'carol')):
        alice.dial(name)
        check(f'Alice talks with {name}', rig.wait(lambda: is_up(alice, -1) and is_up(callee, -1), 5))
        time.sleep(2.5)
    alice.join()
    check('Alice is told that it went well', rig.wait(lambda: alice.state()[-2][2], 8))
    check('Carol took the call in the place of hers', rig.wait(lambda: is_over(alice, -1) and is_over(carol, -2), 3))
    alice.hang_up()
    check('Bob and Carol have a call left', rig.wait(
        lambda: is_up(bob, -1) and is_up(carol, -1) and is_over(bob, -2) and is_over(alice, -2), 3))
    time.sleep(3)
    bob.hang_up()
    rig.wait(lambda: is_over(carol, -1), 3)
    check('and no more than that', [len(p.state()) for p in phones] == [n + 2 for n in begun])
    check('before, Bob and Carol heard Alice, and Alice them', heard(bob, -2, 'alice') and heard(carol, -2, 'alice')
          and heard(alice, -2, 'bob') and heard(alice, -1, 'carol'))
    check('after, Bob heard Carol and Carol heard Bob', heard(bob, -1, 'carol') and heard(carol, -1, 'bob'))


with rig.Overlay(sys.argv[1], 16, PEERS) as overlay:
    phones = alice, bob, carol = [Phone(n, name) for n, name in PEERS.items()]
    try:
        check('three phones register', rig.wait(lambda: all(p.registered() for p in phones), 8))
        join()
        for n in (5, 7, 9, 14): overlay.kill(n)
        print('      four other peers are killed')
        join()
    except Exception as e:
        check(f'{type(e).__name__}: {e}', False)
    finally:
        for p in phones: p.process.kill(); p.process.join()
check.finish(overlay)
