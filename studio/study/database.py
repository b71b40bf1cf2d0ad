"""Opening ``study.db``: pragmas, schema version, migrations, transactions, and failures as sentences."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Engine, event, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, SQLModel, create_engine

from studio.study.contract import NotSaved
from studio.study.models import VIEWS_AND_TRIGGERS
from t4d.errors import InputError

SCHEMA_VERSION = 1
# What the database or the disk may raise; the last comes unwrapped while a connection is being opened.
_FAILURES = (DBAPIError, PoolTimeout, sqlite3.Error)
# MIGRATIONS[v] brings a database of schema version v to v + 1: SQL statements, run in one transaction after a backup.
MIGRATIONS: dict[int, tuple[str, ...]] = {}
BUSY_S = 10.0
_PRAGMAS = ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON")


class Database:
    """One SQLite file. Several processes may have it open; writes queue up for `BUSY_S` seconds.

    Args:
        path: the file; made with the current schema if missing.

    Raises:
        InputError: not a database, of a newer program, or it cannot be made or migrated.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)
        try:
            self._prepare()
        except (OSError, *_FAILURES) as error:
            self.close()
            raise InputError(
                f"{path} cannot be used as the study's database ({_reason(error)}); make it readable and writable, or "
                "put the newest copy from backups/ in its place."
            ) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session on one consistent state, for reading.

        Raises:
            InputError: the database cannot be read.
        """
        try:
            with Session(self._engine) as session:
                yield session
        except _FAILURES as error:
            raise NotSaved(f"The study's database could not be read ({_reason(error)}); try again soon.") from error

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that is committed, durably, when the block ends, and leaves no trace when it fails.

        Raises:
            NotSaved: disk full, read-only, or busy for `BUSY_S` seconds. Broken constraints pass through as they are:
                they are this program's mistakes, not the disk's.
        """
        try:
            with Session(self._engine.execution_options(write=True), expire_on_commit=False) as session:
                yield session
                session.commit()
        except _FAILURES as error:
            if isinstance(getattr(error, "orig", None), sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            raise NotSaved(
                f"Your answers could not be saved ({_reason(error)}); they stay on this page, so try again in a minute."
            ) from error

    def backup(self, target: Path) -> Path:
        """Copies the database while it is in use, as one consistent state, into a file that must not exist.

        Raises:
            NotSaved: the copy cannot be written; nothing is left of it.
        """
        part = target.with_suffix(".part")
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            part.touch(mode=0o600)
            with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(part)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE")
                if (found := copy.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                    raise sqlite3.DatabaseError(found)
            if target.exists():
                raise OSError(f"{target.name} exists")
            part.rename(target)
        except (OSError, sqlite3.Error) as error:
            part.unlink(missing_ok=True)
            raise NotSaved(
                f"The backup could not be written to {target} ({_reason(error)}); free some space and try again."
            ) from error
        return target

    def truncate_log(self) -> None:
        """Empties the write-ahead log, in which deleted rows live on; readers may delay that to the next call."""
        with self._engine.connect() as connection:
            connection.exec_driver_sql("ROLLBACK")  # a checkpoint cannot run inside a transaction
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Closes all connections; a later call opens new ones."""
        self._engine.dispose()

    def _prepare(self) -> None:
        if not self.path.exists():
            self.path.touch(mode=0o600)  # recruiting ids are in it; its log takes over the mode
        with self._engine.execution_options(write=True).begin() as connection:
            version = connection.execute(text("PRAGMA user_version")).scalar_one()
            empty = not connection.execute(text("SELECT count(*) FROM sqlite_master")).scalar_one()
            if version == 0 and empty:
                SQLModel.metadata.create_all(connection, tables=_tables())
                for statement in VIEWS_AND_TRIGGERS:
                    connection.execute(text(statement))
                connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))
                version = SCHEMA_VERSION
        if version > SCHEMA_VERSION or (version < SCHEMA_VERSION and version not in MIGRATIONS):
            raise InputError(
                f"{self.path} has schema version {version}, this program knows {SCHEMA_VERSION}; open it with the "
                "program that made it."
            )
        if version < SCHEMA_VERSION:
            stamp = time.strftime("%Y%m%d-%H%M%S")
            self.backup(self.path.parent / "backups" / f"before-version-{version + 1}-{stamp}.db")
            with self._engine.execution_options(write=True).begin() as connection:
                version = connection.execute(text("PRAGMA user_version")).scalar_one()  # another process may have
                for step in range(version, SCHEMA_VERSION):
                    for statement in MIGRATIONS[step]:
                        connection.execute(text(statement))
                connection.execute(text(f"PRAGMA user_version = {SCHEMA_VERSION}"))


def _tables() -> list:
    names = "meta participant code external page answer score journal event".split()
    return [SQLModel.metadata.tables[name] for name in names]


def _engine(path: Path) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": BUSY_S, "check_same_thread": False}, pool_size=16, max_overflow=32
    )

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would come too late: it ignores reads
        for pragma in (f"busy_timeout = {int(BUSY_S * 1000)}", *_PRAGMAS):
            connection.execute(f"PRAGMA {pragma}")
        if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            connection.execute("PRAGMA journal_mode = WAL")

    @event.listens_for(engine, "begin")
    def begin(connection) -> None:
        # A deferred transaction that turns into a writing one fails at once when another writer was faster.
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _reason(error: BaseException) -> str:
    """What SQLite said, without the statement and its parameters."""
    return " ".join(str(getattr(error, "orig", None) or error).split())[:200]
