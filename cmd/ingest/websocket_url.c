/* URLs of WebSocket servers: those of the web with other words for the schemes. */
#include "websocket_url.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "net/http.h"

/* ws: and wss: become http: and https:; all else stays. */
static char *web_url(const char *url) {
    if (strncasecmp(url, "ws:", 3) == 0)
        return mem_format("http:%s", url + 3);
    if (strncasecmp(url, "wss:", 4) == 0)
        return mem_format("https:%s", url + 4);
    return mem_text(url);
}

static char *part(CURLU *parts, CURLUPart which, unsigned flags) {
    char *text = NULL, *copy = NULL;
    if (curl_url_get(parts, which, &text, flags) == CURLUE_OK)
        copy = mem_text(text);
    curl_free(text);
    return copy;
}

static void read_parts(ws_place_t *place, CURLU *parts) {
    char *scheme = part(parts, CURLUPART_SCHEME, 0), *host = part(parts, CURLUPART_HOST, 0), *port = part(parts, CURLUPART_PORT, 0);
    char *path = part(parts, CURLUPART_PATH, 0), *query = part(parts, CURLUPART_QUERY, 0);
    place->user = part(parts, CURLUPART_USER, CURLU_URLDECODE);
    place->password = part(parts, CURLUPART_PASSWORD, CURLU_URLDECODE);
    place->tls = scheme && strcmp(scheme, "https") == 0;
    place->port = port ? (unsigned) strtoul(port, NULL, 10) : place->tls ? 443 : 80;
    bool standard = place->port == (place->tls ? 443 : 80);
    place->authority = standard ? mem_text(host) : mem_format("%s:%u", host, place->port);
    bool brackets = host && *host == '[';
    place->host = brackets ? mem_text_n(host + 1, strlen(host) - 2) : mem_text(host);
    place->target = mem_format("%s%s%s", path && *path ? path : "/", query ? "?" : "", query ? query : "");
    curl_url_set(parts, CURLUPART_USER, NULL, 0);
    curl_url_set(parts, CURLUPART_PASSWORD, NULL, 0);
    curl_url_set(parts, CURLUPART_FRAGMENT, NULL, 0);
    place->url = part(parts, CURLUPART_URL, 0);
    mem_free(scheme);
    mem_free(host);
    mem_free(port);
    mem_free(path);
    mem_free(query);
}

int ws_place_read(ws_place_t *place, const char *url, err_t *err) {
    char *web = web_url(url);
    CURLU *parts = curl_url();
    bool good = (strncasecmp(web, "http://", 7) == 0 || strncasecmp(web, "https://", 8) == 0) && !strpbrk(web, " \r\n\t") &&
                curl_url_set(parts, CURLUPART_URL, web, 0) == CURLUE_OK;
    ws_place_t made = {0};
    if (good)
        read_parts(&made, parts);
    good = good && made.url && made.host && *made.host;
    curl_url_cleanup(parts);
    mem_free(web);
    if (!good) {
        ws_place_fini(&made);
        return err_set(err, "an address of a WebSocket looks like wss://host:port/path");
    }
    *place = made;
    return 0;
}

int ws_place_move(ws_place_t *place, const ws_place_t *from, const char *location, bool *same, err_t *err) {
    char *web = web_url(location), *url = http_resolve(from->url, web);
    int result = -1;
    ws_place_t made = {0};
    if (!url)
        err_set(err, "a redirect leads to what is no address of a WebSocket");
    else if (from->tls && strncasecmp(url, "https:", 6) != 0)
        err_set(err, "a redirect away from wss is not followed");
    else if (ws_place_read(&made, url, err) == 0) {
        *same = http_same_origin(from->url, made.url);
        *place = made;
        result = 0;
    }
    mem_free(web);
    mem_free(url);
    return result;
}

void ws_place_fini(ws_place_t *place) {
    mem_free(place->url);
    mem_free(place->host);
    mem_free(place->authority);
    mem_free(place->target);
    mem_free(place->user);
    mem_free(place->password);
    *place = (ws_place_t){0};
}
