/*
 * volatile_disk IMAGE FILE LOG: a disk with a write cache that loses its content when the power goes.
 *
 * Serves FILE, by FUSE, with the size and the content of IMAGE: a loop device over FILE is the disk. A write lies in
 * memory until a flush (fsync of FILE) or until this disk feels like writing it, block by block, in no order. SIGUSR1
 * is the power cut, within a twentieth of a second: rather in the middle of writing than in the quiet after a flush. Of
 * each sector that no flush has covered, chance says whether it reached IMAGE, so blocks are also torn; then the process
 * ends, and whoever uses FILE gets errors. The next start serves what IMAGE has.
 *
 * That is what a disk may do, and no more: what was flushed is there, a sector of 512 bytes is whole or not written. The
 * first block, where a file system has its superblock, is not torn.
 * Prints its process number once FILE is served, and goes into the background. LOG gets a line for each cut.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { SECTOR = 512, BLOCK = 4096, WRITE_MAX = 1 << 20, PAGES_MAX = WRITE_MAX / 4096 };
/* Of the blocks that are overwritten in the cache, one in so many has reached the disk before. */
enum { EARLY = 8 };
/* The cut comes before one of so many requests, or before a flush, and at the latest after so long. */
enum { CUT_REQUESTS = 64, CUT_MS = 50 };
/* More than what a test leaves unflushed: a disk's cache is small, and so is this machine's memory. */
enum { DIRTY_MAX = 65536 };

static int image, device;
static uint64_t size;
static FILE *report;
/* What was written and not flushed: a block each, or null, and the numbers of those that are there. */
static unsigned char **cache;
static uint32_t dirty[DIRTY_MAX], dirties;

static void fail(const char *what) {
  fprintf(stderr, "Cannot %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint32_t chance(uint32_t most) { /* 0 to most - 1 */
  static uint64_t state;
  if (state == 0 && getrandom(&state, sizeof state, 0) != sizeof state) fail("get randomness");
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (state >> 11) % most;
}

static void from_image(void *to, uint64_t at, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = pread(image, (char *)to + done, length - done, at + done);
    if (n <= 0) fail("read the image");
    done += n;
  }
}

static void to_image(const void *from, uint64_t at, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t n = pwrite(image, (const char *)from + done, length - done, at + done);
    if (n < 0) fail("write the image");
    done += n;
  }
}

static void flush(void) {
  for (uint32_t i = 0; i < dirties; i++) {
    to_image(cache[dirty[i]], (uint64_t)dirty[i] * BLOCK, BLOCK);
    free(cache[dirty[i]]);
    cache[dirty[i]] = NULL;
  }
  dirties = 0;
}

static void put(uint64_t at, const unsigned char *data, size_t length) {
  while (length > 0) {
    uint32_t block = at / BLOCK;
    size_t within = at % BLOCK, part = BLOCK - within < length ? BLOCK - within : length;
    if (cache[block] == NULL) {
      if (dirties == DIRTY_MAX) flush();
      if ((cache[block] = malloc(BLOCK)) == NULL) fail("remember a block");
      from_image(cache[block], (uint64_t)block * BLOCK, BLOCK);
      dirty[dirties++] = block;
    } else if (chance(EARLY) == 0) {
      to_image(cache[block], (uint64_t)block * BLOCK, BLOCK);
    }
    memcpy(cache[block] + within, data, part);
    at += part, data += part, length -= part;
  }
}

static void get(uint64_t at, unsigned char *data, size_t length) {
  while (length > 0) {
    uint32_t block = at / BLOCK;
    size_t within = at % BLOCK, part = BLOCK - within < length ? BLOCK - within : length;
    if (cache[block] != NULL) memcpy(data, cache[block] + within, part);
    else from_image(data, at, part);
    at += part, data += part, length -= part;
  }
}

