"""Where answers live when the machine's own disk does not last, as on a Hugging Face Space.

The database stays on the local disk: SQLite's log does not work on mounted buckets. What lasts is the mirror, which is
written before every acknowledgement: directly on the persistent storage (``/data`` of a Space, or ``$T4D_STUDY_DATA``),
or pushed every minute to a private dataset (``$T4D_STUDY_DATASET``, with ``$HF_TOKEN``) through
``huggingface_hub.CommitScheduler``. At start a missing database is rebuilt from it. With the dataset alone, a Space
that is lost between two pushes loses what was answered since the last one; with ``/data`` nothing.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio.study.folder import read_study
from studio.study.service import StudyService
from t4d.errors import InputError

_LOG = logging.getLogger(__name__)
EVERY_MIN = 1.0
_PATTERN = "answers*.jsonl"


@contextmanager
def kept_service(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[StudyService]:
    """A study's service whose answers outlive the machine where the environment says how.

    Args:
        folder: the prepared study.
        environment: ``SPACE_ID``, ``T4D_STUDY_DATA``, ``T4D_STUDY_DATASET``, ``HF_TOKEN``; the process's where not
            given. Without the first three this is `StudyService`.

    Raises:
        InputError: the storage cannot be used, the dataset is public, or as `StudyService`.
    """
    env = os.environ if environment is None else environment
    dataset, mirror = env.get("T4D_STUDY_DATASET", ""), kept_mirror(folder, env)
    if mirror is None:
        if env.get("SPACE_ID"):
            _LOG.warning("This Space has neither /data nor T4D_STUDY_DATASET: its answers go when it restarts")
        service = StudyService(folder)
        try:
            yield service
        finally:
            service.close()
        return
    home = mirror.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{home} cannot be made ({error.strerror}); give another folder as T4D_STUDY_DATA.") from error
    pusher = _Pusher(dataset, home, home.name, env.get("HF_TOKEN")) if dataset else None
    if pusher is not None:
        pusher.check()
        if not mirror.is_file():
            pusher.fetch(mirror)
    service = StudyService(folder, mirror)
    try:
        if pusher is not None:
            pusher.start()
        yield service
    finally:
        service.close()
        if pusher is not None:
            pusher.stop()


def kept_mirror(folder: Path, environment: Mapping[str, str]) -> Path | None:
    """Where the study's mirror lies so that it lasts; None where the environment names no such place.

    Args:
        folder: the prepared study.
        environment: as of `kept_service`.
    """
    storage = storage_folder(environment)
    if storage is None and not environment.get("T4D_STUDY_DATASET"):
        return None
    name = f"{folder.resolve().name}-{read_study(folder / 'study.yaml').design_digest()[:12]}"
    return (storage or folder.resolve() / "kept") / name / "answers.jsonl"


def storage_folder(environment: Mapping[str, str]) -> Path | None:
    """The folder that lasts: ``$T4D_STUDY_DATA``, else on a Space a writable ``/data``; None without either."""
    given = environment.get("T4D_STUDY_DATA")
    if given:
        return Path(given)
    data = Path("/data")
    return data / "studies" if environment.get("SPACE_ID") and os.access(data, os.W_OK) else None


class _Pusher:
    """Pushes a folder's mirror to a private dataset, in the background."""

    def __init__(self, dataset: str, home: Path, name: str, token: str | None) -> None:
        self.dataset, self.home, self.name = dataset, home, name
        self._api = hub(token)
        self._scheduler: Any = None

    def check(self) -> None:
        """Makes the dataset if missing; it must be one that only its owners can read."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            self._api.create_repo(repo_id=self.dataset, repo_type="dataset", private=True, exist_ok=True)
            private = self._api.dataset_info(self.dataset).private
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise InputError(
                f"The dataset {self.dataset} cannot be used ({_reason(error)}); check T4D_STUDY_DATASET and HF_TOKEN."
            ) from error
        if not private:
            raise InputError(
                f"The dataset {self.dataset} is public, and the answers hold participants' ids; make it private first."
            )

    def fetch(self, mirror: Path) -> None:
        """Brings the mirror of an earlier machine, where there is one."""
        from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

        try:
            found = self._api.hf_hub_download(self.dataset, f"{self.name}/{mirror.name}", repo_type="dataset")
        except EntryNotFoundError as error:
            if isinstance(error, HfHubHTTPError):  # the Hub itself said so; a cache without network says it too
                return
            raise InputError(self._unread(error)) from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise InputError(self._unread(error)) from error
        part = mirror.with_suffix(".part")
        shutil.copyfile(found, part)
        part.chmod(0o600)
        part.replace(mirror)

    def start(self) -> None:
        """Begins to push."""
        from huggingface_hub import CommitScheduler

        self._scheduler = CommitScheduler(
            repo_id=self.dataset,
            repo_type="dataset",
            folder_path=self.home,
            path_in_repo=self.name,
            every=EVERY_MIN,
            private=True,
            allow_patterns=_PATTERN,
            hf_api=self._api,
        )

    def stop(self) -> None:
        """Ends pushing, after a last push."""
        if self._scheduler is None:
            return
        try:
            self._scheduler.trigger().result(timeout=60)
        except Exception as error:  # whatever the network does, the local files are complete
            _LOG.warning("the last answers could not be pushed to %s (%s)", self.dataset, _reason(error))
        self._scheduler.stop()
        self._scheduler = None

    def _unread(self, error: Exception) -> str:
        # Beginning without them would look like a new study, and its first push would replace the old answers.
        return (
            f"The answers kept in the dataset {self.dataset} could not be read ({_reason(error)}); check HF_TOKEN and "
            "start again."
        )


def hub(token: str | None) -> Any:
    """The Hugging Face Hub."""
    from huggingface_hub import HfApi

    return HfApi(token=token)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
