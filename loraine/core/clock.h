// The time that texts name: chat templates that write the date. Called by data/tools and text/jinja.
#pragma once
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>

#include "loraine/core/error.h"

namespace loraine {

// The machine's, in its zone; of SOURCE_DATE_EPOCH (seconds since 1970) where that is set, so that a run repeats on another day.
inline std::tm written_time() {
  std::time_t time = std::time(nullptr);
  if (const char* fixed = std::getenv("SOURCE_DATE_EPOCH")) {
    long long seconds = 0;
    const char* end = fixed + std::strlen(fixed);
    const auto read = std::from_chars(fixed, end, seconds);
    if (read.ec != std::errc() || read.ptr != end || seconds < 0 || seconds > 253402300799)
      throw Error(ErrorKind::usage, std::string("the environment variable SOURCE_DATE_EPOCH is '") + fixed + "'",
                  "expected whole seconds since 1970, up to the year 9999");
    time = static_cast<std::time_t>(seconds);
  }
  std::tm local{};
  localtime_r(&time, &local);
  return local;
}

}  // namespace loraine
