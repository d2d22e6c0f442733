#ifndef STREAMCTL_REST_HANDLERS_H
#define STREAMCTL_REST_HANDLERS_H

#include "rest.h"

/* One per route; see rest_routes.c. */
rest_handler_fn rest_start_stream, rest_stop_stream, rest_get_status, rest_get_sources, rest_get_streams, rest_get_events,
    rest_get_metrics, rest_get_prometheus, rest_get_alerts, rest_get_config, rest_get_health, rest_get_alive, rest_get_ready,
    rest_get_routes, rest_get_devices, rest_get_audit, rest_get_letters, rest_replay_letters, rest_test_source;

#endif
