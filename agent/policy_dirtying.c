/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much the guest dirties in a given time: distinct bytes over seconds without throttle, as points that were
 * measured. At first each write hits another page, so that the amount is the rate times the time; later pages
 * that were written to are written to again, and it nears the size of the set that the guest works on:
 *
 *     1/bytes^2 = 1/(rate * seconds)^2 + 1/set^2
 *
 * lies between the two ways that are known to come about: a guest that writes page after page in its turn turns
 * sharply from the one to the other, one that writes anywhere in the set slowly. Between two points the law through
 * both is taken.
 *
 * No guest dirties less in a longer time, and none more than in proportion: what the newest point says of the
 * others in this way is believed. What points do not tell is cut in the middle, by ratio: a guest that did not slow
 * down up to the last point, which is at about a third of the first pass, may go on so or stop at once; one that did
 * not grow between the first two may have written its set once before the first, or any number of times.
 */
#include "agent/policy_internal.h"

#include <math.h>
#include <string.h>

#define NEAR  1.4 /* times that are nearer to one another are one point */
#define BLEND 0.5 /* of a new amount at a known time */
/* Times what the first point tells, at most: the rate before it. It grows with the time of that point, in which the
 * set may have been written any number of times. */
#define FASTEST       2.0
#define FASTEST_ALONE 4.0 /* where it is the only one */

/* The law with both terms as they stand there. */
struct law {
    double slope, floor;
};

static double inverse_square(double value)
{
    return 1.0 / (value * value);
}

/* `a` may be NULL: a guest that does not slow down. */
static struct law law_through(const struct policy_point *a, const struct policy_point *b)
{
    struct law law = {inverse_square(b->bytes / b->seconds), 0.0};

    if (a && a->seconds < b->seconds)
        law.slope = (inverse_square(a->bytes) - inverse_square(b->bytes)) /
                    (inverse_square(a->seconds) - inverse_square(b->seconds));
    law.slope = law.slope > 0.0 ? law.slope : 0.0;
    law.floor = inverse_square(b->bytes) - law.slope * inverse_square(b->seconds);
    law.floor = law.floor > 0.0 ? law.floor : 0.0;
    return law;
}

static double by_law(const struct law *law, double seconds)
{
    return 1.0 / sqrt(law->slope * inverse_square(seconds) + law->floor);
}

static double before_first(const struct policy_dirtying *d, double seconds,
                           const struct policy_unknown *unknown)
{
    const struct policy_point *p = d->points;
    double fastest = (d->count > 1 ? FASTEST : FASTEST_ALONE) * (1.0 + p->seconds);
    double most = pow(fastest, unknown->fast);

    if (d->count > 1) {
        struct law law = law_through(&p[0], &p[1]);
        return fmin(fmin(by_law(&law, seconds), most * p->bytes * seconds / p->seconds), p->bytes);
    }
    struct law law = {inverse_square(most * p->bytes / p->seconds),
                      (1.0 - inverse_square(most)) * inverse_square(p->bytes)};
    return by_law(&law, seconds);
}

static double beyond_last(const struct policy_dirtying *d, double seconds, double largest)
{
    const struct policy_point *last = &d->points[d->count - 1];
    struct law law = law_through(d->count > 1 ? last - 1 : NULL, last);
    double floor = inverse_square(largest * last->bytes);

    if (law.floor < floor) {
        law.floor = floor;
        law.slope = (inverse_square(last->bytes) - floor) / inverse_square(last->seconds);
    }
    return by_law(&law, seconds);
}

double policy_dirtied(const struct policy_dirtying *d, double seconds)
{
    static const struct policy_unknown middle = POLICY_UNKNOWN_MIDDLE;

    return policy_dirtied_as(d, seconds, &middle);
}

double policy_dirtied_as(const struct policy_dirtying *d, double seconds,
                         const struct policy_unknown *unknown)
{
    const struct policy_point *p = d->points;
    int last = d->count - 1, i = 0;

    if (last < 0 || seconds <= 0.0 || p[0].bytes <= 0.0)
        return 0.0;
    if (seconds <= p[0].seconds)
        return before_first(d, seconds, unknown);
    if (seconds >= p[last].seconds)
        return beyond_last(d, seconds, unknown->largest);
    while (seconds > p[i + 1].seconds)
        i++;
    struct law law = law_through(&p[i], &p[i + 1]);
    return by_law(&law, seconds);
}

/* ---- what is measured ---- */

static double within(double value, double least, double most)
{
    return value < least ? least : value > most ? most : value;
}

/* All others follow from point `k`. If it is 0, all are. */
static void obey(struct policy_dirtying *d, int k)
{
    const struct policy_point newest = d->points[k];

    for (int i = 0; i < d->count; i++) {
        double line = newest.bytes * d->points[i].seconds / newest.seconds;
        d->points[i].bytes = i < k ? within(d->points[i].bytes, line, newest.bytes)
                                   : within(d->points[i].bytes, newest.bytes, line);
    }
}

/* Where all places are taken the first goes: short times tell least of what takes long. */
static int insert(struct policy_dirtying *d, int at, struct policy_point point)
{
    const size_t size = sizeof(point);

    if (d->count == POLICY_POINTS) {
        memmove(&d->points[0], &d->points[1], (size_t)(--d->count) * size);
        at = at > 0 ? at - 1 : 0;
    }
    memmove(&d->points[at + 1], &d->points[at], (size_t)(d->count - at) * size);
    d->points[at] = point;
    d->count++;
    return at;
}

/* The point came later than it was: what is behind it, or beside it now, tells of the same time. */
static void drop_overtaken(struct policy_dirtying *d, int at)
{
    int next = at + 1;

    while (next < d->count && d->points[next].seconds <= d->points[at].seconds)
        next++;
    memmove(&d->points[at + 1], &d->points[next], (size_t)(d->count - next) * sizeof(*d->points));
    d->count -= next - (at + 1);
}

void policy_dirtying_take(struct policy_dirtying *d, double seconds, double bytes)
{
    int at = 0;

    if (seconds <= 0.0 || bytes < 0.0)
        return;
    while (at < d->count && d->points[at].seconds * NEAR < seconds)
        at++;
    if (at < d->count && d->points[at].seconds < seconds * NEAR) {
        bytes = policy_dirtied(d, seconds) * (1.0 - BLEND) + BLEND * bytes;
        d->points[at] = (struct policy_point){seconds, bytes};
        drop_overtaken(d, at);
    } else {
        at = insert(d, at, (struct policy_point){seconds, bytes});
    }
    obey(d, at);
}