/* Each cut has a share of its own that is kept: a cache may have been nearly empty or hardly begun. */
static void cut(void) {
  uint32_t share = chance(5) * 25, kept = 0;
  for (uint32_t i = 0; i < dirties; i++) {
    /* ext4 writes its superblock, two sectors in the first block, outside of its journal, and does not survive half of it. */
    int torn = dirty[i] != 0 && chance(4) == 0, whole = chance(100) < share;
    for (uint32_t at = 0; at < BLOCK; at += SECTOR) {
      if (torn ? chance(100) >= share : !whole) continue;
      to_image(cache[dirty[i]] + at, (uint64_t)dirty[i] * BLOCK + at, SECTOR);
      kept++;
    }
  }
  fprintf(report, "cut: %u blocks were not flushed, %u of their %u sectors kept\n", dirties, kept,
          dirties * (BLOCK / SECTOR));
  if (fclose(report) != 0) fail("write the log");
  _exit(0);
}

static void answer(uint64_t unique, int error, const void *body, size_t length) {
  struct fuse_out_header head = {.len = sizeof head + length, .error = error, .unique = unique};
  struct iovec parts[2] = {{&head, sizeof head}, {(void *)body, length}};
  /* ENOENT: who asked was killed meanwhile. */
  if (writev(device, parts, 2) < 0 && errno != ENOENT) fail("answer the kernel");
}

static struct fuse_attr attributes(void) {
  return (struct fuse_attr){.ino = FUSE_ROOT_ID, .size = size, .blocks = size / SECTOR, .mode = S_IFREG | 0600,
                            .nlink = 1, .blksize = BLOCK};
}

static void handle(const struct fuse_in_header *head, const void *body) {
  static unsigned char data[WRITE_MAX];
  switch (head->opcode) {
  case FUSE_INIT: {
    const struct fuse_init_in *in = body;
    struct fuse_init_out out = {.major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = in->max_readahead,
                                .flags = in->flags & (FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_ASYNC_READ),
                                .max_background = 64, .congestion_threshold = 48, .max_write = WRITE_MAX,
                                .time_gran = 1, .max_pages = PAGES_MAX};
    return answer(head->unique, 0, &out, sizeof out);
  }
  case FUSE_GETATTR:
  case FUSE_SETATTR: { /* times alone: the size of a disk does not change */
    struct fuse_attr_out out = {.attr_valid = 3600, .attr = attributes()};
    return answer(head->unique, 0, &out, sizeof out);
  }
  case FUSE_OPEN: {
    /* Nothing of it in the page cache: what the loop device has written is here. */
    struct fuse_open_out out = {.open_flags = FOPEN_DIRECT_IO};
    return answer(head->unique, 0, &out, sizeof out);
  }
  case FUSE_READ: {
    const struct fuse_read_in *in = body;
    uint64_t left = in->offset < size ? size - in->offset : 0;
    size_t length = in->size < left ? in->size : left;
    if (length > WRITE_MAX) return answer(head->unique, -EINVAL, NULL, 0);
    get(in->offset, data, length);
    return answer(head->unique, 0, data, length);
  }
  case FUSE_WRITE: {
    const struct fuse_write_in *in = body;
    if (in->offset > size || in->size > size - in->offset) return answer(head->unique, -ENOSPC, NULL, 0);
    put(in->offset, (const unsigned char *)(in + 1), in->size);
    struct fuse_write_out out = {.size = in->size};
    return answer(head->unique, 0, &out, sizeof out);
  }
  case FUSE_FSYNC:
    flush();
    return answer(head->unique, 0, NULL, 0);
  case FUSE_FLUSH:
  case FUSE_RELEASE:
    return answer(head->unique, 0, NULL, 0);
  case FUSE_STATFS: {
    struct fuse_statfs_out out = {.st = {.bsize = BLOCK, .frsize = BLOCK, .blocks = size / BLOCK, .namelen = 255}};
    return answer(head->unique, 0, &out, sizeof out);
  }
  case FUSE_FORGET:
  case FUSE_BATCH_FORGET:
  case FUSE_INTERRUPT: /* every request is answered at once */
    return;
  default:
    return answer(head->unique, -ENOSYS, NULL, 0);
  }
}

