/*
 * A brain and a vault for tests of the module: real gRPC on two unix sockets,
 * agents, sessions and events in memory, keys that are known by name. Every
 * call is one JSON line on stdout, so that a test sees what ingress sent.
 *
 *   fake_brain FOLDER     listens on FOLDER/brain.sock and FOLDER/vault.sock
 *
 * Ids that behave on purpose: agent_status_<kind name> fails, agent_slow never
 * answers, agent_big answers with 1 MB; sessions sesn_silent, sesn_flood,
 * sesn_broken (fails after one event), sesn_dies (kills this process after
 * one event), sesn_missing.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "agent_rpc.h"
#include "brain.pb-c.h"
#include "lib/clock.h"
#include "lib/id.h"
#include "lib/json.h"
#include "lib/log.h"
#include "lib/rpc_server.h"
#include "lib/secret.h"
#include "vault.pb-c.h"

#define MAX_ITEMS 512

struct event {
    char id[AG_ID_TEXT];
    const char *session, *type;
    char *json;
};

struct follower {
    struct ag_rpc_call *call;
    const char *session;
    struct follower *next;
};

static struct ag_loop *loop;
static struct event events[MAX_ITEMS * 8];
static size_t n_events;
static Agent__Brain__V1__Agent *agents[MAX_ITEMS];
static size_t n_agents;
static Agent__Brain__V1__Session *sessions[MAX_ITEMS];
static size_t n_sessions;
static Agent__Brain__V1__Environment *environments[MAX_ITEMS];
static size_t n_environments;
static struct follower *followers;
static int n_resolved;

static void
show_call(struct ag_rpc_call *call, const char *method)
{
    AG_AUTO(ag_buf_release) struct ag_buf line = AG_BUF_INIT(65536);
    static const char *const names[] = {
        "x-brainbox-assertion",
        "x-request-id",
        "x-api-key",
        "authorization",
        "cookie",
        "user-agent",
        "x-custom",
        "grpc-timeout",
    };

    ag_buf_addf(&line, "{\"call\":\"%s\",\"bytes\":%zu", method,
                ag_rpc_call_bytes(call).n);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        ag_str_t v = ag_rpc_call_metadata(call, names[i]);
        if (v.p == NULL)
            continue;
        ag_buf_addf(&line, ",\"%s\":", names[i]);
        ag_buf_add_json(&line, v);
    }
    (void)printf("%s}\n", ag_buf_cstr(&line));
    (void)fflush(stdout);
}

static void
fail(struct ag_rpc_call *call, enum ag_err_kind kind, const char *what)
{
    struct ag_err err = AG_ERR_INIT;

    ag_err_set(&err, kind, "%s", what);
    ag_rpc_fail(call, &err);
}

static char *
now_text(void)
{
    char *text = ag_xmalloc(AG_TIME_TEXT);

    ag_time_format(ag_now_us(), text);
    return text;
}

static char *
new_id(const char *prefix)
{
    char *id = ag_xmalloc(AG_ID_TEXT);

    ag_id_new(prefix, id);
    return id;
}

static char *
copy(const char *s)
{
    return ag_str_dup(ag_str(s));
}

static ProtobufCBinaryData
copy_bytes(ProtobufCBinaryData b)
{
    ProtobufCBinaryData out = {b.len, ag_xmalloc(b.len + 1)};

    if (b.len > 0)
        memcpy(out.data, b.data, b.len);
    return out;
}

static ProtobufCBinaryData
text_bytes(const char *s)
{
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)copy(s)};
}

/* ---- vault ------------------------------------------------------------ */

static struct {
    const char *key, *subject;
    const char *scopes[3];
} keys[] = {
    {"key-good", "key_good", {"read", "write", NULL}},
    {"key-read", "key_read", {"read", NULL, NULL}},
    {"key-admin", "key_admin", {"read", "write", "admin"}},
    {"key-passing", "key_passing", {"read", "write", NULL}},
};

