#!/bin/sh
# Pushes bad messages with redis-cli.
set -eu

push() {
    redis-cli --no-auth-warning -u "$EMBEDQ_BROKER_URL" -x LPUSH embedq.docs >/dev/null
}

message() {
    printf '{"body":"%s","content-encoding":"utf-8","content-type":"application/json",' "$1"
    printf '"headers":{"task":"embedq.embed","id":"%s"},' "$(cat /proc/sys/kernel/random/uuid)"
    printf '"properties":{"delivery_info":{},"body_encoding":"base64","delivery_tag":"from-a-shell"}}'
}

job() {
    printf '[[],{"job":%s},{}]' "$1" | base64 | tr -d '\n'
}

printf '{"no json' | push
message "$(job '{"v":1,"collection":"nowhere","items":[{"id":"shell-nowhere","text":"text"}]}')" | push
message "$(job '{"v":1,"collection":"docs","items":[{"id":"shell-no-text"}]}')" | push
message "$(job '{"v":2,"collection":"docs","items":[{"id":"shell-v2","text":"text"}]}')" | push
message '%%% not base64' | push
