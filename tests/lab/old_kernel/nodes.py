# Two replicated nodes without agents: keepers and replicators driven by their sockets. drive.py BINARY WRITER KILLS SECONDS
import json, os, re, signal, socket, struct, subprocess, sys, threading, time
binary, writer, kills, work = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
PATH = '/srv/data'
CLUSTER = '''cluster: lab
nodes:
  - name: node1
    addresses: { lan: 127.0.0.1 }
  - name: node2
    addresses: { lan: 127.0.0.2 }
networks: [lan]
arbiter: { kind: none }
'''
MODULE = f'''module: files
kind: directory
replicate:
  - path: {PATH}
    durability: each-write
encryption: off
peer_timeout: 60s
'''
def say(*words): print(f'{time.monotonic() - began:8.2f}', *words, flush=True)
began = time.monotonic()
key = os.urandom(32)
def state(node): return f'{work}/{node}/state'
def run(node): return f'{work}/{node}/run'
class Line:
    def __init__(self, path, patience=600):
        end = time.monotonic() + patience
        while True:
            self.s = socket.socket(socket.AF_UNIX)
            try: self.s.connect(path); break
            except OSError:
                self.s.close()
                if time.monotonic() > end: raise
                time.sleep(0.2)
        self.f = self.s.makefile('rb'); self.id = 0
    def call(self, method, **params):
        self.id += 1
        self.s.sendall((json.dumps({'id': self.id, 'method': method, 'params': params}) + '\n').encode())
        for line in self.f:
            answer = json.loads(line)
            if answer.get('id') == self.id:
                if 'error' in answer: raise RuntimeError(f"{method}: {answer['error']}")
                return answer['result']
        raise ConnectionError(method)
    def close(self): self.s.close()
def ask(node, method, what='files', **params):
    end = time.monotonic() + 900
    while True:
        line = None
        try:
            line = Line(f'{run(node)}/{what}.sock')
            return line.call(method, **params)
        except (OSError, ConnectionError):
            if time.monotonic() > end: raise
            time.sleep(0.3)
        finally:
            if line: line.close()
