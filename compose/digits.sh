#!/bin/sh
# Runs in the service `digits` of compose.yaml: docker compose run --rm digits
# Copies the example into the shared directory, has the fleet run it, and compares what came out with the labels.
set -eu
example=/shared/examples/digits
mkdir -p "$example"
cp -R /example/digits/. "$example/"
job=$(fanfold submit --wait "$example/job.yaml")
fanfold results "$job" --output /tmp/predictions.csv
python3 "$example/accuracy.py" /tmp/predictions.csv "$example/labels.csv"
