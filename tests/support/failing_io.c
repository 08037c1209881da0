/* Preloaded into the program by tests/e2e/crash_test.py: the k-th call of one kind on a regular file fails with a chosen error. Every write,
   fsync, rename and mmap of a file is counted; FAIL_CALL=kind:k:errno picks one, FAIL_COUNTS=FILE gets "kind count" lines at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kWrite, kFsync, kRename, kMmap, kKinds };
static const char* const names[kKinds] = {"write", "fsync", "rename", "mmap"};
static long counts[kKinds], fail_at;
static int fail_kind = -1, fail_error;

__attribute__((constructor)) static void read_wish(void) {
  const char* wish = getenv("FAIL_CALL");
  char kind[16];
  if (!wish || sscanf(wish, "%15[^:]:%ld:%d", kind, &fail_at, &fail_error) != 3) return;
  for (int i = 0; i < kKinds; ++i)
    if (!strcmp(kind, names[i])) fail_kind = i;
}

__attribute__((destructor)) static void tell(void) {
  const char* path = getenv("FAIL_COUNTS");
  FILE* file = path ? fopen(path, "w") : NULL;
  if (!file) return;
  for (int i = 0; i < kKinds; ++i) fprintf(file, "%s %ld\n", names[i], counts[i]);
  fclose(file);
}

static int fails(int kind) {
  long now = __atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST);
  if (kind != fail_kind || now != fail_at) return 0;
  errno = fail_error;
  return 1;
}

static int is_file(int fd) {
  struct stat status;
  int before = errno, yes = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode));
  errno = before;
  return yes;
}

ssize_t write(int fd, const void* data, size_t bytes) {
  static ssize_t (*real)(int, const void*, size_t);
  if (!real) real = (ssize_t(*)(int, const void*, size_t))dlsym(RTLD_NEXT, "write");
  if (is_file(fd) && fails(kWrite)) return -1;
  return real(fd, data, bytes);
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  if (is_file(fd) && fails(kFsync)) return -1;
  return real(fd);
}

int rename(const char* from, const char* to) {
  static int (*real)(const char*, const char*);
  if (!real) real = (int (*)(const char*, const char*))dlsym(RTLD_NEXT, "rename");
  if (fails(kRename)) return -1;
  return real(from, to);
}

void* mmap(void* address, size_t bytes, int protection, int flags, int fd, off_t offset) {
  static void* (*real)(void*, size_t, int, int, int, off_t);
  if (!real) real = (void* (*)(void*, size_t, int, int, int, off_t))dlsym(RTLD_NEXT, "mmap");
  if (fd >= 0 && is_file(fd) && fails(kMmap)) return MAP_FAILED;
  return real(address, bytes, protection, flags, fd, offset);
}
