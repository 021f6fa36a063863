"""Sends what no peer of Binome would send.

    garbage.py tcp HOST PORT      random bytes, an endless header, 4 MB of them, half a TLS handshake, silence, over and over
    garbage.py udp HOST PORT      random datagrams of every size, the largest too
    garbage.py unix PATH          lines that are no request, a request that does not exist, a line that never ends

Ends with `sent N`. A connection that is refused or closed by the other side is what should happen.
"""
import json, os, random, socket, struct, sys

random.seed(1)
kind, *where = sys.argv[1:]
sent = 0


def connect():
    if kind == "unix":
        s = socket.socket(socket.AF_UNIX)
        address = where[0]
    else:
        s = socket.socket()
        address = (where[0], int(where[1]))
    s.settimeout(2)
    s.connect(address)
    return s


def throw(data):
    """Answers what came back, "" when the connection was closed."""
    global sent
    s = connect()
    sent += 1
    try:
        for at in range(0, len(data), 65536):
            s.sendall(data[at:at + 65536])
        if kind == "unix":
            return s.recv(65536).decode(errors="replace")
        s.shutdown(socket.SHUT_WR)
        s.recv(65536)
    except OSError:
        pass
    finally:
        s.close()
    return ""


if kind == "tcp":
    for size in (1, 16, 100, 4096, 1 << 16, 1 << 22):
        throw(random.randbytes(size))
        throw(b"\xff" * size)
        throw(b"\0" * size)
    # A length field that promises 4 GiB, in both byte orders; a TLS record that is larger than any.
    for head in (b"\xff\xff\xff\xff", b"BNM1\xff\xff\xff\x7f", b"\x16\x03\x01\xff\xff" + b"\1" * 70000):
        throw(head + random.randbytes(1000))
    throw(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))
    idle = [connect() for _ in range(20)]
    sent += len(idle)
    for s in idle:
        s.close()
elif kind == "udp":
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for size in [*range(0, 1400, 7), 9000, 65507]:
        for data in (random.randbytes(size), b"BHB1" + random.randbytes(max(size - 4, 0))):
            s.sendto(data[:65507], (where[0], int(where[1])))
            sent += 1
else:
    for data in (b"\n", b"hello\n", random.randbytes(1000) + b"\n", b'{"id":1}\n', b'[]\n', b'{"id":-1,"method":7}\n'):
        throw(data)
    answer = throw(b'{"id":1,"method":"explode","params":{}}\n')
    assert "error" in json.loads(answer), answer
    throw(b"x" * (3 << 20))
    print("answer", answer.strip())
print("sent", sent)
