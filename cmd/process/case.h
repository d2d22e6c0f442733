#ifndef PROCESS_CASE_H
#define PROCESS_CASE_H

/* process --case=fd:N, for streamctl test: runs one program in memory over a script of inputs on a virtual clock, and writes what came of it
 * to standard output. Nothing outside is touched but what the program itself names.
 *
 * The script: {"program", "name", "idle" (ns), "others" (0..2), "batch_size", "batch_bytes", "inputs": N, "steps": [
 *   {"input": I, "stream": NAME, "events": [TEXT, ...]} | {"after": ns}, ...]}; each TEXT is an event as NDJSON has it. Steps come in order, then
 * the end. The clock stands at the greatest event time so far, and "after" moves it on, with the ticks that a stage would give.
 *
 * The answer: {"faults": [{"line","column","message","hint"}]} for a faulty program, {"step","event","reason"} for an event that cannot be read,
 * else {"streams": [{"name", "events": [TEXT]}] (the main one first), "dead": [TEXT of {"reason","place"?,"event"?}], "errors": N,
 * "reports": [TEXT]}. */
int case_main(int fd);                                /* the exit status: 0 with an answer */

#endif
