// One description of options: flags, --help, YAML keys, the saved run record and docs/cli.md all come from a list of these.
// A struct of settings has `describe(Settings&, const OptionVisitor&)` beside it, which lists its fields once.
#pragma once
#include <cstdint>
#include <functional>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace loraine {

using Value = nlohmann::ordered_json;  // a YAML value: null, bool, integer, float, string, list, map

using OptionField = std::variant<bool*, std::optional<bool>*, int64_t*, std::optional<int64_t>*, double*, std::optional<double>*,
                                 std::string*, std::optional<std::string>*>;

// A number is finite and within its bounds, whatever the option.
struct Limits {
  std::vector<std::string> choices;  // empty: any. A yes or no in any spelling is `true` or `all`, `false` or `no`, where these are choices
  std::vector<std::string> built;    // empty: all choices; a choice outside is refused as known but not built
  std::vector<int64_t> numbers;      // not empty: these alone
  double lowest = -std::numeric_limits<double>::infinity();
  double highest = std::numeric_limits<double>::infinity();
  bool above_lowest = false, below_highest = false;  // the bound itself is left out
  bool share_or_count = false;                       // below 1 a share, from 1 on a whole number
  bool point_is_share = false;                       // with share_or_count: 1 is a count, and 1.0 is not clear
  bool comma_list = false;                           // text: a YAML list is joined by commas
  bool json = false;                                 // text: holds a map, kept as JSON text
  bool secret = false;                               // text: never shown, nor kept in a record
  bool yes_or_text = false;                          // text: a yes or no in any spelling becomes `true` or `false`
};

struct Option {
  std::string name;
  std::string group;
  OptionField field;
  std::string help;
  Limits limits = {};
};

using OptionVisitor = std::function<void(const Option&)>;

// One setting as read from a file, a key=value override or a flag.
struct Setting {
  std::string key;
  std::string text;       // a flag's value as typed; a YAML value as JSON text
  bool typed = true;      // true: `text` is JSON (the value had a type in YAML); false: plain text of a flag
  bool bare = false;      // a flag without a value
  std::string where;      // "train.yaml:3:1" or "--lora_rank"
  int source = 0;         // 0: a file or a program; 1: key=value; 2: a flag. Later ones win over earlier ones
  std::string word = {};  // another program's word that it was given by; empty: the key
};

// Sets the field from the setting, or throws Error::usage (unsupported for a choice that is not built) naming where, key, value, what was
// expected.
void set_option(const Option& option, const Setting& setting);

// The same for the number that the field holds already, set by a program.
void check_option(const Option& option, const std::string& where);

std::optional<bool> yes_or_no(const Setting& setting);  // the yes or no that it says, in any spelling
bool is_switch(const Option& option);                   // takes a yes or no: --KEY alone is one, --no_KEY the other
std::string type_text(const Option& option);   // "an integer from 1 to 8, or null", "one of: no, steps, epoch", …: what set_option takes
std::string value_text(const Option& option);  // the present value, "null" where it has none

// The known word nearest to `word` by edit distance (a swap of neighbours counts one), empty when none is near.
std::string nearest_word(std::string_view word, std::span<const std::string> known);

// Grouped list for --help; `options` in the order in which they were described, defaults = present values.
std::string options_help(std::span<const Option> options, int columns);
// The same as a Markdown table per group, for docs/cli.md.
std::string options_markdown(std::span<const Option> options);

}  // namespace loraine
