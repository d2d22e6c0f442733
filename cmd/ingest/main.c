/* ingest: turns one outside source into frames. What makes it a tool stands here; sources are in src_*.c. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "ingest.h"

static int run(int argc, char **argv) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--list") == 0 || strcmp(argv[i], "--list=text") == 0)
            return ingest_list(false);
        if (strcmp(argv[i], "--list=json") == 0)
            return ingest_list(true);
    }
    return stage_main(&ingest_tool, argc, argv);
}

int main(int argc, char **argv) {
    return file_end_output("ingest", run(argc, argv));
}
