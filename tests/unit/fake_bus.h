/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bus for tests, linked in place of rpc/bus.c: what is published is kept for the test to look at and to
 * decide upon, deliveries are made by the test. Everything happens at once, on the test's thread.
 */
#pragma once

#include <json-c/json_object.h>

#include "rpc/bus.h"

enum { FAKE_BUS_MESSAGES = 2048 };

struct fake_message {
    char exchange[256], routing_key[256];
    struct json_object *inner; /* opened */
    size_t body_length;
    bool mandatory;
    int64_t expiration_ms, deadline_us;
    void (*done)(void *aux, enum bus_outcome outcome); /* NULL once told */
    void *aux;
};

/* The one bus of the program. */
struct fake_bus {
    struct fake_message sent[FAKE_BUS_MESSAGES];
    size_t sent_count;
    uint64_t acked[FAKE_BUS_MESSAGES]; /* tags */
    size_t acked_count;
    uint64_t epoch, next_tag;
    bool up, refuse; /* refuse: tell BUS_REFUSED from within bus_publish() */
    const char *stopped_topic;
};
extern struct fake_bus fake_bus;

/* Tells the outcome of the n-th published message. */
void fake_bus_tell(size_t index, enum bus_outcome outcome);
/* Delivers a raw body; gives its tag. */
uint64_t fake_bus_deliver_text(const char *body, size_t length, bool is_reply, bool redelivered);
/* Delivers an inner message in an envelope. */
uint64_t fake_bus_deliver(struct json_object *inner, bool is_reply, bool redelivered);
void fake_bus_state(bool up);
bool fake_bus_acked(uint64_t tag);
