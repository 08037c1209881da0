// The one error type of loraine. The library throws it; each edge (command line, HTTP, Python) maps kinds once.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace loraine {

enum class ErrorKind { usage, not_found, bad_data, unsupported, out_of_memory, device, numeric, io, internal };

struct Error : std::runtime_error {
  // message: what thing · what was found · what was expected and why. hint: what to do (may be empty).
  Error(ErrorKind kind_, const std::string& message, std::string hint_ = {})
      : std::runtime_error(message), kind(kind_), hint(std::move(hint_)) {}
  ErrorKind kind;
  std::string hint;
};

// The same error with "context: " put before its message (`while loading …`).
Error with_context(const Error& error, const std::string& context);

// Exit codes: 0 done · 1 failure · 2 usage or config · 3 bad input file · 4 out of memory · 5 numeric · 6 disk or I/O.
// not_found and unsupported thrown about an input file map to 3: throw bad_data there; not_found / unsupported are for keys and commands
// (2).
int exit_code(ErrorKind kind);
inline constexpr int kExitStopped = 75;  // stopped by a signal, a checkpoint to resume from was saved

}  // namespace loraine
