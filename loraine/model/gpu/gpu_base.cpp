// What the card has room for.
#include "loraine/model/gpu/gpu_base.h"

#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {

void check_gpu_room(size_t bytes, const std::string& hint) {
  const size_t free = free_gpu_bytes(), mib = size_t{1} << 20;
  if (bytes <= free) return;
  throw Error(
      ErrorKind::out_of_memory,
      fmt::format("{} MiB of GPU memory are needed, and {} MiB of {} are free", (bytes + mib - 1) / mib, free / mib, open_gpu().name),
      hint + "; or compute on the CPU (device: cpu)");
}

}  // namespace loraine
