// Peak memory as the kernel counts it.
#include "loraine/cli/bench/measure.h"

#include <malloc.h>

#include <cstdio>

namespace loraine {

void reset_peak() {
  malloc_trim(0);
  if (FILE* file = std::fopen("/proc/self/clear_refs", "w")) {
    std::fputs("5", file);
    std::fclose(file);
  }
}
int64_t peak_bytes() {
  int64_t kib = 0;
  if (FILE* file = std::fopen("/proc/self/status", "r")) {
    char line[256];
    while (std::fgets(line, sizeof line, file)) std::sscanf(line, "VmHWM: %ld kB", &kib);
    std::fclose(file);
  }
  return kib * 1024;
}

}  // namespace loraine
