/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One AMQP 0-9-1 session with one broker, over librabbitmq: connecting (TCP or TLS), logging in, channels,
 * requests with an answer, frames put together to messages, heartbeats. It ends with the first error; who
 * uses it makes another one (rpc/connection.h).
 *
 * A session belongs to one thread. Every function is bounded in time (name look-ups by the resolver) and
 * nothing that a broker sends can make it read more than JSON_SIZE_MAX for a message.
 *
 * Theory: librabbitmq hides frames in its own buffers and sends heartbeats only from inside its calls.
 * So all reading goes through session_read(), which runs until the library has nothing left, and
 * session_tick() sends heartbeats on its own clock and knows when the broker has been silent for too long.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <amqp.h>
#include <amqp_framing.h>

#include "lib/err.h"
#include "rpc/rabbit_options.h"
#include "rpc/topology.h"
#include "rpc/transport_url.h"

enum {
    SESSION_CHANNEL_MAX = 16,
    SESSION_FRAME_MAX =
        65536, /* bodies are some ten KiB; each channel pools buffers of this size */
    SESSION_CONNECT_TIMEOUT_S = 10,
    SESSION_CALL_TIMEOUT_S = 30, /* declaring a quorum queue in a large cluster takes seconds */
    SESSION_TEXT_MAX = 256,      /* of what a broker says, in errors */
};

struct session;

/* A message of basic.deliver or basic.return. `body` is taken by the handler; NULL when it was refused. */
struct session_message {
    uint64_t delivery_tag;
    bool redelivered;
    bool has_offset;
    int64_t stream_offset; /* header x-stream-offset */
    char routing_key[256]; /* of a returned message */
    const char *refused;   /* why there is no body: too large, compressed; static */
    char *body;
    size_t length;
};

/* What happens on a session; called inside session_call() and session_read(). */
struct session_handler {
    void (*deliver)(void *aux, uint16_t channel, struct session_message *message);
    void (*returned)(void *aux, uint16_t channel, struct session_message *message);
    void (*confirm)(void *aux, uint16_t channel, uint64_t tag, bool multiple, bool ack);
    /* The broker closed a channel (404, 406, ...) or cancelled its consumer (code 0, it stays open). */
    void (*channel_lost)(void *aux, uint16_t channel, int code, const char *text);
    void (*blocked)(void *aux, bool blocked, const char *reason);
};

/* How a request ended. */
enum session_end {
    SESSION_OK = 0,
    SESSION_REFUSED =
        1, /* the broker closed the channel: e has its words, session_code() the number */
    SESSION_DEAD = -1, /* the whole session is over */
};

/*
 * Connects to one broker and logs in. `name` is shown by the broker's management. ERR_UNREACHABLE,
 * or ERR_DENIED for refused credentials, or ERR_CONFIG for files that cannot be read.
 */
int session_open(struct session **out, const struct rabbit_options *options,
                 const struct transport_host *host, const char *vhost, const char *name,
                 const struct session_handler *handler, void *aux, struct err *e);
void session_close(struct session *session); /* tells the broker, then frees; waits at most 1 s */
void session_free(struct session *session);  /* at once */
DEFINE_CLEANUP(struct session *, session_free)

int session_fd(const struct session *session);
int session_code(
    const struct session *session); /* AMQP reply code of the last refusal, 0 if none */
const char *session_broker(const struct session *session); /* "host:port" */

/* Reads what is there: at most `budget` frames. Sets *more when frames are left. */
int session_read(struct session *session, unsigned budget, bool *more, struct err *e);
/* True if the library holds bytes or frames that poll() does not see. */
bool session_pending(struct session *session);
/* Heartbeats: sends one when due, ends the session when the broker was silent. *next_us: call again then. */
int session_tick(struct session *session, int64_t now_us, int64_t *next_us, struct err *e);
/* The socket was readable, or reading was paused on purpose: the broker is not to blame. */
void session_heard(struct session *session, int64_t now_us);

/* Requests that wait for their answer. */
enum session_end session_channel_open(struct session *session, uint16_t channel, struct err *e);
enum session_end session_confirm_select(struct session *session, uint16_t channel, struct err *e);
enum session_end session_qos(struct session *session, uint16_t channel, uint16_t prefetch,
                             struct err *e);
enum session_end session_declare_exchange(struct session *session, uint16_t channel,
                                          const struct topology_exchange *exchange, struct err *e);
enum session_end session_declare_queue(struct session *session, uint16_t channel,
                                       const struct topology_queue *queue, struct err *e);
enum session_end session_bind(struct session *session, uint16_t channel,
                              const struct topology_queue *queue, struct err *e);
/* stream_offset < 0: "last". Ignored for queues that are no streams. */
enum session_end session_consume(struct session *session, uint16_t channel,
                                 const struct topology_queue *queue, int64_t stream_offset,
                                 struct err *e);
enum session_end session_cancel(struct session *session, uint16_t channel, struct err *e);
enum session_end session_delete_queue(struct session *session, uint16_t channel, const char *queue,
                                      struct err *e);

/* Without an answer. SESSION_OK or SESSION_DEAD. */
enum session_end session_ack(struct session *session, uint16_t channel, uint64_t tag,
                             struct err *e);
enum session_end session_requeue(struct session *session, uint16_t channel, uint64_t tag,
                                 struct err *e);
/* Properties are oslo.messaging's (contract 1.4). expiration_ms 0 = none. */
enum session_end session_publish(struct session *session, uint16_t channel, const char *exchange,
                                 const char *routing_key, bool mandatory, int64_t expiration_ms,
                                 const char *body, size_t length, struct err *e);
