/* SPDX-License-Identifier: Apache-2.0 */
/* CPU topology and model of a new guest: Nova's rules (hardware.get_best_cpu_topology, Zed). */
#include <string.h>
#include <strings.h>

#include "lib/text.h"
#include "virt/build_internal.h"
#include "virt/build_options_internal.h"

enum { SOCKETS, CORES, THREADS, PARTS, NO_LIMIT = 65536 };

static const char *const part_names[] = {"sockets", "cores", "threads"};

struct topology {
    int64_t n[PARTS]; /* 0 = not given */
};

static int read_topology(const struct build_source *s, const char *form, struct topology *flavor,
                         struct topology *image, struct err *e)
{
    for (int i = 0; i < PARTS; i++) {
        _cleanup_(str_freep) char *spec = text_format("hw:cpu_%s%s", form, part_names[i]);
        _cleanup_(str_freep) char *property = text_format("hw_cpu_%s%s", form, part_names[i]);
        if (build_spec_int(s, spec, 0, INT32_MAX, &flavor->n[i], e) < 0 ||
            build_property_int(s, property, 0, INT32_MAX, &image->n[i], e) < 0)
            return -1;
    }
    return 0;
}

static bool exceeds(const struct topology *t, const struct topology *limit)
{
    for (int i = 0; i < PARTS; i++)
        if (limit->n[i] && t->n[i] > limit->n[i])
            return true;
    return false;
}

static bool is_given(const struct topology *t)
{
    return t->n[SOCKETS] || t->n[CORES] || t->n[THREADS];
}

/* An image may lower what its flavor permits, never raise it. */
static int limits_of(const struct build_source *s, struct topology *limit, struct err *e)
{
    struct topology flavor = {0}, image = {0};
    if (read_topology(s, "max_", &flavor, &image, e) < 0)
        return -1;
    if (exceeds(&image, &flavor))
        return build_refuse(
            e, "ImageVCPULimitsRangeExceeded",
            "the image's limits hw_cpu_max_* %d:%d:%d (sockets, cores, threads) are "
            "above the flavor's %d:%d:%d",
            (int)image.n[0], (int)image.n[1], (int)image.n[2], (int)flavor.n[0], (int)flavor.n[1],
            (int)flavor.n[2]);
    for (int i = 0; i < PARTS; i++)
        limit->n[i] = image.n[i] ? image.n[i] : flavor.n[i] ? flavor.n[i] : NO_LIMIT;
    return 0;
}

static int wish_of(const struct build_source *s, const struct topology *limit,
                   struct topology *wish, struct err *e)
{
    struct topology flavor = {0}, image = {0};
    if (read_topology(s, "", &flavor, &image, e) < 0)
        return -1;
    if (exceeds(&image, limit))
        return build_refuse(e, "ImageVCPUTopologyRangeExceeded",
                            "the image's hw_cpu_* %d:%d:%d (sockets, cores, threads) are above the "
                            "limits %d:%d:%d",
                            (int)image.n[0], (int)image.n[1], (int)image.n[2], (int)limit->n[0],
                            (int)limit->n[1], (int)limit->n[2]);
    if (exceeds(&flavor, limit)) /* the image lowered the limits: the flavor's wish is void */
        flavor = (struct topology){0};
    *wish = is_given(&image) ? image : flavor;
    return 0;
}

static int score(const struct topology *t, const struct topology *wish)
{
    int points = 0;
    for (int i = 0; i < PARTS; i++)
        points += wish->n[i] && t->n[i] == wish->n[i];
    return points;
}

/* More cores than threads, and more sockets than cores, among those that meet as many wishes. */
static bool is_better(const struct topology *a, const struct topology *b,
                      const struct topology *wish)
{
    int by_wish = score(a, wish) - score(b, wish);
    int64_t whole_a = a->n[SOCKETS] * a->n[CORES], whole_b = b->n[SOCKETS] * b->n[CORES];
    if (by_wish != 0)
        return by_wish > 0;
    return whole_a != whole_b ? whole_a > whole_b : a->n[SOCKETS] > b->n[SOCKETS];
}

