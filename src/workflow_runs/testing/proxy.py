"""A network between a client and its PostgreSQL server that fails as it is told to.

Bytes are passed on as they come. Of the protocol it knows as much as it takes to see a commit go by: in which statement the
client asks for one (a simple query, or a prepared statement by its name), and the server's word that it is done.

    proxy.mode = Mode.REFUSE            from now on; connections that exist are cut
    proxy.cut()                         cut what is connected now
    proxy.arm(Cut.AFTER_COMMIT)         cut at the next commit, between the server's deed and its answer

What a black hole has swallowed is gone: healing brings no byte back, as after a failover behind a firewall that drops packets.
"""

from __future__ import annotations

import contextlib
import enum
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

_CHUNK: Final = 65536
_LOOK_S: Final = 0.05
_WISH_BYTES: Final = 8  # of a message that asks for encryption
_COMMIT: Final = re.compile(rb"\s*(COMMIT|END)\b", re.IGNORECASE)
_WRITES: Final = re.compile(rb"\b(INSERT|UPDATE|DELETE)\b", re.IGNORECASE)


class Mode(enum.Enum):
    """What the network does to every connection, for as long as it is set."""

    PASS = enum.auto()
    REFUSE = enum.auto()  # nobody listens; what is connected is cut
    BLACK_HOLE = enum.auto()  # connections are made, and bytes in both directions swallowed
    DELAY = enum.auto()  # every chunk in either direction comes ``delay_s`` late


class Cut(enum.Enum):
    """When the next connection is cut. Once: then all goes on as before."""

    BEFORE_COMMIT = enum.auto()  # a commit was sent and does not reach the server
    AFTER_COMMIT = enum.auto()  # it was done, and the answer does not reach the client
    IN_REPLY = enum.auto()  # in the midst of an answer of more than ``reply_bytes``
    AFTER_BYTES = enum.auto()  # when ``reply_bytes`` have come back on one connection


class PostgresProxy:
    """Listens on 127.0.0.1 and passes on to a server. ``running()`` serves it.

    Args:
        host: Of the server; an absolute path is the folder of its socket.
        port: Of the server, in the name of the socket too.
    """

    def __init__(self, host: str, port: int = 5432) -> None:
        self._upstream = (host, port)
        self.delay_s = 2.0
        self.reply_bytes = 64
        self.connections = 0  # that were accepted
        self.cuts = 0  # connections that were cut by ``arm``
        self._mode = Mode.PASS
        self._armed: Cut | None = None
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._listener: socket.socket | None = None
        self.is_closing = False
        self.port = 0

    @property
    def mode(self) -> Mode:
        """What the network does now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.REFUSE:
            self._stop_listening()
            self.cut()
        elif self._listener is None:
            self._listen()

    def arm(self, cut: Cut) -> None:
        """Cut one connection when that next happens."""
        self._armed = cut

    @property
    def is_armed(self) -> bool:
        """Whether what was armed has not happened yet."""
        return self._armed is not None

    def disarm(self) -> None:
        """Do not cut."""
        self._armed = None

    def cut(self) -> int:
        """Cut everything that is connected, and return how many connections that were."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()
        return len(links)

    @contextlib.contextmanager
    def running(self) -> Iterator[PostgresProxy]:
        """Serve until the end of the block."""
        self._listen()
        try:
            yield self
        finally:
            self.is_closing = True
            self._stop_listening()
            self.cut()

    # --- listening ----------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(128)
        self.port = listener.getsockname()[1]  # the same again after a refusal
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), name="proxy", daemon=True).start()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="proxy-link", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        link = _Link(self, client)
        with self._lock:
            self.connections += 1
            self._links.add(link)
        try:
            link.serve()
        finally:
            link.cut()
            with self._lock:
                self._links.discard(link)

    def connect(self) -> socket.socket:
        """Connect to the server."""
        host, port = self._upstream
        if not host.startswith("/"):
            return socket.create_connection((host, port), 10)
        upstream = socket.socket(socket.AF_UNIX)
        upstream.connect(f"{host}/.s.PGSQL.{port}")
        return upstream

    def take(self, *cuts: Cut) -> bool:
        """Return whether one of these was armed; it is not any more."""
        with self._lock:
            if self._armed not in cuts:
                return False
            self._armed = None
            self.cuts += 1
            return True


