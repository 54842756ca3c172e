#!/usr/bin/with-contenv bashio
# Options of the add-on become settings; the link stays out of the process list.
set -euo pipefail
export SALLYPORT_DATA_DIR=/data
# Where the watchdog of config.yaml asks: on the host's network the supervisor looks at the gateway of its own one.
export SALLYPORT_METRICS_LISTEN=172.30.32.1:9099
bashio::config.require join "it is the link that \`sallyport agents add\` printed"
SALLYPORT_JOIN="$(bashio::config join)"
SALLYPORT_TO="$(bashio::config to)"
SALLYPORT_TRANSPORT="$(bashio::config transport)"
export SALLYPORT_JOIN SALLYPORT_TO SALLYPORT_TRANSPORT
exec /usr/local/bin/sallyport agent
