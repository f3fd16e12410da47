/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of one session share: session.c (life, requests), session_login.c, session_tls.c,
 * session_frames.c (frames to messages). */
#pragma once

#include "rpc/session.h"

/* A message whose frames are still coming. */
struct content {
    enum { CONTENT_NONE, CONTENT_HEADER, CONTENT_BODY } state;
    bool is_return;
    struct session_message message;
    uint64_t left;
};

struct channel {
    bool open;
    struct content content;
};

struct tls_check; /* session_tls.c */

struct session {
    amqp_connection_state_t amqp;
    const struct rabbit_options *options;
    const struct transport_host *host;
    const struct session_handler *handler;
    void *aux;
    struct channel channels[SESSION_CHANNEL_MAX + 1]; /* by number; 0 is the connection's own */
    struct tls_check *tls;
    char broker[300];
    int code;
    int heartbeat_s;
    int64_t heard_us, sent_us;
    bool dead, is_polite; /* is_polite: the broker closed and was answered */
};

/* Connects with TLS; the broker's certificate is checked by our own parameters. */
int session_tls_connect(struct session *s, const struct timeval *timeout, struct err *e);
void session_tls_free(struct tls_check *check);
/* What OpenSSL said last on this thread. */
const char *session_tls_reason(void);

/* After the socket is connected: protocol header to connection.open-ok. */
int session_login(struct session *s, const char *vhost, const char *name, struct err *e);

/* One frame that is not the answer waited for. -1: the session is over. */
int session_dispatch(struct session *s, const amqp_frame_t *frame, struct err *e);
void session_content_clear(struct content *content);

/* The next frame, waiting until deadline_us. 1 = a frame, 0 = none in time, -1 = dead. */
int session_next_frame(struct session *s, amqp_frame_t *frame, int64_t deadline_us, struct err *e);
enum session_end session_call(struct session *s, uint16_t channel, amqp_method_number_t method,
                              void *decoded, amqp_method_number_t answer, struct err *e);
enum session_end session_send(struct session *s, uint16_t channel, amqp_method_number_t method,
                              void *decoded, struct err *e);
/* Marks the session as over and says why; the broker is named. Returns -1. */
int session_dies(struct session *s, enum err_code code, struct err *e, const char *format, ...)
    _printf_(4, 5);
/* connection.close or channel.close: its words, cut and escaped. */
void session_words(amqp_bytes_t text, char out[SESSION_TEXT_MAX]);
