# Mounts a directory over itself so that its owners are shown as other numbers: idmap.py DIRECTORY FIRST
# (mount_setattr(2), MOUNT_ATTR_IDMAP; the mount command of Debian 12 cannot do it yet).
import ctypes, os, signal, struct, sys
path, first = sys.argv[1].encode(), int(sys.argv[2])
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH, OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH, MOUNT_ATTR_IDMAP, CLONE_NEWUSER = -100, 0x1000, 1, 4, 0x100000, 0x10000000
OPEN_TREE, MOVE_MOUNT, MOUNT_SETATTR = 428, 429, 442
def call(*args):
    result = libc.syscall(*[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
ready, go = os.pipe()
child = os.fork()
if child == 0:
    if libc.unshare(CLONE_NEWUSER) != 0: os._exit(1)
    os.write(go, b'x')
    signal.pause()
try:
    if os.read(ready, 1) != b'x': sys.exit('no user namespace')
    for kind in ('uid', 'gid'):
        with open(f'/proc/{child}/{kind}_map', 'w') as f: f.write(f'0 {first} 65536')
    space = os.open(f'/proc/{child}/ns/user', os.O_RDONLY)
    tree = call(OPEN_TREE, AT_FDCWD, ctypes.c_char_p(path), OPEN_TREE_CLONE)
    attributes = ctypes.create_string_buffer(struct.pack('<QQQQ', MOUNT_ATTR_IDMAP, 0, 0, space), 32)
    call(MOUNT_SETATTR, tree, ctypes.c_char_p(b''), AT_EMPTY_PATH, attributes, 32)
    call(MOVE_MOUNT, tree, ctypes.c_char_p(b''), AT_FDCWD, ctypes.c_char_p(path), MOVE_MOUNT_F_EMPTY_PATH)
finally:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
