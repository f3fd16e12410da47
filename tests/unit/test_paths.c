/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/clock.h"
#include "lib/text.h"
#include "virt/paths.h"

#define UUID "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e"

static struct conf *conf;
static char *root, *outside;

static char *below(const char *relative)
{
    return text_format("%s/%s", root, relative);
}

static void make_dir(const char *relative)
{
    _cleanup_(str_freep) char *path = below(relative);

    UNIT_TRUE(mkdir(path, 0755) == 0 || errno == EEXIST);
}

static void make_file(const char *relative)
{
    _cleanup_(str_freep) char *path = below(relative);

    unit_write_file(path, "content");
}

static bool exists(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* instances_path and beside it a directory that nothing may ever touch. */
static void setup(void)
{
    static unsigned n;
    _cleanup_(str_freep) char *secret = NULL;
    _cleanup_(str_freep) char *parent = text_format("%s/%u", unit_directory(), n++);

    root = text_format("%s/instances", parent);
    outside = text_format("%s/outside", parent);
    secret = text_format("%s/secret", outside);
    (void)mkdir(parent, 0755);
    (void)mkdir(root, 0755);
    (void)mkdir(outside, 0755);
    unit_write_file(secret, "secret");
    conf = conf_for_test("DEFAULT.instances_path", root, NULL);
}

static void teardown(void)
{
    _cleanup_(str_freep) char *secret = text_format("%s/secret", outside);
    _cleanup_(str_freep) char *content = unit_read_file(secret, NULL);

    UNIT_STR(content, "secret");
    conf_unref(conf);
    free(root);
    free(outside);
}

UNIT_FIXTURE(setup, teardown)

/* --- hostile names ---------------------------------------------------------------------------- */

/* Each is given where a file name, where a directory name, where a probe's name and where a peer's path
 * is expected; none may name anything. */
static const char *const hostile[] = {
    "",
    ".",
    "..",
    "...",
    "/",
    "//",
    "/etc/passwd",
    "../",
    "../..",
    "../../etc/shadow",
    "./disk",
    "disk/",
    "/disk",
    "a/b",
    "a//b",
    "a/../b",
    "..\\..\\x",
    "disk\\..",
    ".hidden",
    ".computed-migration",
    "-rf",
    "--help",
    "-",
    "--",
    "~",
    "~root",
    "$HOME",
    "${HOME}",
    "`id`",
    "$(id)",
    ";id",
    "a;b",
    "a|b",
    "a&b",
    "a&&b",
    "a>b",
    "a<b",
    "a*b",
    "*",
    "?",
    "[a]",
    "{a,b}",
    "a b",
    " a",
    "a ",
    "\ta",
    "a\tb",
    "a\nb",
    "\n",
    "a\rb",
    "\r\n",
    "a\x01",
    "\x7f",
    "\x1b[2J",
    "a\x80",
    "\xff\xfe",
    "\xc0\xaf",
    "\xe2\x80\xae",
    "\xef\xbb\xbf",
    "%2e%2e",
    "%2e%2e/",
    "..%2f",
    "%00",
    "a%00b",
    "%s",
    "%n%n",
    "json:{}",
    "nbd:host:1",
    "file:/etc/passwd",
    "file:///etc/passwd",
    "http://x/y",
    "ssh://x/y",
    "fd:3",
    "rbd:a/b",
    "driver=raw",
    "a,b",
    "a=b",
    "a,file=/etc/passwd",
    "disk,format=raw",
    "a:b",
    ":",
    "C:\\x",
    "\\\\host\\share",
    "con:",
    "a'b",
    "a\"b",
    "'",
    "\"",
    "<a>",
    "&lt;",
    "]]>",
    "<!--",
    "a#b",
    "#",
    "a!b",
    "!",
    "a^b",
    "a(b)",
    "()",
    "a~",
    "@/",
    "+/x",
    "_/..",
    "proc/self/root",
    "/proc/self/root/etc/passwd",
    "/proc/self/fd/0",
    "/dev/sda",
    "/dev/stdin",
    "/sys/kernel",
    "dev/null",
    "_base/../x",
    "_base/",
    "_base/..",
    "_base/x",
    "../_base",
    "/_base",
    "_base\n",
    "_BASE/",
    "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e/..",
    "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e/disk",
    "../6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e",
    "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e\n",
    "6f1b7c7e-6d0b-4c5e-9a57-0d2f1c3b4a5e/",
    "tmp/../x",
    "tmp/",
    "tmp",
    "tmp..",
    "tmp.x",
    "tmp x",
    "tmp\n",
    "tmp/x",
    "../tmpx",
    "/tmp/tmpx",
    "tmp-",
    "tmp\xff",
    "disk.info/..",
    "console.log/../..",
    "\x02",
    "\x1f",
    "\b",
    "a\vb",
    "a\fb",
    "\a",
    "a\\nb",
    "a\\",
    "\\",
    "|",
    "&",
    ";",
    ">",
    "<",
    "$",
    "`",
    "=",
    ",",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "^",
    "a\xc3\xa9",
    "d\xc3\xafsk",
    "\xf0\x9f\x98\x80",
    "a\xcc\x81",
    "\xe2\x88\x95"
    "etc",
    "\xef\xbc\x8f"
    "etc",
    "a\xc2\xa0 b",
    "\xed\xa0\x80",
    "..;/",
    "..//",
    "..../",
    "....//",
    ". .",
    ".. ",
    " ..",
    "..\t",
    "..\n",
    "./.",
    "./..",
    ".//.",
    "/..",
    "/.",
    "/../..",
    "//etc",
    "//..",
    "disk/../../x",
    "disk/.",
    "disk/..",
    "disk//",
    "a/",
    "a/.",
    "a/..",
    "/a/b/c",
    "a/b/c/d",
    "../a/b",
    "./a",
    "x/../../../../../../etc/passwd",
    "..\xc0\xaf",
    "%252e%252e%252f",
    "..%c0%af",
    "..%5c",
    "%5c..",
    "/%2e%2e",
    "nova/../../x",
};

static int open_both(const char *name)
{
    _cleanup_(fd_closep) int directory = -1;
    int fd = -1;

    if (paths_open_directory(conf, UUID, false, &directory, NULL) < 0)
        return -2;
    return paths_open_file(directory, UUID, name, O_RDWR | O_CREAT, 0600, &fd, &unit_err) < 0 ? -1
                                                                                              : fd;
}

/* Hostile only where a probe or a directory is expected. */
static bool is_file_name(const char *name)
{
    static const char *const names[] = {"tmp", "tmp..", "tmp.x", "tmp-"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

UNIT_TEST(hostile_files, "none of 200 hostile names opens, makes or removes a file")
{
    UNIT_TRUE(ARRAY_LEN(hostile) >= 200);
    make_dir(UUID);
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        err_clear(&unit_err);
        if (is_file_name(hostile[i]))
            continue;
        if (strcmp(hostile[i], PATHS_MARKER) != 0) {
            UNIT_EQ(open_both(hostile[i]), -1);
            UNIT_EQ(unit_err.code, ERR_INVALID);
        }
        UNIT_FAILS(paths_remove_file(conf, PATHS_BASE, hostile[i], &unit_err), ERR_INVALID);
    }
}

UNIT_TEST(hostile_directories, "none of 200 hostile names opens, makes or removes a directory")
{
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        int fd = -1;

        UNIT_FAILS(paths_open_directory(conf, hostile[i], true, &fd, &unit_err), ERR_INVALID);
        UNIT_FAILS(paths_remove_tree(conf, hostile[i], &unit_err), ERR_INVALID);
        UNIT_FAILS(paths_check_probe(hostile[i], &unit_err), ERR_INVALID);
    }
    UNIT_FAILS(paths_remove_tree(conf, PATHS_BASE, &unit_err), ERR_INVALID);
    UNIT_FAILS(paths_remove_tree(conf, "6F1B7C7E-6d0b-4c5e-9a57-0d2f1c3b4a5e", &unit_err),
               ERR_INVALID);
}

UNIT_TEST(hostile_peer_paths, "a peer's path with a hostile part is refused, wherever that stands")
{
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        _cleanup_(str_freep) char *last = text_format("/srv/nova/" UUID "/%s", hostile[i]);
        _cleanup_(str_freep) char *found = NULL;
        _cleanup_(str_freep) char *name = NULL;

        if (paths_split_peer(last, UUID, &found, &name, NULL) == 0) {
            UNIT_OK(paths_check_file(name, "name", &unit_err));
            UNIT_TRUE(!found || strstr(found, "..") == NULL);
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(hostile); i++) {
        _cleanup_(str_freep) char *first = text_format("%s/" UUID "/disk", hostile[i]);
        char *found = NULL;

        if (paths_split_peer(first, UUID, &found, NULL, NULL) == 0 && found) {
            UNIT_EQ(found[0], '/');
            UNIT_TRUE(strstr(found, "/../") == NULL && strstr(found, "//") == NULL &&
                      strchr(found, '\n') == NULL);
        }
        free(found);
    }
}

UNIT_TEST(peer_paths, "a peer's path gives its instances_path and its file, other directories none")
{
    char *found = NULL, *name = NULL;

    UNIT_OK(paths_split_peer("/var/lib/nova/instances/" UUID "/disk.eph0", UUID, &found, &name,
                             &unit_err));
    UNIT_STR(found, "/var/lib/nova/instances");
    UNIT_STR(name, "disk.eph0");
    free(found);
    free(name);
    found = name = NULL;
    UNIT_OK(paths_split_peer("/var/lib/libvirt/images/a.qcow2", UUID, &found, &name, &unit_err));
    UNIT_STR(found, NULL);
    UNIT_STR(name, "a.qcow2");
    free(name);
    UNIT_FAILS(paths_split_peer("/a/../" UUID "/disk", UUID, NULL, NULL, &unit_err), ERR_DISK);
    UNIT_FAILS(paths_split_peer("/a//" UUID "/disk", UUID, NULL, NULL, &unit_err), ERR_DISK);
    UNIT_FAILS(paths_split_peer("disk", UUID, NULL, NULL, &unit_err), ERR_DISK);
    UNIT_FAILS(paths_split_peer("a/disk", UUID, NULL, NULL, &unit_err), ERR_DISK);
    UNIT_FAILS(paths_split_peer("/disk", UUID, NULL, NULL, &unit_err), ERR_DISK);
}

UNIT_TEST(good_names, "the names that Nova gives to files are taken")
{
    static const char *const names[] = {"disk",
                                        "disk.config",
                                        "disk.eph0",
                                        "disk.swap",
                                        "disk.local",
                                        "kernel",
                                        "ramdisk",
                                        "a892a4710316eb95555f6ca88860c82372c22f03",
                                        "ephemeral_20_40d1d2c",
                                        "swap_512",
                                        "volume-3b4c5d6e-7f80-4192-a3b4-c5d6e7f8091a",
                                        "a.qcow2",
                                        "disk.info"};

    make_dir(UUID);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        int fd = open_both(names[i]);

        if (UNIT_TRUE(fd >= 0))
            (void)close(fd);
    }
    UNIT_OK(paths_check_probe("tmpab12_x9", &unit_err));
    UNIT_OK(paths_check_probe("tmpqz4k1w0e", &unit_err));
}

