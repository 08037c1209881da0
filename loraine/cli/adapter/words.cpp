// See words.h.
#include "loraine/cli/adapter/words.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "loraine/cli/input_warning.h"
#include "loraine/core/error.h"
#include "loraine/io/hub/hub.h"

namespace loraine {
namespace {

const Option* option_named(std::span<const Option> options, std::string name) {
  std::ranges::replace(name, '-', '_');
  const auto at = std::ranges::find(options, name, &Option::name);
  return at == options.end() ? nullptr : &*at;
}

[[noreturn]] void unknown_option(const std::string& word, std::span<const Option> options) {
  std::vector<std::string> names;
  for (const Option& option : options) names.push_back(option.name);
  const std::string near = nearest_word(word.substr(word.find_first_not_of('-')), names);
  throw Error(ErrorKind::usage, fmt::format("unknown option {}", word),
              near.empty() ? (names.empty() ? "this subcommand has none" : fmt::format("one of: {}", fmt::join(names, ", ")))
                           : fmt::format("did you mean --{}?", near));
}

std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

}  // namespace

std::optional<std::vector<std::string>> read_adapter_words(const std::vector<std::string>& args, std::span<const Option> options) {
  std::vector<std::string> places;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string& word = args[i];
    if (word == "--help" || word == "-h") return {};
    const size_t equals = word.find('=');
    const bool flag = word.starts_with("--");
    const std::string name = word.substr(flag ? 2 : 0, equals == std::string::npos ? equals : equals - (flag ? 2 : 0));
    const Option* option = option_named(options, name);
    if (!flag && (equals == std::string::npos || !option)) {
      if (word.starts_with("-") && word.size() > 1) unknown_option(word, options);
      places.push_back(word);
      continue;
    }
    const bool off = !option && name.starts_with("no_") && equals == std::string::npos;
    if (off) option = option_named(options, name.substr(3));
    if (!option || (off && !is_switch(*option))) unknown_option(word.substr(0, equals), options);
    Setting setting{
        .key = option->name, .text = {}, .typed = false, .bare = false, .where = flag ? "--" + option->name : option->name, .source = 2};
    if (equals != std::string::npos) setting.text = word.substr(equals + 1);
    else if (off) setting.text = "false";
    else if (is_switch(*option)) setting.text = "true";
    else if (i + 1 < args.size()) setting.text = args[++i];
    else
      throw Error(ErrorKind::usage, fmt::format("--{} has no value behind it", option->name),
                  fmt::format("--{} takes {}", option->name, type_text(*option)));
    set_option(*option, setting);
  }
  return places;
}

std::vector<std::string> names_of(const std::string& text) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    if (std::string item = trimmed(text.substr(at, end - at)); !item.empty()) out.push_back(std::move(item));
    at = end + 1;
  }
  return out;
}

std::vector<double> numbers_of(const std::string& text, const std::string& key) {
  std::vector<double> out;
  for (const std::string& item : names_of(text)) {
    double x = 0;
    const char* first = item.data() + (item.starts_with('+') ? 1 : 0);
    const auto [end, failed] = std::from_chars(first, item.data() + item.size(), x);
    if (failed != std::errc() || end != item.data() + item.size() || !std::isfinite(x))
      throw Error(ErrorKind::usage, fmt::format("{}: '{}' is no number", key, item),
                  fmt::format("numbers with commas between: --{} 0.7,0.3", key));
    out.push_back(x);
  }
  return out;
}

std::string adapter_at(const std::string& name) {
  const FoundPlace place = find_place(name, {}, HubKind::adapter);
  print_place(place.note);
  return place.path;
}

}  // namespace loraine
