#ifndef PROCESS_OPTIONS_H
#define PROCESS_OPTIONS_H

#include "program.h"
#include "run/stage.h"

/* For a stage with --state, in start: are the options that the output follows from those under which what is to be taken again was taken? They are
 * noted in the state directory; where nothing is to be taken again they may have changed, and are noted anew. */
int options_check(const stage_t *stage, const program_setup_t *setup, err_t *err);

#endif