UNIT_TEST(texts, "a path is made of instances_path, directory and file")
{
    _cleanup_(str_freep) char *expected = below(UUID "/disk");
    _cleanup_(str_freep) char *path = paths_text(conf, UUID, "disk");

    UNIT_STR(path, expected);
}

/* --- symlinks --------------------------------------------------------------------------------- */

UNIT_TEST(planted_links,
          "planted symlinks are neither followed nor written through, whatever they name")
{
    _cleanup_(str_freep) char *link = below(UUID "/disk");
    _cleanup_(str_freep) char *secret = text_format("%s/secret", outside);
    static const char *const targets[] = {"../../outside/secret", "/etc/passwd", ".", "nowhere",
                                          "/proc/self/fd/0",      "disk"};

    make_dir(UUID);
    for (size_t i = 0; i < ARRAY_LEN(targets) + 1; i++) {
        (void)unlink(link);
        UNIT_EQ(symlink(i < ARRAY_LEN(targets) ? targets[i] : secret, link), 0);
        err_clear(&unit_err);
        UNIT_EQ(open_both("disk"), -1);
        UNIT_EQ(unit_err.sys, ELOOP);
    }
}

UNIT_TEST(linked_directory, "an instance's directory that is a symlink is not opened")
{
    _cleanup_(str_freep) char *link = below(UUID);
    int fd = -1;

    UNIT_EQ(symlink(outside, link), 0);
    UNIT_FAILS(paths_open_directory(conf, UUID, false, &fd, &unit_err), ERR_SYSTEM);
    UNIT_FAILS(paths_open_directory(conf, UUID, true, &fd, &unit_err), ERR_SYSTEM);
    UNIT_FAILS(paths_remove_tree(conf, UUID, &unit_err), ERR_SYSTEM);
}

