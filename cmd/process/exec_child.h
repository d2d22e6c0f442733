#ifndef PROCESS_EXEC_CHILD_H
#define PROCESS_EXEC_CHILD_H

#include "base/err.h"
#include "base/text.h"
#include "net/loop.h"

/* A program that is asked questions: a line each on its standard input, answered by a line each on its standard output, in order. It is started when
 * there is a question, and again, with a growing pause, when it has ended; what it had not answered is then asked again. It dies with us. */
typedef struct exec_child exec_child_t;

typedef struct exec_setup {
    loop_t *loop;
    const char *command;      /* for sh -c */
    int64_t timeout;          /* ns without an answer while one is awaited: then it is ended, and the oldest question counts as failed */
    unsigned in_flight;       /* questions that are written and not answered, at most */
    /* Question number `index` of those that are open (0: the oldest) as a line with its end, appended. False: there are not so many. */
    bool (*question)(void *argument, uint64_t index, buf_t *line);
    /* The next `count` questions are closed: packed, a string for each, its answer's line; or an array with the reason why there is none. May
     * call exec_child_look. -1: not taken; nothing more will be asked. */
    int (*answers)(void *argument, text_t packed, unsigned count, err_t *err);
    void (*silence)(void *argument);      /* for the timeout nothing was answered, by a program that runs or while it was told to be crowded */
    void (*trouble)(void *argument, const char *text);
    void *argument;
} exec_setup_t;

exec_child_t *exec_child_new(const exec_setup_t *setup);
void exec_child_free(exec_child_t *child);            /* gives the program a second to end by itself; NULL is legal */
void exec_child_look(exec_child_t *child);            /* there are new questions */
/* No new ones will come. From now on all open ones fail when none is answered for the timeout, of a program that runs for three times that: so
 * also one that does not answer comes to an end. */
void exec_child_ending(exec_child_t *child);
void exec_child_crowded(exec_child_t *child, bool crowded);  /* so many are open that no new ones are taken, or are again */
void exec_child_closed(exec_child_t *child);          /* one of those that `answers` told of is off the list of open ones */

#endif
