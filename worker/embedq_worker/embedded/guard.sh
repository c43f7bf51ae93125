# Stops a server whose starter died, whatever killed it, and removes the server's temporary folder.
#
# Arguments: 1 process id of the server, 2 signal that stops it, 3 folder to remove (may be empty).
# Standard input: a pipe whose only writer is the starter. A line means that the starter stopped the server itself;
# an end of file without one means that the starter is gone.

if read -r _; then exit 0; fi

kill "-$2" "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ "$tries" -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
kill -KILL "$1" 2>/dev/null
if [ -n "$3" ]; then rm -rf -- "$3"; fi
