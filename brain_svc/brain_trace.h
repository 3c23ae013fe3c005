/*
 * Traces of turns, in OpenTelemetry's conventions for generative AI
 * (https://opentelemetry.io/docs/specs/semconv/gen-ai/): a span `invoke_agent`
 * for the turn, and in it a span `chat` for each model call and `execute_tool`
 * for each tool call. They follow from the log: a turn that two brains had has
 * one trace.
 *
 * Written as OTLP's JSON, an ExportTraceServiceRequest a line, to the file that
 * the option `trace_file` names (the OTLP file exporter's format; a collector's
 * `otlpjsonfile` receiver reads it). No text of a message, an argument or a
 * result is in it.
 */
#ifndef BRAIN_TRACE_H
#define BRAIN_TRACE_H

#include "brain_svc/brain.h"
#include "brain_svc/brain_log.h"

struct brain_trace_turn {
    ag_str_t tenant, session, instance, model;
    const struct brain_log *log;
    size_t start; /* index of the turn's first event */
};

/* The request, without a newline; never NULL. Pure. */
json_t *brain_trace_json(const struct brain_trace_turn *turn);

struct brain_trace;

/* NULL with `err` when the file cannot be opened. */
struct brain_trace *brain_trace_new(struct brain *brain, struct ag_err *err);
/* Waits for what is being written. NULL is a no-op. */
void brain_trace_free(struct brain_trace *trace);

/*
 * Write the turn, off the loop. At `trace_file_bytes` the file becomes FILE.1.
 * What cannot be written is counted and told in the log. NULL is a no-op.
 */
void
brain_trace_put(struct brain_trace *trace, const struct brain_trace_turn *turn);

#endif
