/* What a round trip over the network costs two plain programs: the least that one synchronous replicated write needs.
 *
 *   rtt serve PORT BYTES            answers each message of BYTES bytes with 64 bytes, for one connection
 *   rtt ask ADDRESS PORT BYTES N    prints the median and the 99th percentile of N round trips, microseconds
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

/* 0: the other end is gone. */
static int receive(int fd, char *bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t got = read(fd, bytes + done, length - done);
    if (got < 0) fail("read");
    if (got == 0) return 0;
    done += got;
  }
  return 1;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

int main(int argc, char **argv) {
  static char bytes[1 << 20];
  int one = 1;
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) fail("socket");
  struct sockaddr_in at = {.sin_family = AF_INET};
  if (argc == 4 && strcmp(argv[1], "serve") == 0) {
    at.sin_port = htons(atoi(argv[2]));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&at, sizeof at) < 0 || listen(fd, 1) < 0) fail("listen");
    puts("ready");
    fflush(stdout);
    int peer = accept(fd, 0, 0);
    if (peer < 0) fail("accept");
    setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    while (receive(peer, bytes, atoi(argv[3])))
      if (write(peer, bytes, 64) != 64) fail("write");
    return 0;
  }
  if (argc != 6 || strcmp(argv[1], "ask") != 0) return 2;
  int length = atoi(argv[4]), times = atoi(argv[5]);
  at.sin_port = htons(atoi(argv[3]));
  inet_pton(AF_INET, argv[2], &at.sin_addr);
  if (connect(fd, (void *)&at, sizeof at) < 0) fail("connect");
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  double *took = calloc(times, sizeof *took);
  for (int i = 0; i < times; i++) {
    double began = now();
    if (write(fd, bytes, length) != length) fail("write");
    if (!receive(fd, bytes, 64)) return 1;
    took[i] = now() - began;
  }
  qsort(took, times, sizeof *took, compare);
  printf("%.1f %.1f\n", took[times / 2], took[(int)(times * 0.99)]);
  return 0;
}
