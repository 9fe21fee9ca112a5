"""What an entry script can ask of the job that runs it::

    from azureml_user.parallel_run import EntryScript

    def run(mini_batch):
        EntryScript().logger.info("%d items", len(mini_batch))

Inside a job this is the copy that the job brings, whatever is installed. Outside, every attribute has a sensible value,
so that a script can be tried, and completed by an editor, on its own.
"""

import errno
import json
import logging
import os
import sys
import time
from typing import Dict, Optional

__all__ = ["EntryScript"]

# Set by the host of a job, so that processes which the script spawns see the same values.
_ENVIRONMENT_VARIABLE = "FANFOLD_ENTRY_SCRIPT"

_LOG_FORMAT = "%(asctime)s|%(name)s|%(levelname)s|%(process)d|%(thread)d|%(funcName)s()|%(message)s"

# A log that can't be written must not fail a mini-batch.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


class EntryScript:
    """The entry script as its job sees it. A singleton: ``EntryScript()`` is always the same object."""

    _instance: Optional["EntryScript"] = None
    _values: Dict[str, str] = {}
    _logger: Optional[logging.Logger] = None

    def __new__(cls) -> "EntryScript":
        """The only instance."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    @property
    def logger(self) -> logging.Logger:
        """Writes to ``logs/user/entry_script_log/<node>/<process>.log.txt`` at the job's ``logging_level``, in UTC.

        Outside a job it writes to stderr, at INFO.
        """
        if EntryScript._logger is None:
            EntryScript._logger = _make_logger(self._values)
        return EntryScript._logger

    @property
    def log_dir(self) -> str:
        """The folder for log files of the script's own: ``logs/user/entry_script_log/<node>``.

        All processes of a node share it, so start the names of files with :attr:`agent_name`.
        Outside a job: ``logs`` in the current directory, which may not exist.
        """
        return self._values.get("log_dir") or os.path.join(os.getcwd(), "logs")

    @property
    def output_dir(self) -> str:
        """The job's output folder, shared by all nodes. A file in it should be named by the input it was made from.

        Outside a job: ``AZUREML_BI_OUTPUT_PATH`` if set, else ``output`` in the current directory, which may not exist.
        """
        outside = os.environ.get("AZUREML_BI_OUTPUT_PATH") or os.path.join(os.getcwd(), "output")
        return self._values.get("output_dir") or outside

    @property
    def working_dir(self) -> str:
        """The node's own copy of the job's source directory. Outside a job: the current directory."""
        return self._values.get("working_dir") or os.getcwd()

    @property
    def agent_name(self) -> str:
        """The process: ``process000``, ``process001``, … Numbers are not used again on a node. Outside a job: ``process000``."""
        return self._values.get("agent_name") or "process000"

    @property
    def node_id(self) -> str:
        """The node, as it appears in the paths of logs. Outside a job: ``0``."""
        return self._values.get("node_id") or "0"

    def __repr__(self) -> str:
        return "EntryScript(node_id={!r}, agent_name={!r})".format(self.node_id, self.agent_name)


class _LogFile(logging.FileHandler):
    """Appends to the log; opens it at the first record, and drops what a full disk can't take."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", delay=True)

    def _open(self):  # type: ignore[no-untyped-def]
        os.makedirs(os.path.dirname(self.baseFilename), exist_ok=True)
        # Not super()._open(): a message with escaped bytes of a file name must not raise.
        return open(self.baseFilename, "a", encoding="utf-8", errors="backslashreplace")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            super().emit(record)
        except OSError:  # from _open(), which logging calls outside its own guard
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not (isinstance(error, OSError) and error.errno in _DISK_ERRORS):
            super().handleError(record)


def _make_logger(values: Dict[str, str]) -> logging.Logger:
    logger = logging.getLogger("EntryScript")
    path = values.get("entry_script_log")
    handler: logging.Handler = _LogFile(path) if path else logging.StreamHandler()
    formatter = logging.Formatter(_LOG_FORMAT)
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger.addHandler(handler)
    logger.setLevel(values.get("logging_level") or logging.INFO)
    # The log has a file of its own; it need not be in the root logger's as well.
    logger.propagate = False
    return logger


def _enter_job(values: Dict[str, str]) -> None:
    """Called by the host before the script is imported; ``values`` also reach the processes that the script spawns."""
    EntryScript._values = values
    os.environ[_ENVIRONMENT_VARIABLE] = json.dumps(values)


def _values_of_parent() -> Dict[str, str]:
    """The values of the job in which an ancestor of this process runs, if there is one."""
    try:
        values = json.loads(os.environ.get(_ENVIRONMENT_VARIABLE, "{}"))
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


EntryScript._values = _values_of_parent()