UNIT_TEST(special_files,
          "a directory, pipe or socket where a file is expected is refused and does not block")
{
    _cleanup_(str_freep) char *pipe_path = below(UUID "/disk");
    _cleanup_(fd_closep) int directory = -1;
    int fd = -1;

    make_dir(UUID);
    make_dir(UUID "/kernel");
    UNIT_EQ(mkfifo(pipe_path, 0600), 0);
    UNIT_OK(paths_open_directory(conf, UUID, false, &directory, &unit_err));
    UNIT_FAILS(paths_open_file(directory, UUID, "disk", O_RDONLY, 0, &fd, &unit_err), ERR_DISK);
    UNIT_FAILS(paths_open_file(directory, UUID, "kernel", O_RDONLY, 0, &fd, &unit_err), ERR_DISK);
}

UNIT_TEST(beneath, "no relative path leads out of the directory in which it begins")
{
    static const char *const paths[] = {"..",
                                        "../outside/secret",
                                        "x/../../outside/secret",
                                        "/etc/passwd",
                                        "link/secret",
                                        "link",
                                        "x/link2/secret",
                                        "x/../..",
                                        "./../outside",
                                        "",
                                        "/"};
    _cleanup_(str_freep) char *link = below("link");
    _cleanup_(str_freep) char *link2 = below("x/link2");
    _cleanup_(fd_closep) int fd = -1;

    make_dir("x");
    UNIT_EQ(symlink(outside, link), 0);
    UNIT_EQ(symlink("../../outside", link2), 0);
    UNIT_OK(paths_open_root(conf, &fd, &unit_err));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        UNIT_EQ(paths_open_beneath(fd, paths[i], O_RDONLY, 0), -1);
}

