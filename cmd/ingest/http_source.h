#ifndef INGEST_HTTP_SOURCE_H
#define INGEST_HTTP_SOURCE_H

#include "data/option.h"
#include "data/xml.h"
#include "http_sse.h"
#include "net/backoff.h"
#include "net/http.h"
#include "source.h"
#include "unique.h"

/* What the files of the web address source share (src_http.c tells how they work together). */

#define HTTP_HEADERS_MAX 64
#define HTTP_PARAMS_MAX 64
#define HTTP_PLACE_MAX 4096            /* bytes of a page's place or a cursor that are remembered */

typedef enum http_paging { PAGING_NONE, PAGING_LINK, PAGING_CURSOR, PAGING_OFFSET, PAGING_PAGE } http_paging_t;

typedef enum http_dates { DATES_RFC3339, DATES_UNIX, DATES_UNIX_MS, DATES_DATE } http_dates_t;

typedef struct http_settings {
    int64_t interval, timeout, connect_timeout, retry_min, retry_max;
    bool once;
    char *records;
    char *method, *body;
    option_list_t headers, params;
    char *user, *password, *token;
    char *oauth_url, *oauth_id, *oauth_secret, *oauth_refresh, *oauth_scope;
    int oauth_client;                  /* 0: the client's secret goes into the header, 1: into the body */
    option_list_t oauth_params;
    char *api_key, *api_key_name;
    int api_key_in;                    /* 0: header, 1: query */
    int paging;                        /* http_paging_t */
    char *next, *page_param, *size_param;
    int64_t page_first, page_size, page_limit, page_end, page_pause;
    char *cursor, *cursor_param, *cursor_start;
    bool stream;
    int64_t stall;
    char *event_field;
    char *since;
    int64_t overlap;
    int dates;                         /* http_dates_t */
    char *rate_limit;
    option_list_t unique;
    int64_t unique_limit;
    uint64_t body_limit;
    int64_t redirects;
    char *proxy;
    char *tls_ca, *tls_cert, *tls_key;
} http_settings_t;

extern const option_t http_options[];
int http_settings_check(const source_setup_t *setup, err_t *err);

/* Where the source stands: which page is asked for, and from where on. Texts are owned, NULL is none yet. */
typedef struct http_place {
    char *page;                        /* stream: the last event's id; link: its URL; cursor: the server's word; offset, page: the number. NULL: the first */
    char *cursor;                      /* the greatest value of --cursor that rounds before this one have brought */
    char *greatest;                    /* the same of this round's pages that were passed on whole */
    int64_t now, since;                /* {now} of the round under way and of the last one that was passed on whole; ns, 0: none */
    int64_t pages;                     /* asked for without a stop */
} http_place_t;

/* What a body said besides its events. */
typedef struct http_found {
    uint64_t records;
    char *next;                        /* what stands at --next; owned */
    char *greatest;                    /* of --cursor in this body; owned */
} http_found_t;

/* With --oauth-url. */
typedef struct http_auth {
    char *access, *refresh;            /* the access token, NULL when there is none; the refresh token that came last */
    int64_t renew_at;                  /* monotonic ns */
    bool refused;                      /* the last request was, and has been asked again with a new token */
} http_auth_t;

/* When the next request may go out. */
typedef struct http_pace {
    unsigned limit, count, next;       /* --rate-limit; the last requests that are known, in a ring */
    int64_t period, *sent;             /* ns; monotonic ns each */
    int64_t not_before;                /* as the server wants it */
} http_pace_t;

typedef struct http_source {
    source_t source;
    source_setup_t setup;
    const http_settings_t *settings;
    char *place;                   /* the URL for people */
    http_t *http;
    http_transfer_t *transfer;
    loop_watch_t *timer;           /* the next request */
    int64_t asked;                 /* monotonic ns of the last request */
    backoff_t backoff;
    decoder_t *decoder;
    const format_t *decoder_format;
    buf_t body;                    /* text waiting to be decoded */
    size_t at;
    bool paused, delivering;
    http_place_t place_at;         /* of the body under delivery, or else of the next request */
    http_found_t found;            /* in the body under delivery */
    bool lines;                    /* its records are lines: it is JSON or XML */
    xml_t *xml;                    /* once there was such a body */
    uint64_t body_hash;            /* of the body under delivery, with --state; of its lines that were passed on, when they are the records */
    uint64_t hashed;               /* lines that are in body_hash */
    size_t hashed_to;              /* bytes of the body that are in body_hash */
    uint64_t first_record;         /* source_records when its first one was still to come */
    uint64_t stored_hash, stored_records;  /* restored: so many records of that body were passed on before */
    char *etag, *modified;         /* of the last body that was delivered */
    char *next_etag, *next_modified;
    bool unsafe, waiting;          /* etag and modified are not safe on the disk yet; and the next request waits for that */
    http_auth_t auth;
    http_pace_t pace;
    unique_t *unique;              /* NULL: without --unique */
    bool streaming, is_sse;        /* --stream: an answer is coming in, and it is one of server-sent events */
    bool stream_over, stream_clean;
    buf_t raw;                     /* bytes of it from raw_at on, that wait */
    size_t raw_at;
    sse_t sse;
    int64_t heard;                 /* monotonic ns of the last bytes */
    loop_watch_t *stall_timer;
    char stream_error[512];
} http_source_t;

