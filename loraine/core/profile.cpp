#include "loraine/core/profile.h"

#include <fmt/format.h>

namespace loraine {

void OpProfile::add(const char* op, const OpWork& work, double seconds) {
  Entry& entry = entries[work.m > 0 ? fmt::format("{} {} × {} × {}", op, work.m, work.n, work.k) : std::string(op)];
  ++entry.calls;
  entry.seconds += seconds;
  entry.flops += work.flops;
}

}  // namespace loraine
