#!/usr/bin/with-contenv bashio
# Options of the add-on become settings; the credential stays out of the process list.
set -euo pipefail
export SALLYPORT_DATA_DIR=/data
export SALLYPORT_METRICS_LISTEN=127.0.0.1:9099
SALLYPORT_MASTER="$(bashio::config master)"
SALLYPORT_CREDENTIAL="$(bashio::config credential)"
SALLYPORT_HOSTNAME="$(bashio::config hostname)"
SALLYPORT_TO="$(bashio::config to)"
SALLYPORT_TRANSPORT="$(bashio::config transport)"
export SALLYPORT_MASTER SALLYPORT_CREDENTIAL SALLYPORT_HOSTNAME SALLYPORT_TO SALLYPORT_TRANSPORT
exec /usr/local/bin/sallyport agent
