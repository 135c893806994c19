#!/usr/bin/env python3
"""Headless baresip under script control. No sound card: source = WAV tone (aufile),
sink = aubridge (nobody reads it), received audio = what module sndfile dumps (dump-*-dec.wav).
Control = ctrl_tcp (netstring-framed JSON). Works with Debian's baresip 1.0.0."""
import os, ctypes, json, socket, subprocess, time, threading, glob, queue
CFG = """poll_method epoll
sip_listen {ip}:{port}
{cert}
call_local_timeout 120
call_max_calls {maxcalls}
audio_path /usr/share/baresip
audio_player aubridge,sink_{name}
audio_source {source}
audio_alert aubridge,alert_{name}
ausrc_srate {srate}
auplay_srate {srate}
ausrc_channels {chan}
auplay_channels {chan}
audio_buffer 20-160
net_interface {iface}
rtp_tos 184
rtp_ports {rtp0}-{rtp1}
rtcp_mux no
jitter_buffer_delay 5-10
rtp_stats yes
rtp_timeout 20
module_path /usr/lib/baresip/modules
{mods}
module_tmp uuid.so
module_tmp account.so
module_app contact.so
module_app ctrl_tcp.so
module_app menu.so
{appmods}
ctrl_tcp_listen {ip}:{ctrl}
cons_listen {ip}:{cons}
snd_path {dir}
ringback_disabled yes
menu_bell no
statmode_default off
"""
_libc = ctypes.CDLL('libc.so.6', use_errno=True)
def connect_in(ns, addr):   # a TCP connection made inside network namespace ns (the socket stays there)
    if not ns: return socket.create_connection(addr, timeout=1)
    here = os.open('/proc/self/ns/net', os.O_RDONLY); there = os.open(f'/var/run/netns/{ns}', os.O_RDONLY)
    try:
        assert _libc.setns(there, 0x40000000) == 0
        try: return socket.create_connection(addr, timeout=1)
        finally: _libc.setns(here, 0x40000000)
    finally: os.close(here); os.close(there)
def run(cmd, **k): return subprocess.run(cmd, shell=True, check=True, **k)
class Baresip:
    def __init__(s, name, ip, account, tone_hz=440, rate=8000, chan=1, port=5060, ctrl=4444, rtp=(10000,10200),
                 codecs=('g711.so',), mods=(), appmods=(), contacts=(), base=os.environ.get('RIG_WORK', '/tmp/openvoip-rig'),
                 record=True, secs=60, source=None, maxcalls=10, verbose=False, extra='', iface=None, ns=None):
        s.ns = ns
        s.name, s.ip, s.ctrl = name, ip, ctrl
        s.dir = f'{base}/{name}'; run(f'rm -rf {s.dir}; mkdir -p {s.dir}')
        if source is None:
            wav = f'{s.dir}/tone.wav'
            run(f'sox -n -r {rate} -c {chan} -b 16 {wav} synth {secs} sine {tone_hz} vol 0.4')
            source = f'aufile,{wav}'
        ml = ['cons.so'] + list(codecs) + ['aufile.so', 'aubridge.so'] + (['sndfile.so'] if record else []) + list(mods)
        open(f'{s.dir}/config','w').write(CFG.format(ip=ip, port=port, name=name, source=source, srate=rate, chan=chan,
            rtp0=rtp[0], rtp1=rtp[1], ctrl=ctrl, cons=ctrl+1000, dir=s.dir, maxcalls=maxcalls, cert=extra, iface=iface or ip,
            mods='\n'.join('module '+m for m in ml), appmods='\n'.join('module_app '+m for m in appmods)))
        open(f'{s.dir}/accounts','w').write(account + '\n')
        open(f'{s.dir}/contacts','w').write('\n'.join(contacts) + '\n')
        s.events, s.resp, s.log = queue.Queue(), queue.Queue(), []
        s.verbose = verbose
    def start(s, timeout=5):
        s.out = open(f'{s.dir}/log','wb')
        s.p = subprocess.Popen((['ip','netns','exec',s.ns] if s.ns else [])+['timeout','--signal=KILL','300','baresip','-f',s.dir]+(['-v','-s'] if s.verbose else []),
                               stdin=subprocess.PIPE, stdout=s.out, stderr=subprocess.STDOUT, start_new_session=True)
        t = time.time()
        while True:
            try: s.sock = connect_in(s.ns, (s.ip, s.ctrl)); break
            except OSError:
                if time.time()-t > timeout or s.p.poll() is not None: raise RuntimeError(f'{s.name} did not start: see {s.dir}/log')
                time.sleep(.05)
        # module cons (TCP) is the only headless place where a received MESSAGE's text is shown
        s.texts = ''; s.csock = connect_in(s.ns, (s.ip, s.ctrl+1000)); s.csock.settimeout(None)
        s.csock.sendall(b'\n'); threading.Thread(target=s._cons, daemon=True).start()
        s.sock.settimeout(None); threading.Thread(target=s._reader, daemon=True).start(); return s
    def pid(s):   # the baresip under timeout(1)
        return int(open(f'/proc/{s.p.pid}/task/{s.p.pid}/children').read().split()[0])
    def cpu(s):
        f = open(f'/proc/{s.pid()}/stat').read().rsplit(') ',1)[1].split(); return (int(f[11])+int(f[12]))/os.sysconf('SC_CLK_TCK')
    def _reader(s):
        buf = b''
        while True:
            try: d = s.sock.recv(65536)
            except OSError: return
            if not d: return
            buf += d
            while b':' in buf:
                n = int(buf[:buf.index(b':')]); h = buf.index(b':')+1
                if len(buf) < h+n+1: break
                m = json.loads(buf[h:h+n], strict=False); buf = buf[h+n+1:]; s.log.append((time.time(), m))
                (s.events if m.get('event') else s.resp).put(m)
    def _cons(s):
        while True:
            try: d = s.csock.recv(65536)
            except OSError: return
            if not d: return
            s.texts += d.decode(errors='replace')
    def cmd(s, command, params='', wait=3):
        m = json.dumps(dict(command=command, params=params, token='t')).encode()
        while not s.resp.empty(): s.resp.get()
        s.sock.sendall(b'%d:%s,' % (len(m), m))
        try: return s.resp.get(timeout=wait)
        except queue.Empty: return None
    def wait(s, *types, timeout=8):   # returns the event, or raises
        end = time.time()+timeout
        while True:
            try: e = s.events.get(timeout=max(0.01, end-time.time()))
            except queue.Empty: raise TimeoutError(f'{s.name}: none of {types} within {timeout}s; log {s.dir}/log')
            if e['type'] in types: return e
    def registered(s, timeout=6):   # polls: the event may have fired before ctrl_tcp was connected
        end = time.time()+timeout
        while time.time() < end:
            d = (s.cmd('reginfo') or {}).get('data','')
            if 'OK' in d: return True
            if 'ERR' in d and time.time() > end-timeout+2: return False
            time.sleep(.1)
        return False
    def dumps(s, which='dec'): return sorted(glob.glob(f'{s.dir}/dump-*-{which}.wav'))
    def stop(s):
        if not hasattr(s, 'p'): return
        try: s.cmd('quit', wait=1)
        except Exception: pass
        try: s.p.wait(3)
        except Exception:
            try: os.kill(s.pid(), 9)
            except Exception: pass
            s.p.kill(); s.p.wait()
        s.out.close()
