/*
 * files DIRECTORY create|unlink COUNT: creates COUNT small files one after the other, or unlinks them, and prints
 * operations a second and microseconds of the median and the slowest hundredth, as "OPS P50 P99".
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char content[512];

static double microseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static int create_one(const char *name) {
  int fd = open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
  if (fd < 0) return -1;
  if (write(fd, content, sizeof content) != sizeof content) return -1;
  return close(fd);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  int count = argc == 4 ? atoi(argv[3]) : 0;
  int create = argc == 4 && strcmp(argv[2], "create") == 0;
  if (count < 1 || (!create && strcmp(argv[2], "unlink") != 0)) {
    fprintf(stderr, "usage: files DIRECTORY create|unlink COUNT\n");
    return 2;
  }
  double *took = calloc(count, sizeof *took);
  if (took == NULL || chdir(argv[1]) != 0) {
    fprintf(stderr, "Cannot use %s: %s\n", argv[1], strerror(errno));
    return 1;
  }
  memset(content, 'x', sizeof content);
  double began = microseconds(), before = began;
  for (int i = 0; i < count; i++) {
    char name[32];
    snprintf(name, sizeof name, "f%07d", i);
    if ((create ? create_one(name) : unlink(name)) != 0) {
      fprintf(stderr, "Cannot %s %s/%s: %s\n", argv[2], argv[1], name, strerror(errno));
      return 1;
    }
    double now = microseconds();
    took[i] = now - before;
    before = now;
  }
  qsort(took, count, sizeof *took, by_size);
  printf("%.1f %.1f %.1f\n", count * 1e6 / (before - began), took[count / 2], took[(long)count * 99 / 100]);
  return 0;
}