keepers = []
def keeper(node):
    env = dict(os.environ, BINOME_STATE=state(node), BINOME_RUN=run(node))
    # node2 sees its own directory under the same path.
    inside = [] if node == 'node1' else ['unshare', '-m', '-p', '--fork', '--kill-child', '--mount-proc', '--propagation', 'private', 'sh', '-c', f'mount --bind {work}/node2/data {PATH} && exec "$@"', 'sh']
    log = open(f'{work}/{node}/keeper.log', 'ab')
    p = subprocess.Popen([*inside, binary, 'keeper'], env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    keepers.append(p); return p
os.makedirs(PATH, exist_ok=True)
for node in ('node1', 'node2'):
    for d in (f'{state(node)}/modules', run(node), f'{work}/{node}/data'): os.makedirs(d, exist_ok=True)
    image = f'{work}/{node}.img'
    subprocess.run(['sh', '-euc', f'truncate -s 300M {image}; mkfs.ext4 -q -F {image}; mount -o loop {image} {work}/{node}/data; mkdir {work}/{node}/data/d'], check=True)
    for name, text in (('cluster.yaml', CLUSTER), ('modules/files.yaml', MODULE), ('node', node + '\n')): open(f'{state(node)}/{name}', 'w').write(text)
    open(f'{state(node)}/cluster.key', 'wb').write(key)
    open(f'{run(node)}/files.authority', 'wb').write(struct.pack('<QQ', (1 << 50), 1))
subprocess.run(['mount', '--bind', f'{work}/node1/data', PATH], check=True)
one = keeper('node1'); keeper('node2')
status = 1
try:
    ask('node1', 'mount', 'keeper', module='files', path=PATH); say('mounted')
    ask('node1', 'replicator.start', 'keeper', module='files')
    ask('node2', 'cover', 'keeper', module='files', path=PATH)
    ask('node2', 'replicator.start', 'keeper', module='files')
    ask('node1', 'serve', epoch=1, members=1, peer={'name': 'node2', 'addresses': ['127.0.0.1']}, port=7788); say('serves')
    ask('node2', 'follow', epoch=1, primary={'name': 'node1', 'addresses': ['127.0.0.1']}, port=7788, overwrite=False); say('follows')
    def until(what, test, seconds=900):
        end = time.monotonic() + seconds
        while not test():
            if time.monotonic() > end: raise TimeoutError(what)
            time.sleep(0.1)
    until('the secondary to catch up', lambda: ask('node1', 'status')['caughtUp'])
    ask('node1', 'pair', epoch=2)
    s = ask('node1', 'status'); say('paired: members', s['members'], 'resend', s['resend'], 'inFlight', s['inFlight'])
    os.mkdir(f'{PATH}/w')
    p = subprocess.Popen([writer, f'{PATH}/w', '4'], stdout=subprocess.PIPE, text=True, stderr=subprocess.STDOUT)
    lines = []
    threading.Thread(target=lambda: [lines.append(l.strip()) for l in p.stdout], daemon=True).start()
    def count():
        found = [l for l in lines if l.startswith('writes')]
        return int(found[-1].split()[1]) if found else 0
    def goes_on():
        for _ in range(3):
            before = count(); until('the writer to go on', lambda: count() > before)
    goes_on(); say('writes', lines[-1])
    for kill in range(kills):
        pid = ask('node1', 'status')['pid']
        busy = ask('node1', 'status')['waiting']
        os.kill(pid, signal.SIGKILL)
        until('another replicator', lambda: ask('node1', 'status')['pid'] != pid)
        goes_on(); until('the channel', lambda: ask('node1', 'status')['caughtUp'])
        say('killed', kill + 1, 'waiting then', busy, lines[-1])
    one.kill(); one.wait(); keeper('node1')
    until('the next keeper', lambda: 'took over from' in open(f'{work}/node1/keeper.log').read())
    goes_on(); say('keeper killed', lines[-1])
    pid = ask('node1', 'status')['pid']; os.kill(pid, signal.SIGKILL)
    until('another replicator', lambda: ask('node1', 'status')['pid'] != pid); goes_on(); say('replicator killed under the next keeper', lines[-1])
    p.send_signal(signal.SIGTERM); p.wait(600); time.sleep(0.5)
    say(lines[-1]); errors = [l for l in lines if l.startswith('error')]; say('errors:', errors)
    until('equal sequences', lambda: ask('node1', 'status')['sequence'] == ask('node2', 'status')['sequence'])
    status = 0 if not errors and ' errors 0 ' in lines[-1] else 1
    diff = subprocess.run(['diff', '-r', f'{work}/node1/data/w', f'{work}/node2/data/w'], capture_output=True, text=True)
    say('difference of the two copies:', repr(diff.stdout[:300])); status |= diff.returncode
except Exception as error:
    say('FAILED', repr(error))
    for node in ('node1', 'node2'):
        for f in (f'{work}/{node}/keeper.log', f'{state(node)}/log/replicator-files.log'):
            try: print('==', f); print(''.join(open(f).readlines()[-30:]))
            except OSError as e: print(e)
finally:
    # Mounts first, lazily: nobody may wait for them.
    subprocess.run(f'umount -l {PATH}; umount -l {PATH}; umount -l {PATH}', shell=True, stderr=subprocess.DEVNULL)
    for k in keepers: k.kill()
    for node in ('node1', 'node2'):
        for name in os.listdir(run(node)):
            if name == 'files.turn' and node == 'node1':
                os.kill(int(open(f'{run(node)}/files.turn').read().split()[0]), signal.SIGKILL)
say('PASSED' if status == 0 else 'NOT PASSED'); sys.exit(status)
