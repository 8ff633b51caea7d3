#!/bin/sh
# Starts PostgreSQL on this pod's loopback, after making the cluster at the first start.
#
# ANALYST_PASSWORD is the password of the role `analyst`, which owns the database `accounts`.
set -eu

if ! [ -d "$PGDATA" ]; then
    # Made beside its place and moved there when it is complete: a container that is killed in between leaves
    # nothing that looks like a database.
    new=$PGDATA.new
    rm -rf "$new"
    # Nobody logs in as the superuser: it has no password, and every connection needs one.
    initdb --pgdata "$new" --username bank --auth-host scram-sha-256 --auth-local reject --encoding UTF8 --locale C
    # A statement a line, read by the server itself before anybody can connect. The password is hex digits.
    printf '%s\n' "CREATE ROLE analyst LOGIN PASSWORD '$ANALYST_PASSWORD'" 'CREATE DATABASE accounts OWNER analyst' |
        postgres --single -D "$new" postgres >/dev/null
    mv "$new" "$PGDATA"
fi

# exec: the shell makes room, and PostgreSQL gets the signals.
exec postgres -D "$PGDATA" -p 5432 \
    -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c shared_buffers=16MB -c max_connections=20
