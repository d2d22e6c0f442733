#ifndef INGEST_REDIS_H
#define INGEST_REDIS_H

#include "net/loop.h"
#include "redis_reply.h"
#include "wire.h"

/* A connection to a Redis server: commands go out, replies come back in their order, piece by piece, so that a reply of any length takes no more memory
 * than one piece of it. Logging in and choosing the database is done before `up`. */
typedef struct redis redis_t;

/* A piece of a reply. depth: of the arrays that it stands in. raw: the piece's bytes, all of it when depth is the command's `whole`, else of an array
 * only its head. Both are borrowed. False: there is no room; it is given again after redis_resume. */
typedef bool redis_piece_fn(void *argument, unsigned depth, const redis_item_t *item, text_t raw);

typedef struct redis_request {
    unsigned whole;                /* at this depth arrays come whole, above it by their heads; at most REDIS_DEPTH */
    redis_piece_fn *piece;
    void (*done)(void *argument);  /* all pieces were taken; may be NULL */
    int64_t patience;              /* ns that the server may take besides the setup's timeout */
    void *argument;
    bool lasting;                  /* replies to it come without end, as of SUBSCRIBE: it is the connection's last command */
} redis_request_t;
#define REDIS_DEPTH 4
#define REDIS_PIECE_MAX (16u * 1024 * 1024)

typedef struct redis_setup {
    loop_t *loop;
    wire_peer_t peer;              /* its timeout is also that for answers */
    const char *user, *password;   /* or NULL */
    int64_t database;
    void (*up)(void *argument);
    void (*down)(void *argument, const char *reason); /* the last call; may free it */
    /* A piece of more than REDIS_PIECE_MAX bytes is passed over: this is its beginning. */
    void (*too_large)(void *argument, unsigned depth, text_t beginning);
    void *argument;
} redis_setup_t;

redis_t *redis_new(const redis_setup_t *setup);       /* connecting; strings are borrowed for its life */
void redis_free(redis_t *redis);                      /* NULL is legal */
/* Sends a command that was put together by redis_put_...; the request is copied. */
void redis_send(redis_t *redis, const buf_t *command, const redis_request_t *request);
bool redis_is_up(const redis_t *redis);               /* NULL is not */
void redis_pause(redis_t *redis);                     /* reads no more; NULL is legal */
void redis_resume(redis_t *redis);
/* Waits for the answers to what was sent, for at most so many ns, and takes nothing else: at the end of a run. */
void redis_settle(redis_t *redis, int64_t limit);
/* Ends the connection as if the server had; down is told. */
void redis_lose(redis_t *redis, const char *reason);

#endif
