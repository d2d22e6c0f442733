/* config.json from anyone: parsing, every check, redaction, and the places of errors. */
#include <stdint.h>
#include <stdlib.h>

#include "base/memory.h"
#include "run/config.h"

static const char INGEST[] =
    "{\"drivers\": [{\"name\": \"http\", \"schemes\": [\"http\"], \"types\": [\"api\"], \"options\": [{\"name\": \"interval\", \"type\": \"duration\"},"
    "{\"name\": \"password\", \"type\": \"secret\"}, {\"name\": \"header\", \"type\": \"list\"}, {\"name\": \"n\", \"type\": \"int\", \"minimum\": 0, \"maximum\": 9},"
    "{\"name\": \"ratio\", \"type\": \"number\"}, {\"name\": \"size\", \"type\": \"size\"}, {\"name\": \"flag\", \"type\": \"bool\"},"
    "{\"name\": \"mode\", \"type\": \"choice\", \"value\": \"a|b\"}]}], \"options\": [{\"name\": \"time\", \"type\": \"text\"}, {\"name\": \"to\", \"type\": \"list\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static config_tool_t *tool;
    err_t err;
    if (!tool) {
        json_t *description = json_loads(INGEST, 0, NULL);
        if (config_tool_new(&tool, description, &err))
            abort();
        json_decref(description);
        setenv("FUZZ", "value", 1);
    }
    config_tools_t tools = {tool, tool};
    config_t *config = NULL;
    config_errors_t errors = {0};
    text_t text = text_make((const char *) data, size);
    int result = config_parse(&config, "/nonexistent/fuzz.json", text, &tools, &errors);
    if ((result == 0) != (errors.count == 0))
        abort();
    for (size_t i = 0; i < errors.count; i++)
        if (!errors.items[i].text || !*errors.items[i].text)
            abort();
    config_locate_inside(text, "/data_sources/0/name", size % 64);
    config_free(config);
    config_errors_fini(&errors);
    return 0;
}
