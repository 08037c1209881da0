// Mapping of error kinds to exit codes, used by the command line only.
#include "loraine/core/error.h"

namespace loraine {

Error with_context(const Error& error, const std::string& context) { return Error(error.kind, context + ": " + error.what(), error.hint); }

int exit_code(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::usage:
    case ErrorKind::not_found:
    case ErrorKind::unsupported: return 2;
    case ErrorKind::bad_data: return 3;
    case ErrorKind::out_of_memory: return 4;
    case ErrorKind::numeric: return 5;
    case ErrorKind::io: return 6;
    case ErrorKind::device:
    case ErrorKind::internal: return 1;
  }
  return 1;
}

}  // namespace loraine
