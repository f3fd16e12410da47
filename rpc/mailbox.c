/* SPDX-License-Identifier: Apache-2.0 */
#include "rpc/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "lib/text.h"

struct mailbox {
    pthread_mutex_t lock; /* of everything below but fd */
    struct letter *first, **end;
    size_t length;
    unsigned references;
    bool closed;
    int fd;
};

int mailbox_new(struct mailbox **out, struct err *e)
{
    struct mailbox *m;
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    if (fd < 0)
        return err_set_errno(e, ERR_SYSTEM, errno, "cannot make an eventfd");
    m = NEW(struct mailbox);
    pthread_mutex_init(&m->lock, NULL);
    m->end = &m->first;
    m->references = 1;
    m->fd = fd;
    *out = m;
    return 0;
}

struct mailbox *mailbox_ref(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->references++;
    pthread_mutex_unlock(&mailbox->lock);
    return mailbox;
}

static void drop_all(struct letter *letter)
{
    while (letter) {
        struct letter *next = letter->next;

        letter->drop(letter);
        letter = next;
    }
}

void mailbox_unref(struct mailbox *mailbox)
{
    bool last;

    if (!mailbox)
        return;
    pthread_mutex_lock(&mailbox->lock);
    last = --mailbox->references == 0;
    pthread_mutex_unlock(&mailbox->lock);
    if (!last)
        return;
    drop_all(mailbox->first);
    (void)close(mailbox->fd);
    pthread_mutex_destroy(&mailbox->lock);
    free(mailbox);
}

void mailbox_wake(struct mailbox *mailbox)
{
    (void)eventfd_write(mailbox->fd, 1);
}

void mailbox_post(struct mailbox *mailbox, struct letter *letter)
{
    bool was_empty = false, closed;

    letter->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    closed = mailbox->closed;
    if (!closed) {
        was_empty = mailbox->length++ == 0;
        *mailbox->end = letter;
        mailbox->end = &letter->next;
    }
    pthread_mutex_unlock(&mailbox->lock);
    if (closed)
        letter->drop(letter);
    else if (was_empty)
        mailbox_wake(mailbox);
}

size_t mailbox_length(struct mailbox *mailbox)
{
    size_t length;

    pthread_mutex_lock(&mailbox->lock);
    length = mailbox->length;
    pthread_mutex_unlock(&mailbox->lock);
    return length;
}

void mailbox_close(struct mailbox *mailbox)
{
    pthread_mutex_lock(&mailbox->lock);
    mailbox->closed = true;
    pthread_mutex_unlock(&mailbox->lock);
    drop_all(mailbox_take(mailbox));
}

int mailbox_fd(const struct mailbox *mailbox)
{
    return mailbox->fd;
}

struct letter *mailbox_take(struct mailbox *mailbox)
{
    struct letter *first;
    eventfd_t count;

    /* Quiet first: a letter posted from here on wakes again. */
    (void)eventfd_read(mailbox->fd, &count);
    pthread_mutex_lock(&mailbox->lock);
    first = mailbox->first;
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    mailbox->length = 0;
    pthread_mutex_unlock(&mailbox->lock);
    return first;
}
