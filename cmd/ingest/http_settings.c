/* The options of the web address source, and what can be told wrong about them before anything is asked. */
#include <ctype.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/value.h"
#include "http_source.h"

#define AT(field) offsetof(http_settings_t, field)
const option_t http_options[] = {
    {"interval", OPTION_DURATION, AT(interval), "5s", "DURATION", "time from one request to the next", NS_PER_MS, 86400 * NS_PER_S,
     .needs = "@rounds:more than one answer: with --once or --stream there is one"},
    {"once", OPTION_BOOL, AT(once), "no", NULL, "ask until there is an answer, with all its pages, then end"},
    {"records", OPTION_TEXT, AT(records), NULL, "PATH", "where in a JSON or XML body the events are, such as data.items; default: the body itself"},
    {"method", OPTION_TEXT, AT(method), NULL, "WORD", "request method; default: GET, or POST with --body"},
    {"body", OPTION_TEXT, AT(body), NULL, "TEXT", "body to send; {cursor}, {page}, {offset}, {limit}, {now} and {since} are filled in"},
    {"param", OPTION_LIST, AT(params), NULL, "NAME=VALUE", "a query parameter, encoded as needed; filled in as --body is"},
    {"header", OPTION_LIST, AT(headers), NULL, "TEXT", "a request header, \"Name: value\""},
    {"user", OPTION_TEXT, AT(user), NULL, "NAME", "user name (Basic authentication)"},
    {"password", OPTION_SECRET, AT(password), NULL, "SECRET", "password; better in --settings than on the command line", .needs = "user or @login:a user in the URL"},
    {"token", OPTION_SECRET, AT(token), NULL, "SECRET", "bearer token; better in --settings than on the command line"},
    {"oauth-url", OPTION_TEXT, AT(oauth_url), NULL, "URL", "where OAuth 2.0 tokens are got; they are renewed before they expire"},
    {"oauth-id", OPTION_TEXT, AT(oauth_id), NULL, "NAME", "OAuth client id", .needs = "oauth-url"},
    {"oauth-secret", OPTION_SECRET, AT(oauth_secret), NULL, "SECRET", "OAuth client secret; better in --settings than on the command line", .needs = "oauth-url"},
    {"oauth-secret-in", OPTION_CHOICE, AT(oauth_client), "header", "header|body", "where the client's id and secret go", .needs = "oauth-url"},
    {"oauth-refresh-token", OPTION_SECRET, AT(oauth_refresh), NULL, "SECRET", "refresh token; default: client credentials are used", .needs = "oauth-url"},
    {"oauth-scope", OPTION_TEXT, AT(oauth_scope), NULL, "TEXT", "scopes to ask for, with blanks between", .needs = "oauth-url"},
    {"oauth-param", OPTION_LIST, AT(oauth_params), NULL, "NAME=VALUE", "another parameter of the token request, such as audience=...", .needs = "oauth-url"},
    {"api-key", OPTION_SECRET, AT(api_key), NULL, "SECRET", "API key; better in --settings than on the command line"},
    {"api-key-name", OPTION_TEXT, AT(api_key_name), NULL, "NAME", "its header or parameter; default: X-API-Key, or api_key in the query", .needs = "api-key"},
    {"api-key-in", OPTION_CHOICE, AT(api_key_in), "header", "header|query", "where the API key goes", .needs = "api-key"},
    {"paging", OPTION_CHOICE, AT(paging), "none", "none|link|cursor|offset|page", "how an answer's next page is asked for"},
    {"next", OPTION_TEXT, AT(next), NULL, "PATH", "where in a JSON or XML body the next page's link or cursor is", .needs = "paging=link|cursor"},
    {"page-param", OPTION_TEXT, AT(page_param), NULL, "NAME", "parameter of the cursor, offset or page number; default: the word after --paging", .needs = "paging=cursor|offset|page"},
    {"page-size", OPTION_INT, AT(page_size), "0", "N", "events of a full page, asked for by --page-size-param; 0: not said", 0, 1000000,
     .needs = "paging=link|cursor|offset|page"},
    {"page-size-param", OPTION_TEXT, AT(size_param), "limit", "NAME", "parameter of the page size", .needs = "page-size"},
    {"page-first", OPTION_INT, AT(page_first), "1", "N", "number of the first page", 0, 1000000, .needs = "paging=page"},
    {"page-limit", OPTION_INT, AT(page_limit), "1000", "N", "pages in a row at most; then --interval is waited for", 1, 1000000000, .needs = "paging=link|cursor|offset|page"},
    {"page-end", OPTION_INT, AT(page_end), "0", "STATUS", "HTTP status, such as 404, that tells that there are no more pages; 0: none does", 0, 499, .needs = "paging=offset|page"},
    {"page-pause", OPTION_DURATION, AT(page_pause), "0s", "DURATION", "time from one page to the next", 0, 3600 * NS_PER_S, .needs = "paging=link|cursor|offset|page"},
    {"cursor", OPTION_TEXT, AT(cursor), NULL, "FIELD", "remember the greatest value of this field, and ask for what comes after it"},
    {"cursor-param", OPTION_TEXT, AT(cursor_param), NULL, "NAME", "parameter that says it; or write {cursor} into the URL, --param or --body", .needs = "cursor"},
    {"cursor-start", OPTION_TEXT, AT(cursor_start), NULL, "VALUE", "value to begin with; default: no such parameter at first", .needs = "cursor"},
    {"since", OPTION_TEXT, AT(since), NULL, "TIME", "{since} of the first round; it is then {now} of the round before", .needs = "@dates:{since} in the URL or --param or --body"},
    {"overlap", OPTION_DURATION, AT(overlap), "0s", "DURATION", "how much earlier {since} is, for what the server shows late; with --unique", 0, 366 * 86400 * NS_PER_S, .needs = "@dates:{since} in the URL or --param or --body"},
    {"dates", OPTION_CHOICE, AT(dates), "rfc3339", "rfc3339|unix|unix-ms|date", "how {now} and {since} are written", .needs = "@dates:{now} or {since} in the URL or --param or --body"},
    {"unique", OPTION_LIST, AT(unique), NULL, "FIELD", "pass on once what comes again with the same value here; *: in all fields"},
    {"unique-limit", OPTION_INT, AT(unique_limit), "10000", "N", "different events that --unique remembers", 1, UNIQUE_MAX, .needs = "unique"},
    {"rate-limit", OPTION_TEXT, AT(rate_limit), NULL, "N/DURATION", "requests in any span of that length at most, such as 100/1m"},
    {"stream", OPTION_BOOL, AT(stream), "no", NULL, "the answer has no end: Server-Sent Events, or lines, taken as they arrive"},
    {"stall", OPTION_DURATION, AT(stall), "5m", "DURATION", "with --stream: connect again when not a byte has come for so long; 0: never", 0, 86400 * NS_PER_S, .needs = "stream"},
    {"event-field", OPTION_TEXT, AT(event_field), NULL, "NAME", "with --stream: field that gets the type of a server-sent event", .needs = "stream"},
    {"timeout", OPTION_DURATION, AT(timeout), "30s", "DURATION", "for a whole answer", NS_PER_MS, 3600 * NS_PER_S, .needs = "@bounded:an answer that ends: --stream has none"},
    {"connect-timeout", OPTION_DURATION, AT(connect_timeout), "10s", "DURATION", "for name look-up, connection and TLS", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-min", OPTION_DURATION, AT(retry_min), "1s", "DURATION", "wait after a first failure; doubled with each further one", NS_PER_MS, 3600 * NS_PER_S},
    {"retry-max", OPTION_DURATION, AT(retry_max), "1m", "DURATION", "longest wait between attempts, unless the server asks for more", NS_PER_MS, 86400 * NS_PER_S},
    {"body-limit", OPTION_SIZE, AT(body_limit), "16MiB", "SIZE", "largest body accepted, after decompression", 1024, 1 << 30},
    {"redirects", OPTION_INT, AT(redirects), "5", "N", "redirects followed at most", 0, 50},
    {"proxy", OPTION_SECRET, AT(proxy), NULL, "URL", "proxy to go through, which may hold a password; default: what http_proxy and the like say"},
    {"tls-ca", OPTION_TEXT, AT(tls_ca), NULL, "FILE", "certificates to trust instead of the system's", .readable = true},
    {"tls-cert", OPTION_TEXT, AT(tls_cert), NULL, "FILE", "our own certificate, for servers that want one", .readable = true},
    {"tls-key", OPTION_TEXT, AT(tls_key), NULL, "FILE", "its private key", .needs = "tls-cert", .readable = true},
    {0},
};

static bool is_header(const char *header) {
    return strchr(header, ':') && *header != ':' && !strpbrk(header, "\r\n");
}

static int check_request(const http_settings_t *settings, err_t *err) {
    if (settings->headers.count > HTTP_HEADERS_MAX)
        return err_set(err, "--header: at most %d", HTTP_HEADERS_MAX);
    for (size_t i = 0; i < settings->headers.count; i++) {
        if (!is_header(settings->headers.items[i]))
            return err_set(err, "--header: takes \"Name: value\" on one line");
    }
    if (settings->params.count > HTTP_PARAMS_MAX)
        return err_set(err, "--param: at most %d", HTTP_PARAMS_MAX);
    for (size_t i = 0; i < settings->params.count; i++) {
        if (!strchr(settings->params.items[i], '=') || *settings->params.items[i] == '=')
            return err_set(err, "--param: takes NAME=VALUE");
    }
    for (const char *c = settings->method; c && *c; c++) {
        if (!isupper((unsigned char) *c))
            return err_set(err, "--method: takes a word in capitals, such as POST");
    }
    if (settings->method && (!*settings->method || strlen(settings->method) > 20))
        return err_set(err, "--method: takes a word in capitals, such as POST");
    if (settings->method && strcmp(settings->method, "HEAD") == 0)
        return err_set(err, "--method HEAD: its answers have no body");
    const char *secrets[] = {settings->token, settings->api_key, settings->user, settings->password};
    static const char *const names[] = {"token", "api-key", "user", "password"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (secrets[i] && strpbrk(secrets[i], "\r\n"))
            return err_set(err, "--%s: takes one line; is there a line end at the end of its file?", names[i]);
    }
    if (settings->api_key_name && (!*settings->api_key_name || strpbrk(settings->api_key_name, ": \r\n")))
        return err_set(err, "--api-key-name: takes the name alone");
    return 0;
}

static int check_oauth(const http_settings_t *settings, err_t *err) {
    if (!settings->oauth_url)
        return 0;
    char *url = http_resolve(settings->oauth_url, "");
    if (!url)
        return err_set(err, "--oauth-url: takes an http:// or https:// address");
    mem_free(url);
    if (!settings->oauth_id || (!settings->oauth_secret && !settings->oauth_refresh))
        return err_set(err, "--oauth-url needs --oauth-id, and --oauth-secret or --oauth-refresh-token");
    if (settings->token || settings->user)
        return err_set(err, "--oauth-url goes with neither --token nor --user");
    for (size_t i = 0; i < settings->oauth_params.count; i++) {
        if (!strchr(settings->oauth_params.items[i], '=') || *settings->oauth_params.items[i] == '=')
            return err_set(err, "--oauth-param: takes NAME=VALUE");
    }
    return 0;
}

static int check_paging(const source_setup_t *setup, err_t *err) {
    const http_settings_t *settings = setup->settings;
    bool tree = !setup->format || strcmp(setup->format->name, "json") == 0 || strcmp(setup->format->name, "xml") == 0;
    if (settings->paging == PAGING_CURSOR && !settings->next)
        return err_set(err, "--paging cursor: where in the body is the next one? Say --next PATH");
    if (settings->page_end && settings->page_end < 400)
        return err_set(err, "--page-end: takes a status from 400 to 499, such as 404");
    if (settings->page_limit < 2 && settings->paging && settings->once)
        return err_set(err, "--page-limit 1 with --once would end in the middle");
    if (settings->stream && setup->format && strcmp(setup->format->name, "xml") == 0)
        return err_set(err, "--stream takes lines and Server-Sent Events, not --format xml");
    if (settings->stream && (settings->paging || settings->cursor))
        return err_set(err, "--stream goes with neither --paging nor --cursor");
    if (!tree && (settings->records || settings->next || settings->cursor))
        return err_set(err, "--%s is for JSON and XML bodies, not for --format %s", settings->records ? "records" : settings->next ? "next" : "cursor",
                       setup->format->name);
    return 0;
}

static int check_dates(const source_setup_t *setup, err_t *err) {
    const http_settings_t *settings = setup->settings;
    int64_t time;
    unsigned limit;
    bool dates = http_request_has_dates(settings, setup->url);
    if (settings->since && (!value_to_time(value_text(settings->since, strlen(settings->since)), &time) || time <= 0 || time > EVENT_TIME_MAX))
        return err_set(err, "--since %s: takes a time such as 2026-01-31T00:00:00Z", settings->since);
    if (dates && settings->stream)
        return err_set(err, "--stream does not go with {now} and {since}: it has no rounds");
    if (settings->rate_limit && http_pace_read(settings->rate_limit, &limit, &time, err))
        return -1;
    return unique_check(&settings->unique, err);
}

int http_settings_check(const source_setup_t *setup, err_t *err) {
    const http_settings_t *settings = setup->settings;
    if (strncmp(setup->rest, "//", 2) != 0 || strcspn(setup->rest + 2, "/?#") == 0)
        return err_set(err, "%.6s...: a web address looks like http://host:port/path", setup->url);
    if (http_url_check(setup->url, err))
        return -1;
    if (settings->retry_max < settings->retry_min)
        return err_set(err, "--retry-max is below --retry-min");
    if (check_request(settings, err) || check_oauth(settings, err) || check_paging(setup, err) || check_dates(setup, err))
        return -1;
    if (settings->cursor && !settings->cursor_param && !http_request_mentions(settings, setup->url, "{cursor}"))
        return err_set(err, "--cursor %s: how is the server told? Say --cursor-param NAME, or write {cursor} into the URL, --param or --body",
                       settings->cursor);
    return 0;
}