/* src_http.c */
void http_source_ask(http_source_t *self);            /* now */
void http_source_retry(http_source_t *self, int64_t wait, const char *reason);     /* asks again after a failure, not before `wait` ns */
void http_source_again(http_source_t *self, int64_t wait);    /* asks again after a stream's end, which is no failure */
/* --format, or what the server says the body is; JSON when it says nothing useful. */
const format_t *http_source_format(const http_source_t *self, const http_response_t *response);
int http_source_prepare(http_source_t *self, const format_t *format, err_t *err);  /* the decoder, at the beginning of a body */

/* http_pace.c */
int http_pace_read(const char *text, unsigned *limit, int64_t *period, err_t *err);     /* "100/1m" */
void http_pace_init(http_pace_t *pace, const char *text);            /* NULL: no limit */
void http_pace_fini(http_pace_t *pace);
int64_t http_pace_wait(const http_pace_t *pace, int64_t now);        /* ns; 0: a request may go out */
void http_pace_sent(http_pace_t *pace, int64_t now);
void http_pace_heed(http_pace_t *pace, const http_response_t *response, int64_t now, const char *place);

/* http_position.c */
void http_source_find_again(http_source_t *self);     /* passes over what an earlier run has passed on of this body */
void http_source_position(const source_t *source, buf_t *out);
int http_source_restore(source_t *source, const uint8_t *position, size_t size, err_t *err);
void http_source_acknowledge(source_t *source, const uint8_t *position, size_t size);
void http_replace(char **text, text_t value);         /* an owned text, NULL when the value is empty */

/* http_auth.c */
bool http_auth_needed(const http_source_t *self);     /* a token has to be fetched before the next request */
void http_auth_fetch(http_source_t *self);            /* asks for the token; http_source_ask or http_source_retry follow */
bool http_auth_refused(http_source_t *self);          /* status 401: true when a new token is worth another attempt */
void http_auth_fini(http_auth_t *auth);

/* http_stream.c */
bool http_is_events(const http_response_t *response);  /* Server-Sent Events, as its Content-Type says */
void http_stream_begin(http_source_t *self);          /* the request is about to go out */
http_chunk_t http_stream_chunk(void *source, const http_response_t *head, text_t data);
bool http_stream_done(http_source_t *self, const http_response_t *response);       /* false: nothing of a stream has come */
void http_stream_run(http_source_t *self);
void http_stream_resume(http_source_t *self);
void http_stream_fini(http_source_t *self);

/* http_request.c: templates, parameters, headers. `url` and `body` are filled; NULL-terminated texts. */
void http_request_url(const http_settings_t *settings, const char *url, const http_place_t *place, buf_t *out);
void http_request_body(const http_settings_t *settings, const http_place_t *place, buf_t *out);
/* The headers of settings; `space` holds those that are made here. At most HTTP_HEADERS_MAX + 2. */
size_t http_request_headers(const http_settings_t *settings, const char **headers, buf_t *space);
/* Whether a template word such as {cursor} stands in the URL, the parameters or the body. */
bool http_request_mentions(const http_settings_t *settings, const char *url, const char *word);
bool http_request_has_dates(const http_settings_t *settings, const char *url);      /* {now} or {since} */

void http_put_encoded(buf_t *out, text_t text);       /* percent-encoded (RFC 3986), all but unreserved characters */

/* http_body.c: JSON of any layout, and with `xml` (its reader) XML, becomes a line of JSON per event, so that each event is held to the limits and
 * rules of any other line. */
int http_body_to_lines(const http_settings_t *settings, xml_t *xml, text_t body, buf_t *lines, http_found_t *found, err_t *err);
void http_found_fini(http_found_t *found);
/* Keeps the greater of two texts: as numbers when both are, by bytes otherwise. */
void http_keep_greatest(char **greatest, text_t value);

/* http_page.c. Before a page is passed on: what leads to the next one is made sure of. -1: it cannot be followed. */
int http_page_read(const http_settings_t *settings, const char *url, const http_place_t *place, const http_response_t *response, http_found_t *found,
                   err_t *err);
/* The page was passed on whole: moves the place to the next one. False: that was the last, and the place is the first one again. */
bool http_page_turn(const http_settings_t *settings, http_place_t *place, const http_found_t *found);
/* The URL of rel="next" in a Link header (RFC 8288), or size 0. Borrowed from the header. */
text_t http_link_next(text_t header);
void http_place_fini(http_place_t *place);

#endif
