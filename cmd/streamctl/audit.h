#ifndef STREAMCTL_AUDIT_H
#define STREAMCTL_AUDIT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* The ledger of a whole pipeline. At every stage  in + created = out + filtered + late + dead + dropped + held,  and between stages what was
 * sent has been received or is under way. While numbers move no reading of many processes is consistent, so several are taken, and
 * what one of them proves counts. */
typedef struct audit audit_t;

audit_t *audit_new(void);
void audit_free(audit_t *audit);                      /* NULL is legal */

/* One more reading: of the stages that a supervisor's status lists, each from its metrics file. Other stages than before: it begins anew. */
void audit_read(audit_t *audit, const json_t *status);

/* The last reading as JSON, and back: what a pipeline leaves when it stops. */
json_t *audit_save(const audit_t *audit);
bool audit_load(audit_t *audit, const json_t *saved);

/* Of a stage that does not run: its directory is compared with the last reading. What contradicts it is wrong. False: it has counts there, and was not
 * in the reading at all. */
bool audit_check_disk(audit_t *audit, const char *stage, const char *directory);

typedef enum audit_verdict {
    AUDIT_BALANCED,
    AUDIT_MOVING,                     /* nothing is wrong; something is still under way */
    AUDIT_UNKNOWN,                    /* a stage without state was started anew, and its numbers began at 0; or one was killed, and its last ones are missing */
    AUDIT_WRONG,
} audit_verdict_t;
extern const char *const audit_verdict_names[4];      /* balanced moving unknown wrong */

/* The worst of all. *report (may be NULL): {"verdict","readings","stages":[{"name","tool","in",...,"difference","verdict","text"}],
 * "links":[{"from":[names],"to","sent","received","under_way","verdict","text"}]}, the reference is the caller's. */
audit_verdict_t audit_conclude(const audit_t *audit, json_t **report);

#endif