class _Link:
    """One connection through the proxy: two threads, one for each direction."""

    def __init__(self, proxy: PostgresProxy, client: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._asks = _Frames(is_client=True)
        self._tells = _Frames(is_client=False)
        self._prepared: dict[bytes, _Statement] = {}  # by name
        self._commit_asked = False  # and not answered yet
        self._in_transaction = False
        self._replied = 0

    def serve(self) -> None:
        """Pass on until one side ends."""
        while self._proxy.mode is Mode.BLACK_HOLE:
            if not self._swallow():
                return
        try:
            self._server = self._proxy.connect()
        except OSError:
            return
        backwards = threading.Thread(
            target=self._pump, args=(self._server, self._client, self._told), name="proxy-back", daemon=True
        )
        backwards.start()
        self._pump(self._client, self._server, self._asked)
        self.cut()
        backwards.join()

    def cut(self) -> None:
        """End both sides, with a reset as far as the system allows."""
        for side in (self._client, self._server):
            if side is not None:
                with contextlib.suppress(OSError):
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                with contextlib.suppress(OSError):
                    side.shutdown(socket.SHUT_RDWR)
                side.close()

    def _swallow(self) -> bool:
        """Lose what the client sends to a server it never reached. False: it has gone."""
        self._client.settimeout(_LOOK_S)
        try:
            return bool(self._client.recv(_CHUNK))
        except TimeoutError:
            return True
        except OSError:
            return False

    def _pump(self, source: socket.socket, target: socket.socket, look: Callable[[bytes], bool]) -> None:
        try:
            source.settimeout(None)
            while data := source.recv(_CHUNK):
                if self._proxy.mode is Mode.DELAY:
                    time.sleep(self._proxy.delay_s)
                if self._proxy.mode is Mode.BLACK_HOLE:
                    continue
                if not look(data):
                    break
                target.sendall(data)
        except OSError:
            pass
        while self._proxy.mode is Mode.BLACK_HOLE and not self._proxy.is_closing:
            time.sleep(_LOOK_S)  # the end of one side is swallowed too
        self.cut()

    # --- watching the protocol ----------------------------------------------------------------------------------------

    def _asked(self, data: bytes) -> bool:
        """Note what the client asks; False: it is to be cut here."""
        for kind, body in self._asks.feed(data):
            if kind == b"":
                self._tells.skip += 1  # the wish for encryption is answered by one byte
            elif kind == b"Q":
                self._note(_Statement.of(body))
            elif kind == b"P":
                name, _, rest = body.partition(b"\0")
                self._prepared[name] = _Statement.of(rest.partition(b"\0")[0])
            elif kind == b"B":
                self._note(self._prepared.get(body.split(b"\0", 2)[1], _Statement.OTHER))
        return not (self._commit_asked and self._proxy.take(Cut.BEFORE_COMMIT))

    def _note(self, statement: _Statement) -> None:
        commits = statement is _Statement.COMMIT or (statement is _Statement.WRITE and not self._in_transaction)
        self._commit_asked = self._commit_asked or commits

    def _told(self, data: bytes) -> bool:
        """Note what the server answers; False: it is to be cut here."""
        self._replied += len(data)
        for kind, body in self._tells.feed(data):
            if kind == b"E":
                self._commit_asked = False  # refused
            elif kind == b"Z":  # ready again: what was asked is done, and until the client reads this it cannot know
                was_asked, self._commit_asked = self._commit_asked, False
                self._in_transaction = body != b"I"
                if was_asked and self._proxy.take(Cut.AFTER_COMMIT):
                    return False
        if len(data) > self._proxy.reply_bytes and self._proxy.take(Cut.IN_REPLY):
            with contextlib.suppress(OSError):
                self._client.sendall(data[: self._proxy.reply_bytes])
            return False
        return not (self._replied >= self._proxy.reply_bytes and self._proxy.take(Cut.AFTER_BYTES))


class _Statement(enum.Enum):
    """What a statement means for the proxy."""

    COMMIT = enum.auto()
    WRITE = enum.auto()  # outside a transaction it is its own commit
    OTHER = enum.auto()

    @classmethod
    def of(cls, text: bytes) -> _Statement:
        """Read it off the text."""
        if _COMMIT.match(text):
            return cls.COMMIT
        return cls.WRITE if _WRITES.search(text) else cls.OTHER


class _Frames:
    """Cuts a direction of the protocol into messages.

    The first messages of a client have no kind: the start-up, and before it perhaps wishes for encryption, told by the kind ``b""``.
    """

    def __init__(self, *, is_client: bool) -> None:
        self.skip = 0  # bytes that come before the next message
        self._data = b""
        self._begun = not is_client

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the messages (kind, body) that are complete by now."""
        self._data += data
        while True:
            skipped = min(self.skip, len(self._data))
            self.skip -= skipped
            self._data = self._data[skipped:]
            head = 5 if self._begun else 4
            if len(self._data) < head:
                return
            length = int.from_bytes(self._data[head - 4 : head])
            end = head - 4 + length
            if len(self._data) < end:
                return
            kind, body = self._data[: head - 4], self._data[head:end]
            self._data = self._data[end:]
            if self._begun:
                yield kind, body
            elif length == _WISH_BYTES:
                yield b"", body
            else:
                self._begun = True