/* Swaps a directory and a symlink to `outside` under one name as fast as it can. */
struct racer {
    char *name, *directory, *link;
    atomic_bool stop;
    unsigned long swaps;
};

static void *race(void *aux)
{
    struct racer *r = aux;

    while (!atomic_load(&r->stop)) {
        (void)renameat2(AT_FDCWD, r->name, AT_FDCWD, r->link, RENAME_EXCHANGE);
        r->swaps++;
    }
    return NULL;
}

static bool is_inside(int fd)
{
    _cleanup_(str_freep) char *link = text_format("/proc/self/fd/%d", fd);
    struct stat st, other;

    return fstat(fd, &st) == 0 && stat(outside, &other) == 0 && st.st_ino != other.st_ino;
}

/* Half a second, and as long as it takes (at most 20 s on a slow machine) until both sides had their turn. */
static bool goes_on(int64_t start, bool enough)
{
    int64_t now = clock_monotonic_us();

    return now < start + USEC_PER_SEC / 2 || (!enough && now < start + 20 * USEC_PER_SEC);
}

UNIT_TEST(race_open, "a directory that is swapped with a symlink all the time never leads outside")
{
    struct racer r = {.name = below(UUID), .link = below("link")};
    int64_t start = clock_monotonic_us();
    unsigned long opened = 0, refused = 0;
    pthread_t thread;

    make_dir(UUID);
    UNIT_EQ(symlink(outside, r.link), 0);
    UNIT_EQ(pthread_create(&thread, NULL, race, &r), 0);
    while (goes_on(start, opened > 0 && refused > 0)) {
        _cleanup_(fd_closep) int fd = -1;

        if (paths_open_directory(conf, UUID, false, &fd, NULL) == 0) {
            opened++;
            if (!is_inside(fd))
                UNIT_TRUE(false);
        } else {
            refused++;
        }
    }
    atomic_store(&r.stop, true);
    (void)pthread_join(thread, NULL);
    UNIT_TRUE(r.swaps > 1 && opened > 0 && refused > 0);
    free(r.name);
    free(r.link);
}

UNIT_TEST(race_remove,
          "a removal whose directories are swapped with symlinks removes nothing outside")
{
    struct racer r = {.name = below(UUID "/a"), .link = below("link")};
    int64_t start = clock_monotonic_us();
    pthread_t thread;
    unsigned long rounds = 0;

    UNIT_EQ(symlink(outside, r.link), 0);
    UNIT_EQ(pthread_create(&thread, NULL, race, &r), 0);
    while (goes_on(start, rounds > 10)) {
        _cleanup_(str_freep) char *directory = below(UUID);
        _cleanup_(str_freep) char *inner = below(UUID "/a");
        _cleanup_(str_freep) char *file = below(UUID "/a/secret");
        int fd = -1;

        (void)mkdir(directory, 0755);
        (void)mkdir(inner, 0755);
        fd = open(file, O_CREAT | O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_EXCL, 0600);
        if (fd >= 0)
            (void)close(fd);
        (void)paths_remove_tree(conf, UUID, NULL);
        if (!exists(outside))
            break;
        rounds++;
    }
    atomic_store(&r.stop, true);
    (void)pthread_join(thread, NULL);
    UNIT_TRUE(rounds > 10);
    free(r.name);
    free(r.link);
}

