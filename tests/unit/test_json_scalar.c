/* The same tests of the JSON codec on the code for machines without SSE2. */
#define JSON_SCALAR 1
#include "data/json_event.c"
#include "data/json_parse.c"
#include "data/json_write.c"

#include "test_json.c"
