/* An application that must not notice anything: writes as fast as it can, checks every answer, tells the longest wait.
 *
 *   writer FOLDER THREADS      until SIGTERM
 *
 * Each thread writes blocks into a file of its own; among them it makes files exclusively and removes them, renames,
 * makes and removes folders, and keeps a file that it has unlinked, which it writes and reads through its descriptor.
 * What was read back must be what was written. Four times a second: `writes N stall_us N errors N`; the last line says `end`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 512, BLOCKS = 64 };

static const char *folder;
static atomic_ulong writes, errors, stall_us;
static atomic_int stopping;

static uint64_t now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void failed(const char *what, int thread, uint64_t round) {
  if (atomic_fetch_add(&errors, 1) < 20)
    fprintf(stderr, "error: %s in thread %d, round %llu: %s\n", what, thread, (unsigned long long)round, strerror(errno));
}

static void waited(uint64_t since) {
  unsigned long took = now_us() - since, most = atomic_load(&stall_us);
  while (took > most && !atomic_compare_exchange_weak(&stall_us, &most, took)) {}
}

/* One call: how long it took, and whether it said what it must. */
#define CALL(what, expression)                   \
  do {                                           \
    uint64_t since = now_us();                   \
    errno = 0;                                   \
    if (!(expression)) failed(what, id, round);  \
    waited(since);                               \
  } while (0)

static void *work(void *argument) {
  int id = (int)(intptr_t)argument, file = -1, orphan = -1, made = -1;
  uint64_t round = 0, marks[BLOCKS] = {0}, kept = 0;
  char path[4][512], block[BLOCK], back[BLOCK];
  snprintf(path[0], sizeof path[0], "%s/blocks-%d", folder, id);
  snprintf(path[1], sizeof path[1], "%s/unlinked-%d", folder, id);
  CALL("open", (file = open(path[0], O_RDWR | O_CREAT | O_EXCL, 0644)) >= 0);
  CALL("open", (orphan = open(path[1], O_RDWR | O_CREAT | O_EXCL, 0644)) >= 0);
  CALL("unlink", unlink(path[1]) == 0);
  while (!stopping) {
    round++;
    int at = round % BLOCKS;
    memset(block, (int)round, BLOCK);
    memcpy(block, &round, sizeof round);
    CALL("pwrite", pwrite(file, block, BLOCK, at * BLOCK) == BLOCK);
    marks[at] = round;
    atomic_fetch_add(&writes, 1);
    if (round % 16 == 3) {
      snprintf(path[2], sizeof path[2], "%s/new-%d-%llu", folder, id, (unsigned long long)round);
      snprintf(path[3], sizeof path[3], "%s/renamed-%d", folder, id);
      CALL("exclusive open", (made = open(path[2], O_WRONLY | O_CREAT | O_EXCL, 0600)) >= 0);
      CALL("write", write(made, block, 100) == 100);
      CALL("close", close(made) == 0);
      CALL("exclusive open of what is there", open(path[2], O_WRONLY | O_CREAT | O_EXCL, 0600) < 0 && errno == EEXIST);
      CALL("rename", rename(path[2], path[3]) == 0);
      CALL("unlink of what is gone", unlink(path[2]) < 0 && errno == ENOENT);
    } else if (round % 16 == 7) {
      CALL("pwrite of an unlinked file", pwrite(orphan, block, BLOCK, 0) == BLOCK);
      kept = round;
    } else if (round % 16 == 11) {
      CALL("pread of an unlinked file", pread(orphan, back, BLOCK, 0) == BLOCK || kept == 0);
      if (kept != 0 && memcmp(back, &kept, sizeof kept) != 0) failed("what an unlinked file held", id, round);
    } else if (round % 64 == 31) {
      snprintf(path[2], sizeof path[2], "%s/folder-%d-%llu", folder, id, (unsigned long long)round);
      CALL("mkdir", mkdir(path[2], 0755) == 0);
      CALL("rmdir", rmdir(path[2]) == 0);
    } else if (round % 64 == 47) {
      CALL("unlink", unlink(path[3]) == 0);
    }
  }
  for (int at = 0; at < BLOCKS; at++) {
    if (marks[at] == 0) continue;
    CALL("pread", pread(file, back, BLOCK, at * BLOCK) == BLOCK);
    if (memcmp(back, &marks[at], sizeof marks[at]) != 0) failed("what a block held", id, round);
  }
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  folder = argv[1];
  int threads = atoi(argv[2]), signal_number;
  pthread_t thread[64];
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  setvbuf(stdout, NULL, _IOLBF, 0);
  uint64_t began = now_us();
  for (int i = 0; i < threads && i < 64; i++) pthread_create(&thread[i], NULL, work, (void *)(intptr_t)i);
  while ((signal_number = sigtimedwait(&set, NULL, &(struct timespec){.tv_nsec = 250000000})) != SIGTERM)
    printf("writes %lu stall_us %lu errors %lu\n", writes, stall_us, errors);
  stopping = 1;
  for (int i = 0; i < threads && i < 64; i++) pthread_join(thread[i], NULL);
  double seconds = (now_us() - began) / 1e6;
  printf("end writes %lu stall_us %lu errors %lu rate %.0f\n", writes, stall_us, errors, writes / seconds);
  return errors != 0;
}
