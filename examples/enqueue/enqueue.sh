#!/bin/sh
# Gives a job to a fanfold service and waits for its result, with nothing but curl.
#
#   FANFOLD_SERVICE=http://127.0.0.1:7070 FANFOLD_TOKEN_FILE=path/to/token sh enqueue.sh path/to/job.yaml
#
# The path is relative to the directory that the fleet shares, or absolute as the service sees it. Ends with 0 if the job is Completed,
# with 1 if it came to rest in any other way.
set -eu
job_file=$1
service=${FANFOLD_SERVICE:-http://127.0.0.1:7070}
token=${FANFOLD_TOKEN:-$(cat "$FANFOLD_TOKEN_FILE")}

# From a file, so that the token is in nobody's list of processes.
config=$(mktemp)
trap 'rm -f "$config"' EXIT
printf 'header = "Authorization: Bearer %s"\nsilent\nshow-error\nfail-with-body\n' "$token" > "$config"
ask() { curl --config "$config" "$@"; }

# The same key again makes no second job: a request that may have been lost can simply be sent again.
key=$(cat /proc/sys/kernel/random/uuid)
answer=$(ask --retry 5 --retry-connrefused -H "Idempotency-Key: $key" -H 'Content-Type: application/json' \
    -d "{\"job_file\": \"$job_file\"}" "$service/v1/jobs")
job=$(printf '%s' "$answer" | sed -n 's/.*"job_id": *"\([^"]*\)".*/\1/p')
echo "submitted $job" >&2

while :; do
    state=$(ask "$service/v1/jobs/$job" | sed -n 's/.*"state": *"\([A-Z][A-Za-z]*\)".*/\1/p' | head -n 1)
    case $state in
        Completed) break ;;
        Failed | Canceled) echo "$job is $state" >&2; exit 1 ;;
        # Nothing more happens by itself.
        Paused) echo "$job is Paused: \`fanfold resume $job\` goes on with it" >&2; exit 1 ;;
    esac
    sleep 1
done
ask "$service/v1/jobs/$job/results"