static void
on_resolve(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Vault__V1__ResolveRequest *rq = (const void *)m;
    Agent__Vault__V1__ResolveResponse out =
        AGENT__VAULT__V1__RESOLVE_RESPONSE__INIT;
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(1024);

    (void)arg;
    show_call(call, "Resolve");
    n_resolved++;
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(keys[i].key, rq->api_key) != 0)
            continue;
        ag_buf_addf(&text, "fake.%s.%d.", keys[i].subject, n_resolved);
        ag_buf_add_hex(
            &text, ag_str_n(rq->request_sha256.data, rq->request_sha256.len));
        out.tenant = (char *)"default";
        out.subject = (char *)keys[i].subject;
        out.scopes = (char **)keys[i].scopes;
        while (out.n_scopes < 3 && keys[i].scopes[out.n_scopes] != NULL)
            out.n_scopes++;
        out.assertion = (char *)ag_buf_cstr(&text);
        out.expires_us = ag_now_us() + 300000000;
        ag_rpc_reply(call, &out.base);
        return;
    }
    fail(call, AG_ERR_UNAUTHENTICATED, "unknown key");
}

static void
on_revoke_key(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Vault__V1__RevokeKeyRequest *rq = (const void *)m;
    Agent__Vault__V1__Key out = AGENT__VAULT__V1__KEY__INIT;

    (void)arg;
    show_call(call, "RevokeKey");
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(keys[i].subject, rq->key_id) == 0)
            keys[i].key = "";
    out.id = rq->key_id;
    ag_rpc_reply(call, &out.base);
}

/* The hash in the assertion must be that of the message as it came. */
static bool
is_bound(struct ag_rpc_call *call)
{
    AG_AUTO(ag_buf_release) struct ag_buf want = AG_BUF_INIT(65);
    unsigned char digest[32];

    ag_sha256(ag_rpc_call_bytes(call), digest);
    ag_buf_add_hex(&want, ag_str_n(digest, 32));
    return ag_str_ends(ag_rpc_call_metadata(call, "x-brainbox-assertion"),
                       ag_buf_str(&want));
}

/* ---- agents and environments ------------------------------------------ */

static void
on_create_agent(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Brain__V1__CreateAgentRequest *rq = (const void *)m;
    Agent__Brain__V1__Agent *a = ag_xcalloc(1, sizeof(*a));

    (void)arg;
    show_call(call, "CreateAgent");
    agent__brain__v1__agent__init(a);
    a->id = new_id("agent");
    a->type = copy("agent");
    a->name = copy(rq->name);
    if (rq->_description_case != 0) {
        a->_description_case =
            AGENT__BRAIN__V1__AGENT___DESCRIPTION_DESCRIPTION;
        a->description = copy(rq->description);
    }
    a->model_json = copy_bytes(rq->model_json);
    a->tools_json = copy_bytes(rq->tools_json);
    a->metadata_json = copy_bytes(rq->metadata_json);
    a->harness = copy(*rq->harness ? rq->harness : "native");
    a->version = 1;
    a->max_steps = rq->max_steps;
    a->created_at = now_text();
    a->updated_at = now_text();
    if (n_agents < MAX_ITEMS)
        agents[n_agents++] = a;
    ag_rpc_reply(call, &a->base);
}

static void
fail_by_name(struct ag_rpc_call *call, const char *name)
{
    for (int k = AG_ERR_INVALID; k <= AG_ERR_INTERNAL; k++)
        if (strcmp(ag_err_kind_name((enum ag_err_kind)k), name) == 0)
            return fail(call, (enum ag_err_kind)k,
                        "on purpose: 100 % \xc3\xa9");
    fail(call, AG_ERR_INTERNAL, "no such kind");
}

static void
reply_big(struct ag_rpc_call *call)
{
    Agent__Brain__V1__Agent a = AGENT__BRAIN__V1__AGENT__INIT;
    AG_AUTO(ag_freep) char *name = ag_xmalloc(1000001);

    memset(name, 'x', 1000000);
    name[1000000] = '\0';
    a.name = name;
    ag_rpc_reply(call, &a.base);
}

static void
never(struct ag_rpc_call *call, void *arg)
{
    (void)arg;
    fail(call, AG_ERR_CANCELLED, "cancelled");
}

