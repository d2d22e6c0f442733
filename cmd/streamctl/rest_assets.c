/* The dashboard's files, embedded in the program: as they are, and packed by gzip at build time. */
#include "rest.h"

#include <stdio.h>
#include <xxhash.h>

/* path, name of the file, content type. */
#define ASSETS(X) \
    X(page, "/", "index.html", "text/html; charset=utf-8") \
    X(style, "/style.css", "style.css", "text/css; charset=utf-8") \
    X(icon, "/icon.svg", "icon.svg", "image/svg+xml") \
    X(uplot_script, "/uplot.js", "uplot.js", "text/javascript; charset=utf-8") \
    X(uplot_style, "/uplot.css", "uplot.css", "text/css; charset=utf-8") \
    X(app, "/app.js", "app.js", "text/javascript; charset=utf-8") \
    X(connection, "/connection.js", "connection.js", "text/javascript; charset=utf-8") \
    X(series, "/series.js", "series.js", "text/javascript; charset=utf-8") \
    X(chart, "/chart.js", "chart.js", "text/javascript; charset=utf-8") \
    X(graph, "/graph.js", "graph.js", "text/javascript; charset=utf-8") \
    X(ledger, "/ledger.js", "ledger.js", "text/javascript; charset=utf-8") \
    X(devices, "/devices.js", "devices.js", "text/javascript; charset=utf-8") \
    X(layout, "/layout.js", "layout.js", "text/javascript; charset=utf-8") \
    X(format, "/format.js", "format.js", "text/javascript; charset=utf-8") \
    X(panels, "/panels.js", "panels.js", "text/javascript; charset=utf-8") \
    X(control, "/control.js", "control.js", "text/javascript; charset=utf-8") \
    X(dom, "/dom.js", "dom.js", "text/javascript; charset=utf-8")

#define EMBED(id, path, file, type) \
    __asm__(".pushsection .rodata\n" \
            ".balign 16\n" \
            "asset_" #id ": .incbin \"" WEB_DIRECTORY "/" file "\"\n" \
            "asset_" #id "_end:\n" \
            "asset_" #id "_packed: .incbin \"" WEB_DIRECTORY "/" file ".gz\"\n" \
            "asset_" #id "_packed_end:\n" \
            ".popsection\n"); \
    extern const uint8_t asset_##id[], asset_##id##_end[], asset_##id##_packed[], asset_##id##_packed_end[];
ASSETS(EMBED)

#define COUNT(id, path, file, type) +1
enum { ASSET_COUNT = ASSETS(COUNT) };

static asset_t assets[ASSET_COUNT];

static void fill(void) {
    unsigned i = 0;
#define FILL(id, path, file, type) \
    assets[i++] = (asset_t){path, type, asset_##id, asset_##id##_packed, (size_t) (asset_##id##_end - asset_##id), \
                            (size_t) (asset_##id##_packed_end - asset_##id##_packed), ""};
    ASSETS(FILL)
    for (i = 0; i < ASSET_COUNT; i++)
        snprintf(assets[i].tag, sizeof assets[i].tag, "\"%016llx\"", (unsigned long long) XXH64(assets[i].bytes, assets[i].size, 0));
}

const asset_t *asset_find(const char *path) {
    if (!assets[0].path)
        fill();
    for (unsigned i = 0; i < ASSET_COUNT; i++)
        if (strcmp(assets[i].path, path) == 0)
            return &assets[i];
    return NULL;
}
