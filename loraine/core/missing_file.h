// An input file or folder that is not there: bad_data, as other faults of inputs, and told apart by callers that do so (Python).
#pragma once
#include <string>
#include <utility>

#include "loraine/core/error.h"

namespace loraine {

struct MissingFile : Error {
  explicit MissingFile(const std::string& message, std::string hint = {}) : Error(ErrorKind::bad_data, message, std::move(hint)) {}
};

}  // namespace loraine
