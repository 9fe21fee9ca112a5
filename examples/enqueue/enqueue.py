"""Gives a job to a fanfold service through RabbitMQ, and waits until it is over.

    pip install pika
    FANFOLD_BROKER=amqp://user:password@host:5672/ python enqueue.py path/to/job.yaml

The path is relative to the directory that the fleet shares, or absolute as the service sees it. Ends with 0 if the job is
Completed, with 1 if it came to rest in any other way. docs/security.md has the rights that its user needs.
"""

import json
import os
import sys
import uuid

import pika


def main(job_file):
    connection = pika.BlockingConnection(pika.URLParameters(os.environ["FANFOLD_BROKER"]))
    channel = connection.channel()
    channel.confirm_delivery()

    # Before the job is there, so that none of its events is missed. `passive`: the service declares the exchange, and who only
    # listens needs no right to.
    channel.exchange_declare("fanfold.events", passive=True)
    inbox = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(inbox, "fanfold.events", "job.#")

    # The same message_id again makes no second job: a message that may have been lost can simply be sent again.
    channel.basic_publish(
        "",
        "fanfold.jobs",
        json.dumps({"job_file": job_file, "set": []}),
        pika.BasicProperties(
            content_type="application/json",
            delivery_mode=2,
            message_id=str(uuid.uuid4()),
            correlation_id="answer",
            reply_to=inbox,
        ),
        mandatory=True,
    )

    job, seen = None, {}
    for method, properties, body in channel.consume(inbox, auto_ack=True, inactivity_timeout=600):
        if method is None:
            if job is None:
                sys.exit("no answer for ten minutes: is a service there? The request waits in fanfold.jobs")
            # A job that runs says nothing until its state changes.
            continue
        said = json.loads(body)
        if properties.correlation_id == "answer":
            if said["answer"] == "refused":
                sys.exit("refused: {error}\nhint: {hint}".format(**said))
            job = said["job_id"]
            print("submitted", job, file=sys.stderr)
        else:
            # The first event may be here before the answer.
            seen[said["job_id"]] = said
        event = seen.get(job)
        if not event:
            continue
        if event["state"] in ("Completed", "Failed", "Canceled"):
            print(event["job_id"], event["state"], event["items_succeeded"], "of", event["items"], event["output"])
            if event["cause"]:
                print("cause:", event["cause"], file=sys.stderr)
            sys.exit(0 if event["state"] == "Completed" else 1)
        if event["state"] == "Paused":
            # Nothing more comes by itself.
            sys.exit("{job_id} is Paused ({cause}): `fanfold resume {job_id}` goes on with it".format(**event))


if __name__ == "__main__":
    main(sys.argv[1])
