// A count as people read it, in tables and messages.
#pragma once
#include <cstdint>
#include <string>

namespace loraine {

std::string count_text(int64_t count);  // "1,234,567"

}  // namespace loraine