static void
on_get_agent(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Brain__V1__GetAgentRequest *rq = (const void *)m;
    const char *id = rq->agent_id;

    (void)arg;
    show_call(call, "GetAgent");
    for (size_t i = 0; i < n_agents; i++)
        if (strcmp(agents[i]->id, id) == 0)
            return ag_rpc_reply(call, &agents[i]->base);
    if (strncmp(id, "agent_status_", 13) == 0)
        return fail_by_name(call, id + 13);
    if (strcmp(id, "agent_big") == 0)
        return reply_big(call);
    if (strcmp(id, "agent_slow") == 0)
        return ag_rpc_call_on_cancel(call, never, NULL);
    fail(call, AG_ERR_NOT_FOUND, "agent_id: no agent with this id");
}

static void
on_list_agents(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    Agent__Brain__V1__ListAgentsResponse out =
        AGENT__BRAIN__V1__LIST_AGENTS_RESPONSE__INIT;
    const Agent__Brain__V1__ListAgentsRequest *rq = (const void *)m;

    (void)arg;
    show_call(call, "ListAgents");
    out.n_data = n_agents;
    if (rq->limit > 0 && (size_t)rq->limit < n_agents) {
        out.n_data = (size_t)rq->limit;
        out._next_page_case = 2;
        out.next_page = (char *)"more";
    }
    out.data = agents;
    ag_rpc_reply(call, &out.base);
}

static void
on_create_environment(struct ag_rpc_call *call, const ProtobufCMessage *m,
                      void *arg)
{
    const Agent__Brain__V1__CreateEnvironmentRequest *rq = (const void *)m;
    Agent__Brain__V1__Environment *e = ag_xcalloc(1, sizeof(*e));

    (void)arg;
    show_call(call, "CreateEnvironment");
    agent__brain__v1__environment__init(e);
    e->id = new_id("env");
    e->type = copy("environment");
    e->name = copy(rq->name);
    e->config_json = copy_bytes(rq->config_json);
    e->created_at = now_text();
    e->updated_at = now_text();
    e->version = 1;
    if (n_environments < MAX_ITEMS)
        environments[n_environments++] = e;
    if (!is_bound(call))
        return fail(call, AG_ERR_DENIED, "the assertion is of another request");
    ag_rpc_reply(call, &e->base);
}

static void
on_list_environments(struct ag_rpc_call *call, const ProtobufCMessage *m,
                     void *arg)
{
    Agent__Brain__V1__ListEnvironmentsResponse out =
        AGENT__BRAIN__V1__LIST_ENVIRONMENTS_RESPONSE__INIT;

    (void)m;
    (void)arg;
    show_call(call, "ListEnvironments");
    out.n_data = n_environments;
    out.data = environments;
    ag_rpc_reply(call, &out.base);
}

/* ---- sessions --------------------------------------------------------- */

static Agent__Brain__V1__Session *
find_session(const char *id)
{
    for (size_t i = 0; i < n_sessions; i++)
        if (strcmp(sessions[i]->id, id) == 0)
            return sessions[i];
    return NULL;
}

static void
on_create_session(struct ag_rpc_call *call, const ProtobufCMessage *m,
                  void *arg)
{
    const Agent__Brain__V1__CreateSessionRequest *rq = (const void *)m;
    Agent__Brain__V1__Session *s;

    (void)arg;
    show_call(call, "CreateSession");
    if (!is_bound(call))
        return fail(call, AG_ERR_DENIED, "the assertion is of another request");
    if (*rq->environment_id == '\0')
        return fail(call, AG_ERR_INVALID, "environment_id: is required");
    s = ag_xcalloc(1, sizeof(*s));
    agent__brain__v1__session__init(s);
    s->id = new_id("sesn");
    s->type = copy("session");
    s->agent_json = copy_bytes(rq->agent_json);
    s->environment_id = copy(rq->environment_id);
    s->_title_case = (int)rq->_title_case == 3 ? 5 : 0;
    if (s->_title_case)
        s->title = copy(rq->title);
    s->metadata_json = text_bytes("{}");
    s->status = copy("idle");
    s->created_at = now_text();
    s->updated_at = now_text();
    if (n_sessions < MAX_ITEMS)
        sessions[n_sessions++] = s;
    ag_rpc_reply(call, &s->base);
}

static void
on_get_session(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Brain__V1__GetSessionRequest *rq = (const void *)m;
    Agent__Brain__V1__Session *s = find_session(rq->session_id);

    (void)arg;
    show_call(call, "GetSession");
    if (s == NULL)
        return fail(call, AG_ERR_NOT_FOUND, "session_id: no such session");
    ag_rpc_reply(call, &s->base);
}