static bool best(int vcpus, const struct topology *limit, const struct topology *wish,
                 struct topology *out)
{
    bool found = false;
    for (int64_t sockets = 1; sockets <= vcpus && sockets <= limit->n[SOCKETS]; sockets++) {
        if (vcpus % sockets != 0)
            continue;
        int64_t rest = vcpus / sockets;
        for (int64_t cores = 1; cores <= rest && cores <= limit->n[CORES]; cores++) {
            const struct topology t = {{sockets, cores, rest / cores}};
            if (rest % cores != 0 || t.n[THREADS] > limit->n[THREADS])
                continue;
            if (!found || is_better(&t, out, wish))
                *out = t;
            found = true;
        }
    }
    return found;
}

int build_cpu_topology(const struct build_source *s, struct err *e)
{
    struct virt_build *b = &s->out->build;
    struct topology limit = {0}, wish = {0}, chosen = {0};
    if (limits_of(s, &limit, e) < 0 || wish_of(s, &limit, &wish, e) < 0)
        return -1;
    if (!best(b->vcpus, &limit, &wish, &chosen))
        return build_refuse(e, "ImageVCPULimitsRangeImpossible",
                            "%d CPUs cannot be made of at most %d sockets, %d cores and %d threads",
                            b->vcpus, (int)limit.n[0], (int)limit.n[1], (int)limit.n[2]);
    b->sockets = (int)chosen.n[SOCKETS];
    b->cores = (int)chosen.n[CORES];
    b->threads = (int)chosen.n[THREADS];
    return 0;
}

/* --- model ------------------------------------------------------------------------------------ */

/* Lists of borrowed words, ended by NULL; one allocation for both. */
static void keep_lists(const struct build_source *s, const char *const *models, size_t model_count,
                       const char *const *flags, size_t flag_count)
{
    const char **all = NEW_ARRAY(const char *, model_count + flag_count + 2);
    size_t n = 0;
    s->out->build.cpu_models = all;
    for (size_t i = 0; i < model_count; i++)
        all[n++] = models[i];
    all[n++] = NULL;
    s->out->build.cpu_flags = all + n;
    for (size_t i = 0; i < flag_count; i++) /* oslo.config: the flags' case does not count */
        all[n++] = build_lower(s, flags[i]);
    s->out->pointers = all;
}

/* A guest of another architecture gets that one's usual model. */
static void choose_emulated(const struct build_source *s)
{
    static const char *const models[][2] = {{"aarch64", "cortex-a57"}, {"ppc64le", "POWER8"}};
    struct virt_build *b = &s->out->build;
    b->cpu_mode = "none";
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        if (!text_equal(b->arch, models[i][0]))
            continue;
        b->cpu_mode = "custom";
        keep_lists(s, &models[i][1], 1, NULL, 0);
    }
}

int build_cpu_model(const struct build_source *s, bool emulated, struct err *e)
{
    struct virt_build *b = &s->out->build;
    size_t model_count = 0, flag_count = 0;
    const char *const *models = conf_list(s->conf, CONF_libvirt_cpu_models, &model_count);
    const char *const *flags = conf_list(s->conf, CONF_libvirt_cpu_model_extra_flags, &flag_count);
    if (emulated) {
        choose_emulated(s);
        return 0;
    }
    b->cpu_mode = conf_string(s->conf, CONF_libvirt_cpu_mode);
    if (!b->cpu_mode)
        b->cpu_mode = text_equal(b->arch, "aarch64") ? "host-passthrough" : "host-model";
    if (text_equal(b->cpu_mode, "custom") && model_count == 0)
        return err_set(e, ERR_CONFIG, "libvirt.cpu_mode \"custom\" needs libvirt.cpu_models");
    keep_lists(s, models, model_count, flags, flag_count);
    return 0;
}
