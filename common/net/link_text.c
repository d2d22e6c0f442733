/* The line of the table behind "-"; link_stdout.c and link_stdin.c do the work. */
#include "net/link_engine.h"

static const option_t text_options[] = {
    {.name = "format", .type = OPTION_CHOICE, .offset = offsetof(link_endpoint_t, format), .fallback = "ndjson", .value = "ndjson|msgpack",
     .help = "NDJSON text, or frames as msgpack arrays [topic, header, body]"},
    {NULL},
};

const link_engine_t link_text_engine = {.prefix = "-", .whole = true, .sender_options = text_options, .receiver_options = text_options,
                                        .sender_open = link_stdout_open, .receiver_open = link_stdin_open};
