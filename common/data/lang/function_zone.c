/* The zone that a function of times takes as its last argument. */
#include "data/lang/function_make.h"

typedef struct zone_use {
    zone_t *fixed;            /* of a constant */
    zone_cache_t *cache;      /* else */
} zone_use_t;

static void end_use(void *thing) {
    zone_use_t *use = thing;
    zone_free(use->fixed);
    zone_cache_free(use->cache);
}

int prepare_zone(parser_t *parser, node_t *node) {
    unsigned place = node->function->most - 1u;
    if (node->count <= place)
        return 0;
    zone_use_t *use = arena_alloc(&parser->unit->arena, sizeof *use);
    *use = (zone_use_t){0};
    unit_own(parser->unit, use, end_use);
    node->data = use;
    const node_t *name = node->arguments[place];
    if (name->kind != NODE_CONSTANT) {
        use->cache = zone_cache_new();
    } else if (name->constant.type == VALUE_STRING) {
        err_t err;
        use->fixed = zone_new(text_make(name->constant.text, name->constant.size), &err);
        if (!use->fixed)
            return parser_error_at(parser, name, "zones are written \"Europe/Berlin\", \"UTC\" or \"+02:00\"; their data is the package tzdata", "%s", err.text);
    }
    return 0;
}

const zone_t *function_zone(const node_t *node, const row_t *row, const value_t *arguments, unsigned count) {
    unsigned place = node->function->most - 1u;
    if (count <= place)
        return zone_utc();
    const zone_use_t *use = node->data;
    if (use->fixed)
        return use->fixed;
    err_t err;
    const zone_t *zone = zone_cache_get(use->cache, text_make(arguments[place].text, arguments[place].size), &err);
    if (!zone)
        evaluation_failed(node, row, "%s: %s", node->function->name, err.text);
    return zone;
}
