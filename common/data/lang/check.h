#ifndef DATA_LANG_CHECK_H
#define DATA_LANG_CHECK_H

#include "data/lang/parser.h"

/* What the parser asks of the checker. A node with a fault is reported and given on all the same, so that one check finds all;
 * NULL when it ends the expression. */
node_t *check_node(parser_t *parser, node_t *node);   /* types, folding, binding; its arguments are checked */
node_t *check_call(parser_t *parser, node_t *node);
struct pattern *check_pattern(parser_t *parser, text_t source, uint32_t at, uint32_t size);
node_t *parse_coalesce(parser_t *parser);

#endif