/* --- removing --------------------------------------------------------------------------------- */

UNIT_TEST(remove_tree,
          "a directory goes with all below it; symlinks in it go, what they name stays")
{
    _cleanup_(str_freep) char *directory = below(UUID);
    _cleanup_(str_freep) char *link = below(UUID "/b/link");
    _cleanup_(str_freep) char *other = below("7a2c8d8f-7e1c-4d6f-8b68-1e3a2d4c5b6f/disk");

    make_dir(UUID);
    make_dir(UUID "/b");
    make_dir(UUID "/b/c");
    make_file(UUID "/disk");
    make_file(UUID "/b/c/x y\n");
    make_file(UUID "/" PATHS_MARKER);
    make_dir("7a2c8d8f-7e1c-4d6f-8b68-1e3a2d4c5b6f");
    make_file("7a2c8d8f-7e1c-4d6f-8b68-1e3a2d4c5b6f/disk");
    UNIT_EQ(symlink(outside, link), 0);
    UNIT_OK(paths_remove_tree(conf, UUID, &unit_err));
    UNIT_TRUE(!exists(directory));
    UNIT_TRUE(exists(other));
    UNIT_OK(paths_remove_tree(conf, UUID, &unit_err));
}

UNIT_TEST(remove_aside, "a tree whose large files are given back elsewhere is gone as well")
{
    _cleanup_(str_freep) char *directory = below(UUID);
    _cleanup_(str_freep) char *disk = below(UUID "/b/disk");
    _cleanup_(str_freep) char *link = below(UUID "/link");
    _cleanup_(str_freep) char *kept = below("kept");
    _cleanup_(str_freep) char *content = mem_new((4 << 20) + 1);
    struct stat st;
    int held;

    memset(content, 'x', 4 << 20);
    make_dir(UUID);
    make_dir(UUID "/b");
    make_file(UUID "/b/small");
    make_file(UUID "/" PATHS_MARKER);
    unit_write_file(disk, content);
    unit_write_file(kept, content);
    UNIT_EQ(symlink(kept, link), 0);
    held = open(disk, O_RDONLY | O_CLOEXEC);
    UNIT_OK(paths_remove_tree_aside(conf, UUID, &unit_err));
    UNIT_TRUE(!exists(directory));
    UNIT_TRUE(exists(kept));
    UNIT_TRUE(fstat(held, &st) == 0 && st.st_nlink == 0);
    (void)close(held);
    UNIT_OK(paths_remove_tree_aside(conf, UUID, &unit_err));
}

UNIT_TEST(remove_deep,
          "a tree that is too deep is refused and its marker stays, so that it is still ours")
{
    _cleanup_(str_freep) char *marker = below(UUID "/" PATHS_MARKER);
    struct text_buffer path = TEXT_BUFFER_INIT;

    make_dir(UUID);
    make_file(UUID "/" PATHS_MARKER);
    text_buffer_add(&path, UUID);
    for (int i = 0; i < 20; i++) {
        text_buffer_add(&path, "/d");
        make_dir(path.data);
    }
    UNIT_FAILS(paths_remove_tree(conf, UUID, &unit_err), ERR_DISK);
    UNIT_TRUE(exists(marker));
    text_buffer_free(&path);
}

UNIT_TEST(remove_file,
          "one file is removed; one that is not there, or whose directory is not, is success")
{
    _cleanup_(str_freep) char *file = below("_base/computed-1.part");

    UNIT_OK(paths_remove_file(conf, PATHS_BASE, "computed-1.part", &unit_err));
    make_dir(PATHS_BASE);
    make_file("_base/computed-1.part");
    UNIT_OK(paths_remove_file(conf, PATHS_BASE, "computed-1.part", &unit_err));
    UNIT_TRUE(!exists(file));
    UNIT_OK(paths_remove_file(conf, PATHS_BASE, "computed-1.part", &unit_err));
}
