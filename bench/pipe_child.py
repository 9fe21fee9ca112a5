"""The Python side of the yardstick: reads frames of mini-batches, calls run(), answers in the same form."""
import json
import os
import struct

import entry

entry.init()
requests, answers = os.fdopen(0, "rb", 1 << 16), os.fdopen(1, "wb", 1 << 16)
answers.write(b"!")  # ready
answers.flush()
while True:
    head = requests.read(4)
    if len(head) < 4:
        break
    mini_batches = json.loads(requests.read(struct.unpack(">I", head)[0]))
    body = json.dumps([entry.run(mini_batch) for mini_batch in mini_batches]).encode()
    answers.write(struct.pack(">I", len(body)) + body)
    answers.flush()
