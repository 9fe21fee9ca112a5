#!/usr/bin/env bash
# Makes the secrets of compose.yaml, and .env: compose/setup.sh [DIRECTORY]
#
# What is there stays as it is, so it can be run again at any time. A new password: remove its file, run this, restart the services.
# DIRECTORY [default: secrets/ beside this file] gets
#   passwords, and addresses with a password in them     mode 0600, readable by the user that coordinator and workers run as
#   what Prometheus and Grafana read                     mode 0640, for that user's group
#   users of RabbitMQ and Redis, with hashes of passwords of 256 random bits: nothing that could be guessed back, mode 0644
# Needs bash and coreutils.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
secrets=${1:-$here/secrets}
umask 077

# The containers run as whoever runs this; root's place is taken by a user of its own.
uid=$(id -u) gid=$(id -g)
((uid)) || uid=10001 gid=10001

mkdir -p "$secrets"
secrets=$(cd "$secrets" && pwd)

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }
# Reads hexadecimal digits, writes the bytes.
bytes() { printf '%b' "$(sed 's/../\\x&/g')"; }
sha256() { sha256sum | cut -c1-64; }

# put NAME MODE: keeps standard input as a file, all of it or nothing.
put() {
    local new
    new=$(mktemp "$secrets/.new.XXXXXX")
    cat >"$new"
    chmod "$2" "$new"
    if ((EUID == 0)); then chown "$uid:$gid" "$new"; fi
    mv -f "$new" "$secrets/$1"
}

# once NAME MODE TEXT: makes a file unless it is there.
once() { [[ -s $secrets/$1 ]] || printf '%s' "$3" | put "$1" "$2"; }

# What stands between `user:` and `@` in the address that a file holds.
password() { sed -E 's,^[a-z]+://[^:]+:([^@]+)@.*$,\1,' "$secrets/$1"; }

for user in coordinator worker; do
    once "broker_$user" 600 "amqp://$user:$(random)@rabbitmq:5672/fanfold"
    once "redis_$user" 600 "redis://$user:$(random)@redis:6379/0"
done
once rabbitmq_admin_password 600 "$(random)"
once api_token 600 "$(random)"
once grafana_admin_password 640 "$(random)"
put prometheus_token 640 <"$secrets/api_token"

# RabbitMQ's form: base64(salt + sha256(salt + password)). The salt follows from user and password, so that the same password gives the same
# file.
rabbitmq_hash() {
    local salt
    salt=$(printf 'fanfold %s %s' "$1" "$2" | sha256 | cut -c1-8)
    { bytes <<<"$salt"; { bytes <<<"$salt"; printf '%s' "$2"; } | sha256 | bytes; } | base64 -w0
}

sed -e "s,@admin@,$(rabbitmq_hash admin "$(<"$secrets/rabbitmq_admin_password")")," \
    -e "s,@coordinator@,$(rabbitmq_hash coordinator "$(password broker_coordinator)")," \
    -e "s,@worker@,$(rabbitmq_hash worker "$(password broker_worker)")," \
    "$here/rabbitmq/definitions.json" | put rabbitmq_definitions.json 644
sed -e "s,@coordinator@,$(password redis_coordinator | tr -d '\n' | sha256)," \
    -e "s,@worker@,$(password redis_worker | tr -d '\n' | sha256)," \
    "$here/redis/users.acl" | put redis_users.acl 644

# Only beside compose.yaml: another directory is somebody's test.
if [[ $secrets == "$here/secrets" && ! -e $here/.env ]]; then
    sed -e "s,^FANFOLD_UID=.*,FANFOLD_UID=$uid," -e "s,^FANFOLD_GID=.*,FANFOLD_GID=$gid," "$here/.env.example" >"$here/.env"
fi
echo "secrets are in $secrets"
