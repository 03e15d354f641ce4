"""Real database servers for the tests: Debian's PostgreSQL and MariaDB, each in a temporary folder of its own.

They listen on a free port of loopback, and end with the test process however that ends.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PASSWORD = "c4n4ry-Pa55"
"""Of every account. No error may ever show it."""


@dataclass(frozen=True)
class Server:
    """A running database server with two accounts: ``admin`` may do anything, ``shop`` owns the database ``shop``.

    Attributes:
        kind: ``postgresql`` or ``mysql``.
        port: on 127.0.0.1.
        folder: where it keeps its files.
    """

    kind: str
    port: int
    folder: Path

    def dsn(self, user: str = "shop", password: str = PASSWORD, database: str = "shop") -> str:
        return f"{self.kind}://{user}:{password}@127.0.0.1:{self.port}/{database}"

    def connect(self, user: str = "admin") -> Any:
        """A connection of the driver, in which every statement stands for itself."""
        if self.kind == "postgresql":
            import psycopg

            return psycopg.connect(
                host="127.0.0.1", port=self.port, user=user, password=PASSWORD, dbname="shop", autocommit=True
            )
        import pymysql

        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password=PASSWORD,
            database="shop",
            autocommit=True,
            charset="utf8mb4",
        )

    def run(self, *statements: str, user: str = "shop") -> list[tuple[Any, ...]]:
        """Execute them one after the other; the rows of the last."""
        connection = self.connect(user)
        try:
            cursor = connection.cursor()
            for statement in statements:
                cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []
        finally:
            connection.close()


def missing(kind: str) -> str | None:
    """Why the server cannot be started on this machine, or None."""
    programs = {
        "postgresql": (("postgres", _postgres("postgres")), ("initdb", _postgres("initdb"))),
        "mysql": (("mariadbd", _mariadb("mariadbd")), ("mariadb-install-db", _mariadb("mariadb-install-db"))),
    }
    absent = [name for name, path in programs[kind] if path is None]
    absent += [] if shutil.which("openssl") else ["openssl"]
    package = {"postgresql": "postgresql", "mysql": "mariadb-server"}[kind]
    return f"{', '.join(absent)} not found: install {package}" if absent else None


@contextmanager
def postgresql() -> Iterator[Server]:
    """A PostgreSQL cluster, made and started; stopped and removed at the end."""
    user = _user("postgres")
    with _folder(user) as folder:
        secret = folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # the folder above it lets nobody else in
        data = folder / "data"
        make = "-U", "admin", f"--pwfile={secret}", "--auth=scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync"
        _once(user, _postgres("initdb"), "-D", data, *make)
        _certificate(user, folder)
        port = _free_port()
        settings: dict[str, object] = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": folder / "server.crt",
            "ssl_key_file": folder / "server.key",
            "fsync": "off",
            "shared_buffers": "32MB",
            "max_parallel_workers_per_gather": 0,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = _postgres("postgres"), "-D", data, *options
        with _running(user, command, "ready to accept connections", stop=signal.SIGINT):
            server = Server("postgresql", port, folder)
            _create(port)
            yield server


@contextmanager
def mariadb() -> Iterator[Server]:
    """A MariaDB server over new tables, started; stopped and removed at the end."""
    user = _user("mysql")
    with _folder(user) as folder:
        data = folder / "data"
        quick = "--skip-test-db", "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M"
        _once(user, _mariadb("mariadb-install-db"), "--no-defaults", f"--datadir={data}", *quick)
        start = folder / "start.sql"
        start.write_text(
            "CREATE DATABASE shop CHARACTER SET utf8mb4;\n"
            f"CREATE USER admin@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO admin@'%';\n"
            f"CREATE USER shop@'%' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON shop.* TO shop@'%';\n"
        )
        start.chmod(0o644)
        _certificate(user, folder)
        port = _free_port()
        command = [
            _mariadb("mariadbd"),
            "--no-defaults",
            f"--datadir={data}",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--socket={folder / 'socket'}",
            f"--pid-file={folder / 'pid'}",
            f"--init-file={start}",
            f"--secure-file-priv={data}",
            f"--ssl-cert={folder / 'server.crt'}",
            f"--ssl-key={folder / 'server.key'}",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=0",
            "--local-infile=1",
        ]
        with _running(user, command, "ready for connections", stop=signal.SIGTERM):
            yield Server("mysql", port, folder)


def _create(port: int) -> None:
    import psycopg

    where = {"host": "127.0.0.1", "port": port, "user": "admin", "password": PASSWORD, "dbname": "postgres"}
    with psycopg.connect(**where, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE shop LOGIN PASSWORD '{PASSWORD}'")
        connection.execute("CREATE DATABASE shop OWNER shop")


def _postgres(program: str) -> Path | None:
    """Debian keeps each version's programs in a folder that is not on the PATH."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: path.parts[-3])
    found = shutil.which(program)
    return versions[-1] if versions else Path(found) if found else None


def _mariadb(program: str) -> Path | None:
    found = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin")
    return Path(found) if found else None


def _user(name: str) -> pwd.struct_passwd | None:
    """Whom the server runs as; None for oneself. PostgreSQL refuses to run as root."""
    return pwd.getpwnam(name) if os.geteuid() == 0 else None


def _as_user(user: pwd.struct_passwd | None) -> list[str]:
    """What starts a command line: the user's rights, and an end when this process ends."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return []
    rights = [] if user is None else [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    return [setpriv, *rights, "--pdeathsig=INT"]


def _certificate(user: pwd.struct_passwd | None, folder: Path) -> None:
    """What a server needs to encrypt its connections."""
    make = "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"
    where = "-keyout", folder / "server.key", "-out", folder / "server.crt"
    _once(user, shutil.which("openssl"), *make, *where)
    (folder / "server.key").chmod(0o600)


def _once(user: pwd.struct_passwd | None, *command: object) -> None:
    done = subprocess.run(
        [*_as_user(user), *map(str, command)], cwd="/", capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def _folder(user: pwd.struct_passwd | None) -> Iterator[Path]:
    """A short path, for sockets, that the user owns; pytest's own folders let nobody else in."""
    folder = Path(tempfile.mkdtemp(prefix="recserver-db-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(
    user: pwd.struct_passwd | None, command: Sequence[object], ready: str, stop: signal.Signals
) -> Iterator[None]:
    """Start a server, wait until it says that it is ready, and stop it at the end."""
    process = subprocess.Popen(
        [*_as_user(user), *map(str, command)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    said: deque[str] = deque(maxlen=50)
    heard = threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:  # for as long as it runs: a full pipe would stop it
                said.append(line)
                if ready in line:
                    heard.set()
        heard.set()

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        assert heard.wait(60), "".join(said)
        assert process.poll() is None, "".join(said)
        yield
    finally:
        process.send_signal(stop)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        listener.join()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