static volatile sig_atomic_t power_cut;

static void on_cut(int number) {
  (void)number;
  power_cut = 1;
}

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Whether the power goes before this request. A flush with something to write is the worst moment: it was asked for. */
static int cut_before(const struct fuse_in_header *head) {
  static uint32_t left = UINT32_MAX;
  if (left == UINT32_MAX) left = chance(CUT_REQUESTS);
  if (dirties == 0) return 0;
  return head->opcode == FUSE_FSYNC ? chance(4) != 0 || left == 0 : left == 0 || left-- == 0;
}

static void serve(void) {
  uint64_t cut_at = 0;
  static unsigned char request[WRITE_MAX + 65536] __attribute__((aligned(16)));
  sigset_t none;
  sigemptyset(&none);
  for (;;) {
    struct pollfd wait = {.fd = device, .events = POLLIN};
    /* The signal is let in here alone: a request is done whole or not at all. */
    struct timespec soon = {.tv_nsec = 1000000};
    int ready = ppoll(&wait, 1, power_cut ? &soon : NULL, &none);
    if (power_cut && cut_at == 0) cut_at = now_ms() + CUT_MS;
    if (power_cut && now_ms() >= cut_at) cut();
    if (ready < 0 && errno != EINTR) fail("wait for the kernel");
    if (ready <= 0) continue;
    ssize_t length = read(device, request, sizeof request);
    if (length < 0 && errno == ENODEV) { /* unmounted: the end of a host that was halted in order */
      flush();
      exit(0);
    }
    if (length < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN)) continue;
    if (length < (ssize_t)sizeof(struct fuse_in_header)) fail("read a request");
    const struct fuse_in_header *head = (const void *)request;
    if (power_cut && cut_before(head)) cut();
    handle(head, head + 1);
  }
}

int main(int argc, char **argv) {
  struct stat found;
  char options[100];
  sigset_t cuts;
  if (argc != 4) return fprintf(stderr, "volatile_disk IMAGE FILE LOG\n"), 2;
  if ((image = open(argv[1], O_RDWR | O_CLOEXEC)) < 0 || fstat(image, &found) < 0) fail("open the image");
  if ((report = fopen(argv[3], "ae")) == NULL) fail("open the log");
  size = found.st_size / BLOCK * BLOCK;
  if ((cache = calloc(size / BLOCK, sizeof *cache)) == NULL) fail("make room for the cache");
  if ((device = open("/dev/fuse", O_RDWR | O_CLOEXEC)) < 0) fail("open /dev/fuse");
  snprintf(options, sizeof options, "fd=%d,rootmode=100000,user_id=0,group_id=0,max_read=%d", device, WRITE_MAX);
  sigemptyset(&cuts);
  sigaddset(&cuts, SIGUSR1);
  sigprocmask(SIG_BLOCK, &cuts, NULL);
  signal(SIGUSR1, on_cut);
  if (mount("volatile_disk", argv[2], "fuse", MS_NOSUID | MS_NODEV, options) < 0) fail("mount the disk's file");
  int away[2];
  char done = 0;
  if (pipe2(away, O_CLOEXEC) < 0) fail("make a pipe");
  pid_t child = fork();
  if (child < 0) fail("go into the background");
  if (child > 0) {
    close(away[1]);
    if (read(away[0], &done, 1) != 1) return 1;
    return printf("%d\n", child), 0;
  }
  setsid();
  /* In no mount namespace with what lies over FILE: who leaves such a one last writes it back, and would wait for itself. */
  if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
      umount2(argv[2], MNT_DETACH) < 0)
    fail("leave the mount namespace");
  /* Its words after this go where its starter's errors go. */
  fclose(stdout);
  if (write(away[1], &done, 1) != 1) fail("tell that the disk is there");
  serve();
}
