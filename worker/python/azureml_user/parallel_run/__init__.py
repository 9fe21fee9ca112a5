"""What an entry script may ask about the process it runs in.

    from azureml_user.parallel_run import EntryScript

    def init():
        EntryScript().logger.info("model loaded")

Under fanfold the values are those of the job. Elsewhere (a local run, a test, an editor) they are sensible stand-ins, and the
logger writes to standard error.
"""
import logging
import os
import sys
import time

__all__ = ["EntryScript"]

_FORMAT = "%(asctime)s|%(name)s|%(levelname)s|%(process)d|%(thread)d|%(funcName)s()|%(message)s"


class EntryScript:
    """A singleton: every call returns the same instance.

    Attributes:
        logger: a `logging.Logger`; under fanfold it writes to `logs/user/entry_script_log/<node>/<process>.log.txt`.
        log_dir: folder for the script's own log files; it may not exist yet.
        output_dir: the output folder of the job, shared by all processes.
        working_dir: the working directory of the process: a copy of the snapshot.
        agent_name: the process's name, `processNNN`: unique on its node, good in file names.
        node_id: the node's name.
    """

    _instance = None

    logger: logging.Logger
    log_dir: str
    output_dir: str
    working_dir: str
    agent_name: str
    node_id: str

    def __new__(cls):
        if EntryScript._instance is None:
            instance = super().__new__(cls)
            instance._set_up({})
            EntryScript._instance = instance
        return EntryScript._instance

    def _set_up(self, config, handler=None):
        here = os.getcwd()
        self.log_dir = config.get("log_dir") or os.path.join(here, "logs", "user", "entry_script_log", "0")
        self.output_dir = config.get("output_dir") or os.environ.get("AZUREML_BI_OUTPUT_PATH") or here
        self.working_dir = config.get("working_dir") or here
        self.agent_name = config.get("process_name") or "process000"
        self.node_id = config.get("node_id") or "0"
        self.logger = logging.getLogger("EntryScript")
        self.logger.setLevel(config.get("logging_level") or "INFO")
        # Not to the root logger as well: its lines would stand in two files.
        self.logger.propagate = False
        formatter = logging.Formatter(_FORMAT)
        formatter.converter = time.gmtime
        handler = handler or logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter)
        self.logger.handlers[:] = [handler]
