"""A client of the database: inserts numbered rows and prints what the database acknowledged, one line a row.

    rows.py HOST [--first N] [--sessions 4] [--pause-ms 5]      until SIGTERM, then `end`
    rows.py HOST --list                                         every number found, one a line

    ack N MS      COMMIT was answered; MS is the time since 1970 in milliseconds
    lost N MS     sent, but the connection ended before the answer: may be there or not
    up MS         a session is connected again;  down MS WHY   it is not any more

Each session inserts a row, waits for the answer, goes on with the next number. It gives an answer up after a second, and
tries to connect again every 100 ms, 200 ms each: what it measures is the cluster, not its own patience.
Speaks to libpq, which the package postgresql-client brings: no Python package is needed.
"""

import argparse
import ctypes
import ctypes.util
import itertools
import os
import select
import signal
import sys
import threading
import time

ANSWER_S = 1.0
CONNECT_S = 0.2
RETRY_S = 0.1
COMMAND_OK, TUPLES_OK = 1, 2
CONNECTION_BAD = 1
POLLING_FAILED, POLLING_READING, POLLING_OK = 0, 1, 3

pq = ctypes.CDLL(ctypes.util.find_library("pq") or "libpq.so.5")
for name, result, arguments in (
    ("PQconnectStart", ctypes.c_void_p, (ctypes.c_char_p,)),
    ("PQconnectPoll", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQstatus", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQsocket", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQerrorMessage", ctypes.c_char_p, (ctypes.c_void_p,)),
    ("PQsendQuery", ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
    ("PQconsumeInput", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQisBusy", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQgetResult", ctypes.c_void_p, (ctypes.c_void_p,)),
    ("PQresultStatus", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQntuples", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQgetvalue", ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)),
    ("PQclear", None, (ctypes.c_void_p,)),
    ("PQfinish", None, (ctypes.c_void_p,)),
):
    function = getattr(pq, name)
    function.restype, function.argtypes = result, arguments

# What a server says that loses its disk ("terminating connection because of crash of another server process") is no line of ours.
Notice = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)
ignore_notice = Notice(lambda _, text: None)
pq.PQsetNoticeProcessor.restype = ctypes.c_void_p
pq.PQsetNoticeProcessor.argtypes = (ctypes.c_void_p, Notice, ctypes.c_void_p)


class Lost(Exception):
    """The connection is gone, or does not answer in time."""


def milliseconds():
    return round(time.time() * 1000)


def wait(fd, events, until):
    poll = select.poll()
    poll.register(fd, events)
    if not poll.poll(max(0, until - time.monotonic()) * 1000):
        raise Lost("no answer in time")


class Session:
    """One connection. libpq's own limits are whole seconds: the waiting is done here."""

    def __init__(self, host):
        until = time.monotonic() + CONNECT_S
        words = "host=%s port=5432 user=postgres dbname=postgres sslmode=disable gssencmode=disable" % host
        self.connection = pq.PQconnectStart(words.encode())
        pq.PQsetNoticeProcessor(self.connection, ignore_notice, None)
        try:
            self._connect(until)
        except Lost:
            self.close()
            raise

    def _connect(self, until):
        if pq.PQstatus(self.connection) == CONNECTION_BAD:
            raise Lost(self.error())
        step = select.POLLOUT
        while True:
            wait(pq.PQsocket(self.connection), step, until)
            state = pq.PQconnectPoll(self.connection)
            if state == POLLING_OK:
                return
            if state == POLLING_FAILED:
                raise Lost(self.error())
            step = select.POLLIN if state == POLLING_READING else select.POLLOUT

    def error(self):
        return " ".join(pq.PQerrorMessage(self.connection).decode(errors="replace").split())

    def query(self, text, limit=ANSWER_S):
        """The first column of what the statement answers."""
        if not pq.PQsendQuery(self.connection, text.encode()):
            raise Lost(self.error())
        until = time.monotonic() + limit
        rows, failed = [], None
        while True:
            while pq.PQisBusy(self.connection):
                wait(pq.PQsocket(self.connection), select.POLLIN, until)
                if not pq.PQconsumeInput(self.connection):
                    raise Lost(self.error())
            result = pq.PQgetResult(self.connection)
            if not result:
                break
            if pq.PQresultStatus(result) not in (COMMAND_OK, TUPLES_OK):
                failed = self.error()
            rows += [pq.PQgetvalue(result, row, 0).decode() for row in range(pq.PQntuples(result))]
            pq.PQclear(result)
        if failed:
            raise Lost(failed)
        return rows

    def close(self):
        pq.PQfinish(self.connection)
        self.connection = None


def say(*words):
    # One system call a line: a power cut of this host, too, leaves whole lines.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def work(host, numbers, pause, stop):
    session, told = None, False
    while not stop.is_set():
        if session is None:
            try:
                session = Session(host)
                told = False
                say("up", milliseconds())
            except Lost as why:
                if not told:
                    say("down", milliseconds(), why)
                told = True
                stop.wait(RETRY_S)
                continue
        number = next(numbers)
        try:
            # An explicit check value: a row that is there must be the row that was sent.
            session.query("INSERT INTO ledger (n, mark) VALUES (%d, md5('%d'))" % (number, number))
            say("ack", number, milliseconds())
        except Lost as why:
            say("lost", number, milliseconds())
            say("down", milliseconds(), why)
            told = True
            session.close()
            session = None
        stop.wait(pause)
    if session is not None:
        session.close()


def listing(host):
    """Each number that is found; a row whose mark is wrong, or found twice, is told apart."""
    until = time.monotonic() + 30
    while True:
        try:
            session = Session(host)
            rows = session.query("SELECT n || CASE WHEN mark = md5(n::text) THEN '' ELSE ' damaged' END FROM ledger", 30)
            return print("\n".join(rows))
        except Lost as why:
            if time.monotonic() > until:
                sys.exit("Cannot list the rows: %s" % why)
            time.sleep(RETRY_S)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("host")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--pause-ms", type=float, default=5)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        return listing(options.host)
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    numbers = itertools.count(options.first)
    threads = [
        threading.Thread(target=work, args=(options.host, numbers, options.pause_ms / 1000, stop))
        for _ in range(options.sessions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        # A bounded wait in a loop: a signal is only seen between system calls.
        while thread.is_alive():
            thread.join(0.2)
    say("end")


if __name__ == "__main__":
    main()
