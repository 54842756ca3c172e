#!/usr/bin/with-contenv bashio
# Options of the add-on become settings; the credential stays out of the process list.
set -euo pipefail
export SALLYPORT_DATA_DIR=/data BUN_JSC_thresholdForFTLOptimizeAfterWarmUp=640000
# Where the watchdog of config.yaml asks: on the host's network the supervisor looks at the gateway of its own one.
export SALLYPORT_METRICS_LISTEN=172.30.32.1:9099
SALLYPORT_MASTER="$(bashio::config master)"
SALLYPORT_CREDENTIAL="$(bashio::config credential)"
SALLYPORT_HOSTNAME="$(bashio::config hostname)"
SALLYPORT_TO="$(bashio::config to)"
SALLYPORT_TRANSPORT="$(bashio::config transport)"
export SALLYPORT_MASTER SALLYPORT_CREDENTIAL SALLYPORT_HOSTNAME SALLYPORT_TO SALLYPORT_TRANSPORT
exec /usr/local/bin/sallyport agent