static void
on_list_sessions(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    Agent__Brain__V1__ListSessionsResponse out =
        AGENT__BRAIN__V1__LIST_SESSIONS_RESPONSE__INIT;
    Agent__Brain__V1__Session *newest[MAX_ITEMS];

    (void)m;
    (void)arg;
    show_call(call, "ListSessions");
    for (size_t i = 0; i < n_sessions; i++)
        newest[i] = sessions[n_sessions - 1 - i];
    out.n_data = n_sessions;
    out.data = newest;
    ag_rpc_reply(call, &out.base);
}

static void
on_delete_session(struct ag_rpc_call *call, const ProtobufCMessage *m,
                  void *arg)
{
    const Agent__Brain__V1__DeleteSessionRequest *rq = (const void *)m;
    Agent__Brain__V1__Deleted out = AGENT__BRAIN__V1__DELETED__INIT;

    (void)arg;
    show_call(call, "DeleteSession");
    out.id = rq->session_id;
    out.type = (char *)"session_deleted";
    ag_rpc_reply(call, &out.base);
}

/* ---- events ----------------------------------------------------------- */

static size_t
send_event(struct ag_rpc_call *call, const char *id, const char *type,
           const char *json)
{
    Agent__Brain__V1__StreamEventsResponse m =
        AGENT__BRAIN__V1__STREAM_EVENTS_RESPONSE__INIT;

    m.event_id = (char *)id;
    m.event_type = (char *)type;
    m.data_json.data = (uint8_t *)json;
    m.data_json.len = strlen(json);
    return ag_rpc_send(call, &m.base);
}

/* Store an event and tell those who follow the session. */
static struct event *
add_event(const char *session, const char *type, json_t *body)
{
    AG_AUTO(ag_buf_release) struct ag_buf text = AG_BUF_INIT(4 << 20);
    struct event *e = &events[n_events];
    struct ag_err err = AG_ERR_INIT;
    AG_AUTO(ag_freep) char *when = now_text();

    ag_assert(n_events < sizeof(events) / sizeof(events[0]));
    ag_id_new("sevt", e->id);
    e->session = copy(session);
    e->type = copy(type);
    (void)json_object_set_new(body, "id", json_string(e->id));
    (void)json_object_set_new(body, "type", json_string(type));
    (void)json_object_set_new(body, "processed_at", json_string(when));
    ag_assert(ag_json_dump(body, &text, &err) == 0);
    json_decref(body);
    e->json = copy(ag_buf_cstr(&text));
    n_events++;
    for (struct follower *f = followers; f != NULL; f = f->next)
        if (strcmp(f->session, session) == 0)
            (void)send_event(f->call, e->id, type, e->json);
    return e;
}

/* What an agent would say: the text comes back. One that sleeps waits. */
static void
act(const char *session, const json_t *message)
{
    const json_t *content = json_object_get(message, "content");
    AG_AUTO(ag_buf_release) struct ag_buf said = AG_BUF_INIT(4 << 20);
    ag_str_t text =
        ag_json_str(json_object_get(json_array_get(content, 0), "text"));

    add_event(session, "session.status_running", json_object());
    if (text.n > 0 && memmem(text.p, text.n, "sleep", 5) != NULL)
        return; /* until it is interrupted */
    ag_buf_add(&said, AG_STR("You said: "));
    ag_buf_add(&said, text);
    add_event(session, "agent.message",
              json_pack("{s:[{s:s,s:o}]}", "content", "type", "text", "text",
                        ag_json_from_str(ag_buf_str(&said))));
    add_event(session, "session.status_idle",
              json_pack("{s:{s:s}}", "stop_reason", "type", "end_turn"));
}

