#!/bin/sh
# Enqueues one text with nothing but a POSIX shell and redis-cli (or valkey-cli, by REDIS_CLI):
#
#     printf 'how leases lapse' | enqueue.sh docs 42
#     enqueue.sh docs 42 bulk <page.txt
#
# EMBEDQ_BROKER_URL is Redis' URL, EMBEDQ_KEY_PREFIX the deployment's, if it has one.
set -eu
collection=$1 id=$2 lane=${3:-live}

# A password goes by the environment: a list of processes shows what is in a URL.
url=${EMBEDQ_BROKER_URL:-redis://localhost:6379/0} user=
case $url in
*@*)
    credentials=${url#*://}
    credentials=${credentials%@*}
    user=${credentials%%:*}
    export REDISCLI_AUTH="${credentials#*:}"
    url=${url%%://*}://${url##*@}
    ;;
esac

redis() {
    "${REDIS_CLI:-redis-cli}" -u "$url" ${user:+--user "$user"} "$@"
}

# Standard input as a JSON string. Its last line may end with a line feed or without: it is not part of the text.
json_string() {
    LC_ALL=C sed 's/[\\"]/\\&/g' | LC_ALL=C awk '
        function without(control, line, escape, done, at) {
            while (at = index(line, control)) {
                done = done substr(line, 1, at - 1) escape
                line = substr(line, at + 1)
            }
            return done line
        }
        {
            line = $0
            if (line ~ /[[:cntrl:]]/)
                for (code = 1; code < 32; code++) line = without(sprintf("%c", code), line, sprintf("\\u%04x", code))
            printf "%s%s", (NR == 1 ? "" : "\\n"), line
        }
        BEGIN { printf "\"" }
        END { printf "\"" }'
}

uuid() {
    cat /proc/sys/kernel/random/uuid 2>/dev/null || uuidgen | tr A-Z a-z
}

case $lane in
live) queue=embedq.$collection ;;
*) queue=embedq.$collection.$lane ;;
esac
task=$(uuid)
now=$(redis TIME | awk 'NR == 1 { seconds = $1 } NR == 2 { printf "%s.%06d", seconds, $1 }')
item="{\"id\":$(printf %s "$id" | json_string),\"text\":$(json_string)}"
job="{\"v\":1,\"collection\":\"$collection\",\"source\":\"shell\",\"items\":[$item]}"
body=$(printf '[[],{"job":%s},{}]' "$job" | base64 | tr -d '\n')

reply=$(redis -x LPUSH "${EMBEDQ_KEY_PREFIX:-}$queue" <<END
{"body":"$body","content-encoding":"utf-8","content-type":"application/json",
"headers":{"lang":"sh","task":"embedq.embed","id":"$task","root_id":"$task","shadow":"embedq.embed:$collection",
"argsrepr":"()","kwargsrepr":"{'job': <1 items>}","ignore_result":true,"embedq_enqueued_at":$now},
"properties":{"correlation_id":"$task","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"$queue"},
"body_encoding":"base64","delivery_tag":"$(uuid)"}}
END
)
case $reply in
*[!0-9]* | '')
    echo "$0: not enqueued: $reply" >&2
    exit 1
    ;;
esac
