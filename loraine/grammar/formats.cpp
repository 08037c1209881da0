// See formats.h. Each format is a pattern, made into an automaton when it is first asked for.
#include "loraine/grammar/formats.h"

#include <map>

namespace loraine::grammar {
namespace {

// Years 0001 to 9999 with the days that their months have.
std::string date() {
  const std::string two = "(0[1-9]|[1-9][0-9])", any = "[0-9]{2}", four = "(0[48]|[2468][048]|[13579][26])";
  const std::string year = "(0[0-9]" + two + "|0[1-9]00|[1-9][0-9]{3})";
  const std::string leap = "(" + any + four + "|" + four + "00)";
  return "(" + year + "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|" + leap +
         "-02-29)";
}
std::string time() { return "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"; }
std::string email() {
  const std::string atom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]{1,64}", label = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?";
  return atom + "(\\." + atom + ")*@" + label + "(\\." + label + ")*";
}

const std::map<std::string, CharacterAutomaton, std::less<>>& formats() {
  static const std::map<std::string, CharacterAutomaton, std::less<>> all = [] {
    std::map<std::string, CharacterAutomaton, std::less<>> out;
    const std::string byte = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])", hex = "[0-9a-fA-F]";
    out["date"] = parse_regex(date());
    out["time"] = parse_regex(time());
    out["date-time"] = parse_regex(date() + "T" + time());
    out["uuid"] = parse_regex(hex + "{8}(-" + hex + "{4}){3}-" + hex + "{12}");
    out["ipv4"] = parse_regex(byte + "(\\." + byte + "){3}");
    out["email"] = parse_regex(email());
    return out;
  }();
  return all;
}

}  // namespace

const CharacterAutomaton* format_named(std::string_view name) {
  const auto found = formats().find(name);
  return found == formats().end() ? nullptr : &found->second;
}

std::string known_formats() {
  std::string out;
  for (const auto& [name, format] : formats()) out += (out.empty() ? "" : ", ") + name;
  return out;
}

}  // namespace loraine::grammar
