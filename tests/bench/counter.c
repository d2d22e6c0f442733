/* counter FILE NAME: prints a counter of a stage from its file of metrics (--metrics), over all labels. */
#include <stdio.h>

#include "run/metrics.h"

int main(int argc, char **argv) {
    metrics_snapshot_t snapshot;
    err_t err;
    if (argc != 3 || metrics_read(argv[1], &snapshot, &err) != 0) {
        fprintf(stderr, "counter: %s\n", argc == 3 ? err.text : "FILE NAME are needed");
        return 1;
    }
    printf("%.0f\n", metrics_sum(&snapshot, argv[2]));
    metrics_snapshot_fini(&snapshot);
    return 0;
}