static void
on_send_events(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Brain__V1__SendEventsRequest *rq = (const void *)m;
    Agent__Brain__V1__SendEventsResponse out =
        AGENT__BRAIN__V1__SEND_EVENTS_RESPONSE__INIT;
    ProtobufCBinaryData data[32];
    struct ag_err err = AG_ERR_INIT;

    (void)arg;
    show_call(call, "SendEvents");
    if (rq->n_events_json == 0 || rq->n_events_json > 32)
        return fail(call, AG_ERR_INVALID, "events: 1..32 are needed");
    out.data_json = data;
    for (size_t i = 0; i < rq->n_events_json; i++) {
        ag_str_t text =
            ag_str_n(rq->events_json[i].data, rq->events_json[i].len);
        json_t *j = ag_json_parse(text, &err);
        const char *type = json_string_value(json_object_get(j, "type"));
        if (type == NULL) {
            json_decref(j);
            return fail(call, AG_ERR_INVALID, "events[0].type: is required");
        }
        type = copy(type); /* add_event sets it anew */
        json_incref(j);
        struct event *e = add_event(rq->session_id, type, j);
        data[out.n_data_json++] =
            (ProtobufCBinaryData){strlen(e->json), (uint8_t *)e->json};
        if (strcmp(type, "user.message") == 0)
            act(rq->session_id, j);
        if (strcmp(type, "user.interrupt") == 0)
            add_event(
                rq->session_id, "session.status_idle",
                json_pack("{s:{s:s}}", "stop_reason", "type", "end_turn"));
        json_decref(j);
    }
    ag_rpc_reply(call, &out.base);
}

static void
on_list_events(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Brain__V1__ListEventsRequest *rq = (const void *)m;
    Agent__Brain__V1__ListEventsResponse out =
        AGENT__BRAIN__V1__LIST_EVENTS_RESPONSE__INIT;
    ProtobufCBinaryData *data =
        ag_arena_alloc(ag_rpc_call_arena(call), (n_events + 1) * sizeof(*data));

    (void)arg;
    show_call(call, "ListEvents");
    out.data_json = data;
    for (size_t i = 0; i < n_events; i++) {
        bool wanted = rq->n_types == 0;
        if (strcmp(events[i].session, rq->session_id) != 0)
            continue;
        for (size_t k = 0; k < rq->n_types; k++)
            wanted = wanted || strcmp(rq->types[k], events[i].type) == 0;
        if (wanted)
            data[out.n_data_json++] = (ProtobufCBinaryData){
                strlen(events[i].json), (uint8_t *)events[i].json};
    }
    ag_rpc_reply(call, &out.base);
}

static void
unfollow(struct ag_rpc_call *call, void *arg)
{
    struct follower *f = arg;

    for (struct follower **at = &followers; *at != NULL; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            break;
        }
    free(f);
    (void)puts("{\"follower_gone\":true}");
    (void)fflush(stdout);
    fail(call, AG_ERR_CANCELLED, "the caller is gone");
}

/* Sends as fast as the reader takes it; shows how much ever waited. */
static void
flood(struct ag_rpc_call *call, void *arg)
{
    static char json[4096];
    static size_t sent;
    size_t waiting = 0;

    (void)arg;
    if (ag_rpc_call_is_cancelled(call))
        return;
    memset(json, 'a', sizeof(json) - 1);
    json[0] = '"';
    json[sizeof(json) - 2] = '"';
    ag_rpc_call_on_drain(call, flood, NULL);
    while (waiting < 65536) {
        waiting = send_event(call, "", "flood", json);
        sent += sizeof(json);
    }
    (void)printf("{\"flood_sent\":%zu}\n", sent);
    (void)fflush(stdout);
}

static void
flood_ends(struct ag_rpc_call *call, void *arg)
{
    ag_rpc_call_on_drain(call, NULL, NULL);
    never(call, arg);
}

static bool
stream_on_purpose(struct ag_rpc_call *call, const char *id)
{
    struct ag_err err = AG_ERR_INIT;

    if (strcmp(id, "sesn_missing") == 0) {
        fail(call, AG_ERR_NOT_FOUND, "session_id: no such session");
    } else if (strcmp(id, "sesn_silent") == 0) {
        ag_rpc_call_on_cancel(call, never, NULL);
        (void)send_event(call, "", "hello", "{\"type\":\"hello\"}");
    } else if (strcmp(id, "sesn_broken") == 0) {
        (void)send_event(call, "sevt_1", "agent.message", "{\"n\":\n1}");
        ag_err_set(&err, AG_ERR_UNAVAILABLE, "the brain is going down");
        ag_rpc_fail(call, &err);
    } else if (strcmp(id, "sesn_dies") == 0) {
        (void)alarm(1);
        ag_rpc_call_on_cancel(call, never, NULL);
        (void)send_event(call, "sevt_1", "agent.message", "{\"n\":1}");
    } else if (strcmp(id, "sesn_flood") == 0) {
        ag_rpc_call_on_cancel(call, flood_ends, NULL);
        flood(call, NULL);
    } else if (strcmp(id, "sesn_ends") == 0) {
        (void)send_event(call, "sevt_1", "agent.message", "{\"n\":1}");
        ag_rpc_end(call);
    } else {
        return false;
    }
    return true;
}

