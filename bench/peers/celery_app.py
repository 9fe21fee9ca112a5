"""The peer: Celery with RabbitMQ as its broker, Redis for its results, late acknowledgements. Addresses come from the environment."""
import os
import sys

from celery import Celery
from celery.signals import worker_process_init

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import entry  # noqa: E402

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_REDIS"])
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64")),
    result_expires=3600,
    broker_connection_retry_on_startup=True,
)


@worker_process_init.connect
def start(**_):
    entry.init()


@app.task
def run(mini_batch):
    return entry.run(mini_batch)
