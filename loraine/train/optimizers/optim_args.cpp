// One key=value after the other; blanks do not count.
#include "loraine/train/optimizers/optim_args.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"

namespace loraine {
namespace {

template <class Field>
Field read(const std::string& key, const std::string& text, Field otherwise, const Limits& limits) {
  Field field = otherwise;
  set_option({"optim_args: " + key, "optimizer", &field, "", limits},
             {.key = "optim_args: " + key, .text = text, .typed = false, .where = "optim_args"});
  return field;
}

}  // namespace

OptimArgs::OptimArgs(const std::string& optim, const std::optional<std::string>& text) : optim_(optim) {
  std::string rest;
  for (const char c : text.value_or(""))
    if (c != ' ') rest += c;
  for (size_t first = 0; first < rest.size();) {
    const size_t end = std::min(rest.find(',', first), rest.size());
    const std::string part = rest.substr(first, end - first);
    const size_t equals = part.find('=');
    if (equals == std::string::npos || equals == 0 || part.find('=', equals + 1) != std::string::npos)
      throw Error(ErrorKind::usage, fmt::format("optim_args: '{}' is no setting, expected key=value, comma separated", part),
                  "write it like optim_args: momentum=0.9,nesterov=true");
    values_[part.substr(0, equals)] = part.substr(equals + 1);
    first = end + 1;
  }
}

const std::string* OptimArgs::find(const std::string& key) {
  known_.insert(key);
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

double OptimArgs::number(const std::string& key, double otherwise, const Limits& limits) {
  const std::string* text = find(key);
  return text ? read(key, *text, otherwise, limits) : otherwise;
}

int64_t OptimArgs::whole(const std::string& key, int64_t otherwise, const Limits& limits) {
  const std::string* text = find(key);
  return text ? read(key, *text, otherwise, limits) : otherwise;
}

bool OptimArgs::yes(const std::string& key, bool otherwise) {
  const std::string* text = find(key);
  return text ? read(key, *text, otherwise, {}) : otherwise;
}

std::string OptimArgs::word(const std::string& key, const std::string& otherwise, const std::vector<std::string>& choices) {
  const std::string* text = find(key);
  return text ? read(key, *text, otherwise, {.choices = choices}) : otherwise;
}

void OptimArgs::only(const std::string& key, const std::string& value, const std::string& hint) {
  const std::string* text = find(key);
  if (text && lower_case(*text) != lower_case(value))
    throw Error(ErrorKind::usage, fmt::format("optim_args: {} is {}, optim: {} has only {}", key, *text, optim_, value), hint);
}

void OptimArgs::finish() const {
  for (const auto& [key, value] : values_) {
    if (known_.contains(key)) continue;
    throw Error(ErrorKind::usage, fmt::format("optim_args: optim: {} has no setting '{}'", optim_, key),
                known_.empty() ? "leave optim_args out; betas, epsilon and weight decay are keys of their own"
                               : fmt::format("it has: {}", fmt::join(known_, ", ")));
  }
}

}  // namespace loraine