static void
on_stream_events(struct ag_rpc_call *call, const ProtobufCMessage *m, void *arg)
{
    const Agent__Brain__V1__StreamEventsRequest *rq = (const void *)m;
    struct follower *f;
    bool is_behind = rq->from_start;

    (void)arg;
    show_call(call, "StreamEvents");
    if (stream_on_purpose(call, rq->session_id))
        return;
    f = ag_xcalloc(1, sizeof(*f));
    f->call = call;
    f->session = rq->session_id;
    f->next = followers;
    followers = f;
    ag_rpc_call_on_cancel(call, unfollow, f);
    (void)send_event(call, "", "ping", "{\"type\":\"ping\"}");
    for (size_t i = 0; i < n_events; i++) {
        if (strcmp(events[i].session, rq->session_id) != 0)
            continue;
        if (is_behind)
            (void)send_event(call, events[i].id, events[i].type,
                             events[i].json);
        if (strcmp(events[i].id, rq->last_event_id) == 0)
            is_behind = true;
    }
}

/* ---- start ------------------------------------------------------------ */

#define BRAIN(service, method, fn)                                             \
    ag_rpc_server_add(brain,                                                   \
                      &agent__brain__v1__##service##_service__##method##__rpc, \
                      fn, NULL)

static void
add_brain(struct ag_rpc_server *brain)
{
    BRAIN(agent, create_agent, on_create_agent);
    BRAIN(agent, get_agent, on_get_agent);
    BRAIN(agent, list_agents, on_list_agents);
    BRAIN(environment, create_environment, on_create_environment);
    BRAIN(environment, list_environments, on_list_environments);
    BRAIN(session, create_session, on_create_session);
    BRAIN(session, get_session, on_get_session);
    BRAIN(session, list_sessions, on_list_sessions);
    BRAIN(session, delete_session, on_delete_session);
    BRAIN(event, send_events, on_send_events);
    BRAIN(event, list_events, on_list_events);
    BRAIN(event, stream_events, on_stream_events);
}

static void
listen_on(struct ag_rpc_server *srv, const char *folder, const char *name)
{
    struct ag_err err = AG_ERR_INIT;
    char path[108];

    (void)snprintf(path, sizeof(path), "%s/%s.sock", folder, name);
    if (ag_rpc_server_listen_unix(srv, path, &err) < 0
        || ag_rpc_server_start(srv, &err) < 0) {
        (void)fprintf(stderr, "fake_brain: %s\n", err.msg);
        exit(1);
    }
}

static void
stop(void *arg)
{
    (void)arg;
    _exit(0);
}

int
main(int argc, char **argv)
{
    struct ag_err err = AG_ERR_INIT;
    struct ag_rpc *rpc;
    struct ag_rpc_server *brain, *vault;

    if (argc != 2) {
        (void)fprintf(stderr, "usage: fake_brain FOLDER\n");
        return 2;
    }
    loop = ag_loop_new(&err);
    if (loop == NULL || ag_loop_on_term(loop, stop, NULL, &err) < 0)
        return 1;
    rpc = ag_rpc_new(loop, &err);
    if (rpc == NULL)
        return 1;
    brain = ag_rpc_server_new(rpc, "fake-brain");
    vault = ag_rpc_server_new(rpc, "fake-vault");
    add_brain(brain);
    ag_rpc_server_add(vault, &agent__vault__v1__identity_service__resolve__rpc,
                      on_resolve, NULL);
    ag_rpc_server_add(vault, &agent__vault__v1__key_service__revoke_key__rpc,
                      on_revoke_key, NULL);
    listen_on(brain, argv[1], "brain");
    listen_on(vault, argv[1], "vault");
    (void)printf("{\"ready\":true}\n");
    (void)fflush(stdout);
    ag_loop_run(loop);
    return 0;
}
